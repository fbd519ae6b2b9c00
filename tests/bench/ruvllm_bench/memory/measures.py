"""What `ruvllm bench memory` measures, a process for each group: `python -m ruvllm_bench.memory.measures GROUP JSON`.

Processes of their own, because the number of BLAS threads is settled when numpy is imported, and because
the memory a process holds tells something only when it did nothing else.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ruvllm.index import BinaryIndex, HnswIndex, IvfIndex
from ruvllm_bench.memory.curves import K, Point, at_recall, points, rivals, seconds, truth_of
from ruvllm_bench.memory.data import cache_folder
from ruvllm_bench.memory.rows import Curve, Row, against, tell

SMALL, BATCH = 10_000, 256
_QUERIES = 1_000
_LARGE = 90_000
_INSERTED = 1_000
_KEPT = 0.1  # share that the filter lets through
_REPEATS = 7
_LADDER = (0.9, 0.93, 0.94, 0.95, 0.96, 0.965, 0.97, 0.975, 0.98, 0.985, 0.99)
_PAIRS = 3

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Task:
    """What a process is to measure.

    Attributes:
        vectors: an .npy of float32 (n, dim); the last rows are the unseen queries.
        texts: a JSON list of what they are vectors of, "" where that is not known.
        size: of the large index.
        stream: entries of Loop C's stream.
        folder: where large files may be put.
        rounds: of each latency.
        full: measure what takes minutes.
    """

    vectors: str
    texts: str
    size: int
    stream: int
    folder: str
    rounds: int
    full: bool

    def data(self, size: int | None = None) -> tuple[Floats, Floats]:
        """Stored vectors and unseen queries."""
        table = np.load(self.vectors, mmap_mode="r", allow_pickle=False)
        asked = min(_QUERIES, len(table) // 10)
        stored = table[: min(len(table) - asked, self.size if size is None else size)]
        return np.array(stored), np.array(table[-asked:])


def measure_small(task: Task) -> None:
    """10,000 vectors: the everyday index, the graph, batches, a filter."""
    vectors, queries = task.data(SMALL)
    truth = truth_of(vectors, queries)
    compiled = rivals(vectors, queries, truth)
    for rival in compiled:
        tell(Curve(rival.name, len(vectors), rival.curve))
    ids = np.arange(len(vectors))

    def built() -> BinaryIndex:
        index = BinaryIndex(vectors.shape[1])
        index.add(ids, vectors)
        return index

    index = built()
    curve = points(index, (0.95, 0.97, 0.98, 0.985, 0.99, 0.993, 0.996), queries, truth, task.rounds)
    tell(Curve("binary", len(vectors), tuple(curve)))
    best = at_recall(curve, 0.99)
    note = f"asked for {best.setting:g}"
    tell(Row("binary_10k", "10k, one query", best.p50_ms, "ms", 0.10, recall=best.recall, least_recall=0.99, note=note))
    for row in against("binary_10k", best, compiled, 1.3):
        tell(row)
    tell(Row("build_10k", "10k, build", 1e3 * seconds(built, 5), "ms", 10.0))
    _tell_inserts(index, queries)
    _tell_batch(built(), queries, truth)
    _tell_filter(built(), vectors, queries)
    graph = HnswIndex(vectors.shape[1])
    took = seconds(lambda: graph.add(ids, vectors))
    curve = points(graph, (0.95, 0.98, 0.99, 0.995), queries, truth, task.rounds)
    tell(Curve("hnsw", len(vectors), tuple(curve)))
    best = at_recall(curve, 0.99)
    note = f"asked for {best.setting:g}; built in {took:.1f} s"
    tell(Row("hnsw_10k", "HNSW, 10k, one query", best.p50_ms, "ms", 0.30, False, best.recall, 0.99, note))
    for row in against("hnsw_10k", best, compiled, None):
        tell(row)


def measure_large(task: Task) -> None:
    """100,000 vectors, or as many as there are."""
    vectors, queries = task.data()
    size, truth = len(vectors), truth_of(vectors, queries)
    name = f"{round(size / 1000)}k"
    index = IvfIndex(vectors.shape[1])
    took = seconds(lambda: index.add(np.arange(size), vectors))
    first = seconds(lambda: index.search(queries[0], K))
    curve = points(index, _LADDER, queries, truth, task.rounds)
    tell(Curve("ivf", size, tuple(curve)))
    compiled = rivals(vectors, queries, truth, ("hnswlib", "usearch") if task.full else ("hnswlib",), cache_folder())
    for rival in compiled:
        tell(Curve(rival.name, size, rival.curve))
    promised = size >= _LARGE  # of fewer vectors nothing is promised
    for recall, bar, ratio in ((0.975, 0.40, 2.5), (0.95, 0.21, 1.6)):
        best, key = at_recall(curve, recall), f"ivf_{name}_{recall * 1000:.0f}"
        label, note = f"{name}, recall {recall:g}, one query", f"asked for {best.setting:g}"
        limit = bar if promised else None
        tell(Row(key, label, best.p50_ms, "ms", limit, False, best.recall, recall, note))
        for row in against(key, best, compiled, ratio if promised else None):
            tell(row)
    note = f"the first search measures {first:.1f} s"
    tell(Row(f"build_{name}", f"{name}, build", took, "s", 5.0, note=note))
    for rival in compiled:
        tell(Row(f"build_{name}_{rival.name}", f"… {rival.name}", rival.build_s, "s"))


def _tell_inserts(index: BinaryIndex, vectors: Floats) -> None:
    """Onto an index of 10,000: many at a time, and one at a time."""
    block = np.concatenate([vectors] * -(-_INSERTED // len(vectors)))[:_INSERTED]
    many, one, at = list[float](), list[float](), 10 * len(index)
    for _ in range(_REPEATS):
        ids = np.arange(at, at + _INSERTED)
        began = perf_counter()
        index.add(ids, block)
        many.append((perf_counter() - began) / _INSERTED)
        at += _INSERTED
    for row in block[:200]:
        began = perf_counter()
        index.add([at], row)
        one.append(perf_counter() - began)
        at += 1
    note = f"{_INSERTED:,} at a time; one at a time {1e6 * median(one):.0f} µs"
    tell(Row("insert_10k", "10k, insert a vector", 1e6 * median(many), "µs", 10.0, note=note))


def _tell_batch(index: BinaryIndex, queries: Floats, truth: NDArray[np.int64]) -> None:
    batch = queries[:BATCH]
    index.search(batch, K, recall=0.97)  # learns the leading components
    found = index.search(batch, K, recall=0.97).ids
    recall = float(np.mean([np.isin(one, true).mean() for one, true in zip(found, truth, strict=False)]))
    took = seconds(lambda: index.search(batch, K, recall=0.97), _REPEATS)
    each = 1e6 * took / len(batch)
    tell(Row("batch_10k", f"10k, {len(batch)} at a time", each, "µs", 60.0, False, recall, 0.97, "a query"))


def _tell_filter(index: BinaryIndex, vectors: Floats, queries: Floats) -> None:
    random = np.random.default_rng(0)
    kept = np.sort(random.choice(len(vectors), round(_KEPT * len(vectors)), replace=False))
    allowed = np.zeros(len(vectors), np.bool_)
    allowed[kept] = True
    mask, truth, masked_truth = index.mask(kept), truth_of(vectors, queries), truth_of(vectors, queries, allowed)
    best: Row | None = None
    for asked in (0.99, 0.993, 0.996):
        plain, masked = list[Point](), list[Point]()
        for _ in range(_PAIRS):
            plain += points(index, (asked,), queries, truth)
            masked += points(index, (asked,), queries, masked_truth, mask=mask)
        took, whole = median(one.p50_ms for one in masked), median(one.p50_ms for one in plain)
        note = f"{took:.3f} ms, unfiltered {whole:.3f} ms; asked for {asked:g}"
        recall = masked[0].recall
        best = Row("filter_10k", "10k, filter keeping 10 %", took / whole, "x", 1.2, False, recall, 0.99, note)
        if recall >= best.least_recall:
            break
    if best is not None:
        tell(best)


def groups() -> dict[str, Callable[[Task], None]]:
    """Every group by name, in the order they are run."""
    from ruvllm_bench.memory import parts, scale  # each imports what only it measures

    return {
        "10k": measure_small,
        "100k": measure_large,
        "routing": parts.measure_hits,
        "hybrid": parts.measure_hybrid,
        "tiers": parts.measure_codecs,
        "attention": parts.measure_graph_attention,
        "stream": parts.measure_stream,
        "1M": scale.measure_million,
        "store": scale.make_store,
        "open": scale.measure_open,
    }


def main(arguments: list[str]) -> None:
    """One group."""
    given: dict[str, Any] = json.loads(arguments[1])
    groups()[arguments[0]](Task(**given))


if __name__ == "__main__":
    main(sys.argv[1:])
