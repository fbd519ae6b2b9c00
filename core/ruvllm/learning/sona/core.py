"""The five steps of SONA's learning and what they leave behind: patterns, adapters, and trajectories that wait."""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ruvllm.encoders.protocol import Vectors
from ruvllm.errors import InputError, RuvllmError, StoreError
from ruvllm.learning.patterns import Pattern, ReasoningBank, distill
from ruvllm.learning.sona.adapters import SonaAdapters, as_array
from ruvllm.learning.sona.config import SonaConfig
from ruvllm.learning.trajectories import MOST_BYTES, Trajectory, TrajectoryBuffer
from ruvllm.reprs import Shown
from ruvllm.state.packing import Spec, array_json, json_array, pack, unpack

_QUALITY, _SUCCESS, _REWARD = 0.5, 0.3, 0.2  # how much each counts of what is told
_EXPERIENCE = 0.2  # and what is known already, of the whole
_RELATED = 0.5  # cosine from which a pattern has something to say about a task
# Votes: κ, the evidence that counts as none, and what evidence against counts for, as a stream of BANKING77 likes best.
_KAPPA, _FAINT, _AGAINST = 12.0, 0.02, 0.2
_NEAR = 0.4  # cosine below which an outcome has no vote
_OLD = np.float32(0.3)  # what a pattern's outcomes count for beside the latest ones, which are in it as well


@dataclass(frozen=True, slots=True)
class Verdict:
    """The outcome of judging.

    Attributes:
        score: 0 to 1.
        good: an example to follow; else one to avoid.
        weight: 0 to 1, how much is to be learnt from it.
        agreement: 0 to 1, how well patterns known before foretold the score's direction; None without any.
    """

    score: float
    good: bool
    weight: float
    agreement: float | None


def _count(side: dict[str, float], cosines: Vectors, names: NDArray[Any], worth: Vectors) -> None:
    """Add the worth (n,) of what is near to what its name has."""
    for i in np.flatnonzero(cosines > _NEAR).tolist():
        side[names[i]] += float(worth[i]) * math.exp(_KAPPA * (float(cosines[i]) - 1))


def verdict_of(
    quality: float | None,
    success: bool | None,
    rewards: Sequence[float],
    route: str = "",
    retrieved: Sequence[Pattern] = (),
    threshold: float = 0.4,
) -> Verdict:
    """Weighs what was told with what the retrieved patterns expect of this route.

    Experience tempers a verdict and can turn it down, but a failure or a quality below the threshold
    stays one however much speaks for it.

    Args:
        quality: 0 to 1.
        rewards: of the steps, -1 to 1; their mean counts.
        retrieved: patterns of the same task, with their similarity.

    Raises:
        InputError: nothing was told, or quality is out of range.
    """
    outcome = _outcome_score(quality, success, rewards)
    agreement = _expected(route, retrieved)
    score = outcome if agreement is None else (1 - _EXPERIENCE) * outcome + _EXPERIENCE * agreement
    good = success is not False and min(outcome, score) >= threshold
    return Verdict(score, good, score if good else 1 - score, agreement)


def _outcome_score(quality: float | None, success: bool | None, rewards: Sequence[float]) -> float:
    parts = []
    if quality is not None:
        if isinstance(quality, bool) or not isinstance(quality, int | float) or not 0 <= quality <= 1:
            raise InputError(f"quality is {quality!r}", field="quality", fix="use a number from 0 to 1")
        parts.append((_QUALITY, float(quality)))
    if success is not None:
        if not isinstance(success, bool):
            raise InputError(f"success is {success!r}", field="success", fix="use True, False or None")
        parts.append((_SUCCESS, float(success)))
    if rewards:
        parts.append((_REWARD, float(np.clip(rewards, -1, 1).mean()) / 2 + 0.5))
    if not parts:
        message = "nothing is known of how the trajectory came out"
        raise InputError(message, field="quality", fix="give quality, success or a step's reward")
    return sum(weight * value for weight, value in parts) / sum(weight for weight, _ in parts)


def _expected(route: str, retrieved: Sequence[Pattern]) -> float | None:
    related = [(one, one.similarity or 0.0) for one in retrieved if one.route and (one.similarity or 0) >= _RELATED]
    if not route or not related:
        return None
    votes = sum(near * (one.avg_quality if one.route == route else 1 - one.avg_quality) for one, near in related)
    return votes / sum(near for _, near in related)


@dataclass(frozen=True, slots=True, repr=False)
class SonaReport(Shown):
    """What a call of `tick` or `force_learn` did.

    Attributes:
        ran: whether there was anything to do, and it was due.
        finished: false when the time was over first; the next call goes on there.
        trajectories: that the base adapter was taught, each counted once.
        consolidated: tasks that EWC++ has consolidated, in all.
    """

    ran: bool
    finished: bool
    trajectories: int
    patterns: int
    consolidated: int
    seconds: float


