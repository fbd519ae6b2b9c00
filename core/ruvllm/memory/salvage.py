"""Rows out of a file that SQLite itself can no longer read: cut short, bits flipped, the header gone.

Trees are followed from the roots that the schema names; pages that no tree reaches any more are taken as what
their records look like. Each page is used once, so that no loop of pointers, however made, runs for ever.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ruvllm.memory.pages import Pages
from ruvllm.memory.shapes import Shape, shapes

__all__ = ["salvage"]

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
        known, roots = shapes(), self._roots()
        for name, shape in known.items():
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
        trunk, told = int.from_bytes(header[32:36], "big"), int.from_bytes(header[36:40], "big")
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
        if len(free) != told or any(not 0 < number <= self.pages.count for number in free):
            return False
        for number in free:
            self.used[number] = 1
        return True

    def _orphans(self) -> Iterator[Row]:
        known = shapes()
        for number in self.pages.there():
            if self.used[number]:
                continue
            keyed = self.pages.read(number)[100 if number == 1 else 0] in (_INDEX_LEAF, _INDEX_INNER)
            for rowid, values in self._page(number, []):
                name = _guess(known, values, rowid, keyed)
                row = known[name].row(values, rowid) if name else None
                if row is not None:
                    yield name, row


def _guess(known: Mapping[str, Shape], values: tuple[Any, ...], rowid: int, keyed: bool) -> str:
    """The one table that a record can belong to, "" when there are none or several."""
    if keyed and len(values) < 4:
        return ""  # entries of our indexes have two or three columns, and would fit as well
    fitting = [name for name, shape in known.items() if shape.keyed == keyed and shape.row(values, rowid) is not None]
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
