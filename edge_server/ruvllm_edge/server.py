"""What a server has once, whatever the space: keys, limits, counters, and the spaces themselves."""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from itertools import count
from os import urandom
from time import monotonic

from ruvllm import RuvLLM, RuvllmError
from ruvllm.state.set_aside import reason_of
from ruvllm_edge.audit import Audit, audit_file
from ruvllm_edge.auth import DEFAULT_SPACE, Buckets, Key, KeyRing, Keys
from ruvllm_edge.edge import Edge
from ruvllm_edge.limits import Answers, Bodies
from ruvllm_edge.logs import event
from ruvllm_edge.metrics import Metrics
from ruvllm_edge.problems import Problem, too_many
from ruvllm_edge.settings import Settings
from ruvllm_edge.shared.node import Node
from ruvllm_edge.spaces import Spaces, spaces_folder
from ruvllm_edge.telemetry import Telemetry
from ruvllm_edge.workers import Worker

_TICK = 1.0  # seconds between two looks at what waits to be written or learnt


class Server:
    """The parts of a server that its spaces have in common.

    Args:
        llm: answers in the default space; it is closed with the server.
        settings: limits and keys.
        keeps: whether agents that clients add are there again after a restart.
        workers: decide tasks of the default space too.

    Attributes:
        requests: how many there were.
        ready: whether the first route will not have to wait, and the server is not ending.
        keys: that may be used.
        audit: who did what.
        telemetry: what OpenTelemetry is told; None where that is off.
        anyone: who calls where no key is needed.
        spaces: the default one, and those of keys.
        node: keeps them together with those of other servers; None where they are alone.
    """

    def __init__(self, llm: RuvLLM, settings: Settings, keeps: bool = False, workers: Sequence[Worker] = ()) -> None:
        self.settings = settings
        self.keys = Keys(settings.api_keys, settings.keys_file)
        here = settings.loopback and not self.keys.needed  # on this machine, whoever runs it
        self.anyone = Key(role="admin" if here else "", alone=True)
        self.buckets = Buckets(settings.rate, settings.burst)
        self.bodies = Bodies(settings.bodies_memory, settings.body_timeout)
        self.answers = Answers(settings.max_answers, settings.queue, settings.timeout)
        self.metrics = Metrics()
        self.telemetry = Telemetry() if settings.otel else None
        self.audit = Audit(settings.audit or (audit_file(settings.keys_file) if settings.keys_file else None))
        self.ready = False
        self.in_flight = self.requests = 0
        default, folder = Edge(self, llm, keeps=keeps, workers=workers), spaces_folder(settings, llm.store.path)
        self.spaces = Spaces(default, lambda one, name: Edge(self, one, name, keeps), folder, settings.max_spaces)
        self.node: Node | None = None
        if settings.shared:
            bounds = settings.shared_hot, settings.shared_deadline
            self.node = Node(settings.shared, settings.shares, lambda: self.spaces.opened, self.metrics, *bounds)
        self._ring = self.keys.ring
        self._tag, self._numbers = urandom(5).hex(), count(1)

    def new_id(self) -> str:
        """The id of a request."""
        return f"req-{self._tag}-{next(self._numbers):x}"

    def caller(self, presented: list[str]) -> Key:
        """Whose key one of these is. Raises Problem: 401."""
        ring = self.keys.ring
        if ring is not self._ring:
            self._ring = ring
            for edge in self.spaces.opened:
                edge.update_write_back()
        key = next(filter(None, map(ring.find, presented)), None)
        if key is None:
            fix = "send one as `Authorization: Bearer KEY`, `x-api-key: KEY` or `api-key: KEY`"
            what = "this API key is not known" if presented else "an API key is needed"
            headers = {"www-authenticate": 'Bearer realm="ruvllm"'}
            raise Problem(401, what, field="authorization", fix=fix, headers=headers)
        return key

    def check_rate(self, key: Key) -> None:
        """Raises Problem: 429, the key calls too often."""
        wait = self.buckets.take(key.name, monotonic(), key.rate)
        if wait:
            rate = self.settings.rate if key.rate is None else key.rate
            raise too_many(f"more than {rate:g} requests a second", wait, "authorization")

    def note(self, key: Key, edge: Edge | None, action: str, status: int, request_id: str) -> None:
        """What became of a request that needed a key, for the audit log and the counts of the key."""
        self.audit.add(action, status, key=key.name, space=key.space, role=key.role, request=request_id)
        if key.name:
            self.metrics.key_request(key.space, key.name, status or 499)
            if edge is not None:
                edge.usage.add(key.name, not 0 < status < 400)

    def gauge(self, key: Key) -> str | None:
        """Bring the gauges up to date; the space of which alone a key may see them, None for all of them."""
        self.metrics.spaces.set(len(self.spaces.opened))
        self.metrics.in_flight.set(self.in_flight)
        ring = self.keys.ring if self.keys.needed else KeyRing()
        for edge in self.spaces.opened:
            if self.node is not None and edge.name in self.node:
                self.metrics.shared(edge.name, self.node.stats(edge))
            for one in ring.of_space(edge.name):
                if one.budget is not None:
                    self.metrics.budget(edge.name, one.name, one.budget, edge.savings.spent(one.name))
        whole = ring.spaces <= {DEFAULT_SPACE} or (key.space == DEFAULT_SPACE and key.may("admin"))
        return None if whole else key.space

    @asynccontextmanager
    async def lifespan(self, _: object) -> AsyncIterator[None]:
        """Warm up behind the first requests; at the end, put everything on disk."""
        tasks = [asyncio.ensure_future(one) for one in (self._begin(), self._work(), self.spaces.make_room())]
        try:
            yield
        finally:
            self.ready = False
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self._close()

    async def _close(self) -> None:
        failures = []
        for edge in reversed(self.spaces.opened):  # the default one last: it has everyone's backends
            try:
                await edge.close()
            except Exception as error:
                failures.append(error)
        self.audit.write()
        if self.telemetry is not None:
            await asyncio.to_thread(self.telemetry.flush)
        if failures:
            raise failures[-1]
        event(logging.INFO, "closed")

    async def _begin(self) -> None:
        await self._warm()
        if self.node is not None:  # what others wrote meanwhile can wait for the first routes
            await asyncio.gather(self.node.run(), self.node.visit(self.spaces))

    async def _warm(self) -> None:
        default = self.spaces.default
        try:
            await default.start()
        except Exception as error:
            problem = str(error) if isinstance(error, RuvllmError) else reason_of(error)
            event(logging.ERROR, "not ready", problem=problem)
            return
        gc.collect()
        gc.freeze()  # the models stay: no collection has to go through them again
        self.ready = True
        event(logging.INFO, "ready", agents=len(default.llm.agents), encoder=default.llm.encoders.mode)

    async def _work(self) -> None:
        while True:
            await asyncio.sleep(_TICK)
            self.audit.write()
            for edge in self.spaces.opened:
                if not edge.closed:
                    await edge.work()
