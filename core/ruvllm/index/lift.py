"""Largest inner product as nearest direction: one more coordinate brings all vectors to one length.

After Bachrach et al. 2014. Signs and lists see directions only; without this, dot products of vectors of
different lengths are found at random.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Lift"]

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Lift:
    """Adds the coordinate.

    Attributes:
        peak: the greatest length; a longer vector gets 0 for its coordinate.
    """

    peak: float

    @classmethod
    def fit(cls, vectors: Floats) -> Lift:
        """To the longest of float32 (n, dim)."""
        return cls(float(np.sqrt(np.einsum("ij,ij->i", vectors, vectors).max(initial=0))) or 1.0)

    def rows(self, vectors: Floats) -> Floats:
        """(n, dim) -> (n, dim + 1), of length one."""
        missing = self.peak**2 - np.einsum("ij,ij->i", vectors, vectors)
        lifted = np.concatenate([vectors, np.sqrt(np.maximum(missing, 0))[:, None]], axis=1)
        return np.asarray(lifted / self.peak, np.float32)

    def queries(self, queries: Floats) -> Floats:
        """(..., dim) -> (..., dim + 1), of length one."""
        lengths = np.maximum(np.linalg.norm(queries, axis=-1, keepdims=True), np.finfo(np.float32).tiny)
        return np.concatenate([queries / lengths, np.zeros_like(lengths)], axis=-1)
