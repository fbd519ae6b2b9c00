"""Background work, one list of it in every host: a page runs it in idle time, the server between requests.

A host calls `Jobs.run` when it has a moment. What is due runs, one job after the other; what outlasts the budget is
stopped at its next pause, leaves everything as it was, and gets twice the time when it is tried again. A job that
fails stops no other, and waits longer after each failure. When each last ran is stored in the state file.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from math import inf
from time import perf_counter, time
from typing import TYPE_CHECKING, Any

from ruvllm.encoders.protocol import Pause, pause
from ruvllm.errors import StoreError
from ruvllm.index.auto import GRAPHS
from ruvllm.state.names import DOUBTS, EDITION, JOBS
from ruvllm.state.set_aside import reason_of
from ruvllm.state.steps import Steps
from ruvllm.state.store import Store
from ruvllm.types import Tier

if TYPE_CHECKING:
    from ruvllm.services import Services


HOUR, WEEK = 3_600.0, 7 * 24 * 3_600.0
_BUDGET = 5.0  # seconds a job may take at first
_MOST = 600.0  # seconds a job may ever take
_LONGEST = 64_000  # bytes of the stored record
_RETRY, _MOST_RETRY = 2.0, 3_600.0  # seconds until a failed job is tried again, doubled by each failure, at most
_PATIENCE = 30  # times its interval that a job waits at most after failures


@dataclass(frozen=True, slots=True)
class Job:
    """One kind of background work.

    Attributes:
        interval: seconds from one run to the next.
        run: does it, awaiting the pause it is given often; returns what it did, in words. Where the pause raises,
            nothing may have changed.
        due: whether there is anything to do, given the seconds since the last run (inf before the first); the
            interval alone decides when None.
        recorded: whether its runs are worth a place in the state file; those of writing are not.
    """

    name: str
    interval: float
    run: Callable[[Pause], Awaitable[str]]
    due: Callable[[float], bool] | None = None
    recorded: bool = True


@dataclass(frozen=True, slots=True)
class JobRun:
    """One run of a job.

    Attributes:
        outcome: what it did, "" when it was stopped or failed.
        stopped: it outlasted its budget.
        at: when it ended, in seconds since 1970.
        error: why it failed, "" where it did not.
    """

    name: str
    outcome: str
    seconds: float
    stopped: bool
    at: float
    error: str = ""


class _OutOfTime(Exception):  # noqa: N818 - no error: the budget is spent
    pass


class Jobs:
    """Runs what is due.

    Args:
        jobs: in the order in which they run.
    """

    def __init__(
        self, jobs: Sequence[Job], store: Store, steps: Steps | None = None, *, clock: Callable[[], float] = time
    ) -> None:
        self._jobs, self._store, self._clock = tuple(jobs), store, clock
        self._steps = steps or Steps()
        self._last: dict[str, JobRun] = self._load()  # the last whole run of each
        self._failed: dict[str, tuple[JobRun, float]] = {}  # the last failure since, and when to try again
        self._patience: dict[str, float] = {}
        self._running = False

    def due(self) -> list[str]:
        """Names of the jobs that are due."""
        return [job.name for job in self._jobs if self._is_due(job, self._clock())]

    async def run(
        self, budget: float = _BUDGET, pause: Pause = pause, *, force: bool = False, names: Sequence[str] = ()
    ) -> list[JobRun]:
        """Run what is due, or everything when forced; does nothing while another call runs.

        Args:
            budget: seconds for each job; one that was stopped before gets twice what it had.
            pause: lets the host do other things between slices of the work; `no_pause` where nothing waits.
            names: run no others.
        """
        if self._running:
            return []
        self._running = True
        try:
            return [
                await self._run(job, budget, pause)
                for job in self._jobs
                if (not names or job.name in names) and (force or self._is_due(job, self._clock()))
            ]
        finally:
            self._running = False

    def status(self) -> list[dict[str, Any]]:
        """Each job as plain JSON types: name, interval, due, next (seconds since 1970), last run, last failure.

        The next run comes no sooner than `next`; a job that has nothing to do then waits until it has.
        """
        now = self._clock()
        return [
            {
                "name": job.name,
                "interval": job.interval,
                "due": self._is_due(job, now),
                "next": max(
                    self._last[job.name].at + job.interval if job.name in self._last else now,
                    self._failed[job.name][1] if job.name in self._failed else 0.0,
                ),
                "last": asdict(self._last[job.name]) if job.name in self._last else None,
                "failure": asdict(self._failed[job.name][0]) if job.name in self._failed else None,
            }
            for job in self._jobs
        ]

    def _is_due(self, job: Job, now: float) -> bool:
        if job.name in self._failed and now < self._failed[job.name][1]:
            return False
        since = now - self._last[job.name].at if job.name in self._last else inf
        return since >= job.interval if job.due is None else job.due(since)

    async def _run(self, job: Job, budget: float, pause: Pause) -> JobRun:
        allowed = min(_MOST, max(budget, self._patience.get(job.name, 0.0)))
        began = resumed = perf_counter()
        worked, outcome, stopped, error = 0.0, "", False, ""

        async def bounded() -> None:
            nonlocal worked, resumed
            worked += perf_counter() - resumed
            if worked > allowed:
                raise _OutOfTime
            await pause()
            resumed = perf_counter()

        try:
            outcome = await job.run(bounded)
            self._patience.pop(job.name, None)
        except _OutOfTime:
            stopped = True
            self._patience[job.name] = 2 * allowed
        except Exception as problem:  # one job's failure is no other's
            error = reason_of(problem)
            self._steps.failed(f"job {job.name}", problem)
        run = JobRun(job.name, outcome, round(perf_counter() - began, 3), stopped, self._clock(), error)
        if error:
            before = self._failed.get(job.name)
            most = min(_MOST_RETRY, _PATIENCE * job.interval)
            wait = min(most, _RETRY if before is None else 2 * (before[1] - before[0].at))
            self._failed[job.name] = run, run.at + wait
        elif not stopped:
            self._failed.pop(job.name, None)
            self._last[job.name] = run
            if job.recorded:
                self._save()
        return run

    def _save(self) -> None:
        recorded = {job.name for job in self._jobs if job.recorded}
        rows = [asdict(run) for name, run in self._last.items() if name in recorded]
        with suppress(StoreError):  # the job's own result is written; only a restart would repeat it
            self._store.save(JOBS, lambda: json.dumps(rows).encode())

    def _load(self) -> dict[str, JobRun]:
        """When each last ran; a damaged record only means that all are due."""
        try:
            data = self._store.load(JOBS)
            if data is None or len(data) > _LONGEST:
                return {}
            runs = [JobRun(**row) for row in json.loads(data)]
            return {run.name: run for run in runs if isinstance(run.at, int | float)}
        except (StoreError, ValueError, TypeError, RecursionError):
            return {}


_WRITE, _TRAIN, _FIT = 1.0, 10.0, 10.0  # seconds between two runs
_STEPS = 40  # of the model router's training in one run


def jobs_of(llm: Services, *, clock: Callable[[], float] = time) -> Jobs:
    """All background work of a runtime. What nobody has used yet has nothing to do, and is not loaded."""

    async def write(pause: Pause) -> str:
        await pause()
        llm.write()
        await llm.astate(pause)
        return ""

    def doubtful() -> bool:
        return llm.config.memory.ask_unsure and bool(llm.store.load(DOUBTS))

    async def doubts(pause: Pause) -> str:
        from ruvllm.query.doubts import ask_doubts
        from ruvllm.query.writers import writes

        backend = llm.queries.writers.tiers.at(Tier.LARGE)
        if not (llm.config.memory.ask_unsure and writes(backend)):
            return "no model is to be asked"
        return await ask_doubts(llm.memory, backend, pause)

    async def expiry(pause: Pause) -> str:
        from ruvllm.memory.erasure import expired

        await pause()
        return f"{llm.memory.forget(expired(llm.store))} memories had expired"

    async def review(pause: Pause) -> str:
        count = await llm.routing.review(pause)
        if llm.store.outbox.enabled:  # nodes with the same outcomes vote alike
            await llm.learning.relearn(llm.store.outbox.outcomes(), pause)
        return f"reviewed {count} feedbacks"

    async def decisions(pause: Pause) -> str:
        return f"fitted {await llm.decisions.review(pause)} questions"

    async def patterns(pause: Pause) -> str:
        report = await llm.learning.distil(pause)
        return f"distilled {report.patterns} patterns from {report.trajectories} trajectories"

    async def sizes(pause: Pause) -> str:
        learnt = await llm.learning.train(_STEPS, pause)
        return "too few rated turns" if learnt is None else f"{learnt.steps} steps"

    async def retrieval(pause: Pause) -> str:
        trained = await llm.memory.review(pause)
        if trained is None:
            return "too few rated searches"
        return f"nDCG@10 {trained.before:.3f} to {trained.after:.3f}" if trained.accepted else "no better than before"

    async def concepts(pause: Pause) -> str:
        from ruvllm.memory.consolidate import Consolidated, Consolidation, consolidate

        done, elsewhere = Consolidated(), llm.memory.elsewhere
        for collection in llm.memory.records.counts():
            if elsewhere is not None and elsewhere.covers(collection):
                continue  # what is held of it for a while is let go of, and stands for itself elsewhere
            for step in consolidate(llm.memory, collection, Consolidation()):
                done += step
                await pause()
        return f"{done.concepts} concepts of {done.archived} memories"

    async def federated(pause: Pause) -> str:
        from ruvllm.inference.chat_wire import KeyFromEnvironment
        from ruvllm.learning.federated.client import RemoteCoordinator

        options, coordinator = llm.config.federated, llm.coordinator
        if coordinator is None:
            if not options.url:
                return "no coordinator is named"
            coordinator = RemoteCoordinator(options.url, KeyFromEnvironment(options.api_key_env).read())
        pushed, pulled = await llm.federated.push(coordinator, pause), await llm.federated.pull(coordinator, pause)
        return f"pushed {pushed.texts} texts, pulled {len(pulled.agents)} agents of {pulled.texts} texts"

    async def graph(pause: Pause) -> str:
        return f"{await llm.memory.surroundings.update(pause)} memories heard from their neighbours"

    async def tiers(pause: Pause) -> str:
        options, compared = llm.config.memory, await llm.memory.indexes.compare(pause)
        least = 0 if options.index in GRAPHS else options.tier_from
        tiered = await llm.memory.aauto_tier(None, pause, least) if least else {}
        return f"{len(tiered)} collections by use" + "".join(f"; compared indexes of {name}" for name in compared)

    def outdated() -> bool:
        edition = llm.encoders.edition
        with suppress(StoreError):  # what cannot be read is written anew
            return edition > 1 and llm.scoped.load(EDITION) != json.dumps([edition, 0]).encode()
        return True

    async def renewal(pause: Pause) -> str:
        from ruvllm.memory.reembed import renew

        count = await renew(llm.memory, llm.scoped, llm.encoders.edition, pause)
        return f"{count} memories read with the new encoder"

    def holds(table: str) -> bool:
        return bool(llm.store.read(f"SELECT 1 FROM {table} LIMIT 1"))

    def coordinated() -> bool:
        return bool(llm.config.federated.url) or llm.coordinator is not None

    every = llm.config.federated.interval
    jobs = [
        Job("write", _WRITE, write, recorded=False),
        Job("review", HOUR, review, lambda _: llm.routing.needs_review(clock())),
        Job("decisions", _FIT, decisions, lambda since: since >= _FIT and llm.decides),
        Job("renewal", _WRITE, renewal, lambda _: outdated()),
        Job("patterns", HOUR, patterns, lambda _: llm.learning.has_patterns_to_distil),
        Job("sizes", _TRAIN, sizes, lambda since: since >= _TRAIN and llm.learning.has_sizes_to_train),
        Job("retrieval", HOUR, retrieval, lambda since: since >= HOUR and holds("ratings")),
        Job("doubts", HOUR, doubts, lambda since: since >= HOUR and doubtful()),
        Job("expiry", HOUR, expiry, lambda since: since >= HOUR and holds("memories")),
        Job("concepts", WEEK, concepts, lambda since: since >= WEEK and holds("memories")),
        Job("federated", every, federated, lambda since: since >= every and coordinated()),
        Job("graph", HOUR, graph, lambda since: since >= HOUR and (holds("edges") or holds("hyperedges"))),
        Job("tiers", HOUR, tiers, lambda since: since >= HOUR and holds("memories")),
    ]
    return Jobs(jobs, llm.store, llm.steps, clock=clock)
