"""How likely each backend is drawn: what is never asked can never be seen to do well."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["drawing_chances"]

Array = NDArray[Any]

_EXPLORED, _STEEP = 0.02, 4.0  # share of choices that stay random for good, and how fast it falls to that
_DOUBT = 0.01  # difference of values at which the better one is drawn 2.7 times as often


def drawing_chances(value: Array, cost: Array, answers: int, explore: float, budget: float | None) -> Array:
    """Chances (n,) of backends with these values (n,) and costs (n,).

    At first at random; later for its value, with a doubt between those that are nearly as good, where it costs
    nothing and teaches most.

    Args:
        answers: known by now.
        explore: answers after which half of the draws still are random.
        budget: mean cost that the random draws, too, keep to.
    """
    random = max(1 / (1 + (answers / max(explore, 1e-9)) ** _STEEP), _EXPLORED)
    drawn = np.maximum(np.exp((value - value.max()) / _DOUBT), 1e-9)
    return np.asarray(random * _anyhow(cost, budget) + (1 - random) * drawn / drawn.sum())


def _anyhow(cost: Array, budget: float | None) -> Array:
    """Chances (n,) of a random draw: equal ones, or with as much more for the cheapest as the budget asks for."""
    equal = np.full(len(cost), 1 / len(cost))
    mean, least = float(cost.mean()), float(cost.min())
    if budget is None or mean <= budget or mean <= least:
        return equal
    kept = max((budget - least) / (mean - least), _EXPLORED)
    return np.asarray(kept * equal + (1 - kept) * (np.arange(len(cost)) == cost.argmin()))
