"""Hard limits on what a backend may cost, take and get wrong."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ruvllm.errors import InputError

__all__ = ["Limits"]

Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Limits:
    """Of one prompt; None for no limit.

    Attributes:
        cost: US dollars, at most.
        latency: milliseconds, at most.
        quality: expected, at least.
    """

    cost: float | None = None
    latency: float | None = None
    quality: float | None = None

    def within(self, names: Sequence[str], cost: Array, latency: Array, quality: Array) -> NDArray[np.intp]:
        """Places of the backends that keep all limits, of what each is expected to be (n,).

        Raises:
            InputError: none does (the nearest is named), or a limit is no number.
        """
        over = (
            _over("cost", cost, inf if self.cost is None else self.cost),
            _over("latency", latency, inf if self.latency is None else self.latency),
            _over("quality", -quality, inf if self.quality is None else -self.quality),
        )
        misses = np.sum(over, 0)
        kept = np.flatnonzero(misses <= 0)
        if not len(kept):
            best = int(misses.argmin())
            missed = " and ".join(self._missed(float(cost[best]), float(latency[best]), float(quality[best])))
            told = f"no backend matches: the nearest, {names[best]!r}, {missed}"
            raise InputError(told, field="requirements", fix="relax that limit, or add a backend")
        return kept

    def _missed(self, cost: float, latency: float, quality: float) -> list[str]:
        missed = []
        if self.cost is not None and cost > self.cost:
            missed.append(f"costs ${cost:.4g} (max_cost {self.cost:g})")
        if self.latency is not None and latency > self.latency:
            missed.append(f"takes {latency:.0f} ms (max_latency {self.latency:g})")
        if self.quality is not None and quality < self.quality:
            missed.append(f"has an expected quality of {quality:.3f} (min_quality {self.quality:g})")
        return missed


def _over(name: str, values: Array, limit: float) -> Array:
    """How far each value is over a limit, as a share of it; 0 within."""
    if limit != limit:
        raise InputError(f"the limit on {name} is no number", field=name, fix="give a number, or leave it out")
    return np.maximum(values - limit, 0) / max(abs(limit), 1e-9) if limit < inf else np.zeros(len(values))
