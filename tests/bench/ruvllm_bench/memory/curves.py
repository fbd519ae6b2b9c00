"""Timing of searches at a recall: what the rows of `ruvllm bench memory` are made of."""

from __future__ import annotations

import gc
import importlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from statistics import median
from time import perf_counter, perf_counter_ns
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ruvllm.index.select import best_of_many

K = 10
_WARM = 20
_BLOCK = 16_384
_EFS = (10, 16, 24, 32, 48, 64, 96, 128, 192, 256)
_M, _EF_CONSTRUCTION = 16, 200
_MODULES = {"hnswlib": "hnswlib", "usearch": "usearch.index"}

Floats = NDArray[np.float32]
Ids = NDArray[np.int64]
Ask = Callable[[Floats], NDArray[Any]]


@dataclass(frozen=True, slots=True)
class Point:
    """One setting of an index.

    Attributes:
        setting: what was asked for: a recall, or a beam.
        recall: measured on unseen queries.
        p50_ms: of single queries.
    """

    setting: float
    recall: float
    p50_ms: float


@dataclass(frozen=True, slots=True)
class Rival:
    """A compiled library over the same vectors."""

    name: str
    build_s: float
    curve: tuple[Point, ...]


def seconds(work: Callable[[], Any], times: int = 1) -> float:
    """The least of some runs."""
    taken = []
    for _ in range(times):
        gc.collect()
        began = perf_counter()
        work()
        taken.append(perf_counter() - began)
    return min(taken)


def truth_of(vectors: Any, queries: Floats, allowed: NDArray[np.bool_] | None = None) -> Ids:
    """int64 (q, K) the rows of the true nearest, a block at a time."""
    scores, rows = np.full((len(queries), 0), -np.inf, np.float32), np.zeros((len(queries), 0), np.int64)
    for start in range(0, len(vectors), _BLOCK):
        new = queries @ np.asarray(vectors[start : start + _BLOCK]).T
        if allowed is not None:
            new[:, ~allowed[start : start + new.shape[1]]] = -np.inf
        top = best_of_many(new, K)
        scores = np.concatenate([scores, np.take_along_axis(new, top, 1)], axis=1)
        rows = np.concatenate([rows, top + start], axis=1)
        keep = best_of_many(scores, K)
        scores, rows = np.take_along_axis(scores, keep, 1), np.take_along_axis(rows, keep, 1)
    return rows


def point(ask: Ask, queries: Floats, truth: Ids, setting: float) -> Point:
    """Each query once, after a few to warm up."""
    for query in queries[:_WARM]:
        ask(query)
    taken, found = np.empty(len(queries)), 0
    for i, (query, true) in enumerate(zip(queries, truth, strict=True)):
        began = perf_counter_ns()
        ids = ask(query)
        taken[i] = perf_counter_ns() - began
        found += len(np.intersect1d(ids, true))
    return Point(setting, found / truth.size, float(np.median(taken)) / 1e6)


def points(
    index: Any, asked: Sequence[float], queries: Floats, truth: Ids, rounds: int = 1, mask: Any = None
) -> list[Point]:
    """An index at several recalls asked for; each latency the median of the rounds' medians."""

    def asking(recall: float) -> Ask:
        return lambda query: np.asarray(index.search(query, K, filter=mask, recall=recall).ids)

    found = []
    for recall in asked:
        runs = [point(asking(recall), queries, truth, recall) for _ in range(rounds)]
        found.append(Point(recall, runs[0].recall, median(run.p50_ms for run in runs)))
    return found


def at_recall(curve: Sequence[Point], recall: float) -> Point:
    """The fastest that reaches it, else the one that comes nearest."""
    reached = [one for one in curve if one.recall >= recall]
    return min(reached, key=lambda one: one.p50_ms) if reached else max(curve, key=lambda one: one.recall)


def interpolated(curve: Sequence[Point], recall: float) -> float | None:
    """Milliseconds at a recall between two measured ones; None beyond the last."""
    rising = sorted(curve, key=lambda one: one.recall)
    if not rising or recall > rising[-1].recall:
        return None
    return float(np.interp(recall, [one.recall for one in rising], [one.p50_ms for one in rising]))


def rivals(
    vectors: Floats,
    queries: Floats,
    truth: Ids,
    only: Sequence[str] = ("hnswlib", "usearch"),
    cache: Path | None = None,
) -> list[Rival]:
    """The compiled libraries that are installed, one thread each, over a range of beams.

    Args:
        cache: a folder where hnswlib's graph is kept for the next run: a large one takes a minute.
    """
    found = []
    for name in only:
        try:
            module = importlib.import_module(_MODULES[name])
        except ImportError:
            continue
        table = np.ascontiguousarray(vectors)
        took, asking = _hnswlib(module, table, cache) if name == "hnswlib" else _usearch(module, table)
        found.append(Rival(name, took, tuple(point(asking(ef), queries, truth, ef) for ef in _EFS)))
    return found


def _hnswlib(module: Any, vectors: Floats, cache: Path | None) -> tuple[float, Callable[[int], Ask]]:
    index = module.Index("ip", vectors.shape[1])
    digest = sha256(vectors.data).hexdigest()[:24]
    path = None if cache is None else cache / f"hnswlib-{_M}-{_EF_CONSTRUCTION}-{digest}.bin"
    told = None if path is None else path.with_suffix(".json")
    if path is not None and told is not None and told.exists():
        index.load_index(str(path))
        took = float(json.loads(told.read_text("utf-8")))
    else:
        index.init_index(len(vectors), ef_construction=_EF_CONSTRUCTION, M=_M)
        took = seconds(lambda: index.add_items(vectors, num_threads=1))
        if path is not None and told is not None:
            index.save_index(str(path))
            told.write_text(json.dumps(took), "utf-8")  # last: it says that the other is whole
    index.set_num_threads(1)

    def asking(ef: int) -> Ask:
        index.set_ef(ef)
        return lambda query: np.asarray(index.knn_query(query, K, num_threads=1)[0][0])

    return took, asking


def _usearch(module: Any, vectors: Floats) -> tuple[float, Callable[[int], Ask]]:
    index = module.Index(
        ndim=vectors.shape[1], metric="ip", dtype="f32", connectivity=_M, expansion_add=_EF_CONSTRUCTION
    )
    took = seconds(lambda: index.add(np.arange(len(vectors)), vectors, threads=1))

    def asking(ef: int) -> Ask:
        def ask(query: Floats) -> NDArray[Any]:
            index.expansion_search = ef
            return np.asarray(index.search(query, K, threads=1).keys)

        return ask

    return took, asking
