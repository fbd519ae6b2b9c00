import numpy as np
import pytest

from ruvllm.cli.safetensors import adapter_from, adapter_tensors
from ruvllm.encoders.protocol import unit_rows
from ruvllm.errors import InputError, StoreError
from ruvllm.learning.adaptive import TwoSpeed
from ruvllm.learning.lora import (
    LowRank,
    adapted,
    apply_all,
    factor_gradients,
    mixture,
    pairwise_loss,
)
from ruvllm_bench.learn.lora import rejection_loss, softmax_loss

DIM = 48


def unit(n, seed, dim=DIM):
    return unit_rows(np.random.default_rng(seed).normal(size=(n, dim)))


def taught(rank=2, seed=0, n=20):
    adapter = LowRank(DIM, rank, seed=seed)
    prototypes = unit(5, 99)
    for i, x in enumerate(unit(n, seed)):
        _, slope = softmax_loss(adapter.apply(x), prototypes, i % 5)
        adapter.teach(x, slope.astype(np.float32))
    return adapter


LOSSES = {
    "softmax": lambda y: softmax_loss(y, unit(4, 1).astype(np.float64), 2),
    "softmax with offsets": lambda y: softmax_loss(
        y, unit(4, 1).astype(np.float64), 2, offsets=np.array([1.0, 0, -2, 3])
    ),
    "rejection": lambda y: rejection_loss(y, unit(4, 1).astype(np.float64), 2),
    "pairwise": lambda y: pairwise_loss(y, unit(3, 1).astype(np.float64), unit(2, 2).astype(np.float64)),
}


@pytest.mark.parametrize("name", LOSSES)
def test_gradients_of_both_factors_agree_with_finite_differences(name):
    """Through the normalisation, in double precision."""
    rng = np.random.default_rng(0)
    x, down, up = rng.normal(size=(3, DIM)), rng.normal(size=(DIM, 2)) * 0.3, rng.normal(size=(2, DIM)) * 0.3
    x /= np.linalg.norm(x, axis=1)[:, None]

    def total():
        return sum(LOSSES[name](y)[0] for y in adapted(x, down, up, 1.7)[0])

    slope = np.stack([LOSSES[name](y)[1] for y in adapted(x, down, up, 1.7)[0]])
    gradients = factor_gradients(x, down, up, 1.7, slope)
    for factor, gradient in zip((down, up), gradients, strict=True):
        assert np.abs(gradient).max() > 0.01
        for i in rng.choice(factor.size, 20, replace=False):
            at = np.unravel_index(i, factor.shape)
            kept, sides = factor[at], []
            for step in (1e-6, -1e-6):
                factor[at] = kept + step
                sides.append(total())
            factor[at] = kept
            assert gradient[at] == pytest.approx((sides[0] - sides[1]) / 2e-6, rel=1e-4, abs=1e-6)


def test_the_flat_gradient_is_that_of_the_factors():
    adapter, x, slope = taught(3), unit(4, 5), unit(4, 6)
    down, up = factor_gradients(x, adapter.down, adapter.up, adapter.scale, slope)
    before_down, before_up = adapter.down.copy(), adapter.up.copy()
    adapter.teach(x, slope, 0.001)
    np.testing.assert_allclose(adapter.down, before_down - 0.001 * down, atol=1e-6)
    np.testing.assert_allclose(adapter.up, before_up - 0.001 * up, atol=1e-6)


def test_without_feedback_nothing_changes():
    x = unit(6, 0)
    adapter = LowRank(DIM)
    assert adapter.strength == 0
    np.testing.assert_allclose(adapter.apply(x), x, atol=1e-6)
    np.testing.assert_allclose(TwoSpeed(DIM).apply(x[0]), x[0], atol=1e-6)


def test_thirty_feedbacks_change_a_ranking_and_both_sides_move():
    """Queries of one kind, a little nearer to the wrong agent; others stay where they were."""
    rng = np.random.default_rng(0)
    prototypes = unit(6, 1, 384)
    centre = unit_rows(prototypes[:1] * 1.1 + prototypes[1:2])
    queries = unit_rows(centre + rng.normal(size=(60, 384)) * 0.03)
    others = unit_rows(prototypes[2:] + rng.normal(size=(4, 384)) * 0.02)
    adapter = LowRank(384)
    first = adapter.down.copy()
    assert ((queries @ prototypes.T).argmax(1) == 0).mean() > 0.6
    for x in queries[:30]:
        _, slope = softmax_loss(adapter.apply(x), prototypes, 1)
        adapter.teach(x, slope)
    assert ((adapter.apply(queries[30:]) @ prototypes.T).argmax(1) == 1).all()
    assert ((adapter.apply(others) @ prototypes.T).argmax(1) == np.arange(2, 6)).all()
    assert np.linalg.norm(adapter.residual(queries[30:]), axis=1).min() > 0.01
    assert np.linalg.norm(adapter.down - first) > 0.01
    assert np.linalg.norm(adapter.up) > 0.01
    assert adapter.updates == 30


