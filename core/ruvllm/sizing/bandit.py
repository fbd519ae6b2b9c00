"""What each backend's outcomes tell of the next prompt: logistic regressions that share what they can, and forget.

Every backend finds a hard prompt harder, so all outcomes teach one difficulty; each backend has a strength of its own,
and learns under a tighter prior for what else it differs. That is item response theory with features, and it is
what makes outcomes of one backend say something of another: on the logit's scale a stronger backend gains nothing on
easy prompts and most in between. The uncertainty is that of LinUCB (Li et al. 2010), on the same scale.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Bandit", "logit", "selection_chances"]

Array = NDArray[Any]

_EXPLORED, _STEEP = 0.02, 4.0  # share of choices that stay random for good, and how fast it falls to that
_DOUBT = 0.01  # difference of values at which the better one is drawn 2.7 times as often


def selection_chances(value: Array, cost: Array, answers: int, explore: float, budget: float | None) -> Array:
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
    exploring = max((budget - least) / (mean - least), _EXPLORED)
    return np.asarray(exploring * equal + (1 - exploring) * (np.arange(len(cost)) == cost.argmin()))


Floats = NDArray[np.floating]

# Prior standard deviations, over prompts, of the difficulty's logit and of a backend's own part.
_SHARED, _INDIVIDUAL = 0.7, 0.3
_VECTOR_WEIGHT = 0.5  # of the meaning beside the forms: it has more numbers, and each says less
_FLOOR = 0.05  # of the deviation of a form
_PRIOR = 4.0  # outcomes that a backend's stated quality is worth
_NOISE = 0.45  # standard deviation of an outcome, at the most
_RECENT = 0.01  # weight of the latest outcome in the mean error that drift is told by
_WORTH = 3.0  # standard deviations of that mean before it counts
_EXACT = 2_048  # latest outcomes that every fit starts from; of older ones it keeps their last quadratic
_REST, _LONGEST = 16, 256  # outcomes before the next fit: a fiftieth of all within these
_NEWTON = 3
_STEEPEST = 0.02  # chances nearer to 0 and 1 are no surer for having been foretold


class Bandit:
    """Logistic models of quality for a fixed set of arms.

    Args:
        dim: inputs that are a vector, all on one scale: those that vary more say more.
        forms: inputs on scales of their own, after the vector; one more, the last, is always 1.
        priors: quality of each arm before there are outcomes.
        memory: outcomes over which an old one loses all but 1/e of its weight.
        told: whether a logit for each arm follows the inputs, from what was known beforehand: outcomes then teach
            how far that is off.

    Attributes:
        width: of the inputs that are learnt from.
        outcomes: of each arm, as they were told.
        weights: float64 (arms, width).
        spread: float64 (arms, width, width), covariance of what is an arm's own.
    """

    def __init__(
        self, dim: int, forms: int, priors: list[float], memory: float = 10_000.0, informed: bool = False
    ) -> None:
        self.dim, self.width, self.memory, self.arms = dim, dim + forms + 1, memory, len(priors)
        self.informed = informed
        self.error = np.zeros(self.arms)  # mean of quality told less quality expected, of late
        self.outcomes = np.zeros(self.arms, np.int64)
        self._quadratic = np.zeros((self.arms, self.width, self.width))  # of the outcomes that are no longer rows
        self._linear = np.zeros((self.arms, self.width))
        self._sums = np.zeros((3, self.width))  # weights, inputs and their squares, of all outcomes
        height, offsets = 0.2 * _PRIOR, np.zeros(self.arms) if informed else logit(np.array(priors))
        self._quadratic[:, -1, -1], self._linear[:, -1] = height, height * offsets
        self._rows = np.zeros((_EXACT + _LONGEST, self.width + self.arms * informed), np.float32)
        self._about = np.zeros((3, len(self._rows)))  # arm, quality and weight of each row
        self._count = self._waiting = 0
        self.weights: Floats = np.zeros((self.arms, self.width))
        self.fit()

    @property
    def inputs(self) -> int:
        """Numbers that a prompt is given by."""
        return self._rows.shape[1]

    def learn(self, arm: int, x: Floats, quality: float, weight: float = 1.0) -> bool:
        """Take in an outcome, which counts as `weight` of them; true when the models were fitted anew."""
        predicted = float(_chances(self._logits(x))[arm])
        self.error[arm] += _RECENT * (quality - predicted - self.error[arm])
        self.outcomes[arm] += 1
        # What counts less makes the older outcomes fade less, too.
        keep = (1 - 1 / self.memory) ** weight
        arms, _, weights = self._about[:, : self._count]
        weights[arms == arm] *= keep
        self._quadratic[arm] *= keep
        self._linear[arm] *= keep
        here = x[: self.width]
        self._sums = self._sums * (1 - (1 - keep) / self.arms) + weight * np.stack([np.ones(self.width), here, here**2])
        self._rows[self._count], self._about[:, self._count] = x, (arm, quality, weight)
        self._count += 1
        self._waiting += 1
        if self._waiting < min(max(_REST, int(self.outcomes.sum()) // 50), _LONGEST):
            return False
        self.fit()
        return True

    def fit(self) -> None:
        """Newton's steps from the latest weights, with all outcomes told so far."""
        turn, shared, individual = self._standardised()
        for _ in range(_NEWTON if self._count else 1):
            quadratic, linear = self._expanded(0, self._count)
            quadratic, linear = quadratic + self._quadratic, linear + self._linear
            solved, inverse = _solved(turn @ quadratic @ turn.T, linear @ turn.T, shared, individual)
            weights = solved @ turn
            settled = np.abs(weights - self.weights).max() < 1e-3
            self.weights = weights
            if settled:
                break
        self.spread: Floats = turn.T @ inverse @ turn
        self._waiting = 0
        self._retire()

    def _expanded(self, begin: int, end: int) -> tuple[Floats, Floats]:
        """(quadratic (arms, width, width), linear (arms, width)) of the rows' log-likelihood at today's weights."""
        quadratic, linear = np.zeros_like(self._quadratic), np.zeros_like(self._linear)
        arms, quality, weight = self._about[:, begin:end]
        for arm in range(self.arms):
            chosen = np.flatnonzero(arms == arm)
            rows = self._rows[begin + chosen]
            x = rows[:, : self.width]
            logits = x @ self.weights[arm].astype(np.float32)
            chance = _chances(logits + rows[:, self.width + arm] if self.informed else logits)
            curve = np.maximum(chance * (1 - chance), _STEEPEST)
            weighed = (x * (weight[chosen] * curve).astype(np.float32)[:, None]).T
            quadratic[arm] = weighed @ x
            linear[arm] = weighed @ (logits + (quality[chosen] - chance) / curve).astype(np.float32)
        return quadratic, linear

    def _retire(self) -> None:
        """Keep only the quadratic of rows beyond the latest."""
        leaving = self._count - _EXACT
        if leaving <= 0:
            return
        quadratic, linear = self._expanded(0, leaving)
        self._quadratic += quadratic
        self._linear += linear
        self._rows[:_EXACT] = self._rows[leaving : self._count]
        self._about[:, :_EXACT] = self._about[:, leaving : self._count]
        self._count = _EXACT

    def _standardised(self) -> tuple[Floats, Floats, Floats]:
        """(turn (width, width), shared (width,), own (width,)).

        `turn` gives the inputs a mean of 0 and a variance of about 1, the last stays 1. The penalties on what is
        shared and on what is an arm's own say how much logits vary from prompt to prompt, whatever the width.
        """
        count, total, squares = self._sums[:, :-1]
        mean = total / np.maximum(count, 1)
        variance = np.maximum(squares / np.maximum(count, 1) - mean**2, 0)
        scale = np.sqrt(np.maximum(variance, _FLOOR**2))
        # Floored at a tenth of what a unit vector has: the first few prompts may be alike.
        scale[: self.dim] = np.sqrt(max(float(variance[: self.dim].mean()), 0.1 / self.dim)) / _VECTOR_WEIGHT
        turn = np.eye(self.width)
        turn[:-1, :-1] = np.diag(1 / scale)
        turn[:-1, -1] = -mean / scale
        size = max(float((variance / scale**2).sum()), 1.0)
        # The levels are all but free.
        shared = np.append(np.full(self.width - 1, size / _SHARED**2), 0.01)
        individual = np.append(np.full(self.width - 1, size / _INDIVIDUAL**2), 0.01)
        return turn, shared, individual

    def _logits(self, x: Floats) -> Floats:
        offsets = x[..., self.width :] if self.informed else 0.0
        return np.asarray(x[..., : self.width] @ self.weights.T + offsets)

    def expected(self, x: Floats, shift: Floats | float = 0.0) -> Floats:
        """Quality of each arm for inputs (inputs,) or (n, inputs): (arms,) or (n, arms), within 0 and 1.

        Args:
            shift: (arms,), added to the logits: what is known from elsewhere.
        """
        # Beyond chance alone, the mean error is drift: a backend that got worse, or better, of late.
        chance = _WORTH * _NOISE * np.sqrt(_RECENT / 2)
        drift = np.sign(self.error) * np.maximum(np.abs(self.error) - chance, 0)
        return np.asarray(np.clip(_chances(self._logits(x) + shift) + drift, 0.0, 1.0))

    def uncertainty(self, x: Floats) -> Floats:
        """Standard deviation of each arm's expected quality for inputs (inputs,): (arms,)."""
        chance, here = _chances(self._logits(x)), x[: self.width]
        return np.asarray(chance * (1 - chance) * np.sqrt(np.maximum((self.spread @ here) @ here, 0.0)))

    def arrays(self) -> dict[str, NDArray[Any]]:
        """What was learnt: float32 (arms, width·(width + 1)/2) of the quadratic, which is symmetric; float16 rows."""
        upper = np.triu_indices(self.width)
        return {
            "quadratic": self._quadratic[:, upper[0], upper[1]].astype(np.float32),
            "linear": self._linear.copy(),
            "sums": self._sums.copy(),
            "rows": self._rows[: self._count].astype(np.float16),
            "told": self._about[:, : self._count].copy(),
            "weights": self.weights.copy(),
            "error": self.error.copy(),
            "outcomes": self.outcomes.copy(),
        }

    def restore(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Go on from what `arrays` gave. Raises KeyError or ValueError: it is not that, and nothing has changed."""
        upper = np.triu_indices(self.width)
        count = len(arrays["rows"])
        shapes: dict[str, tuple[int, ...]] = {
            "quadratic": (self.arms, len(upper[0])),
            "linear": (self.arms, self.width),
            "sums": (3, self.width),
            "rows": (min(count, len(self._rows) - 1), self.inputs),
            "told": (3, count),
            "weights": (self.arms, self.width),
            "error": (self.arms,),
            "outcomes": (self.arms,),
        }
        for name, shape in shapes.items():
            if arrays[name].shape != shape or not np.isfinite(arrays[name]).all():
                raise ValueError(f"{name} has shape {arrays[name].shape}")
        quadratic = np.zeros_like(self._quadratic)
        quadratic[:, upper[0], upper[1]] = arrays["quadratic"]
        quadratic += np.triu(quadratic, 1).transpose(0, 2, 1)
        arms, quality, weight = arrays["told"]
        valid = np.isin(arms, range(self.arms)).all() and ((quality >= 0) & (quality <= 1) & (weight >= 0)).all()
        if not valid or (arrays["outcomes"] < 0).any() or (arrays["sums"][0] < 0).any():
            raise ValueError("outcomes of no such arms")
        if not (np.diagonal(quadratic, 0, 1, 2) >= 0).all() or not (quadratic[:, -1, -1] > 0).all():
            raise ValueError("a quadratic below 0")
        self._quadratic, self._linear = quadratic, arrays["linear"].astype(np.float64)
        self._sums, self.weights = arrays["sums"].astype(np.float64), arrays["weights"].astype(np.float64)
        self._rows[:count], self._about[:, :count], self._count = arrays["rows"], arrays["told"], count
        self.error, self.outcomes = arrays["error"].astype(np.float64), arrays["outcomes"].astype(np.int64)
        self.fit()


def logit(chances: Floats) -> Floats:
    """Of probabilities, those nearest to 0 and 1 held back."""
    held = np.clip(np.asarray(chances, np.float64), _STEEPEST, 1 - _STEEPEST)
    return np.asarray(np.log(held / (1 - held)))


def _chances(logits: Floats) -> Floats:
    return np.asarray(1 / (1 + np.exp(-np.clip(logits, -30, 30))))


def _solved(quadratic: Floats, linear: Floats, shared: Floats, individual: Floats) -> tuple[Floats, Floats]:
    """(weights (arms, width), inverses (arms, width, width)) of the joint optimum.

    An arm's own part is eliminated first: given what is shared, u, it is (A + Λ)⁻¹ (b - A u), which leaves one
    system for u, where A - A (A + Λ)⁻¹ A is Λ - Λ (A + Λ)⁻¹ Λ.
    """
    inverse = np.linalg.inv(quadratic + np.diag(individual))
    remains = np.diag(individual) - individual[:, None] * inverse * individual
    solved = np.linalg.solve(
        remains.sum(0) + np.diag(shared), (individual * np.einsum("aij,aj->ai", inverse, linear)).sum(0)
    )
    offsets = np.einsum("aij,aj->ai", inverse, linear - quadratic @ solved)
    return solved + offsets, inverse
