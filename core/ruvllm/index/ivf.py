"""Inverted lists of learnt sign codes, then an exact rerank: for 50,000 vectors and more.

A query visits the lists whose centroids are nearest (nprobe), compares 128-bit prefixes there, the
long codes of those the prefix lets through, and scores the nearest of these exactly. How many of each
is planned for a recall from measurements on the stored vectors. New vectors wait in a tail that is
always scanned, until it is worth sorting them into lists.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ruvllm.index.flat import exact
from ruvllm.index.kmeans import assign, kmeans
from ruvllm.index.protocol import Hits, checked_queries, pad
from ruvllm.index.recall import Sample, neighbours_of
from ruvllm.index.rows import Mask, Rows
from ruvllm.index.scan import ListScan, Plan
from ruvllm.index.select import best
from ruvllm.index.staged import StagedCoder

__all__ = ["IvfIndex"]

_FEW = 512  # rows that are scored one by one
_SAMPLE_PER_LIST = 32
_LEAST_SAMPLE = 10_000
_TAIL = 0.1  # share of rows out of the lists from which they are sorted in
_LEAST_TAIL = 8_192
_BLOCK = 8_192


class IvfIndex:
    """Lists, prefix, codes, exact.

    Args:
        dim: width of the vectors.
        metric: "cosine" or "dot".
        recall: recall@k of a search that names none.
        lists: how many; √n when None.
        rows: vectors to search, shared with another index, perhaps over a memory map.
    """

    kind = "ivf"

    def __init__(
        self,
        dim: int,
        metric: str = "cosine",
        *,
        recall: float = 0.95,
        lists: int | None = None,
        rows: Rows | None = None,
    ) -> None:
        self.dim, self.metric, self.recall, self.lists = dim, metric, recall, lists
        self.rows = rows or Rows(dim, unit=metric == "cosine")
        self._scan: ListScan | None = None
        self._sample: Sample | None = None
        self._plans: dict[tuple[int, float], Plan] = {}
        self._keep_up()

    def __len__(self) -> int:
        return len(self.rows)

    def add(self, ids: ArrayLike, vectors: ArrayLike) -> None:
        """Add or replace; see `Index.add`."""
        self.rows.add(ids, vectors)
        self._keep_up()

    def remove(self, ids: ArrayLike) -> int:
        """Forget ids; see `Index.remove`."""
        fallen = self.rows.remove(ids)
        if self.rows.squeeze():
            self._scan = None
            self._keep_up()
        return len(fallen)

    def mask(self, ids: ArrayLike) -> Mask:
        """A filter; see `Index.mask`."""
        return self.rows.mask(ids)

    def search(
        self, queries: ArrayLike, k: int = 10, *, filter: Mask | ArrayLike | None = None, recall: float | None = None
    ) -> Hits:
        """The k nearest; see `Index.search`."""
        wanted = self.recall if recall is None else recall
        asked = checked_queries(queries, self.dim, k, wanted, unit=self.rows.unit)
        mask = self.rows.allowed(filter)
        few = len(self.rows) if mask is None else mask.count
        if self._scan is None or few <= max(_FEW, k) or wanted >= 1:
            return exact(self.rows, asked, k, mask)
        plan = self.plan(k, wanted, few / self.rows.size)
        if asked.ndim == 1:
            return self._one(self._scan, asked, k, plan, mask)
        return pad([self._one(self._scan, query, k, plan, mask) for query in asked], k)

    def stats(self) -> dict[str, Any]:
        """Size, kind and what a search looks at."""
        plan = self._plans.get((10, self.recall))
        lists = 0 if self._scan is None else len(self._scan.centroids)
        return {"kind": self.kind, "size": len(self), "recall": self.recall, "lists": lists, "plan": plan}

    def plan(self, k: int, recall: float, share: float = 1.0) -> Plan:
        """How far to look for a recall; measured when first asked.

        Args:
            share: of the rows, that a filter lets through: its k nearest lie as far as the k / share nearest of all.
        """
        assert self._scan is not None
        reach = 2 ** round(math.log2(k / share)) if share < 1 else k  # few plans for many filters
        key = (max(k, reach), recall)
        if key not in self._plans:
            self._sample = self._sample or neighbours_of(self.rows)
            self._plans[key] = self._scan.plan(self._sample, *key)
        return self._plans[key]

    def build(self) -> None:
        """Sort all rows into lists."""
        rows, random = self.rows, np.random.default_rng(0)
        lists = self.lists or round(math.sqrt(rows.size))
        size = min(rows.size, max(_LEAST_SAMPLE, _SAMPLE_PER_LIST * lists))
        sample = rows.take(np.sort(random.choice(rows.size, size, replace=False)))
        coder = StagedCoder.fit(sample)
        if not rows.unit:
            sample = sample / np.maximum(np.linalg.norm(sample, axis=1, keepdims=True), 1e-12)
        centroids = kmeans(sample, min(lists, len(sample)), rounds=5)
        nearest = np.empty(rows.size, np.int32)
        codes = np.empty((rows.size, coder.matrix.shape[1] // 64), np.uint64)
        for start in range(0, rows.size, _BLOCK):
            block = rows.block(start, min(start + _BLOCK, rows.size))
            nearest[start : start + len(block)] = assign(block, centroids)
            codes[start : start + len(block)] = coder.encode(block)
        order = nearest.argsort(kind="stable")
        counts = np.bincount(nearest, minlength=len(centroids))
        self._scan = ListScan(coder, centroids, np.concatenate([[0], counts.cumsum()]), order, codes[order])
        self._sample, self._plans = None, {}

    def _keep_up(self) -> None:
        """Bring the lists, or at least their tail, up to the rows."""
        scan, size = self._scan, self.rows.size
        if scan is None:
            if size > _LEAST_TAIL:
                self.build()
        elif size - scan.sorted > max(_LEAST_TAIL, _TAIL * size):
            self.build()
        elif scan.size < size:
            scan.append(self.rows.block(scan.size, size))

    def _one(self, scan: ListScan, query: NDArray[np.float32], k: int, plan: Plan, mask: Mask | None) -> Hits:
        rows = scan.candidates(query, plan, mask)
        scores = self.rows.take(rows) @ query
        top = best(scores, min(k, len(rows)))
        return Hits(self.rows.ids[rows[top]], scores[top])
