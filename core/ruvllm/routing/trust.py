"""Feedback can be wrong: what its neighbours contradict counts little (edited nearest neighbours, Wilson 1972)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["trusted"]

_NEIGHBOURS = 10
_ENOUGH = 100  # texts below which neighbours are too far to contradict
_ALONE = 0.15  # a label with less of the neighbours' vote than this share of another's …
_SHARED = 0.5  # … which has at least this share of all, is doubted
_DOUBTED = np.float32(0.05)
_BLOCK = 1_024


def trusted(vectors: NDArray[np.float32], labels: NDArray[np.int64], agents: int) -> NDArray[np.float32]:
    """How much each labelled text should count: float32 (n,), 1 or nearly nothing.

    Args:
        vectors: float32 (n, dim), unit rows.
        labels: int64 (n,), each below `agents`.
    """
    n = len(vectors)
    out = np.ones(n, np.float32)
    for start in range(0, n if n >= _ENOUGH else 0, _BLOCK):
        cosines = vectors[start : start + _BLOCK] @ vectors.T
        rows = np.arange(len(cosines))
        cosines[rows, start + rows] = -1
        near = np.argpartition(-cosines, _NEIGHBOURS, axis=1)[:, :_NEIGHBOURS]
        weights = np.maximum(np.take_along_axis(cosines, near, 1), 0) ** 4  # the nearest say most
        cells = (rows[:, None] * np.int64(agents) + labels[near]).ravel()
        votes = np.bincount(cells, weights.ravel(), len(rows) * agents).reshape(len(rows), agents)
        own = votes[rows, labels[start : start + _BLOCK]]
        votes[rows, labels[start : start + _BLOCK]] = 0
        other = votes.max(1)
        out[start : start + _BLOCK][(own < _ALONE * other) & (other > _SHARED * weights.sum(1))] = _DOUBTED
    return out
