from dataclasses import asdict, replace

import numpy as np
import pytest

from ruvllm import RuvLLM
from ruvllm.encoders.protocol import run_now, unit_rows
from ruvllm.errors import InputError, StoreError
from ruvllm.index.kmeans import kmeans
from ruvllm.learning.patterns import Pattern, ReasoningBank, TypeGuesser, distill
from ruvllm.learning.trajectories import Step, Trajectory
from ruvllm.state.packing import Spec as Shape
from ruvllm.state.packing import json_array, pack, unpack

DIM = 24
AXES = np.eye(DIM, dtype=np.float32)


def near(axis, seed, spread=0.05):
    noise = spread * np.random.default_rng(seed).normal(size=DIM)
    return unit_rows((AXES[axis] + noise)[None])[0]


def told(id, axis, route="a", score=0.9, good=True, **about):
    return Trajectory(id, near(axis, id), route=route, score=score, good=good, **about)


def pattern(axis, route="a", quality=0.9, **about):
    return Pattern(0, AXES[axis], route=route, avg_quality=quality, **about)


def found(trajectories, clusters=10):
    return [one for some in distill(trajectories, clusters, now=5.0) for one in some]


def test_clusters_are_found_within_each_route():
    trajectories = [told(id, axis=id % 3, route="b" if id % 3 == 2 else "a") for id in range(36)]
    patterns = found(trajectories, clusters=3)
    assert [one.route for one in patterns] == ["a", "a", "b"]
    assert sum(one.cluster_size for one in patterns) == 36
    assert sorted(int((AXES @ one.centroid).argmax()) for one in patterns) == [0, 1, 2]
    assert all((AXES @ one.centroid).max() > 0.95 for one in patterns)
    assert all(one.created_at == 5.0 for one in patterns)


def test_what_went_badly_makes_no_pattern():
    trajectories = [told(id, 0) for id in range(8)] + [told(id, 1, score=0.2, good=False) for id in range(8, 16)]
    patterns = found(trajectories)
    assert sum(one.cluster_size for one in patterns) == 8
    assert all(one.centroid[0] > 0.9 and one.avg_quality == pytest.approx(0.9) for one in patterns)
    assert found(trajectories[8:]) == []
    assert found([]) == []


def test_a_pattern_tells_of_its_trajectories():
    plain = told(1, 0, score=0.5, contexts=("night", "shop"), pattern_type="CodeGen")
    best = told(2, 0, score=1.0, contexts=("shop",), steps=(Step("x", "bake", 1.0),), metadata={"oven": 2})
    other = told(3, 0, score=0.6, pattern_type="CodeGen")
    (one,) = found([plain, best, other], clusters=1)
    assert (one.pattern_type, one.contexts, one.actions) == ("CodeGen", ("shop", "night"), ("bake",))
    assert one.metadata == {"oven": 2}
    assert one.total_weight == pytest.approx(2.1)
    assert one.avg_quality == pytest.approx(0.7)


def test_near_duplicates_of_a_route_become_one():
    bank = ReasoningBank(DIM)
    bank.add([pattern(0, cluster_size=3), pattern(1)])
    twin = replace(pattern(0, quality=0.5), centroid=near(0, 1))
    bank.add([twin, replace(twin, route="b")])
    assert len(bank) == 3
    merged = bank.get(1)
    assert merged is not None
    assert (merged.cluster_size, merged.total_weight) == (4, 2.0)
    assert merged.avg_quality == pytest.approx((3 * 0.9 + 0.5) / 4)
    assert np.linalg.norm(merged.centroid) == pytest.approx(1, abs=1e-6)
    assert (bank.centroids[0] == merged.centroid).all()


def test_the_bank_is_bounded_and_every_route_stays_as_long_as_it_can():
    bank = ReasoningBank(DIM, capacity=3)
    bank.add([pattern(0), pattern(1, cluster_size=5), pattern(2, "b"), pattern(3, "c")])
    assert sorted(bank.routes) == ["a", "b", "c"]
    assert bank.find(AXES[1], 1)[0].cluster_size == 6
    bank.add([pattern(4, "d", quality=0.5)])
    assert sorted(bank.routes) == ["a", "b", "c"], "the least valuable leaves"


def test_find_ranks_by_nearness_and_then_quality():
    bank = ReasoningBank(DIM)
    bank.add([pattern(0, "good", 1.0), pattern(0, "fair", 0.5), pattern(1, "far", 1.0)])
    answers = bank.find(near(0, 3), k=2, now=9.0)
    assert [one.route for one in answers] == ["good", "fair"]
    assert answers[0].similarity == pytest.approx(float(near(0, 3) @ AXES[0]), abs=1e-6)
    assert [(one.access_count, one.last_accessed) for one in bank.get_patterns()] == [(1, 9.0), (0, 0.0), (1, 9.0)]
    assert ReasoningBank(DIM).find(AXES[0]) == []
    for vector, k in ((AXES[0, :-1], 1), (AXES[0] * np.nan, 1), (AXES[0], 0)):
        with pytest.raises(InputError):
            bank.find(vector, k)


