"""The vectors an index holds: growing arrays, rows for ids, and what is deleted."""

from __future__ import annotations

import math
import threading
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ruvllm.errors import InputError

DEAD = np.uint8(255)
_NONE = np.empty(0, np.int64)
MASKED = 0xFF00  # the same among distances that outgrow a byte


class Base(Protocol):
    """Vectors that lie elsewhere: a memory map, or what reads them from a file when asked."""

    def __len__(self) -> int: ...

    def __getitem__(self, rows: Any, /) -> Any:
        """float16 or float32 (n, dim) for int64 (n,) rows."""
        ...


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
        return np.where(self.penalty == 0, np.uint16(0), np.uint16(MASKED))

    @cached_property
    def endless(self) -> NDArray[np.float32]:
        """The penalty for scores: 0 or -inf."""
        return np.where(self.penalty == 0, np.float32(0), np.float32(-np.inf))

    @cached_property
    def rows(self) -> NDArray[np.int64]:
        """The rows that it lets through."""
        return np.flatnonzero(self.penalty == 0).astype(np.int64)


@dataclass(eq=False)  # frozen, it would take twice as long to make, with each vector added
class View:
    """Rows at one moment. Writers append behind it or copy what they change, so nothing in it ever moves.

    Attributes:
        version: counts the changes.
        epoch: counts the times rows moved: what was computed by row number in another epoch is void.
        ids: int64 (size,).
        penalty: uint8 (size,), 0 for a living row and 255 for a deleted one.
        dead: how many are deleted.
        tail: float32 (size - below, dim).
        base: float16 or float32 (below, dim), the rows before the tail.
    """

    version: int
    epoch: int
    ids: NDArray[np.int64]
    penalty: NDArray[np.uint8]
    dead: int
    tail: NDArray[np.float32]
    base: Base | None

    @cached_property
    def size(self) -> int:
        """Rows, deleted ones too."""
        return len(self.ids)

    @property
    def living(self) -> int:
        """Rows that can be found."""
        return self.size - self.dead

    def take(self, rows: NDArray[np.integer]) -> NDArray[np.float32]:
        """float32 (len(rows), dim)."""
        if self.base is None:
            return self.tail.take(rows, 0)
        below = len(self.base)
        above = rows >= below
        if not above.any():
            return np.asarray(self.base[rows], np.float32)
        out = np.empty((len(rows), self.tail.shape[1]), np.float32)
        out[~above], out[above] = self.base[rows[~above]], self.tail[rows[above] - below]
        return out

    def block(self, start: int, stop: int) -> NDArray[np.float32]:
        """float32 (stop - start, dim) of rows in a line."""
        if self.base is None:
            return self.tail[start:stop]
        return self.take(np.arange(start, stop))

    def allowed(self, mask: Mask | None) -> Mask | None:
        """What a search may find; None when that is everything."""
        if mask is None:
            return self._alive if self.dead else None
        if mask.version != self.version or len(mask.penalty) != self.size:
            raise InputError("the mask was made before the index changed", field="filter", fix="make a new mask")
        return mask

    @cached_property
    def _alive(self) -> Mask:
        return Mask(self.version, self.penalty, self.living)


_T = TypeVar("_T", bound=np.generic)

_SPARE = 64  # rows of room in a new array
_STALE = 0.25  # share of deleted rows from which they are worth squeezing out


