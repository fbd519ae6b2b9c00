"""The pages of a state file as they lie on disk, with those of its write-ahead log over them.

Format: sqlite.org/fileformat2.html. Nothing here trusts the file: every number is bounded before it is used.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

__all__ = ["Pages"]

_SIZES = (4096, 1024, 2048, 8192, 16384, 32768, 65536, 512)
_FLAGS = (2, 5, 10, 13)  # interior and leaf of an index, of a table
_SAMPLE = 64
_MOST_BEYOND = 1 << 20  # pages after the file's end that a log's word is taken for
_WAL_MAGIC = {0x377F0682: "<", 0x377F0683: ">"}


class Pages:
    """Pages by number, from 1; what a cut file lacks of its last page reads as zeros.

    Args:
        path: the file; its -wal is read when there is one.
    """

    def __init__(self, path: str | Path) -> None:
        self._file: BinaryIO = open(path, "rb")  # noqa: SIM115 - closed by __exit__
        self._length = os.fstat(self._file.fileno()).st_size
        header = self._file.read(100).ljust(100, b"\0")
        wal = Path(f"{path}-wal")
        self._wal: BinaryIO | None = open(wal, "rb") if wal.exists() else None  # noqa: SIM115
        told = [_size(header[16:18]), self._wal_size()]
        self.size = max([size for size in told if size] + list(_SIZES), key=self._plausible)
        self.usable = self.size - (header[20] if self.size - header[20] >= 480 else 0)
        self.count = self._whole = -(-self._length // self.size)
        self._over: dict[int, int] = {}  # page -> where in the log
        if self._wal:
            self._read_log(self._wal)

    def __enter__(self) -> Pages:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._file.close()
        if self._wal:
            self._wal.close()

    def read(self, number: int) -> bytes:
        """One page's bytes; the number must be from 1 to `count`."""
        if self._wal and number in self._over:
            return _at(self._wal, self._over[number], self.size)
        return _at(self._file, (number - 1) * self.size, self.size)

    def there(self) -> Iterator[int]:
        """The numbers of those that the file or its log has."""
        yield from range(1, self._whole + 1)
        yield from sorted(number for number in self._over if self._whole < number <= self.count)

    def _plausible(self, size: int) -> int:
        """How many of the first pages would begin like one of a tree."""
        return sum(
            _at(self._file, i * size, 1)[0] in _FLAGS and 0 < _content(_at(self._file, i * size, 8), size) <= size
            for i in range(1, min(_SAMPLE, self._length // size))
        )

    def _wal_size(self) -> int:
        if not self._wal:
            return 0
        size = int.from_bytes(_at(self._wal, 8, 4), "big")
        return size if size in _SIZES else 0

    def _read_log(self, wal: BinaryIO) -> None:
        """Take what was committed: frames whose salts and running checksum hold, up to the last commit among them."""
        header = _at(wal, 0, 32)
        magic, _, size, _, salt, pepper, *told = struct.unpack(">8I", header)
        if magic not in _WAL_MAGIC or size != self.size:
            return
        order, sums = _WAL_MAGIC[magic], (0, 0)
        sums = _checksum(header[:24], order, sums)
        if sums != tuple(told):
            return
        waiting, at, length = dict[int, int](), 32, os.fstat(wal.fileno()).st_size
        while at + 24 + size <= length:
            frame = _at(wal, at, 24)
            number, commit, *salts, first, second = struct.unpack(">6I", frame)
            sums = _checksum(_at(wal, at + 24, size), order, _checksum(frame[:8], order, sums))
            if salts != [salt, pepper] or sums != (first, second) or not number:
                return
            waiting[number] = at + 24
            if commit:
                self._over |= waiting
                self.count = max(self.count, min(commit, self._whole + _MOST_BEYOND))
                waiting = {}
            at += 24 + size


def _at(file: BinaryIO, at: int, length: int) -> bytes:
    file.seek(at)
    return file.read(length).ljust(length, b"\0")


def _size(field: bytes) -> int:
    size = int.from_bytes(field, "big")
    size = 65536 if size == 1 else size
    return size if size in _SIZES else 0


def _content(head: bytes, size: int) -> int:
    """Where a page says that its cells begin."""
    start = int.from_bytes(head[5:7], "big")
    return start or 65536 if size == 65536 else start


def _checksum(data: bytes, order: str, sums: tuple[int, int]) -> tuple[int, int]:
    first, second = sums
    words = struct.unpack(f"{order}{len(data) // 4}I", data)
    for one, other in zip(words[::2], words[1::2], strict=True):
        first = (first + one + second) & 0xFFFFFFFF
        second = (second + other + first) & 0xFFFFFFFF
    return first, second
