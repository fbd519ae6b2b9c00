"""How far an index has to look for a given recall, measured on its own vectors.

Some stored vectors are asked as queries, without themselves and their exact copies; where a coarse order
(sign codes, lists) puts each true neighbour tells what share of them is found by looking so far.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ruvllm.index.rows import View
from ruvllm.index.select import best_of_many

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Lift:
    """Adds the coordinate.

    Attributes:
        peak: the greatest length; a longer vector gets 0 for its coordinate.
    """

    peak: float

    @classmethod
    def fit(cls, vectors: Floats) -> Lift:
        """To the longest of float32 (n, dim)."""
        return cls(float(np.sqrt(np.einsum("ij,ij->i", vectors, vectors).max(initial=0))) or 1.0)

    def rows(self, vectors: Floats) -> Floats:
        """(n, dim) -> (n, dim + 1), of length one."""
        missing = self.peak**2 - np.einsum("ij,ij->i", vectors, vectors)
        lifted = np.concatenate([vectors, np.sqrt(np.maximum(missing, 0))[:, None]], axis=1)
        return np.asarray(lifted / self.peak, np.float32)

    def queries(self, queries: Floats) -> Floats:
        """(..., dim) -> (..., dim + 1), of length one."""
        lengths = np.maximum(np.linalg.norm(queries, axis=-1, keepdims=True), np.finfo(np.float32).tiny)
        return np.concatenate([queries / lengths, np.zeros_like(lengths)], axis=-1)


SAMPLE = 128  # queries; with k = 10 some 1,280 ranks
DEPTH = 100  # neighbours of each that are known
_SAFETY = 0.1  # share of the misses allowed that is kept in reserve: other queries differ from the sample
_SAME = 1e-5
_REMEASURE = 2  # beams are measured again when there are so many times as many rows
_BLOCK = 16_384

Near = Callable[[int, NDArray[np.float32], int], NDArray[np.integer]]


@dataclass(frozen=True, slots=True)
class Sample:
    """Stored vectors that were asked as queries.

    Attributes:
        rows: int64 (q,) which they are.
        queries: float32 (q, dim).
        neighbours: int64 (q, d) rows of their true nearest others, best first.
    """

    rows: NDArray[np.int64]
    queries: NDArray[np.float32]
    neighbours: NDArray[np.int64]


@dataclass
class Margins:
    """How much farther than the k-th best of a coarse order a true neighbour may lie in it.

    A margin fits the query: where many rows lie close together more are let through. It holds under a
    filter too, which a fixed number of candidates does not.

    Attributes:
        firsts: (q, d) the coarse distances themselves, the d smallest, rising.
        true: (q, d) coarse distances of the true neighbours, column j that of the j-th nearest.
        size: how many rows there were then.
    """

    firsts: NDArray[Any]
    true: NDArray[Any]
    size: int
    _margins: dict[tuple[int, float], float] = field(default_factory=dict)

    def margin(self, k: int, recall: float) -> float:
        """What to add to the k-th smallest distance, so that this share of the k nearest lies below."""
        key = (min(k, self.true.shape[1]), recall)
        if key not in self._margins:
            excess = self.true[:, : key[0]].astype(np.float64) - self.firsts[:, key[0] - 1, None]
            aim = recall + _SAFETY * (1 - recall)
            self._margins[key] = max(0.0, float(np.quantile(excess, aim, method="higher")))
        return self._margins[key]


def neighbours_of(view: View) -> Sample:
    """Ask some of the rows, and find their true neighbours by looking at all, block by block."""
    live = np.flatnonzero(view.penalty == 0)
    chosen = np.sort(np.random.default_rng(0).choice(live, min(SAMPLE, len(live)), replace=False)).astype(np.int64)
    queries = view.take(chosen)
    lengths = np.einsum("ij,ij->i", queries, queries)
    depth = max(1, min(DEPTH, len(live) - 1))
    found = np.zeros((len(chosen), 0), np.int64)
    scores = np.zeros((len(chosen), 0), np.float32)
    for start, block in _blocks(view):
        new = queries @ block.T
        new[:, view.penalty[start : start + len(block)] != 0] = -np.inf
        # |x - q|² is next to nothing for the query itself and its copies, which say nothing about unseen queries.
        distances = lengths[:, None] + np.einsum("ij,ij->i", block, block) - 2 * new
        new[distances <= _SAME * lengths[:, None]] = -np.inf
        top = best_of_many(new, depth)
        scores = np.concatenate([scores, np.take_along_axis(new, top, 1)], axis=1)
        found = np.concatenate([found, top + start], axis=1)
        keep = best_of_many(scores, depth)
        scores, found = np.take_along_axis(scores, keep, 1), np.take_along_axis(found, keep, 1)
    return Sample(chosen, queries, found)


def _blocks(view: View) -> Iterator[tuple[int, NDArray[np.float32]]]:
    for start in range(0, view.size, _BLOCK):
        yield start, view.block(start, min(start + _BLOCK, view.size))


class Beams:
    """How wide a graph's beam has to be, measured by searching for the sample.

    Args:
        sizes: the beams to try, rising.
    """

    def __init__(self, sizes: tuple[int, ...]) -> None:
        self._sizes = sizes
        self._recalls: dict[tuple[int, int], float] = {}
        self._size = 0  # rows when these were measured
        self._sample: tuple[int, Sample] | None = None  # with the version of its rows

    def least(self, view: View, k: int, recall: float, near: Near) -> int | None:
        """The least beam of this recall; None if no beam has it.

        Args:
            near: the rows that a search in this view comes upon, given a stored row, its vector and a beam.
        """
        if view.size > _REMEASURE * self._size:
            self._recalls, self._size = {}, view.size
        for beam in self._sizes:
            if beam >= k and self._recall(view, k, beam, near) >= recall:
                return beam
        return None

    def measured(self, k: int, recall: float) -> int | None:
        """`least`, if it was measured."""
        return min(
            (beam for (of, beam), reached in self._recalls.items() if of == k and reached >= recall), default=None
        )

    def _recall(self, view: View, k: int, beam: int, near: Near) -> float:
        recalls, sampled = self._recalls, self._sample
        if (k, beam) not in recalls:
            if sampled is None or sampled[0] != view.version:
                sampled = self._sample = (view.version, neighbours_of(view))
            sample = sampled[1]
            triples = zip(sample.rows.tolist(), sample.queries, sample.neighbours[:, :k], strict=True)
            recalls[k, beam] = float(
                np.mean([np.isin(true, near(row, query, beam)).mean() for row, query, true in triples])
            )
        return recalls[k, beam]
