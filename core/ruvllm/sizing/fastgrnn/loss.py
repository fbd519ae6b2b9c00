"""The heads of the model router, and what feedback says about them.

The model head is a distribution over the cheapest size that does the task well. Feedback is about the size
that was used alone, and tells on which side of it that cheapest one lies, if what a size does well each
larger one does too: with quality q in 0..1,

    L = -q log P(cheapest <= used) - (1 - q) log P(cheapest > used)

the likelihood of interval-censored data (Turnbull 1976), a proper score. Nobody has to try all sizes on one
task. A failure of the largest, beyond which there is nothing, counts as the largest.

The size to use has the greatest expected utility P(it does it well) - weight × cost, cost 1 being the dearest.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ruvllm.sizing.fastgrnn.cell import CONTEXTS_OUT, MODELS_OUT, Array, Shape, back, forward, sigmoid

COST_WEIGHT = 0.25  # quality that the dearest model's cost is worth
HOTTEST = 2.0  # temperature
_CONTEXT = slice(MODELS_OUT, MODELS_OUT + CONTEXTS_OUT)
_TEMPERATURE, _TOP_P, _CONFIDENCE = range(MODELS_OUT + CONTEXTS_OUT, MODELS_OUT + CONTEXTS_OUT + 3)


class Batch(NamedTuple):
    """Sessions up to a turn that feedback is about; t turns, b sessions.

    Attributes:
        x: (t, b, i).
        present: (t, b, 1), see `forward`.
        used: int64 (b,), which size.
        quality: (b,), 0..1.
        context: int64 (b,), the smallest bucket that holds what was needed; -1 where nobody knows.
        temperature, top_p: (b,), as used; NaN where nobody knows.
        costs: (4,), the dearest 1.
    """

    x: Array
    present: Array
    used: NDArray[np.int64]
    quality: Array
    context: NDArray[np.int64]
    temperature: Array
    top_p: Array
    costs: Array


def outputs_of(shape: Shape, theta: Array, x: Array, present: Array) -> Array:
    """What the heads say after the last turn, before softmax and σ: (b, 12)."""
    named = shape.views(theta)
    out: Array = forward(shape, theta, x, present).states[-1] @ named["heads"].T + named["head_bias"]
    return out


def loss_of(shape: Shape, theta: Array, batch: Batch, cost_weight: float = COST_WEIGHT) -> tuple[float, Array]:
    """The mean loss, and its gradient (size,)."""
    named = shape.views(theta)
    trace = forward(shape, theta, batch.x, batch.present)
    last = trace.states[-1]
    losses, d_outputs = heads_loss(last @ named["heads"].T + named["head_bias"], batch, cost_weight)
    d_outputs /= len(losses)
    gradient = np.zeros_like(theta)
    grads = shape.views(gradient)
    grads["heads"] += d_outputs.T @ last
    grads["head_bias"] += d_outputs.sum(axis=0)
    d_states = np.zeros_like(trace.gates)
    d_states[-1] = d_outputs @ named["heads"]
    back(shape, theta, trace, d_states, gradient)
    return float(losses.mean()), gradient


def heads_loss(outputs: Array, batch: Batch, cost_weight: float = COST_WEIGHT) -> tuple[Array, Array]:
    """Each session's loss (b,), the sum over the heads, and its gradient by the outputs (b, 12)."""
    d_outputs = np.zeros_like(outputs)
    losses, d_outputs[:, :MODELS_OUT] = _model_loss(outputs[:, :MODELS_OUT], batch.used, batch.quality)
    context_losses, d_outputs[:, _CONTEXT] = _context_loss(outputs[:, _CONTEXT], batch.context)
    losses = losses + context_losses
    for column, used, most in ((_TEMPERATURE, batch.temperature, HOTTEST), (_TOP_P, batch.top_p, 1.0)):
        more, d_outputs[:, column] = _imitation_loss(outputs[:, column], used / most, batch.quality)
        losses = losses + more
    right, certain = _whether_right(outputs, batch, cost_weight)
    more, d_outputs[:, _CONFIDENCE] = _confidence_loss(outputs[:, _CONFIDENCE], right, certain)
    return losses + more, d_outputs


def preferred(holds: Array, costs: Array, cost_weight: float = COST_WEIGHT) -> NDArray[np.int64]:
    """The size of the greatest expected utility, (b,), from P(a size does it well), (b, 4)."""
    return np.asarray((holds - cost_weight * costs).argmax(axis=1), np.int64)


def holds_of(outputs: Array) -> Array:
    """P(each size does it well), (b, 4), ascending to 1."""
    return np.cumsum(np.exp(_log_softmax(outputs[:, :MODELS_OUT])), axis=1)


def _log_softmax(x: Array) -> Array:
    return x - _log_sum(x)


def _log_sum(x: Array) -> Array:
    top = x.max(axis=1, keepdims=True)
    out: Array = top + np.log(np.exp(x - top).sum(axis=1, keepdims=True))
    return out


def _model_loss(logits: Array, used: NDArray[np.int64], quality: Array) -> tuple[Array, Array]:
    sizes, largest = np.arange(MODELS_OUT), MODELS_OUT - 1
    within = sizes <= used[:, None]
    beyond = sizes > np.minimum(used, largest - 1)[:, None]
    losses, slopes = np.zeros_like(quality), np.zeros_like(logits)
    for side, part in ((within, quality), (beyond, 1 - quality)):
        inside = np.where(side, logits, -np.inf)
        held = _log_sum(inside)
        losses += part * (_log_sum(logits) - held)[:, 0]
        slopes -= part[:, None] * np.exp(inside - held)  # where the cheapest is, given the side
    return losses, slopes + np.exp(_log_softmax(logits))


def _context_loss(logits: Array, bucket: NDArray[np.int64]) -> tuple[Array, Array]:
    """Cross-entropy."""
    certain = bucket >= 0
    rows, places = np.arange(len(bucket)), np.maximum(bucket, 0)
    shares = _log_softmax(logits)
    slopes = np.exp(shares)
    slopes[rows, places] -= 1
    return np.where(certain, -shares[rows, places], 0), slopes * certain[:, None]


def _imitation_loss(logits: Array, used: Array, quality: Array) -> tuple[Array, Array]:
    """Squared distance to what was used, weighted by how well it went (Peters & Schaal 2007)."""
    weight = np.where(np.isnan(used), 0, quality).astype(logits.dtype)
    probability = sigmoid(logits)
    off = probability - np.nan_to_num(used)
    return weight * off * off, 2 * weight * off * probability * (1 - probability)


def _whether_right(outputs: Array, batch: Batch, cost_weight: float) -> tuple[Array, NDArray[np.bool_]]:
    """How well the size that the router prefers does, and whether that can be known.

    A larger one than that used does well if it did; a smaller one fails if it failed.
    """
    chosen, quality = preferred(holds_of(outputs), batch.costs, cost_weight), batch.quality
    certain = np.where(quality >= 0.5, chosen >= batch.used, chosen <= batch.used)
    return quality, certain | (chosen == batch.used)


def _confidence_loss(logits: Array, right: Array, certain: NDArray[np.bool_]) -> tuple[Array, Array]:
    """Binary cross-entropy."""
    losses = np.logaddexp(np.zeros_like(logits), logits) - right * logits
    return losses * certain, (sigmoid(logits) - right) * certain
