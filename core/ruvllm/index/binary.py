"""Sign codes scanned whole, then the nearest few scored exactly: the everyday index.

At 10,000 vectors as fast as a compiled HNSW, built a thousand times faster; adding and deleting cost
next to nothing.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ruvllm.index.flat import exact
from ruvllm.index.protocol import Hits, checked_queries, pad
from ruvllm.index.recall import RankCurve, neighbours_of
from ruvllm.index.rows import Mask, Rows
from ruvllm.index.select import best, near
from ruvllm.index.signs import Scratch, SignCodes, hamming

__all__ = ["BinaryIndex"]

_FEW = 512  # allowed rows that are scored one by one
_EXACT = 1_000  # rows up to which scanning the vectors themselves is as fast
_REFIT = 2  # the mean and the curve are taken again when there are so many times as many rows


class BinaryIndex:
    """Hamming distance over columns of sign codes, exact rerank of the nearest.

    Args:
        dim: width of the vectors.
        metric: "cosine" or "dot".
        recall: recall@k of a search that names none.
        rows: vectors to search, shared with another index.
    """

    kind = "binary"

    def __init__(self, dim: int, metric: str = "cosine", *, recall: float = 0.99, rows: Rows | None = None) -> None:
        self.dim, self.metric, self.recall = dim, metric, recall
        self.rows = rows or Rows(dim, unit=metric == "cosine")
        self._codes = SignCodes(dim, centred=metric == "cosine")
        self._curve: RankCurve | None = None
        self._scratch = Scratch()
        self._encode()

    def __len__(self) -> int:
        return len(self.rows)

    def add(self, ids: ArrayLike, vectors: ArrayLike) -> None:
        """Add or replace; see `Index.add`."""
        self.rows.add(ids, vectors)
        self._encode()

    def remove(self, ids: ArrayLike) -> int:
        """Forget ids; see `Index.remove`."""
        fallen = self.rows.remove(ids)
        if self.rows.squeeze():
            self._codes.fitted = 0
            self._encode()
        return len(fallen)

    def mask(self, ids: ArrayLike) -> Mask:
        """A filter; see `Index.mask`."""
        return self.rows.mask(ids)

    def search(
        self, queries: ArrayLike, k: int = 10, *, filter: Mask | ArrayLike | None = None, recall: float | None = None
    ) -> Hits:
        """The k nearest; see `Index.search`."""
        wanted = self.recall if recall is None else recall
        asked = checked_queries(queries, self.dim, k, wanted, unit=self.rows.unit)
        mask = self.rows.allowed(filter)
        few = len(self.rows) if mask is None else mask.count
        if self.rows.size <= _EXACT or few <= max(_FEW, k) or wanted >= 1:
            return exact(self.rows, asked, k, mask)
        reach = self.curve.reach(k, wanted)
        if asked.ndim == 1:
            return self._one(asked, k, reach, mask)
        return pad([self._one(query, k, reach, mask) for query in asked], k)

    @property
    def curve(self) -> RankCurve:
        """How many candidates a recall takes, measured when first asked and when the index has doubled."""
        if self._curve is None or self.rows.size > _REFIT * self._curve.size:
            self._curve = self._measure()
        return self._curve

    def stats(self) -> dict[str, Any]:
        """Size, kind and what a search looks at."""
        looked = None if self._curve is None else self._curve.reach(10, self.recall)
        return {"kind": self.kind, "size": len(self), "recall": self.recall, "candidates": looked}

    def _one(self, query: NDArray[np.float32], k: int, reach: int, mask: Mask | None) -> Hits:
        distances = hamming(self._codes.columns, self._codes.encode(query), self._scratch)
        if mask is not None:
            np.maximum(distances, mask.wide, out=distances)
        rows = near(distances, reach)
        scores = self.rows.take(rows) @ query
        if mask is not None:
            scores[mask.penalty[rows] != 0] = -np.inf
        top = best(scores, min(k, len(self.rows) if mask is None else mask.count))
        return Hits(self.rows.ids[rows[top]], scores[top])

    def _encode(self) -> None:
        """Bring the codes up to the rows."""
        rows, codes = self.rows, self._codes
        if rows.size > _REFIT * codes.fitted:
            codes.fit(rows.block(0, rows.size))
        if codes.size < rows.size:
            codes.append(rows.block(codes.size, rows.size))

    def _measure(self) -> RankCurve:
        sample = neighbours_of(self.rows)
        ranks = np.empty(sample.neighbours.shape, np.int64)
        for row, query, found, out in zip(sample.rows, sample.queries, sample.neighbours, ranks, strict=True):
            distances = hamming(self._codes.columns, self._codes.encode(query), self._scratch)
            np.maximum(distances, self.rows.penalty.astype(np.uint16) << np.uint16(8), out=distances)
            distances[row] = np.iinfo(np.uint16).max
            counts = np.bincount(distances, minlength=1).cumsum()
            out[:] = counts[distances[found]]
        return RankCurve(ranks, self.rows.size)
