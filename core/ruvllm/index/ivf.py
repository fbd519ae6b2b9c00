"""Inverted lists of sign codes, then an exact rerank: for 50,000 vectors and more.

A query visits the lists whose centroids are nearest (nprobe), compares the first half of the codes there, the
whole codes of those that this lets through, and scores the nearest of these exactly. How many of each
is planned for a recall from measurements on the stored vectors. New vectors wait in a tail that is
always scanned, until it is worth sorting them into lists.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from ruvllm.index.base import FEW, WAITING, RowsIndex, State
from ruvllm.index.exact import exact, nearest
from ruvllm.index.kmeans import assign, kmeans
from ruvllm.index.protocol import Hits, pad
from ruvllm.index.recall import Lift, Sample, neighbours_of
from ruvllm.index.rows import Mask, Rows, View
from ruvllm.index.scan import BLOCK, ListScan, Plan
from ruvllm.index.signs import WORDS, SignCoder

_LISTS = 3  # times the root of the rows
_WAIT = 8_192  # rows that may wait outside the lists
_ROUNDS = 5  # of k-means
_SAMPLE_PER_LIST = 32
_LEAST_SAMPLE = 10_000
_TAIL = 0.1  # share of rows out of the lists from which they are sorted in
_BLOCK = 8_192


@dataclass(frozen=True)
class _Listed(State):
    scan: ListScan | None


class IvfIndex(RowsIndex[_Listed]):
    """Lists, prefix, codes, exact.

    Args:
        lists: how many; 3 √n when None, or what two blocks of rows each make.
        least: rows above which lists are built, and which may wait outside them.
        rows: vectors to search, shared with another index, perhaps over a memory map.
        scan: lists of these rows that were built before (`index.saved`).
        progress: told the rows that are in lists, and how many there are, while lists are built.
    """

    kind = "ivf"
    _waits = WAITING

    def __init__(
        self,
        dim: int,
        metric: str = "cosine",
        *,
        recall: float = 0.95,
        lists: int | None = None,
        least: int = _WAIT,
        rows: Rows | None = None,
        scan: ListScan | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        super().__init__(dim, metric, recall, rows)
        self.lists, self.least = lists, least
        self._progress = progress
        self._state = _Listed(self.rows.view, scan)
        self._sample: tuple[ListScan, Sample] | None = None
        self._plans: dict[tuple[int, float], Plan] = {}
        self.sync()

    @classmethod
    def steps(cls, dim: int, metric: str = "cosine", *, recall: float = 0.95, rows: Rows) -> Iterator[Self | None]:
        """Build one over these rows; None between slices of the work, and last the index."""
        made, view = cls(dim, metric, recall=recall, least=rows.size, rows=rows), rows.view
        scan = None
        for scan in made._sorting(view):
            if scan is None:
                yield None
        made._state, made.least = _Listed(view, scan), _WAIT
        made.sync()
        yield made

    def sync(self) -> None:
        """Bring the lists, or at least their tail, up to the rows."""
        with self.rows.lock:
            view, old = self.rows.view, self._state
            scan = old.scan if view.epoch == old.view.epoch else None
            self._state = _Listed(view, scan and scan.extended(view.block(scan.size, view.size)))
            waiting = view.size - (0 if scan is None else scan.sorted)
            if waiting > max(self.least, 0 if scan is None else _TAIL * view.size):
                self.build()  # searches go on meanwhile

    def build(self) -> None:
        """Sort all rows into lists now."""
        with self.rows.lock:
            view = self.rows.view
            scan = None
            for found in self._sorting(view) if view.size else ():
                scan = found or scan
            self._state = _Listed(view, scan)
            self._sample, self._plans = None, {}

    def stats(self) -> dict[str, Any]:
        """Size, kind and what a search looks at."""
        scan, plan = self._state.scan, self._plans.get((10, self.recall))
        lists = 0 if scan is None else len(scan.centroids)
        return {"kind": self.kind, "size": len(self), "recall": self.recall, "lists": lists, "plan": plan}

    def snapshot(self) -> tuple[View, ListScan | None, tuple[Sample | None, dict[tuple[int, float], Plan]]]:
        """Rows and lists of one moment, and what was measured on them: for `index.saved`."""
        state, sample = self._state, self._sample
        return state.view, state.scan, (None if sample is None else sample[1], dict(self._plans))

    def know(self, sample: Sample | None, plans: dict[tuple[int, float], Plan]) -> None:
        """Take over what was measured on these lists before."""
        scan = self._state.scan
        self._sample = None if sample is None or scan is None else (scan, sample)
        self._plans = dict(plans)

    def _planned(self, view: View, scan: ListScan, k: int, recall: float, fraction: float) -> Plan:
        reach = 2 ** round(math.log2(k / fraction)) if fraction < 1 else k  # few plans for many filters
        key, plans = (max(k, reach), recall), self._plans
        if key not in plans:
            sample = self._sample
            if sample is None or sample[0].centroids is not scan.centroids:
                sample = self._sample = (scan, neighbours_of(view))
            plans[key] = sample[0].plan(sample[1], *key)
        return plans[key]

    def _exactly(self, state: _Listed, found: int, k: int, recall: float) -> bool:
        return state.scan is None or found <= max(FEW, k) or recall >= 1

    def _find(self, state: _Listed, queries: NDArray[np.float32], k: int, recall: float, mask: Mask | None) -> Hits:
        assert state.scan is not None  # _exactly took care of it
        fraction = 1.0 if mask is None else mask.count / state.view.size
        plan = self._planned(state.view, state.scan, k, recall, fraction)
        if queries.ndim == 1:
            return self._one(state.view, state.scan, queries, k, plan, mask)
        return pad([self._one(state.view, state.scan, query, k, plan, mask) for query in queries], k)

    def _one(
        self, view: View, scan: ListScan, query: NDArray[np.float32], k: int, plan: Plan, mask: Mask | None
    ) -> Hits:
        rows = scan.candidates(query, plan, mask)
        if len(rows) < min(k, view.size if mask is None else mask.count):
            return exact(view, query, k, mask)  # what the filter lets through lies in other lists
        return nearest(view, rows, query, k)

    def _sorting(self, view: View) -> Iterator[ListScan | None]:
        """All rows in lists, learnt from a sample; None between slices of the work."""
        random = np.random.default_rng(0)
        lists = self.lists or min(round(_LISTS * math.sqrt(view.size)), -(-view.size // (2 * BLOCK)))
        size = min(view.size, max(_LEAST_SAMPLE, _SAMPLE_PER_LIST * lists))
        sample = view.take(np.sort(random.choice(view.size, size, replace=False)))
        lift = None if self.metric == "cosine" else Lift.fit(sample)
        if lift is not None:
            sample = lift.rows(sample)
        coder = SignCoder.fit(sample)
        (points, _), centroids = coder.encode(sample), None
        for turn in range(_ROUNDS):
            yield None
            centroids = kmeans(points, min(lists, len(sample)), rounds=1, seed=turn, start=centroids)
        assert centroids is not None
        nearest = np.empty(view.size, np.int32)
        codes = np.empty((view.size, WORDS), np.uint64)
        for start in range(0, view.size, _BLOCK):
            yield None
            block = view.block(start, min(start + _BLOCK, view.size))
            part = slice(start, start + len(block))
            directions, codes[part] = coder.encode(block if lift is None else lift.rows(block))
            nearest[part] = assign(directions, centroids)
            if self._progress is not None:
                self._progress(start + len(block), view.size)
        yield ListScan.laid_out(coder, centroids, nearest, codes, lift)
