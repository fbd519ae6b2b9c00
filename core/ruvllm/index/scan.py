"""The coarse part of a search in lists: centroids, signs, codes; and how far each has to look."""

from __future__ import annotations

import math
import threading
from copy import copy
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ruvllm.index.recall import Lift, Sample
from ruvllm.index.rows import Mask, grown
from ruvllm.index.signs import SCANNED, WORDS, CodedQuery, SignCoder, Words

_BITS = 5
BLOCK = 1 << _BITS  # slots copied at a time
_SAFETY = 1.2  # a sample's rarest misses are known roughly
_SHARES = np.array([shares for shares in product((1, 2, 4), repeat=3) if 1 in shares]) / 8  # of the misses, by stage
_TIMES = np.linspace(4, 0.25, 16)  # times as many misses in all, since the stages often miss the same rows
_COSTS = np.array([8, 40, 250])  # ns of a row visited, one whose signs are good enough, one scored exactly
_LEAST = 256  # rows whose signs are good enough: fewer save nothing
_VISITED = 0.2  # share of the misses that may lie out of all lists looked at while planning
_SAMPLED = 512  # distances that tell where to cut
_ALL = 0.5  # share of the blocks from which going through everything is cheaper than picking them
_WORST = np.uint8(254)  # what lies above is masked

Slots = NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class Plan:
    """How far one search looks.

    Attributes:
        reach: how far below the nearest centroid's score that of a list visited may lie.
        near: rows whose signs are good enough.
        candidates: of these, the rows scored exactly.
    """

    reach: float
    near: int
    candidates: int


class _Scratch(threading.local):
    """Arrays used again by the next search of the same thread."""

    def __init__(self) -> None:
        self.fit(0)

    def fit(self, n: int) -> None:  # blocks
        self.words = np.empty((n, SCANNED, BLOCK), np.uint64)
        self.counts = np.empty((n, SCANNED, BLOCK), np.uint8)


