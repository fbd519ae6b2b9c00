"""Batches of queries: one matrix product over leading principal components, then an exact rerank of the nearest.

The first third of the components tells nearly as much of an inner product as all of them, at a third of
the cost; unlike sign codes it is a matrix product, of which many queries at a time are cheaper than one.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from ruvllm.index.exact import exact
from ruvllm.index.protocol import Hits
from ruvllm.index.recall import Margins, neighbours_of
from ruvllm.index.rows import grown
from ruvllm.index.select import best
from ruvllm.index.view import Mask, View

__all__ = ["Prefix"]

_LEAST_WIDTH = 128
_SHARE = 3  # one in so many components is kept
_SAMPLE = 20_000
_GROUPS = 32
_LOOSE = 16  # groups for each of the k nearest
_CELLS = 4_000_000  # estimates of one matrix product
_MANY = 0.15  # share of the rows from which scoring all is cheaper than picking candidates

Floats = NDArray[np.float32]


class Prefix:
    """Leading components of the rows of one epoch.

    Args:
        view: rows to learn the components of.
    """

    def __init__(self, view: View) -> None:
        self.epoch, self.fitted = view.epoch, view.size
        step = max(1, view.size // _SAMPLE)
        sample = view.take(np.arange(0, view.size, step))
        centred = sample - sample.mean(0, dtype=np.float32)
        _, components = np.linalg.eigh(centred.T @ centred)
        width = max(_LEAST_WIDTH, centred.shape[1] // _SHARE)
        self._matrix = np.ascontiguousarray(components[:, ::-1][:, :width], np.float32)  # (dim, width)
        self._short = np.empty((0, self._matrix.shape[1]), np.float32)
        self._size = 0
        self.extend(view)
        self._margins = self._measured(view)

    def extend(self, view: View) -> None:
        """Take in the rows that came since; one writer at a time."""
        if self._size < view.size:
            self._short = grown(self._short, view.size)
            self._short[self._size : view.size] = view.block(self._size, view.size) @ self._matrix
            self._size = view.size

    def search(self, view: View, queries: Floats, k: int, recall: float, mask: Mask | None) -> list[Hits]:
        """The k nearest to each of (queries, dim), k being no more than may be found."""
        margin = self._margins.margin(k, recall)
        found = list[Hits]()
        for block, estimates in self._estimates(view, queries, mask):
            slack = np.linalg.norm(block, axis=1) * np.float32(margin)
            floors = _kth(estimates, k) - slack
            found += [_one(view, *of, k, mask) for of in zip(block, estimates, floors, strict=True)]
        return found

    def _estimates(self, view: View, queries: Floats, mask: Mask | None) -> Iterator[tuple[Floats, Floats]]:
        """Some queries and the estimates (queries, rows) of their scores, -inf for masked rows."""
        short, step = self._short[: view.size], max(1, _CELLS // view.size)
        for start in range(0, len(queries), step):
            block = queries[start : start + step]
            estimates = np.asarray((block @ self._matrix) @ short.T, np.float32)
            if mask is not None:
                estimates += mask.endless
            yield block, estimates

    def _measured(self, view: View) -> Margins:
        """How far below the k-th best estimate those of true neighbours are, for queries of length one."""
        sample = neighbours_of(view)
        depth = sample.neighbours.shape[1]
        lengths = np.linalg.norm(sample.queries, axis=1, keepdims=True)
        firsts, own, done = [], [], 0
        for block, estimates in self._estimates(view, sample.queries, view.allowed(None)):
            part = slice(done, done + len(block))
            own.append(-np.take_along_axis(estimates, sample.neighbours[part], 1) / lengths[part])
            estimates[np.arange(len(block)), sample.rows[part]] = -np.inf
            top = -np.partition(estimates, view.size - depth, axis=1)[:, view.size - depth :] / lengths[part]
            firsts.append(np.sort(top, axis=1))
            done = part.stop
        return Margins(np.concatenate(firsts), np.concatenate(own), view.size)


def _kth(estimates: Floats, k: int) -> Floats:
    """The k-th best of each row of (queries, n), or a little less, by maxima of groups."""
    n = estimates.shape[1]
    groups = min(n // (_LOOSE * k), _GROUPS)
    if groups >= 2:
        columns = n // groups
        peaks = estimates[:, : columns * groups].reshape(len(estimates), groups, columns).max(1)
        floors = np.partition(peaks, columns - k, axis=1)[:, columns - k]
        if np.isfinite(floors).all():
            return floors
    return np.asarray(np.partition(estimates, n - k, axis=1)[:, n - k])


def _one(view: View, query: Floats, estimates: Floats, floor: np.float32, k: int, mask: Mask | None) -> Hits:
    rows = np.flatnonzero(estimates >= floor)
    if len(rows) > _MANY * view.size:
        return exact(view, query, k, mask)
    scores = view.take(rows) @ query
    top = best(scores, k)
    return Hits(view.ids[rows[top]], scores[top])
