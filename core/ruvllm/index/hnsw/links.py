"""Walking an HNSW graph with arrays: many of the best nodes are expanded at a time, which costs numpy little more."""

from __future__ import annotations

import threading
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ruvllm.index.select import best

NONE = np.int32(2**31 - 1)  # no link; beyond all nodes, so that clipping takes it to a place that is always visited
_BLOCK = 1_024  # nodes whose candidates are compared with one another at a time
_FEW = 4
_CONSIDERED = 2  # candidates for each link of a crowded node

Floats = NDArray[np.float32]
Links = NDArray[np.int32]


def select(points: Floats, candidates: Links, scores: Floats, keep: int, *, fill: bool) -> Links:
    """Diverse neighbours (algorithm 4 of Malkov & Yashunin 2018): (m, keep), filled up with NONE.

    A candidate stays if it is nearer to the node than to every candidate that stays before it.

    Args:
        points: float32 (n, dim) of length one.
        candidates: (m, c) nearest first, NONE where there are fewer.
        scores: (m, c) their inner products with their node, -inf for NONE.
        fill: take the nearest of the others into places that are left.
    """
    chosen = np.full((len(candidates), keep), NONE, np.int32)
    for start in range(0, len(candidates), _BLOCK):
        part, part_scores = candidates[start : start + _BLOCK], scores[start : start + _BLOCK]
        stays = _diverse(points, part, part_scores)
        rank = np.where(stays, 0, 1 if fill else 2)
        rank[part == NONE] = 2
        order = rank.argsort(1, kind="stable")[:, :keep]
        picked = np.take_along_axis(part, order, 1)
        picked[np.take_along_axis(rank, order, 1) == 2] = NONE
        chosen[start : start + len(part), : picked.shape[1]] = picked
    return chosen


def _diverse(points: Floats, candidates: Links, scores: Floats) -> NDArray[np.bool_]:
    """(m, c) which candidates stay, for one block."""
    vectors = points.take(candidates, 0, mode="clip")  # (m, c, dim)
    between = np.matmul(vectors, vectors.transpose(0, 2, 1))
    nearer = between >= scores[:, None, :]  # [node, i, j]: i is at least as near to j as the node is
    stays = np.not_equal(candidates, NONE)
    for i in range(candidates.shape[1] - 1):
        stays[:, i + 1 :] &= ~(nearer[:, i, i + 1 :] & stays[:, i, None])
    return stays


def grouped(points: Floats, nodes: Links, others: Links) -> tuple[Links, Links, Floats]:
    """Edges, sorted out by node: the nodes (m,), their others (m, c) nearest first and the scores of these.

    Edges that come twice or lead back to their node are dropped.
    """
    distinct = nodes != others
    keys = np.unique(nodes[distinct].astype(np.int64) * len(points) + others[distinct])
    nodes, others = (keys // len(points)).astype(np.int32), (keys % len(points)).astype(np.int32)
    scores = np.empty(len(keys), np.float32)
    for start in range(0, len(keys), 32 * _BLOCK):
        part = slice(start, start + 32 * _BLOCK)
        np.einsum("ij,ij->i", points.take(nodes[part], 0), points.take(others[part], 0), out=scores[part])
    order = np.lexsort((-scores, nodes))
    found, starts, counts = np.unique(nodes, return_index=True, return_counts=True)
    places = np.arange(len(keys)) - np.repeat(starts, counts)
    rows = np.repeat(np.arange(len(found)), counts)
    width = int(counts.max(initial=0))
    candidates, values = np.full((len(found), width), NONE, np.int32), np.full((len(found), width), -np.inf, np.float32)
    candidates[rows, places], values[rows, places] = others[order], scores[order]
    return found, candidates, values


def attach(points: Floats, links: Links, nodes: Links, candidates: Links, scores: Floats) -> None:
    """Link nodes (m,) to the best of their candidates, and these back to them.

    Args:
        links: (n, degree), changed in place; a node gets half its degree, the rest is for links back.
        candidates: (m, c) nearest first, with their scores, as in `select`.
    """
    degree = links.shape[1]
    chosen = select(points, candidates, scores, degree // 2, fill=True)
    links[nodes] = NONE
    links[nodes, : chosen.shape[1]] = chosen
    back_to, back_from = _edges(nodes, chosen)
    if len(back_to):
        touched = np.unique(back_from)
        sources, targets = _edges(touched, links[touched])
        _relink(points, links, np.concatenate([sources, back_from]), np.concatenate([targets, back_to]))


def detach(points: Floats, links: Links, gone: Links) -> None:
    """Take nodes out; those that were linked to them choose anew among what they and the gone were linked to."""
    if len(gone) <= _FEW:
        hit = np.any([links == node for node in gone], axis=0)
    else:
        dead = np.zeros(len(links) + 1, bool)
        dead[gone] = True
        hit = dead.take(links, mode="clip")
    hit[gone] = False
    at, column = np.divmod(np.flatnonzero(hit), links.shape[1])  # np.nonzero of two axes is ten times slower
    if len(at):
        sources, targets = _edges(np.unique(at).astype(np.int32), links[np.unique(at)])
        heirs = links[links[at, column]]
        more_sources, more = _edges(at.astype(np.int32), heirs)
        sources, targets = np.concatenate([sources, more_sources]), np.concatenate([targets, more])
        alive = ~np.isin(targets, gone)
        links[np.unique(at)] = NONE
        _relink(points, links, sources[alive], targets[alive])
    links[gone] = NONE


def _relink(points: Floats, links: Links, nodes: Links, others: Links) -> None:
    """Give nodes these links, the best of them where they are too many."""
    degree = links.shape[1]
    found, candidates, scores = grouped(points, nodes, others)
    crowded = (candidates[:, degree:] != NONE).any(1)
    trimmed = candidates[:, :degree]
    if crowded.any():
        trimmed = trimmed.copy()
        near = slice(_CONSIDERED * degree)
        trimmed[crowded] = select(points, candidates[crowded, near], scores[crowded, near], degree, fill=True)
    links[found, : trimmed.shape[1]] = trimmed


def _edges(nodes: Links, links: Links) -> tuple[Links, Links]:
    """(m,) nodes and their links (m, c) as edges."""
    there = links != NONE
    return np.repeat(nodes, there.sum(1)), links[there]


SCANNED = 1_024  # nodes of a level up to which all are scored rather than walked
_WIDTH = 0.5  # share of the beam that is expanded at a time
_LEAST_WIDTH = 12
_SEEDS = 12  # nodes handed down to the next level
_GUIDE = 24  # beam on the levels between

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
            best = scores.argpartition(len(slots) - ef)[len(slots) - ef :]
            slots, scores, waiting = slots[best], scores[best], waiting[best]
