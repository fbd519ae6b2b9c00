"""What a set's examples teach: the head, how far to believe the zero-shot scores beside it, the calibration."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ruvllm.encoders.protocol import Pause, Vectors, no_pause, unit_rows
from ruvllm.lazy_dataclass import dataclass
from ruvllm.routing.calibration import Calibration, fit_temperature
from ruvllm.routing.head import MOST, Design, Examples, Head, Neighbours, Prior

# From how many examples on (a mean of 3 an agent, and 30 in all) held-out ones calibrate better than margins do.
_ENOUGH_EACH, _ENOUGH_IN_ALL = 3, 30
# How far the zero-shot scores are believed beside a head that examples taught: full for agents well described,
# little where a name is all there is. Held-out examples choose.
_SHARES = (1.0, 0.4, 0.15, 0.05)
FOLDS, _MANY = 5, 5_000
_TRIALS = 2  # folds that choose the share


@dataclass(frozen=True, slots=True)
class Fitted:
    """What the examples of a set gave.

    Attributes:
        prior_weight: how far the zero-shot logits are believed beside the head.
        neighbours: scores from the nearest examples, where they help.
        centroids: float32 (taught agents, dim), unit rows; empty where the examples are too few to calibrate with.
        calibration: measured on held-out examples; None where they are too few, and then the margins must tell
            how sure to be (see `outcome_of`).
        prior: what stands below all this, fixed, where the set came with it.
    """

    head: Head
    prior_weight: np.float32
    neighbours: Neighbours | None
    centroids: NDArray[np.float32]
    calibration: Calibration | None
    prior: Prior | None = None

    @classmethod
    def uncalibrated(cls, head: Head, prior: Prior | None = None) -> Fitted:
        """A head alone."""
        return cls(head, np.float32(1), None, np.zeros((0, head.dim), np.float32), None, prior)


class Fold:
    """Some of the examples held out, the others ready to teach heads.

    Attributes:
        head: what the others taught last, from which the next one starts.
    """

    def __init__(self, design: Design, held: Examples, head: Head | None = None) -> None:
        self._design, self._held, self.head = design, held, head

    @classmethod
    async def read(cls, examples: Examples, out: NDArray[np.bool_], pause: Pause, head: Head | None = None) -> Fold:
        """Hold out the examples where `out` (n,) is true."""
        return cls(await Design.read(examples.rows(~out), pause), examples.rows(out), head)

    async def logits(self, prior_weight: float, pause: Pause) -> NDArray[np.float32]:
        """Of the examples held out, by a head that did not see them: float32 (m, agents)."""
        start = None if self.head is None else self.head.weights
        self.head = head = await self._design.fit(pause, prior_weight, tolerance=5e-4, start=start)
        out = await self._design.logits(self._held, head.weights, pause)
        out += self._held.offsets * np.float32(prior_weight)
        return out


async def teach(examples: Examples, *, neighbours: bool, pause: Pause = no_pause) -> Fitted:
    """Choose the share, calibrate on held-out examples, fit the head on all; `pause` is awaited between steps.

    `neighbours`: whether scores from the nearest examples may be added; they cost time at every task.
    """
    if not enough(examples):
        return Fitted.uncalibrated(await (await Design.read(examples, pause)).fit(pause))
    prior_weight, logits, rows = await _held_out(examples, pause)
    near = None
    if neighbours and len(examples) <= MOST:
        near = Neighbours(examples.vectors, examples.labels, logits.shape[1])
        near, logits = near.weighed(logits, rows, folds_of(len(examples)))
    centroids = centroids_of(examples)
    closeness = closeness_of(examples, np.arange(len(examples)))
    calibration = await Calibration.measure(logits, examples.labels[rows], closeness, pause)
    head = await (await Design.read(examples, pause)).fit(pause, prior_weight)
    return Fitted(head, np.float32(prior_weight), near if near and near.weight else None, centroids, calibration)


def enough(examples: Examples) -> bool:
    """Whether some of them can be held out to calibrate with."""
    return len(examples) >= int(max(_ENOUGH_EACH * examples.offsets.shape[1], _ENOUGH_IN_ALL))


def folds_of(n: int, seed: int = 0) -> NDArray[np.int64]:
    """Which of the five folds each of n examples belongs to."""
    return np.random.default_rng(seed).permutation(n) % FOLDS


async def _held_out(examples: Examples, pause: Pause) -> tuple[float, NDArray[np.float32], NDArray[np.intp]]:
    """(the best share, logits (m, agents) by heads that did not see these examples, which they are (m,)).

    Of very many examples one fold is enough.
    """
    fold = folds_of(len(examples))
    taken = range(1 if len(examples) > _MANY else FOLDS)
    outs = [fold == k for k in taken[:_TRIALS]]
    labels = np.concatenate([examples.labels[out] for out in outs])
    prior_weight, tried = await best_prior_weight(
        [await Fold.read(examples, out, pause) for out in outs], labels, _SHARES, pause
    )
    rest = [await (await Fold.read(examples, fold == k, pause)).logits(prior_weight, pause) for k in taken[_TRIALS:]]
    rows = np.concatenate([np.flatnonzero(fold == k) for k in taken])
    return prior_weight, np.concatenate([tried, *rest]), rows


async def best_prior_weight(
    folds: Sequence[Fold], labels: NDArray[np.int64], shares: Sequence[float], pause: Pause
) -> tuple[float, NDArray[np.float32]]:
    """(the share that held-out examples like best, their logits under it): down the shares until it gets worse."""
    best, prior_weight, best_logits = np.inf, shares[0], np.zeros((0, 0), np.float32)
    for lower in shares:
        logits = np.concatenate([await fold.logits(lower, pause) for fold in folds])
        loss = fit_temperature(logits, labels)[1]
        if loss >= best:
            break
        best, prior_weight, best_logits = loss, lower, logits
    return prior_weight, best_logits


def centroids_of(examples: Examples) -> Vectors:
    """The mean example of each agent that has any: float32 (taught agents, dim), unit rows."""
    return unit_rows(_sums(examples)[0])


def closeness_of(examples: Examples, rows: NDArray[np.intp]) -> NDArray[np.float32]:
    """Cosine of some examples to the nearest agent's mean example, themselves left out of their own: float32 (m,)."""
    sums, place = _sums(examples)
    some, label = examples.vectors[rows], place[rows]
    cosines = some @ unit_rows(sums).T
    cosines[np.arange(len(rows)), label] = np.einsum("ij,ij->i", unit_rows(sums[label] - some), some)
    closest: NDArray[np.float32] = cosines.max(1)
    return closest


def _sums(examples: Examples) -> tuple[Vectors, NDArray[np.intp]]:
    """(the sum of each taught agent's examples, which of the sums each example is in)."""
    order = np.argsort(examples.labels, kind="stable")
    _, starts, place = np.unique(examples.labels[order], return_index=True, return_inverse=True)
    sums: Vectors = np.add.reduceat(examples.vectors[order], starts, axis=0)
    places = np.empty_like(place)
    places[order] = place
    return sums, places
