"""Vectors move between tiers as they are used, and are found wherever they are."""

from __future__ import annotations

import numpy as np
import pytest

from ruvllm import InputError
from ruvllm.memory.tiering import Heat, TieredVectors

DIM, N = 32, 2_000


class Clock:
    """Seconds that pass when told."""

    def __init__(self) -> None:
        self.seconds = 1e9

    def __call__(self) -> float:
        return self.seconds


def clustered(n: int, seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    centres = np.random.default_rng(99).standard_normal((20, DIM)) * 2
    points = centres[random.integers(0, 20, n)] + random.standard_normal((n, DIM))
    return (points / np.linalg.norm(points, axis=1, keepdims=True)).astype(np.float32)


VECTORS = clustered(N)


def filled(clock: Clock, *, originals: bool, moved: bool = True) -> TieredVectors:
    """2,000 entries, the higher the id the more often used."""
    tiered = TieredVectors(DIM, originals=VECTORS.__getitem__ if originals else None, now=clock)
    tiered.add(np.arange(N), VECTORS)
    for low in range(100, N, 100):
        tiered.touch(np.arange(low, N))
    while moved and tiered.rebalance():
        pass
    return tiered


@pytest.fixture(scope="module")
def with_originals() -> TieredVectors:
    return filled(Clock(), originals=True)


@pytest.fixture(scope="module")
def without() -> TieredVectors:
    return filled(Clock(), originals=False)


def sizes(tiered: TieredVectors) -> dict[str, int]:
    return {name: tier["size"] for name, tier in tiered.stats()["tiers"].items()}


def recall(tiered: TieredVectors, **asked) -> float:
    queries = clustered(60, seed=1)
    truth = (-(queries @ VECTORS.T)).argsort(1)[:, :10]
    found = tiered.search(queries, 10, **asked).ids
    return float(np.mean([np.isin(own, row).mean() for own, row in zip(truth, found, strict=True)]))


def test_each_tier_holds_its_band(with_originals: TieredVectors) -> None:
    held, slack = sizes(with_originals), 0.03 * N + 1
    for name, share in {"f32": 0.2, "f16": 0.4, "pq8": 0.3, "binary": 0.1}.items():
        assert abs(held[name] - share * N) <= 2 * slack, held
    assert sum(held.values()) == N == len(with_originals)
    assert with_originals.stats()["smaller"] > 1.9


def test_moves_come_in_batches_and_end() -> None:
    tiered = filled(Clock(), originals=True, moved=False)
    assert sizes(tiered)["f32"] == N
    moves = []
    while moved := tiered.rebalance(batch=300):
        moves.append(moved)
    assert max(moves) == 300
    assert sum(moves) == N - sizes(tiered)["f32"]
    assert tiered.rebalance() == 0


def test_the_border_does_not_flap() -> None:
    clock = Clock()
    tiered = filled(clock, originals=True)
    random = np.random.default_rng(3)
    for _ in range(20):
        tiered.touch(random.integers(0, N, 20))
        clock.seconds += 60
    assert tiered.rebalance() < 0.03 * N


def test_a_used_entry_comes_back_whole_and_at_once() -> None:
    tiered = filled(Clock(), originals=True)
    before = tiered.take([3])[0]
    assert np.abs(before - VECTORS[3]).max() > 0.01
    moved = sum(tiered.touch([3]) for _ in range(40))
    assert 1 <= moved <= 3
    assert np.array_equal(tiered.take([3])[0], VECTORS[3] / np.linalg.norm(VECTORS[3]))


def test_without_originals_codes_are_not_passed_off_as_vectors() -> None:
    tiered = filled(Clock(), originals=False)
    before = sizes(tiered)
    assert sum(tiered.touch([3]) for _ in range(40)) == 0
    assert tiered.rebalance() <= 5
    assert sizes(tiered)["binary"] >= before["binary"]


def test_what_is_left_alone_cools() -> None:
    clock = Clock()
    tiered = filled(clock, originals=True)
    clock.seconds += 60 * 86_400
    for _ in range(3):
        tiered.touch(np.arange(400))
    while tiered.rebalance():
        pass
    assert np.abs(tiered.take(np.arange(200)) - VECTORS[:200]).max() < 1e-3  # the coldest of before
    assert sizes(tiered)["binary"] > 0.05 * N


def test_a_new_entry_is_hot(with_originals: TieredVectors) -> None:
    tiered = filled(Clock(), originals=False)
    tiered.add([9_000], clustered(1, seed=8))
    while tiered.rebalance():
        pass
    assert np.abs(tiered.take([9_000]) - clustered(1, seed=8)).max() < 1e-6


def test_one_search_over_all_tiers_reaches_the_recall(with_originals: TieredVectors) -> None:
    for wanted in (0.9, 0.95, 0.99, 1.0):
        assert recall(with_originals, recall=wanted) >= wanted - 0.005
    assert with_originals.search(VECTORS[0], recall=0.9).recall == 0.9


def test_without_originals_it_says_what_is_left(without: TieredVectors) -> None:
    hits = without.search(VECTORS[7])
    assert 0.5 < hits.recall < 0.99
    assert recall(without) >= hits.recall - 0.01
    with pytest.raises(InputError, match="beyond these codes") as error:
        without.search(VECTORS[7], recall=0.99)
    assert error.value.field == "recall"
    assert "originals" in str(error.value)


def test_tiers_merge_fairly(without: TieredVectors) -> None:
    """Noisy scores must not crowd out exact ones: each tier has about its share of what is found."""
    queries = clustered(100, seed=2)
    truth = (-(queries @ VECTORS.T)).argsort(1)[:, :10].ravel()
    found = without.search(queries, 10).ids.ravel()
    cold = 200
    assert abs((found < cold).mean() - (truth < cold).mean()) < 0.05


def test_filter(with_originals: TieredVectors) -> None:
    kept = np.arange(0, N, 50)
    hits = with_originals.search(VECTORS[1], 10, filter=kept, recall=0.99)
    truth = kept[(-(VECTORS[kept] @ VECTORS[1])).argsort()[:10]]
    assert set(hits.ids.tolist()) <= set(kept.tolist())
    assert len(set(hits.ids) & set(truth)) >= 9
    assert with_originals.search(VECTORS[1], filter=[5, 99_999]).ids.tolist() == [5]
    assert with_originals.search(VECTORS[:2], 3, filter=[5]).ids.tolist() == [[5, -1, -1]] * 2


def test_random_adds_moves_and_removes_keep_ids_and_vectors_together() -> None:
    clock, random = Clock(), np.random.default_rng(5)
    tiered = filled(clock, originals=True)
    gone = random.choice(N, 500, replace=False)
    for part in np.array_split(gone, 5):
        assert tiered.remove(part) == 100
        tiered.touch(random.integers(0, N, 200))
        tiered.rebalance(200)
    assert tiered.remove(gone) == 0
    assert len(tiered) == N - 500
    tiered.add(gone[:50], VECTORS[gone[:50]])
    there = np.setdiff1d(np.arange(N), gone[50:])
    nearest_own = (tiered.take(there) * VECTORS[there]).sum(1)
    assert nearest_own.min() > 0.5
    assert np.mean(nearest_own) > 0.95
    found = tiered.search(VECTORS[there[:100]], 1, recall=0.99).ids[:, 0]
    assert (found == there[:100]).mean() >= 0.97


def test_few_entries_stay_whole() -> None:
    tiered = TieredVectors(DIM, now=Clock())
    assert tiered.search(VECTORS[0]).ids.tolist() == []
    tiered.add(np.arange(500), VECTORS[:500])
    assert tiered.rebalance() == 0
    assert tiered.stats()["smaller"] == 1
    assert tiered.search(VECTORS[0], recall=1.0).ids[0] == 0


def test_codes_are_learnt_again_when_there_is_more_to_learn_from() -> None:
    vectors = clustered(5_000, seed=4)
    tiered = TieredVectors(DIM, originals=vectors.__getitem__, now=Clock())
    tiered.add(np.arange(1_100), vectors[:1_100])
    while tiered.rebalance():
        pass
    assert tiered.stats()["tiers"]["binary"]["measured_among"] == 550
    tiered.add(np.arange(1_100, 5_000), vectors[1_100:])
    while tiered.rebalance():
        pass
    told = tiered.stats()["tiers"]["binary"]
    assert told["measured_among"] == 2_500
    assert told["size"] > 250


@pytest.mark.parametrize("wrong", [{"half_life": 0}, {"hysteresis": 0.2}])
def test_bad_settings(wrong: dict[str, float]) -> None:
    with pytest.raises(InputError):
        TieredVectors(DIM, **wrong)


def test_bad_input(with_originals: TieredVectors) -> None:
    for call in (
        lambda: with_originals.add([1], [[np.nan] * DIM]),
        lambda: with_originals.take([123_456]),
        lambda: with_originals.rebalance(0),
        lambda: with_originals.search(VECTORS[0], recall=1.5),
    ):
        with pytest.raises(InputError):
            call()
    bad = TieredVectors(DIM, originals=lambda ids: np.zeros((1, 2), np.float32), now=Clock())
    bad.add(np.arange(5), VECTORS[:5])
    with pytest.raises(InputError, match="originals returned"):
        bad.search(VECTORS[0], recall=1.0)


def test_heat_fades_and_never_overflows() -> None:
    heat = Heat(half_life=1.0, start=0.0)
    heat.append(2, heat.one(0.0))
    heat.use(np.array([0, 0, 0]), 0.0)
    heat.use(np.array([1]), 3.0)
    assert heat.counts[1] > heat.counts[0]
    heat.marks = np.array([np.inf, 4.0, -np.inf])
    heat.one(65.0)
    assert heat.marks.tolist() == [np.inf, 4.0 * 2.0**-65, -np.inf]
    for now in (100.0, 1e6, 1e9):
        heat.use(np.array([0]), now)
        assert not np.isnan(heat.marks).any()
        assert np.isfinite(heat.counts).all()
        assert heat.shares().argmax() == 0
