"""How fast trajectories are learnt and found again, and how long a background cycle takes."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median
from time import perf_counter

import numpy as np

from ruvllm.encoders.protocol import Vectors, unit_rows
from ruvllm.index.kmeans import kmeans
from ruvllm.learning.sona import SonaEngine

__all__ = ["SonaSpeed", "measure_sona"]

_ROUTES = 40


@dataclass(frozen=True, slots=True)
class SonaSpeed:
    """One measurement; the first two are medians.

    Attributes:
        trajectory_us: begin, one step, end: judged and learnt.
        find_us: five patterns of one vector.
        kmeans_ms: k-means++, 100 clusters of 5,000 vectors, the fastest of three.
        cycle_s: the background's work on all the trajectories.
        slice_ms: the longest piece of it between two looks at the clock.
    """

    dim: int
    trajectories: int
    patterns: int
    trajectory_us: float
    find_us: float
    kmeans_ms: float
    cycle_s: float
    slice_ms: float


def measure_sona(dim: int = 384, trajectories: int = 1_000, seed: int = 0) -> SonaSpeed:
    """On clustered random vectors of forty routes; a few seconds."""
    rng = np.random.default_rng(seed)
    centres = unit_rows(rng.normal(size=(_ROUTES, dim)))
    labels = rng.integers(_ROUTES, size=5_000)
    points = unit_rows(centres[labels] + rng.normal(size=(5_000, dim)) / np.sqrt(dim))
    sona = SonaEngine.with_config(embedding_dim=dim)
    learning = []
    for x, label in zip(points[:trajectories], labels.tolist(), strict=False):
        start = perf_counter()
        sona.begin_trajectory(x, f"route {label}")
        sona.add_trajectory_step("input", "action", 1.0)
        sona.end_trajectory(0.9, True)
        learning.append(perf_counter() - start)
    slices = [sona.force_learn(0).seconds]
    while sona.core.busy:
        slices.append(sona.force_learn(0).seconds)
    finding = []
    for x in points[-300:]:
        start = perf_counter()
        sona.find_patterns(x)
        finding.append(perf_counter() - start)
    return SonaSpeed(
        dim=dim,
        trajectories=trajectories,
        patterns=sona.get_stats().patterns,
        trajectory_us=median(learning) * 1e6,
        find_us=median(finding) * 1e6,
        kmeans_ms=min(_seconds_of_kmeans(points, run) for run in range(3)) * 1e3,
        cycle_s=sum(slices),
        slice_ms=max(slices) * 1e3,
    )


def _seconds_of_kmeans(points: Vectors, seed: int) -> float:
    start = perf_counter()
    kmeans(points, 100, seed=seed, plus_plus=True)
    return perf_counter() - start
