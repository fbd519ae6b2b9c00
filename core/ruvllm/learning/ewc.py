"""Elastic weight consolidation, online: what earlier tasks need of the weights holds them in place.

L = L_new + λ Σ F (θ − θ*)² (Kirkpatrick et al. 2017), with one anchor θ* and a Fisher diagonal that
older tasks fade from (Schwarz et al. 2018) and that is kept as a moving average while a task goes on
(EWC++, Chaudhry et al. 2018). Nobody has to say where a task ends: gradients that do not look like
the Fisher of the task so far do.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ruvllm.errors import InputError, RuvllmError, StoreError
from ruvllm.state.packing import Arrays, Spec, pack, unpack

LEAST, DEFAULT, MOST = 100.0, 2_000.0, 15_000.0  # λ
SAMPLES = 1_000  # the task's Fisher is a mean over about as many gradients
_BLOCK = 16  # gradients that are judged together
_WARM = 8  # blocks that a task takes before its end is looked for
_DRIFT = 2.0  # standard deviations of a gradient's novelty, as the mean of a block
_FADE = 0.9  # of older tasks' Fisher at a boundary
_NOVEL = 1e3  # the most a gradient counts for: one outlier shall not hide the next boundary
_FLOOR = 0.01  # of the mean Fisher: what a direction that was never used counts as
_BUDGET = 0.05  # nats that older tasks may have lost, by the Fisher's own estimate ½ Σ F (θ − θ*)²
_UP, _DOWN = 1.25, 0.95  # of λ, a block
EWC_SPECS = {
    **dict.fromkeys(("anchor", "fisher", "current", "block", "before"), Spec(("weights",))),
    "numbers": Spec((5,), "float64"),
    "counts": Spec((4,), "int64"),
}
_FIX = "drop it; it is estimated again"
Flat = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class EwcStats:
    """Where consolidation stands.

    Attributes:
        tasks: how many were consolidated.
        strength: λ.
        samples: gradients of the task that goes on.
        drift: mean novelty of the last block, in standard deviations.
    """

    tasks: int
    strength: float
    samples: int
    drift: float


class EwcPlusPlus:
    """For one flat float32 vector of weights θ (n,).

    After each step give `observe` the gradient of the data's loss alone, and let `pull` hold θ;
    or add `penalty`'s gradient to the data's.

    Attributes:
        fisher: float32 (n,), of all consolidated tasks.
        anchor: float32 (n,), θ* of the last of them.
        strength: λ, between `least` and `most`: it rises while the older tasks lose more than a
            twentieth of a nat by the Fisher's estimate, and falls while they lose far less.
    """

    def __init__(
        self,
        n: int,
        fade: float = _FADE,
        strength: float = DEFAULT,
        least: float = LEAST,
        most: float = MOST,
        samples: int = SAMPLES,
    ) -> None:
        """Raises InputError: a value out of range."""
        if n < 1 or samples < _BLOCK or not 0 <= fade <= 1 or not 0 < least <= strength <= most < np.inf:
            message = f"n {n}, fade {fade}, samples {samples}, strength {least} <= {strength} <= {most}"
            fix = f"n > 0, fade 0 to 1, at least {_BLOCK} samples, 0 < least <= strength <= most"
            raise InputError(message, field="ewc", fix=fix)
        self.n, self.fade, self.strength, self._range, self._samples = n, fade, strength, (least, most), samples
        self.fisher, self.anchor = np.zeros(n, np.float32), np.zeros(n, np.float32)
        self.tasks = 0
        self._drift = 0.0
        self._start_task()

    def _start_task(self) -> None:
        self._current = np.zeros(self.n, np.float32)  # this task's Fisher
        self._seen = 0  # gradients in it
        self._blocks = 0
        self._mean = self._square = 0.0  # of the novelty, over its blocks
        self._start_block(np.zeros(self.n, np.float32))

    def _start_block(self, theta: Flat) -> None:
        self._block = np.zeros(self.n, np.float32)  # Σ g² of the gradients under judgement
        self._novelty = self._novelty_squared = 0.0
        self._filled = 0
        self._before = theta.copy()  # what a task that ended here would be held at

    @property
    def stats(self) -> EwcStats:
        """Counts and λ as they stand."""
        return EwcStats(self.tasks, self.strength, self._seen + self._filled, self._drift)

    def observe(self, gradient: Flat, theta: Flat) -> bool:
        """Take in one gradient of the data's loss; true when a task has just ended, and been consolidated.

        Args:
            gradient: (n,), of one example.
            theta: (n,), the weights before its step.

        Raises:
            InputError: of another shape, or not finite.
        """
        squared = gradient * gradient
        total = float(squared.sum()) if gradient.shape == theta.shape == (self.n,) else np.nan
        if not np.isfinite(total):
            message = f"a gradient of shape {gradient.shape}, squared norm {total}"
            raise InputError(message, field="gradient", fix=f"use finite numbers of shape ({self.n},)")
        if self._filled == 0:
            self._before = theta.copy()
        if self._seen:
            novelty = float(np.log1p(self._ratio(squared)))
            self._novelty += novelty
            self._novelty_squared += novelty * novelty
        self._block += squared
        self._filled += 1
        if self._filled < _BLOCK:
            return False
        ended = self._assess()
        if ended:
            block, filled = self._block, self._filled
            self.consolidate(self._before)
            self._block, self._filled = block, filled
        self._settle(ended, theta)
        self._adapt(theta)
        return ended

    def _ratio(self, squared: Flat) -> float:
        """Mean of g²/F: near 1 for gradients like the task's own, far above where they go elsewhere."""
        floor = _FLOOR * float(self._current.mean()) + 1e-12  # there may have been no gradient so far
        return min(float((squared / (self._current + np.float32(floor))).mean()), _NOVEL)

    def _assess(self) -> bool:
        """Whether this block is of another task than those before it."""
        if self._blocks < _WARM:
            return False
        spread = max(float(np.sqrt(max(self._square - self._mean**2, 0.0))), 0.05)
        self._drift = (self._novelty / _BLOCK - self._mean) / spread
        return self._drift > _DRIFT

    def _settle(self, ended: bool, theta: Flat) -> None:
        """Add the block to the Fisher of its task."""
        rate = self._filled / min(self._seen + self._filled, self._samples)
        self._current += np.float32(min(rate, 1.0)) * (self._block / self._filled - self._current)
        if self._seen and not ended:  # the first block had nothing to be compared with
            self._blocks += 1
            rate = max(1 / self._blocks, _BLOCK / self._samples)
            self._mean += rate * (self._novelty / _BLOCK - self._mean)
            self._square += rate * (self._novelty_squared / _BLOCK - self._square)
        self._seen += self._filled
        self._start_block(theta)

    def _adapt(self, theta: Flat) -> None:
        if not self.tasks:
            return
        lost = 0.5 * float(self.fisher @ (theta - self.anchor) ** 2)
        if lost > _BUDGET:
            self.strength = min(self.strength * _UP, self._range[1])
        elif lost < _BUDGET / 4:
            self.strength = max(self.strength * _DOWN, self._range[0])

    def consolidate(self, theta: Flat) -> None:
        """End the task here: what it needs of `theta` (n,) is held from now on."""
        if theta.shape != (self.n,) or not np.isfinite(theta).all():
            fix = f"use finite numbers of shape ({self.n},)"
            raise InputError(f"weights of shape {theta.shape}", field="theta", fix=fix)
        self.fisher = np.float32(self.fade) * self.fisher + self._current
        self.anchor = theta.copy()
        self.tasks += 1
        self._start_task()

    def penalty(self, theta: Flat) -> tuple[float, Flat]:
        """λ Σ F (θ − θ*)² and its gradient (n,); both 0 before the first task ends."""
        moved = theta - self.anchor
        pull = np.float32(self.strength) * self.fisher * moved
        return float(pull @ moved), 2 * pull

    def pull(self, theta: Flat, rate: float) -> None:
        """Move θ towards θ* in place, as a step of this rate along the penalty would, but stable at any λ.

        The step is implicit: min over θ' of ‖θ' − θ‖²/(2·rate) + penalty(θ').
        """
        if self.tasks:
            stiffness = np.float32(2 * rate * self.strength) * self.fisher
            theta -= (theta - self.anchor) * (stiffness / (1 + stiffness))

    def arrays(self) -> Arrays:
        """All of it, by name: copies."""
        return {
            "anchor": self.anchor.copy(),
            "fisher": self.fisher.copy(),
            "current": self._current.copy(),
            "block": self._block.copy(),
            "before": self._before.copy(),
            "numbers": np.array([self.strength, self._mean, self._square, self._novelty, self._novelty_squared]),
            "counts": np.array([self.tasks, self._seen, self._blocks, self._filled], np.int64),
        }

    def restore(self, arrays: Arrays, error: type[RuvllmError] = StoreError) -> None:
        """Become what `arrays` was taken of. Raises `error`: of another number of weights, or impossible."""
        numbers, counts = arrays["numbers"].tolist(), arrays["counts"].tolist()
        least, most = self._range
        fishers = [arrays[name] for name in ("fisher", "current", "block")]
        possible = least <= numbers[0] <= most and min(counts) >= 0 and counts[3] < _BLOCK
        shaped = all(arrays[name].shape == (self.n,) for name in ("anchor", "before", "fisher", "current", "block"))
        if not shaped or not possible or any((fisher < 0).any() for fisher in fishers):
            raise error(f"no consolidation of {self.n} weights", field="ewc", fix=_FIX)
        self.fisher, self._current, self._block = (fisher.copy() for fisher in fishers)
        self.anchor, self._before = arrays["anchor"].copy(), arrays["before"].copy()
        self.strength, self._mean, self._square, self._novelty, self._novelty_squared = numbers
        self.tasks, self._seen, self._blocks, self._filled = counts

    def to_bytes(self) -> bytes:
        """For the state file."""
        return pack(self.arrays(), "ewc")

    def load(self, data: bytes, error: type[RuvllmError] = StoreError) -> None:
        """Become what `to_bytes` was taken of. Raises `error`: it is damaged, or of other weights."""
        self.restore(unpack(data, "ewc", EWC_SPECS, error=error), error)
