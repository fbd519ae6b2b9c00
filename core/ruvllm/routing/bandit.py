"""What each backend's outcomes tell of the next prompt: ridge regressions that borrow from each other, and forget.

A prompt that any backend failed says something of all of them, so their outcomes are pooled first; each backend
then learns how it differs from the pool, under a penalty that keeps a few outcomes from saying much. The
uncertainty is that of LinUCB (Li et al. 2010).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Bandit"]

Floats = NDArray[np.floating]  # float64 in here: moments of thousands of rows

_PENALTIES = (10_000.0, 1_000.0, 50.0)  # on a backend's own weights, for inputs with a variance of 1
_POOLED = 0.1  # of that is the penalty on what all backends share
_VECTOR_SHARE = 0.5  # of the meaning beside the forms: it has more numbers, and each says less
_FLOOR = 0.05  # of the deviation of a form
_NOISE = 0.45  # standard deviation of an outcome, at the most
_PRIOR = 4.0  # outcomes that a backend's stated quality is worth
_RECENT = 0.01  # weight of the latest outcome in the mean error that drift is told by
_WORTH = 3.0  # standard deviations of that mean before it counts
_ROUNDS = 8
_REST = 16  # outcomes before the next fit, or a fiftieth of all


class Bandit:
    """Linear models of quality for a growing set of arms.

    Args:
        dim: inputs that are a vector, all on one scale: those that vary more say more.
        forms: inputs on scales of their own, after the vector; one more, the last, is always 1.
        priors: quality of each arm before there are outcomes.
        memory: outcomes over which an old one loses all but 1/e of its weight.

    Attributes:
        outcomes: of each arm, as they were told.
    """

    def __init__(self, dim: int, forms: int, priors: list[float], memory: float = 10_000.0) -> None:
        self.dim, self.width, self.memory = dim, dim + forms + 1, memory
        self.xx = np.zeros((len(priors), self.width, self.width))  # moments, the latest prompts counting most
        self.xy = np.zeros((len(priors), self.width))
        self.error = np.zeros(len(priors))  # mean of quality told less quality expected, of late
        self.outcomes = np.zeros(len(priors), np.int64)
        self.losses = np.zeros(len(_PENALTIES))  # squared errors under each penalty
        self.xx[:, -1, -1], self.xy[:, -1] = _PRIOR, _PRIOR * np.array(priors)
        self._waiting: list[tuple[int, Floats, float, float]] = []
        self.fit()

    def learn(self, arm: int, x: Floats, quality: float, weight: float = 1.0) -> bool:
        """Take in an outcome, which counts as `weight` of them; true when the models were fitted anew."""
        told = self._all[:, arm] @ x
        self.error[arm] += _RECENT * (quality - float(told[self._best]) - self.error[arm])
        self.losses += weight * ((quality - np.clip(told, 0, 1)) ** 2 - self.losses / self.memory)
        self.outcomes[arm] += 1
        self._waiting.append((arm, np.asarray(x, np.float64), quality, weight))
        if len(self._waiting) < max(_REST, int(self.outcomes.sum()) // 50):
            return False
        self.fit()
        return True

    def fit(self) -> None:
        """Solve for the weights, with all outcomes told so far."""
        self._settle()
        turn = self._standardised()
        each = turn @ self.xx @ turn.T
        told = self.xy @ turn.T
        solved = [self._solved(each, told, penalty) for penalty in _PENALTIES]
        self._all = np.stack([weights for weights, _ in solved]) @ turn  # (penalties, arms, width)
        # The penalty that has foretold outcomes best before they were learnt from.
        self._best = int(self.losses.argmin())
        self.weights: Floats = self._all[self._best]
        self.spread: Floats = turn.T @ solved[self._best][1] @ turn

    def _solved(self, each: Floats, told: Floats, penalty: float) -> tuple[Floats, Floats]:
        """(weights (arms, width), inverses (arms, width, width)) for standardised moments."""
        eye = np.eye(self.width)
        eye[-1, -1] = 0.01 / penalty  # each backend has a mean of its own, all but free
        inverse = np.linalg.inv(each + penalty * eye)
        inverse_pooled = np.linalg.inv(each.sum(0) + _POOLED * penalty * np.eye(self.width))
        own = np.zeros_like(told)
        for _ in range(_ROUNDS):  # each given the other: the joint solution, without its (arms * width)³
            pooled = inverse_pooled @ (told - np.einsum("aij,aj->ai", each, own)).sum(0)
            own = np.einsum("aij,aj->ai", inverse, told - each @ pooled)
        return pooled + own, inverse

    def _settle(self) -> None:
        """Add the waiting outcomes to the moments, all at once; each outcome makes its backend's older ones fade."""
        keep = 1 - 1 / self.memory
        for arm in {row[0] for row in self._waiting}:
            rows = [row for row in self._waiting if row[0] == arm]
            x, told, weights = np.stack([row[1] for row in rows]), *np.array([row[2:] for row in rows]).T
            # What counts less makes the older outcomes fade less, too.
            keeps = keep**weights
            fading = np.append(np.cumprod(keeps[:0:-1])[::-1], 1.0) * weights
            faded = x.T * fading
            self.xx[arm] = keeps.prod() * self.xx[arm] + faded @ x
            self.xy[arm] = keeps.prod() * self.xy[arm] + faded @ told
        self._waiting = []

    def _standardised(self) -> Floats:
        """(width, width): turns inputs into ones with a mean of 0 and a variance of about 1; the last stays 1."""
        total = self.xx.sum(0)
        count = total[-1, -1]
        mean = total[-1, :-1] / count
        variance = np.maximum(np.diag(total)[:-1] / count - mean**2, 0)
        scale = np.sqrt(np.maximum(variance, _FLOOR**2))
        # Floored at a tenth of what a unit vector has: the first few prompts may be alike.
        scale[: self.dim] = np.sqrt(max(float(variance[: self.dim].mean()), 0.1 / self.dim)) / _VECTOR_SHARE
        turn = np.eye(self.width)
        turn[:-1, :-1] = np.diag(1 / scale)
        turn[:-1, -1] = -mean / scale
        return turn

    def expected(self, x: Floats) -> Floats:
        """Quality of each arm for inputs (width,) or (n, width): (arms,) or (n, arms), within 0 and 1."""
        # Beyond chance alone, the mean error is drift: a backend that got worse, or better, of late.
        chance = _WORTH * _NOISE * np.sqrt(_RECENT / 2)
        drift = np.sign(self.error) * np.maximum(np.abs(self.error) - chance, 0)
        return np.asarray(np.clip(x @ self.weights.T + drift, 0.0, 1.0))

    def uncertainty(self, x: Floats) -> Floats:
        """Standard deviation of each arm's expected quality for inputs (width,): (arms,)."""
        return np.asarray(_NOISE * np.sqrt(np.maximum((self.spread @ x) @ x, 0.0)))

    def arrays(self) -> dict[str, NDArray[Any]]:
        """What was learnt: float32 (arms, width·(width + 1)/2) for the moments, which are symmetric."""
        self._settle()
        upper = np.triu_indices(self.width)
        return {
            "xx": self.xx[:, upper[0], upper[1]].astype(np.float32),
            "xy": self.xy.copy(),
            "error": self.error.copy(),
            "losses": self.losses.copy(),
            "outcomes": self.outcomes.copy(),
        }

    def restore(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Go on from what `arrays` gave. Raises KeyError or ValueError: it is not that, and nothing has changed."""
        upper = np.triu_indices(self.width)
        shapes: dict[str, tuple[int, ...]] = {
            "xx": (len(self.xx), len(upper[0])),
            "xy": self.xy.shape,
            "error": (len(self.xx),),
        }
        shapes |= {"outcomes": (len(self.xx),), "losses": self.losses.shape}
        for name, shape in shapes.items():
            if arrays[name].shape != shape or not np.isfinite(arrays[name]).all():
                raise ValueError(f"{name} has shape {arrays[name].shape}")
        xx = np.zeros_like(self.xx)
        xx[:, upper[0], upper[1]] = arrays["xx"]
        xx += np.triu(xx, 1).transpose(0, 2, 1)
        if not (np.diagonal(xx, 0, 1, 2) >= 0).all() or not (xx[:, -1, -1] > 0).all() or (arrays["outcomes"] < 0).any():
            raise ValueError("moments below 0")
        self._waiting, self.losses = [], arrays["losses"].astype(np.float64)
        self.xx, self.xy = xx, arrays["xy"].astype(np.float64)
        self.error, self.outcomes = arrays["error"].astype(np.float64), arrays["outcomes"].astype(np.int64)
        self.fit()
