"""Vectors kept as precisely as they are used: float32 while hot, a bit for a number when cold.

By the share of entries that are used less: above 80 % f32, from 40 % f16, from 10 % pq8, below that binary.
What the small codes lose, the stored originals bring back: they rescore the nearest candidates of a search, and
a code that is used again is taken back up from them. Without originals codes can only get smaller, and a search
says what recall is left.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ruvllm.errors import InputError
from ruvllm.index.codecs import CODECS, nearest
from ruvllm.index.pq import Vectors, sampled
from ruvllm.index.protocol import checked_queries
from ruvllm.index.rows import Rows, checked_ids, grown
from ruvllm.index.select import best
from ruvllm.memory.shelf import Shelf, measured_loss
from ruvllm.reprs import one_line

__all__ = ["BANDS", "Heat", "Originals", "TierHits", "TieredVectors"]

_FAR = 64.0  # half-lives after which counts are brought back to the size of the present
_NEVER = 1_000.0  # half-lives that leave nothing


class Heat:
    """Decayed counts of rows.

    Args:
        half_life: seconds after which a use counts half.
        start: the present, in seconds.

    Attributes:
        marks: counts that others compare with, which fade along.
    """

    def __init__(self, half_life: float, start: float) -> None:
        self.half_life, self.epoch = half_life, start
        self._counts = np.empty(0, np.float64)
        self.marks = np.empty(0, np.float64)
        self.size = 0

    @property
    def counts(self) -> NDArray[np.float64]:
        """float64 (size,), comparable with each other only."""
        return self._counts[: self.size]

    def one(self, now: float) -> float:
        """What a use counts now. A clock that goes back counts little, and harms nothing."""
        ages = (now - self.epoch) / self.half_life
        if ages > _FAR:
            faded = 2.0 ** -min(ages, _NEVER)
            self._counts *= faded
            self.marks = self.marks * faded
            self.epoch, ages = now, 0.0
        return float(2.0 ** max(ages, -_FAR))

    def append(self, count: int, heat: float) -> None:
        """So many new rows."""
        self._counts = grown(self._counts, self.size + count)
        self._counts[self.size : self.size + count] = heat
        self.size += count

    def use(self, rows: NDArray[np.int64], now: float) -> None:
        """Count a use of each row; a row may come more than once."""
        weight = self.one(now)
        np.add.at(self._counts, rows, weight)

    def keep(self, rows: NDArray[np.int64]) -> None:
        """Only these rows, in this order."""
        self._counts = self._counts[rows]
        self.size = len(rows)

    def shares(self) -> NDArray[np.float64]:
        """Of each row, the share of all rows that are colder: 0 to 1; of equals the older is the colder."""
        out = np.empty(self.size)
        out[self.counts.argsort(kind="stable")] = (np.arange(self.size) + 0.5) / max(self.size, 1)
        return out


BANDS = {"f32": 0.8, "f16": 0.4, "pq8": 0.1, "binary": 0.0}  # least share of colder entries

_WEEK = 7 * 86_400.0
_LEAST = 1_024  # entries below which there is nothing to gain, and too little to learn codes from
_SAMPLE = 10_000  # to learn from; as many others are measured, since what was learnt from looks better than it is
_RELEARN = 4  # codes are learnt again when there are so many times as many entries, until the sample is full

Rows64 = NDArray[np.int64]
Originals = Callable[[Rows64], Vectors]


class TierHits(NamedTuple):
    """Ids and scores, best first, as `Hits`; and the recall@k to expect of them."""

    ids: NDArray[np.int64]
    scores: NDArray[np.float32]
    recall: float

    def __repr__(self) -> str:
        return one_line(self)


class TieredVectors:
    """One collection over four codecs.

    Args:
        dim: width of the vectors.
        metric: "cosine" (vectors are scaled to unit length) or "dot".
        originals: float32 (n, dim) of int64 (n,) ids, from where they are stored.
        half_life: seconds after which a use counts half.
        hysteresis: how far beyond its band an entry has to be before it moves.
        now: the clock, in seconds.
    """

    def __init__(
        self,
        dim: int,
        metric: str = "cosine",
        *,
        originals: Originals | None = None,
        half_life: float = _WEEK,
        hysteresis: float = 0.03,
        now: Callable[[], float] = time.time,
    ) -> None:
        if half_life <= 0 or not 0 <= hysteresis < 0.1:
            fix = "half_life above 0 seconds, hysteresis from 0 to below 0.1"
            raise InputError(f"half_life is {half_life}, hysteresis {hysteresis}", field="half_life", fix=fix)
        self.dim, self.metric, self.originals, self.hysteresis = dim, metric, originals, hysteresis
        self._unit, self._now = metric == "cosine", now
        self._heat = Heat(half_life, now())
        self._lows = np.array([*BANDS.values()])
        self._shelves = [Shelf(0, CODECS["f32"].fit(np.empty((0, dim), np.float32)))]
        self._latest = {0: 0}  # the shelf that a tier's new entries go to
        self._learnt = 0  # entries there were when codes were learnt
        self._ids, self._shelf, self._slot = (np.empty(0, np.int64) for _ in range(3))
        self._rows: dict[int, int] = {}
        self._heat.marks = np.full(len(BANDS), np.inf)  # heat that takes an entry up to each tier

    def __len__(self) -> int:
        return len(self._rows)

    def add(self, ids: ArrayLike, vectors: ArrayLike) -> None:
        """Add or replace, hot.

        Raises:
            InputError: see `Index.add`.
        """
        checked = Rows(self.dim, unit=self._unit)
        checked.add(ids, vectors)
        new = checked.ids
        self.remove(new)
        start, stop = len(self), len(self) + len(new)
        self._ids, self._shelf, self._slot = (grown(part, stop) for part in (self._ids, self._shelf, self._slot))
        rows = np.arange(start, stop, dtype=np.int64)
        self._ids[rows], self._shelf[rows] = new, 0
        self._slot[rows] = self._shelves[0].put(rows, checked.vectors)
        used, hot = self._heat.one(self._now()), float(self._heat.marks[0])
        self._heat.append(len(new), max(used, hot) if np.isfinite(hot) else used)
        self._rows.update(zip(new.tolist(), range(start, stop), strict=True))

    def remove(self, ids: ArrayLike) -> int:
        """Forget these ids; returns how many there were."""
        rows = self._found(ids)
        if not len(rows):
            return 0
        self._leave(rows)
        stays = np.ones(len(self), np.bool_)
        stays[rows] = False
        kept = np.flatnonzero(stays).astype(np.int64)
        new = (np.cumsum(stays) - 1).astype(np.int64)
        for shelf in self._shelves:
            shelf.renumber(new)
        self._ids, self._shelf, self._slot = self._ids[kept], self._shelf[kept], self._slot[kept]
        self._heat.keep(kept)
        self._rows = dict(zip(self._ids.tolist(), range(len(kept)), strict=True))
        return len(rows)

    def touch(self, ids: ArrayLike) -> int:
        """Count a use of each id, and take up at once what is hot enough by now; returns how many moved."""
        known = (self._rows.get(i) for i in checked_ids(ids).tolist())
        rows = np.array([row for row in known if row is not None], np.int64)
        self._heat.use(rows, self._now())
        rows = np.unique(rows)
        wanted = (self._heat.counts[rows, None] < self._heat.marks).sum(1)
        rising = wanted < self._tiers()[rows]
        return self._move(rows[rising], wanted[rising])

    def rebalance(self, batch: int = 1_024) -> int:
        """Move at most so many entries towards the tiers they belong to, the used ones first; returns how many moved.

        0 means that all is in place.
        """
        if batch < 1:
            raise InputError(f"batch is {batch}", field="batch", fix="move at least one entry at a time")
        if len(self) < _LEAST:
            return 0
        self._learn()
        rows, wanted = self._due()
        gain = wanted - self._tiers()[rows]
        order = np.lexsort((self._heat.counts[rows], gain))[:batch]
        return self._move(rows[order], wanted[order])

    def take(self, ids: ArrayLike) -> Vectors:
        """float32 (n, dim), as well as they are remembered.

        Raises:
            InputError: an unknown id.
        """
        wanted = checked_ids(ids)
        missing = [i for i in wanted.tolist() if i not in self._rows]
        if missing:
            raise InputError(f"id {missing[0]} is not there", field="ids", fix="take ids that were added")
        return self._decoded(np.array([self._rows[i] for i in wanted.tolist()], np.int64))

    def search(
        self, queries: ArrayLike, k: int = 10, *, filter: ArrayLike | None = None, recall: float | None = None
    ) -> TierHits:
        """The k nearest of all tiers together.

        Args:
            filter: ids that may be found.
            recall: recall@k to reach on average; None asks for 0.95 where there are originals, else for what is left.

        Raises:
            InputError: see `Index.search`; also a recall that codes without originals do not reach.
        """
        wanted = 0.95 if recall is None else recall
        asked = checked_queries(queries, self.dim, k, wanted, unit=self._unit)
        expected = wanted if self.originals else self.recall
        if recall is not None and expected < wanted:
            fix = f"ask for at most {expected:.2f}, or give `originals` to rescore from"
            raise InputError(f"a recall of {wanted} is beyond these codes", field="recall", fix=fix)
        allowed = None
        if filter is not None:
            allowed = np.zeros(len(self), np.bool_)
            allowed[self._found(filter)] = True
        if asked.ndim == 1:
            return TierHits(*self._one(asked, k, wanted, allowed), expected)
        ids, scores = np.full((len(asked), k), -1, np.int64), np.full((len(asked), k), -np.inf, np.float32)
        for row, query in enumerate(asked):
            found, own = self._one(query, k, wanted, allowed)
            ids[row, : len(found)], scores[row, : len(found)] = found, own
        return TierHits(ids, scores, expected)

    @property
    def recall(self) -> float:
        """recall@10 to expect of the codes alone, rather too low than too high.

        A code scored wrongly misses a neighbour of its own or pushes one of another tier out, so each error counts
        twice, up to what the worst tier would lose by itself.
        """
        missed = [(1 - shelf.loss.expected(len(self)), shelf.size) for shelf in self._shelves if shelf.size]
        if not missed:
            return 1.0
        return 1 - min(2 * sum(miss * size for miss, size in missed) / len(self), max(miss for miss, _ in missed))

    def stats(self) -> dict[str, Any]:
        """Sizes and recall by tier; `looked` is how many codes are rescored for a recall of 0.95."""
        tiers = {name: self._told(tier) for tier, name in enumerate(BANDS)}
        codes = sum(shelf.size * shelf.codec.bytes_per_vector for shelf in self._shelves)
        return {
            "size": len(self),
            "tiers": tiers,
            "bytes_per_vector": round(codes / len(self), 1) if len(self) else 0.0,
            "smaller": round(4 * self.dim * len(self) / codes, 2) if codes else 1.0,
            "model_bytes": sum(shelf.codec.model_bytes for shelf in self._shelves),
            "recall": round(self.recall, 4),
            "originals": self.originals is not None,
        }

    def _told(self, tier: int) -> dict[str, Any]:
        own = [shelf for shelf in self._shelves if shelf.tier == tier]
        size, last = sum(shelf.size for shelf in own), own[-1] if own else None
        return {
            "size": size,
            "bytes_per_vector": last.codec.bytes_per_vector if last else None,
            "recall": round(sum(s.loss.expected(len(self)) * s.size for s in own) / size, 4) if size else None,
            "measured_among": last.loss.among if last and last.codec.lossy else None,
            "looked": last.loss.reach(10, 0.95, size) if last and size and last.codec.lossy else None,
        }

    def _one(
        self, query: Vectors, k: int, recall: float, allowed: NDArray[np.bool_] | None
    ) -> tuple[NDArray[np.int64], Vectors]:
        rows, scores = [np.empty(0, np.int64)], [np.empty(0, np.float32)]
        for shelf in self._shelves:
            if not shelf.size:
                continue
            rescored = self.originals is not None and (shelf.codec.lossy or recall >= 1)
            reach = shelf.loss.reach(k, recall, shelf.size) if rescored else k
            barred = None if allowed is None else ~allowed[shelf.rows]
            at, found = nearest(shelf.codec, query, shelf.codes, reach, barred)
            if self.originals is not None and rescored:
                found = self._fetched(self._ids[shelf.rows[at]]) @ query
            else:
                found = found * np.float32(shelf.loss.slope) + np.float32(shelf.loss.offset)
            rows.append(shelf.rows[at])
            scores.append(found)
        all_rows, all_scores = np.concatenate(rows), np.concatenate(scores)
        top = best(all_scores, k)
        return self._ids[all_rows[top]], all_scores[top]

    def _found(self, ids: ArrayLike) -> Rows64:
        known = (self._rows.get(i) for i in set(checked_ids(ids).tolist()))
        return np.array([row for row in known if row is not None], np.int64)

    def _tiers(self) -> NDArray[np.intp]:
        """(size,) the tier each row is in."""
        of_shelf = np.array([shelf.tier for shelf in self._shelves], np.intp)
        return of_shelf[self._shelf[: len(self)]]

    def _due(self) -> tuple[Rows64, NDArray[np.intp]]:
        """Rows that are out of their band by more than the hysteresis, or coded by an old codec; and their tiers."""
        shares, tiers = self._heat.shares(), self._tiers()
        highs = np.concatenate([[np.inf], self._lows[:-1]])
        out = (shares < self._lows[tiers] - self.hysteresis) | (shares >= highs[tiers] + self.hysteresis)
        wanted = np.where(out, (shares[:, None] < self._lows).sum(1), tiers)
        counts = np.sort(self._heat.counts)
        at = np.minimum(((self._lows + self.hysteresis) * len(counts)).astype(np.intp), len(counts) - 1)
        self._heat.marks = counts[at]
        self._heat.marks[-1] = -np.inf
        latest = np.array([self._latest[tier] for tier in range(len(BANDS))], np.int64)
        moving = self._shelf[: len(self)] != latest[wanted]
        if self.originals is None:
            lossy = np.array([shelf.codec.lossy for shelf in self._shelves])[self._shelf[: len(self)]]
            moving &= (wanted > tiers) | ~lossy
        rows = np.flatnonzero(moving).astype(np.int64)
        return rows, wanted[rows]

    def _learn(self) -> None:
        """Codecs from a sample, when there are none or there was little to learn from."""
        fresh = self._learnt and (self._learnt >= 2 * _SAMPLE or len(self) < _RELEARN * self._learnt)
        if fresh or (self._learnt and self.originals is None):
            return
        rows = sampled(np.arange(len(self), dtype=np.int64), 2 * _SAMPLE, 0)
        sample = self._fetched(self._ids[rows]) if self._learnt else self._decoded(rows)
        for tier, name in enumerate(BANDS):
            if tier:
                codec = CODECS[name].fit(sample[::2])
                if tier not in self._latest or codec.lossy:
                    self._latest[tier] = len(self._shelves)
                    self._shelves.append(Shelf(tier, codec, measured_loss(codec, sample[1::2])))
        self._learnt = len(self)

    def _move(self, rows: Rows64, tiers: NDArray[np.intp]) -> int:
        """Code rows anew, from their originals where a code has lost something."""
        lossy = np.array([shelf.codec.lossy for shelf in self._shelves])[self._shelf[rows]]
        if self.originals is None:
            able = (tiers > self._tiers()[rows]) | ~lossy
            rows, tiers, lossy = rows[able], tiers[able], lossy[able]
        vectors = self._decoded(rows)
        whole = self.originals is not None and (lossy | (tiers == 0))
        if np.any(whole):
            vectors[whole] = self._fetched(self._ids[rows[whole]])
        self._leave(rows)
        for tier in np.unique(tiers).tolist():
            own, to = tiers == tier, self._latest[tier]
            self._slot[rows[own]] = self._shelves[to].put(rows[own], vectors[own])
            self._shelf[rows[own]] = to
        return len(rows)

    def _leave(self, rows: Rows64) -> None:
        for at in np.unique(self._shelf[rows]).tolist():
            moved, slots = self._shelves[at].drop(self._slot[rows[self._shelf[rows] == at]])
            self._slot[moved] = slots

    def _decoded(self, rows: Rows64) -> Vectors:
        out = np.empty((len(rows), self.dim), np.float32)
        for at in np.unique(self._shelf[rows]).tolist():
            own, shelf = self._shelf[rows] == at, self._shelves[at]
            out[own] = shelf.codec.decode(shelf.codes[self._slot[rows[own]]])
        return out

    def _fetched(self, ids: Rows64) -> Vectors:
        assert self.originals is not None
        vectors = np.asarray(self.originals(ids), np.float32)
        if vectors.shape != (len(ids), self.dim):
            fix = f"return float32 ({len(ids)}, {self.dim}), a row for each id in its order"
            raise InputError(f"originals returned {vectors.shape}", field="originals", fix=fix)
        if not self._unit:
            return vectors
        lengths = np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), np.float32(1e-12))
        return np.asarray(vectors / lengths, np.float32)
