"""What learns from answers beside the router: the choice of model sizes, and patterns of what worked."""

from __future__ import annotations

from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ruvllm.encoders.protocol import Encoder, Pause, no_pause
from ruvllm.learning.sona import SonaConfig, SonaEngine
from ruvllm.options import LearningConfig, RouterConfig
from ruvllm.sizing.fastgrnn import FastGrnn
from ruvllm.sizing.fastgrnn.cell import Shape
from ruvllm.sizing.fastgrnn.replay import Replay
from ruvllm.sizing.fastgrnn.session import RouterSession
from ruvllm.sizing.fastgrnn.training import FastGrnnTrainer, Learnt
from ruvllm.state.names import Keeper
from ruvllm.state.steps import Steps

__all__ = ["Learners"]

_NETWORK, _REPLAY = "fastgrnn", "replay"
_STEPS = 20  # of the model router's training in one go


class Learners:
    """They take up what the state file keeps, and put it back with `save`.

    Args:
        encoder: of the vectors they see.
        store: the state file, or the part of it for these vectors.
    """

    def __init__(self, encoder: Encoder, store: Keeper, router: RouterConfig, learning: LearningConfig) -> None:
        self._encoder, self._store, self._router, self._learning = encoder, store, router, learning
        self._kept = 0  # trajectories of the engine that are on disk
        self._labelled = self._taught = 0  # turns with feedback that are on disk, that were learnt from

    @property
    def enabled(self) -> bool:
        """Whether anything shall be learnt."""
        return self._learning.enabled

    @cached_property
    def network(self) -> FastGrnn:
        """Chooses model sizes."""
        data = self._store.kept(_NETWORK)
        if data is not None and (known := FastGrnn.from_bytes(data)).inputs.dim == self._encoder.dim:
            return known
        shape = Shape(self._router.hidden_dim, self._router.rank, self._router.sparsity)
        return FastGrnn(self._encoder.dim, shape)

    @cached_property
    def replay(self) -> Replay:
        """The turns it learns from."""
        data = self._store.kept(_REPLAY)
        known = Replay() if data is None else Replay.from_bytes(data)
        self._labelled = len(known.labelled)
        return known

    @cached_property
    def engine(self) -> SonaEngine:
        """Learns patterns."""
        learning = self._learning
        config = SonaConfig(
            ewc_lambda=learning.ewc_lambda,
            pattern_clusters=learning.pattern_clusters,
            background_interval_ms=learning.background_interval_ms,
            quality_threshold=learning.quality_threshold,
        )
        engine = SonaEngine(config, self._encoder, self._store)
        self._kept = engine.get_stats().trajectories
        return engine

    def turn(self, vector: NDArray[np.float32], text: str) -> int:
        """The serial in the replay buffer of a prompt that an earlier process answered, to label it by."""
        return self.replay.add(self.network.inputs(vector, text))

    def start(self) -> RouterSession:
        """The view of a new session."""
        return RouterSession(self.network, self.replay if self.enabled else None, explore=self._router.explore)

    async def tick(self, budget_s: float, steps: Steps, pause: Pause = no_pause) -> None:
        """Do what is due in the background, for about this long."""
        with steps("patterns"):
            if "engine" in self.__dict__:
                self.engine.tick(budget_s)
        with steps("models"):
            if "replay" in self.__dict__ and len(self.replay.labelled) > self._taught:
                self._taught = len(self.replay.labelled)
                await self._trainer.learn(_STEPS, pause)

    async def train(self, steps: int, pause: Pause = no_pause) -> Learnt | None:
        """So many steps of the model router's training; None where too few turns were rated."""
        if not self._trainer.ready:
            return None
        learnt = await self._trainer.learn(steps, pause)
        self._taught = len(self.replay.labelled)
        return learnt

    @cached_property
    def _trainer(self) -> FastGrnnTrainer:
        return FastGrnnTrainer(self.network, self.replay)

    def save(self, steps: Steps) -> None:
        """Keep what is new; what cannot be is set aside. Raises StoreError: the file takes nothing."""
        with steps("patterns"):
            if "engine" in self.__dict__ and (ended := self.engine.get_stats().trajectories) != self._kept:
                self.engine.flush()
                self._kept = ended
        with steps("models"):
            if "replay" in self.__dict__ and (labelled := len(self.replay.labelled)) != self._labelled:
                self._store.save(_REPLAY, self.replay.to_bytes)
                self._store.save(_NETWORK, self.network.to_bytes)
                self._labelled = labelled
