"""How far an index has to look for a given recall, measured on its own vectors.

Some stored vectors are asked as queries, without themselves; the rank at which a coarse order (sign
codes, lists) puts each true neighbour tells what share of neighbours is found by looking at the first
R: the whole curve at once.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ruvllm.index.rows import Rows
from ruvllm.index.select import best_of_many

__all__ = ["DEPTH", "RankCurve", "Sample", "neighbours_of"]

SAMPLE = 128  # queries; with k = 10 some 1,280 ranks
DEPTH = 100  # neighbours whose ranks are known; deeper ones are extrapolated
_SAFETY = 1.05  # what was measured on a sample is asked a little more of
_BLOCK = 16_384


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
class RankCurve:
    """Ranks of true neighbours in a coarse order.

    Attributes:
        ranks: (q, d), column j that of the j-th nearest; 1 is the first.
        size: how many rows there were then.
    """

    ranks: NDArray[np.int64]
    size: int
    _known: dict[tuple[int, float], int] = field(default_factory=dict)

    def reach(self, k: int, recall: float) -> int:
        """How many of the first to look at, so that this share of the k nearest is among them."""
        key = (k, recall)
        if key not in self._known:
            depth = self.ranks.shape[1]
            ranks = np.sort(self.ranks[:, : min(k, depth)].ravel())
            at = min(len(ranks) - 1, max(0, int(np.ceil(recall * len(ranks))) - 1))
            deeper = max(1.0, k / depth)
            self._known[key] = max(k, int(np.ceil(float(ranks[at]) * _SAFETY * deeper)))
        return self._known[key]

    def recall_at(self, reach: int, k: int = 10) -> float:
        """The share of the k nearest that looking at so many finds."""
        return float((self.ranks[:, :k] <= reach).mean())


def neighbours_of(rows: Rows, seed: int = 0) -> Sample:
    """Ask some of the rows, and find their true neighbours by looking at all, block by block."""
    live = np.flatnonzero(rows.penalty == 0)
    chosen = np.sort(np.random.default_rng(seed).choice(live, min(SAMPLE, len(live)), replace=False)).astype(np.int64)
    queries = rows.take(chosen)
    depth = max(1, min(DEPTH, len(live) - 1))
    found = np.zeros((len(chosen), 0), np.int64)
    scores = np.zeros((len(chosen), 0), np.float32)
    for start, block in _blocks(rows):
        new = queries @ block.T
        new[:, rows.penalty[start : start + len(block)] != 0] = -np.inf
        own = (chosen >= start) & (chosen < start + len(block))
        new[np.flatnonzero(own), chosen[own] - start] = -np.inf
        top = best_of_many(new, depth)
        scores = np.concatenate([scores, np.take_along_axis(new, top, 1)], axis=1)
        found = np.concatenate([found, top + start], axis=1)
        keep = best_of_many(scores, depth)
        scores, found = np.take_along_axis(scores, keep, 1), np.take_along_axis(found, keep, 1)
    return Sample(chosen, queries, found)


def _blocks(rows: Rows) -> Iterator[tuple[int, NDArray[np.float32]]]:
    for start in range(0, rows.size, _BLOCK):
        yield start, rows.block(start, min(start + _BLOCK, rows.size))
