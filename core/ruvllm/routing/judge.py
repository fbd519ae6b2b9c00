"""From one stage's logits to calibrated probabilities with an out-of-scope mass."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ruvllm.routing.calibration import log_sum_exp, softmax
from ruvllm.routing.confidence import confidence_row, logistic, scope_row
from ruvllm.routing.scorer import Calibration
from ruvllm.routing.weights import RouterWeights

__all__ = ["Outcome", "judge"]

Array = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Outcome:
    """Probabilities of one stage.

    Attributes:
        stage: "static", "minilm" or "both".
        probabilities: float32 (agents,), calibrated, their sum is at most 1 - out_of_scope.
        features: raw, float32 (FEATURES, agents).
        head: float32 (agents,), what the head added to the logits.
    """

    stage: str
    probabilities: Array
    out_of_scope: float
    features: Array
    head: Array

    @property
    def top(self) -> int:
        return int(self.probabilities.argmax())

    @property
    def confidence(self) -> float:
        return float(self.probabilities.max())


def judge(
    stage: str, features: Array, zero: Array, logits: Array, calibration: Calibration | None, weights: RouterWeights
) -> Outcome:
    """Calibrated probabilities of one stage.

    Args:
        stage: "static", "minilm" or "both".
        features: raw, (FEATURES, agents).
        zero, logits: (agents,), without and with what examples taught.
        calibration: what held-out examples measured; None where there are too few.
    """
    if calibration is not None:
        energy = (float(log_sum_exp(logits)) - calibration.energy_mean) / calibration.energy_std
        outside = logistic(np.array([energy], np.float32), weights.energy_scope)
        probabilities = softmax(logits / np.float32(calibration.temperature))
    else:
        outside = logistic(scope_row(features), weights.scopes["static" if stage == "static" else "minilm"])
        probabilities = _from_margins(logits, features, weights.confidence[stage])
    return Outcome(stage, probabilities * np.float32(1 - outside), outside, features, logits - zero)


def _from_margins(logits: Array, features: Array, weights: Array) -> Array:
    """The top probability from the margins, the rest in proportion to the softmax."""
    raw = softmax(logits)
    if len(raw) == 1:
        return raw
    top = int(raw.argmax())
    confidence = max(logistic(confidence_row(logits, raw, features), weights), 1 / len(raw))
    rest = float(raw.sum() - raw[top])
    # The runner-up never overtakes, however low the confidence.
    out = np.minimum(raw * np.float32((1 - confidence) / max(rest, 1e-9)), np.float32(confidence))
    out[top] = confidence
    return np.asarray(out, np.float32)
