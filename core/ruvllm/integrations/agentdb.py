"""AgentDB's names over ruvllm's parts: which backend searches, which LLM answers, embeddings that learn."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ruvllm.encoders.protocol import run_now
from ruvllm.errors import unknown
from ruvllm.memory.found import Found
from ruvllm.memory.memory import MemoryStore
from ruvllm.runtime import RuvLLM
from ruvllm.sizing.selector import BackendProfile, Choice, LLMOrchestrator

Search = Callable[[NDArray[np.float32], int], Any]  # a vector (dim,) and how many -> what was found


class IntelligentQueryRouter(LLMOrchestrator):
    """Which of several vector searches answers a query soonest, learnt from how long they took (FEATURES.md R17).

    >>> IntelligentQueryRouter().route("which index?").backend in ("ruvector", "hnswlib")
    True
    """

    def __init__(self, backends: Sequence[str] = ("ruvector", "hnswlib"), **settings: Any) -> None:
        super().__init__([BackendProfile(name, cost=1.0, latency=1.0) for name in backends], **settings)

    def route(self, query: str, embedding: NDArray[np.float32] | None = None) -> Choice:
        """The one to ask, for a query or its vector (dim,). Raises InputError: as `select`.

        >>> IntelligentQueryRouter().route("which index?").cost
        1.0
        """
        return self.select(query if embedding is None else np.asarray(embedding))

    def record_latency(self, choice: Choice, latency: float) -> None:
        """How many milliseconds it took; its reward is 1 / (latency + 1).

        >>> router = IntelligentQueryRouter()
        >>> router.record_latency(router.route("which index?"), 3.5)
        >>> router.stats()["answers"]
        1
        """
        self.record_outcome(choice, quality=1 / (max(latency, 0.0) + 1), latency=latency)


class LLMRouter:
    """Searches by whichever index is measured to be the soonest (FEATURES.md R17).

    Args:
        memory: a store, or a RuvLLM with one; it chooses among its own indexes by itself.
        backends: other searches by name, two or more, of vectors that the memory's encoder gives; searched instead.

    >>> _ = llm.memory.add("Staging is reset at noon.")
    >>> LLMRouter(llm).intelligent_search("staging")[0].memory.text
    'Staging is reset at noon.'
    """

    def __init__(self, memory: MemoryStore | RuvLLM, backends: Mapping[str, Search] | None = None) -> None:
        self.memory = memory.memory if isinstance(memory, RuvLLM) else memory
        self._backends = dict(backends or {})
        self.router = IntelligentQueryRouter([*backends], dim=self.memory.encoder.dim) if backends else None

    def intelligent_search(self, query: str, k: int = 10, **more: Any) -> list[Found] | Any:
        """What is like a text, best first; `more` is of `MemoryStore.search`. Raises InputError: unusable arguments.

        >>> _ = llm.memory.add("Staging is reset at noon.")
        >>> LLMRouter(llm).intelligent_search("when is staging reset?", k=1)[0].memory.text
        'Staging is reset at noon.'
        """
        if self.router is None:
            return self.memory.search(query, k, **more)
        for name in more:
            raise unknown("argument", name, ("query", "k"))
        vector = run_now(self.memory.vector(query))
        choice, began = self.router.route(query, vector), perf_counter()
        found = self._backends[choice.backend](vector, k)
        self.router.record_latency(choice, (perf_counter() - began) * 1000)
        return found

    intelligentSearch = intelligent_search  # noqa: N815 - as AgentDB has it
