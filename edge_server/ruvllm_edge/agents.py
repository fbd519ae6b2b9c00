"""Agents that clients add: on disk when that is acknowledged, fitted in a thread, routed among when they are fitted."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from contextlib import suppress
from threading import Event
from time import monotonic

from msgspec import UNSET, UnsetType

from ruvllm import Agent, RuvLLM
from ruvllm.agents.catalog import unique
from ruvllm.agents.incoming import read_incoming
from ruvllm.encoders.protocol import Pause, no_pause, run_now
from ruvllm.routing.router import Router
from ruvllm.state.agents import load_agents, save_agents
from ruvllm_edge.logs import event
from ruvllm_edge.problems import Problem
from ruvllm_edge.schemas import AgentsChange, AgentsChanged, Fitting, ProblemRow

_FEW = 500  # examples, which are fitted while a client waits
_PATIENT, _AT_ONCE = 20.0, 1.5  # seconds that the answer may wait for few, and for many
_SLICE = 4  # examples read between two steps
_STEPS = 150  # that a fit of one encoder takes beside reading, about


class _StoppedError(Exception):
    """Other agents took the place of those that were being fitted."""


async def _in_thread(router: Router, pause: Pause = no_pause) -> None:
    await asyncio.to_thread(run_now, router.warm(pause))


class _Fit:
    """One set of agents being fitted.

    Attributes:
        task: ends when they are routed among, with an error when they cannot be, cancelled when others are to be.
        ended: set when the thread has seen that others are to be fitted.
    """

    task: asyncio.Task[None]

    def __init__(self, llm: RuvLLM, agents: Sequence[Agent]) -> None:
        self._agents, self._began, self._steps, self._stop = len(agents), monotonic(), 0, False
        self._expected = (sum(len(one.examples) for one in agents) // _SLICE + _STEPS) * (
            2 if llm.encoders.contextual else 1
        )
        self.failed, self.ended = "", Event()
        self.task = asyncio.ensure_future(llm.routing.replace_agents(agents, self._build))

    @property
    def progress(self) -> Fitting:
        """How far it is."""
        done = min(self._steps / self._expected, 0.99)
        return Fitting(self._agents, round(monotonic() - self._began, 1), self._steps, round(done, 2), self.failed)

    def stop(self) -> None:
        """End it at its next step; nothing of it is used."""
        self._stop = True
        self.task.cancel()

    async def _build(self, router: Router) -> None:
        await _in_thread(router, self._step)

    async def _step(self) -> None:
        """In the thread, which a cancelled task does not end."""
        if self._stop:
            self.ended.set()
            raise _StoppedError
        self._steps += 1


class AddedAgents:
    """Those of one server. The last change wins, and each is acknowledged before it is fitted.

    Args:
        llm: routes among them and its own.
        keeps: whether they are there again after a restart.

    Attributes:
        base: the agents that are there without them.
        added: by name, as acknowledged.
    """

    def __init__(self, llm: RuvLLM, keeps: bool) -> None:
        self._llm, self.keeps, self.base = llm, keeps, llm.agents
        self.added = (load_agents(llm.store) or {}) if keeps else {}
        self._changing = asyncio.Lock()
        self._fit: _Fit | None = None

    @property
    def progress(self) -> Fitting | UnsetType:
        """Of those that are not yet routed among, where there are such."""
        return UNSET if self._fit is None else self._fit.progress

    async def start(self) -> None:
        """Route among those of the state file."""
        await self._settled(self._begin() if self.added else None)

    async def stop(self) -> None:
        """Fit no more."""
        if self._fit is not None:
            self._fit.stop()
            with suppress(asyncio.CancelledError, Exception):
                await self._fit.task

    async def add(self, change: AgentsChange, wait: float | None = None) -> AgentsChanged:
        """Route among these too; what cannot be used stops no other.

        Args:
            wait: seconds that fitting may take before this returns without it; by their number when None.

        Raises:
            InputError: too many agents.
            StoreError: they cannot be kept; nothing has changed then.
        """
        files = [{"path": file.path, "text": file.text} for file in change.files]
        new, problems = await asyncio.to_thread(read_incoming, change.agents)
        found, more = await asyncio.to_thread(read_incoming, files)
        rows = [ProblemRow(one.field, one.message, one.fix) for one in (*problems, *more)]
        async with self._changing:
            added = self._stored() | {agent.name: agent for agent in (*new, *found)}
            fit = self._change(added, rows) if new or found else None
        return await self._changed(fit, wait, rows)

    async def reset(self, wait: float | None = None) -> AgentsChanged:
        """Route without all that were added."""
        async with self._changing:
            fit = self._change({})
        return await self._changed(fit, wait)

    async def remove(self, name: str, wait: float | None = None) -> AgentsChanged:
        """Route without an added agent. Raises Problem: it is none."""
        async with self._changing:
            added = self._stored()
            if name not in added:
                base = any(agent.name == name for agent in self.base)
                status, what = (409, "was not added here") if base else (404, "is not known")
                fix = "start the server with other --agents" if base else "see GET /v1/agents"
                raise Problem(status, f"the agent {name[:200]!r} {what}", field="name", fix=fix)
            fit = self._change({key: agent for key, agent in added.items() if key != name})
        return await self._changed(fit, wait)

    async def reload(self) -> None:
        """Route among those that the state file has now: another node has changed them."""
        async with self._changing:
            self.added = self._stored()
            if self._together() != self._llm.agents:
                self._begin()

    def _stored(self) -> dict[str, Agent]:
        """The added ones, with what another node has changed since."""
        if not (self.keeps and self._llm.store.outbox.enabled):
            return self.added
        return load_agents(self._llm.store) or {}

    async def restore(self, data: bytes, keep: bool = True) -> None:
        """Go on with another state file in the place of this one; one that says nothing of agents leaves these.

        Args:
            keep: False drops them then.

        Raises:
            StoreError: it cannot be used; nothing has changed then.
        """
        async with self._changing:
            await self.stop()
            try:
                await self._llm.services.restore(data, _in_thread)
                stored = load_agents(self._llm.store) if self.keeps else None
                if not keep:
                    stored = {}
                if stored is not None:
                    self.added = stored
                elif self.keeps and self.added:
                    save_agents(self._llm.store, self.added.values())
            finally:
                fit = self._begin() if self._together() != self._llm.agents else None
        await self._settled(fit, self._patience)

    def _together(self) -> tuple[Agent, ...]:
        return unique(({agent.name: agent for agent in self.base} | self.added).values())

    def _change(self, added: dict[str, Agent], rows: list[ProblemRow] | None = None) -> _Fit:
        """On disk first; what is being fitted for a former set is of no use then.

        Args:
            rows: get a problem for each agent that cannot be written by itself.
        """
        before, self.added = self.added, added
        try:
            self._together()
            if self.keeps:
                what, fix = "cannot be stored, and is gone after a restart", "see what the server has set aside"
                aside = save_agents(self._llm.store, added.values())
                if rows is not None:
                    rows += [ProblemRow("name", f"the agent {name!r} {what}", fix) for name in aside]
        except BaseException:
            self.added = before
            raise
        return self._begin()

    def _begin(self) -> _Fit:
        if self._fit is not None:
            self._fit.stop()
        fit = self._fit = _Fit(self._llm, self._together())
        fit.task.add_done_callback(lambda _: self._done(fit))
        return fit

    def _done(self, fit: _Fit) -> None:
        error = None if fit.task.cancelled() else fit.task.exception()
        if error is not None:
            event(logging.ERROR, "agents not fitted", problem=repr(error)[:300])
            fit.failed = "they cannot be fitted; see the server's log"
        elif self._fit is fit:
            self._fit = None

    @property
    def _patience(self) -> float:
        few = sum(len(agent.examples) for agent in self.added.values()) <= _FEW
        return _PATIENT if few else _AT_ONCE

    async def _settled(self, fit: _Fit | None, wait: float | None = None) -> None:
        if fit is not None:
            await asyncio.wait((fit.task,), timeout=wait)

    async def _changed(self, fit: _Fit | None, wait: float | None, rows: Sequence[ProblemRow] = ()) -> AgentsChanged:
        """What is answered once they are routed among, or after so long."""
        await self._settled(fit, self._patience if wait is None else wait)
        return AgentsChanged(len(self._together()), [*rows], self.keeps, self.progress)
