import numpy as np
import pytest

from ruvllm.encoders.protocol import no_pause, run_now, unit_rows
from ruvllm.routing.head import Design, Examples, Head, minimise
from ruvllm.routing.teaching import Fold, folds_of
from ruvllm.text.lexical import stems


def make_examples(n: int = 60, agents: int = 3, seed: int = 0, offsets: float = 0.0) -> Examples:
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(agents, 16))
    labels = np.arange(n, dtype=np.int64) % agents
    vectors = unit_rows(centres[labels] + rng.normal(size=(n, 16)) * 0.7)
    words = [stems(f"word{label} filler{i % 7}") for i, label in enumerate(labels)]
    zero = rng.normal(size=(n, agents)).astype(np.float32) * np.float32(offsets)
    return Examples(vectors, words, labels, zero, np.ones(n, np.float32))


def test_minimise_finds_the_minimum_of_a_stretched_bowl():
    scale = np.array([1, 10, 100], np.float32)
    target = np.array([3, -2, 0.5], np.float32)

    def loss(x):
        return float((scale * (x - target) ** 2).sum()), 2 * scale * (x - target)

    np.testing.assert_allclose(minimise(loss, np.zeros(3, np.float32), 1e-10), target, atol=1e-3)


def test_fit_separates_held_out_examples():
    examples = make_examples(offsets=1.0)
    fold = folds_of(len(examples))
    assert np.bincount(fold).tolist() == [12] * 5
    for k in range(5):
        held = run_now(run_now(Fold.read(examples, fold == k, no_pause)).logits(1.0, no_pause))
        assert (held.argmax(1) == examples.labels[fold == k]).mean() > 0.9


def test_a_fit_ends_at_the_same_place_from_wherever_it_starts():
    design = run_now(Design.read(make_examples(offsets=1.0), no_pause))
    cold = run_now(design.fit(no_pause, tolerance=1e-7)).weights
    start = cold + np.random.default_rng(1).normal(size=cold.shape).astype(np.float32) * np.float32(0.01)
    warm = run_now(design.fit(no_pause, tolerance=1e-7, start=start)).weights
    logits = [run_now(design.logits(design.examples, weights, no_pause)) for weights in (warm, cold)]
    np.testing.assert_allclose(*logits, atol=0.15)


def test_fit_corrects_wrong_offsets():
    examples = make_examples()
    wrong = np.zeros_like(examples.offsets)
    wrong[:, 0] = 3
    examples = Examples(examples.vectors, examples.words, examples.labels, wrong, examples.weights)
    head = Head.fit(examples)
    right = [
        int((head.logits(v, w) + wrong[0]).argmax()) == y
        for v, w, y in zip(examples.vectors, examples.words, examples.labels, strict=True)
    ]
    assert np.mean(right) == 1


def test_agents_without_examples_keep_their_zero_shot_logit():
    examples = make_examples(agents=3)
    offsets = np.zeros((len(examples), 5), np.float32)
    examples = Examples(examples.vectors, examples.words, examples.labels, offsets, examples.weights)
    logits = Head.fit(examples).logits(examples.vectors[0], examples.words[0])
    assert logits.shape == (5,)
    assert logits[3:].tolist() == [0, 0]


def test_weights_of_examples_count():
    examples = make_examples()
    labels = examples.labels.copy()
    labels[0] = (labels[0] + 1) % 3  # one contradiction …
    weights = examples.weights.copy()
    weights[0] = 200  # … that is meant
    head = Head.fit(Examples(examples.vectors, examples.words, labels, examples.offsets, weights))
    assert int(head.logits(examples.vectors[0], examples.words[0]).argmax()) == labels[0]


@pytest.mark.parametrize("blank", [True, False])
def test_learn_sends_the_text_where_it_was_told(blank):
    examples = make_examples()
    head = Head.blank(16, 3) if blank else Head.fit(examples)
    vector, words = examples.vectors[4], examples.words[4]
    offsets = np.array([2, 0, 0], np.float32)
    head.learn(vector, words, offsets, 2)
    assert int((offsets + head.logits(vector, words)).argmax()) == 2
    settled = head.weights.copy()
    head.learn(vector, words, offsets, 2)
    np.testing.assert_allclose(head.weights, settled, atol=1e-5)  # nothing more to learn


def test_learn_with_a_single_agent_is_harmless():
    head = Head.blank(4, 1)
    head.learn(np.ones(4, np.float32), ["a"], np.zeros(1, np.float32), 0)
    assert not head.weights.any()
