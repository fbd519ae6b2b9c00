"""Vectors in memory as precisely as they are used: float32 while hot, a bit for a number when cold.

By how many memories of a collection are used less: from 80 % f32, from 40 % f16, from 10 % pq8, below that binary.
All vectors stay whole in the state file, and those of memories that were never used there alone. What the small codes
lose is measured when they are learnt; a search reads those vectors from the file that the measured error leaves a
chance, so that its scores are the true ones, at worst to half precision.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from ruvllm.errors import REPAIR, StoreError
from ruvllm.index.codecs import CODECS, BinaryCodec, Codec
from ruvllm.index.pq import ProductCodec, sampled
from ruvllm.index.rows import Base, Rows
from ruvllm.index.select import best
from ruvllm.state.record import LITTLE
from ruvllm.state.store import Store

BANDS = {"f32": 0.8, "f16": 0.4, "pq8": 0.1, "binary": 0.0}  # least part of the memories that are used less
_LOSSY = 2  # the first tier whose codes are not as good as vectors
FILE = len(BANDS)  # the tier of what the file alone holds
LEAST = 2_048  # memories below which there is nothing to gain, and too little to learn codes from
_FEW = 64  # vectors that are read from the file without looking at their codes
_MOVED = 0.01  # part of the rows that has to be elsewhere than it belongs before any is moved
_MARGIN = 0.03  # how far beyond its band a memory has to be before it moves
_SPREAD = 2  # ids in a range, for each one wanted, up to which the range is read
_SAMPLE = 10_000  # to learn from; as many others are measured, since what was learnt from looks better than it is
_RELEARN = 4  # codes are learnt again when there are so many times as many memories, until the sample is full
_BLOCK = 1_024  # vectors coded between two pauses
_QUERIES, _NEAR = 128, 100  # vectors searched for when errors are measured, and neighbours of each
_CERTAIN = 0.995  # part of the neighbours whose error lies within the slack

Ids = NDArray[np.int64]
Vectors = NDArray[np.float32]
T = TypeVar("T")


class PagedVectors:
    """Rows of unit vectors in the state file; what has been removed reads as zeros, which no search finds near.

    Args:
        store: the state file.
        ids: int64 (n,), the memory behind each row.
        dim: width of the vectors.
    """

    def __init__(self, store: Store, ids: Ids, dim: int) -> None:
        self._store, self.ids, self.dim = store, ids, dim

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, rows: NDArray[np.integer[Any]]) -> Vectors:
        """float32 (len(rows), dim). Raises StoreError when one is damaged."""
        unordered = self.ids[rows]
        order = unordered.argsort()  # the file is read in its order
        ids = unordered[order]
        found = self._found(ids)
        width = self.dim * LITTLE.itemsize
        if any(len(data) != width for _, data in found):
            raise _damaged()
        read = np.frombuffer(b"".join([data for _, data in found]), LITTLE).reshape(len(found), self.dim)
        lengths = np.sqrt(np.einsum("ij,ij->i", read, read))
        if not np.isfinite(lengths).all():
            raise _damaged()
        out = np.zeros((len(ids), self.dim), np.float32)
        if len(found) < len(ids):
            order = order[np.isin(ids, np.fromiter((i for i, _ in found), np.int64, len(found)))]
        out[order] = read / np.maximum(lengths, np.finfo(np.float32).tiny)[:, None]
        return out

    def _found(self, ids: Ids) -> list[tuple[int, bytes]]:
        """Id and bytes of those of rising ids that are there, rising."""
        if not len(ids):
            return []
        first, last = int(ids[0]), int(ids[-1])
        if len(ids) > 1 and last - first < _SPREAD * len(ids):
            found = self._store.read("SELECT id, data FROM vectors WHERE id BETWEEN ? AND ? ORDER BY id", (first, last))
            if len(found) > len(ids):  # some are another collection's
                wanted = set(ids.tolist())
                found = [row for row in found if row[0] in wanted]
            return found
        # CROSS keeps SQLite to this order: a look-up for each id.
        return self._store.read(
            "SELECT v.id, v.data FROM json_each(?) j CROSS JOIN vectors v ON v.id = j.value",
            (json.dumps(ids.tolist()),),
        )


def _damaged() -> StoreError:
    return StoreError("a vector is damaged", field="state", fix=REPAIR)


def graded(heat: NDArray[np.float64], now: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The tier of each memory: uint8 (n,), places in BANDS; FILE for what was never used.

    Args:
        heat: (n,), how much each is used.
        now: (n,), the tier of each as it is, FILE for one without.
    """
    lows = np.array([*BANDS.values()])
    highs = np.concatenate([[np.inf], lows[:-1]])
    colder = np.searchsorted(np.sort(heat), heat, "left") / max(1, len(heat))
    wanted = (colder[:, None] < lows).sum(1).astype(np.uint8)
    placed = np.minimum(now, FILE - 1)
    stays = (now < FILE) & (colder >= lows[placed] - _MARGIN) & (colder < highs[placed] + _MARGIN)
    return np.where(heat > 0, np.where(stays, now, wanted), FILE).astype(np.uint8)


