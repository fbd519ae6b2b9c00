from dataclasses import replace

import numpy as np
import pytest

from ruvllm.encoders.protocol import run_now
from ruvllm.errors import InputError
from ruvllm.memory.attention import GraphAttention
from ruvllm.memory.attention.training import Example, loss_of, mean_ndcg, ndcg, train_attention
from ruvllm.memory.subgraph import Subgraph
from ruvllm_bench.memory.attention import make_examples, measure_attention

DIM = 64


@pytest.mark.parametrize("rounds", [0, 1, 2])
def test_gradients_are_those_of_finite_differences(rounds):
    random = np.random.default_rng(1)
    example = make_examples(1, 16)[0]
    fresh = GraphAttention(16, 4).weights
    weights = {name: value + 0.3 * random.normal(size=value.shape) for name, value in fresh.items()}
    grads = {name: np.zeros_like(value) for name, value in weights.items()}
    loss_of(weights, example, rounds, grads)
    for name, value in weights.items():
        for _ in range(4):
            at = tuple(random.integers(size) for size in value.shape)
            before, step = value[at], 1e-6
            value[at] = before + step
            above = loss_of(weights, example, rounds)
            value[at] = before - step
            slope = (above - loss_of(weights, example, rounds)) / (2 * step)
            value[at] = before
            assert grads[name][at] == pytest.approx(slope, rel=1e-4, abs=1e-7), name


def test_the_loss_is_that_of_the_ranking():
    example = make_examples(1, DIM)[0]
    layer = GraphAttention(DIM)
    for name, value in layer.weights.items():
        layer.weights[name] = value + np.float32(0.05) * np.random.default_rng(2).normal(size=value.shape)
    layer = GraphAttention(DIM, weights=layer.weights)
    logits = 20 * layer.rank(example.query, example.vectors, example.graph)
    target = example.relevance / example.relevance.sum()
    expected = np.log(np.exp(logits).sum()) - target @ logits
    assert loss_of(layer.weights, example, 1) == pytest.approx(expected, rel=1e-6)


def test_ndcg():
    relevance = np.array([0, 1, 0, 2.0])
    assert ndcg(np.array([0, 1, -1, 2.0]), relevance) == pytest.approx(1)
    worst = (1 / np.log2(4) + 2 / np.log2(5)) / (2 + 1 / np.log2(3))
    assert ndcg(np.array([3, 1, 2, 0.0]), relevance) == pytest.approx(worst)
    assert ndcg(np.array([3, 1, 2, 0.0]), relevance, k=1) == 0


def test_training_improves_retrieval_that_needs_the_graph():
    gain = measure_attention(DIM, taught=64, asked=40)
    assert gain.kept
    assert gain.trained > gain.cosine + 0.2
    assert gain.trained > gain.even + 0.2
    assert f"{gain.trained:.3f} after" in str(gain)


def test_the_layer_given_stays_as_it_is():
    layer = GraphAttention(DIM)
    trained = run_now(train_attention(layer, make_examples(60, DIM), epochs=6))
    assert not layer.weights["gates"].any()
    assert trained.accepted
    assert trained.after > trained.before
    assert (trained.examples, trained.judges) == (42, 9)


@pytest.mark.parametrize("seed", range(3))
def test_feedback_that_says_nothing_changes_nothing(seed):
    random = np.random.default_rng(seed)
    examples = [
        replace(example, relevance=random.permutation(example.relevance)) for example in make_examples(40, DIM, seed)
    ]
    layer = GraphAttention(DIM)
    trained = run_now(train_attention(layer, examples, epochs=8, seed=seed))
    assert not trained.accepted
    assert trained.attention is layer


def test_little_feedback_trains_nothing():
    layer, examples = GraphAttention(DIM), make_examples(10, DIM)
    trained = run_now(train_attention(layer, examples))
    assert trained.attention is layer
    assert trained.before == trained.after == pytest.approx(mean_ndcg(layer, examples))
    assert run_now(train_attention(layer, [])).before == 0


def test_training_goes_on_from_what_was_learnt():
    first = run_now(train_attention(GraphAttention(DIM), make_examples(48, DIM), epochs=8))
    assert first.accepted
    second = run_now(train_attention(first.attention, make_examples(48, DIM, 7), epochs=4))
    assert second.before > 0.6  # where the untrained layer has 0.5
    assert mean_ndcg(second.attention, make_examples(40, DIM, 9)) > 0.6


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"relevance": np.zeros(2)}, "relevance"),
        ({"relevance": np.array([1, -1.0])}, "relevance"),
        ({"relevance": np.ones(3)}, "example"),
        ({"vectors": np.ones((2, 5))}, "example"),
        ({"query": np.full(4, np.nan)}, "example"),
    ],
)
def test_bad_examples_name_their_field(change, field):
    good = {"query": np.ones(4), "vectors": np.ones((2, 4)), "graph": Subgraph.of([1, 2]), "relevance": np.ones(2)}
    Example(**good)
    with pytest.raises(InputError) as error:
        Example(**{**good, **change})
    assert error.value.field == field


def test_examples_of_another_width_are_refused():
    with pytest.raises(InputError, match="another width"):
        run_now(train_attention(GraphAttention(32), make_examples(40, DIM)))
