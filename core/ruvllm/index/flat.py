"""Exact search: one matrix product."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ruvllm.index.protocol import Hits, checked_queries
from ruvllm.index.rows import Mask, Rows
from ruvllm.index.select import best, best_of_many

__all__ = ["FlatIndex", "exact"]

_BLOCK_CELLS = 4_000_000  # scores of one matrix product of a batch
_FEW = 512  # rows that are scored one by one rather than by scanning everything


class FlatIndex:
    """Scores every vector. Best below a few thousand, and the measure of all other indexes.

    Args:
        dim: width of the vectors.
        metric: "cosine" or "dot".
        rows: vectors to search, shared with another index.
    """

    kind = "flat"
    recall = 1.0

    def __init__(self, dim: int, metric: str = "cosine", *, rows: Rows | None = None) -> None:
        self.dim, self.metric = dim, metric
        self.rows = rows or Rows(dim, unit=metric == "cosine")

    def __len__(self) -> int:
        return len(self.rows)

    def add(self, ids: ArrayLike, vectors: ArrayLike) -> None:
        """Add or replace; see `Index.add`."""
        self.rows.add(ids, vectors)

    def remove(self, ids: ArrayLike) -> int:
        """Forget ids; see `Index.remove`."""
        fallen = self.rows.remove(ids)
        self.rows.squeeze()
        return len(fallen)

    def mask(self, ids: ArrayLike) -> Mask:
        """A filter; see `Index.mask`."""
        return self.rows.mask(ids)

    def search(
        self, queries: ArrayLike, k: int = 10, *, filter: Mask | ArrayLike | None = None, recall: float | None = None
    ) -> Hits:
        """The k nearest; see `Index.search`. Always exact."""
        asked = checked_queries(queries, self.dim, k, recall or 1.0, unit=self.rows.unit)
        return exact(self.rows, asked, k, self.rows.allowed(filter))

    def stats(self) -> dict[str, Any]:
        """Size and kind."""
        return {"kind": self.kind, "size": len(self), "recall": 1.0}


def exact(rows: Rows, queries: NDArray[np.float32], k: int, mask: Mask | None) -> Hits:
    """The k best by the true score, for one query or many."""
    if mask is not None and mask.count <= _FEW:
        return _among(rows, queries, k, mask.rows)
    if queries.ndim == 1:
        scores = rows.vectors @ queries
        if mask is not None:
            scores[mask.penalty != 0] = -np.inf
        top = best(scores, min(k, len(rows) if mask is None else mask.count))
        return Hits(rows.ids[top], scores[top])
    step = max(1, _BLOCK_CELLS // max(1, rows.size))
    parts = [_block(rows, queries[at : at + step], k, mask) for at in range(0, max(len(queries), 1), step)]
    return Hits(np.concatenate([part.ids for part in parts]), np.concatenate([part.scores for part in parts]))


def _block(rows: Rows, queries: NDArray[np.float32], k: int, mask: Mask | None) -> Hits:
    scores = queries @ rows.vectors.T
    if mask is not None:
        scores[:, mask.penalty != 0] = -np.inf
    top = best_of_many(scores, k)
    return _padded(rows.ids, top, np.take_along_axis(scores, top, 1), k)


def _among(rows: Rows, queries: NDArray[np.float32], k: int, chosen: NDArray[np.int64]) -> Hits:
    """Exact, among a few rows."""
    scores = queries @ rows.take(chosen).T
    ids = rows.ids[chosen]
    if queries.ndim == 1:
        top = best(scores, min(k, len(chosen)))
        return Hits(ids[top], scores[top])
    top = best_of_many(scores, k)
    return _padded(ids, top, np.take_along_axis(scores, top, 1), k)


def _padded(ids: NDArray[np.int64], top: NDArray[np.intp], scores: NDArray[np.float32], k: int) -> Hits:
    found = np.where(np.isneginf(scores), np.int64(-1), ids[top] if len(ids) else np.int64(-1))
    short = k - top.shape[1]
    if short > 0:
        found = np.pad(found, ((0, 0), (0, short)), constant_values=-1)
        scores = np.pad(scores, ((0, 0), (0, short)), constant_values=-np.inf)
    return Hits(found, scores)
