"""Exact scores: one matrix product, among all rows or a few."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ruvllm.index.protocol import Hits
from ruvllm.index.rows import Mask, View
from ruvllm.index.select import best, best_of_many

_BLOCK_CELLS = 4_000_000  # scores of one matrix product of a batch
_BLOCK_ROWS = 65_536  # of a base read at a time
_FEW, _FRACTION = 512, 0.05  # rows, or share of the rows, gathered rather than scored with all the others

Floats = NDArray[np.float32]


def exact(view: View, queries: Floats, k: int, mask: Mask | None) -> Hits:
    """The k best by the true score, for one query or many."""
    if queries.ndim == 1:
        return _one(view, queries, k, mask)
    step = max(1, _BLOCK_CELLS // max(1, view.size))
    parts = [_many(view, queries[at : at + step], k, mask) for at in range(0, max(len(queries), 1), step)]
    return Hits(np.concatenate([part.ids for part in parts]), np.concatenate([part.scores for part in parts]))


def nearest(view: View, rows: NDArray[np.int64], query: Floats, k: int) -> Hits:
    """The k best of some rows by the true score; a base that can tell which of its rows are these is left to it."""
    of_base = getattr(view.base, "nearest", None)
    if view.base is None or of_base is None:
        return _of(view, rows, view.take(rows) @ query, k)
    below = len(view.base)
    above = rows[rows >= below]
    found, scores = of_base(rows[rows < below], query, k)
    if len(above):
        found, scores = np.concatenate([found, above]), np.concatenate([scores, view.take(above) @ query])
    return _of(view, found, scores, k)


def _of(view: View, rows: NDArray[np.int64], scores: Floats, k: int) -> Hits:
    top = best(scores, k)
    return Hits(view.ids[rows[top]], scores[top])


def _one(view: View, query: Floats, k: int, mask: Mask | None) -> Hits:
    if mask is not None and _few(mask):
        return _of(view, mask.rows, view.take(mask.rows) @ query, k)
    scores = _scores(view, query)
    if mask is not None:
        scores += mask.endless
    top = best(scores, min(k, view.size if mask is None else mask.count))
    return Hits(view.ids.take(top), scores.take(top))


def _many(view: View, queries: Floats, k: int, mask: Mask | None) -> Hits:
    if mask is not None and _few(mask):
        scores, ids = queries @ view.take(mask.rows).T, view.ids[mask.rows]
    else:
        scores, ids = _scores(view, queries), view.ids
        if mask is not None:
            scores += mask.endless
    top = best_of_many(scores, k)
    return _padded(ids, top, np.take_along_axis(scores, top, 1), k)


def _scores(view: View, queries: Floats) -> Floats:
    """(size,) or (queries, size); of a base a part at a time, so that it is never read whole."""
    step = view.size if view.base is None else _BLOCK_ROWS
    starts = range(0, max(view.size, 1), max(step, 1))
    parts = [_product(view.block(at, min(at + step, view.size)), queries) for at in starts]
    return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=-1)


def _product(vectors: Floats, queries: Floats) -> Floats:
    return np.asarray(vectors.dot(queries) if queries.ndim == 1 else queries @ vectors.T)


def _few(mask: Mask) -> bool:
    return mask.count <= max(_FEW, _FRACTION * len(mask.penalty))


def _padded(ids: NDArray[np.int64], top: NDArray[np.intp], scores: Floats, k: int) -> Hits:
    found = np.full((len(top), k), -1, np.int64)
    best_scores = np.full((len(top), k), -np.inf, np.float32)
    width = top.shape[1]
    if width:
        best_scores[:, :width] = scores
        found[:, :width] = np.where(np.isneginf(scores), np.int64(-1), ids[top])
    return Hits(found, best_scores)