def test_only_wrong_told_moves_a_query_away():
    prototypes, x = unit(4, 1), unit(1, 2)[0]
    adapter = LowRank(DIM)
    wrong = int((prototypes @ x).argmax())
    for _ in range(40):
        _, slope = rejection_loss(adapter.apply(x), prototypes, wrong)
        adapter.teach(x, slope)
    assert int((prototypes @ adapter.apply(x)).argmax()) != wrong


def test_memories_that_answered_come_before_those_that_did_not():
    rng = np.random.default_rng(4)
    wanted, unwanted, topic = unit(3, 5)
    memories = unit_rows(np.where(np.arange(40)[:, None] < 20, wanted, unwanted) + rng.normal(size=(40, DIM)) * 0.1)
    queries = unit_rows(topic + 0.3 * wanted + 0.4 * unwanted + rng.normal(size=(50, DIM)) * 0.05)
    adapter = LowRank(DIM)
    for x in queries[:30]:
        pair = memories[rng.integers(20)], memories[20 + rng.integers(20)]
        _, slope = pairwise_loss(adapter.apply(x), pair[0][None], pair[1][None])
        adapter.teach(x, slope)

    def first(q):
        return ((q @ memories.T).argmax(1) < 20).mean()

    assert first(queries[30:]) < 0.2
    assert first(adapter.apply(queries[30:])) == 1


def test_a_merged_adapter_does_what_both_do():
    one, other, x = taught(2, 1), taught(3, 2), unit(9, 3)
    merged = one.merge(other)
    assert merged.rank == 5
    np.testing.assert_allclose(merged.apply(x), apply_all(x, (one, other)), atol=2e-6)
    assert np.abs(merged.apply(x) - one.apply(x)).max() > 1e-3


def test_a_mixture_of_lower_rank_is_the_nearest_map():
    parts, weights = [taught(4, seed) for seed in range(3)], (0.5, 0.3, -0.2)
    whole = sum(w * one.scale * one.down @ one.up for one, w in zip(parts, weights, strict=True))
    sizes = np.linalg.svd(whole, compute_uv=False)
    for rank in (1, 3, 12):
        made = mixture(parts, weights, rank)
        away = np.linalg.norm(made.scale * made.down @ made.up - whole)
        assert away == pytest.approx(np.sqrt((sizes[rank:] ** 2).sum()), abs=1e-4)


def test_merging_what_was_never_taught_gives_an_adapter_that_can_learn():
    made = LowRank(DIM).merge(LowRank(DIM, seed=1), rank=2)
    assert made.strength == 0
    made.teach(unit(1, 0)[0], unit(1, 1)[0])
    assert made.strength > 0


def test_a_batch_moves_the_whole_map_as_far_as_its_rank_goes():
    adapter, x, slope = taught(8), unit(30, 8), unit(30, 9)
    y, norms = adapted(x, adapter.down, adapter.up, adapter.scale)
    g = (slope - (slope * y).sum(1)[:, None] * y) / norms
    target = adapter.scale * adapter.down @ adapter.up - 0.02 * x.T @ g
    adapter.absorb(x, slope, 0.02)
    sizes = np.linalg.svd(target, compute_uv=False)
    away = np.linalg.norm(adapter.scale * adapter.down @ adapter.up - target)
    assert away == pytest.approx(np.sqrt((sizes[8:] ** 2).sum()), rel=1e-3)


def test_a_batch_smaller_than_the_rank_leaves_directions_to_learn_with():
    adapter = LowRank(DIM, 4)
    adapter.absorb(unit(1, 0), unit(1, 1))
    assert (np.linalg.norm(adapter.down, axis=0) > 1e-3).all()
    assert np.linalg.norm(adapter.gradient(unit(1, 2), unit(1, 3)).reshape(2, 4, DIM)[1], axis=1).min() > 1e-4


def test_it_stays_bounded_under_contradictions_and_outliers():
    adapter, rng = LowRank(DIM), np.random.default_rng(0)
    for x in unit(3000, 1):
        adapter.teach(x, (rng.normal(size=DIM) * 10 ** rng.uniform(-2, 6)).astype(np.float32))
    assert 0.1 < adapter.strength <= 2 * np.sqrt(2) * 1.001
    assert np.isfinite(adapter.theta).all()


