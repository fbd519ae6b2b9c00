"""What a record of each table looks like, taken from the migrations themselves: for reading without SQLite's help."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from ruvllm.state.schema import GUESTS, SCHEMA_VERSION, made_by

_TYPES: dict[str, tuple[type, ...]] = {"INTEGER": (int,), "REAL": (float, int), "TEXT": (str,), "BLOB": (bytes,)}


@dataclass(frozen=True, slots=True)
class Shape:
    """A table's columns in the order of its records.

    Attributes:
        types: declared type of each column.
        nullable: whether each may be NULL.
        rowid: the column that stands for the rowid and is NULL in the record itself, -1 without one.
        keyed: WITHOUT ROWID, so that its records lie in index pages.
        added: values of the last columns, which records of an older version do not have.
    """

    columns: tuple[str, ...]
    types: tuple[str, ...]
    nullable: tuple[bool, ...]
    rowid: int
    keyed: bool
    added: tuple[Any, ...] = ()

    def whole(self, values: tuple[Any, ...]) -> tuple[Any, ...] | None:
        """All columns of a row of this or an older version, None when it has another number of them."""
        missing = len(self.columns) - len(values)
        if missing not in (0, len(self.added)):
            return None
        return (*values, *self.added[len(self.added) - missing :])

    def row(self, values: tuple[Any, ...], rowid: int) -> tuple[Any, ...] | None:
        """A record as the table's row, None when it cannot be one of this table's."""
        every = self.whole(values)
        if every is None:
            return None
        row: list[Any] = list(every)
        if self.rowid >= 0:
            if row[self.rowid] is not None:
                return None
            row[self.rowid] = rowid
        for i, value in enumerate(row):
            if value is None and self.nullable[i]:
                continue
            if not isinstance(value, _TYPES[self.types[i]]):
                return None
            if self.types[i] == "REAL":  # SQLite stores 1.0 as the shorter 1
                row[i] = float(row[i])
        return tuple(row)


@cache
def shapes() -> Mapping[str, Shape]:
    """Table -> shape, parents before what refers to them; hosts' tables and sqlite_sequence included."""
    merged = dict[str, Shape]()
    for version in range(1, SCHEMA_VERSION + 1):
        for name, shape in _of(version).items():
            older = merged.get(name, shape)
            since = len(older.columns) - len(older.added)  # those that each version so far has
            merged[name] = replace(shape, added=_defaults(version, name)[since:])
    first = [name for name in ("memories", "hyperedges") if name in merged]
    merged["sqlite_sequence"] = Shape(("name", "seq"), ("TEXT", "INTEGER"), (False, False), -1, False)
    return {name: merged[name] for name in [*first, *sorted(merged.keys() - set(first))]}


def _of(version: int) -> dict[str, Shape]:
    with closing(_made(version)) as db:
        tables = db.execute(
            "SELECT name, wr FROM pragma_table_list WHERE schema = 'main' AND type = 'table'"
        ).fetchall()
        return {name: _shape(db, name, bool(wr)) for name, wr in tables if not name.startswith("sqlite_")}


def _made(version: int) -> sqlite3.Connection:
    db = sqlite3.connect(":memory:")
    for kind, name, _, sql in sorted(made_by(version), key=str):
        if kind == "table" and sql and not name.startswith("sqlite_"):
            db.execute(sql)
    for sql in GUESTS.values():
        db.execute(sql)
    return db


def _defaults(version: int, table: str) -> tuple[Any, ...]:
    """What each column of a table holds when nobody gives it a value."""
    with closing(_made(version)) as db:
        rows = db.execute("SELECT dflt_value FROM pragma_table_info(?)", (table,)).fetchall()
        (row,) = db.execute(f"SELECT {', '.join(default or 'NULL' for (default,) in rows)}").fetchall()
        return tuple(row)


def _shape(db: sqlite3.Connection, table: str, keyed: bool) -> Shape:
    columns = db.execute('SELECT name, type, "notnull", pk FROM pragma_table_info(?)', (table,)).fetchall()
    if keyed:  # its record begins with the key
        columns.sort(key=lambda column: (column[3] == 0, column[3]))
    keys = [i for i, column in enumerate(columns) if column[3]]
    alias = keys[0] if len(keys) == 1 and columns[keys[0]][1] == "INTEGER" and not keyed else -1
    names, types, needed, key = zip(*columns, strict=True)
    nullable = tuple(not must and not part for must, part in zip(needed, key, strict=True))
    return Shape(names, types, nullable, alias, keyed)
