"""What learns from outcomes beside the router's weights: patterns of what worked, query vectors, model sizes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ruvllm.config import Config
from ruvllm.encoders.protocol import Encoder, Pause, Vectors, no_pause
from ruvllm.errors import StoreError
from ruvllm.state.names import FASTGRNN, FASTGRNN_EWC, REPLAY, SONA, BlobStore
from ruvllm.state.steps import Steps
from ruvllm.state.store import Store
from ruvllm.types import Feedback

if TYPE_CHECKING:  # who only routes, and has learnt nothing yet, need not wait for them
    from ruvllm.learning.adaptive import AdaptiveEmbeddingService
    from ruvllm.learning.ewc import EwcPlusPlus
    from ruvllm.learning.lora import LowRank
    from ruvllm.learning.sona import SonaEngine, SonaReport
    from ruvllm.sizing.fastgrnn import FastGrnn
    from ruvllm.sizing.fastgrnn.replay import Replay
    from ruvllm.sizing.fastgrnn.session import RouterSession
    from ruvllm.sizing.fastgrnn.training import FastGrnnTrainer, Learnt
    from ruvllm.sizing.ledger import SizeOutcomes


class Learners:
    """They take up what the state file has, and put it back with `save`."""

    def __init__(self, encoder: Encoder, store: BlobStore, config: Config) -> None:
        self._encoder, self._store = encoder, store
        self._shared: LowRank | None = None
        self.configure(config)

    def configure(self, config: Config) -> None:
        """Begin again with what the state file has, under these options; what was not saved is lost."""
        self._config, self._router, self._learning = config, config.router, config.learning
        self._silent: bool | None = None  # whether there is nothing stored that could vote
        self._adapter: AdaptiveEmbeddingService | None = None
        self._network: FastGrnn | None = None
        self._replay: Replay | None = None
        self._engine: SonaEngine | None = None
        self._trainer: FastGrnnTrainer | None = None
        self._ewc: EwcPlusPlus | None = None
        self._stored = 0  # version of the engine that is on disk
        self._labelled = self._trained = 0  # turns with feedback that are on disk, that were trained on

    @property
    def enabled(self) -> bool:
        """Whether anything shall be learnt."""
        return self._learning.enabled

    @property
    def learns_patterns(self) -> bool:
        """Whether outcomes become patterns, and vote."""
        return self._learning.enabled and self._learning.patterns

    @property
    def learns_sizes(self) -> bool:
        """Whether outcomes teach the choice of model sizes."""
        return self._learning.enabled and self._learning.sizes

    @property
    def encoder(self) -> str:
        """Name of the encoder whose vectors outcomes are compared by."""
        return self._encoder.name

    @property
    def version(self) -> int:
        """Changes whenever votes may; 0 while there is nothing to vote. What is damaged has no vote."""
        if self._engine is None:
            if self._silent is None:
                try:
                    self._silent = not self.learns_patterns or self._store.load(SONA) is None
                    if not self._silent:
                        return self.engine.core.version
                except StoreError:
                    self._silent = True
            return 0
        return self._engine.core.version if self.learns_patterns else 0

    def votes(self, vector: Vectors) -> Mapping[str, float]:
        """What outcomes of tasks like this one, float32 (dim,) of unit norm, say of agents; see `SonaCore.votes`."""
        return self.engine.votes(vector) if self.version else {}

    def model_outcomes(self, vector: Vectors) -> Mapping[str, tuple[float, float]]:
        """How models answered tasks like this one, (dim,); see `SonaCore.model_outcomes`."""
        return self.engine.model_outcomes(vector) if self.version else {}

    async def observe_model(self, vector: Vectors, model: str, quality: float) -> None:
        """How good a model's answer to a prompt (dim,) was, 0 to 1."""
        with suppress(StoreError):  # as for `observe`
            await self.ended(vector, "", quality, None, model)

    async def observe(self, task: str | Vectors, agent: str, right: bool = True) -> bool:
        """A task belongs to an agent, or not; whether patterns learnt from it.

        Args:
            task: its text, or vector (dim,) of this encoder.
        """
        vector = (await self._encoder.encode([task]))[0] if isinstance(task, str) else task
        with suppress(StoreError):  # what is stored is damaged: `ruvllm state check` says so, and the router learnt it
            return await self.ended(vector, agent, float(right), right)
        return False

    async def ended(
        self, vector: Vectors, agent: str, quality: float | None, success: bool | None, model: str = ""
    ) -> bool:
        """How a task (dim,) came out; whether patterns learnt from it.

        Args:
            agent, model: who did it, "" where that is unknown.
            quality: 0 to 1.
        """
        if not self.learns_patterns or not vector.any():  # no word of it is known
            return False
        engine = self.engine
        id = engine.begin_trajectory(vector, agent)
        engine.add_trajectory_context({name: it for name, it in (("agent", agent), ("model", model)) if it}, id)
        return await engine.aend_trajectory(quality, success, id) is not None

    async def erase(self, texts: Sequence[str]) -> None:
        """Let go of outcomes and patterns of these very texts."""
        with suppress(StoreError):  # damaged, and nothing of it is used
            if texts and self.version:
                self.engine.core.erase(await self._encoder.encode(texts))

    async def forget(self, feedback: Feedback) -> None:
        """Take back what it taught."""
        if self.version:
            self.engine.core.forget((await self._encoder.encode([feedback.text]))[0], feedback.agent)

    async def relearn(
        self, outcomes: Sequence[tuple[str, str, str, float, bool | None]], pause: Pause = no_pause
    ) -> None:
        """Learn patterns from nothing but these outcomes, in their order: (task, agent, model, quality, success)."""
        if not self.learns_patterns or not outcomes:
            return
        with closing(Store()) as store:
            fresh = Learners(self._encoder, store, self._config)
            for text, agent, model, quality, success in outcomes:
                await fresh.ended((await self._encoder.encode([text]))[0], agent, quality, success, model)
                await pause()
            await fresh.distil(pause)
        fresh.engine.core.version += self.version
        self.engine.core = fresh.engine.core

    @property
    def query_adapter(self) -> AdaptiveEmbeddingService | None:
        """Adapts the vectors that memories are searched with, a domain a collection; None where nothing shall."""
        from ruvllm.learning.adaptive import AdaptiveEmbeddingService

        if self._adapter is None and self._learning.enabled and self._learning.query_adapter:
            with suppress(StoreError):  # damaged: queries stay as they are
                self._adapter = AdaptiveEmbeddingService(self._encoder, self._store)
                self._adapter.shared = self._shared
        return self._adapter

    def use_pulled(self, adapter: LowRank | None) -> None:
        """Let what others' rated searches taught move queries too, from now on; None for what was learnt here alone."""
        self._shared = adapter if adapter is None or adapter.dim == self._encoder.dim else None
        if self._adapter is not None:
            self._adapter.shared = self._shared

    @property
    def network(self) -> FastGrnn:
        """Chooses model sizes."""
        from ruvllm.sizing.fastgrnn import FastGrnn
        from ruvllm.sizing.fastgrnn.cell import Shape

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
        from ruvllm.sizing.fastgrnn.replay import Replay

        if self._replay is None:
            data = self._store.load(REPLAY)
            self._replay = Replay() if data is None else Replay.from_bytes(data)
            self._labelled = len(self._replay.labelled)
        return self._replay

    @property
    def engine(self) -> SonaEngine:
        """Learns patterns. Raises StoreError: what is stored is damaged."""
        if self._engine is None:
            from ruvllm.learning.sona import SonaConfig, SonaEngine

            learning = self._learning
            config = SonaConfig(
                ewc_lambda=learning.ewc_lambda,
                pattern_clusters=learning.pattern_clusters,
                background_interval_ms=learning.background_interval_ms,
                quality_threshold=learning.quality_threshold,
            )
            self._engine = SonaEngine(config, self._encoder, self._store)
            self._stored = self._engine.core.version
        return self._engine

    def size_outcomes(self) -> SizeOutcomes | None:
        """What takes outcomes of chosen backends to the model router; None where nothing shall be learnt."""
        from ruvllm.sizing.ledger import SizeOutcomes

        return SizeOutcomes(self.network, self.replay) if self.learns_sizes else None

    def turn(self, vector: NDArray[np.float32], text: str) -> int:
        """The serial in the replay buffer of a prompt that an earlier process answered, to label it by."""
        return self.replay.add(self.network.inputs(vector, text))

    def start(self) -> RouterSession:
        """The view of a new session."""
        from ruvllm.sizing.fastgrnn.session import RouterSession

        return RouterSession(self.network, self.replay if self.learns_sizes else None, explore=self._router.explore)

    @property
    def has_patterns_to_distil(self) -> bool:
        """Whether trajectories wait, and the engine's own interval is over, or its buffer full."""
        return self.version > 0 and len(self.engine.core.waiting) > 0 and self.engine.core.due

    @property
    def has_sizes_to_train(self) -> bool:
        """Whether turns were rated since the model router was last trained, and enough in all."""
        trained = self.learns_sizes and self._learning.network
        return trained and len(self.replay.labelled) > self._trained and self._sizes.ready

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
        self._trained, self._labelled = labelled, -1  # the network is another one now, to be stored
        return learnt

    @property
    def _sizes(self) -> FastGrnnTrainer:
        from ruvllm.learning.ewc import EwcPlusPlus
        from ruvllm.sizing.fastgrnn.training import FastGrnnTrainer

        if self._trainer is None:
            self._ewc = EwcPlusPlus(self.network.shape.size, strength=self._learning.ewc_lambda)
            with suppress(StoreError):  # of a network of another shape: it is estimated again
                if (data := self._store.load(FASTGRNN_EWC)) is not None:
                    self._ewc.load(data)
            self._trainer = FastGrnnTrainer(self.network, self.replay, self._ewc)
        return self._trainer

    def save(self, steps: Steps) -> None:
        """Store what is new; what cannot be is set aside. Raises StoreError: the file takes nothing."""
        with steps("patterns"):
            if self._engine is not None and self._engine.core.version != self._stored:
                self._engine.flush()
                self._stored = self._engine.core.version
        with steps("queries"):
            if self._adapter is not None:
                self._adapter.save()
        with steps("models"):
            if self._replay is not None and (labelled := len(self._replay.labelled)) != self._labelled:
                self._store.save(REPLAY, self._replay.to_bytes)
                self._store.save(FASTGRNN, self.network.to_bytes)
                if self._ewc is not None:
                    self._store.save(FASTGRNN_EWC, self._ewc.to_bytes)
                self._labelled = labelled
