"""One space as endpoints see it: its router, memory, agents, conversations and costs."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from ruvllm import RuvLLM
from ruvllm.encoders.protocol import Vectors, pause
from ruvllm.inference.endpoint import Price
from ruvllm.query.responses import Response
from ruvllm_edge.agents import AddedAgents
from ruvllm_edge.auth import DEFAULT_SPACE, KeyRing
from ruvllm_edge.conversations import Conversations, StoredResponses
from ruvllm_edge.hub import Hub
from ruvllm_edge.savings import Savings

if TYPE_CHECKING:
    from ruvllm_edge.mcp import McpSpace
    from ruvllm_edge.server import Server

__all__ = ["Edge"]

_SLICE = 4  # texts encoded between two turns of the event loop
_BUDGET = 30.0  # seconds that a job may take, other requests having their turn between its slices


class Edge:
    """What endpoints work with: one space of a server, and what all spaces have in common.

    Args:
        server: what is there once.
        llm: answers; it is closed with the space.
        name: of the space.
        keeps: whether agents that clients add are there again after a restart.

    Attributes:
        settings, bodies, answers, metrics: of the server.
        agents: that clients add.
        conversations: that are passed on, and to which backend.
        savings: what answers cost.
        responses: of the Responses API, that a later request may go on from.
        mcp: serves the Model Context Protocol, from its first request on.
        uses: requests and jobs that work with it; it is not closed while there are any.
        closed: whether it has been.
    """

    def __init__(self, server: Server, llm: RuvLLM, name: str = DEFAULT_SPACE, keeps: bool = False) -> None:
        self.server, self.llm, self.name = server, llm, name
        self.settings, self.bodies, self.answers = server.settings, server.bodies, server.answers
        self.metrics = server.metrics
        self.agents = AddedAgents(llm, keeps)
        self.conversations = Conversations()
        sessions = llm.config.sessions
        self.responses = StoredResponses(sessions.ttl, sessions.most, sessions.characters)
        self.hub = Hub(llm.store, llm.encoders.static.dim)
        self.savings = Savings(llm.store)
        self.mcp: McpSpace | None = None
        self.uses, self.closed = 0, False
        self._write_back = llm.config.memory.write_back
        self.update_write_back()

    @property
    def keys(self) -> KeyRing:
        """All that may be used today."""
        return self.server.keys.ring

    @property
    def ready(self) -> bool:
        """Whether the first route will not have to wait, and the server is not ending."""
        return self.server.ready

    @property
    def largest(self) -> tuple[str, Price]:
        """The model of the highest tier, and its prices (0 where it has none)."""
        backend = self.llm.backends[max(self.llm.backends)]
        price = getattr(backend, "price", None)
        return backend.model, price if isinstance(price, Price) else Price()

    def update_write_back(self) -> None:
        """Answers go into memory where one key alone would find them there, or the settings say so."""
        alone = self.settings.share_answers or len(self.keys.of_space(self.name)) < 2
        memory = self.llm.config.memory
        if memory.write_back is not (self._write_back and alone):
            self.llm.reconfigure(replace(self.llm.config, memory=replace(memory, write_back=not memory.write_back)))

    def gauge(self) -> None:
        """Bring the gauges up to date."""
        self.metrics.in_flight.set(self.server.in_flight)
        self.metrics.waiting.set(self.answers.waiting)
        self.metrics.agents.set(len(self.llm.agents))
        self.metrics.memories.set(sum(self.llm.memory.records.counts().values()))
        self.metrics.behind(self.llm.store.set_aside.counts(), self.llm.steps.failures)
        self.metrics.job_status(self.llm.jobs.status())

    def answered(self, response: Response, key: str) -> None:
        """Count an answer to the key of this name."""
        usage = response.usage
        self.savings.add(response, key, self.largest[1])
        self.metrics.answer(response.routing.backend, usage.prompt_tokens, usage.completion_tokens, response.cost)

    async def embed(self, texts: Sequence[str]) -> Vectors:
        """Unit vectors, float32 (len(texts), dim); other requests have their turn between the slices."""
        rows = [np.zeros((0, (self.llm.encoders.main).dim), np.float32)]
        for start in range(0, len(texts), _SLICE):
            rows.append(await self.llm.aembed(texts[start : start + _SLICE]))
            await asyncio.sleep(0)
        return np.concatenate(rows)

    async def restore(self, data: bytes) -> None:
        """Go on with another state file in the place of this one.

        Raises:
            StoreError: it cannot be used; nothing has changed then.
        """
        await self.agents.restore(data)
        self.hub = Hub(self.llm.store, self.llm.encoders.static.dim)
        self.savings = Savings(self.llm.store)

    async def start(self) -> None:
        """Warm up."""
        await self.llm.routing.router.warm(pause)
        await self.agents.start()
        memory = self.llm.memory
        memory.nearest(np.ones(memory.encoder.dim, np.float32), 1)  # opens the index

    async def work(self) -> None:
        """What waits goes to disk, and what was told is learnt from, a little at a time."""
        self.uses += 1
        try:
            with self.llm.steps("memory"):
                self.llm.memory.flush()
            with self.llm.steps("savings"):
                self.savings.save()
            self.metrics.job_runs(await self.llm.arun_jobs(_BUDGET))
        except Exception as error:  # a StoreError: all waits for the next time
            self.llm.steps.failed("writing", error)
        finally:
            self.uses -= 1

    async def close(self) -> None:
        """Write down what waits and let go of the state file; the default space's backends are everyone's."""
        self.closed = True
        if self.mcp is not None:
            await self.mcp.close()
        try:
            await self.agents.stop()
            with self.llm.steps("memory"):
                self.llm.memory.flush()
            with self.llm.steps("savings"):
                self.savings.save(now=True)
        finally:
            if self.name == DEFAULT_SPACE:
                await self.llm.aclose()
            else:
                await asyncio.to_thread(self.llm.close)
