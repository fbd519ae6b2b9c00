"""The coarse part of a search in lists: centroids, prefixes, long codes; and how far each has to look."""

from __future__ import annotations

import math
import threading
from copy import copy
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ruvllm.index.recall import Lift, Sample
from ruvllm.index.rows import Mask, grown
from ruvllm.index.signs import PREFIX_WORDS, StagedCoder, Words, byte_sums

_SAFETY = 1.1  # a sample's rarest misses are known roughly
_SAMPLED = 2_048  # prefix distances that tell where to cut
_ALL = 0.5  # share of the lists from which going through everything is cheaper than picking them

Slots = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Plan:
    """How far one search looks.

    Attributes:
        nprobe: lists visited.
        prefix: share of the visited rows whose prefix is good enough.
        candidates: rows scored exactly.
    """

    nprobe: int
    prefix: float
    candidates: int


class _Scratch(threading.local):
    """Arrays used again by the next search of the same thread."""

    def __init__(self) -> None:
        self.fit(0)

    def fit(self, n: int) -> None:
        self.columns = np.empty((PREFIX_WORDS, n), np.uint64)
        self.xor = np.empty((PREFIX_WORDS, n), np.uint64)
        self.counts = np.empty((PREFIX_WORDS, n), np.uint8)


class ListScan:
    """Codes in list order (slots), rows appended since in a tail behind them.

    Args:
        centroids: float32 (lists, dim).
        starts: int64 (lists + 1,) first slot of each list; what lies from the last on is the tail.
        order: (n,) the row of each slot.
        codes: uint64 (n, words) in slot order.
        lift: what brings vectors of different lengths to one.
    """

    def __init__(
        self,
        coder: StagedCoder,
        centroids: NDArray[np.float32],
        starts: NDArray[np.int64],
        order: NDArray[np.intp],
        codes: Words,
        lift: Lift | None = None,
    ) -> None:
        self.coder, self.lift = coder, lift
        self.centroids, self.starts = centroids, starts.astype(np.int64)
        self._edges: list[int] = starts.tolist()
        self.sorted, self.size = self._edges[-1], len(order)
        self._order = order.astype(np.int64)
        self._prefix = np.ascontiguousarray(codes[:, :PREFIX_WORDS].T)
        self._rest = np.ascontiguousarray(codes[:, PREFIX_WORDS:])
        self._scratch = _Scratch()
        self._placed: tuple[Mask | None, NDArray[np.uint8]] = (None, np.empty(0, np.uint8))

    def extended(self, vectors: NDArray[np.float32]) -> ListScan:
        """This scan with the rows that follow, float32 (n, dim); searches of this one are not disturbed."""
        if not len(vectors):
            return self
        codes = self.coder.encode_rows(vectors if self.lift is None else self.lift.rows(vectors))
        longer = copy(self)
        stop = self.size + len(codes)
        new = slice(self.size, stop)
        longer._order, longer._rest = grown(self._order, stop), grown(self._rest, stop)
        if self._prefix.shape[1] < stop:
            longer._prefix = np.ascontiguousarray(grown(self._prefix.T, stop).T)
        longer._order[new] = np.arange(self.size, stop)
        longer._prefix[:, new], longer._rest[new] = codes[:, :PREFIX_WORDS].T, codes[:, PREFIX_WORDS:]
        longer.size = stop
        return longer

    @property
    def order(self) -> Slots:
        """int64 (size,) the row of each slot."""
        return self._order[: self.size]

    @property
    def codes(self) -> Words:
        """uint64 (size, words) in slot order."""
        return np.concatenate([self._prefix[:, : self.size].T, self._rest[: self.size]], axis=1)

    def candidates(self, query: NDArray[np.float32], plan: Plan, mask: Mask | None) -> NDArray[np.int64]:
        """Rows worth an exact score."""
        if self.lift is not None:
            query = self.lift.queries(query)
        code = self.coder.encode(query)
        short, shift = self._short(query, code, plan.nprobe)
        if mask is not None:
            penalty = self._penalty(mask)
            np.maximum(short, penalty if shift is None else penalty[self._slots(shift)], out=short)
        if not len(short):
            return np.empty(0, np.int64)
        step = max(1, len(short) // _SAMPLED)
        sampled = short[::step]
        least = plan.candidates / max(1, len(short))  # never let fewer through than are to be scored
        place = min(len(sampled) - 1, int(max(plan.prefix, least) * len(sampled)))
        near = np.flatnonzero(short <= min(np.partition(sampled, place)[place], _WORST))
        slots = near if shift is None else near + shift[near]
        distances = short[near] + self._long(slots, code)
        if len(slots) > plan.candidates:
            slots = slots[distances.argpartition(plan.candidates - 1)[: plan.candidates]]
        rows: NDArray[np.int64] = self._order[slots]
        return rows

    def _short(
        self, query: NDArray[np.float32], code: Words, nprobe: int
    ) -> tuple[NDArray[np.uint8], NDArray[np.int64] | None]:
        """Prefix distances of the rows visited, and what to add to a position for its slot (None: nothing)."""
        lists, scratch = len(self.centroids), self._scratch
        if scratch.xor.shape[1] < self.size:
            scratch.fit(self.size + self.size // 4)
        if nprobe >= _ALL * lists:
            columns, shift, n = self._prefix[:, : self.size], None, self.size
        else:
            chosen = (self.centroids @ query).argpartition(lists - nprobe)[lists - nprobe :]
            edges = self._edges
            parts = [self._prefix[:, edges[i] : edges[i + 1]] for i in chosen.tolist()]
            parts.append(self._prefix[:, self.sorted : self.size])
            starts = np.append(self.starts[chosen], self.sorted)
            lengths = np.append(self.starts[chosen + 1], self.size) - starts
            ends = lengths.cumsum()
            n = int(ends[-1])
            shift = np.repeat(starts - ends + lengths, lengths.astype(np.intp))  # 32 bits in a browser
            columns = np.concatenate(parts, axis=1, out=scratch.columns[:, :n])
        xor, counts = scratch.xor[:, :n], scratch.counts[:, :n]
        np.bitwise_xor(columns, code[:PREFIX_WORDS, None], out=xor)
        np.bitwise_count(xor, out=counts)
        return np.add(counts[0], counts[1], out=counts[0]), shift

    def _long(self, slots: Slots, code: Words) -> NDArray[np.uint16]:
        """Differing bits of the long codes of some slots."""
        rest = self._rest.take(slots, 0)
        for word in range(rest.shape[1]):
            rest[:, word] ^= code[PREFIX_WORDS + word]
        return byte_sums(np.bitwise_count(rest))

    def _penalty(self, mask: Mask) -> NDArray[np.uint8]:
        """A mask's penalty in slot order; the last one is kept, since a filter is often asked again."""
        placed = self._placed
        if placed[0] is not mask:
            placed = self._placed = (mask, mask.penalty[self._order[: self.size]])
        return placed[1]

    @staticmethod
    def _slots(shift: NDArray[np.int64]) -> Slots:
        return shift + np.arange(len(shift), dtype=np.int64)

    def plan(self, sample: Sample, k: int, recall: float) -> Plan:
        """The least work that finds this share of the k nearest, its misses shared out among the stages."""
        missed = 1 - recall
        found = sample.neighbours[:, :k]
        deeper = max(1.0, k / sample.neighbours.shape[1])
        deeper *= _SAFETY
        nprobe = min(len(self.centroids), math.ceil(self._list_rank(sample, found, 1 - 0.4 * missed) * deeper))
        prefix, codes = self._code_ranks(sample, found, nprobe)
        candidates = round(float(np.quantile(codes, 1 - 0.35 * missed)) * deeper)
        return Plan(nprobe, min(1.0, float(np.quantile(prefix, 1 - 0.25 * missed)) * deeper), max(k, candidates))

    def _list_rank(self, sample: Sample, found: Slots, fraction: float) -> int:
        """How many of the nearest lists hold this share of the neighbours; the tail is always visited."""
        list_of, sizes = np.full(self.size, -1, np.int64), np.diff(self.starts).astype(np.intp)
        list_of[self._order[: self.sorted]] = np.repeat(np.arange(len(self.centroids)), sizes)
        queries = sample.queries if self.lift is None else self.lift.queries(sample.queries)
        order = (-(queries @ self.centroids.T)).argsort(1)
        ranks = np.empty_like(order)
        np.put_along_axis(ranks, order, np.arange(1, order.shape[1] + 1)[None, :], 1)  # (queries, lists)
        lists = list_of[found]
        ranked = np.where(lists >= 0, np.take_along_axis(ranks, np.maximum(lists, 0), 1), 1)
        return int(np.quantile(ranked, fraction, method="higher"))

    def _code_ranks(self, sample: Sample, found: Slots, nprobe: int) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
        """Of the neighbours visited: their places in the prefix order as shares, in the whole order as counts."""
        prefix, codes = list[NDArray[np.float64]](), list[NDArray[np.intp]]()
        queries = sample.queries if self.lift is None else self.lift.queries(sample.queries)
        for row, query, near in zip(sample.rows, queries, found, strict=True):
            code = self.coder.encode(query)
            short, shift = self._short(query, code, nprobe)
            slots = np.arange(len(short), dtype=np.int64) if shift is None else self._slots(shift)
            whole = short + self._long(slots, code)
            rows = self._order[slots]
            at, other = np.flatnonzero(np.isin(rows, near)), rows != row
            prefix.append(np.searchsorted(np.sort(short[other]), short[at], "right") / len(rows))
            codes.append(np.searchsorted(np.sort(whole[other]), whole[at], "right"))
        return np.concatenate(prefix), np.concatenate(codes)


_WORST = np.uint8(PREFIX_WORDS * 64)  # what lies above is masked
