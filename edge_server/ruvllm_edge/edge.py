"""One space as endpoints see it: its router, memory, agents, conversations and costs."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np

from ruvllm import Decision, RuvLLM, Tier
from ruvllm.encoders.protocol import Vectors, pause
from ruvllm.inference.backend import Usage
from ruvllm.inference.endpoint import Price
from ruvllm.query.responses import Response
from ruvllm.rlm.answers import RlmAnswer
from ruvllm.sizing.named import NamedBackends
from ruvllm.state.names import RESTORED
from ruvllm.state.transfer import dump, empty
from ruvllm_edge.agents import AddedAgents
from ruvllm_edge.auth import DEFAULT_SPACE, Key, KeyRing
from ruvllm_edge.conversations import Conversations
from ruvllm_edge.hub import Hub
from ruvllm_edge.problems import too_many
from ruvllm_edge.savings import Savings
from ruvllm_edge.stored_responses import StoredResponses
from ruvllm_edge.telemetry import Answering, TracedAnswer
from ruvllm_edge.usage import Usage as KeyUsages
from ruvllm_edge.usage import seconds_left
from ruvllm_edge.workers import Decided, Tasks, Worker

if TYPE_CHECKING:
    from ruvllm_edge.mcp import McpSpace
    from ruvllm_edge.server import Server


_UNTRACED = Answering()

_SLICE = 4  # texts encoded between two turns of the event loop
_BUDGET = 30.0  # seconds that a job may work, other requests having their turn between its slices
_THEIRS, _LONGEST_WAIT = 9, 0.1  # how much more time than a slice took requests have after it; seconds


class Edge:
    """What endpoints work with: one space of a server, and what all spaces have in common.

    Args:
        server: what is there once.
        llm: answers; it is closed with the space.
        name: of the space.
        keeps: whether agents that clients add are there again after a restart.
        workers: decide tasks of this space too.

    Attributes:
        settings, bodies, answers, metrics: of the server.
        agents: that clients add.
        conversations: that are passed on, and to which backend.
        savings, usage: what answers cost, and how often each key called.
        named: LLM backends that clients named, to choose among.
        responses: of the Responses API, that a later request may go on from.
        mcp: serves the Model Context Protocol, from its first request on.
        uses: requests and jobs that work with it; it is not closed while there are any.
        closed: whether it has been.
    """

    def __init__(
        self,
        server: Server,
        llm: RuvLLM,
        name: str = DEFAULT_SPACE,
        keeps: bool = False,
        workers: Sequence[Worker] = (),
    ) -> None:
        self.server, self.llm, self.name = server, llm, name
        self.settings, self.bodies, self.answers = server.settings, server.bodies, server.answers
        self.metrics = server.metrics
        self.agents = AddedAgents(llm, keeps)
        self._tasks = Tasks(llm, workers, lambda: keeps or not self.agents.added)
        self._renew()
        self.mcp: McpSpace | None = None
        self.uses, self.closed, self._resumed = 0, False, 0.0
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
            memory = replace(memory, write_back=not memory.write_back)
            self.llm.services.reconfigure(replace(self.llm.config, memory=memory))

    def gauge(self) -> None:
        """Bring the gauges up to date."""
        self.metrics.waiting.set(self.answers.waiting)
        self.metrics.agents.set(len(self.llm.agents))
        self.metrics.memories.set(sum(self.llm.memory.records.counts().values()))
        self.metrics.behind(self.llm.store.set_aside.counts(), self.llm.steps.failures)
        self.metrics.job_status(self.llm.jobs.status())

    def answered(self, response: Response, key: str) -> None:
        """Count an answer to the key of this name."""
        agent, backend = response.decision.agent, response.routing.backend
        self._count(agent, backend, key, response.usage, response.cost)

    def broken_off(self, agent: str, backend: str, key: str, usage: Usage) -> None:
        """Count an answer that nobody waited for, and which was paid for all the same."""
        self._count(agent, backend, key, usage, self._price(backend).of(usage))

    def answered_deep(self, answer: RlmAnswer, key: str) -> str:
        """Count an answer that was put together from several; who was asked most."""
        choice, tiers = answer.choice, self.llm.queries.writers.tiers
        backend = choice.backend if choice is not None and choice.backend else tiers.at(Tier.LARGE).name
        self._count("", backend, key, answer.usage, self._price(backend).of(answer.usage))
        return backend

    def _price(self, backend: str) -> Price:
        found = (getattr(one, "price", None) for one in self.llm.backends.values() if one.name == backend)
        return next((price for price in found if isinstance(price, Price)), Price())

    def _count(self, agent: str, backend: str, key: str, usage: Usage, cost: float) -> None:
        self.savings.add_usage(agent, key, usage, cost, self.largest[1])
        self.metrics.answer(backend, usage.prompt_tokens, usage.completion_tokens, cost)
        if key:
            self.metrics.key_answer(self.name, key, usage.prompt_tokens, usage.completion_tokens, cost)

    def answering(self, model: str, stream: bool = False) -> Answering:
        """Of an answer that is asked for, what tells OpenTelemetry; nothing where that is off."""
        telemetry = self.server.telemetry
        if telemetry is None:
            return _UNTRACED
        endpoints = {one.name: getattr(one, "endpoint", None) for one in self.llm.backends.values()}
        providers = {name: str(getattr(endpoint, "api", "ruvllm")) for name, endpoint in endpoints.items()}
        return TracedAnswer(telemetry, model, providers, stream)

    def traced(self, kind: str, name: str, about: Mapping[str, Any]) -> AbstractContextManager[Any]:
        """Around an operation, its span where OpenTelemetry is on, as `Telemetry.operation`."""
        telemetry = self.server.telemetry
        return nullcontext() if telemetry is None else telemetry.operation(kind, name, about)

    def check_budget(self, key: Key) -> None:
        """Raises Problem: 429, the key has spent what it may today."""
        if key.budget is not None and self.savings.spent(key.name) >= key.budget:
            message = f"this key has spent its ${key.budget:g} of today"
            raise too_many(message, seconds_left(), "budget", code="insufficient_quota")

    async def route(self, text: str, top: int, team: bool) -> Decision | Decided:
        """The agent, tier and confidence for a task. Raises InputError: the text is empty or far too large."""
        return await self._tasks.route(text, top, team, alone=self.server.in_flight < 2)

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
        self._renew()

    async def erase(self) -> None:
        """Go on with an empty state file in the place of this one. Raises StoreError: as `restore`."""
        await self.agents.restore(empty(self.llm.store), keep=False)
        with self.llm.store.alone() as db:
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)")  # what was there is on no page any more
        self._renew()

    def _renew(self) -> None:
        """What is read from the state file, once more, and nothing of what was only in memory."""
        sessions = self.llm.config.sessions
        self.conversations = Conversations()
        self.responses = StoredResponses(
            self.llm.store, sessions.ttl, sessions.most, sessions.characters, sessions.keep
        )
        self.hub = Hub(self.llm.store, self.llm.encoders.static.dim)
        self.savings, self.usage = Savings(self.llm.store), KeyUsages(self.llm.store)
        self.named = NamedBackends(lambda: self.llm)
        self._restored = self.llm.store.load(RESTORED)

    async def start(self) -> None:
        """Warm up."""
        await self.llm.routing.router.warm(pause)
        await self.agents.start()
        self._tasks.refresh()
        memory = self.llm.memory
        memory.nearest(np.ones(memory.encoder.dim, np.float32), 1)  # opens the index

    async def work(self) -> None:
        """What waits goes to disk, and what was told is learnt from, a little at a time."""
        self.uses, self._resumed = self.uses + 1, perf_counter()
        self._tasks.refresh()
        try:
            with self.llm.steps("memory"):
                self.llm.memory.flush()
            with self.llm.steps("savings"):
                self.savings.save()
                self.usage.save()
            if self.llm.store.load(RESTORED) != self._restored:  # `ruvllm state restore` or `delete`, in its process
                await self.restore(dump(self.llm.store))
            if self.server.node is None or not self.server.node.behind(self.name):
                self.metrics.job_runs(await self.llm.arun_jobs(_BUDGET, pause=self._considerate))
        except Exception as error:  # a StoreError: all waits for the next time
            self.llm.steps.failed("writing", error)
        finally:
            self.uses -= 1

    async def _considerate(self) -> None:
        """Between slices of background work: requests have their turn, and most of the time while there are any."""
        worked, before = perf_counter() - self._resumed, self.server.requests
        await pause()
        if self.server.requests != before:
            await asyncio.sleep(min(_THEIRS * worked, _LONGEST_WAIT))
        self._resumed = perf_counter()

    async def close(self) -> None:
        """Write down what waits and let go of the state file; the default space's backends are everyone's."""
        self.closed = True
        self._tasks.close()
        if self.mcp is not None:
            await self.mcp.close()
        try:
            await self.agents.stop()
            with self.llm.steps("memory"):
                self.llm.memory.flush()
            with self.llm.steps("savings"):
                self.savings.save(now=True)
                self.usage.save(now=True)
        finally:
            if self.name == DEFAULT_SPACE:
                await self.llm.aclose()
            else:
                await asyncio.to_thread(self.llm.close)