class Rows:
    """Ids and vectors in the order they came; deleted rows stay, penalised, until `squeeze`.

    One thread writes at a time (hold `lock`); any number read `view`, which is replaced by every change.

    Args:
        dim: width of the vectors.
        unit: scale each vector to length one.
        base: vectors that lie elsewhere (a memory map, a file), float16 or float32 (n, dim), unit where `unit` is set;
            they are the first rows, and only read.
        base_ids: int64 (n,) their ids, rising.
    """

    def __init__(
        self,
        dim: int,
        *,
        unit: bool,
        base: Base | None = None,
        base_ids: NDArray[np.int64] | None = None,
    ) -> None:
        if dim < 1:
            raise InputError(f"dim is {dim}", field="dim", fix="give the width of the vectors, at least 1")
        self.dim, self.unit = dim, unit
        self.lock = threading.RLock()
        self._ids = np.empty(0, np.int64) if base_ids is None else base_ids
        self._tail = np.empty((0, dim), np.float32)
        self._penalty = np.zeros(0 if base is None else len(base), np.uint8)
        # Rising ids (a database's row ids) are found by bisection; a dict is built once they are not.
        self._rows: dict[int, int] | None = None
        self.remaining: NDArray[np.int64] | None = None  # the rows that the last squeeze left, by their numbers before
        self.view = View(0, 0, self._ids, self._penalty, 0, self._tail, base)

    def __len__(self) -> int:
        return self.view.living

    @property
    def size(self) -> int:
        """Rows in all, deleted ones too."""
        return self.view.size

    @property
    def version(self) -> int:
        """Counts the changes."""
        return self.view.version

    @property
    def ids(self) -> NDArray[np.int64]:
        """int64 (size,)."""
        return self.view.ids

    @property
    def penalty(self) -> NDArray[np.uint8]:
        """uint8 (size,), 0 for a living row and 255 for a deleted one."""
        return self.view.penalty

    def take(self, rows: NDArray[np.integer]) -> NDArray[np.float32]:
        """float32 (len(rows), dim)."""
        return self.view.take(rows)

    def block(self, start: int, stop: int) -> NDArray[np.float32]:
        """float32 (stop - start, dim) of rows in a line."""
        return self.view.block(start, stop)

    def add(self, ids: ArrayLike, vectors: ArrayLike) -> tuple[int, int]:
        """Append; returns the first row and the one after the last."""
        new_ids, new, lengths = self._checked(ids, vectors)
        with self.lock:
            view = self.view
            start, stop = view.size, view.size + len(new_ids)
            below = start - len(view.tail)
            older = _NONE
            if not self._follow(new_ids, start):
                older = self.find(new_ids)
                if len(older):
                    self._kill(older)
                self._index(new_ids, start)
            self._ids = grown(self._ids, stop)
            self._tail = grown(self._tail, stop - below)
            self._penalty = grown(self._penalty, stop)
            self._ids[start:stop] = new_ids
            room = self._tail[start - below : stop - below]
            if self.unit:
                np.divide(new, lengths[:, None], out=room)
            else:
                room[:] = new
            self._penalty[start:stop] = 0
            self._show(stop, view.dead + len(older))
        return start, stop

    def remove(self, ids: ArrayLike) -> NDArray[np.int64]:
        """Delete; returns the rows that fell."""
        with self.lock:
            rows = self.find(checked_ids(ids))
            if len(rows):
                self._kill(rows)
                self._show(self.size, self.view.dead + len(rows))
        return rows

    def find(self, ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """The rows of those ids that are there, each once."""
        with self.lock:
            if self._rows is not None:
                found = (self._rows.get(i) for i in set(ids.tolist()))
                return np.array([row for row in found if row is not None], np.int64)
            view = self.view
            if not view.size or not len(ids):
                return np.empty(0, np.int64)
            rows = view.ids.searchsorted(ids)
            found = rows[view.ids.take(rows, mode="clip") == ids].astype(np.int64)
            if view.dead:
                found = found[view.penalty[found] == 0]
            return found if (found[1:] > found[:-1]).all() else np.unique(found)

    def mask(self, ids: ArrayLike) -> Mask:
        """A mask that lets these ids through."""
        wanted = checked_ids(ids, "filter")
        with self.lock:
            rows = self.find(wanted)
            penalty = np.full(self.size, DEAD)
            penalty[rows] = 0
            return Mask(self.view.version, penalty, len(rows))

    def allowed(self, filter: Mask | ArrayLike | None) -> Mask | None:
        """What a search may find; None when that is everything."""
        mask = filter if filter is None or isinstance(filter, Mask) else self.mask(filter)
        return self.view.allowed(mask)

    def squeeze(self) -> bool:
        """Drop deleted rows where that is worth it; True if rows moved. Rows of a base stay."""
        with self.lock:
            view = self.view
            if view.base is not None or view.dead < max(_SPARE, _STALE * view.size):
                return False
            live = np.flatnonzero(view.penalty == 0).astype(np.int64)
            ids, self._tail = view.ids[live], view.tail[live]
            self.remaining = live
            self._ids, self._penalty = ids, np.zeros(len(live), np.uint8)
            rising = bool((ids[1:] > ids[:-1]).all())
            self._rows = None if rising else dict(zip(ids.tolist(), range(len(ids)), strict=True))
            self._show(len(live), 0, view.epoch + 1)
        return True

    def rebase(self, base: Base) -> None:
        """Take the first len(base) vectors, those of the base before and more, from elsewhere; rows do not move."""
        with self.lock:
            view = self.view
            self._tail = self._tail[len(base) - view.size + len(view.tail) :].copy()
            tail = self._tail[: view.size - len(base)]
            self.view = View(view.version + 1, view.epoch, view.ids, view.penalty, view.dead, tail, base)

    def _show(self, size: int, dead: int, epoch: int | None = None) -> None:
        """Let readers see the first `size` rows."""
        old = self.view
        below = 0 if old.base is None else len(old.base)
        epoch = old.epoch if epoch is None else epoch
        tail = self._tail[: size - below]
        self.view = View(old.version + 1, epoch, self._ids[:size], self._penalty[:size], dead, tail, old.base)

    def _follow(self, new_ids: NDArray[np.int64], start: int) -> bool:
        """Whether the ids go on rising, so that bisection finds them and none of them was there."""
        if self._rows is not None:
            return False
        if start and len(new_ids) and new_ids[0] <= self._ids[start - 1]:
            return False
        return len(new_ids) < 2 or bool((new_ids[1:] > new_ids[:-1]).all())

    def _index(self, new_ids: NDArray[np.int64], start: int) -> None:
        """Make the new rows findable by id."""
        if self._rows is None:
            live = np.flatnonzero(self._penalty[:start] == 0)
            self._rows = dict(zip(self._ids[live].tolist(), live.tolist(), strict=True))
        self._rows.update(zip(new_ids.tolist(), range(start, start + len(new_ids)), strict=True))

    def _kill(self, rows: NDArray[np.int64]) -> None:
        self._penalty = self._penalty.copy()  # the views of readers stay as they were
        self._penalty[rows] = DEAD
        if self._rows is not None:
            for i in self._ids[rows].tolist():
                self._rows.pop(i, None)

    def _checked(
        self, ids: ArrayLike, vectors: ArrayLike
    ) -> tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.float32]]:
        new_ids, new = checked_ids(ids), np.atleast_2d(floats(vectors, "vectors"))
        if not new.size and not len(new_ids):
            new = new.reshape(0, self.dim)
        if new.ndim != 2 or new.shape != (len(new_ids), self.dim):
            fix = f"give float32 ({len(new_ids)}, {self.dim}), a row for each id"
            raise InputError(f"vectors have shape {new.shape}", field="vectors", fix=fix)
        if len(new_ids) > 1 and len(np.unique(new_ids)) < len(new_ids):
            raise InputError("an id comes twice", field="ids", fix="give each id once a call")
        if len(new_ids) == 1:  # what suits many costs one vector more than all the rest
            least = total = math.sqrt(float(new[0].dot(new[0])))
            lengths = np.array([total], np.float32)
        else:
            lengths = np.sqrt(np.einsum("ij,ij->i", new, new))
            least, total = float(lengths.min(initial=1)), float(lengths.sum(dtype=np.float64))
        if not math.isfinite(total):
            raise InputError("a vector is not finite", field="vectors", fix="leave out NaN, infinity and huge numbers")
        if self.unit and not least:
            raise InputError("a vector is zero", field="vectors", fix="a zero vector has no direction: leave it out")
        return new_ids, new, lengths


