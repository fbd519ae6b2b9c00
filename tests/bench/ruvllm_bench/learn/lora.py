"""How fast adapters learn and apply, and what thirty feedbacks do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ruvllm.encoders.protocol import unit_rows
from ruvllm.learning.lora import BATCH, SCALE, LowRank

_AGENTS = 60
_REPEATS, _BATCHES = 300, 5


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


def _probabilities(y: Floats, prototypes: Floats, scale: float, offsets: Floats | None) -> Floats:
    logits = scale * (prototypes @ y)
    if offsets is not None:
        logits = logits + offsets
    p = np.exp(logits - logits.max())
    return np.asarray(p / p.sum())


@dataclass(frozen=True, slots=True)
class LoraSpeed:
    """Medians of one measurement.

    Attributes:
        update_us: gradient of both factors and step, for one feedback.
        apply_us: one vector adapted.
        loss_us: softmax loss over 60 agents with its gradient.
        absorb_ms: a batch of 100 feedbacks absorbed by an adapter of rank 16.
        moved: mean ‖y − x‖ of the queries that thirty feedbacks were about.
    """

    dim: int
    rank: int
    update_us: float
    apply_us: float
    loss_us: float
    absorb_ms: float
    moved: float


def measure_lora(dim: int = 384, rank: int = 2, seed: int = 0) -> LoraSpeed:
    """On random unit vectors; half a second or so."""
    rng = np.random.default_rng(seed)
    queries, agents = (unit_rows(rng.normal(size=(n, dim))) for n in (BATCH, _AGENTS))
    labels = rng.integers(_AGENTS, size=BATCH)
    adapter = LowRank(dim, rank, seed=seed)
    slopes = np.zeros((BATCH, dim), np.float32)
    for i in range(30):
        slopes[i] = softmax_loss(adapter.apply(queries[i]), agents, int(labels[i]))[1]
        adapter.teach(queries[i], slopes[i])
    moved = np.linalg.norm(adapter.apply(queries[:30]) - queries[:30], axis=1).mean()
    slopes[:] = [softmax_loss(adapter.apply(x), agents, int(y))[1] for x, y in zip(queries, labels, strict=True)]
    base, x = LowRank(dim, min(16, dim), seed=seed), queries[0]
    return LoraSpeed(
        dim=dim,
        rank=rank,
        update_us=_microseconds(partial(adapter.teach, x, slopes[0]), _REPEATS),
        apply_us=_microseconds(partial(adapter.apply, x), _REPEATS),
        loss_us=_microseconds(partial(softmax_loss, x, agents, 0), _REPEATS),
        absorb_ms=_microseconds(partial(base.absorb, queries, slopes), _BATCHES) / 1000,
        moved=float(moved),
    )


def _microseconds(work: Callable[[], object], repeats: int) -> float:
    taken = []
    for _ in range(repeats):
        start = perf_counter()
        work()
        taken.append(perf_counter() - start)
    return median(taken) * 1e6
