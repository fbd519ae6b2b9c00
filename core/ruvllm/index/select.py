"""Picking the best of many scores without sorting them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

_GROUPS = 32
_LOOSE = 16  # groups for each of the smallest: one in 30 of these then shares its group
_SMALL = 1024  # below this a plain partition is fastest


def best(scores: NDArray[np.float32], k: int) -> NDArray[np.intp]:
    """Positions of the k highest of (n,) scores, best first."""
    n = len(scores)
    if n > max(_SMALL, _GROUPS * k):
        # The k best lie among the k groups whose maxima are highest.
        columns = n // _GROUPS
        peaks = scores[: columns * _GROUPS].reshape(_GROUPS, columns).max(0)
        chosen = peaks.argpartition(columns - k)[columns - k :]
        inside = (chosen + np.arange(_GROUPS, dtype=np.intp)[:, None] * columns).ravel()
        if columns * _GROUPS < n:
            inside = np.concatenate([inside, np.arange(columns * _GROUPS, n, dtype=np.intp)])
        top: NDArray[np.intp] = inside[_plain(scores[inside], k)]
        return top
    return _plain(scores, k)


def _plain(scores: NDArray[np.float32], k: int) -> NDArray[np.intp]:
    n = len(scores)
    if k >= n:
        return (-scores).argsort(kind="stable")
    top = scores.argpartition(n - k)[n - k :]
    return top.take((-scores.take(top)).argsort(kind="stable"))


def best_of_many(scores: NDArray[np.float32], k: int) -> NDArray[np.intp]:
    """`best` of each row of (queries, n): (queries, min(k, n))."""
    queries, n = scores.shape
    columns = n // _GROUPS
    if columns <= max(k, _GROUPS):
        return _plain_rows(scores, k)
    peaks = scores[:, : columns * _GROUPS].reshape(queries, _GROUPS, columns).max(1)
    chosen = peaks.argpartition(columns - k, axis=1)[:, columns - k :]  # (queries, k)
    steps = np.arange(_GROUPS, dtype=np.intp) * columns
    inside = (chosen[:, None, :] + steps[None, :, None]).reshape(queries, _GROUPS * k)
    if columns * _GROUPS < n:
        rest = np.broadcast_to(np.arange(columns * _GROUPS, n, dtype=np.intp), (queries, n - columns * _GROUPS))
        inside = np.concatenate([inside, rest], axis=1)
    picked = _plain_rows(np.take_along_axis(scores, inside, 1), k)
    return np.take_along_axis(inside, picked, 1)


def _plain_rows(scores: NDArray[np.float32], k: int) -> NDArray[np.intp]:
    n = scores.shape[1]
    if k >= n:
        return (-scores).argsort(axis=1, kind="stable")
    top = scores.argpartition(n - k, axis=1)[:, n - k :]
    order = (-np.take_along_axis(scores, top, 1)).argsort(axis=1, kind="stable")
    return np.take_along_axis(top, order, 1)


def kth(distances: NDArray[Any], k: int, beyond: float = np.inf) -> Any:
    """The k-th smallest of (n,) distances, or a little more; never less.

    It is the k-th smallest of the minima of groups: a little too high where two of the smallest share a
    group, and much cheaper than a partition of everything.

    Args:
        beyond: distances from here on are of masked rows; if groups hold nothing else, all is partitioned.
    """
    n = len(distances)
    groups = min(n // (_LOOSE * k), _GROUPS)
    if groups >= 2:
        columns = n // groups
        lowest = distances[: columns * groups].reshape(groups, columns).min(0)
        found = np.partition(lowest, k - 1)[k - 1]
        if found < beyond:
            return found
    return np.partition(distances, k - 1)[k - 1]
