"""Rows out of a file that SQLite itself can no longer read: cut short, bits flipped, the header gone.

Trees are followed from the roots that the schema names; pages that no tree reaches any more are taken as what
their records look like. Each page is used once, so that no loop of pointers, however made, runs for ever.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

from ruvllm.state.repair.shapes import Shape, shapes

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
        stated = [_size(header[16:18]), self._wal_size()]
        self.size = max([size for size in stated if size] + list(_SIZES), key=self._plausible)
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
        magic, _, size, _, salt, pepper, *checksums = struct.unpack(">8I", header)
        if magic not in _WAL_MAGIC or size != self.size:
            return
        order, sums = _WAL_MAGIC[magic], (0, 0)
        sums = _checksum(header[:24], order, sums)
        if sums != tuple(checksums):
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


Row = tuple[str, tuple[Any, ...]]  # table, its columns in the order of its shape

_INDEX_INNER, _TABLE_INNER, _INDEX_LEAF, _TABLE_LEAF = 2, 5, 10, 13
_INTEGERS = {1: 1, 2: 2, 3: 3, 4: 4, 5: 6, 6: 8}  # serial type -> bytes
_MOST_COLUMNS = 64
_MOST_BYTES = 1 << 28  # of one record
_BROKEN = (ValueError, IndexError, struct.error)


def salvage(path: str | Path) -> Iterator[Row]:
    """All rows that can still be read, of tables that ruvllm knows; the likelier reading of a row comes first."""
    with Pages(path) as pages:
        yield from _Salvage(pages).rows()


class _Salvage:
    def __init__(self, pages: Pages) -> None:
        self.pages = pages
        self.used = bytearray(pages.count + 1)  # page -> whether something has claimed it
        self.used[0] = 1
        self.broken = False  # whether a tree had a hole

    def rows(self) -> Iterator[Row]:
        expected, roots = shapes(), self._roots()
        for name, shape in expected.items():
            if name in roots:
                for rowid, values in self._walk(roots.pop(name)):
                    row = shape.row(values, rowid)
                    if row is not None:
                        yield name, row
            elif name == "feedback":
                self.broken = True  # every version has it
        for root in roots.values():  # indexes: their pages are no orphans
            for _ in self._walk(root):
                pass
        # A page given back keeps what it held. Without the list of those, only a hole justifies reading them.
        if self._mark_free() or self.broken:
            yield from self._orphans()

    def _roots(self) -> dict[str, int]:
        """Table or index -> root page, from the schema's tree or, failing that, from anything that looks like it."""
        found = dict[str, int]()
        whole = self._schema(self._walk(1), found) if self.pages.count else 0
        if self.broken or not whole:
            before, entries = bytes(self.used), list[int]()
            for number in self.pages.there():
                leaf = not self.used[number] and self.pages.read(number)[0] == _TABLE_LEAF
                if leaf and self._schema(self._page(number, []), found):
                    entries.append(number)
            self.used[:] = before  # a look is no claim
            for number in entries:
                self.used[number] = 1
            self.broken = True
        return found

    def _schema(self, records: Iterator[tuple[int, tuple[Any, ...]]], found: dict[str, int]) -> int:
        """Take entries of the schema among records; returns how many there were."""
        entries = 0
        for _, values in records:
            if len(values) == 5 and values[0] in ("table", "index") and isinstance(values[1], str):
                entries += 1
                if isinstance(values[3], int) and 1 < values[3] <= self.pages.count:
                    found.setdefault(values[1], values[3])
        return entries

    def _walk(self, root: int) -> Iterator[tuple[int, tuple[Any, ...]]]:
        """(rowid, record) of a tree, in any order."""
        waiting = [root]
        while waiting:
            number = waiting.pop()
            if not 0 < number <= self.pages.count or self.used[number]:
                self.broken = True
                continue
            yield from self._page(number, waiting)

    def _page(self, number: int, children: list[int]) -> Iterator[tuple[int, tuple[Any, ...]]]:
        """Records of a page; numbers of the pages below it are added to `children`."""
        page = self.pages.read(number)
        base = 100 if number == 1 else 0
        kind = page[base]
        if kind not in (_INDEX_INNER, _TABLE_INNER, _INDEX_LEAF, _TABLE_LEAF):
            self.broken = True
            return
        self.used[number] = 1
        inner = kind in (_INDEX_INNER, _TABLE_INNER)
        start = base + (12 if inner else 8)
        cells = min(int.from_bytes(page[base + 3 : base + 5], "big"), (self.pages.usable - start) // 2)
        if inner:
            children.append(int.from_bytes(page[base + 8 : base + 12], "big"))
        for i in range(cells):
            at = int.from_bytes(page[start + 2 * i : start + 2 * i + 2], "big")
            try:
                if not start + 2 * cells <= at < self.pages.usable:
                    raise ValueError("a cell outside of its page")
                if inner:
                    children.append(int.from_bytes(page[at : at + 4], "big"))
                    at += 4
                if kind != _TABLE_INNER:
                    yield self._cell(page, at, kind == _TABLE_LEAF)
            except _BROKEN:
                self.broken = True

    def _cell(self, page: bytes, at: int, table: bool) -> tuple[int, tuple[Any, ...]]:
        length, at = _varint(page, at)
        rowid = 0
        if table:
            rowid, at = _varint(page, at)
            rowid -= (rowid >> 63) << 64
        return rowid, _record(self._payload(page, at, length, table))

    def _payload(self, page: bytes, at: int, length: int, table: bool) -> bytes:
        """A cell's bytes, gathered from its overflow pages too."""
        usable = self.pages.usable
        if length > min(_MOST_BYTES, self.pages.count * usable):
            raise ValueError("longer than the file")
        most = usable - 35 if table else (usable - 12) * 64 // 255 - 23
        if length <= most:
            if at + length > usable:
                raise ValueError("it runs out of its page")
            return page[at : at + length]
        least = (usable - 12) * 32 // 255 - 23
        local = least + (length - least) % (usable - 4)
        local = local if local <= most else least
        if at + local + 4 > usable:
            raise ValueError("it runs out of its page")
        parts, left = [page[at : at + local]], length - local
        following = int.from_bytes(page[at + local : at + local + 4], "big")
        while left > 0:
            if not 0 < following <= self.pages.count or self.used[following]:
                raise ValueError("its chain is broken")
            self.used[following] = 1
            page = self.pages.read(following)
            following = int.from_bytes(page[:4], "big")
            parts.append(page[4 : 4 + min(left, usable - 4)])
            left -= usable - 4
        return b"".join(parts)

    def _mark_free(self) -> bool:
        """Claim the pages of the freelist; False when it is broken."""
        if not self.pages.count:
            return False
        header = self.pages.read(1)
        trunk, stated = int.from_bytes(header[32:36], "big"), int.from_bytes(header[36:40], "big")
        free = list[int]()
        seen = set[int]()
        while trunk:
            if not 0 < trunk <= self.pages.count or self.used[trunk] or trunk in seen:
                return False
            seen.add(trunk)
            page = self.pages.read(trunk)
            leaves = min(int.from_bytes(page[4:8], "big"), self.pages.usable // 4 - 2)
            free += [trunk, *struct.unpack(f">{leaves}I", page[8 : 8 + 4 * leaves])]
            trunk = int.from_bytes(page[:4], "big")
        if len(free) != stated or any(not 0 < number <= self.pages.count for number in free):
            return False
        for number in free:
            self.used[number] = 1
        return True

    def _orphans(self) -> Iterator[Row]:
        expected = shapes()
        for number in self.pages.there():
            if self.used[number]:
                continue
            keyed = self.pages.read(number)[100 if number == 1 else 0] in (_INDEX_LEAF, _INDEX_INNER)
            for rowid, values in self._page(number, []):
                name = _guess(expected, values, rowid, keyed)
                row = expected[name].row(values, rowid) if name else None
                if row is not None:
                    yield name, row


def _guess(expected: Mapping[str, Shape], values: tuple[Any, ...], rowid: int, keyed: bool) -> str:
    """The one table that a record can belong to, "" when there are none or several."""
    if keyed and len(values) < 4:
        return ""  # entries of our indexes have two or three columns, and would fit as well
    fitting = [
        name for name, shape in expected.items() if shape.keyed == keyed and shape.row(values, rowid) is not None
    ]
    if set(fitting) == {"clock", "removed"}:
        return "clock" if rowid == 1 else "removed"
    return fitting[0] if len(fitting) == 1 else ""


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """A number of one to nine bytes, and where it ends."""
    value = 0
    for i in range(8):
        byte = data[at + i]
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            return value, at + i + 1
    return value << 8 | data[at + 8], at + 9


def _record(payload: bytes) -> tuple[Any, ...]:
    """The values of a record. Raises ValueError or IndexError when it is none."""
    end, at = _varint(payload, 0)
    if not at <= end <= len(payload):
        raise ValueError("no record")
    kinds = list[int]()
    while at < end:
        kind, at = _varint(payload, at)
        kinds.append(kind)
        if len(kinds) > _MOST_COLUMNS:
            raise ValueError("too many columns")
    values, at = list[Any](), end
    for kind in kinds:
        value, at = _value(payload, at, kind)
        values.append(value)
    return tuple(values)


def _value(payload: bytes, at: int, kind: int) -> tuple[Any, int]:
    if kind in (0, 8, 9):
        return (None, 0, 1)[kind and kind - 7], at
    if kind in (10, 11):
        raise ValueError("no such type")
    size = _INTEGERS.get(kind) or (8 if kind == 7 else (kind - 12) // 2)
    data = payload[at : at + size]
    if len(data) != size:
        raise ValueError("a value beyond its record")
    if kind < 7:
        return int.from_bytes(data, "big", signed=True), at + size
    if kind == 7:
        return struct.unpack(">d", data)[0], at + size
    return (data.decode() if kind % 2 else data), at + size
