import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ruvllm.cli.evals.metrics import auroc
from ruvllm.encoders.protocol import run_now
from ruvllm.routing.calibration import (
    CONFIDENCE_FEATURES,
    SCOPE_FEATURES,
    Calibration,
    Peaks,
    confidence_row,
    ece,
    energy,
    fit_calibration,
    fit_temperature,
    log_sum_exp,
    logistic,
    scope_row,
    sigmoid,
    softmax,
)


def test_temperature_is_recovered():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(4000, 5)) * 2
    p = softmax(logits / 2.5)
    labels = (p.cumsum(1) > rng.random((4000, 1))).argmax(1)
    assert fit_temperature(logits, labels)[0] == pytest.approx(2.5, rel=0.1)


def test_lapse_is_recovered():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(4000, 10)) * 8
    labels = np.where(rng.random(4000) < 0.05, rng.integers(0, 10, 4000), logits.argmax(1))
    assert run_now(fit_calibration(logits, labels))[1] == pytest.approx(0.05, abs=0.02)
    assert run_now(fit_calibration(logits, logits.argmax(1)))[1] == 0


def test_ece_of_a_perfect_and_of_a_boaster():
    assert ece(np.array([0.8] * 10), np.array([1] * 8 + [0] * 2)) == pytest.approx(0)
    assert ece(np.array([1.0] * 10), np.array([1] * 4 + [0] * 6)) == pytest.approx(0.6)
    assert ece(np.array([]), np.array([])) == 0


def test_auroc_counts_ties_half():
    assert auroc(np.array([0.1, 0.2]), np.array([0.3, 0.4])) == 1
    assert auroc(np.array([0.5]), np.array([0.5])) == 0.5
    assert auroc(np.array([1.0, 3.0]), np.array([2.0])) == 0.5


def test_softmax_and_energy_survive_large_logits():
    x = np.array([1e4, 0.0], np.float32)
    assert softmax(x).tolist() == [1, 0]
    assert float(log_sum_exp(x)) == 1e4


@given(st.integers(1, 8), st.integers(0, 10_000))
def test_feature_rows_are_finite_for_any_number_of_agents(agents, seed):
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(4, agents)).astype(np.float32)
    logits = rng.normal(size=agents).astype(np.float32) * 5
    row = confidence_row(logits, features)
    assert row.shape == (len(CONFIDENCE_FEATURES),)
    assert scope_row(features).shape == (len(SCOPE_FEATURES),)
    assert np.isfinite(row).all()


def test_logistic_does_not_overflow():
    assert logistic(np.array([1e9], np.float32), np.array([1, 0], np.float32)) == pytest.approx(1)
    assert logistic(np.array([-1e9], np.float32), np.array([1, 0], np.float32)) == pytest.approx(0)


