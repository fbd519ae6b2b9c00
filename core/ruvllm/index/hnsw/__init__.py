"""Hierarchical navigable small worlds (Malkov & Yashunin 2018), built and walked with arrays.

The paper's graph: levels of falling size, diverse neighbours, links both ways, nodes added one at a time
or in bulk, and deletes that close their gaps. Two things differ, because numpy scores many vectors as fast
as one: the lowest level of up to a thousand nodes is scored whole instead of being entered at one point,
and a walk expands half of its beam at a time.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ruvllm.errors import InputError
from ruvllm.index.base import FEW, RowsIndex, State
from ruvllm.index.exact import exact
from ruvllm.index.hnsw.layers import Layers
from ruvllm.index.hnsw.links import Level, Visited, descend, walk
from ruvllm.index.protocol import Hits, pad
from ruvllm.index.recall import Beams, Lift
from ruvllm.index.rows import Mask, Rows, View, grown
from ruvllm.index.select import best

__all__ = ["HnswIndex"]

_BEAMS = (12, 16, 24, 32, 40, 48, 64, 80, 96, 128, 192, 256, 384, 512)  # those whose recall is measured
_SCORED = 16  # nodes that a walk scores for each of its beam
_REFIT = 2  # dot products are lifted anew when there are so many times as many rows

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class _Graph(State):
    levels: tuple[Level, ...]
    lift: Lift | None


class HnswIndex(RowsIndex[_Graph]):
    """A graph walked towards the query.

    Args:
        M: links of a node on the levels above the ground; twice as many there.
        ef_construction: candidates for the links of a node.
        ef_search: least beam of a search that asks for `recall` or more.
        links: int32 (n, 2 M), of the lowest level over these rows, which was built before (`index.saved`).
    """

    kind = "hnsw"

    def __init__(
        self,
        dim: int,
        metric: str = "cosine",
        *,
        M: int = 16,  # noqa: N803, the paper's name
        ef_construction: int = 100,
        ef_search: int = 64,
        recall: float = 0.99,
        rows: Rows | None = None,
        links: NDArray[np.int32] | None = None,
    ) -> None:
        super().__init__(dim, metric, recall, rows)
        for name, value, least in (("M", M, 2), ("ef_construction", ef_construction, 1), ("ef_search", ef_search, 1)):
            if value < least:
                raise InputError(f"{name} is {value}", field=name, fix=f"use at least {least}")
        self.m, self.ef_construction, self.ef_search = M, ef_construction, ef_search
        self._visited = Visited()
        self._beams = Beams(_BEAMS)
        self._lift: Lift | None = None
        self._layers: Layers
        self._vectors: Floats
        self._fitted = self._held = 0  # rows that the lift was fitted to, and that were copied
        self._start(self.rows.view, links)

    @property
    def links(self) -> NDArray[np.int32] | None:
        """int32 (n, 2 M), of the lowest level; None while the rows are too few to be linked."""
        return self._state.levels[0].links

    def sync(self) -> None:
        """Take up what was changed in the rows."""
        with self.rows.lock:
            view, old = self.rows.view, self._state.view
            if view is old:
                return
            if self._lift is not None and view.size > _REFIT * self._fitted:
                self._start(view)
                return
            if view.epoch == old.epoch:
                self._layers.remove(np.flatnonzero(view.penalty[: old.size] > old.penalty))
            elif view.epoch == old.epoch + 1 and self.rows.remaining is not None:
                remaining = self.rows.remaining[self.rows.remaining < old.size]
                self._layers.remove(np.setdiff1d(np.flatnonzero(old.penalty == 0), remaining))
                if self._held:
                    self._vectors, self._held = self._vectors[remaining], len(remaining)
                self._layers.squeeze(self._points(view, len(remaining)), remaining)
            else:
                self._start(view)
                return
            self._layers.extend(self._points(view, view.size))
            self._layers.remove(np.flatnonzero(view.penalty[old.size :]) + old.size)
            self._publish(view)

    def stats(self) -> dict[str, Any]:
        """Size, kind, levels and the beam of a search for ten."""
        sizes, beam = [len(level.points) for level in self._state.levels], self._beams.measured(10, self.recall)
        return {"kind": self.kind, "size": len(self), "recall": self.recall, "levels": sizes, "ef": beam}

    def _exactly(self, state: _Graph, found: int, k: int, recall: float) -> bool:
        return state.levels[0].links is None or found <= max(FEW, k) or recall >= 1

    def _find(self, state: _Graph, queries: Floats, k: int, recall: float, mask: Mask | None) -> Hits:
        beam = self._beam(state, k, recall)
        if beam is None:
            return exact(state.view, queries, k, mask)
        return self._walked(state, queries, k, max(beam, self.ef_search if recall >= self.recall else k), mask)

    def _walked(self, state: _Graph, queries: Floats, k: int, beam: int, mask: Mask | None) -> Hits:
        """Through the graph with a beam, the wider the fewer rows a filter lets through."""
        beam = max(beam, k)
        if mask is not None:
            beam = math.ceil(beam * state.view.size / max(1, mask.count))
            if mask.count <= _SCORED * beam:
                return exact(state.view, queries, k, mask)
        if queries.ndim == 1:
            return self._one(state, queries, k, beam, mask)
        return pad([self._one(state, query, k, beam, mask) for query in queries], k)

    def _one(self, state: _Graph, query: Floats, k: int, beam: int, mask: Mask | None) -> Hits:
        view = state.view
        rows, scores = self._near(state, query, beam)
        if mask is not None:
            allowed = mask.penalty[rows] == 0
            rows, scores = rows[allowed], scores[allowed]
        if len(rows) < min(k, view.living if mask is None else mask.count):
            return exact(view, query, k, mask)  # what the filter lets through lies elsewhere
        top = best(scores, k)
        rows, scores = rows[top], scores[top]
        if state.lift is not None:
            scores = view.take(rows) @ query
            top = best(scores, k)  # of nearly equal ones rounding may have changed the order
            rows, scores = rows[top], scores[top]
        return Hits(view.ids[rows], scores)

    def _near(self, state: _Graph, query: Floats, beam: int, hidden: int = -1) -> tuple[NDArray[np.int32], Floats]:
        """Rows that a walk with a beam ends with, and how near they are."""
        point = query if state.lift is None else state.lift.queries(query)
        start = descend(state.levels, point, self._visited, hidden)
        return walk(state.levels[0], point, start, beam, self._visited, hidden)

    def _beam(self, state: _Graph, k: int, recall: float) -> int | None:
        """The least beam of this recall; stored vectors are asked as if they were not in the graph."""
        return self._beams.least(state.view, k, recall, lambda row, q, beam: self._near(state, q, beam, row)[0])

    def _start(self, view: View, links: NDArray[np.int32] | None = None) -> None:
        """Build everything, but for links that are given."""
        self._lift = None if self.metric == "cosine" else Lift.fit(view.block(0, view.size))
        self._fitted, self._held = view.size, 0
        self._vectors = np.empty((0, self.dim + (self._lift is not None)), np.float32)
        self._layers = Layers(self._points(view, 0), self.m, self.ef_construction)
        if links is None:
            self._layers.extend(self._points(view, view.size))
        else:
            self._layers.adopt(self._points(view, view.size), links)
        self._layers.remove(np.flatnonzero(view.penalty))
        self._publish(view)

    def _publish(self, view: View) -> None:
        self._state = _Graph(view, self._layers.now, self._lift)

    def _points(self, view: View, size: int) -> Floats:
        """The first points of the graph, of length one: the vectors themselves, or copies where they lie elsewhere."""
        if self._lift is None and view.base is None:
            return view.tail[:size]
        if self._held < size:
            self._vectors = grown(self._vectors, size)
            new = view.block(self._held, size)
            self._vectors[self._held : size] = new if self._lift is None else self._lift.rows(new)
            self._held = size
        return self._vectors[:size]