class ListScan:
    """Codes by list, each list in whole blocks of slots; rows appended since in blocks behind them.

    Args:
        centroids: float32 (lists, directions of the coder).
        list_of: (blocks,) the list of each block; what lies behind these blocks is the tail.
        order: int32 (slots,) the row of each slot, -1 where there is none; rows of the tail in a line.
        columns: uint64 (all blocks, SCANNED, BLOCK), the first words of each code.
        rest: uint64 (slots, WORDS - SCANNED), the others.
        lift: what brings vectors of different lengths to one.
    """

    def __init__(
        self,
        coder: SignCoder,
        centroids: NDArray[np.float32],
        list_of: NDArray[np.integer[Any]],
        order: NDArray[np.int32],
        columns: Words,
        rest: Words,
        lift: Lift | None = None,
    ) -> None:
        self.coder, self.lift, self.centroids = coder, lift, centroids
        self.list_of = list_of.astype(np.intp)
        self._first = BLOCK * len(list_of)  # slot of the tail
        self._order, self._columns, self._rest = order, columns, rest
        self.sorted = int(np.count_nonzero(order[: self._first] >= 0))
        self.size = self.sorted + int(np.count_nonzero(order[self._first :] >= 0))
        self._scratch = _Scratch()
        self._placed: tuple[Mask | None, NDArray[np.uint8]] = (None, np.empty(0, np.uint8))

    @classmethod
    def laid_out(
        cls,
        coder: SignCoder,
        centroids: NDArray[np.float32],
        nearest: NDArray[np.integer[Any]],
        codes: Words,
        lift: Lift | None = None,
    ) -> ListScan:
        """Sort rows into their lists.

        Args:
            nearest: (n,) the list of each row, -1 of one that waits in the tail.
            codes: uint64 (n, words) of the rows.
        """
        of = np.where(nearest < 0, len(centroids), nearest)
        rows, counts = of.argsort(kind="stable"), np.bincount(of, minlength=len(centroids) + 1)
        blocks = -(-counts // BLOCK)
        gaps = BLOCK * (blocks.cumsum() - blocks) - (counts.cumsum() - counts)  # empty slots before each list
        slots, total = (np.arange(len(of)) + gaps.repeat(counts)).astype(np.intp), BLOCK * int(blocks.sum())
        order = np.full(total, -1, np.int32)
        columns = np.zeros((total // BLOCK, SCANNED, BLOCK), np.uint64)
        rest = np.zeros((total, WORDS - SCANNED), np.uint64)
        order[slots] = rows
        columns[slots >> _BITS, :, slots & BLOCK - 1] = codes[rows, :SCANNED]
        rest[slots] = codes[rows, SCANNED:]
        return cls(coder, centroids, np.arange(len(centroids)).repeat(blocks[:-1]), order, columns, rest, lift)

    def extended(self, vectors: NDArray[np.float32]) -> ListScan:
        """This scan with the rows that follow, float32 (n, dim); searches of this one are not disturbed."""
        if not len(vectors):
            return self
        _, codes = self.coder.encode(vectors if self.lift is None else self.lift.rows(vectors))
        longer = copy(self)
        start = self._first + self.size - self.sorted
        new, blocks = np.arange(start, start + len(codes)), -(-(start + len(codes)) // BLOCK)
        room = BLOCK * blocks
        longer._order, longer._rest = grown(self._order, room), grown(self._rest, room)
        longer._order[max(start, len(self._order)) :] = -1
        longer._columns = grown(self._columns, len(longer._order) // BLOCK)
        longer._columns[new >> _BITS, :, new & BLOCK - 1] = codes[:, :SCANNED]
        longer._rest[new] = codes[:, SCANNED:]
        longer._order[new] = np.arange(self.size, self.size + len(codes))
        longer.size += len(codes)
        longer.__dict__.pop("_tail", None)
        return longer

    def rows_in_lists(self) -> tuple[NDArray[np.int32], Words]:
        """Of each row: its list, int32 (size,), -1 in the tail; its code, uint64 (size, words)."""
        slots = np.flatnonzero((self._order >= 0) & (self._order < self.size))
        rows = self._order[slots]
        lists, codes = np.full(self.size, -1, np.int32), np.empty((self.size, WORDS), np.uint64)
        sorted_ = slots < self._first
        lists[rows[sorted_]] = self.list_of[slots[sorted_] // BLOCK]
        codes[rows, :SCANNED] = self._columns[slots >> _BITS, :, slots & BLOCK - 1]
        codes[rows, SCANNED:] = self._rest[slots]
        return lists, codes

    def arrays(self) -> dict[str, NDArray[Any]]:
        """What the constructor takes of the lists, by its name."""
        return {
            "list_of": self.list_of.astype(np.int64),
            "order": self._order,
            "columns": self._columns,
            "rest": self._rest,
        }

    @cached_property
    def _tail(self) -> Slots:
        """Blocks of the tail."""
        return np.arange(len(self.list_of), len(self.list_of) - (self.sorted - self.size) // BLOCK, dtype=np.intp)

    def candidates(self, query: NDArray[np.float32], plan: Plan, mask: Mask | None) -> NDArray[np.int64]:
        """Rows worth an exact score."""
        coded = self.coder.coded(self._lifted(query))
        short, blocks = self._short(coded, self._scores(coded), plan.reach)
        if mask is not None:
            penalty = self._penalty(mask)
            if blocks is not None:
                penalty = penalty.reshape(-1, BLOCK).take(blocks, 0).ravel()
            np.maximum(short, penalty, out=short)
        limit = _WORST
        if len(short) > plan.near:
            sampled = short[:: max(1, len(short) // _SAMPLED)]
            place = min(len(sampled) - 1, -(-plan.near * len(sampled) // len(short)))
            limit = min(np.partition(sampled, place)[place], limit)
        near = (short <= limit).nonzero()[0]
        slots = _slots(near, blocks)
        if len(slots) > plan.candidates:
            costs = coded.costs(short.take(near), self._rest.take(slots, 0))
            slots = slots.take(costs.argpartition(plan.candidates - 1)[: plan.candidates])
        rows: NDArray[np.int64] = self._order.take(slots).astype(np.int64)
        there = rows.view(np.uint64) < self.size  # no empty slot, and no row that came since
        return rows if there.all() else rows[there]

    def _lifted(self, queries: NDArray[np.float32]) -> NDArray[np.float32]:
        return queries if self.lift is None else self.lift.queries(queries)

    def _scores(self, query: CodedQuery) -> NDArray[np.float32]:
        """Of the lists."""
        return np.asarray(self.centroids.dot(query.directions))

    def _short(
        self, query: CodedQuery, scores: NDArray[np.float32], reach: float
    ) -> tuple[NDArray[np.uint8], Slots | None]:
        """Differing bits of the first words in the slots visited, block by block, and the blocks (None: all)."""
        scratch, total = self._scratch, len(self.list_of) + len(self._tail)
        near = (scores >= scores.max() - np.float32(reach)).take(self.list_of).nonzero()[0]
        if len(self._tail):
            near = np.concatenate([near, self._tail])
        blocks = near if len(near) <= _ALL * total else None
        n = total if blocks is None else len(blocks)
        if len(scratch.words) < n:
            scratch.fit(n + n // 4)
        words, counts = scratch.words[:n], scratch.counts[:n]
        picked = self._columns[:n] if blocks is None else self._columns.take(blocks, 0, out=words, mode="clip")
        np.bitwise_xor(picked, query.code[:SCANNED, None], out=words)
        np.bitwise_count(words, out=counts)
        short = counts[:, 0] + counts[:, 1] + counts[:, 2] + counts[:, 3]  # all differing wraps to 0: exact scores tell
        return short.ravel(), blocks

    def _penalty(self, mask: Mask) -> NDArray[np.uint8]:
        """A mask's penalty by slot; the last one is kept, since a filter is often asked again."""
        placed = self._placed
        if placed[0] is not mask:
            order = self._order[: BLOCK * (len(self.list_of) + len(self._tail))]
            penalty = mask.penalty.take(order, mode="clip")
            penalty[order.view(np.uint32) >= len(mask.penalty)] = 255
            placed = self._placed = (mask, penalty)
        return placed[1]

    def plan(self, sample: Sample, k: int, recall: float) -> Plan:
        """The least work that finds this share of the k nearest."""
        missed = 1 - recall
        found = sample.neighbours[:, :k]
        deeper = max(1.0, k / sample.neighbours.shape[1]) * _SAFETY
        queries = [self.coder.coded(one) for one in self._lifted(sample.queries)]
        scores = np.stack([self._scores(one) for one in queries])
        below, slots = scores.max(1, keepdims=True) - scores, BLOCK * np.bincount(self.list_of, minlength=len(scores.T))
        ranks = self._ranks(sample, found, queries, scores, 1 - _VISITED * missed)
        rising = np.sort(ranks, axis=1)
        last = np.isfinite(rising).sum(1) - 1
        limits, least = ranks.max(1, where=np.isfinite(ranks), initial=0), np.inf
        for shares in _SHARES:
            for times in _TIMES:
                places = np.minimum(last, np.ceil((1 - times * missed * shares) * ranks.shape[1])).astype(np.intp)
                tried = np.take_along_axis(rising, places[:, None], 1)
                each = (ranks <= tried).all(0).reshape(found.shape).mean(1)  # recall of each query
                if each.mean() - each.std() / math.sqrt(len(each)) >= recall:
                    visited = np.where(below <= tried[0], slots, 0).sum(1).mean()
                    cost = float(_COSTS @ [visited, *np.minimum(tried[1:, 0], visited)])
                    limits, least = (tried[:, 0], cost) if cost < least else (limits, least)
                    break
        reach, near, candidates = limits.tolist()
        candidates = max(k, round(candidates * deeper))
        return Plan(reach * deeper**0.5, max(round(near * deeper), 2 * candidates, _LEAST), candidates)

    def _ranks(
        self,
        sample: Sample,
        found: NDArray[np.int64],
        queries: list[CodedQuery],
        scores: NDArray[np.float32],
        fraction: float,
    ) -> NDArray[np.float64]:
        """Of each neighbour found (3, n): how far its list's score is below the best, and its places at each stage.

        Places are among the rows visited when this fraction of the neighbours is; of the others they are infinite.
        """
        lists, _ = self.rows_in_lists()
        gaps = np.zeros(found.shape)
        for gap, of, near in zip(gaps, scores, lists[found], strict=True):
            gap[near >= 0] = of.max() - of[near[near >= 0]]
        reach = float(np.quantile(gaps, fraction, method="higher"))
        out = np.full((3, *found.shape), np.inf)
        out[0] = gaps
        for i, query in enumerate(queries):
            short, blocks = self._short(query, scores[i], reach)
            slots = _slots(np.arange(len(short)), blocks)
            rows = self._order.take(slots)
            stages: tuple[NDArray[Any], ...] = short, query.costs(short, self._rest.take(slots, 0))
            there = (rows >= 0) & (rows < self.size) & (rows != sample.rows[i])
            at = np.flatnonzero(np.isin(rows, found[i]))
            place = {row: j for j, row in enumerate(found[i].tolist())}
            to = [place[row] for row in rows[at].tolist()]
            for stage, order in enumerate(stages, 1):
                out[stage, i, to] = np.searchsorted(np.sort(order[there]), order[at], "right")
        return out.reshape(3, -1)


def _slots(near: Slots, blocks: Slots | None) -> Slots:
    """Slots of places among those of some blocks."""
    if blocks is None:
        return near
    shift = (blocks - np.arange(len(blocks), dtype=np.intp)) * BLOCK
    return near + shift.take(near >> _BITS)
