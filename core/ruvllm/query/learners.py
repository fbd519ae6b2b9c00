"""What learns from answers beside the router: the choice of model sizes, and patterns of what worked."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ruvllm.encoders.protocol import Encoder, Pause, no_pause
from ruvllm.learning.sona import SonaConfig, SonaEngine, SonaReport
from ruvllm.options import LearningConfig, RouterConfig
from ruvllm.sizing.fastgrnn import FastGrnn
from ruvllm.sizing.fastgrnn.cell import Shape
from ruvllm.sizing.fastgrnn.replay import Replay
from ruvllm.sizing.fastgrnn.session import RouterSession
from ruvllm.sizing.fastgrnn.training import FastGrnnTrainer, Learnt
from ruvllm.sizing.ledger import SizeOutcomes
from ruvllm.state.names import FASTGRNN, REPLAY, BlobStore
from ruvllm.state.steps import Steps

__all__ = ["Learners"]


class Learners:
    """They take up what the state file has, and put it back with `save`.

    Args:
        encoder: of the vectors they see.
        store: the state file, or the part of it for these vectors.
    """

    def __init__(self, encoder: Encoder, store: BlobStore, router: RouterConfig, learning: LearningConfig) -> None:
        self._encoder, self._store, self._router, self._learning = encoder, store, router, learning
        self._network: FastGrnn | None = None
        self._replay: Replay | None = None
        self._engine: SonaEngine | None = None
        self._trainer: FastGrnnTrainer | None = None
        self._stored = 0  # trajectories of the engine that are on disk
        self._labelled = self._trained = 0  # turns with feedback that are on disk, that were trained on

    @property
    def enabled(self) -> bool:
        """Whether anything shall be learnt."""
        return self._learning.enabled

    @property
    def network(self) -> FastGrnn:
        """Chooses model sizes."""
        if self._network is None:
            data = self._store.load(FASTGRNN)
            stored = None if data is None else FastGrnn.from_bytes(data)
            if stored is None or stored.inputs.dim != self._encoder.dim:
                shape = Shape(self._router.hidden_dim, self._router.rank, self._router.sparsity)
                stored = FastGrnn(self._encoder.dim, shape)
            self._network = stored
        return self._network

    @property
    def replay(self) -> Replay:
        """The turns it learns from."""
        if self._replay is None:
            data = self._store.load(REPLAY)
            self._replay = Replay() if data is None else Replay.from_bytes(data)
            self._labelled = len(self._replay.labelled)
        return self._replay

    @property
    def engine(self) -> SonaEngine:
        """Learns patterns."""
        if self._engine is None:
            learning = self._learning
            config = SonaConfig(
                ewc_lambda=learning.ewc_lambda,
                pattern_clusters=learning.pattern_clusters,
                background_interval_ms=learning.background_interval_ms,
                quality_threshold=learning.quality_threshold,
            )
            self._engine = SonaEngine(config, self._encoder, self._store)
            self._stored = self._engine.get_stats().trajectories
        return self._engine

    def size_outcomes(self) -> SizeOutcomes | None:
        """What takes outcomes of chosen backends to the model router; None where nothing shall be learnt."""
        return SizeOutcomes(self.network, self.replay) if self.enabled else None

    def turn(self, vector: NDArray[np.float32], text: str) -> int:
        """The serial in the replay buffer of a prompt that an earlier process answered, to label it by."""
        return self.replay.add(self.network.inputs(vector, text))

    def start(self) -> RouterSession:
        """The view of a new session."""
        return RouterSession(self.network, self.replay if self.enabled else None, explore=self._router.explore)

    @property
    def has_patterns_to_distil(self) -> bool:
        """Whether trajectories wait, and the engine's own interval is over, or its buffer full."""
        return self.enabled and self.engine.core.due

    @property
    def has_sizes_to_train(self) -> bool:
        """Whether turns were rated since the model router was last trained, and enough in all."""
        return self.enabled and len(self.replay.labelled) > self._trained and self._sizes.ready

    async def distil(self, pause: Pause = no_pause) -> SonaReport:
        """Distil patterns from all that waits, a slice at a time; what a pause stops goes on with the next call."""
        report = self.engine.force_learn(0.0)
        while self.engine.core.busy:
            await pause()
            later = self.engine.force_learn(0.0)
            report = replace(later, trajectories=report.trajectories + later.trajectories)
        return report

    async def train(self, steps: int, pause: Pause = no_pause) -> Learnt | None:
        """So many steps of the model router's training; None where too few turns were rated."""
        if not self._sizes.ready:
            return None
        labelled = len(self.replay.labelled)
        learnt = await self._sizes.learn(steps, pause)
        self._trained = labelled
        return learnt

    @property
    def _sizes(self) -> FastGrnnTrainer:
        if self._trainer is None:
            self._trainer = FastGrnnTrainer(self.network, self.replay)
        return self._trainer

    def save(self, steps: Steps) -> None:
        """Store what is new; what cannot be is set aside. Raises StoreError: the file takes nothing."""
        with steps("patterns"):
            if self._engine is not None and (ended := self._engine.get_stats().trajectories) != self._stored:
                self._engine.flush()
                self._stored = ended
        with steps("models"):
            if self._replay is not None and (labelled := len(self._replay.labelled)) != self._labelled:
                self._store.save(REPLAY, self._replay.to_bytes)
                self._store.save(FASTGRNN, self.network.to_bytes)
                self._labelled = labelled
