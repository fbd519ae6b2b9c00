"""What an index holds at one moment: vectors that readers can trust while a writer goes on."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ruvllm.errors import InputError

__all__ = ["DEAD", "MASKED", "Base", "Mask", "View"]

DEAD = np.uint8(255)
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


@dataclass(frozen=True)
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

    @property
    def vectors(self) -> NDArray[np.float32]:
        """float32 (size, dim); of a base, all of it is read."""
        if self.base is None:
            return self.tail
        return np.concatenate([np.asarray(self.base[np.arange(len(self.base))], np.float32), self.tail])

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
