"""How often each entry was used, recent uses counting more.

Forward decay (Cormode et al. 2009): a use at time t adds 2^((t - epoch) / half-life), so that all counts fade
together without being touched, and their order never has to be computed again.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ruvllm.index.rows import grown

__all__ = ["Heat"]

_FAR = 64.0  # half-lives after which counts are brought back to the size of the present
_NEVER = 1_000.0  # half-lives that leave nothing


class Heat:
    """Decayed counts of rows.

    Args:
        half_life: seconds after which a use counts half.
        start: the present, in seconds.

    Attributes:
        marks: counts that others compare with, which fade along.
    """

    def __init__(self, half_life: float, start: float) -> None:
        self.half_life, self.epoch = half_life, start
        self._counts = np.empty(0, np.float64)
        self.marks = np.empty(0, np.float64)
        self.size = 0

    @property
    def counts(self) -> NDArray[np.float64]:
        """float64 (size,), comparable with each other only."""
        return self._counts[: self.size]

    def one(self, now: float) -> float:
        """What a use counts now. A clock that goes back counts little, and harms nothing."""
        ages = (now - self.epoch) / self.half_life
        if ages > _FAR:
            faded = 2.0 ** -min(ages, _NEVER)
            self._counts *= faded
            self.marks = self.marks * faded
            self.epoch, ages = now, 0.0
        return float(2.0 ** max(ages, -_FAR))

    def append(self, count: int, heat: float) -> None:
        """So many new rows."""
        self._counts = grown(self._counts, self.size + count)
        self._counts[self.size : self.size + count] = heat
        self.size += count

    def use(self, rows: NDArray[np.int64], now: float) -> None:
        """Count a use of each row; a row may come more than once."""
        weight = self.one(now)
        np.add.at(self._counts, rows, weight)

    def keep(self, rows: NDArray[np.int64]) -> None:
        """Only these rows, in this order."""
        self._counts = self._counts[rows]
        self.size = len(rows)

    def shares(self) -> NDArray[np.float64]:
        """Of each row, the share of all rows that are colder: 0 to 1; of equals the older is the colder."""
        out = np.empty(self.size)
        out[self.counts.argsort(kind="stable")] = (np.arange(self.size) + 0.5) / max(self.size, 1)
        return out
