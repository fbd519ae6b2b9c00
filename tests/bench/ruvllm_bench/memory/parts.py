"""The parts of `ruvllm bench memory` that are no plain index: routing, tiers, attention, Loop C."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from statistics import median
from time import perf_counter, perf_counter_ns
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ruvllm import RuvLLM
from ruvllm.index.kmeans import assign, kmeans
from ruvllm.memory.consolidate import Consolidation, consolidate
from ruvllm.memory.memory import MemoryStore
from ruvllm.memory.subgraph import Edge
from ruvllm.state.record import Memory
from ruvllm.state.store import Store
from ruvllm.types import Feedback
from ruvllm_bench.memory.attention import measure_attention
from ruvllm_bench.memory.rows import Row, tell
from ruvllm_bench.memory.tiers import measure_tiers
from ruvllm_bench.memory.vectors import Given, held_mb

if TYPE_CHECKING:
    from ruvllm_bench.memory.measures import Task


_CONFIRMED = 10_000
_ASKED = 4_000
_SEVERAL = 10
_FRAMES = ("please {}", "{} please", "{} now", "could you {}")
_CODECS = {"f16": (2.0, 0.99), "pq8": (8.0, 0.95), "binary": (30.0, 0.90)}  # times smaller, recall after rerank
_CODEC_QUERIES = 200
_BATCH = 500
_QUERIES, _TURNS = 300, 20  # questions, turns of a conversation
Floats = NDArray[np.float32]


def measure_hits(task: Task) -> None:
    """A task asked before, and one like a confirmed task, among 10,000 confirmed ones."""
    texts = _texts(task)[:_CONFIRMED]
    with RuvLLM(encoder="static") as llm:
        vectors = llm.embed(texts)
        topics = assign(vectors, kmeans(vectors, len(llm.agents)))  # like texts are mostly one agent's
        for text, topic in zip(texts, topics.tolist(), strict=True):
            llm.routing.router.note(Feedback(text, llm.agents[topic].name))
        near = list[int]()
        for i in range(_ASKED):
            asked = _FRAMES[i % len(_FRAMES)].format(texts[i * 7 % len(texts)])
            began = perf_counter_ns()
            decision = llm.route(asked)
            took = perf_counter_ns() - began
            if "memory" in decision.evidence.scores and not decision.cached:
                near.append(took)
        llm.route(asked)
        route, cached = llm.route, list[float]()
        for _ in range(_ASKED):
            began = perf_counter_ns()
            for _ in range(_SEVERAL):  # the clock takes as long as a hundredth of them
                route(asked)
            cached.append((perf_counter_ns() - began) / _SEVERAL)
    tell(Row("cache_hit", "exact cache hit, end to end", median(cached) / 1e3, "µs", 2.0))
    value = median(near) / 1e3 if near else None
    note = f"{len(texts):,} tasks, {len(near):,} hits of {_ASKED:,}"
    tell(Row("memory_hit", "memory hit, end to end", value, "µs", 300.0, note=note))


class _Encoded:
    """In the place of an encoder whose work is done: texts that it has read before."""

    def __init__(self, llm: RuvLLM, texts: Sequence[str]) -> None:
        self.name, self._rows = "encoded", dict(zip(texts, llm.embed(texts), strict=True))
        self.dim = len(self._rows[texts[0]])

    async def encode(self, texts: Sequence[str]) -> Floats:
        """float32 (n, dim)."""
        return np.stack([self._rows[text] for text in texts])


def measure_hybrid(task: Task) -> None:
    """By meaning and words, among conversations of 20 turns, without the time that encoding takes."""
    texts = _texts(task)
    queries = texts[-min(_QUERIES, len(texts) // 10) :]
    texts = texts[: -len(queries)][: task.size]
    with RuvLLM(encoder="static") as llm:
        encoder = _Encoded(llm, [*texts, *queries])
    for size, bar in ((10_000, 0.35), (100_000, 1.2)):
        name, some = f"{size // 1000}k", texts[:size]
        store = Store()
        memory = MemoryStore(encoder, store)
        new = [Memory(text, metadata={"session": place // _TURNS}) for place, text in enumerate(some)]
        ids = [i for start in range(0, len(new), _BATCH) for i in memory.add(new[start : start + _BATCH])]
        memory.graph.link_all(Edge(b, a, "Follows") for a, b in pairwise(ids) if a % _TURNS)
        _milliseconds(memory.search, queries[:20])
        searched = median(_milliseconds(memory.search, queries))
        note = f"{len(some):,} texts, an edge from each to the one before; without encoding"
        promise = bar if len(some) == size else None
        tell(Row(f"hybrid_{name}", f"{name}, hybrid search", searched, "ms", promise, note=note))
        added = median(_milliseconds(memory.add, queries))
        tell(Row(f"add_{name}", f"{name}, add a text", added, "ms", 1.0, note="one at a time, without encoding"))
        store.close()
        if len(texts) <= size:
            break


def _milliseconds(work: Callable[[str], object], texts: Sequence[str]) -> list[float]:
    taken = list[float]()
    for text in texts:
        began = perf_counter()
        work(text)
        taken.append(1e3 * (perf_counter() - began))
    return taken


def measure_codecs(task: Task) -> None:
    """Every compression tier over all vectors."""
    vectors, queries = task.data()
    for row in measure_tiers(vectors, queries[:_CODEC_QUERIES]):
        if row.codec in _CODECS:
            smaller, recall = _CODECS[row.codec]
            note = f"by codes alone {row.recall:.3f}; {row.bytes_per_vector} bytes; fit {row.fit_s:.0f} s"
            label = f"{row.codec} tier, smaller than f32"
            tell(Row(f"tier_{row.codec}", label, row.smaller, "x", smaller, True, row.recall_rescored, recall, note))


def measure_graph_attention(task: Task) -> None:
    """nDCG@10 before and after training from relevance."""
    gain = measure_attention()
    note = f"before {gain.cosine:.3f}; {gain.rank_us:.0f} µs to rank 64; trained in {gain.seconds:.0f} s"
    tell(Row("attention", "graph attention, nDCG@10 after training", gain.trained, "", gain.cosine, True, note=note))


def measure_stream(task: Task) -> None:
    """Loop C: a stream of memories, of which a tenth may stay in the index."""
    bound = max(1_000, task.stream // 10)
    settings = Consolidation(most=bound)
    vectors, _ = task.data()
    random, most, start = np.random.default_rng(0), 0, perf_counter()
    with tempfile.TemporaryDirectory(dir=task.folder) as folder:
        store = Store(Path(folder) / "state.db")
        memory = MemoryStore(Given("minilm", vectors.shape[1]), store, space="minilm-raw")
        memory.nearest(vectors[0], 1)  # from here on the index follows
        for first in range(0, task.stream, _BATCH):
            rows = random.integers(0, len(vectors), _BATCH)
            new = vectors[rows] + 0.02 * random.standard_normal((_BATCH, vectors.shape[1]), dtype=np.float32)
            memory.add_encoded([Memory(f"entry {first + i} of topic {row}") for i, row in enumerate(rows)], new)
            for _ in consolidate(memory, settings=settings):
                pass
            most = max(most, memory.records.counts()["default"])
        took, held = perf_counter() - start, held_mb()
        room = f", {held.anonymous:.0f} MB" if held else ""
        (kept,) = store.read("SELECT count(*) FROM memories")[0]
        (lost,) = store.read(
            "SELECT count(*) FROM memories WHERE archived"
            " AND id NOT IN (SELECT target FROM edges WHERE kind = 'Contains')"
        )[0]
        store.close()
    note = f"{kept:,} in the file, {lost} archived out of reach, {took:.0f} s{room}"
    tell(Row("stream", f"most in the index, of {task.stream:,} streamed", most, "", bound, note=note))
    tell(Row("stream_lost", "… archived ones that no concept leads to", lost, "", 0))


def _texts(task: Task) -> list[str]:
    if task.texts:
        found: list[str] = json.loads(Path(task.texts).read_text("utf-8"))
        return found
    kinds = ("parser", "login page", "invoice", "deployment", "cache", "report", "queue", "search", "printer", "router")
    return [
        f"{verb} the {kind} of customer {i}"
        for i in range(max(500, task.size // 18))
        for kind in kinds
        for verb in ("fix", "document")
    ]
