"""Feedback can be wrong: what its neighbours contradict counts little (edited nearest neighbours, Wilson 1972)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ruvllm.encoders.protocol import Pause, no_pause

__all__ = ["trusted"]

_NEIGHBOURS = 10
_ENOUGH = 100  # texts below which neighbours are too far to contradict
_ALONE = 0.15  # a label with less of the neighbours' vote than this share of another's …
_SHARED = 0.5  # … which has at least this share of all, is doubted
_DOUBTED = np.float32(0.05)
_CELLS = 1 << 21  # cosines at a time


async def trusted(
    vectors: NDArray[np.float32],
    labels: NDArray[np.int64],
    agents: int,
    *,
    first: int = 0,
    pause: Pause = no_pause,
) -> NDArray[np.float32]:
    """How much labelled texts should count: float32 (n - first,), 1 or nearly nothing.

    Args:
        vectors: float32 (n, dim), unit rows.
        labels: int64 (n,), each below `agents`.
        first: the texts before this one are neighbours only.
        pause: awaited between slices of the work.
    """
    n = len(vectors)
    out = np.ones(n - first, np.float32)
    step = max(1, _CELLS // max(n, 1))
    for start in range(first, n if n >= _ENOUGH else first, step):
        stop = min(start + step, n)
        cosines = vectors[start:stop] @ vectors.T
        rows, own_labels = np.arange(stop - start), labels[start:stop]
        cosines[rows, start + rows] = -1
        near = np.argpartition(-cosines, _NEIGHBOURS, axis=1)[:, :_NEIGHBOURS]
        weights = np.maximum(np.take_along_axis(cosines, near, 1), 0) ** 4  # the nearest say most
        cells = (rows[:, None] * np.int64(agents) + labels[near]).ravel()
        votes = np.bincount(cells, weights.ravel(), len(rows) * agents).reshape(len(rows), agents)
        own = votes[rows, own_labels]
        votes[rows, own_labels] = 0
        other = votes.max(1)
        doubted = (own < _ALONE * other) & (other > _SHARED * weights.sum(1))
        out[start - first : stop - first][doubted] = _DOUBTED
        await pause()
    return out