def test_get_patterns_are_the_most_valuable():
    bank = ReasoningBank(DIM)
    bank.add([pattern(0, total_weight=2.0), pattern(1, total_weight=50.0), pattern(2, quality=0.1)])
    assert [one.id for one in bank.get_patterns()] == [2, 1], "and none is below the threshold"
    assert [one.id for one in bank.get_patterns(1)] == [2]


def test_failures_wear_a_pattern_down_until_it_is_gone():
    bank = ReasoningBank(DIM)
    bank.add([pattern(0, total_weight=3.0), pattern(1)])
    assert not bank.weaken(near(0, 1), "other", 0.0)
    assert not bank.weaken(AXES[5], "a", 0.0)
    assert bank.weaken(near(0, 1), "a", 0.1)
    assert bank.get(1).avg_quality == pytest.approx((3 * 0.9 + 0.1) / 4)
    for _ in range(6):
        bank.weaken(near(0, 2), "a", 0.0)
    assert [one.id for one in bank.get_patterns()] == [2]
    assert len(bank.centroids) == 1


def test_a_bank_comes_back_as_it_was():
    bank, other = ReasoningBank(DIM), ReasoningBank(DIM)
    facts = {
        "contexts": ("shop 🦊",),
        "actions": ("bake",),
        "metadata": {"n": 1, "on": None},
        "pattern_type": "Factual",
    }
    bank.add([pattern(0, **facts), pattern(1, "b")])
    bank.find(AXES[0], 1, now=3.0)
    other.load(bank.to_bytes())
    for before, after in zip(bank.get_patterns(), other.get_patterns(), strict=True):
        assert (after.centroid == before.centroid).all()
        assert asdict(replace(after, centroid=None)) == asdict(replace(before, centroid=None))
    other.add([pattern(5)])
    assert other.get_patterns()[-1].id == 3
    with pytest.raises(StoreError):
        ReasoningBank(DIM + 1).load(bank.to_bytes())


@pytest.mark.parametrize(
    "about",
    [
        [],
        [9, []],
        [1, [["a", "General", [], [], {}]]],
        [2, [["a", "Unheard", [], [], {}]]],
        [2, [["a", "General", 5, [], {}]]],
        [2, [["a", "General", [], ["x"] * 99, {}]]],
        [2, [["a" * 999, "General", [], [], {}]]],
        [2, [["a", "General", [], [], {"deep": []}]]],
        ["2", [["a", "General", [], [], {}]]],
    ],
)
def test_damaged_patterns_are_refused(about):
    bank = ReasoningBank(DIM)
    bank.add([pattern(0)])
    specs = {
        "centroids": Shape(("n", DIM)),
        "numbers": Shape(("n", 4), "float64"),
        "counts": Shape(("n", 3), "int64"),
        "about": Shape(("b",), "uint8"),
    }
    arrays = unpack(bank.to_bytes(), "patterns", specs)
    bank.load(pack(arrays, "patterns"))
    with pytest.raises(StoreError):
        bank.load(pack(arrays | {"about": json_array(about)}, "patterns"))
    assert len(bank) == 1


def test_distant_first_centroids_find_every_cluster():
    """Where a random choice leaves some out: 60 clusters, one of them a hundred times as large as the others."""
    labels = np.concatenate([np.zeros(600, int), np.repeat(np.arange(1, 24), 6)])
    points = unit_rows(AXES[labels] + 0.02 * np.random.default_rng(0).normal(size=(len(labels), DIM)))
    covered = {
        plus_plus: len(set((AXES @ kmeans(points, 24, rounds=2, plus_plus=plus_plus).T).argmax(0).tolist()))
        for plus_plus in (True, False)
    }
    assert covered[True] >= 23
    assert covered[False] < 18


def test_kmeans_of_points_that_are_all_the_same():
    points = np.repeat(AXES[:1], 5, axis=0)
    assert np.allclose(kmeans(points, 3, plus_plus=True), points[:3])


KINDS = {
    "Reasoning": ("weigh the pros and cons of renting against buying", "find the flaw in this argument"),
    "Factual": ("who painted the ceiling of the chapel", "which language is spoken in Brazil"),
    "Creative": ("write song lyrics for a rainy night", "a limerick about a lazy frog", "brainstorm titles for a play"),
    "CodeGen": ("add retry logic to the HTTP client", "port the parser from C to Rust"),
    "Conversational": ("that made me laugh, thank you", "how was your weekend?", "see you tomorrow then"),
}


def test_kinds_of_tasks_are_told_apart(static_llm: RuvLLM):
    guesser = TypeGuesser(static_llm.encoders.static)
    texts = [(kind, text) for kind, some in KINDS.items() for text in some]
    vectors = static_llm.encoders.static.encode_now([text for _, text in texts])
    right = [run_now(guesser.guess(vector)) == kind for (kind, _), vector in zip(texts, vectors, strict=True)]
    assert sum(right) >= 10, [text for text, hit in zip(texts, right, strict=True) if not hit]
    assert run_now(guesser.guess(np.zeros(static_llm.encoders.static.dim, np.float32))) == "General"
