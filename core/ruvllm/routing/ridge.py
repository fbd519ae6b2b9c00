"""Ridge regression from moments: sums over rows that can be taken apart, so that folds and penalties come cheaply."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Moments", "held_out", "solve"]

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Moments:
    """Sums over rows x (n, d) with targets y (n, k).

    Attributes:
        count: n.
        x, y: float64 (d,) and (k,), sums.
        xx, xy: float64 (d, d) and (d, k), sums of products.
    """

    count: int
    x: Doubles
    y: Doubles
    xx: Doubles
    xy: Doubles

    @classmethod
    def of(cls, x: Floats, y: Floats) -> Moments:
        """Of all rows."""
        xx, xy = (x.T @ x).astype(np.float64), (x.T @ y).astype(np.float64)
        return cls(len(x), x.sum(0, dtype=np.float64), y.sum(0, dtype=np.float64), xx, xy)

    def without(self, other: Moments) -> Moments:
        """Of the rows that the other has not."""
        return Moments(
            self.count - other.count, self.x - other.x, self.y - other.y, self.xx - other.xx, self.xy - other.xy
        )


def solve(moments: Moments, penalties: Sequence[float]) -> tuple[Floats, Floats]:
    """(weights (d, k), bias (k,)) of least squares with an L2 penalty for each target; none on the bias."""
    mean_x, mean_y = moments.x / moments.count, moments.y / moments.count
    xx = moments.xx - moments.count * np.outer(mean_x, mean_x)
    xy = moments.xy - moments.count * np.outer(mean_x, mean_y)
    weights = np.empty_like(xy)
    for penalty in set(penalties):
        columns = [i for i, one in enumerate(penalties) if one == penalty]
        weights[:, columns] = np.linalg.solve(xx + penalty * np.eye(len(xx)), xy[:, columns])
    return weights.astype(np.float32), (mean_y - mean_x @ weights).astype(np.float32)


def held_out(
    x: Floats, y: Floats, fold: NDArray[np.int64], groups: NDArray[np.int64], candidates: Sequence[float]
) -> tuple[Floats, list[float]]:
    """(predictions (n, k) of each row by a fit without its fold, the penalty chosen for each target).

    Args:
        fold: (n,) which fold each row is in.
        groups: (k,) targets of one group share a penalty.
        candidates: penalties, of which the one with the least squared error on the held-out rows is taken.
    """
    parts = {int(number): fold == number for number in np.unique(fold)}
    sums = {number: Moments.of(x[rows], y[rows]) for number, rows in parts.items()}
    total = Moments.of(x, y)
    # Taking one sum from another leaves rounding errors of the larger, which the penalties dwarf.
    rest = {number: total.without(part) for number, part in sums.items()}
    found = np.empty((len(candidates), *y.shape), np.float32)
    for i, penalty in enumerate(candidates):
        for number, rows in parts.items():
            weights, bias = solve(rest[number], [penalty] * y.shape[1])
            found[i, rows] = x[rows] @ weights + bias
    errors = ((found - y) ** 2).mean(1, dtype=np.float64)  # (candidates, k)
    best = np.empty(y.shape[1], np.int64)
    for group in np.unique(groups):
        best[groups == group] = errors[:, groups == group].sum(1).argmin()
    chosen = np.stack([found[i, :, column] for column, i in enumerate(best.tolist())], 1)
    return chosen, [candidates[int(i)] for i in best]