@dataclass(frozen=True, slots=True)
class _Level:
    """The codes of one tier.

    Attributes:
        codes: uint8 (m, bytes of a code).
        slope, offset: the true score of a neighbour is on average slope * score + offset.
        slack: how far from that nearly all are; 0 where codes are as good as vectors.
    """

    codec: Codec
    codes: NDArray[np.uint8]
    slope: float = 1.0
    offset: float = 0.0
    slack: float = 0.0


class TieredVectors:
    """Unit vectors by tier, as a base of `Rows`.

    Args:
        originals: all of them, whole.
        tiers: uint8 (n,), place in BANDS of each row, or FILE.
        slots: int64 (n,), the place of each row among the codes of its tier.
        levels: the codes of each of BANDS.
        fitted: how many vectors there were when the codes were learnt.
    """

    def __init__(
        self, originals: Base, tiers: NDArray[np.uint8], slots: Ids, levels: Sequence[_Level], fitted: int
    ) -> None:
        self.originals, self.tiers, self.fitted = originals, tiers, fitted
        self.dim = levels[0].codec.dim
        self._slots, self._levels = slots, tuple(levels)

    @classmethod
    async def build(
        cls,
        originals: Base,
        tiers: NDArray[np.uint8],
        before: TieredVectors | None,
        pause: Callable[[], Awaitable[None]],
    ) -> TieredVectors:
        """Code every row for its tier; what was in this tier before is taken over.

        Args:
            originals: n unit vectors.
            tiers: uint8 (n,), place in BANDS of each row, or FILE.
            before: the same rows as they were; more may have come since.
            pause: awaited between slices of the work.
        """
        size = len(tiers)
        fresh = before is None or (before.fitted < 2 * _SAMPLE and size >= _RELEARN * before.fitted)
        learnt = await _learnt(originals, pause) if before is None or fresh else before._levels
        slots, levels = np.full(len(tiers), -1, np.int64), list[_Level]()
        for tier, level in enumerate(learnt):
            rows = np.flatnonzero(tiers == tier).astype(np.int64)
            slots[rows] = np.arange(len(rows))
            codes = np.empty((len(rows), level.codec.bytes_per_vector), np.uint8)
            left = np.ones(len(rows), np.bool_)
            if before is not None and (not fresh or tier < _LOSSY):
                left[rows < len(before)] = before.tiers[rows[rows < len(before)]] != tier
                codes[~left] = before._levels[tier].codes[before._slots[rows[~left]]]
            places = np.flatnonzero(left)
            for start in range(0, len(places), _BLOCK):
                part = places[start : start + _BLOCK]
                codes[part] = level.codec.encode(originals[rows[part]])
                await pause()
            levels.append(_Level(level.codec, codes, level.slope, level.offset, level.slack))
        return cls(originals, tiers, slots, levels, size if fresh or before is None else before.fitted)

    def __len__(self) -> int:
        return len(self.tiers)

    def __getitem__(self, rows: NDArray[np.integer[Any]]) -> Vectors:
        """float32 (len(rows), dim): of small codes the originals, from the file. Raises StoreError: one is damaged."""
        out = np.empty((len(rows), self.dim), np.float32)
        tiers = self.tiers[rows]
        for tier, level in enumerate(self._levels[:_LOSSY]):
            if len(at := np.flatnonzero(tiers == tier)):
                out[at] = level.codec.decode(level.codes[self._slots[rows[at]]])
        lossy = tiers >= _LOSSY
        if lossy.any():
            out[lossy] = self.originals[rows[lossy]]
        return out

    def nearest(self, rows: Ids, query: Vectors, k: int) -> tuple[Ids, Vectors]:
        """The k of these rows whose inner product with unit float32 (dim,) is highest: rows and scores, best first.

        Of small codes those are read from the file that may be among them.
        """
        tiers = self.tiers[rows]
        whole = tiers < _LOSSY
        if len(rows) - np.count_nonzero(whole) <= max(_FEW, k):  # codes would tell little more cheaply
            scores = self[rows] @ query
        else:
            scores, slack = self._estimates(rows, tiers, query)
            least = scores - slack
            floor = -np.inf if len(rows) <= k else np.partition(least, len(rows) - k)[len(rows) - k]
            open_ = ~whole & (scores + slack >= floor)
            scores[~whole & ~open_] = -np.inf
            scores[open_] = self.originals[rows[open_]] @ query
        top = best(scores, k)
        return rows[top], scores[top]

    def _estimates(self, rows: Ids, tiers: NDArray[np.uint8], query: Vectors) -> tuple[Vectors, Vectors]:
        """Scores of rows by their codes, and how far from that the true ones may be."""
        scores, slack = np.zeros(len(rows), np.float32), np.full(len(rows), np.inf, np.float32)
        for tier, level in enumerate(self._levels):
            if len(at := np.flatnonzero(tiers == tier)):
                codes = level.codes[self._slots[rows[at]]]
                scores[at] = level.codec.scores(query, codes) * np.float32(level.slope) + np.float32(level.offset)
                slack[at] = level.slack
        return scores, slack

    def stats(self) -> dict[str, dict[str, int]]:
        """Memories and bytes of each tier; of "file", what no tier holds."""
        names = [*BANDS, "file"]
        counts = np.bincount(self.tiers, minlength=len(names)).tolist()
        sizes = [level.codec.bytes_per_vector for level in self._levels] + [0]
        return {
            name: {"count": count, "bytes": count * size}
            for name, count, size in zip(names, counts, sizes, strict=True)
            if count or name != "file"
        }

    def packed(self, rows: Ids) -> dict[str, NDArray[Any]]:
        """Tiers, codes and what decodes them as arrays, of these rows in this order; float32 is left to the file."""
        tiers = self.tiers[rows]
        out: dict[str, NDArray[Any]] = {"tiers": tiers, "fitted": np.array([self.fitted], np.int64)}
        out["errors"] = np.array([[level.slope, level.offset, level.slack] for level in self._levels])
        for tier, (name, level) in enumerate(zip(BANDS, self._levels, strict=True)):
            if tier:
                out[name] = level.codes[self._slots[rows[tiers == tier]]]
            for field in _MODELS.get(name, ()):
                out[f"{name}-{field}"] = getattr(level.codec, field)
        return out

    @classmethod
    def unpacked(cls, arrays: Mapping[str, NDArray[Any]], ids: Ids, originals: Base, wanted: Ids) -> TieredVectors:
        """What was packed, for other rows; what was not packed is left to the file.

        Args:
            ids: int64 (n,), rising, the memory of each packed row.
            originals: the vectors of `wanted`.
            wanted: int64 (m,), the memory of each row of the result.

        Raises:
            ValueError: the arrays do not fit each other.
        """
        try:
            tiers, errors, dim = arrays["tiers"], arrays["errors"], len(arrays["binary-mean"])
            codecs, fitted = [_codec(name, arrays, dim) for name in BANDS], int(arrays["fitted"][0])
            packed = [arrays[name] for name in [*BANDS][1:]]
        except (KeyError, IndexError, TypeError) as error:
            raise ValueError(f"an array is missing or of another shape: {error}") from None
        sound = tiers.shape == ids.shape and tiers.dtype == np.uint8 and tiers.max(initial=0) <= FILE
        if not sound or (np.diff(ids) <= 0).any():
            raise ValueError("the tiers are not those of the memories")
        if errors.shape != (len(BANDS), 3) or errors.dtype != np.float64 or not np.isfinite(errors).all():
            raise ValueError("the errors of the codes do not fit")
        slots = np.full(len(ids), -1, np.int64)
        for tier in range(len(BANDS)):
            slots[tiers == tier] = np.arange(count := int((tiers == tier).sum()))
            shape = (count, codecs[tier].bytes_per_vector)
            if tier and (packed[tier - 1].shape != shape or packed[tier - 1].dtype != np.uint8):
                raise ValueError(f"the codes of tier {tier} do not fit")
        places = np.minimum(ids.searchsorted(wanted), max(0, len(ids) - 1))
        there = ids[places] == wanted if len(ids) else np.zeros(len(wanted), np.bool_)
        tiers = np.where(there, tiers[places], np.uint8(FILE)).astype(np.uint8)
        slots = np.where(there, slots[places], -1)
        hot = np.flatnonzero(tiers == 0)
        slots[hot] = np.arange(len(hot))
        codes = [codecs[0].encode(originals[hot]), *packed]
        levels = [_Level(codecs[i], codes[i], *errors[i].tolist()) for i in range(len(BANDS))]
        return cls(originals, tiers, slots, levels, fitted)


