"""What all endpoints share: the router, the limits, the counters, and what has been set up so far."""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from itertools import count
from os import urandom

import numpy as np

from ruvllm import Agent, RuvLLM, RuvllmError, StoreError
from ruvllm.agents.incoming import read_incoming
from ruvllm.encoders.protocol import Vectors, pause
from ruvllm.memory.own_agents import keep_agents, kept_agents
from ruvllm.responses import Response
from ruvllm_edge.auth import Buckets, KeyRing, read_keys
from ruvllm_edge.hub import Hub
from ruvllm_edge.limits import Answers, Bodies
from ruvllm_edge.logs import event
from ruvllm_edge.metrics import Metrics
from ruvllm_edge.problems import Problem
from ruvllm_edge.schemas import AgentsChange, AgentsChanged, ProblemRow
from ruvllm_edge.settings import Settings

__all__ = ["Edge"]

_SLICE = 16  # texts encoded between two turns of the event loop
_TICK = 1.0  # seconds between two looks at what waits to be written or learnt
_BUDGET = 0.05  # seconds of learning at a time


class Edge:
    """One server's state.

    Args:
        llm: answers; it is closed with the server.
        settings: limits and keys.
        keeps: whether agents that clients add are there again after a restart.

    Attributes:
        ready: whether the first route will not have to wait, and the server is not ending.
        changing: held while agents are exchanged.
    """

    def __init__(self, llm: RuvLLM, settings: Settings, keeps: bool = False) -> None:
        self.llm, self.settings, self.keeps = llm, settings, keeps
        self._base = llm.agents
        self.own = (kept_agents(llm.store) or {}) if keeps else {}
        if self.own:
            llm.add_agents(self.own.values())
        ring = KeyRing.of(settings.api_keys)
        self.keys = ring + read_keys(settings.keys_file) if settings.keys_file else ring
        self.buckets = Buckets(settings.rate, settings.burst)
        self.bodies = Bodies(settings.bodies_memory, settings.body_timeout)
        self.answers = Answers(settings.max_answers, settings.queue, settings.timeout)
        self.metrics = Metrics()
        self.hub = Hub(llm.store, llm.static.dim)
        self.changing = asyncio.Lock()
        self.ready = False
        self.in_flight = 0
        self._tag, self._numbers = urandom(5).hex(), count(1)

    def new_id(self) -> str:
        """The id of a request."""
        return f"req-{self._tag}-{next(self._numbers):x}"

    def gauge(self) -> None:
        """Bring the gauges up to date."""
        self.metrics.in_flight.set(self.in_flight)
        self.metrics.waiting.set(self.answers.waiting)
        self.metrics.agents.set(len(self.llm.agents))
        self.metrics.memories.set(sum(self.llm.memory.records.counts().values()))

    def answered(self, response: Response) -> None:
        """Count an answer."""
        usage = response.usage
        self.metrics.answer(response.routing.backend, usage.prompt_tokens, usage.completion_tokens, response.cost)

    async def embed(self, texts: Sequence[str]) -> Vectors:
        """Unit vectors, float32 (len(texts), dim); other requests have their turn between the slices."""
        rows = [np.zeros((0, (self.llm.contextual or self.llm.static).dim), np.float32)]
        for start in range(0, len(texts), _SLICE):
            rows.append(await self.llm.aembed(texts[start : start + _SLICE]))
            await asyncio.sleep(0)
        return np.concatenate(rows)

    async def add_agents(self, change: AgentsChange) -> AgentsChanged:
        """Route among these too; what cannot be used stops no other."""
        new, problems = read_incoming(change.agents)
        found, more = read_incoming([{"path": file.path, "text": file.text} for file in change.files])
        async with self.changing:
            if new or found:
                await self._exchange(self.own | {agent.name: agent for agent in (*new, *found)})
            rows = [ProblemRow(one.field, one.message, one.fix) for one in (*problems, *more)]
            return AgentsChanged(len(self.llm.agents), rows, self.keeps)

    async def reset_agents(self) -> AgentsChanged:
        """Route without all that were added."""
        async with self.changing:
            await self._exchange({})
            return AgentsChanged(len(self.llm.agents), [], self.keeps)

    async def remove_agent(self, name: str) -> AgentsChanged:
        """Route without an added agent. Raises Problem: it is none."""
        async with self.changing:
            if name not in self.own:
                known = any(agent.name == name for agent in self.llm.agents)
                status, what = (409, "was not added here") if known else (404, "is not known")
                fix = "start the server with other --agents" if known else "see GET /v1/agents"
                raise Problem(status, f"the agent {name[:200]!r} {what}", field="name", fix=fix)
            await self._exchange({key: agent for key, agent in self.own.items() if key != name})
            return AgentsChanged(len(self.llm.agents), [], self.keeps)

    async def restore(self, data: bytes) -> None:
        """Go on with another state file in the place of this one; one that says nothing of agents leaves these.

        Raises:
            StoreError: it cannot be used; nothing has changed then.
        """
        async with self.changing:
            await self.llm.arestore(data)
            self.hub = Hub(self.llm.store, self.llm.static.dim)
            if not self.keeps:
                return
            kept = kept_agents(self.llm.store)
            if kept is None and self.own:
                keep_agents(self.llm.store, self.own.values())
            elif kept is not None and kept != self.own:
                await self._exchange(kept)

    async def _exchange(self, own: dict[str, Agent]) -> None:
        """Other added agents: known to the router, then on disk."""
        together = {agent.name: agent for agent in self._base} | own
        await self.llm.areplace_agents(together.values())
        if self.keeps:
            keep_agents(self.llm.store, own.values())
        self.own = own

    @asynccontextmanager
    async def lifespan(self, _: object) -> AsyncIterator[None]:
        """Warm up behind the first requests; at the end, put everything on disk."""
        tasks = [asyncio.ensure_future(self._warm()), asyncio.ensure_future(self._keep())]
        try:
            yield
        finally:
            self.ready = False
            for task in tasks:
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task
            await self.close()

    async def close(self) -> None:
        """Write down what waits and let go of the state file and the backends."""
        try:
            self.llm.memory.flush()
        finally:
            await self.llm.aclose()
        event(logging.INFO, "closed")

    async def _warm(self) -> None:
        try:
            await self.llm.router.warm(pause)
            memory = self.llm.memory
            memory.nearest(np.ones(memory.encoder.dim, np.float32), 1)  # opens the index
        except RuvllmError as error:
            event(logging.ERROR, "not ready", problem=str(error))
            return
        gc.collect()
        gc.freeze()  # the models stay: no collection has to go through them again
        self.ready = True
        event(logging.INFO, "ready", agents=len(self.llm.agents), encoder=self.llm.mode)

    async def _keep(self) -> None:
        """What waits goes to disk, and what was told is learnt from, a little at a time."""
        while True:
            await asyncio.sleep(_TICK)
            try:
                self.llm.memory.flush()
                await self.llm.atick(_BUDGET)
            except StoreError as error:
                event(logging.ERROR, "not written", problem=str(error))
            except Exception as error:
                event(logging.ERROR, "learning failed", problem=repr(error)[:300])