def scores(agents: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Raw features (4, agents) and logits (agents,)."""
    rng = np.random.default_rng(seed)
    return rng.normal(size=(4, agents)).astype(np.float32), (rng.normal(size=agents) * 3).astype(np.float32)


@pytest.mark.parametrize("agents", [1, 2, 3, 83, 256, 257, 300])
@pytest.mark.parametrize("words", [0, 2])
def test_confidence_features_are_what_their_names_say(agents: int, words: float):
    features, logits = scores(agents, agents)
    features[3] += words
    adapted, bm25, p = features[0], features[3], softmax(logits.astype(np.float64)).astype(np.float64)
    top, rising, by_words = int(logits.argmax()), np.sort(logits), np.sort(bm25)
    wrong = 1 - p[top]
    expected = {
        "top_logit": np.log((p[top] + 1e-6) / (wrong + 1e-6)),
        "margin": rising[-1] - rising[-2] if agents > 1 else 0,
        "second_margin": rising[-2] - rising[-3] if agents > 2 else 0,
        "entropy": -(p * np.log(p)).sum(),
        "log_agents": np.log(agents),
        "adapted": adapted[top],
        "bm25": np.log1p(max(bm25[top], 0)),
        "agreement": int(adapted.argmax() == top) + int(bm25.argmax() == top),
        "bm25_lead": bm25[top] - by_words[-2] if agents > 1 else 0,
        "spread": adapted.std(),
    }
    assert confidence_row(logits, features) == pytest.approx([expected[x] for x in CONFIDENCE_FEATURES], abs=2e-4)
    peaks = Peaks(np.stack([np.vstack([features, logits])] * 2))
    assert peaks.confidence(1) == pytest.approx(peaks.confidence(0))
    assert peaks.total(0) == pytest.approx(1 / p[top], rel=1e-4)
    assert peaks.firsts[0][-1] == top


def test_scope_features_are_the_best_of_each():
    features, _ = scores(7, 0)
    adapted, card, name, bm25 = features.max(1).tolist()
    assert scope_row(features) == pytest.approx([adapted, card, name, np.log1p(bm25), np.log(7)], rel=1e-5)
    features[3] = -1  # what an agent is not for
    assert scope_row(features)[3] == 0


def test_energy_and_sigmoid_have_their_values():
    _, logits = scores(50, 1)
    assert energy(logits) == pytest.approx(np.log(np.exp(logits.astype(float)).sum()), rel=1e-5)
    rows = np.stack([logits, logits + 1])
    assert log_sum_exp(rows).tolist() == pytest.approx([energy(logits), energy(logits) + 1], rel=1e-5)
    assert softmax(rows).sum(1).tolist() == pytest.approx([1, 1])
    assert sigmoid(0) == 0.5
    assert sigmoid(1) == pytest.approx(0.7310586)
    assert sigmoid(-40) == sigmoid(-30) < 1e-12
    assert sigmoid(40) == sigmoid(30) > 1 - 1e-12
    assert logistic(np.array([2, 3], np.float32), np.array([0.5, -1, 1], np.float32)) == pytest.approx(sigmoid(-1))


def test_the_loss_is_the_mean_negative_log_likelihood_at_the_best_temperature():
    rng = np.random.default_rng(3)
    logits = rng.normal(size=(600, 4)) * 3
    drawn = (softmax(logits / 2).cumsum(1) > rng.random((600, 1))).argmax(1)
    labels = np.where(rng.random(600) < 0.9, drawn, rng.integers(0, 4, 600))
    for lapse in (0.0, 0.1):

        def loss(temperature: float, lapse: float = lapse) -> float:
            p = (1 - lapse) * softmax(logits / temperature)[np.arange(600), labels] + lapse / 4
            return float(-np.log(p).mean())

        best, value = fit_temperature(logits, labels, lapse)
        assert value == pytest.approx(loss(best), rel=1e-4)
        assert value <= min(loss(best * 1.05), loss(best / 1.05))
    assert fit_temperature(logits * 100, labels)[0] == pytest.approx(8, rel=1e-2)  # no further
    assert fit_temperature(logits / 1000, logits.argmax(1))[0] == pytest.approx(0.05, rel=1e-2)


def test_ece_weighs_fifteen_bins_by_what_is_in_them():
    confidence, right = np.array([0.01, 0.05, 0.5, 0.52, 0.95, 1.0]), np.array([0, 1, 1, 0, 1, 1])
    bins = {0: (0.06, 1), 7: (1.02, 1), 14: (1.95, 2)}  # sums of confidence, and of what was right
    assert ece(confidence, right) == pytest.approx(sum(abs(sure - hit) for sure, hit in bins.values()) / 6)
    assert ece(confidence, right, bins=1) == pytest.approx(abs(confidence.sum() - right.sum()) / 6)


def test_calibration_measures_where_texts_lie_and_how_far_another_one_is():
    rng = np.random.default_rng(4)
    logits = (rng.normal(size=(400, 3)) * 4).astype(np.float32)
    closeness = rng.uniform(0.2, 0.9, 100).astype(np.float32)
    found = run_now(Calibration.measure(logits, logits.argmax(1), closeness))
    energies = log_sum_exp(logits)
    assert (found.energy_mean, found.energy_std) == pytest.approx((energies.mean(), energies.std()), rel=1e-4)
    assert (found.closeness_mean, found.closeness_std) == pytest.approx((closeness.mean(), closeness.std()), rel=1e-4)
    assert found.familiarity(found.energy_mean, found.closeness_mean) == pytest.approx(0, abs=1e-6)
    assert found.familiarity(found.energy_mean + found.energy_std, found.closeness_mean) == pytest.approx(1)
    assert found.familiarity(found.energy_mean, found.closeness_mean - found.closeness_std) == pytest.approx(-1.5)
    alike = run_now(Calibration.measure(logits, logits.argmax(1), np.full(5, 0.5, np.float32)))
    assert alike.closeness_std == pytest.approx(1e-3)  # and nothing is divided by 0
