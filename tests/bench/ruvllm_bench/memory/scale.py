"""The parts of `ruvllm bench memory --full` about a million vectors: an index over a map of them, and a state file."""

from __future__ import annotations

from pathlib import Path
from statistics import median
from time import perf_counter
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ruvllm.index import IvfIndex, Rows
from ruvllm.memory.memory import MemoryStore
from ruvllm.state.record import Memory
from ruvllm.state.store import Store
from ruvllm_bench.memory.curves import K, at_recall, points, seconds, truth_of
from ruvllm_bench.memory.rows import Curve, Row, tell
from ruvllm_bench.memory.vectors import MILLION, Given, held_mb, perturbed

if TYPE_CHECKING:
    from ruvllm_bench.memory.measures import Task


_QUERIES = 500
_BATCH = 10_000
_VECTORS, _STATE = "million.npy", "million.db"


def measure_million(task: Task) -> None:
    """Lists over vectors that stay on disk."""
    vectors, queries = task.data()
    mapped, queries = perturbed(Path(task.folder) / _VECTORS, vectors), queries[:_QUERIES]
    truth = truth_of(mapped, queries)
    del vectors
    rows = Rows(mapped.shape[1], unit=True, base=mapped, base_ids=np.arange(len(mapped)))
    built: list[IvfIndex] = []
    took = seconds(lambda: built.append(IvfIndex(mapped.shape[1], rows=rows)))
    first = seconds(lambda: built[0].search(queries[0], K))
    curve = points(built[0], (0.95, 0.975, 0.98, 0.985, 0.987, 0.989, 0.99), queries, truth, task.rounds)
    tell(Curve("ivf", len(mapped), tuple(curve)))
    best = at_recall(curve, 0.95)
    note = f"asked for {best.setting:g}; built in {took:.0f} s, first search measures {first:.0f} s"
    tell(Row("ivf_1m", "1M on disk, one query", best.p50_ms, "ms", 1.0, False, best.recall, 0.95, note))
    held = held_mb()
    tell(Row("ivf_1m_mb", "… memory beside the vectors", held.anonymous if held else None, "MB", 600.0))


def make_store(task: Task) -> None:
    """A state file of a million memories, and its index, built and kept at the first search."""
    path = Path(task.folder) / _STATE
    vectors, queries = task.data()
    mapped = perturbed(Path(task.folder) / _VECTORS, vectors)
    store = Store(path)
    memory = MemoryStore(Given("minilm", mapped.shape[1]), store, space="minilm-raw")
    for start in range(memory.records.size("default"), MILLION, _BATCH):
        new = [Memory(f"memory {i}") for i in range(start, start + _BATCH)]
        memory.records.add(new, np.array(mapped[start : start + _BATCH]), memory.space)
    store.close()
    store = Store(path)
    memory = MemoryStore(Given("minilm", mapped.shape[1]), store, space="minilm-raw")
    took = seconds(lambda: memory.nearest(queries[0], K))
    memory.save()
    store.close()
    tell(Row("first_1m", "1M memories, first search ever", took, "s", note="builds the index and keeps it"))


def measure_open(task: Task) -> None:
    """Open what `make_store` made, and search; the file may lie in the system's cache."""
    queries = task.data(1)[1][:_QUERIES]
    began = perf_counter()
    store = Store(Path(task.folder) / _STATE)
    memory = MemoryStore(Given("minilm", queries.shape[1]), store, space="minilm-raw")
    memory.nearest(queries[0], K)
    took = perf_counter() - began
    tell(Row("open_1m", "1M memories, open and first search", took, "s", 0.4))
    each, found = list[float](), list[NDArray[np.int64]]()
    for query in queries:
        began = perf_counter()
        found.append(memory.nearest(query, K).ids)
        each.append(perf_counter() - began)
    held = held_mb()
    note = f"after {len(queries)} searches, vectors read from the state file"
    tell(Row("open_1m_mb", "… memory of the process, at most", held.most if held else None, "MB", 250.0, note=note))
    truth = truth_of(np.load(Path(task.folder) / _VECTORS, mmap_mode="r"), queries)
    ids = memory.indexes.of("default").rows.ids
    recall = float(np.mean([np.isin(ids[true], one).mean() for true, one in zip(truth, found, strict=True)]))
    label = "1M memories, one query"
    tell(Row("open_1m_query", label, 1e3 * median(each), "ms", 0.6, recall=recall, least_recall=0.95))
    store.close()
