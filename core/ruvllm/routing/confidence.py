"""What a confidence is read from when no example can calibrate it, and what tells that no agent fits."""

from __future__ import annotations

from math import exp, log, log1p

import numpy as np
from numpy.typing import NDArray

__all__ = ["CONFIDENCE_FEATURES", "SCOPE_FEATURES", "confidence_row", "logistic", "scope_row", "sigmoid"]

CONFIDENCE_FEATURES = ("top_logit", "margin", "second_margin", "entropy", "log_agents", "adapted", "bm25", "agreement")
SCOPE_FEATURES = ("adapted", "card", "name", "bm25", "log_agents")

_ADAPTED, _CARD, _NAME, _BM25 = range(4)


def confidence_row(
    logits: NDArray[np.float32], probabilities: NDArray[np.float32], features: NDArray[np.float32]
) -> NDArray[np.float32]:
    """CONFIDENCE_FEATURES of one decision.

    Args:
        logits, probabilities: (agents,).
        features: (FEATURES, agents), raw.
    """
    count = len(logits)
    top = int(logits.argmax())
    p = float(probabilities[top])
    best = np.sort(logits[np.argpartition(logits, -3)[-3:]] if count > 3 else logits)[::-1]
    margin = float(best[0] - best[1]) if count > 1 else 0.0
    second = float(best[1] - best[2]) if count > 2 else 0.0
    entropy = -float(probabilities @ np.log(probabilities + np.float32(1e-9)))
    agreement = int(features[_ADAPTED].argmax() == top) + int(features[_BM25].argmax() == top)
    return np.array(
        [
            log((p + 1e-6) / (1 - p + 1e-6)),
            margin,
            second,
            entropy,
            log(count),
            features[_ADAPTED, top],
            log1p(max(float(features[_BM25, top]), 0.0)),
            agreement,
        ],
        np.float32,
    )


def scope_row(features: NDArray[np.float32]) -> NDArray[np.float32]:
    """SCOPE_FEATURES of one text: how close it comes to any agent at all."""
    best = features.max(1)
    return np.array(
        [best[_ADAPTED], best[_CARD], best[_NAME], log1p(max(float(best[_BM25]), 0.0)), log(features.shape[1])],
        np.float32,
    )


def logistic(row: NDArray[np.float32], weights: NDArray[np.float32]) -> float:
    """σ(row · weights[:-1] + weights[-1])."""
    return sigmoid(float(row @ weights[:-1] + weights[-1]))


def sigmoid(score: float) -> float:
    """σ, safe from overflow."""
    return 1 / (1 + exp(-min(max(score, -30.0), 30.0)))