def test_what_is_no_gradient_is_refused_and_harms_nothing():
    adapter = taught()
    before = adapter.theta.copy()
    for slope in (np.full(DIM, np.nan, np.float32), np.full(DIM, np.inf, np.float32)):
        with pytest.raises(InputError, match="gradient"):
            adapter.teach(unit(1, 0)[0], slope)
        with pytest.raises(InputError, match="finite"):
            adapter.absorb(unit(1, 0)[0], slope)
    with pytest.raises(InputError, match="gradient of shape"):
        adapter.step(np.zeros(3, np.float32))
    with pytest.raises(InputError, match="width"):
        adapter.apply(unit(1, 0, DIM + 1))
    np.testing.assert_array_equal(adapter.theta, before)


@pytest.mark.parametrize("form", ["bytes", "safetensors"])
def test_saved_and_loaded_it_is_the_same(form):
    adapter = taught(3)
    dump, load = {"bytes": (LowRank.to_bytes, LowRank.from_bytes), "safetensors": (adapter_tensors, adapter_from)}[form]
    other = load(dump(adapter))
    assert (other.rank, other.alpha) == (adapter.rank, adapter.alpha)
    np.testing.assert_array_equal(other.theta, adapter.theta)
    x, slope = unit(1, 0)[0], unit(1, 1)[0]
    adapter.teach(x, slope)
    other.teach(x, slope)
    np.testing.assert_array_equal(other.apply(x), adapter.apply(x))


def test_what_is_no_adapter_is_refused():
    with pytest.raises(StoreError):
        LowRank.from_bytes(b"PK")
    with pytest.raises(InputError):
        LowRank.from_bytes(taught().to_bytes()[:-30], InputError)
    for change in (
        {"up": np.zeros((3, DIM), np.float32)},
        {"alpha": np.array(-1.0)},
        {"alpha": np.array(np.nan)},
        {"down": np.full((DIM, 2), 1e30, np.float32)},
    ):
        with pytest.raises(StoreError):
            LowRank.from_arrays(taught().arrays() | change)
    for bad in ({"rank": 0}, {"rank": DIM + 1}, {"alpha": 0}):
        with pytest.raises(InputError):
            LowRank(DIM, **bad)
    for adapters, weights in (((), ()), ((LowRank(4), LowRank(5)), (1, 1)), ((LowRank(4),), (np.nan,))):
        with pytest.raises(InputError):
            mixture(adapters, weights)


def stream(learner, prototypes, queries, labels):
    for x, label in zip(queries, labels, strict=True):
        learner.learn(x, lambda y, label=label: softmax_loss(y, prototypes, label))


def made_stream(n, seed=0):
    """Twelve agents, whose tasks all lie as far from them along one direction that each shares with its neighbour."""
    rng = np.random.default_rng(seed)
    prototypes, labels = unit(12, 7), rng.integers(12, size=n)
    near = prototypes[labels] + 0.95 * prototypes[(labels + 1) % 12]
    return prototypes, unit_rows(near + rng.normal(size=(n, DIM)) * 0.05), labels


def test_two_speeds_learn_at_once_and_more_from_a_batch():
    prototypes, queries, labels = made_stream(700)
    learner = TwoSpeed(DIM, batch=50)

    def right():
        return ((learner.apply(queries[500:]) @ prototypes.T).argmax(1) == labels[500:]).mean()

    before = right()
    stream(learner, prototypes, queries[:49], labels[:49])
    assert (learner.waiting, learner.updates, learner.base.strength) == (49, 49, 0)
    assert learner.micro.strength > 0
    stream(learner, prototypes, queries[49:500], labels[49:500])
    assert (learner.waiting, learner.updates) == (0, 500)
    assert learner.base.strength > learner.micro.strength == 0
    assert right() > before + 0.1


def test_two_speeds_saved_in_the_middle_of_a_batch_go_on_alike():
    prototypes, queries, labels = made_stream(80)
    one = TwoSpeed(DIM, batch=30, seed=3)
    stream(one, prototypes, queries[:40], labels[:40])
    other = TwoSpeed.from_arrays(one.arrays())
    for learner in (one, other):
        stream(learner, prototypes, queries[40:], labels[40:])
    assert other.updates == one.updates == 80
    np.testing.assert_array_equal(other.apply(queries), one.apply(queries))
    arrays = one.arrays()
    with pytest.raises(StoreError, match="do not fit"):
        TwoSpeed.from_arrays(arrays | {"slopes": arrays["slopes"][1:]})
