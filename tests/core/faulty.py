"""A store that refuses one item: each statement that carries it raises, in the middle of its batch."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from ruvllm.state.store import Store

SECRET = "the vault opens at nine"  # stands in messages and texts, and may stand in no log

ERRORS = [
    ValueError(SECRET),
    UnicodeEncodeError("utf-8", SECRET, 0, 1, "surrogates not allowed"),
    KeyError(SECRET),
    TypeError(SECRET),
    OverflowError(SECRET),
    MemoryError(SECRET),
    RecursionError(SECRET),
    ZeroDivisionError(SECRET),
    OSError(28, SECRET),
    type("CustomError", (Exception,), {})(SECRET),
    *(
        error(SECRET)
        for error in (
            sqlite3.Error,
            sqlite3.DatabaseError,
            sqlite3.DataError,
            sqlite3.IntegrityError,
            sqlite3.InterfaceError,
            sqlite3.InternalError,
            sqlite3.NotSupportedError,
            sqlite3.OperationalError,
            sqlite3.ProgrammingError,
        )
    ),
]


class Faulty:
    """In the place of a store's connection.

    Args:
        db: the connection.
        begins: how the statement begins.
        carries: whether a row of values is the item.
        error: what is raised then.
    """

    def __init__(
        self, db: sqlite3.Connection, begins: str, carries: Callable[[Sequence[Any]], bool], error: Exception
    ) -> None:
        self._db, self._begins, self._carries, self._error = db, begins, carries, error

    def execute(self, sql: str, values: Sequence[Any] = ()) -> sqlite3.Cursor:
        if sql.startswith(self._begins) and self._carries(values):
            raise self._error
        return self._db.execute(sql, values)

    def executemany(self, sql: str, rows: Iterable[Sequence[Any]]) -> None:
        for row in rows:
            self.execute(sql, row)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._db, name)


def refuse(store: Store, begins: str, carries: Callable[[Sequence[Any]], bool], error: Exception) -> None:
    """From now on statements that begin so and carry the item raise."""
    store._db = Faulty(store._db, begins, carries, error)  # type: ignore[assignment]


def heal(store: Store) -> None:
    """Nothing is refused any more."""
    while isinstance(store._db, Faulty):
        store._db = store._db._db
