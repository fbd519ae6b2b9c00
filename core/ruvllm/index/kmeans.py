"""k-means on unit vectors by matrix products: scipy's loops are slow in a browser, a GEMM is not."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_BLOCK = 8_192
_DRAWS = 4  # of which the best becomes the next centroid
_SAMPLED, _LEAST_SAMPLED = 8, 256  # points a centroid that k-means++ draws from, and points in all

Vectors = NDArray[np.float32]


def kmeans(
    points: Vectors, k: int, *, rounds: int = 6, seed: int = 0, plus_plus: bool = False, start: Vectors | None = None
) -> Vectors:
    """float32 (k, dim) unit centroids of float32 (n, dim), n >= k (spherical k-means, Dhillon & Modha 2001).

    Args:
        rounds: of assigning and averaging.
        plus_plus: choose distant first centroids (greedy k-means++, Arthur & Vassilvitskii 2007): tighter clusters
            for the time of some two rounds.
        start: (k, dim) first centroids, such as an earlier call's.
    """
    random = np.random.default_rng(seed)
    if start is not None:
        centroids = start.copy()
    elif plus_plus:
        centroids = _distant(points, k, random)
    else:
        centroids = points[random.choice(len(points), k, replace=False)].copy()
    for _ in range(rounds):
        nearest = assign(points, centroids)
        order = nearest.argsort(kind="stable")
        counts = np.bincount(nearest, minlength=k)
        starts = np.concatenate([[0], counts.cumsum()[:-1]]).astype(np.intp)
        full = counts > 0
        centroids[full] = np.add.reduceat(points[order], starts[full], axis=0)
        empty = int(k - full.sum())
        if empty:
            centroids[~full] = points[random.choice(len(points), empty, replace=False)]
        centroids /= np.maximum(np.linalg.norm(centroids, axis=1, keepdims=True), 1e-12)
    return centroids


def assign(points: Vectors, centroids: Vectors) -> NDArray[np.intp]:
    """(n,) the nearest centroid of each point by inner product."""
    out = np.empty(len(points), np.intp)
    for start in range(0, len(points), _BLOCK):
        block = points[start : start + _BLOCK]
        (block @ centroids.T).argmax(1, out=out[start : start + len(block)])
    return out


def _distant(points: Vectors, k: int, random: np.random.Generator) -> Vectors:
    """First centroids (k, dim), each the best of a few draws by squared distance, from a sample that fits the cache."""
    size = min(len(points), max(_SAMPLED * k, _LEAST_SAMPLED))
    sample = points[random.choice(len(points), size, replace=False)]
    chosen = np.empty(k, np.intp)
    chosen[0] = random.integers(size)
    distance = np.maximum(1 - sample @ sample[chosen[0]], 0)  # half the squared one, of unit vectors
    for i in range(1, k):
        ends = distance.cumsum(dtype=np.float64)
        if ends[-1] > 0:
            draws = np.minimum(ends.searchsorted(random.random(_DRAWS) * ends[-1], side="right"), size - 1)
        else:
            draws = random.integers(size, size=_DRAWS)
        left = np.minimum(np.maximum(1 - sample[draws] @ sample.T, 0), distance)  # (draws, size)
        best = int(left.sum(1).argmin())
        chosen[i], distance = draws[best], left[best]
    return sample[chosen]
