"""Logistic regressions of several models on the same prompts, which share how hard a prompt is.

The logit of a right answer is a level, plus what makes the prompt hard for any of the models, plus what makes it hard
for this one: item response theory with features. Each has a Gaussian prior that says by how much logits vary from
prompt to prompt, so that little data is shrunk more, and no penalty has to be found for it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["fitted", "held_out", "logits"]

Floats = NDArray[np.float32]

_STEPS, _CLOSE = 100, 2e-3
_FLATTEST, _CLEAREST = 0.13, 0.02


def fitted(x: Floats, right: Floats, shared: float, own: float) -> tuple[Floats, Floats]:
    """(weights (d, models), bias (models,)), the most likely ones for rows x (n, d).

    Args:
        right: (n, models), 0 to 1.
        shared, own: prior standard deviation, over prompts, of the logit that models share and of each one's own part.
    """
    models = right.shape[1]
    mean = x.mean(0)
    x = x - mean
    variance = max(float((x**2).sum(1).mean()), 1e-6)
    base = right.mean(0, dtype=np.float64)
    # Steps by one curvature for all rows: no row is more than twice as curved, so none goes too far.
    curve = max(float((base * (1 - base)).mean()), _FLATTEST)
    moments = (x.T @ x).astype(np.float64) * curve
    prior = np.array([models * shared**2 + own**2, own**2]) / variance  # of what models agree in, and do not
    together, apart = (np.linalg.inv(moments + np.eye(len(mean)) / one).astype(np.float32) for one in prior)
    weights, bias = np.zeros((len(mean), models), np.float32), logits(base)
    for _ in range(_STEPS):
        missed = right - _chances(x @ weights + bias)
        slope = x.T @ missed
        slopes, weighed = slope.mean(1, keepdims=True), weights.mean(1, keepdims=True)
        step = together @ (slopes - weighed / np.float32(prior[0]))
        step = step + apart @ (slope - slopes - (weights - weighed) / np.float32(prior[1]))
        weights += step
        bias += missed.mean(0) / np.float32(curve)
        if np.sqrt((step**2).sum(0).max() * variance / len(mean)) < _CLOSE:
            break
    return weights, bias - mean @ weights


def held_out(x: Floats, right: Floats, fold: NDArray[np.int64], shared: float, own: float) -> Floats:
    """(n, models), the chance that each row is right by a fit without its fold."""
    told = np.empty(right.shape, np.float32)
    for number in np.unique(fold):
        rows = fold == number
        weights, bias = fitted(x[~rows], right[~rows], shared, own)
        told[rows] = _chances(x[rows] @ weights + bias)
    return told


def logits(chances: NDArray[np.floating]) -> Floats:
    """Of probabilities, those nearest to 0 and 1 held back."""
    held = np.clip(chances, _CLEAREST, 1 - _CLEAREST)
    return np.asarray(np.log(held / (1 - held)), np.float32)


def _chances(values: Floats) -> Floats:
    return np.asarray(1 / (1 + np.exp(-np.clip(values, -30, 30))), np.float32)
