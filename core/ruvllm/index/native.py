"""Compiled indexes behind the same protocol: usearch (`ruvllm[native]`) and hnswlib, where they are installed.

They bring the graph; ids, exact scores, masks and recalls are those of the other indexes. Neither can
filter in its scan at speed from Python: more is asked for and what is not allowed is left out.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from ruvllm.errors import InputError
from ruvllm.index.base import FEW, RowsIndex, State
from ruvllm.index.exact import exact, nearest
from ruvllm.index.protocol import Hits, pad
from ruvllm.index.recall import Beams, Lift
from ruvllm.index.rows import Mask, Rows, View

_BEAMS = (16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512)
_SAFETY = 0.5  # share of the misses allowed: a stored query stands in the graph, which makes it easier to answer
_WIDER = 1.5  # times as many as a filter should need
_REFIT = 2
_BLOCK = 16_384
_SLICE = 16  # rows taken in between two pauses

Floats = NDArray[np.float32]

_MANY = 20_000  # rows added at once that are worth all threads


class _Usearch:
    """A compiled graph over points of length one under row numbers, as `_Hnswlib`."""

    def __init__(self, module: Any, dim: int, m: int, ef_construction: int) -> None:
        self._index = module.Index(
            ndim=dim, metric="ip", dtype="f32", connectivity=m, expansion_add=ef_construction, multi=False
        )

    def add(self, rows: NDArray[np.int64], points: Floats) -> None:
        # With several threads each build is another graph, now and then a poor one: worth it only for many rows.
        self._index.add(rows.astype(np.uint64), points, threads=0 if len(rows) > _MANY else 1)

    def remove(self, rows: NDArray[np.int64]) -> None:
        self._index.remove(rows.astype(np.uint64))

    def near(self, point: Floats, k: int, beam: int) -> NDArray[np.int64]:
        self._index.expansion_search = beam
        return np.asarray(self._index.search(point, k).keys).astype(np.int64)


class _Hnswlib:
    def __init__(self, module: Any, dim: int, m: int, ef_construction: int) -> None:
        self._index, self._room, self._held = module.Index("ip", dim), 1_024, 0
        self._index.init_index(self._room, ef_construction=ef_construction, M=m)

    def add(self, rows: NDArray[np.int64], points: Floats) -> None:
        self._held += len(rows)
        if self._held > self._room:
            self._room = 2 * self._held
            self._index.resize_index(self._room)
        self._index.add_items(points, rows)

    def remove(self, rows: NDArray[np.int64]) -> None:
        for row in rows.tolist():
            self._index.mark_deleted(row)

    def near(self, point: Floats, k: int, beam: int) -> NDArray[np.int64]:
        self._index.set_ef(max(beam, k))
        try:
            return np.asarray(self._index.knn_query(point, k)[0][0]).astype(np.int64)
        except RuntimeError:  # it came upon fewer than k
            return np.empty(0, np.int64)


@dataclass(frozen=True)
class _Compiled(State):
    engine: _Usearch | _Hnswlib
    lift: Lift | None


class _NativeIndex(RowsIndex[_Compiled]):
    """What both have in common.

    Args:
        M: links of a node.
        ef_construction: candidates for the links of a node.

    Raises:
        InputError: the library is not installed.
    """

    module: str
    engine: type[_Usearch] | type[_Hnswlib]

    def __init__(
        self,
        dim: int,
        metric: str = "cosine",
        *,
        M: int = 16,  # noqa: N803, the paper's name
        ef_construction: int = 128,
        recall: float = 0.99,
        rows: Rows | None = None,
    ) -> None:
        self._prepare(dim, metric, M, ef_construction, recall, rows)
        self._start(self.rows.view)

    @classmethod
    def steps(cls, dim: int, metric: str = "cosine", *, recall: float = 0.99, rows: Rows) -> Iterator[Self | None]:
        """One over these rows, built a slice at a time: None after each, and at last the index."""
        new = cls.__new__(cls)
        new._prepare(dim, metric, 16, 128, recall, rows)
        view = rows.view
        new._begin(view)
        for start in range(0, view.size, _SLICE):
            new._fill(new._state, view, start, min(start + _SLICE, view.size))
            yield None
        new.sync()
        yield new

    def _prepare(self, dim: int, metric: str, m: int, ef_construction: int, recall: float, rows: Rows | None) -> None:
        super().__init__(dim, metric, recall, rows)
        try:
            self._library = importlib.import_module(self.module)
        except ImportError as error:
            package = self.module.partition(".")[0]
            fix = f"pip install {package}, or use HnswIndex, which needs numpy alone"
            raise InputError(f"{package} is not installed", field="index", fix=fix) from error
        self.m, self.ef_construction = m, ef_construction
        self._beams = Beams(_BEAMS)

    def sync(self) -> None:
        """Take up what was changed in the rows."""
        with self.rows.lock:
            view, state = self.rows.view, self._state
            old = state.view
            if view is old:
                return
            longer = state.lift is not None and view.size > _REFIT * self._fitted
            if view.epoch != old.epoch or longer:
                self._start(view)
                return
            fallen = np.flatnonzero(view.penalty[: old.size] > old.penalty)
            if len(fallen):
                state.engine.remove(fallen)
            self._fill(state, view, old.size, view.size)
            self._state = _Compiled(view, state.engine, state.lift)

    def stats(self) -> dict[str, Any]:
        beam = self._beams.measured(10, self._aim(self.recall))
        return {"kind": self.kind, "size": len(self), "recall": self.recall, "ef": beam}

    def _start(self, view: View) -> None:
        self._begin(view)
        self._fill(self._state, view, 0, view.size)

    def _begin(self, view: View) -> None:
        lift = None if self.metric == "cosine" else Lift.fit(view.block(0, view.size))
        self._fitted = view.size
        self._state = _Compiled(
            view, self.engine(self._library, self.dim + (lift is not None), self.m, self.ef_construction), lift
        )

    def _fill(self, state: _Compiled, view: View, start: int, stop: int) -> None:
        """Give the engine the living rows from `start` to before `stop`."""
        for at in range(start, stop, _BLOCK):
            rows = np.arange(at, min(at + _BLOCK, stop))
            rows = rows[view.penalty[rows] == 0]
            points = view.take(rows)
            if len(rows):
                state.engine.add(rows, points if state.lift is None else state.lift.rows(points))

    def _exactly(self, state: _Compiled, found: int, k: int, recall: float) -> bool:
        return found <= max(FEW, k) or recall >= 1

    def _find(self, state: _Compiled, queries: Floats, k: int, recall: float, mask: Mask | None) -> Hits:
        beam = self._beam(state, k, recall)
        found = state.view.living if mask is None else mask.count
        wider = k if found == state.view.living else math.ceil(_WIDER * k * state.view.living / found)
        if beam is None or wider > _BEAMS[-1]:
            return exact(state.view, queries, k, mask)
        if queries.ndim == 1:
            return self._one(state, queries, k, wider, beam, mask)
        return pad([self._one(state, query, k, wider, beam, mask) for query in queries], k)

    def _one(self, state: _Compiled, query: Floats, k: int, wider: int, beam: int, mask: Mask | None) -> Hits:
        view = state.view
        rows = self._near(state, query, wider, max(beam, wider + beam if wider > k else 0))
        rows = rows[rows < view.size]
        if mask is not None:
            rows = rows[mask.penalty[rows] == 0]
        if len(rows) < min(k, view.living if mask is None else mask.count):
            return exact(view, query, k, mask)
        return nearest(view, rows, query, k)

    def _near(self, state: _Compiled, query: Floats, k: int, beam: int) -> NDArray[np.int64]:
        point = query if state.lift is None else state.lift.queries(query)
        with self.rows.lock:  # neither library lets others read while it is written to
            return state.engine.near(point, k, beam)

    def _beam(self, state: _Compiled, k: int, recall: float) -> int | None:
        """The least beam of this recall, measured on stored vectors; None: none is."""
        aim = self._aim(recall)
        return self._beams.least(state.view, k, aim, lambda _, query, beam: self._near(state, query, k + 1, beam))

    @staticmethod
    def _aim(recall: float) -> float:
        return 1 - _SAFETY * (1 - recall)


class UsearchIndex(_NativeIndex):
    """usearch's HNSW; arguments as of `HnswIndex`."""

    kind, module, engine = "usearch", "usearch.index", _Usearch


class HnswlibIndex(_NativeIndex):
    """hnswlib's HNSW; arguments as of `HnswIndex`."""

    kind, module, engine = "hnswlib", "hnswlib", _Hnswlib


COMPILED: dict[str, type[UsearchIndex] | type[HnswlibIndex]] = {"usearch": UsearchIndex, "hnswlib": HnswlibIndex}
