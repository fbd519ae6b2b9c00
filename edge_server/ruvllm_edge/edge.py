"""What all endpoints share: the router, the limits, the counters, and what has been set up so far."""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from itertools import count
from os import urandom

import numpy as np

from ruvllm import RuvLLM, RuvllmError
from ruvllm.encoders.protocol import Vectors, pause
from ruvllm.inference.endpoint import Price
from ruvllm.query.responses import Response
from ruvllm.state.set_aside import reason_of
from ruvllm_edge.agents import AddedAgents
from ruvllm_edge.auth import Buckets, Key, KeyRing, read_keys
from ruvllm_edge.conversations import Conversations, StoredResponses
from ruvllm_edge.hub import Hub
from ruvllm_edge.limits import Answers, Bodies
from ruvllm_edge.logs import event
from ruvllm_edge.metrics import Metrics
from ruvllm_edge.savings import Savings
from ruvllm_edge.settings import Settings

__all__ = ["Edge"]

_SLICE = 4  # texts encoded between two turns of the event loop
_TICK = 1.0  # seconds between two looks at what waits to be written or learnt
_BUDGET = 30.0  # seconds that a job may take, other requests having their turn between its slices


class Edge:
    """One server's state.

    Args:
        llm: answers; it is closed with the server.
        settings: limits and keys.
        keeps: whether agents that clients add are there again after a restart.

    Attributes:
        ready: whether the first route will not have to wait, and the server is not ending.
        agents: that clients add.
        anyone: who calls where no key is needed.
        conversations: that are passed on, and to which backend.
        savings: what answers cost.
        responses: of the Responses API, that a later request may go on from.
    """

    def __init__(self, llm: RuvLLM, settings: Settings, keeps: bool = False) -> None:
        self.llm, self.settings = llm, settings
        self.agents = AddedAgents(llm, keeps)
        ring = KeyRing.of(settings.api_keys)
        self.keys = ring + read_keys(settings.keys_file) if settings.keys_file else ring
        self.anyone = Key(admin=settings.loopback and not self.keys)  # on this machine, whoever runs it
        if len(self.keys) > 1 and not settings.share_answers:
            llm.services.reconfigure(replace(llm.config, memory=replace(llm.config.memory, write_back=False)))
        self.buckets = Buckets(settings.rate, settings.burst)
        self.bodies = Bodies(settings.bodies_memory, settings.body_timeout)
        self.answers = Answers(settings.max_answers, settings.queue, settings.timeout)
        self.metrics = Metrics()
        self.conversations = Conversations()
        sessions = llm.config.sessions
        self.responses = StoredResponses(sessions.ttl, sessions.most, sessions.characters)
        self.hub = Hub(llm.store, llm.encoders.static.dim)
        self.savings = Savings(llm.store)
        self.ready = False
        self.in_flight = 0
        self._tag, self._numbers = urandom(5).hex(), count(1)

    @property
    def largest(self) -> tuple[str, Price]:
        """The model of the highest tier, and its prices (0 where it has none)."""
        backend = self.llm.backends[max(self.llm.backends)]
        price = getattr(backend, "price", None)
        return backend.model, price if isinstance(price, Price) else Price()

    def new_id(self) -> str:
        """The id of a request."""
        return f"req-{self._tag}-{next(self._numbers):x}"

    def gauge(self) -> None:
        """Bring the gauges up to date."""
        self.metrics.in_flight.set(self.in_flight)
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
            await asyncio.gather(*tasks, return_exceptions=True)
            await self.close()

    async def close(self) -> None:
        """Write down what waits and let go of the state file and the backends."""
        try:
            await self.agents.stop()
            with self.llm.steps("memory"):
                self.llm.memory.flush()
            with self.llm.steps("savings"):
                self.savings.save(now=True)
        finally:
            await self.llm.aclose()
        event(logging.INFO, "closed")

    async def _warm(self) -> None:
        try:
            await self.llm.routing.router.warm(pause)
            await self.agents.start()
            memory = self.llm.memory
            memory.nearest(np.ones(memory.encoder.dim, np.float32), 1)  # opens the index
        except Exception as error:
            problem = str(error) if isinstance(error, RuvllmError) else reason_of(error)
            event(logging.ERROR, "not ready", problem=problem)
            return
        gc.collect()
        gc.freeze()  # the models stay: no collection has to go through them again
        self.ready = True
        event(logging.INFO, "ready", agents=len(self.llm.agents), encoder=self.llm.encoders.mode)

    async def _keep(self) -> None:
        """What waits goes to disk, and what was told is learnt from, a little at a time."""
        while True:
            await asyncio.sleep(_TICK)
            try:
                with self.llm.steps("memory"):
                    self.llm.memory.flush()
                with self.llm.steps("savings"):
                    self.savings.save()
                self.metrics.job_runs(await self.llm.arun_jobs(_BUDGET))
            except Exception as error:  # a StoreError: all waits for the next time
                self.llm.steps.failed("writing", error)
