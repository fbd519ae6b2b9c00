"""When the tasks themselves change: a shift of the mean of their vectors, by a cumulative sum (Page 1954).

An adapter's gradients look much alike whatever the tasks are about; the embeddings do not. Where
`EwcPlusPlus.observe` sees no boundary, this one does: `if drift.add(x): ewc.consolidate(theta)`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ruvllm.errors import InputError, RuvllmError, StoreError
from ruvllm.learning.packing import Arrays, Spec

__all__ = ["DRIFT_SPECS", "Drift"]

_BLOCK = 16  # vectors whose mean is compared with all before
_WARM = 12  # blocks before the first comparison counts
_SPAN = 62  # blocks that the reference is a mean over: about a thousand vectors
_ALLOWED = 1.0  # standard deviations that a block may be further off than the mean block without counting
_DRIFT = 8.0  # of them in all, beyond those allowed
_MOST = 6.0  # that one block counts for: an outlier alone is no drift
_WAITING = 16  # blocks that may wait for the sum to fall back to 0
DRIFT_SPECS = {"mean": Spec(("dim",), "float64"), "spread": Spec(("dim",), "float64"), "numbers": Spec((3,), "float64")}
Floats = NDArray[Any]


class Drift:
    """Says when vectors (dim,) begin to come from elsewhere.

    Attributes:
        z: how far off the last block was, in standard deviations of the blocks before it.
    """

    def __init__(self, dim: int) -> None:
        self.dim = dim
        self._restart()

    def _restart(self) -> None:
        self._mean, self._spread = np.zeros(self.dim), np.zeros(self.dim)  # of the vectors' entries
        self._blocks = 0
        self._far = self._far_squared = 0.0  # moments of the blocks' distances
        self.z = 0.0
        self._sum = 0.0
        self._waiting: list[tuple[Floats, float]] = []
        self._rows: list[Floats] = []

    def add(self, x: Floats) -> bool:
        """Take in a vector (dim,); true when the last ones came from elsewhere than those before.

        What follows is then compared with them. Raises InputError: of another width, or not finite.
        """
        if x.shape != (self.dim,) or not np.isfinite(x).all():
            fix = f"use finite numbers of shape ({self.dim},)"
            raise InputError(f"a vector of shape {x.shape}", field="x", fix=fix)
        self._rows.append(np.array(x, np.float64))
        if len(self._rows) < _BLOCK:
            return False
        rows, self._rows = np.stack(self._rows), []
        far = self._distance(rows.mean(0))
        deviation = float(np.sqrt(max(self._far_squared - self._far**2, 0.0)))
        self.z = (far - self._far) / max(deviation, 0.05) if self._blocks >= _WARM else 0.0
        self._sum = max(0.0, self._sum + min(self.z, _MOST) - _ALLOWED)
        self._waiting.append((rows, far))
        moved, waiting = self._sum > _DRIFT, self._waiting
        if moved:
            self._restart()
        count = len(waiting) if self._sum == 0 else max(0, len(waiting) - _WAITING)
        for block, distance in waiting[:count]:
            self._settle(block, distance)
        self._waiting = waiting[count:]
        return moved

    def _distance(self, mean: Floats) -> float:
        """Squared, of a block's mean from the reference; about 1 for a block of the same kind."""
        floor = 0.01 * float(self._spread.mean()) + 1e-12
        return min(_BLOCK * float(((mean - self._mean) ** 2 / (self._spread + floor)).mean()), 100.0)

    def _settle(self, rows: Floats, far: float) -> None:
        """Let a block count towards the reference."""
        self._blocks += 1
        share = 1 / min(self._blocks, _SPAN)
        self._mean += share * (rows.mean(0) - self._mean)
        self._spread += share * (((rows - self._mean) ** 2).mean(0) - self._spread)
        if self._blocks > _WARM // 3:  # before that the reference itself is too rough
            share = 1 / min(self._blocks - _WARM // 3, _SPAN)
            self._far += share * (far - self._far)
            self._far_squared += share * (far * far - self._far_squared)

    def arrays(self) -> Arrays:
        """The reference, by name; the latest blocks, which do not count towards it yet, are not in it."""
        numbers = np.array([self._blocks, self._far, self._far_squared])
        return {"mean": self._mean.copy(), "spread": self._spread.copy(), "numbers": numbers}

    def restore(self, arrays: Arrays, error: type[RuvllmError] = StoreError) -> None:
        """Go on from what `arrays` gave. Raises `error`: of another width, or impossible."""
        blocks, far, squared = arrays["numbers"].tolist()
        shaped = all(arrays[name].shape == (self.dim,) for name in ("mean", "spread"))
        if not shaped or blocks < 0 or far < 0 or (arrays["spread"] < 0).any():
            raise error("no reference for drift", field="drift", fix="drop it; it is estimated again")
        self._restart()
        self._mean, self._spread = arrays["mean"].copy(), arrays["spread"].copy()
        self._blocks, self._far, self._far_squared = int(blocks), far, squared
