"""What each backend's outcomes tell of the next prompt: logistic regressions that share what they can, and forget.

Every backend finds a hard prompt harder, so all outcomes teach one difficulty; each backend has a strength of its own,
and learns under a tighter prior for what else it differs. That is item response theory with features, and it is
what makes outcomes of one backend say something of another: on the logit's scale a stronger backend gains nothing on
easy prompts and most in between. The uncertainty is that of LinUCB (Li et al. 2010), on the same scale.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ruvllm.sizing.prompt_forms import PROMPT_FORMS

Floats = NDArray[np.floating]

# Prior standard deviations, over prompts, of the difficulty's logit and of a backend's own part.
_SHARED, _INDIVIDUAL = 0.7, 0.2
_LEVEL = 1.0  # precision of a backend's level beside what it was stated to be, on the logit's scale
_READ = 32  # numbers that a vector is read by: outcomes are too few for more
_VECTOR_WEIGHT = 0.5  # of the meaning beside the forms: it has more numbers, and each says less
_FLOOR = 0.05  # of the deviation of a form
_PRIOR = 4.0  # outcomes that a backend's stated quality is worth
_NOISE = 0.45  # standard deviation of an outcome, at the most
_RECENT = 0.01  # weight of the latest outcome in the mean error that drift is told by
_WORTH = 3.0  # standard deviations of that mean before it counts
_EXACT = 2_048  # latest outcomes that every fit starts from; of older ones it keeps their last quadratic
_REST, _LONGEST = 4, 256  # outcomes before the next fit: a fiftieth of all within these
_NEWTON, _SHORTENED = 3, 12  # whole steps of a fit, and steps in all
_FARTHEST = 3.0  # that a step may move the logit of any outcome
_LONGEST_FORMS = 12.0  # length of a prompt's forms that travels; longer ones are shortened
_BELIEVED = 200.0  # outcomes of an arm that all others' count for at most, beside the own ones
_STEEPEST = 0.02  # chances nearer to 0 and 1 are no surer for having been foretold


class Bandit:
    """Logistic models of quality for a fixed set of arms.

    Args:
        dim: inputs that are a vector, all on one scale: those that vary more say more.
        forms: inputs on scales of their own, after the vector; one more, the last, is always 1.
        priors: quality of each arm before there are outcomes.
        memory: outcomes over which an old one loses all but 1/e of its weight.
        informed: whether a logit for each arm follows the inputs, from what was known beforehand: outcomes then teach
            how far that is off.

    Attributes:
        inputs: numbers that a prompt is given by.
        width: of what is learnt from: the vector along 32 axes, the forms, and 1.
        outcomes: of each arm, as they were told; pulled: of each, that others' count for.
        weights: float64 (arms, width).
    """

    def __init__(
        self, dim: int, forms: int, priors: list[float], memory: float = 10_000.0, informed: bool = False
    ) -> None:
        self.dim, self.memory, self.arms, self.informed = dim, memory, len(priors), informed
        self._axes = _axes(dim)
        self.width = len(self._axes.T) + forms + 1
        self.inputs = dim + forms + 1 + self.arms * informed
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
        self.pulled = np.zeros(self.arms)
        self._pulled = self._rows[:0], self._about[:, :0]
        self.weights: Floats = np.zeros((self.arms, self.width))
        self.fit()

    def read(self, x: Floats) -> Floats:
        """What is learnt from (…, width [+ arms]) of inputs (…, inputs)."""
        return np.concatenate([x[..., : self.dim] @ self._axes, x[..., self.dim :]], -1)

    def learn(self, arm: int, x: Floats, quality: float) -> bool:
        """Take in an outcome; true when the models were fitted anew."""
        x = self.read(x)
        predicted = float(chances_of(self._logits(x))[arm])
        self.error[arm] += _RECENT * (quality - predicted - self.error[arm])
        self.outcomes[arm] += 1
        keep = 1 - 1 / self.memory
        arms, _, weights = self._about[:, : self._count]
        weights[arms == arm] *= keep
        self._quadratic[arm] *= keep
        self._linear[arm] *= keep
        here = x[: self.width]
        self._sums = self._sums * (1 - (1 - keep) / self.arms) + np.stack([np.ones(self.width), here, here**2])
        self._rows[self._count], self._about[:, self._count] = x, (arm, quality, 1.0)
        self._count += 1
        self._waiting += 1
        if self._waiting < min(max(_REST, int(self.outcomes.sum()) // 50), _LONGEST):
            return False
        self.fit()
        return True

    def fit(self) -> None:
        """Newton's steps from the latest weights, with all outcomes told so far."""
        self._mean, self._scale, shared, individual = self._standardised()
        whole = 0  # steps; the first few outcomes may call for far more than the curve here is good for
        for _ in range(_SHORTENED):
            quadratic, linear = self._expanded(self._rows[: self._count], self._about[:, : self._count])
            if self.pulled.any():
                others = self._expanded(*self._pulled)
                quadratic, linear = quadratic + others[0], linear + others[1]
            turned = self._turned(quadratic + self._quadratic, linear + self._linear)
            solved, self._inverse = _solved(*turned, shared, individual)
            weights = solved / self._scale
            weights[:, -1] -= weights @ self._mean
            step = weights - self.weights
            given = self._rows[: self._count], self._pulled[0]
            reach = max(np.abs(rows[:, : self.width] @ step.T).max(initial=0.0) for rows in given)
            self.weights = self.weights + step * min(1.0, _FARTHEST / max(reach, 1e-9))
            whole += reach <= _FARTHEST
            if whole == _NEWTON or np.abs(step).max() < 1e-3:
                break
        self._waiting = 0
        self._retire()

    def since(self, arm: int, outcomes: int) -> tuple[Floats, Floats]:
        """(vectors (n, shared_width(dim)), qualities (n,)) of an arm's outcomes but for so many first ones.

        A vector is what was read of the prompt, and the quality beside it, no longer than 1. Of outcomes that were
        told long ago nothing but sums is left.
        """
        fresh = max(int(self.outcomes[arm]) - outcomes, 0)
        chosen = np.flatnonzero(self._about[0, : self._count] == arm)
        chosen = chosen[max(len(chosen) - fresh, 0) :]
        rows, quality = self._rows[chosen, : self.width - 1].astype(np.float64), self._about[1, chosen]
        axes = len(self._axes.T)
        forms = rows[:, axes:]
        forms /= np.maximum(np.sqrt((forms**2).sum(1, keepdims=True)), _LONGEST_FORMS)
        return np.concatenate([rows[:, :axes], forms, quality[:, None]], 1) / np.sqrt(3), quality

    def pull(self, arms: Floats, means: Floats, counts: Floats) -> None:
        """Learn from others' outcomes beside the own ones, in the place of those pulled before.

        Args:
            arms: (groups,), whose outcomes a group is of.
            means: (groups, shared_width(dim)) of the vectors that `since` gave, with their quality in the end.
            counts: (groups,) outcomes of each group.

        Of arms whose difficulty is known beforehand nothing is learnt: others' outcomes do not say how far it is off.
        """
        if self.informed:
            return
        axes, means = len(self._axes.T), means * np.sqrt(3)
        rows = np.concatenate([means[:, :axes], means[:, axes:-1] * _LONGEST_FORMS, np.ones((len(means), 1))], 1)
        held = np.array([counts[arms == arm].sum() for arm in range(self.arms)])
        fraction = np.minimum(1.0, _BELIEVED / np.maximum(held, 1e-9))
        quality, weight = np.clip(means[:, -1], 0, 1), counts * fraction[arms.astype(np.intp)]
        self._pulled = rows.astype(np.float32), np.stack([arms, quality, weight])
        self.pulled = held * fraction
        self.fit()

    def _turned(self, quadratic: Floats, linear: Floats) -> tuple[Floats, Floats]:
        """The same of standardised inputs, (x - mean) / scale, of which the last stays 1."""
        mean, level = self._mean, quadratic[:, :, -1:]
        moved = level * mean
        turned = quadratic - moved - moved.transpose(0, 2, 1) + level[:, -1:] * np.outer(mean, mean)
        return turned / np.outer(self._scale, self._scale), (linear - linear[:, -1:] * mean) / self._scale

    def _expanded(self, inputs: Floats, about: Floats) -> tuple[Floats, Floats]:
        """(quadratic (arms, width, width), linear (arms, width)) of the rows' log-likelihood at today's weights."""
        quadratic, linear = np.zeros_like(self._quadratic), np.zeros_like(self._linear)
        arms, quality, weight = about
        for arm in range(self.arms):
            chosen = np.flatnonzero(arms == arm)
            rows = inputs[chosen]
            x = rows[:, : self.width]
            logits = x @ self.weights[arm].astype(np.float32)
            chance = chances_of(logits + rows[:, self.width + arm] if self.informed else logits)
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
        quadratic, linear = self._expanded(self._rows[:leaving], self._about[:, :leaving])
        self._quadratic += quadratic
        self._linear += linear
        self._rows[:_EXACT] = self._rows[leaving : self._count]
        self._about[:, :_EXACT] = self._about[:, leaving : self._count]
        self._count = _EXACT

    def _standardised(self) -> tuple[Floats, Floats, Floats, Floats]:
        """(mean, scale, shared, individual), each (width,).

        Mean and scale give the inputs a mean of 0 and a variance of about 1, the last stays 1. The penalties on what
        is shared and on what is an arm's own say how much logits vary from prompt to prompt, whatever the width.
        """
        rows, weight = self._pulled[0][:, : self.width - 1], self._pulled[1][2]
        others = np.stack([np.full(self.width - 1, weight.sum()), weight @ rows, weight @ rows**2])
        count, total, squares = self._sums[:, :-1] + others
        mean = total / np.maximum(count, 1)
        variance = np.maximum(squares / np.maximum(count, 1) - mean**2, 0)
        scale = np.sqrt(np.maximum(variance, _FLOOR**2))
        # Floored at a tenth of what a unit vector has: the first few prompts may be alike.
        axes = len(self._axes.T)
        scale[:axes] = np.sqrt(max(float(variance[:axes].mean()), 0.1 / self.dim)) / _VECTOR_WEIGHT
        size = max(float((variance / scale**2).sum()), 1.0)
        # The level that all share is all but free.
        shared = np.append(np.full(self.width - 1, size / _SHARED**2), 0.01)
        individual = np.append(np.full(self.width - 1, size / _INDIVIDUAL**2), _LEVEL)
        return np.append(mean, 0.0), np.append(scale, 1.0), shared, individual

    def _logits(self, x: Floats) -> Floats:
        offsets = x[..., self.width :] if self.informed else 0.0
        return np.asarray(x[..., : self.width] @ self.weights.T + offsets)

    def expected(self, x: Floats) -> Floats:
        """Quality of each arm for inputs (inputs,) or (n, inputs): (arms,) or (n, arms), within 0 and 1."""
        # Beyond chance alone, the mean error is drift: a backend that got worse, or better, of late.
        chance = _WORTH * _NOISE * np.sqrt(_RECENT / 2)
        drift = np.sign(self.error) * np.maximum(np.abs(self.error) - chance, 0)
        return np.asarray(np.clip(chances_of(self._logits(self.read(x))) + drift, 0.0, 1.0))

    def uncertainty(self, x: Floats) -> Floats:
        """Standard deviation of each arm's expected quality for inputs (inputs,): (arms,)."""
        x = self.read(x)
        # What never varied before says no more of the doubt than what varies most.
        chance, here = chances_of(self._logits(x)), np.clip((x[: self.width] - self._mean) / self._scale, -3, 3)
        return np.asarray(chance * (1 - chance) * np.sqrt(np.maximum((self._inverse @ here) @ here, 0.0)))

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
            "rows": (min(count, len(self._rows) - 1), self._rows.shape[1]),
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


@lru_cache(maxsize=4)
def _axes(dim: int) -> Floats:
    """Orthonormal axes (dim, at most 32) that vectors are read along: cosines of frequencies far from each other."""
    if dim <= _READ:
        return np.eye(dim)
    waves = np.linspace(1, dim - 1, _READ).astype(np.int64)
    return np.asarray(np.sqrt(2 / dim) * np.cos(np.pi / dim * (np.arange(dim)[:, None] + 0.5) * waves))


def shared_width(dim: int) -> int:
    """Numbers of an outcome that travels to others: of the vector (dim,), the forms, and its quality."""
    return min(dim, _READ) + len(PROMPT_FORMS) + 1


def logit(chances: Floats) -> Floats:
    """Of probabilities, those nearest to 0 and 1 held back."""
    held = np.clip(np.asarray(chances, np.float64), _STEEPEST, 1 - _STEEPEST)
    return np.asarray(np.log(held / (1 - held)))


def chances_of(logits: Floats) -> Floats:
    """The logistic function, without overflow."""
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
