"""Good questions and answers go into memory, a batch at a time: hardly a query waits for the disk."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from ruvllm.memory.memory import MemoryStore
from ruvllm.memory.records import Memory
from ruvllm.memory.subgraph import Edge
from ruvllm.options import MemoryConfig
from ruvllm.query.requests import Asked

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
        self._waiting: dict[str, Asked] = {}
        self._since = 0.0

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def due(self) -> bool:
        """Whether enough waits, or for long enough."""
        late = self._clock() - self._since >= self._config.write_interval_ms / 1_000
        return len(self._waiting) >= self._config.write_batch or (bool(self._waiting) and late)

    def offer(self, asked: Asked) -> None:
        """Let it wait for the next `flush`, if it is good enough; take it back if it is no longer."""
        good = self._config.write_back and asked.answer and asked.quality >= self._config.quality_threshold
        if not good or asked.memory is not None or not asked.vector.any():
            self._waiting.pop(asked.request_id, None)
            return
        if not self._waiting:
            self._since = self._clock()
        self._waiting[asked.request_id] = asked

    def flush(self) -> int:
        """Write all that waits, with its edges; returns how many.

        Raises:
            StoreError: it cannot be written; it goes on waiting.
        """
        waiting = list(self._waiting.values())
        if not waiting:
            return 0
        memories = [self._memory_of(asked) for asked in waiting]
        ids = self._memory.add_encoded(memories, np.stack([asked.vector for asked in waiting]))
        for asked, id in zip(waiting, ids, strict=True):
            asked.memory = id
            self._waiting.pop(asked.request_id, None)
        self._link(waiting)
        return len(ids)

    def _memory_of(self, asked: Asked) -> Memory:
        text = f"Q: {asked.text}\nA: {asked.answer}"[:_MOST_TEXT]
        about = {"request": asked.request_id, "agent": asked.agent, "model": asked.model}
        return Memory(text, "QAPair", self._config.collection, about, asked.quality)

    def _link(self, written: list[Asked]) -> None:
        """Each to what it cites, and to what came before it in its session, where that is still there."""
        edges = list[Edge]()
        for asked in written:
            assert asked.memory is not None
            edges += [Edge(asked.memory, source, "Cites", _CITED) for source in asked.sources[:_MOST_CITED]]
            session = asked.conversation
            if session is not None:
                if session.last is not None and session.last != asked.memory:
                    edges.append(Edge(asked.memory, session.last, "Follows", _CITED))
                session.remember(asked.memory)
        there = {memory.id for memory in self._memory.records.get([edge.target for edge in edges])}
        if known := [edge for edge in edges if edge.target in there]:
            self._memory.graph.link_all(known)
