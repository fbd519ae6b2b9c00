"""The model router learns from the replay buffer, in steps that can be stopped after any."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ruvllm.encoders.protocol import Pause, no_pause
from ruvllm.errors import InputError
from ruvllm.sizing.fastgrnn import FastGrnn
from ruvllm.sizing.fastgrnn.loss import heads_loss, loss_of, outputs_of
from ruvllm.sizing.fastgrnn.replay import Replay

_JUDGES = 10  # one turn in ten with feedback judges and does not teach
_JUDGED = 512  # the latest of them
_ENOUGH_JUDGES = 8
_SCATTER = np.int64(0x2C1B3C6D)  # odd, its bits without a pattern
_SHOWN = 128  # of the latest feedback, to consolidation, in one go
_BETAS, _TINY = (0.9, 0.999), 1e-8
Flat = NDArray[np.float32]


class Penalty(Protocol):
    """What holds weights in place that earlier tasks need, e.g. elastic weight consolidation."""

    def penalty(self, theta: Flat) -> tuple[float, Flat]:
        """Its value, and its gradient (n,)."""
        ...

    def observe(self, gradient: Flat, theta: Flat) -> bool:
        """Take in the gradient (n,) of one example's loss; true when a task has ended."""
        ...


@dataclass(frozen=True, slots=True)
class Learnt:
    """What some steps gave.

    Attributes:
        before, after: mean loss on turns held out from learning, 0 without any.
        accepted: whether the new weights stayed: they do unless they are worse there.
        examples, judges: turns that taught, and that judged.
    """

    steps: int
    before: float
    after: float
    accepted: bool
    examples: int
    judges: int


def judges_among(serials: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which turns judge: one in ten, scattered, lest it be always the same place in a session."""
    mixed = serials * _SCATTER & 0xFFFFFFFF
    mixed = (mixed ^ mixed >> 15) * _SCATTER & 0xFFFFFFFF
    return np.asarray((mixed >> 16) % _JUDGES == 0)


class FastGrnnTrainer:
    """Adam (Kingma & Ba 2015) on batches of the replay buffer, back through each session's last turns.

    Args:
        penalty: holds what earlier tasks need; for θ of `network.shape.size` numbers.
        batch: turns in a step.
        enough: turns with feedback before there is any step.
        window: turns of a session that a gradient goes back through.
    """

    def __init__(
        self,
        network: FastGrnn,
        replay: Replay,
        penalty: Penalty | None = None,
        *,
        rate: float = 1e-3,
        batch: int = 32,
        enough: int = 100,
        window: int = 8,
        seed: int = 0,
    ) -> None:
        if not 0 < rate < 1 or min(batch, enough, window) < 1:
            message = f"rate {rate}, batch {batch}, enough {enough}, window {window}"
            raise InputError(message, field="rate", fix="use a rate between 0 and 1, and counts above 0")
        self.network, self.replay, self.penalty = network, replay, penalty
        self._rate, self._batch, self._enough, self._window = rate, batch, enough, window
        self._random = np.random.default_rng(seed)
        self._labelled: NDArray[np.int64] | None = None  # what was divided last
        self._restart()

    def _restart(self) -> None:
        self._first, self._second = np.zeros((2, self.network.shape.size), np.float32)
        self._steps = 0

    @property
    def ready(self) -> bool:
        """Whether there is enough feedback."""
        return len(self.replay.labelled) >= self._enough

    async def learn(self, steps: int = 100, pause: Pause = no_pause) -> Learnt:
        """So many steps, if there is enough feedback; worse weights are not kept.

        Args:
            pause: awaited between the steps. Cancelled there, the weights are as they were before.
        """
        training, judges = self._divided()
        if not self.ready or not len(training):
            return Learnt(0, 0.0, 0.0, False, len(training), len(judges))
        self.network.costs = self.replay.costs(self.network.costs)
        await self._show(pause)
        given = self.network.theta
        theta, done = given.copy(), 0
        while done < steps and len(training):
            self._step(theta, self._random.choice(training, min(self._batch, len(training)), replace=False))
            done += 1
            await pause()
            training, judges = self._divided()  # others may have changed the buffer meanwhile
        before, after = self.loss(given, judges), self.loss(theta, judges)
        accepted = len(judges) < _ENOUGH_JUDGES or after <= before
        if accepted:
            self.network.theta = theta
        else:
            self._restart()
        return Learnt(done, before, after, accepted, len(training), len(judges))

    def loss(self, theta: Flat, serials: NDArray[np.int64]) -> float:
        """Mean loss of such weights on turns of the replay buffer; 0 without any."""
        if not len(serials):
            return 0.0
        network = self.network
        batch = self.replay.batch(serials, self._window, network.costs)
        outputs = outputs_of(network.shape, theta, batch.x, batch.present)
        return float(heads_loss(outputs, batch, network.cost_weight)[0].mean())

    def _divided(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Serials of the turns that teach, and of the latest of those that judge."""
        labelled = self.replay.labelled
        if labelled is not self._labelled:
            judging = judges_among(labelled)
            self._labelled, self._split = labelled, (labelled[~judging], labelled[judging][-_JUDGED:])
        return self._split

    async def _show(self, pause: Pause) -> None:
        """New feedback, in order and one by one, to what has to notice where a task ends."""
        novel, theta = self.replay.novel, self.network.theta
        while self.penalty is not None and novel:
            serial = np.array([novel.popleft()], np.int64)
            if len(novel) < _SHOWN and np.isin(serial, self.replay.labelled)[0]:
                self.penalty.observe(self._gradient(theta, serial), theta)
                await pause()

    def _gradient(self, theta: Flat, serials: NDArray[np.int64]) -> Flat:
        batch = self.replay.batch(serials, self._window, self.network.costs)
        _, gradient = loss_of(self.network.shape, theta, batch, self.network.cost_weight)
        return gradient.astype(np.float32, copy=False)

    def _step(self, theta: Flat, serials: NDArray[np.int64]) -> None:
        """Move θ in place."""
        gradient = self._gradient(theta, serials)
        if self.penalty is not None:
            gradient += self.penalty.penalty(theta)[1]
        self._steps += 1
        self._first += np.float32(1 - _BETAS[0]) * (gradient - self._first)
        self._second += np.float32(1 - _BETAS[1]) * (gradient * gradient - self._second)
        spread = np.sqrt(self._second / np.float32(1 - _BETAS[1] ** self._steps)) + np.float32(_TINY)
        theta -= np.float32(self._rate / (1 - _BETAS[0] ** self._steps)) * self._first / spread
