"""The index that suits its size: starts flat, grows into sign codes, then into lists, and keeps what proves faster.

A promotion is built beside the index in use, timed against it on stored vectors at the same recall, and
taken only if it earns more: reward 1 / (latency in ms + 1), FEATURES.md R17. Reads go on all the while.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ruvllm.index.binary import BinaryIndex
from ruvllm.index.flat import FlatIndex
from ruvllm.index.ivf import IvfIndex
from ruvllm.index.protocol import Hits, checked_recall
from ruvllm.index.rows import Mask, Rows

__all__ = ["AutoIndex"]

_TRIALS = 32
Native = FlatIndex | BinaryIndex | IvfIndex


@dataclass(frozen=True, slots=True)
class _Arm:
    """A kind of index, and the size from which it is worth a try."""

    kind: str
    least: int
    make: Callable[[int, str, float, Rows], Native]


_ARMS = (
    _Arm("flat", 0, lambda dim, metric, recall, rows: FlatIndex(dim, metric, rows=rows)),
    _Arm("binary", 1_500, lambda dim, metric, recall, rows: BinaryIndex(dim, metric, recall=recall, rows=rows)),
    _Arm("ivf", 50_000, lambda dim, metric, recall, rows: IvfIndex(dim, metric, recall=recall, rows=rows)),
)


class AutoIndex:
    """Chooses among flat, binary and ivf.

    Args:
        dim: width of the vectors.
        metric: "cosine" or "dot".
        recall: recall@k of a search that names none.
        rows: vectors to search from the start.
        index: one that was built or restored elsewhere, to go on with.
        background: runs a promotion, e.g. a thread's start on a native host; at once when None.
    """

    kind = "auto"

    def __init__(
        self,
        dim: int,
        metric: str = "cosine",
        *,
        recall: float = 0.95,
        rows: Rows | None = None,
        index: Native | None = None,
        background: Callable[[Callable[[], None]], Any] | None = None,
    ) -> None:
        self.dim, self.metric, self.recall = dim, metric, checked_recall(recall)
        self._background = background
        self._writing = threading.RLock()
        self._busy = False
        self._rewards: dict[str, float] = {}  # of the kinds tried at the last promotion
        self._tried = 0  # arms that were built or passed over
        if index is None:
            held = rows if rows is not None else Rows(dim, unit=metric == "cosine")  # one without rows is false
            index = _ARMS[0].make(dim, metric, recall, held)
        else:
            self._tried = next(i for i, arm in enumerate(_ARMS) if arm.kind == index.kind)
        self._index: Native = index
        self.promote()

    def __len__(self) -> int:
        return len(self._index)

    @property
    def index(self) -> Native:
        """The index in use."""
        return self._index

    @property
    def rows(self) -> Rows:
        """The vectors, whichever index searches them."""
        return self._index.rows

    def add(self, ids: ArrayLike, vectors: ArrayLike) -> None:
        """Add or replace; see `Index.add`."""
        with self._writing:
            self._index.add(ids, vectors)
        self.promote()

    def remove(self, ids: ArrayLike) -> int:
        """Forget ids; see `Index.remove`."""
        with self._writing:
            return self._index.remove(ids)

    def mask(self, ids: ArrayLike) -> Mask:
        """A filter; see `Index.mask`."""
        return self._index.mask(ids)

    def search(
        self, queries: ArrayLike, k: int = 10, *, filter: Mask | ArrayLike | None = None, recall: float | None = None
    ) -> Hits:
        """The k nearest; see `Index.search`."""
        return self._index.search(queries, k, filter=filter, recall=self.recall if recall is None else recall)

    def stats(self) -> dict[str, Any]:
        """What the index in use says, and what each kind that was timed last had earned."""
        return {**self._index.stats(), "rewards": dict(self._rewards)}

    def promote(self) -> None:
        """Build the next kind if the size calls for it."""
        with self._writing:
            due = self._due()
            if due <= self._tried or self._busy:
                return
            self._busy = True
        if self._background is None:
            self._try(due)
        else:
            self._background(lambda: self._try(due))

    def _due(self) -> int:
        return max(i for i, arm in enumerate(_ARMS) if len(self._index) >= arm.least)

    def _try(self, arm: int) -> None:
        try:
            with self._writing:  # adding waits for the build; searching does not
                rival = _ARMS[arm].make(self.dim, self.metric, self.recall, self.rows)
                before, after = self._milliseconds(self._index), self._milliseconds(rival)
                self._rewards = {self._index.kind: 1 / (before + 1), rival.kind: 1 / (after + 1)}
                if after < before:
                    self._index = rival
                self._tried = arm
        finally:
            self._busy = False

    def _milliseconds(self, index: Native) -> float:
        """Median time of a search for stored vectors."""
        step = max(1, self.rows.size // _TRIALS)
        queries = self.rows.take(np.arange(0, self.rows.size, step, dtype=np.int64)[:_TRIALS])
        index.search(queries[0], recall=self.recall)  # measures its own curve first
        return median(_timed(index, query, self.recall) for query in queries)


def _timed(index: Native, query: Any, recall: float) -> float:
    began = perf_counter()
    index.search(query, recall=recall)
    return (perf_counter() - began) * 1000
