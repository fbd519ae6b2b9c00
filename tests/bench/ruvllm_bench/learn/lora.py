"""How fast adapters learn and apply, and what thirty feedbacks do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from statistics import median
from time import perf_counter

import numpy as np

from ruvllm.encoders.protocol import unit_rows
from ruvllm.learning.lora import BATCH, LowRank, softmax_loss

__all__ = ["LoraSpeed", "measure_lora"]

_AGENTS = 60
_REPEATS, _BATCHES = 300, 5


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
