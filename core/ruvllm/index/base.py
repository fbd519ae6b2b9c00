"""What the indexes share: rows that change under a lock, and a state that readers take as a whole."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ruvllm.errors import InputError
from ruvllm.index.exact import exact
from ruvllm.index.protocol import METRICS, Hits, checked_queries, checked_recall
from ruvllm.index.rows import Mask, Rows, View

WAITING = 64  # rows that may wait to be encoded together, until somebody searches
FEW = 512  # rows that are scored one by one rather than by walking or scanning


@dataclass(frozen=True)
class State:
    """What one search works on. Subclasses add what they built for exactly these rows."""

    view: View


S = TypeVar("S", bound=State)


class RowsIndex(ABC, Generic[S]):
    """An index over `Rows`.

    Writers hold the rows' lock and replace the state when they are done; a search takes it once, so
    that it never sees half a change.

    Args:
        recall: recall@k of a search that names none.
        rows: vectors to search, shared with another index.
    """

    kind: str
    _state: S
    _waits = 0  # rows that `sync` may wait for

    def __init__(self, dim: int, metric: str, recall: float, rows: Rows | None) -> None:
        if metric not in METRICS:
            raise InputError(f"metric is {metric!r}", field="metric", fix=f"choose one of {', '.join(METRICS)}")
        if rows is not None and (rows.dim, rows.unit) != (dim, metric == "cosine"):
            raise InputError("the rows are of another width or metric", field="rows", fix="share rows of one kind")
        self.dim, self.metric, self.recall = dim, metric, checked_recall(recall)
        self.rows = rows if rows is not None else Rows(dim, unit=metric == "cosine")

    def __len__(self) -> int:
        return len(self.rows)

    def add(self, ids: ArrayLike, vectors: ArrayLike) -> None:
        """Add vectors, float32 (n, dim) under int64 (n,) ids; an id that is there is replaced.

        Raises:
            InputError: shapes that do not fit, an id twice, a vector that is not finite (or is zero, for cosine).
        """
        with self.rows.lock:
            _, stop = self.rows.add(ids, vectors)
            if stop - self._state.view.size > self._waits:
                self.sync()

    def remove(self, ids: ArrayLike) -> int:
        """Forget these ids; returns how many there were. Unknown ones are passed over."""
        with self.rows.lock:
            fallen = self.rows.remove(ids)
            if len(fallen):
                self.rows.squeeze()
                self.sync()
        return len(fallen)

    def mask(self, ids: ArrayLike) -> Mask:
        """A filter that lets these ids through, ready for many searches; a change of the index outdates it."""
        return self.rows.mask(ids)

    def search(
        self, queries: ArrayLike, k: int = 10, *, filter: Mask | ArrayLike | None = None, recall: float | None = None
    ) -> Hits:
        """The k nearest to each of float32 (dim,) or (queries, dim).

        Args:
            filter: ids that may be found, or a `mask` of them.
            recall: the share of the true k nearest to be found on average, 0 < recall <= 1; None for the index's.

        Raises:
            InputError: a query of another width or not finite, k below 1, a recall out of range, an outdated mask.
        """
        wanted = self.recall if recall is None else recall
        prepared = checked_queries(queries, self.dim, k, wanted, unit=self.rows.unit)
        state, mask = self._now(filter)
        found = state.view.living if mask is None else mask.count
        if self._exactly(state, found, k, wanted):
            return exact(state.view, prepared, k, mask)
        return self._find(state, prepared, k, wanted, mask)

    @abstractmethod
    def sync(self) -> None:
        """Take up what was changed in the rows, by this index or by another that shares them."""

    @abstractmethod
    def stats(self) -> dict[str, Any]:
        """Size, kind and what a search looks at."""

    @abstractmethod
    def _exactly(self, state: S, found: int, k: int, recall: float) -> bool:
        """Whether scoring every row that may be found is the best way; `found` is how many these are."""

    @abstractmethod
    def _find(self, state: S, queries: NDArray[np.float32], k: int, recall: float, mask: Mask | None) -> Hits:
        """The k nearest to checked queries, (dim,) or (n, dim)."""

    def _now(self, filter: Mask | ArrayLike | None) -> tuple[S, Mask | None]:
        if filter is None or isinstance(filter, Mask):
            if self._state.view is not self.rows.view and self._waits:
                self.sync()
            state, mask = self._state, filter
        else:
            with self.rows.lock:  # ids are looked up in the newest rows
                if self._state.view is not self.rows.view:
                    self.sync()
                state, mask = self._state, self.rows.mask(filter)
        return state, state.view.allowed(mask)