def floats(values: ArrayLike, field: str) -> NDArray[np.float32]:
    """float32, contiguous. Raises InputError: no numbers, or rows of different lengths."""
    try:
        return np.ascontiguousarray(values, np.float32)
    except (TypeError, ValueError) as error:
        raise InputError(f"{field} are no array of numbers", field=field, fix="give float32") from error


def checked_ids(ids: ArrayLike, field: str = "ids") -> NDArray[np.int64]:
    """int64 (n,)."""
    array = np.atleast_1d(np.asarray(ids))
    if array.ndim != 1 or (array.size and array.dtype.kind not in "iu"):
        raise InputError(f"{field} are {array.dtype} {array.shape}", field=field, fix="give whole numbers in one row")
    if array.dtype == np.uint64 and (array > np.uint64(np.iinfo(np.int64).max)).any():
        raise InputError("an id outgrows 64 bits", field=field, fix="give whole numbers below 2**63")
    return array.astype(np.int64, copy=False)


def grown(array: NDArray[_T], size: int) -> NDArray[_T]:
    """The array with room for `size` rows: doubled when it is too small, so that appending stays cheap."""
    if len(array) >= size:
        return array
    bigger = np.empty((max(size, 2 * len(array), _SPARE), *array.shape[1:]), array.dtype)
    bigger[: len(array)] = array
    return bigger