async def retiered(
    rows: Rows, ids: Ids, heat: NDArray[np.float64], store: Store, pause: Callable[[], Awaitable[None]]
) -> TieredVectors | None:
    """The vectors of rows by how much they are used; None where that is hardly otherwise than it was, or never was.

    Args:
        ids, heat: int64 (n,) rising and float64 (n,), how much each memory is used.
        store: holds the originals.
        pause: awaited between slices of the work; where it raises, nothing has changed.
    """
    view, base = rows.view, rows.view.base
    before = base if isinstance(base, TieredVectors) else None
    living = np.flatnonzero(view.penalty == 0)
    living = living[view.ids[living].argsort(kind="stable")]
    places = np.minimum(view.ids[living].searchsorted(ids), max(0, len(living) - 1))
    there = view.ids[living][places] == ids
    at = living[places[there]]
    now = np.full(view.size, FILE, np.uint8)
    if before is not None:
        now[: len(before)] = before.tiers
    tiers = np.full(view.size, FILE, np.uint8)
    tiers[at] = graded(heat[there], now[at])
    if (tiers != now).mean() < _MOVED:
        return None
    return await TieredVectors.build(PagedVectors(store, view.ids.copy(), rows.dim), tiers, before, pause)


_LEARNT: dict[str, type[ProductCodec] | type[BinaryCodec]] = {"pq8": ProductCodec, "binary": BinaryCodec}
_MODELS = {"pq8": ("mean", "turn", "stretch", "books"), "binary": ("mean", "rotation")}  # what a codec has learnt


