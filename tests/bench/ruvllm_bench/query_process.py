"""What `ruvllm bench query` measures, all of a query but the LLM: `python -m ruvllm_bench.query_process SECONDS`.

A process of its own, because the number of BLAS threads is settled when numpy is imported.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Sequence
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from itertools import pairwise
from statistics import median
from time import perf_counter

import numpy as np

from ruvllm import RuvLLM, Tier
from ruvllm.agents.catalog import builtin_agents
from ruvllm.inference.backend import Chunk, Completion, Message, Params, Usage
from ruvllm.memory.subgraph import Edge
from ruvllm.query.responses import STAGES
from ruvllm.state.record import Memory

MEMORIES = 1_000
_WARM = 20
_CHUNK = 1_000
_TIDY = 100  # queries after which what they left in memory is taken out again


@dataclass(frozen=True, slots=True)
class QueryTimes:
    """Microseconds, over queries of which no two are alike.

    Attributes:
        memories: that were searched, and up to a hundred answers beside them; each is linked to the next of its topic.
        queries: measured.
        p50_us, p95_us: of everything but generation.
        stages: medians of each step; what generates is a backend that takes no time.
    """

    encoder: str
    memories: int
    queries: int
    p50_us: float
    p95_us: float
    stages: dict[str, float]


class _Instant:
    """Stands for a model; only what ruvllm does itself is measured."""

    name, model, context = "instant", "instant", 8_192

    async def generate(self, messages: Sequence[Message], params: Params) -> Completion:
        return Completion("It is done.", self.model, Usage(100, 4), confidence=0.9)

    async def stream(self, messages: Sequence[Message], params: Params) -> AsyncIterator[Chunk]:
        yield Chunk("It is done.", "stop", Usage(100, 4), 0.9)

    async def healthy(self) -> bool:
        return True

    async def close(self) -> None:
        pass


def measure_queries(encoder: str, memories: int, seconds: float) -> QueryTimes:
    """Ask for about so many seconds.

    Args:
        encoder: "static" or "ruvltra".
        memories: to search in.
    """
    asked = [example for agent in builtin_agents() for example in agent.examples]
    # Not the extractive backend: with it there is no model to choose, and nothing to remember.
    with RuvLLM(encoder=encoder, backends={Tier.LARGE: _Instant()}) as llm:
        _fill(llm, asked, memories)
        latencies = asyncio.run(_ask(llm, asked, seconds))  # in one event loop, as a server does
    latencies = latencies[_WARM:]
    own = sorted(one["total"] - one["generation"] for one in latencies)
    stages = {stage: round(median(one[stage] for one in latencies), 1) for stage in STAGES}
    return QueryTimes(
        encoder, memories, len(own), round(median(own), 1), round(own[int(0.95 * (len(own) - 1))], 1), stages
    )


async def _ask(llm: RuvLLM, asked: Sequence[str], seconds: float) -> list[dict[str, float]]:
    """The latencies of all queries, those that warm up first."""
    latencies, end = list[dict[str, float]](), 0.0
    last = int(llm.memory.records.ids("default", llm.memory.space).max())
    while len(latencies) < _WARM + 1 or perf_counter() < end:
        i = len(latencies)
        if i == _WARM:
            end = perf_counter() + seconds
        latencies.append(dict((await llm.aquery(f"{asked[i % len(asked)]}, ticket {i}")).latency))
        if i % _TIDY == 0:
            _tidy(llm, last)
    return latencies


def _tidy(llm: RuvLLM, last: int) -> None:
    """Forget answers that were written back: a faster query would otherwise be measured among more memories."""
    kept = llm.memory.records.ids("default", llm.memory.space)
    llm.memory.forget(kept[kept > last].tolist())


def _fill(llm: RuvLLM, texts: Sequence[str], count: int) -> None:
    """Memories like the queries: each text over and over, its vector jittered, since only their number matters."""
    random, memory = np.random.default_rng(0), llm.memory
    base = llm.embed(texts[: min(count, 200)])
    for start in range(0, count, _CHUNK):
        rows = np.arange(start, min(start + _CHUNK, count)) % len(base)
        noisy = base[rows] + random.standard_normal((len(rows), base.shape[1]), np.float32) * np.float32(0.02)
        vectors = noisy / np.linalg.norm(noisy, axis=1, keepdims=True)
        made = [Memory(f"Notes on how to {texts[row]} ({start + i})") for i, row in enumerate(rows.tolist())]
        ids = memory.add_encoded(made, vectors)
        memory.graph.link_all(Edge(one, other, "SameTopic", 0.5) for one, other in pairwise(ids))


if __name__ == "__main__":
    seconds = float(sys.argv[1])
    encoders = ("static", "ruvltra") if find_spec("onnxruntime") is not None else ("static",)
    print(json.dumps([asdict(measure_queries(encoder, MEMORIES, seconds)) for encoder in encoders]))
