"""The levels of an HNSW graph as a writer holds them: growing arrays, levels drawn, links made."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ruvllm.index.hnsw_build import neighbours
from ruvllm.index.hnsw_links import NONE, attach, detach
from ruvllm.index.hnsw_walk import SCANNED, Level, Visited, descend, walk
from ruvllm.index.rows import grown

__all__ = ["Layer", "Layers"]

_ONE_BY_ONE = 32  # new nodes up to which each looks for its neighbours by walking
_REBUILD = 2  # a level that has grown so many times is linked anew, all at once

Floats = NDArray[np.float32]
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

    def squeezed(self, points: Floats, kept: NDArray[np.int64]) -> Layer:
        """This level without all but the kept nodes, which keep their links."""
        new = Layer(points, self.below, self.degree, self.ef_construction)
        if self.linked:
            places = np.full(len(self.points) + 1, NONE, np.int32)
            places[kept] = np.arange(len(kept), dtype=np.int32)
            new._links, new.linked = places.take(self._links[kept], mode="clip"), len(kept)
        return new

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

    def remove(self, nodes: NDArray[np.int64]) -> None:
        """Take nodes of the ground out."""
        slots = nodes.astype(np.int32)
        self.ground.remove(slots)
        for layer in self._above:
            slots = np.flatnonzero(np.isin(layer.below, slots)).astype(np.int32)
            layer.remove(slots)
        self._settle()

    def squeeze(self, points: Floats, kept: NDArray[np.int64]) -> None:
        """Number the kept nodes of the ground from 0 on."""
        self.ground = self.ground.squeezed(points, kept)
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
