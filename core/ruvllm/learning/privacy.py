"""Differential privacy of what travels: how much Gaussian noise a promise (epsilon, delta) needs.

The analytic Gaussian mechanism (Balle & Wang 2018) is exact for every epsilon, where the classical
formula wants epsilon below 1 and adds more noise than it must.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from ruvllm.errors import InputError

__all__ = ["Privacy", "delta_of", "epsilon_of", "noise_for"]

_HALVINGS = 100
_MOST_EPSILON = 1e4
_TAIL = -8.0  # below it erfc is replaced by its continued fraction: e^ε would overflow against it


@dataclass(frozen=True, slots=True)
class Privacy:
    """A promise: nobody tells from what travelled whether one text was there, but for (epsilon, delta).

    Attributes:
        epsilon: 0.01 to 100; 1 is strong, above 10 weak.
        delta: the chance that the promise fails; below one over the number of texts.
        clip: the longest change of the adapter's factors that travels.
        seed: of the noise, for tests. None draws it from the system, as the promise needs.
    """

    epsilon: float = 4.0
    delta: float = 1e-5
    clip: float = 1.0
    seed: int | None = None

    def __post_init__(self) -> None:
        for name, low, high in (("epsilon", 0.01, 100.0), ("delta", 1e-15, 0.1), ("clip", 1e-6, 1e6)):
            value = getattr(self, name)
            if not low <= value <= high:
                raise InputError(f"{name} is {value}", field=name, fix=f"use {low:g} to {high:g}")


def delta_of(epsilon: float, ratio: float) -> float:
    """The least delta that noise of standard deviation ratio·sensitivity gives at `epsilon`."""
    if ratio <= 0:
        return 1.0
    middle, shift = epsilon * ratio, 0.5 / ratio
    second = math.exp(min(epsilon + _log_normal(-shift - middle), 0.0))
    return min(max(_normal(shift - middle) - second, 0.0), 1.0)


def epsilon_of(ratio: float, delta: float) -> float:
    """The least epsilon that noise of standard deviation ratio·sensitivity gives; inf beyond 10,000."""
    if delta_of(_MOST_EPSILON, ratio) > delta:
        return math.inf
    low, high = 0.0, _MOST_EPSILON
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if delta_of(middle, ratio) > delta else (low, middle)
    return high


def noise_for(epsilon: float, delta: float) -> float:
    """The least standard deviation, per unit of sensitivity, that keeps the promise."""
    low, high = 0.0, 1.0
    while delta_of(epsilon, high) > delta:
        high *= 2
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if delta_of(epsilon, middle) > delta else (low, middle)
    return high


def _normal(x: float) -> float:
    """P(N(0, 1) <= x)."""
    return math.erfc(-x / math.sqrt(2)) / 2


def _log_normal(x: float) -> float:
    """log P(N(0, 1) <= x), far into the tail too."""
    if x > _TAIL:
        return math.log(_normal(x))
    fraction = -x
    for n in range(30, 0, -1):
        fraction = -x + n / fraction
    return -x * x / 2 - math.log(fraction * math.sqrt(2 * math.pi))
