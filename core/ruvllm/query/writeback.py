"""Good questions and answers go into memory, a batch at a time: hardly a query waits for the disk."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ruvllm.memory.memory import MemoryStore
from ruvllm.memory.subgraph import Edge
from ruvllm.memory.surroundings import directed
from ruvllm.options import MemoryConfig
from ruvllm.query.requests import LoggedRequest
from ruvllm.state.record import Memory
from ruvllm.state.set_aside import base64_of

__all__ = ["WriteBack"]

_CITED = 0.5  # weight of a new edge to a source: feedback moves it either way
_MOST_CITED = 3  # sources that an edge leads to, the best
_MOST_TEXT = 100_000  # characters of an answer


class WriteBack:
    """What waits to be remembered.

    Args:
        memory: where it goes.
        config: which collection, from which quality, how many and how long it may wait.
        clock: seconds, monotonic.
    """

    def __init__(self, memory: MemoryStore, config: MemoryConfig, clock: Callable[[], float] = time.monotonic) -> None:
        self._memory, self._config, self._clock = memory, config, clock
        self._waiting: dict[str, LoggedRequest] = {}
        self._since = 0.0

    def __len__(self) -> int:
        return len(self._waiting)

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

    def flush(self) -> int:
        """Write all that waits, with its edges; returns how many. What cannot be written is set aside alone.

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
        about = {"request": request.request_id, "agent": request.agent, "model": request.model}
        return Memory(text, "QAPair", self._config.collection, about, request.quality)

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
