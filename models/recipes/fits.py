"""The router's small fits: fusion weights, confidence and scope, all by core's own L-BFGS."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ruvllm.routing.fusion import standardise
from ruvllm.routing.head import minimise

Floats = NDArray[np.float32]


def fit_fusion(sets: Sequence[tuple[Floats, NDArray[np.int64]]], penalty: float = 0.02) -> Floats:
    """Weights of the standardised features, by conditional logit over each set's agents.

    Args:
        sets: (raw features (n, FEATURES, agents), labels (n,)) of each agent set.
    """
    ready = [(standardise(features), labels) for features, labels in sets]
    total = sum(len(labels) for _, labels in ready)

    def loss(w: Floats) -> tuple[float, Floats]:
        value, gradient = 0.0, np.zeros(len(w), np.float64)
        for x, labels in ready:
            logits = np.einsum("f,nfa->na", w, x)
            logits -= logits.max(1, keepdims=True)
            powers = np.exp(logits)
            p = powers / powers.sum(1, keepdims=True)
            rows = np.arange(len(labels))
            value -= float(np.log(p[rows, labels] + 1e-12).sum())
            p[rows, labels] -= 1
            gradient += np.einsum("na,nfa->f", p, x)
        value = value / total + penalty * float(w @ w)
        return value, np.asarray(gradient / total + 2 * penalty * w, np.float32)

    return minimise(loss, np.full(ready[0][0].shape[1], 0.3, np.float32), 1e-7)


def fit_logistic(
    rows: Floats, labels: NDArray[np.bool_], weights: Floats | None = None, penalty: float = 0.01
) -> Floats:
    """Coefficients and intercept (features + 1,) of P(label | row), for raw (unscaled) rows."""
    centre, spread = rows.mean(0), rows.std(0) + 1e-6
    x = np.hstack([(rows - centre) / spread, np.ones((len(rows), 1))]).astype(np.float32)
    y = labels.astype(np.float32)
    each = np.ones(len(y), np.float32) if weights is None else weights
    each = each / each.sum()

    def loss(w: Floats) -> tuple[float, Floats]:
        score = x @ w
        value = float((each * (np.logaddexp(0, score) - y * score)).sum()) + penalty * float(w[:-1] @ w[:-1])
        slope = x.T @ (each * (1 / (1 + np.exp(-score)) - y))
        slope[:-1] += 2 * penalty * w[:-1]
        return value, np.asarray(slope, np.float32)

    w = minimise(loss, np.zeros(x.shape[1], np.float32), 1e-7)
    scaled = w[:-1] / spread
    return np.append(scaled, w[-1] - scaled @ centre).astype(np.float32)
