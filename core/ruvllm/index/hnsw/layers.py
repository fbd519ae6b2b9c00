"""The levels of an HNSW graph as a writer holds them: growing arrays, levels drawn, links made."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ruvllm.index.hnsw.links import NONE, SCANNED, Level, Visited, attach, descend, detach, walk
from ruvllm.index.kmeans import assign, kmeans
from ruvllm.index.rows import grown
from ruvllm.index.select import best_of_many

_PAIRS = 1_500_000_000  # products up to which all pairs are compared
_CELLS = 8_000_000  # products at a time
_PER_LIST = 256
_PROBED = 12  # lists that a list's points are compared with
_CLUSTERINGS = 2  # what one cuts apart the other keeps together: recall .935 -> .979 at 100,000

Floats = NDArray[np.float32]
Links = NDArray[np.int32]


def neighbours(points: Floats, start: int, k: int, gone: NDArray[np.bool_] | None) -> tuple[Links, Floats]:
    """The k nearest of all points to each from `start` on, nearest first: ids and scores, NONE and -inf where missing.

    Args:
        points: float32 (n, dim) of length one.
        gone: bool (n,) which points are not to be found; None if all are.
    """
    n = len(points)
    if start == 0 and n * n > _PAIRS:
        return _clustered(points, k, gone)
    k = min(k, n - 1)
    found, scores = _empty(n - start, k)
    step = max(1, _CELLS // n)
    for at in range(start, n, step):
        block = points[at : at + step]
        products = block @ points.T
        products[np.arange(len(block)), np.arange(at, at + len(block))] = -np.inf
        if gone is not None:
            products[:, gone] = -np.inf
        top = best_of_many(products, k)
        _keep(found, scores, slice(at - start, at - start + len(block)), top, np.take_along_axis(products, top, 1))
    return found, scores


def _clustered(points: Floats, k: int, gone: NDArray[np.bool_] | None) -> tuple[Links, Floats]:
    """`neighbours` of all, looked for in nearby lists of independent clusterings."""
    found, scores = _empty(len(points), k)
    for seed in range(_CLUSTERINGS):
        more, more_scores = _in_lists(points, k, gone, seed)
        found, scores = _merged(np.hstack([found, more]), np.hstack([scores, more_scores]), k)
    return found, scores


def _in_lists(points: Floats, k: int, gone: NDArray[np.bool_] | None, seed: int) -> tuple[Links, Floats]:
    n, random = len(points), np.random.default_rng(seed)
    count = n // _PER_LIST
    sample = points[np.sort(random.choice(n, min(n, 48 * count), replace=False))]
    centroids = kmeans(sample, count, rounds=4, seed=seed)
    nearest = assign(points, centroids)
    order = nearest.argsort(kind="stable")
    edges = np.concatenate([[0], np.bincount(nearest, minlength=count).cumsum()])
    around = best_of_many(centroids @ centroids.T, _PROBED)
    found, scores = _empty(n, k)
    for place, probed in enumerate(around):
        mine = order[edges[place] : edges[place + 1]]
        there = np.concatenate([order[edges[i] : edges[i + 1]] for i in probed.tolist()])
        if not len(mine) or not len(there):
            continue
        products = points.take(mine, 0) @ points.take(there, 0).T
        products[mine[:, None] == there] = -np.inf
        if gone is not None:
            products[:, gone[there]] = -np.inf
        top = best_of_many(products, k)
        _keep(found, scores, mine, there[top], np.take_along_axis(products, top, 1))
    return found, scores


def _empty(rows: int, k: int) -> tuple[Links, Floats]:
    return np.full((rows, k), NONE, np.int32), np.full((rows, k), -np.inf, np.float32)


def _keep(found: Links, scores: Floats, at: slice | NDArray[np.intp], top: NDArray[np.intp], values: Floats) -> None:
    width = top.shape[1]
    found[at, :width] = np.where(np.isneginf(values), NONE, top)
    scores[at, :width] = values


def _merged(found: Links, scores: Floats, k: int) -> tuple[Links, Floats]:
    """The k best of each row, each once."""
    order = found.argsort(1, kind="stable")
    found, scores = np.take_along_axis(found, order, 1), np.take_along_axis(scores, order, 1)
    scores[:, 1:][found[:, 1:] == found[:, :-1]] = -np.inf
    top = (-scores).argsort(1, kind="stable")[:, :k]
    scores = np.take_along_axis(scores, top, 1)
    return np.where(np.isneginf(scores), NONE, np.take_along_axis(found, top, 1)), scores


_ONE_BY_ONE = 32  # new nodes up to which each looks for its neighbours by walking
_REBUILD = 2  # a level that has grown so many times is linked anew, all at once

Slots = NDArray[np.int32]


class Layer:
    """One level; nodes are numbered by slots.

    Args:
        degree: the most links a node has.
        ef_construction: candidates for the links of a node.
    """

    def __init__(self, points: Floats, below: Slots, degree: int, ef_construction: int) -> None:
        self.points, self.below = points, below
        self.degree, self.ef_construction = degree, ef_construction
        self.linked = 0  # nodes that had links when links were last made
        self._links = np.empty((0, degree), np.int32)
        self._gone = np.zeros(len(points), bool)
        self.lost = 0

    @property
    def living(self) -> int:
        """Nodes that were not taken out."""
        return len(self.points) - self.lost

    @property
    def alive(self) -> NDArray[np.intp]:
        """Slots of the living."""
        return np.flatnonzero(~self._gone[: len(self.points)])

    @property
    def now(self) -> Level:
        """What readers see."""
        n = len(self.points)
        gone = self._gone[:n].copy() if self.lost and not self.linked else None
        return Level(self.points, self._links[:n] if self.linked else None, self.below, gone)

    def grow(self, points: Floats, below: Slots) -> None:
        """Take over points and slots below, of which the first are those held already."""
        self._gone = grown(self._gone, len(points))
        self._gone[len(self.points) : len(points)] = False
        self.points, self.below = points, below

    def due(self) -> bool:
        """Whether links are to be made for all nodes at once."""
        n = len(self.points)
        return n > SCANNED and n > _REBUILD * self.linked

    def link(self, start: int) -> None:
        """Link the nodes from `start` on to the nearest of all."""
        n, gone = len(self.points), self._gone[: len(self.points)]
        self.room()
        candidates = max(self.degree, self.ef_construction // 2)  # true neighbours; a beam finds half as good ones
        found, scores = neighbours(self.points, start, candidates, gone if self.lost else None)
        new = np.arange(start, n, dtype=np.int32)
        new = new[~gone[start:]]
        attach(self.points, self._links[:n], new, found[new - start], scores[new - start])

    def relink(self) -> None:
        """Link all nodes anew; who reads the old links keeps them."""
        self._links = np.empty((0, self.degree), np.int32)
        self.linked = 0
        self.link(0)
        self.linked = len(self.points)

    def insert(self, node: int, found: Slots, scores: Floats) -> None:
        """Link one node to the best of what was found for it."""
        self.room()
        order = (-scores).argsort(kind="stable")
        new = np.array([node], np.int32)
        attach(self.points, self._links[: len(self.points)], new, found[order][None], scores[order][None])

    def remove(self, nodes: Slots) -> None:
        """Take nodes out and close the gaps."""
        nodes = nodes[~self._gone[nodes]]
        self._gone[nodes] = True
        self.lost += len(nodes)
        if self.linked and len(nodes):
            detach(self.points, self._links[: len(self.points)], nodes)

    def squeezed(self, points: Floats, remaining: NDArray[np.int64]) -> Layer:
        """This level without all but the kept nodes, which keep their links."""
        new = Layer(points, self.below, self.degree, self.ef_construction)
        if self.linked:
            places = np.full(len(self.points) + 1, NONE, np.int32)
            places[remaining] = np.arange(len(remaining), dtype=np.int32)
            new._links, new.linked = places.take(self._links[remaining], mode="clip"), len(remaining)
        return new

    def take_links(self, links: Links) -> None:
        """Have these links: (n, degree)."""
        self._links, self.linked = links.copy(), len(self.points)

    def room(self) -> None:
        """Have a row of links for each node."""
        have = len(self._links)
        self._links = grown(self._links, len(self.points))
        self._links[have:] = NONE


class Layers:
    """All levels, the ground first. Each level above holds about one in M of the nodes of the one below.

    Args:
        m: links of a node above the ground; the ground has twice as many.
        ef_construction: candidates for the links of a node.
    """

    def __init__(self, points: Floats, m: int, ef_construction: int) -> None:
        self.m, self.ef_construction = m, ef_construction
        self._random = np.random.default_rng(0)
        self._visited = Visited()
        self.ground = Layer(points, np.empty(0, np.int32), 2 * m, ef_construction)
        self._above = list[Layer]()

    @property
    def now(self) -> tuple[Level, ...]:
        """What readers see."""
        return tuple(layer.now for layer in (self.ground, *self._above))

    def extend(self, points: Floats) -> None:
        """Take in the points behind those held: float32 (n, dim), all of them."""
        ground, start = self.ground, len(self.ground.points)
        ground.grow(points, ground.below)
        if ground.due():
            ground.relink()
            self._raise()
        elif ground.linked:
            self._climb(start)
            self._link(start)
            self._settle()

    def adopt(self, points: Floats, links: Links) -> None:
        """Begin with points and links between them that were made before."""
        self.ground = Layer(points, self.ground.below, links.shape[1], self.ef_construction)
        self.ground.take_links(links)
        self._raise()

    def remove(self, nodes: NDArray[np.int64]) -> None:
        """Take nodes of the ground out."""
        slots = nodes.astype(np.int32)
        self.ground.remove(slots)
        for layer in self._above:
            slots = np.flatnonzero(np.isin(layer.below, slots)).astype(np.int32)
            layer.remove(slots)
        self._settle()

    def squeeze(self, points: Floats, remaining: NDArray[np.int64]) -> None:
        """Number the kept nodes of the ground from 0 on."""
        self.ground = self.ground.squeezed(points, remaining)
        if self.ground.linked:
            self._raise()

    def _settle(self) -> None:
        """Draw the levels again when the uppermost are worn out: a search must find a way in."""
        if not self.ground.linked:
            return
        expected = self.ground.living / self.m
        if (
            not self._above
            or self._above[-1].linked
            or 4 * self._above[0].living < expected
            or any(not layer.living for layer in self._above)
        ):
            self._raise()

    def _raise(self) -> None:
        """Draw all levels above the ground."""
        self._above = []
        layer = self.ground
        while True:
            alive = layer.alive
            size = max(1, round(len(alive) / self.m))
            chosen = np.sort(self._random.choice(alive, min(size, len(alive)), replace=False)).astype(np.int32)
            layer = Layer(layer.points.take(chosen, 0), chosen, self.m, self.ef_construction)
            self._above.append(layer)
            if not layer.due():
                return
            layer.relink()

    def _climb(self, start: int) -> None:
        """New nodes of the ground rise level by level, each with a chance of one in M."""
        new = np.arange(start, len(self.ground.points), dtype=np.int32)
        lower = self.ground
        for layer in self._above:
            new = new[self._random.random(len(new)) < 1 / self.m]
            if not len(new):
                return
            size = len(layer.points)
            points = np.concatenate([layer.points, lower.points.take(new, 0)])
            layer.grow(points, np.concatenate([layer.below, new]))
            if layer.due():
                layer.relink()
            elif layer.linked:
                layer.link(size)
            new, lower = np.arange(size, size + len(new), dtype=np.int32), layer

    def _link(self, start: int) -> None:
        stop = len(self.ground.points)
        if stop - start > _ONE_BY_ONE:
            self.ground.link(start)
            return
        self.ground.room()
        levels = self.now
        for node in range(start, stop):
            query = levels[0].points[node]
            way_in = descend(levels, query, self._visited, hidden=node)
            self.ground.insert(node, *walk(levels[0], query, way_in, self.ef_construction, self._visited, hidden=node))
