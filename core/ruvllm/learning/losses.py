"""What an adapted query is taught: losses of a unit vector with their gradients in closed form.

Each returns (value, gradient with respect to `y`), in the dtype of `y`. `scale` is the inverse
temperature of the cosines.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["SCALE", "pairwise_loss", "rejection_loss", "softmax_loss"]

SCALE = 15.0
_SURE = 1e-6  # an agent that all others together are less likely than is rejected with a bounded force
Floats = NDArray[Any]


def softmax_loss(
    y: Floats, prototypes: Floats, label: int, scale: float = SCALE, offsets: Floats | None = None
) -> tuple[float, Floats]:
    """This agent was the right one: −log P(label).

    Args:
        y: (dim,).
        prototypes: (agents, dim).
        offsets: (agents,) logits that what is not adapted gives the agents.
    """
    p = _probabilities(y, prototypes, scale, offsets)
    value = -float(np.log(max(float(p[label]), 1e-30)))
    p[label] -= 1
    return value, scale * (p @ prototypes)


def rejection_loss(
    y: Floats, prototypes: Floats, label: int, scale: float = SCALE, offsets: Floats | None = None
) -> tuple[float, Floats]:
    """This agent was wrong, and nobody said which is right: −log(1 − P(label)). Shapes as in `softmax_loss`."""
    p = _probabilities(y, prototypes, scale, offsets)
    chosen = float(p[label])
    p[label] = 0
    rest = max(float(p.sum()), _SURE)
    force = p * (-chosen / rest)  # the others share what this one loses, the likelier ones more of it
    force[label] = chosen
    return -float(np.log(rest)), scale * (force @ prototypes)


def pairwise_loss(
    y: Floats, relevant: Floats, irrelevant: Floats, scale: float = SCALE, margin: float = 1.0
) -> tuple[float, Floats]:
    """These memories answered and those did not: mean softplus(margin − scale·(y·r − y·i)) over the pairs.

    Args:
        y: (dim,).
        relevant, irrelevant: (n, dim) and (m, dim), at least one each.
    """
    excess = margin - scale * ((relevant @ y)[:, None] - (irrelevant @ y)[None, :])  # (n, m)
    value = float(np.logaddexp(0, excess).mean())
    slope = np.exp(-np.logaddexp(0, -excess)) / excess.size  # the logistic function, without overflow
    return value, scale * (slope.sum(0) @ irrelevant - slope.sum(1) @ relevant)


def _probabilities(y: Floats, prototypes: Floats, scale: float, offsets: Floats | None) -> Floats:
    logits = scale * (prototypes @ y)
    if offsets is not None:
        logits = logits + offsets
    p = np.exp(logits - logits.max())
    return np.asarray(p / p.sum())
