"""Good questions and answers go into memory, a batch at a time, and what users state: hardly a query waits for it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ruvllm.encoders.protocol import Pause, no_pause, run_now
from ruvllm.errors import EncoderError, InputError
from ruvllm.memory.memory import MemoryStore
from ruvllm.memory.subgraph import Edge
from ruvllm.memory.surroundings import directed
from ruvllm.options import MemoryConfig
from ruvllm.query.requests import LoggedRequest
from ruvllm.state.record import AGENT, EXPIRES, OBSERVED, SPEAKER, Memory
from ruvllm.state.set_aside import base64_of
from ruvllm.text.statements import stated_in

_CITED = 0.5  # weight of a new edge to a source: feedback moves it either way
_MOST_CITED = 3  # sources that an edge leads to, the best
_MOST_TEXT = 100_000  # characters of an answer
_READ = 4_000  # characters of a question or an answer that statements are looked for in
_MOST_STATED = 1_000  # statements that wait, the oldest go
_USER, _ASSISTANT = "user", "assistant"


class WriteBack:
    """What waits to be remembered."""

    def __init__(self, memory: MemoryStore, config: MemoryConfig, clock: Callable[[], float] = time.monotonic) -> None:
        self._memory, self._config, self._clock = memory, config, clock
        self._waiting: dict[str, LoggedRequest] = {}
        self._stated: dict[tuple[str, str, str], LoggedRequest] = {}  # request, speaker and sentence
        self._since = 0.0

    def __len__(self) -> int:
        return len(self._waiting) + len(self._stated)

    @property
    def collection(self) -> str:
        """Where it goes."""
        return self._config.collection

    @property
    def due(self) -> bool:
        """Whether enough waits, or for long enough."""
        late = self._clock() - self._since >= self._config.write_interval_ms / 1_000
        return len(self._waiting) >= self._config.write_batch or (bool(self._waiting) and late)

    def offer(self, request: LoggedRequest) -> None:
        """Let it wait for the next `flush`, if it is good enough; take it back if it is no longer."""
        good = self._config.write_back and request.answer and request.quality >= self._config.quality_threshold
        if not good or request.memory is not None or not request.vector.any():
            self._waiting.pop(request.request_id, None)
            return
        if not self._waiting:
            self._since = self._clock()
        self._waiting[request.request_id] = request

    def state(self, request: LoggedRequest, speaker: str = _USER) -> None:
        """Let what its user states wait for the next `astate`, or what its answer does.

        Args:
            speaker: "user", or "assistant" for an answer that somebody found good.
        """
        if not (self._config.write_back and self._config.statements):
            return
        said = request.text if speaker == _USER else request.answer
        for one in stated_in(said[:_READ], speaker):
            self._stated[request.request_id, speaker, one] = request
        while len(self._stated) > _MOST_STATED:
            del self._stated[next(iter(self._stated))]

    def withdraw(self, request: LoggedRequest) -> None:
        """Take what its answer states out of the search: somebody found that it is not good."""
        for key in [key for key in self._stated if key[:2] == (request.request_id, _ASSISTANT)]:
            del self._stated[key]
        found = self._memory.records.matching(
            self._config.collection, {"request": request.request_id, SPEAKER: _ASSISTANT}
        )
        if len(found):
            self._memory.archive(found.tolist())

    async def astate(self, pause: Pause = no_pause) -> int:
        """Remember the statements that wait, each once (see `MemoryStore.remember`); returns how many.

        Raises:
            StoreError: the file takes nothing; all goes on waiting.
        """
        count = 0
        while self._stated:
            await pause()
            key = next(iter(self._stated))
            _, speaker, text = key
            request = self._stated[key]
            about = self._about(request) | {SPEAKER: speaker, OBSERVED: datetime.now(UTC).isoformat(timespec="seconds")}
            with suppress(InputError):  # a text that nothing can be made of stops no other
                (id,) = await self._memory.aremember(Memory(text, "Fact", self._config.collection, about))
                if request.memory is not None:
                    self._memory.graph.link(id, request.memory, "Derived", _CITED)
            self._stated.pop(key, None)
            count += 1
        return count

    def state_now(self) -> int:
        """The same for callers without an event loop; what an encoder has to be awaited for goes on waiting."""
        with suppress(EncoderError):
            return run_now(self.astate())
        return 0

    def flush(self) -> int:
        """Write all questions and answers that wait, with their edges; returns how many.

        What cannot be written is set aside alone.

        Raises:
            StoreError: the file takes nothing; all goes on waiting.
        """
        waiting = list(self._waiting.values())
        if not waiting:
            return 0
        store = self._memory.store
        with store.write():
            written = store.set_aside.write_each(
                "memory", waiting, self._add, lambda request: request.request_id, self._payload
            )
            pairs = [(request, id) for request, id in written if id is not None]
            store.set_aside.erase(("memory",), [request.request_id for request, _ in pairs])  # of an earlier try
            self._link(pairs)
        for request in waiting:
            self._waiting.pop(request.request_id, None)
        for request, id in pairs:
            request.memory = id
            if request.conversation is not None:
                request.conversation.remember(id)
        if pairs:
            requests = [request for request, _ in pairs]
            self._memory.include(
                [id for _, id in pairs], [self._memory_of(one) for one in requests], _vectors(requests)
            )
        return len(pairs)

    def _add(self, some: Sequence[LoggedRequest]) -> list[int]:
        memories = [self._memory_of(request) for request in some]
        vectors = directed(_vectors(some), (len(some), self._memory.encoder.dim))
        return self._memory.records.add(memories, vectors, self._memory.space)

    def _payload(self, request: LoggedRequest) -> dict[str, Any]:
        """What a later try needs; see `memory.rewriting`."""
        about = asdict(self._memory_of(request))
        more = {"space": self._memory.space, "vector": base64_of(request.vector)}
        return about | more | {"cites": list(request.sources[:_MOST_CITED]), "weight": _CITED}

    def _memory_of(self, request: LoggedRequest) -> Memory:
        text = f"Q: {request.text}\nA: {request.answer}"[:_MOST_TEXT]
        about = self._about(request) | {"agent": request.agent, "model": request.model}
        return Memory(text, "QAPair", self._config.collection, about, request.quality)

    def _about(self, request: LoggedRequest) -> dict[str, Any]:
        """Whose it is, what it came of, and until when it stays."""
        about: dict[str, Any] = {"request": request.request_id}
        if request.agent_id is not None:
            about[AGENT] = request.agent_id
        if self._config.keep_days:
            about[EXPIRES] = (datetime.now(UTC) + timedelta(days=self._config.keep_days)).isoformat(timespec="seconds")
        return about

    def _link(self, written: list[tuple[LoggedRequest, int]]) -> None:
        """Each to what it cites, and to what came before it in its session, where that is still there."""
        edges, latest = list[Edge](), dict[str, int]()
        for request, id in written:
            edges += [Edge(id, source, "Cites", _CITED) for source in request.sources[:_MOST_CITED]]
            if (session := request.conversation) is not None:
                before = latest.get(session.id, session.last)
                if before is not None:
                    edges.append(Edge(id, before, "Follows", _CITED))
                latest[session.id] = id
        if edges:
            there = self._memory.records.present([edge.target for edge in edges])
            self._memory.store.set_aside.write_each(
                "edge",
                [edge for edge in edges if edge.target in there],
                self._memory.graph.link_all,
                lambda edge: f"{edge.source} {edge.target} {edge.kind}",
                lambda edge: edge._asdict(),
            )


def _vectors(some: Sequence[LoggedRequest]) -> NDArray[np.float32]:
    return np.stack([request.vector for request in some])
