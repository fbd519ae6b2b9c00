"""k-means on unit vectors by matrix products: scipy's loops are slow in a browser, a GEMM is not."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["assign", "kmeans"]

_BLOCK = 8_192

Vectors = NDArray[np.float32]


def kmeans(points: Vectors, k: int, *, rounds: int = 6, seed: int = 0, plus_plus: bool = False) -> Vectors:
    """float32 (k, dim) unit centroids of float32 (n, dim), n >= k (spherical k-means, Dhillon & Modha 2001).

    Args:
        rounds: of assigning and averaging.
        plus_plus: choose distant first centroids (Arthur & Vassilvitskii 2007): better for few clusters, slow for many.
    """
    random = np.random.default_rng(seed)
    if plus_plus:
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
    centroids = np.empty((k, points.shape[1]), np.float32)
    centroids[0] = points[random.integers(len(points))]
    distance = np.full(len(points), np.inf)
    for i in range(1, k):
        distance = np.minimum(distance, np.maximum(1.0 - points @ centroids[i - 1], 0.0))
        total = distance.sum()
        chosen = random.choice(len(points), p=distance / total) if total > 0 else random.integers(len(points))
        centroids[i] = points[chosen]
    return centroids
