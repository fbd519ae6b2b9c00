import numpy as np
import pytest

from ruvllm.cli.evals.metrics import recovered, tier_scores
from ruvllm.errors import ArtifactError, InputError
from ruvllm.sizing.difficulty import Difficulty, folds_of, policy_for
from ruvllm.sizing.prompt_forms import PROMPT_FORMS, prompt_forms

WEAK = np.array([True, True, False, False])
STRONG = np.array([True, True, True, True])


def test_the_right_order_recovers_the_gap_first():
    best = tier_scores(np.array([0.0, 0.0, 1.0, 1.0]), WEAK, STRONG)
    # Half of the prompts recover all of it: a triangle and a rectangle under the curve.
    assert (best.auroc, best.apgr, best.cpt50, best.cpt80) == pytest.approx((1.0, 0.75, 0.25, 0.4))
    worst = tier_scores(np.array([1.0, 1.0, 0.0, 0.0]), WEAK, STRONG)
    assert (worst.auroc, worst.apgr, worst.cpt50) == pytest.approx((0.0, 0.25, 0.75))


def test_equal_scores_are_a_random_order():
    same = tier_scores(np.zeros(4), WEAK, STRONG)
    assert (same.auroc, same.apgr, same.cpt50, same.cpt80) == pytest.approx((0.5, 0.5, 0.5, 0.8))
    assert recovered(np.zeros(4), WEAK, STRONG)[0].tolist() == [0, 1]


def test_without_a_gap_there_is_nothing_to_recover():
    with pytest.raises(InputError, match="no more often"):
        tier_scores(np.zeros(4), STRONG, STRONG)


def made(n=600, seed=0):
    """Sums and greetings: the small model greets well, the large one does both, and the third neither."""
    random = np.random.default_rng(seed)
    hard = random.random(n) < 0.5
    texts = [
        f"Compute {a} * {b} + {a} and give the remainder." if one else f"Say hello to guest {a} nicely, number {b}"
        for one, (a, b) in zip(hard, random.integers(10, 9999, (n, 2)), strict=True)
    ]
    chance = np.stack([np.where(hard, 0.2, 0.9), np.where(hard, 0.9, 0.9), np.full(n, 0.1)], 1)
    vectors = random.standard_normal((n, 8)).astype(np.float32)
    return texts, vectors / np.linalg.norm(vectors, axis=1, keepdims=True), random.random((n, 3)) < chance, hard


@pytest.fixture(scope="module")
def learnt():
    texts, vectors, right, _ = made()
    return Difficulty.fit(texts, vectors, right, ("small", "large", "odd"), "none")


def test_it_learns_who_is_right_and_how_often(learnt):
    texts, vectors, right, hard = made(300, 1)
    told = learnt.batch(texts, vectors)
    assert told[hard].mean(0) == pytest.approx([0.2, 0.9, 0.1], abs=0.1)
    assert told[~hard].mean(0) == pytest.approx([0.9, 0.9, 0.1], abs=0.1)
    assert tier_scores(told[:, 1] - told[:, 0], right[:, 0], right[:, 1]).apgr > 0.7
    assert learnt.probabilities(texts[0], vectors[0]) == pytest.approx(told[0], abs=1e-5)


def test_policies_keep_to_their_target(learnt):
    thrifty, good = learnt.policy([1, 30, 0.1], cost=16), learnt.policy([1, 30, 0.1], quality=0.85)
    assert thrifty.cost <= 16
    assert thrifty.quality > 0.8
    assert good.quality >= 0.85
    assert good.cost < 25
    assert good.choose(np.array([0.05, 0.95, 0.1])) == 1
    assert good.choose(np.array([0.9, 0.9, 0.1])) == 0
    for impossible in ({"cost": 0.01}, {"quality": 0.99}, {}, {"cost": 1, "quality": 1}):
        with pytest.raises(InputError):
            learnt.policy([1, 30, 0.1], **impossible)
    with pytest.raises(InputError, match="costs"):
        policy_for(learnt.held, [1, float("nan"), 2], cost=1)


def test_it_is_the_same_after_a_file(learnt):
    again = Difficulty.from_arrays(learnt.arrays())
    assert again.models == ("small", "large", "odd")
    texts, vectors, *_ = made(5, 2)
    np.testing.assert_array_equal(again.batch(texts, vectors), learnt.batch(texts, vectors))
    for key in learnt.arrays():
        broken = learnt.arrays()
        del broken[key]
        with pytest.raises(ArtifactError):
            Difficulty.from_arrays(broken)
    with pytest.raises(ArtifactError, match="bias"):
        Difficulty.from_arrays(learnt.arrays() | {"bias": np.full(3, np.nan, np.float32)})


def test_bad_rows_are_named(learnt):
    texts, vectors, right, _ = made(60)
    for bad in ((texts[:9], vectors[:9], right[:9]), (texts, vectors[:9], right), (texts, vectors, right[:, :1])):
        with pytest.raises(InputError):
            Difficulty.fit(*bad, ("a", "b", "c"))
    with pytest.raises(InputError, match="vectors"):
        learnt.probabilities("x", np.zeros(9))


def test_equal_texts_share_a_fold():
    folds = folds_of(["a", "b", "a", *map(str, range(200))], 5)
    assert folds[0] == folds[2]
    assert set(folds.tolist()) == set(range(5))


@pytest.mark.parametrize("text", ["", "\0", "?" * 30_000, "𝔘 £ \ud800", "A. 1\nB. 2\nC. 3"])
def test_forms_are_numbers_for_any_text(text):
    forms = prompt_forms(text)
    assert forms.shape == (len(PROMPT_FORMS),)
    assert np.isfinite(forms).all()


def test_forms_tell_choices_and_numbers():
    forms = dict(zip(PROMPT_FORMS, prompt_forms("Which is not prime?\nA. 7\nB. 9\nC. 1100"), strict=True))
    assert forms["choices"] == pytest.approx(np.log(4))
    assert forms["numeric choices"] == forms["ends in ?"] == forms["which"] == 1
    assert forms["negations"] > 0 == forms["how"]
