import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ruvllm.cli.evals.metrics import auroc
from ruvllm.encoders.protocol import run_now
from ruvllm.routing.calibration import (
    CONFIDENCE_FEATURES,
    SCOPE_FEATURES,
    confidence_row,
    ece,
    fit_calibration,
    fit_temperature,
    log_sum_exp,
    logistic,
    scope_row,
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
