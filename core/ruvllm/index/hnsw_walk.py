"""Walking an HNSW graph with arrays: many of the best nodes are expanded at a time, which costs numpy little more."""

from __future__ import annotations

import threading
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ruvllm.index.select import best

__all__ = ["SCANNED", "Level", "Visited", "descend", "walk"]

SCANNED = 1_024  # nodes of a level up to which all are scored rather than walked
_WIDTH = 0.5  # share of the beam that is expanded at a time
_LEAST_WIDTH = 12
_SEEDS = 12  # nodes handed down to the next level
_GUIDE = 24  # beam on the levels between

Floats = NDArray[np.float32]
Slots = NDArray[np.int32]


@dataclass(frozen=True)
class Level:
    """One level of the graph at one moment; nodes are numbered by slots.

    Attributes:
        points: float32 (n, dim).
        links: int32 (n, degree), NONE where there is none; None while all nodes are scanned.
        below: int32 (n,) the nodes' slots in the level below; empty on the ground.
        gone: bool (n,) which nodes were taken out; None if none.
    """

    points: Floats
    links: Slots | None
    below: Slots
    gone: NDArray[np.bool_] | None


class Visited(threading.local):
    """Which nodes the current walk of this thread has seen: a stamp a node, never cleared."""

    def __init__(self) -> None:
        self._stamps = np.zeros(0, np.int32)
        self._places = np.zeros(0, np.int32)
        self._mark = 0

    def begin(self, n: int) -> tuple[Slots, Slots, int]:
        """Stamps (n + 1,), of which the last is set for good, places to tell nodes that come twice, and the mark."""
        if len(self._stamps) < n + 1 or self._mark == np.iinfo(np.int32).max:
            self._stamps, self._mark = np.zeros(n + n // 4 + 1, np.int32), 0
            self._places = np.zeros_like(self._stamps)
        self._mark += 1
        stamps = self._stamps[: n + 1]
        stamps[n] = self._mark
        return stamps, self._places, self._mark


def descend(levels: tuple[Level, ...], query: Floats, visited: Visited, hidden: int = -1) -> Slots:
    """Slots on the ground near the query: the lowest small level is scored whole, those below it are walked.

    Args:
        hidden: a slot of the ground that must not be among them.
    """
    top = next(i for i, level in enumerate(levels) if level.links is None)
    level = levels[top]
    scores = level.points @ query
    if level.gone is not None:
        scores[level.gone] = -np.inf
    first = best(scores, _SEEDS)
    slots: Slots = first[scores[first] > -np.inf].astype(np.int32)
    for i in range(top, 0, -1):
        slots = levels[i].below[slots]
        if i > 1:
            slots, scores = walk(levels[i - 1], query, slots, _GUIDE, visited)
            slots = slots[best(scores, _SEEDS)]
    return np.asarray(slots[slots != hidden], np.int32)


def walk(
    level: Level, query: Floats, start: Slots, ef: int, visited: Visited, hidden: int = -1
) -> tuple[Slots, Floats]:
    """The ef best nodes that a beam of that size comes upon, in no order, and their scores.

    Args:
        hidden: a slot that is passed over, as if it were not there.
    """
    points, links = level.points, level.links
    assert links is not None
    stamps, places, mark = visited.begin(len(points))
    if hidden >= 0:
        stamps[hidden] = mark
    slots = start
    stamps[slots] = mark
    scores = points.take(slots, 0) @ query
    waiting = np.ones(len(slots), bool)
    width = max(_LEAST_WIDTH, round(_WIDTH * ef))
    while True:
        ahead = np.flatnonzero(waiting)
        if not len(ahead):
            return slots, scores
        if len(ahead) > width:
            ahead = ahead[scores[ahead].argpartition(len(ahead) - width)[len(ahead) - width :]]
        waiting[ahead] = False
        # A writer may link to nodes that this level does not have yet: clipped like NONE, they count as visited.
        near = links.take(slots[ahead], 0).ravel()
        near = near[stamps.take(near, mode="clip") != mark]
        if not len(near):
            continue
        order = np.arange(len(near), dtype=np.int32)
        places[near] = order
        near = near[places[near] == order]  # each once
        stamps[near] = mark
        slots = np.concatenate([slots, near])
        scores = np.concatenate([scores, points.take(near, 0) @ query])
        waiting = np.concatenate([waiting, np.ones(len(near), bool)])
        if len(slots) > ef:
            kept = scores.argpartition(len(slots) - ef)[len(slots) - ef :]
            slots, scores, waiting = slots[kept], scores[kept], waiting[kept]
