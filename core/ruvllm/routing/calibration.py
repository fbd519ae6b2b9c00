"""Probabilities that keep their word: temperature scaling, ECE, AUROC, energy."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["auroc", "ece", "fit_temperature", "log_sum_exp", "softmax"]

Floats = NDArray[np.floating[Any]]


def softmax(logits: Floats) -> NDArray[np.float32]:
    """Along the last axis."""
    powers = np.exp(logits - logits.max(-1, keepdims=True))
    return np.asarray(powers / powers.sum(-1, keepdims=True), np.float32)


def log_sum_exp(logits: Floats) -> Floats:
    """Along the last axis: the (negative) free energy of Liu et al. 2020."""
    top = logits.max(-1, keepdims=True)
    out: Floats = np.log(np.exp(logits - top).sum(-1)) + top[..., 0]
    return out


def fit_temperature(logits: Floats, labels: NDArray[np.integer[Any]], lows: float = 0.05, highs: float = 8.0) -> float:
    """The T that minimises the negative log likelihood of softmax(logits / T) (Guo et al. 2017).

    Args:
        logits: (n, classes), from a model that did not see these rows.
        labels: (n,) class numbers.
    """
    chosen = logits[np.arange(len(labels)), labels]

    def loss(log_t: float) -> float:
        t = float(np.exp(log_t))
        return float((log_sum_exp(logits / t) - chosen / t).mean())

    low, high = np.log(lows), np.log(highs)
    ratio = (np.sqrt(5) - 1) / 2
    for _ in range(40):  # golden section: the loss is unimodal in log T
        a, b = high - ratio * (high - low), low + ratio * (high - low)
        low, high = (low, b) if loss(a) < loss(b) else (a, high)
    return float(np.exp((low + high) / 2))


def ece(confidence: Floats, correct: NDArray[Any], bins: int = 15) -> float:
    """Expected calibration error over equal-width bins (Naeini et al. 2015)."""
    confidence, correct = np.asarray(confidence, np.float64), np.asarray(correct, np.float64)
    if not len(confidence):
        return 0.0
    which = np.minimum((confidence * bins).astype(np.int64), bins - 1)
    gaps = np.bincount(which, weights=confidence - correct, minlength=bins)
    return float(np.abs(gaps).sum() / len(confidence))


def auroc(negative: Floats, positive: Floats) -> float:
    """P(a positive scores above a negative), ties counted half (Mann-Whitney U)."""
    scores = np.concatenate([negative, positive]).astype(np.float64)
    _, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    n, m = len(negative), len(positive)
    return float((ranks[n:].sum() - m * (m + 1) / 2) / (n * m)) if n and m else float("nan")
