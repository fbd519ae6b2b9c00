"""The learning that does not happen at once: Loop B (hourly) and Loop C (weekly), bounded in time.

A host calls `tick` when it has a moment: a page in its idle time, the edge server in a task, the command
line by hand. What is due runs; what outlasts the budget is stopped at its next pause, leaves everything as it
was, and is tried again with twice the time. When each last ran is kept in the state file.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass
from time import perf_counter, time
from typing import Any

from ruvllm.encoders.protocol import Pause, pause
from ruvllm.errors import StoreError
from ruvllm.reprs import one_line
from ruvllm.state.set_aside import reason_of
from ruvllm.state.steps import Steps
from ruvllm.state.store import Store

__all__ = ["HOUR", "WEEK", "Loop", "LoopRun", "Loops"]

HOUR, WEEK = 3_600.0, 7 * 24 * 3_600.0
_KEPT = "loops"
_BUDGET = 5.0  # seconds a loop may take at first
_MOST = 600.0  # seconds a loop may ever take
_LONGEST = 64_000  # bytes of the record


@dataclass(frozen=True, slots=True)
class Loop:
    """Something to learn in the background.

    Attributes:
        name: e.g. "router".
        interval: seconds between two runs.
        run: does it, awaiting the pause it is given often; returns what it did, in words. Where the pause raises,
            nothing may have changed.
    """

    name: str
    interval: float
    run: Callable[[Pause], Awaitable[str]]


@dataclass(frozen=True, slots=True)
class LoopRun:
    """One run of a loop.

    Attributes:
        outcome: what it did, "" when it was stopped.
        seconds: it took.
        stopped: it outlasted its budget.
        at: when, in seconds since 1970.
        failed: it raised something, which `outcome` names; it is tried again in an hour.
    """

    name: str
    outcome: str
    seconds: float
    stopped: bool
    at: float
    failed: bool = False

    __repr__ = one_line


class _OutOfTime(Exception):  # noqa: N818 - no error: the budget is spent
    pass


class Loops:
    """Runs what is due.

    Args:
        loops: in the order in which they run.
        store: keeps when each last ran.
        steps: counts and logs those that fail.
        clock: seconds since 1970.
    """

    def __init__(
        self,
        loops: Sequence[Loop],
        store: Store,
        steps: Steps | None = None,
        *,
        clock: Callable[[], float] = time,
    ) -> None:
        self._loops, self._store, self._clock = tuple(loops), store, clock
        self._steps = steps or Steps()
        self._last: dict[str, LoopRun] = self._load()
        self._patience: dict[str, float] = {}
        self._running = False

    def due(self) -> list[str]:
        """The loops whose interval is over."""
        now = self._clock()
        return [loop.name for loop in self._loops if now - self._at(loop.name) >= self._interval(loop)]

    async def tick(self, budget: float = _BUDGET, *, force: bool = False, pause: Pause = pause) -> list[LoopRun]:
        """Run what is due, or everything when forced; does nothing while another tick runs. One that fails stops none.

        Args:
            budget: seconds for each loop; one that was stopped before gets twice what it had.
            pause: lets the host do other things between slices of the work; `no_pause` where nothing waits.

        Raises:
            StoreError: the state file takes nothing.
        """
        if self._running:
            return []
        self._running = True
        try:
            names = [loop.name for loop in self._loops] if force else self.due()
            return [await self._run(loop, budget, pause) for loop in self._loops if loop.name in names]
        finally:
            self._running = False

    def status(self) -> list[dict[str, Any]]:
        """Each loop: its interval, when it last ran and what it did, whether it is due."""
        due = set(self.due())
        return [
            {
                "name": loop.name,
                "interval": loop.interval,
                "due": loop.name in due,
                "last": asdict(self._last[loop.name]) if loop.name in self._last else None,
            }
            for loop in self._loops
        ]

    async def _run(self, loop: Loop, budget: float, pause: Pause) -> LoopRun:
        allowed = min(_MOST, max(budget, self._patience.get(loop.name, 0.0)))
        began = perf_counter()

        async def bounded() -> None:
            await pause()
            if perf_counter() - began > allowed:
                raise _OutOfTime

        stopped = failed = False
        try:
            outcome = await loop.run(bounded)
            self._patience.pop(loop.name, None)
        except _OutOfTime:
            outcome, stopped = "", True
            self._patience[loop.name] = 2 * allowed
        except Exception as error:
            outcome, failed = f"failed: {reason_of(error)}", True
            self._steps.failed(f"loop {loop.name}", error)
        run = LoopRun(loop.name, outcome, round(perf_counter() - began, 3), stopped, self._clock(), failed)
        if not stopped:
            self._last[loop.name] = run
            self._store.save(_KEPT, self._dump)
        return run

    def _dump(self) -> bytes:
        return json.dumps([asdict(last) for last in self._last.values()]).encode()

    def _interval(self, loop: Loop) -> float:
        last = self._last.get(loop.name)
        return min(loop.interval, HOUR) if last is not None and last.failed else loop.interval

    def _at(self, name: str) -> float:
        return self._last[name].at if name in self._last else 0.0

    def _load(self) -> dict[str, LoopRun]:
        """When each last ran; a damaged record only means that all are due."""
        try:
            data = self._store.kept(_KEPT)
            if data is None or len(data) > _LONGEST:
                return {}
            runs = [LoopRun(**row) for row in json.loads(data)]
            return {run.name: run for run in runs if isinstance(run.at, int | float)}
        except (StoreError, ValueError, TypeError, RecursionError):
            return {}
