"""A built `IvfIndex` or `HnswIndex` as arrays and back, so that a large collection opens without being built again.

The vectors are not among them: whoever restores an index brings rows that hold them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ruvllm.index.hnsw import HnswIndex
from ruvllm.index.hnsw.links import NONE
from ruvllm.index.ivf import IvfIndex
from ruvllm.index.recall import Lift, Sample
from ruvllm.index.rows import Rows, View
from ruvllm.index.scan import BLOCK, ListScan, Plan
from ruvllm.index.signs import SCANNED, WORD, WORDS, SignCoder, side_of

Arrays = Mapping[str, NDArray[Any]]

_KINDS = {
    "ids": "int64",
    "list_of": "int64",
    "order": "int32",
    "columns": "uint64",
    "rest": "uint64",
    "centroids": "float32",
    "mean": "float32",
    "left": "float32",
    "right": "float32",
    "matrix": "float32",
    "peak": "float32",
    "asked": "int64",
    "queries": "float32",
    "neighbours": "int64",
    "plans": "float64",
}


def pack(index: IvfIndex | HnswIndex) -> dict[str, NDArray[Any]] | None:
    """What `unpack` needs, without deleted rows and in rising ids; None while there are no lists or links."""
    if isinstance(index, HnswIndex):
        with index.rows.lock:
            view, links = index.rows.view, index.links
        return None if links is None else _packed_graph(view, links)
    with index.rows.lock:
        view, scan, measured = index.snapshot()
        if scan is None:
            return None
        living = np.flatnonzero(view.penalty == 0)
        old = living[view.ids[living].argsort(kind="stable")]  # old row of each new one
    new = np.full(view.size, -1, np.int64)
    new[old] = np.arange(len(old))
    sample, plans = measured
    lists, codes = scan.rows_in_lists()
    packed = ListScan.laid_out(scan.coder, scan.centroids, lists[old], codes[old])
    return {
        "ids": view.ids[old],
        **packed.arrays(),
        "centroids": scan.centroids,
        **vars(scan.coder),
        "peak": np.array([] if scan.lift is None else [scan.lift.peak], np.float32),
        **_packed_sample(sample, new, view.take(np.empty(0, np.int64))),
        "plans": np.array([(*key, p.reach, p.near, p.candidates) for key, p in plans.items()]).reshape(-1, 5),
    }


def unpack(arrays: Arrays, rows: Rows, recall: float) -> IvfIndex:
    """The index over rows that hold exactly the packed ids, in their order.

    Raises:
        ValueError: the arrays do not fit each other or the rows.
    """
    _check(arrays, rows)
    coder = SignCoder(arrays["mean"], arrays["left"], arrays["right"], arrays["matrix"])
    peak = arrays["peak"]
    lift = Lift(float(peak[0])) if len(peak) else None
    parts = arrays["list_of"], arrays["order"], arrays["columns"], arrays["rest"]
    scan = ListScan(coder, arrays["centroids"], *parts, lift)
    index = IvfIndex(rows.dim, "cosine" if rows.unit else "dot", recall=recall, rows=rows, scan=scan)
    sample = Sample(arrays["asked"], arrays["queries"], arrays["neighbours"]) if len(arrays["asked"]) else None
    plans = {(int(k), r): Plan(reach, *map(int, counts)) for k, r, reach, *counts in arrays["plans"].tolist()}
    index.know(sample, plans)
    return index


def _packed_graph(view: View, links: NDArray[np.int32]) -> dict[str, NDArray[Any]]:
    living = np.flatnonzero(view.penalty == 0)
    old = living[view.ids[living].argsort(kind="stable")]
    new = np.full(view.size + 1, NONE, np.int32)  # clipping takes NONE to the last
    new[old] = np.arange(len(old))
    return {"ids": view.ids[old], "links": new.take(links[old], mode="clip")}


def unpack_graph(arrays: Arrays, rows: Rows, recall: float) -> HnswIndex:
    """The graph over rows that hold exactly the packed ids, in their order.

    Raises:
        ValueError: the arrays do not fit each other or the rows.
    """
    ids, links = arrays.get("ids"), arrays.get("links")
    if ids is None or links is None or ids.dtype != np.int64 or links.dtype != np.int32 or links.ndim != 2:
        raise ValueError("ids or links are missing or of another type")
    if ids.shape != rows.ids.shape or (ids != rows.ids).any() or len(links) != len(ids) or not links.shape[1]:
        raise ValueError("the ids are not those of the rows")
    if len(links) and (links.min() < 0 or links[links != NONE].max(initial=0) >= len(ids)):
        raise ValueError("a link leads to a row that is not there")
    return HnswIndex(rows.dim, "cosine", M=max(2, links.shape[1] // 2), recall=recall, rows=rows, links=links)


def _packed_sample(sample: Sample | None, new: NDArray[np.int64], none: NDArray[np.float32]) -> dict[str, NDArray[Any]]:
    """A sample by new row numbers, without what was deleted."""
    if sample is None:
        return _sample(np.empty(0, np.int64), none, np.empty((0, 1), np.int64))
    sampled, neighbours = new[sample.rows], new[sample.neighbours]
    live = [(i, near[near >= 0]) for i, near in enumerate(neighbours) if sampled[i] >= 0]
    depth = min((len(near) for _, near in live), default=0)
    if not depth:
        return _packed_sample(None, new, none)
    rows = np.array([i for i, _ in live], np.intp)
    return _sample(sampled[rows], sample.queries[rows], np.stack([near[:depth] for _, near in live]))


def _sample(
    sampled: NDArray[np.int64], queries: NDArray[np.float32], neighbours: NDArray[np.int64]
) -> dict[str, NDArray[Any]]:
    return {"asked": sampled, "queries": queries, "neighbours": neighbours}


def _check(arrays: Arrays, rows: Rows) -> None:
    wrong = [name for name, kind in _KINDS.items() if name not in arrays or arrays[name].dtype != kind]
    if wrong:
        raise ValueError(f"arrays are missing or of another type: {', '.join(wrong)}")
    size, slots, blocks = len(rows.ids), len(arrays["order"]), len(arrays["list_of"])
    lists, sampled, directions = len(arrays["centroids"]), len(arrays["asked"]), arrays["matrix"].shape[-1]
    depth, dim = arrays["neighbours"].shape[-1], rows.dim + len(arrays["peak"])
    side = side_of(dim)
    shapes = {
        "ids": (size,),
        "list_of": (blocks,),
        "order": (slots,),
        "columns": (slots // BLOCK, SCANNED, BLOCK),
        "rest": (slots, WORDS - SCANNED),
        "centroids": (lists, directions),
        "mean": (dim,),
        "left": (WORDS * WORD // side, -(-dim // side)),
        "right": (side, side),
        "matrix": (dim, directions),
        "asked": (sampled,),
        "queries": (sampled, rows.dim),
        "neighbours": (sampled, depth),
        "plans": (len(arrays["plans"]), 5),
    }
    for name, shape in shapes.items():
        if arrays[name].shape != shape:
            raise ValueError(f"{name} has shape {arrays[name].shape}, not {shape}")
    if slots % BLOCK or slots < BLOCK * blocks or not _within(arrays["list_of"], 0, lists):
        raise ValueError("the lists do not lie one after the other")
    if (arrays["ids"] != rows.ids).any() or (np.diff(arrays["ids"]) <= 0).any():
        raise ValueError("the ids are not those of the rows")
    order = arrays["order"]
    if not (_within(order, -1, size) and _within(arrays["asked"], 0, size) and _within(arrays["neighbours"], 0, size)):
        raise ValueError("rows are named that are not there")
    there = order >= 0
    if (np.bincount(order[there], minlength=size) != 1).any():
        raise ValueError("a row is in two lists")
    waiting = there[BLOCK * blocks :]
    if waiting[np.count_nonzero(waiting) :].any():
        raise ValueError("there are gaps between the rows that wait for a list")


def _within(numbers: NDArray[Any], least: int, beyond: int) -> bool:
    return bool(numbers.min(initial=beyond) >= least and numbers.max(initial=least) < beyond)
