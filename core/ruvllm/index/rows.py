"""The vectors an index holds: growing arrays, rows for ids, what is deleted and what a filter lets through."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ruvllm.errors import InputError

__all__ = ["Mask", "Rows", "grown"]

_T = TypeVar("_T", bound=np.generic)

_SPARE = 64  # rows of room in a new array
_DEAD = np.uint8(255)
_STALE = 0.25  # share of deleted rows from which they are worth squeezing out


@dataclass(frozen=True)
class Mask:
    """Which rows of one index at one moment may be found.

    Attributes:
        version: of the rows it was made for.
        penalty: uint8 (rows,), 0 where a row may be found and 255 elsewhere.
        count: how many rows it lets through.
    """

    version: int
    penalty: NDArray[np.uint8]
    count: int

    @cached_property
    def wide(self) -> NDArray[np.uint16]:
        """The penalty for distances that outgrow a byte."""
        return self.penalty.astype(np.uint16) << np.uint16(8)

    @cached_property
    def rows(self) -> NDArray[np.int64]:
        """The rows that it lets through."""
        return np.flatnonzero(self.penalty == 0).astype(np.int64)


class Rows:
    """Ids and vectors in the order they came; deleted rows stay, penalised, until `squeeze`.

    Args:
        dim: width of the vectors.
        unit: scale each vector to length one.
        base: vectors that lie elsewhere (a memory map), float16 or float32 (n, dim), unit where `unit` is set;
            they are the first rows, and only read.
        base_ids: int64 (n,) their ids, rising.
    """

    def __init__(
        self,
        dim: int,
        *,
        unit: bool,
        base: NDArray[np.float32] | None = None,
        base_ids: NDArray[np.int64] | None = None,
    ) -> None:
        if dim < 1:
            raise InputError(f"dim is {dim}", field="dim", fix="give the width of the vectors, at least 1")
        self.dim, self.unit = dim, unit
        self.base = base
        self.below = 0 if base is None else len(base)  # rows of the base
        self.size = self.below  # rows in all, deleted ones too
        self.dead = 0
        self.version = 0
        self._ids = np.empty(0, np.int64) if base_ids is None else base_ids
        self._tail = np.empty((0, dim), np.float32)
        self._penalty = np.zeros(self.below, np.uint8)
        # Rising ids (a database's row ids) are found by bisection; a dict is built once they are not.
        self._rows: dict[int, int] | None = None

    def __len__(self) -> int:
        return self.size - self.dead

    @property
    def ids(self) -> NDArray[np.int64]:
        """int64 (size,)."""
        return self._ids[: self.size]

    @property
    def penalty(self) -> NDArray[np.uint8]:
        """uint8 (size,), 0 for a living row and 255 for a deleted one."""
        return self._penalty[: self.size]

    @property
    def vectors(self) -> NDArray[np.float32]:
        """float32 (size, dim); of a base, all of it is read."""
        if self.base is None:
            return self._tail[: self.size]
        return np.concatenate([np.asarray(self.base, np.float32), self._tail[: self.size - self.below]])

    def take(self, rows: NDArray[np.integer]) -> NDArray[np.float32]:
        """float32 (len(rows), dim)."""
        if self.base is None:
            return self._tail.take(rows, 0)
        above = rows >= self.below
        if not above.any():
            return np.asarray(self.base[rows], np.float32)
        out = np.empty((len(rows), self.dim), np.float32)
        out[~above], out[above] = self.base[rows[~above]], self._tail[rows[above] - self.below]
        return out

    def block(self, start: int, stop: int) -> NDArray[np.float32]:
        """float32 (stop - start, dim) of rows in a line."""
        if self.base is None:
            return self._tail[start:stop]
        return self.take(np.arange(start, stop))

    def add(self, ids: ArrayLike, vectors: ArrayLike) -> tuple[int, int]:
        """Append; returns the first row and the one after the last."""
        new_ids, new, lengths = self._checked(ids, vectors)
        known = self.find(new_ids) if self.size else np.empty(0, np.int64)
        if len(known):
            self._kill(known)
        start, stop = self.size, self.size + len(new_ids)
        rising = (
            not len(known) and (start == 0 or new_ids[:1] > self._ids[start - 1]) and bool((np.diff(new_ids) > 0).all())
        )
        if self._rows is None and not rising:
            live = np.flatnonzero(self._penalty[:start] == 0)
            self._rows = dict(zip(self._ids[live].tolist(), live.tolist(), strict=True))
        self._ids = grown(self._ids, stop)
        self._tail = grown(self._tail, stop - self.below)
        self._penalty = grown(self._penalty, stop)
        self._ids[start:stop] = new_ids
        room = self._tail[start - self.below : stop - self.below]
        if self.unit:
            np.divide(new, lengths[:, None], out=room)
        else:
            room[:] = new
        self._penalty[start:stop] = 0
        if self._rows is not None:
            self._rows.update(zip(new_ids.tolist(), range(start, stop), strict=True))
        self.size = stop
        self.version += 1
        return start, stop

    def remove(self, ids: ArrayLike) -> NDArray[np.int64]:
        """Delete; returns the rows that fell."""
        rows = self.find(checked_ids(ids))
        if len(rows):
            self._kill(rows)
            self.version += 1
        return rows

    def find(self, ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """The rows of those ids that are there, each once."""
        if self._rows is not None:
            known = (self._rows.get(i) for i in set(ids.tolist()))
            return np.array([row for row in known if row is not None], np.int64)
        if not self.size or not len(ids):
            return np.empty(0, np.int64)
        held = self._ids[: self.size]
        rows = np.minimum(np.searchsorted(held, ids), self.size - 1).astype(np.int64)
        return np.unique(rows[(held[rows] == ids) & (self._penalty[rows] == 0)])

    def mask(self, ids: ArrayLike) -> Mask:
        """A mask that lets these ids through."""
        rows = self.find(checked_ids(ids))
        penalty = np.full(self.size, _DEAD)
        penalty[rows] = 0
        return Mask(self.version, penalty, len(rows))

    def allowed(self, filter: Mask | ArrayLike | None) -> Mask | None:
        """What a search may find; None when that is everything."""
        if filter is None:
            return self._living if self.dead else None
        mask = filter if isinstance(filter, Mask) else self.mask(filter)
        if mask.version != self.version or len(mask.penalty) != self.size:
            raise InputError("the mask was made before the index changed", field="filter", fix="make a new mask")
        return mask

    def squeeze(self) -> bool:
        """Drop deleted rows where that is worth it; True if rows moved. Rows of a base stay."""
        if self.base is not None or self.dead < max(_SPARE, _STALE * self.size):
            return False
        live = np.flatnonzero(self._penalty[: self.size] == 0)
        ids, vectors = self._ids[live], self._tail[live]
        self._ids, self._tail, self._penalty = ids, vectors, np.zeros(len(live), np.uint8)
        self.size, self.dead = len(live), 0
        self._rows = None if bool((np.diff(ids) > 0).all()) else dict(zip(ids.tolist(), range(len(ids)), strict=True))
        self.version += 1
        return True

    @property
    def _living(self) -> Mask:
        if getattr(self, "_alive", None) is None or self._alive.version != self.version:
            self._alive: Mask = Mask(self.version, self._penalty[: self.size].copy(), len(self))
        return self._alive

    def _kill(self, rows: NDArray[np.int64]) -> None:
        self._penalty[rows] = _DEAD
        self.dead += len(rows)
        if self._rows is not None:
            for i in self._ids[rows].tolist():
                self._rows.pop(i, None)

    def _checked(
        self, ids: ArrayLike, vectors: ArrayLike
    ) -> tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.float32]]:
        new_ids, new = checked_ids(ids), np.atleast_2d(np.asarray(vectors, np.float32))
        if new.ndim != 2 or new.shape != (len(new_ids), self.dim):
            fix = f"give float32 ({len(new_ids)}, {self.dim}), a row for each id"
            raise InputError(f"vectors have shape {new.shape}", field="vectors", fix=fix)
        if len(new_ids) > 1 and len(np.unique(new_ids)) < len(new_ids):
            raise InputError("an id comes twice", field="ids", fix="give each id once a call")
        lengths = np.sqrt(np.einsum("ij,ij->i", new, new))
        if not np.isfinite(lengths).all():
            raise InputError("a vector is not finite", field="vectors", fix="leave out NaN, infinity and huge numbers")
        if self.unit and not lengths.all():
            raise InputError("a vector is zero", field="vectors", fix="a zero vector has no direction: leave it out")
        return new_ids, new, lengths


def checked_ids(ids: ArrayLike) -> NDArray[np.int64]:
    """int64 (n,)."""
    array = np.atleast_1d(np.asarray(ids))
    if array.ndim != 1 or (array.size and array.dtype.kind not in "iu"):
        raise InputError(f"ids are {array.dtype} {array.shape}", field="ids", fix="give whole numbers in one row")
    return array.astype(np.int64)


def grown(array: NDArray[_T], size: int) -> NDArray[_T]:
    """The array with room for `size` rows: doubled when it is too small, so that appending stays cheap."""
    if len(array) >= size:
        return array
    bigger = np.empty((max(size, 2 * len(array), _SPARE), *array.shape[1:]), array.dtype)
    bigger[: len(array)] = array
    return bigger