def _codec(name: str, arrays: Mapping[str, NDArray[Any]], dim: int) -> Codec:
    """A codec as it was packed. Raises ValueError: it does not decode what it encodes."""
    models = [arrays[f"{name}-{field}"] for field in _MODELS.get(name, ())]
    codec: Codec = _LEARNT[name](*models) if models else CODECS[name].fit(np.empty((0, dim), np.float32))
    some = np.eye(1, dim, dtype=np.float32)
    if any(model.dtype != np.float32 or not np.isfinite(model).all() for model in models):
        raise ValueError(f"{name} holds what are no finite numbers")
    if codec.decode(codec.encode(some)).shape != some.shape:
        raise ValueError(f"{name} is of another width")
    return codec


async def _learnt(originals: Base, pause: Callable[[], Awaitable[None]]) -> list[_Level]:
    """Codecs without codes, learnt from half of a sample and measured on the other half."""
    rows = sampled(np.arange(len(originals), dtype=np.int64), 2 * _SAMPLE, 0)
    parts = list[Vectors]()
    for start in range(0, len(rows), _BLOCK):
        parts.append(np.asarray(originals[rows[start : start + _BLOCK]], np.float32))
        await pause()
    sample = np.concatenate(parts)
    sample = sample[sample.any(1)]  # without what has been removed
    levels = list[_Level]()
    for name in BANDS:
        codec: Codec
        if name in _LEARNT:
            codec = await _paused(_LEARNT[name].steps(sample[::2]), pause)
        else:
            codec = CODECS[name].fit(sample)
        error = _error(codec, sample[1::2]) if codec.lossy else (1.0, 0.0, 0.0)
        levels.append(_Level(codec, np.empty((0, codec.bytes_per_vector), np.uint8), *error))
        await pause()
    return levels


async def _paused(steps: Generator[None, None, T], pause: Callable[[], Awaitable[None]]) -> T:
    """What a generator returns, pausing at each of its yields."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            result: T = end.value
            return result
        await pause()


def _error(codec: Codec, vectors: Vectors) -> tuple[float, float, float]:
    """(slope, offset, slack) of the scores of float32 (n, dim) by their codes, among the nearest of some of them."""
    codes, n = codec.encode(vectors), len(vectors)
    coded, true = list[Vectors](), list[Vectors]()
    for row in np.random.default_rng(0).choice(n, min(_QUERIES, n), replace=False).tolist():
        exact = vectors @ vectors[row]
        near = best(exact, min(_NEAR + 1, n))[1:]
        coded.append(codec.scores(vectors[row], codes[near]))
        true.append(exact[near])
    x, y = np.concatenate(coded), np.concatenate(true)
    spread = float(np.var(x))
    slope = float(np.mean((x - x.mean()) * (y - y.mean()))) / spread if spread > 0 else 1.0
    offset = float(y.mean()) - slope * float(x.mean())
    slack = float(np.quantile(np.abs(y - slope * x - np.float32(offset)), _CERTAIN))
    return slope, offset, max(slack, 1e-6)