@dataclass(frozen=True, slots=True, repr=False)
class SonaStats(Shown):
    """Where an engine stands.

    Attributes:
        waiting: of them, not learnt from by the background yet; `dropped` never will be.
        judged_good: examples, the others are warnings.
        micro_updates, base_updates: of the adapters; micro_strength, base_strength: ‖W‖ of what they change.
        ewc_tasks, ewc_lambda: tasks consolidated, and how firmly they are held.
    """

    enabled: bool
    open: int
    trajectories: int
    judged_good: int
    waiting: int
    dropped: int
    patterns: int
    cycles: int
    micro_updates: int
    base_updates: int
    micro_strength: float
    base_strength: float
    ewc_tasks: int
    ewc_lambda: float


_BANK = 4  # cycles' worth of patterns that are kept
_CHUNK = 1_000  # trajectories that are clustered together
_RELEARNT = 32  # of those that still wait, the latest are kept in the micro adapter
_PARTS = ("adapters", "bank", "waiting", "about")
_SPECS = {part: Spec((part,), "uint8") for part in _PARTS}
_FIX = "drop it; it is learnt again"


class SonaCore:
    """Learns from trajectories that have ended.

    Attributes:
        waiting: trajectories that the background has not learnt from yet.
        ended, good: trajectories so far, and those of them that were examples.
        cycles: background cycles that were finished.
        version: changes whenever votes may.
    """

    def __init__(self, dim: int, config: SonaConfig, clock: Callable[[], float]) -> None:
        self.dim, self.config, self._clock = dim, config, clock
        self.bank = ReasoningBank(dim, _BANK * config.pattern_clusters, config.quality_threshold)
        self.adapters = SonaAdapters(dim, config)
        self.waiting = TrajectoryBuffer(config.trajectory_capacity)
        self.ended = self.good = self.cycles = self.version = 0
        self._distilled = 0  # the last trajectory that is in a pattern
        self._last = clock()  # when a cycle ended
        self._work: Iterator[int] | None = None

    @property
    def busy(self) -> bool:
        """Whether a cycle has begun and is not finished."""
        return self._work is not None

    @property
    def due(self) -> bool:
        """Whether a cycle has begun, the interval is over, or the buffer is full."""
        over = (self._clock() - self._last) * 1000 >= self.config.background_interval_ms
        return self.busy or over or len(self.waiting) >= self.waiting.capacity

    def learn(self, trajectory: Trajectory, verdict: Verdict) -> None:
        """Take in a trajectory that was judged: at once, and for the background. Its id is `ended` + 1."""
        self.waiting.add(trajectory)
        self.ended += 1
        self.good += verdict.good
        self.version += 1
        self.adapters.instant(trajectory, verdict.weight, self.bank)  # INSTANT

    def apply(self, x: Vectors) -> Vectors:
        """Unit rows (dim,) or (n, dim) adapted by both adapters."""
        return self.adapters.apply(x) if self.adapters.trained else x

    def retrieve(self, vector: Vectors, k: int) -> list[Pattern]:
        """RETRIEVE: the patterns nearest to a task (dim,), adapted as far as is learnt."""
        return self.bank.find(self.apply(vector), k)

    def votes(self, vector: Vectors) -> dict[str, float]:
        """What outcomes of similar tasks say for and against each route: log of the evidence.

        An outcome counts by its score and by e^(κ(cosine - 1)); patterns stand for outcomes of long ago. Vectors are
        compared as the encoder gives them. A name that nothing similar is known of is not there, and counts 0.

        Args:
            vector: float32 (dim,), unit norm, of the task.
        """
        learnt = self.adapters
        good: defaultdict[str, float] = defaultdict(float)
        bad: defaultdict[str, float] = defaultdict(float)
        for side, ring in ((good, learnt.good), (bad, learnt.bad)):
            _count(side, ring.rows @ vector, ring.routes, ring.scores if side is good else 1 - ring.scores)
        if len(self.bank):
            _count(good, self.bank.centroids @ vector, self.bank.routes, _OLD * self.bank.weights)
        return {
            name: math.log1p(good[name] / _FAINT) - _AGAINST * math.log1p(bad[name] / _FAINT)
            for name in {*good, *bad} - {""}
        }

    def model_outcomes(self, vector: Vectors) -> dict[str, tuple[float, float]]:
        """How each model answered similar tasks: (how many outcomes, by e^(κ(cosine - 1)); the mean of their scores).

        Unlike routes, of which one is right, models are compared by how often they do well, not by how much is known
        of them: the one that is asked most would win for that alone.

        Args:
            vector: float32 (dim,), unit norm, of the task.
        """
        count: defaultdict[str, float] = defaultdict(float)
        good: defaultdict[str, float] = defaultdict(float)
        for ring in (self.adapters.good, self.adapters.bad):
            cosines = ring.rows @ vector
            _count(count, cosines, ring.models, np.ones(len(cosines), np.float32))
            _count(good, cosines, ring.models, ring.scores)
        return {name: (count[name], good[name] / count[name]) for name in count if name}

    def forget(self, vector: Vectors, route: str) -> None:
        """Take back what one outcome taught, as far as it can still be told from others."""
        dropped = sum(ring.drop(vector, route) for ring in (self.adapters.good, self.adapters.bad))
        self.waiting.drop(vector, route)
        if dropped:
            self.bank.weaken(vector, route, 0.0)
        self.version += 1

    def erase(self, vectors: Vectors) -> None:
        """Let go of all outcomes of these very vectors (n, dim), and of patterns that are of one of them alone."""
        for vector in vectors:
            for held in (self.adapters.good, self.adapters.bad, self.waiting, self.bank):
                held.drop(vector)
        self.version += 1

    def distill(self) -> Iterator[int]:
        """DISTILL: what went well becomes patterns, what failed weakens the pattern that advised it.

        A chunk of trajectories counts when all of it is clustered, so an abandoned run repeats nothing.
        """
        fresh = [one for one in self.waiting if one.id > self._distilled]
        for start in range(0, len(fresh), _CHUNK):
            chunk = fresh[start : start + _CHUNK]
            found: list[Pattern] = []
            for patterns in distill(chunk, self.config.pattern_clusters, self._clock()):
                found += patterns
                yield 0
            self.bank.add(found)
            for one in chunk:
                if not one.good:
                    self.bank.weaken(one.vector, one.route, one.score)
            self._distilled = chunk[-1].id
            yield 0

    def _cycle(self) -> Iterator[int]:
        batch = list(self.waiting)
        yield from self.distill()
        yield from self.adapters.consolidate(batch, self.bank)
        self.waiting.learnt(batch[-1].id)
        self.adapters.restart_micro(self.waiting.latest(_RELEARNT), self.bank)
        self.cycles += 1
        self.version += 1
        self._last = self._clock()

    def run(self, budget_s: float | None = None) -> SonaReport:
        """Go on with the cycle at hand, or begin one, for about this long; with None until it is finished.

        One slice is always done.
        """
        start, trained = time.perf_counter(), 0
        ran = self.busy or len(self.waiting) > 0
        if ran:
            work, self._work = self._work or self._cycle(), None  # one that is interrupted begins again
            for done in work:
                trained += done
                if budget_s is not None and time.perf_counter() - start >= budget_s:
                    self._work = work
                    break
        took = time.perf_counter() - start
        return SonaReport(ran, self._work is None, trained, len(self.bank), self.adapters.ewc.tasks, took)

    def to_bytes(self) -> bytes:
        """For the state file; a cycle at hand begins again with what it has not finished."""
        counts = [self._distilled, self.ended, self.good, self.cycles, self._last]
        parts = {
            "adapters": as_array(self.adapters.to_bytes()),
            "bank": as_array(self.bank.to_bytes()),
            "waiting": as_array(self.waiting.to_bytes(self.dim)),
            "about": json_array([asdict(self.config), self.dim, counts]),
        }
        return pack(parts, "sona")

    @classmethod
    def from_bytes(
        cls,
        data: bytes,
        clock: Callable[[], float],
        config: SonaConfig | None = None,
        error: type[RuvllmError] = StoreError,
    ) -> SonaCore:
        """What `to_bytes` was taken of, with its options or others. Raises `error`: it is damaged."""
        found = unpack(data, "sona", _SPECS, most_bytes=MOST_BYTES, error=error)
        header = array_json(found["about"], "sona", error)
        try:
            options, dim, counts = header
            stored = SonaConfig.of({**options, "embedding_dim": dim})
            *whole, last = counts
            if len(whole) != 4 or not all(type(n) is int and 0 <= n < 1 << 53 for n in whole) or not 0 <= last < 1e15:
                raise ValueError("counts that cannot be")
        except (TypeError, ValueError) as bad:  # ConfigError is one
            raise error(f"a damaged engine: {bad}"[:200], field="sona", fix=_FIX) from None
        made = cls(dim, config or stored, clock)
        made.adapters.load(found["adapters"].tobytes(), error)
        made.bank.load(found["bank"].tobytes(), error)
        made.waiting.load(found["waiting"].tobytes(), dim, error)
        made._distilled, made.ended, made.good, made.cycles = whole
        made.version = made.ended + made.cycles
        if made._distilled > made.ended or any(one.id > made.ended for one in made.waiting):
            raise error("trajectories that never ended", field="sona", fix=_FIX)
        made._last = float(last)
        return made
