"""The vectors of one tier, and what its codec loses, measured on them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ruvllm.index.codecs import Codec
from ruvllm.index.pq import Bytes, Vectors
from ruvllm.index.rows import grown
from ruvllm.index.select import best

__all__ = ["Loss", "Shelf", "measured_loss"]

_ASKED = 192  # vectors asked as queries
_K = 10
_THIN = 4  # recall is also measured among so many times fewer, to see how it falls as they grow
_DEEP = 256  # ranks looked at
_SAFETY = 1.1  # what a sample says is asked a little more of


@dataclass(frozen=True, slots=True)
class Loss:
    """What coding does to the ranking, measured on vectors asked as queries of the others.

    Attributes:
        among: how many vectors there were.
        recall: recall@10 by the codes alone.
        ranks: float64 (r,), rising: the place of each true neighbour in the order of the codes; inf is out of sight.
        slope: the true score is on average slope * score + offset, among the nearest.
        fall: how much recall falls when there are four times as many.
    """

    among: int
    recall: float
    ranks: NDArray[np.float64]
    slope: float = 1.0
    offset: float = 0.0
    fall: float = 0.0

    def expected(self, size: int) -> float:
        """recall@10 by the codes alone among so many vectors: the more there are, the closer they lie."""
        return max(0.0, self.recall - self.fall * max(0.0, math.log(size / self.among, _THIN)))

    def reach(self, k: int, recall: float, size: int) -> int:
        """How many of the nearest of `size` codes to score exactly for a recall; everything if it takes that.

        Places grow at most in proportion to the number of vectors.
        """
        at = min(len(self.ranks) - 1, max(0, math.ceil(recall * len(self.ranks)) - 1))
        rank = float(self.ranks[at]) if len(self.ranks) and recall < 1 else math.inf
        far = rank * _SAFETY * max(1.0, k / _K) * max(1.0, size / self.among)
        return size if far >= size else max(k, math.ceil(far))


NOTHING_LOST = Loss(1, 1.0, np.ones(1))


def measured_loss(codec: Codec, vectors: Vectors, seed: int = 0) -> Loss:
    """Code float32 (n, dim) and ask some of them for their neighbours."""
    codes, n = codec.encode(vectors), len(vectors)
    asked = np.random.default_rng(seed).choice(n, min(_ASKED, n), replace=False)
    k, thin = min(_K, n - 1), list[Any]()
    places, ours, truth = list[NDArray[np.float64]](), list[Vectors](), list[Vectors]()
    for row in asked.tolist():
        exact, scores = vectors @ vectors[row], codec.scores(vectors[row], codes)
        exact[row] = scores[row] = -np.inf
        near = best(scores, min(_DEEP, n - 1))
        place = np.full(n, np.inf)
        place[near] = np.arange(1, len(near) + 1)
        places.append(place[best(exact, k)])
        thin.append(np.isin(best(exact[::_THIN], k), best(scores[::_THIN], k)).mean())
        ours.append(scores[near[: 10 * _K]])
        truth.append(exact[near[: 10 * _K]])
    slope, offset = _line(np.concatenate(ours), np.concatenate(truth))
    ranks = np.sort(np.concatenate(places))
    recall = float((ranks <= k).mean())
    return Loss(n, recall, ranks, slope, offset, max(0.0, float(np.mean(thin)) - recall))


def _line(x: Vectors, y: Vectors) -> tuple[float, float]:
    """Slope and offset of y over x by least squares."""
    spread = float(np.var(x))
    slope = float(np.mean((x - x.mean()) * (y - y.mean()))) / spread if spread > 0 else 1.0
    return slope, float(y.mean()) - slope * float(x.mean())


class Shelf:
    """Codes of one codec, without gaps, and the rows they stand for."""

    def __init__(self, tier: int, codec: Codec, loss: Loss = NOTHING_LOST) -> None:
        self.tier, self.codec, self.loss = tier, codec, loss
        self._codes = np.empty((0, codec.bytes_per_vector), np.uint8)
        self._rows = np.empty(0, np.int64)
        self.size = 0

    @property
    def codes(self) -> Bytes:
        """uint8 (size, bytes)."""
        return self._codes[: self.size]

    @property
    def rows(self) -> NDArray[np.int64]:
        """int64 (size,)."""
        return self._rows[: self.size]

    def put(self, rows: NDArray[np.int64], vectors: Vectors) -> NDArray[np.int64]:
        """Code these; returns the slots they went to."""
        start, stop = self.size, self.size + len(rows)
        codes = self.codec.encode(vectors)
        self._codes, self._rows = grown(self._codes, stop), grown(self._rows, stop)
        self._codes[start:stop], self._rows[start:stop] = codes, rows
        self.size = stop
        return np.arange(start, stop, dtype=np.int64)

    def drop(self, slots: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Forget slots, closing the gaps with the last codes; returns the rows that moved and their new slots."""
        left = self.size - len(slots)
        gaps = slots[slots < left]
        stay = np.ones(len(slots), np.bool_)
        tail = np.arange(left, self.size, dtype=np.int64)
        stay[slots[slots >= left] - left] = False
        movers = tail[stay[: len(tail)]]
        self._codes[gaps], self._rows[gaps] = self._codes[movers], self._rows[movers]
        self.size = left
        return self._rows[gaps], gaps

    def renumber(self, new: NDArray[np.int64]) -> None:
        """Row i is now called new[i]."""
        self._rows[: self.size] = new[self._rows[: self.size]]
