"""SonaEngine: each task that ends teaches at once, and the background makes patterns and lasting weights of many.

RETRIEVE what is known of the task, JUDGE how it came out, INSTANT learning in the micro adapter; then,
in the background, DISTILL what went well into patterns and CONSOLIDATE it in the base adapter.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np

from ruvllm.encoders.protocol import Encoder, Vectors, synchronous
from ruvllm.errors import ConfigError, InputError, RuvllmError, StoreError
from ruvllm.hints import Hinting, by_object
from ruvllm.learning.lora import LowRank
from ruvllm.learning.patterns import PATTERN_TYPES, Pattern, TypeGuesser
from ruvllm.learning.sona.config import SonaConfig
from ruvllm.learning.sona.core import SonaCore, SonaReport, SonaStats, Verdict, verdict_of
from ruvllm.learning.trajectories import Scalar, TrajectoryBuilder
from ruvllm.state.names import SONA, BlobStore
from ruvllm.state.packing import Arrays

__all__ = ["SonaConfig", "SonaEngine", "SonaReport", "SonaStats"]

_OPEN = 1_000  # trajectories that may go on at a time; the oldest is given up beyond it
_RETRIEVED = 3  # patterns that a verdict is tempered by
_MOST = 1e15  # of a vector's numbers

_QUERY = {"limit": "k"} | dict.fromkeys(("text", "embedding", "vector", "query_embedding", "task"), "query")
_TASK = dict.fromkeys(("text", "embedding", "vector", "query_embedding", "query", "input"), "task")
_OUTCOME = {"score": "quality", "task_success": "success"} | dict.fromkeys(("id", "trajectory_id"), "trajectory")

Query = str | Vectors | Sequence[float]


class SonaEngine(Hinting):
    """Learns from trajectories of one embedding space.

    Nothing runs by itself: a host calls `tick` when it has time. Without a trajectory every vector
    comes back as it went in.

    Args:
        encoder: makes vectors of texts; without one, give vectors.
        store: where `flush` keeps what is learnt, and a new engine takes it up.

    Raises:
        ConfigError: an unusable option, or the encoder's width is not `embedding_dim`.
        StoreError: what the store keeps is damaged.
    """

    INSTEAD: ClassVar = {
        "is_enabled": "enabled",
        "save": "flush, of an engine that was given a store",
        "load": "SonaEngine with a store, or from_bytes",
        "record_trajectory": "begin_trajectory, add_trajectory_step and end_trajectory",
    }

    def __init__(
        self,
        config: SonaConfig | Mapping[str, Any] | int | None = None,
        encoder: Encoder | None = None,
        store: BlobStore | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.config = config = SonaConfig.of(config)
        self._encoder, self._store, self._clock = encoder, store, clock
        self.dim = config.embedding_dim or (encoder.dim if encoder else config.hidden_dim)
        if encoder is not None and encoder.dim != self.dim:
            fix = f"use {encoder.dim}, or leave it out"
            raise ConfigError(
                f"embedding_dim is {self.dim}, the encoder's {encoder.dim}", field="embedding_dim", fix=fix
            )
        self._guesser = TypeGuesser(encoder) if encoder else None
        self._enabled = True
        self._open: OrderedDict[int, TrajectoryBuilder] = OrderedDict()
        self._begun = 0
        self.core = SonaCore(self.dim, config, clock)
        if store is not None and (data := store.load(SONA)) is not None:
            self._take_up(SonaCore.from_bytes(data, clock, config))

    def _take_up(self, core: SonaCore) -> None:
        if core.dim != self.dim:
            fix = "use the encoder it was learnt with, or another state file"
            raise StoreError(f"what is kept was learnt on {core.dim} dimensions, not {self.dim}", field=SONA, fix=fix)
        self.core = core

    @classmethod
    def with_config(
        cls,
        config: SonaConfig | Mapping[str, Any] | int | None = None,
        encoder: Encoder | None = None,
        store: BlobStore | None = None,
        **options: Any,
    ) -> SonaEngine:
        """An engine with a SonaConfig, or with options by name. Raises ConfigError: an unusable one."""
        return cls(SonaConfig.of(config, **options), encoder, store)

    @property
    def enabled(self) -> bool:
        """False: nothing is learnt, and vectors pass as they are."""
        return self._enabled

    def set_enabled(self, enabled: bool) -> None:
        """Stop or go on learning and adapting; what is known stays."""
        self._enabled = bool(enabled)

    @by_object("", _TASK)
    def begin_trajectory(self, task: Query | None = None, route: str = "") -> int:
        """Id of a new trajectory, which is the current one now.

        Args:
            task: in words, or its embedding (dim,); None takes the first step's input.

        Raises:
            InputError: an unusable vector.
        """
        text = task if isinstance(task, str) else ""
        vector = None if task is None or isinstance(task, str) else self._checked(task)
        builder = TrajectoryBuilder(text, vector)
        builder.set_route(route)
        self._begun += 1
        self._open[self._begun] = builder
        if len(self._open) > _OPEN:
            self._open.popitem(last=False)
        return self._begun

    @by_object("trajectory", {"state": "input", "observation": "input"})
    def add_trajectory_step(self, input: str, action: str, reward: float = 0.0, trajectory: int | None = None) -> None:
        """What it was taken on, what was done, and its reward from -1 to 1.

        Args:
            trajectory: an id of `begin_trajectory`; None takes the latest that is open.

        Raises:
            InputError: no such trajectory, or an unusable reward.
        """
        self._builder(trajectory).add_step(input, action, reward)

    @by_object("trajectory", objects=False)
    def add_trajectory_context(self, context: str | Mapping[str, Scalar], trajectory: int | None = None) -> None:
        """A name of what it happens in, or facts that its pattern shall carry. Raises InputError: unusable."""
        self._builder(trajectory).add_context(context)

    @by_object("trajectory")
    def set_trajectory_route(self, route: str, trajectory: int | None = None) -> None:
        """Who handles it: what a pattern of it advises. Raises InputError: no such trajectory, or too long a name."""
        self._builder(trajectory).set_route(route)

    @by_object("trajectory", _OUTCOME)
    async def aend_trajectory(
        self, quality: float | None = None, success: bool | None = None, trajectory: int | None = None
    ) -> Verdict | None:
        """Judge it and learn from it at once; None while the engine is switched off.

        Args:
            quality: 0 to 1.
            success: whether the task was solved, None when nobody knows.

        Raises:
            InputError: no such trajectory, or nothing is known of its task or its outcome; it stays open.
        """
        id = self._id(trajectory)
        builder = self._open[id]
        if not self._enabled:
            del self._open[id]
            return None
        vector = builder.vector
        if vector is None:
            vector = await self._vector(builder.text)
        kind = await self._guesser.guess(vector) if self._guesser else PATTERN_TYPES[0]
        self._id(id)  # while the encoder was awaited, another caller may have ended it
        ended = builder.trajectory(self.core.ended + 1, vector, kind, self._clock())
        like, least = self.core.retrieve(vector, _RETRIEVED), self.core.config.quality_threshold
        verdict = verdict_of(quality, success, ended.rewards, ended.route, like, least)
        del self._open[id]
        ended = replace(ended, quality=quality, success=success, score=verdict.score, good=verdict.good)
        self.core.learn(ended, verdict)
        return verdict

    end_trajectory = synchronous(aend_trajectory)

    @by_object()
    def tick(self, budget_s: float = 0.05) -> SonaReport:
        """Do background work when it is due, for about this long; what is left goes on at the next call.

        Due is what a cycle has begun, anything that waits once the interval is over, and a full buffer.

        Args:
            budget_s: looked at between slices of some milliseconds; one slice is always done.
        """
        return self._run(budget_s, self.core.due)

    @by_object()
    def force_learn(self, budget_s: float | None = None) -> SonaReport:
        """Do the background's work now, all of it, or for about so long. See `tick`."""
        return self._run(budget_s, due=True)

    def _run(self, budget_s: float | None, due: bool) -> SonaReport:
        if isinstance(budget_s, bool) or not isinstance(budget_s, int | float | None):
            raise InputError(f"budget_s is {budget_s!r}"[:100], field="budget_s", fix="give seconds, or None")
        if self._enabled and due:
            return self.core.run(budget_s)
        return SonaReport(False, not self.core.busy, 0, len(self.core.bank), self.core.adapters.ewc.tasks, 0.0)

    def flush(self) -> None:
        """Finish a cycle that was begun, and keep everything in the store. Raises StoreError: it cannot be written."""
        try:
            if self.core.busy:
                self.force_learn()
        finally:  # what a cycle has not finished waits for the next one
            if self._store is not None:
                self._store.save(SONA, self.to_bytes)

    @by_object("", _QUERY)
    async def afind_patterns(self, query: Query, k: int = 5) -> list[Pattern]:
        """What has worked for the like, nearest first, each with its similarity.

        Raises:
            InputError: an unusable query, or a text without an encoder.
        """
        vector = await self._vector(query) if isinstance(query, str) else self._checked(query)
        return self.core.bank.find(self.apply(vector), k, self._clock())

    find_patterns = synchronous(afind_patterns)

    def votes(self, vector: Vectors) -> dict[str, float]:
        """What outcomes of similar tasks say for and against each route; see `SonaCore.votes`."""
        return self.core.votes(vector) if self._enabled else {}

    def model_outcomes(self, vector: Vectors) -> dict[str, tuple[float, float]]:
        """How each model answered similar tasks; see `SonaCore.model_outcomes`."""
        return self.core.model_outcomes(vector) if self._enabled else {}

    def get_patterns(self, limit: int | None = None) -> list[Pattern]:
        """The most valuable patterns first."""
        return self.core.bank.get_patterns(limit)

    def apply(self, x: Vectors) -> Vectors:
        """Unit rows (dim,) or (n, dim) adapted by both adapters."""
        return self.core.apply(x) if self._enabled else x

    def apply_micro_lora(self, vector: Vectors | Sequence[float]) -> Vectors:
        """(dim,) adapted by what the latest trajectories taught; its length stays. Raises InputError: unusable."""
        return self._applied(vector, self.core.adapters.micro)

    @by_object("layer")
    def apply_base_lora(self, vector: Vectors | Sequence[float], layer: int = 0) -> Vectors:
        """(dim,) adapted by what the background has learnt; its length stays. Raises InputError: unusable."""
        if layer != 0:
            raise InputError(f"layer is {layer!r}"[:100], field="layer", fix="leave it out: there is one, 0")
        return self._applied(vector, self.core.adapters.base)

    def _applied(self, vector: Vectors | Sequence[float], adapter: LowRank) -> Vectors:
        unit = self._checked(vector)
        if not self._enabled or adapter.strength == 0:
            return np.array(vector, np.float32)
        return adapter.apply(unit) * np.float32(np.linalg.norm(vector))

    def adapters(self) -> Arrays:
        """The learnt adapters as arrays, to be shared: nothing of a trajectory is among them."""
        return self.core.adapters.arrays()

    def adopt(self, arrays: Arrays) -> None:
        """Take up adapters that `adapters` gave, here or elsewhere. Raises InputError: they do not fit."""
        self.core.adapters.adopt(arrays)

    def get_stats(self) -> SonaStats:
        """Counts and strengths as they stand."""
        core, adapters = self.core, self.core.adapters
        return SonaStats(
            enabled=self._enabled,
            open=len(self._open),
            trajectories=core.ended,
            judged_good=core.good,
            waiting=len(core.waiting),
            dropped=core.waiting.dropped,
            patterns=len(core.bank),
            cycles=core.cycles,
            micro_updates=adapters.micro.updates,
            base_updates=adapters.base.updates,
            micro_strength=adapters.micro.strength,
            base_strength=adapters.base.strength,
            ewc_tasks=adapters.ewc.tasks,
            ewc_lambda=adapters.ewc.strength,
        )

    def _id(self, trajectory: int | None) -> int:
        if not self._open or (trajectory is not None and trajectory not in self._open):
            which = "no trajectory is open" if trajectory is None else f"no open trajectory {trajectory}"
            raise InputError(which, field="trajectory", fix="call begin_trajectory first")
        return next(reversed(self._open)) if trajectory is None else trajectory

    def _builder(self, trajectory: int | None) -> TrajectoryBuilder:
        return self._open[self._id(trajectory)]

    async def _vector(self, text: str) -> Vectors:
        if self._encoder is None or not text.strip():
            what = "the task has no text" if self._encoder else "there is no encoder for texts"
            raise InputError(what, field="task", fix="give a text and an encoder, or a vector")
        return self._checked((await self._encoder.encode([text]))[0])

    def _checked(self, vector: Vectors | Sequence[float]) -> Vectors:
        """A new unit vector."""
        try:
            found = np.asarray(vector, np.float64)
        except (TypeError, ValueError):
            found = np.zeros(0)
        if found.shape != (self.dim,) or not 0 < (most := float(np.abs(found).max())) < _MOST:
            message = f"a vector of shape {found.shape}, all zero or with unusable numbers"
            raise InputError(message, field="vector", fix=f"use {self.dim} finite numbers, not all of them zero")
        found = found / most  # so that the squares of very small numbers do not vanish
        return np.asarray(found / np.linalg.norm(found), np.float32)

    def to_bytes(self) -> bytes:
        """Everything but open trajectories, for `from_bytes`."""
        return self.core.to_bytes()

    @classmethod
    def from_bytes(
        cls,
        data: bytes,
        encoder: Encoder | None = None,
        clock: Callable[[], float] = time.time,
        error: type[RuvllmError] = StoreError,
    ) -> SonaEngine:
        """What `to_bytes` was taken of, with its options. Raises `error`: it is damaged."""
        core = SonaCore.from_bytes(data, clock, error=error)
        made = cls(core.config, encoder, clock=clock)
        made._take_up(core)
        return made
