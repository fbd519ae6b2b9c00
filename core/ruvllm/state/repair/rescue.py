"""A new state file of what can be read of a damaged one, and the exchange of the two."""

from __future__ import annotations

import os
import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

from ruvllm.errors import StoreError
from ruvllm.state.repair.audit import Progress, as_text, faults, reading, silent, tables
from ruvllm.state.repair.salvage import salvage
from ruvllm.state.repair.shapes import shapes
from ruvllm.state.schema import GUESTS, prepare

_JOURNALS = ("-wal", "-shm", "-journal")
_SHARED_LOCKS = (0x40000002, 510)  # where SQLite's readers hold a lock: first byte, length
_MOST_LOST = 10_000_000  # memories that a file can have lost
_EVERY = 2_000  # rows between two reports
_MADE_AGAIN = ("words",)  # of the texts, when they are searched
_COUNTERS = ("clock", "sqlite_sequence")  # one value each that only rises, not rows to be kept


def rescue(path: Path, target: Path, sound: bool, progress: Progress = silent) -> dict[str, int]:
    """Write what is good of a file into a new one; returns the rows by table that were found and dropped.

    Args:
        path: the damaged file, only read.
        target: the new file; what is there is overwritten.
        sound: whether SQLite can read all of its pages; if not, they are read without it.

    Raises:
        StoreError: there was nothing of ruvllm's in it.
    """
    for end in ("", *_JOURNALS):
        Path(f"{target}{end}").unlink(missing_ok=True)
    with suppress(OSError):  # for no more people than the damaged one
        os.close(os.open(target, os.O_CREAT | os.O_EXCL, path.stat().st_mode & 0o777))
    with closing(sqlite3.connect(target, isolation_level=None)) as db:
        db.text_factory = as_text
        prepare(db, str(target))
        db.execute("PRAGMA journal_mode = OFF")  # it counts only once it is whole
        db.execute("PRAGMA synchronous = OFF")
        db.execute("PRAGMA foreign_keys = OFF")
        db.execute("BEGIN")
        last, dropped = _pour(db, _through_sqlite(path) if sound else salvage(path), progress)
        if not last:
            raise StoreError(f"nothing in {path} can be read", field="state", fix="restore a copy")
        _forget_removed(db)
        dropped += _drop_faulty(db)
        lost = _set_counters(db, last)
        dropped["memories"] = max(dropped["memories"], lost)
        db.execute("COMMIT")
    with target.open("rb+") as file:
        os.fsync(file.fileno())
    return {table: count for table, count in dropped.items() if count and table not in _MADE_AGAIN}


def keep_beside(path: Path, target: Path) -> Path:
    """Put the target in the place of the path; returns where the damaged file is then."""
    n = 1
    while Path(f"{path}.broken-{n}").exists():
        n += 1
    broken = Path(f"{path}.broken-{n}")
    try:
        os.link(path, broken)  # under both names for a moment: there is a file at `path` at all times
    except (OSError, AttributeError, NotImplementedError):
        os.replace(path, broken)
    for end in _JOURNALS:  # before the exchange: SQLite would play an old log into the new file
        journal = Path(f"{path}{end}")
        if journal.exists():
            os.replace(journal, f"{broken}{end}")
    os.replace(target, path)
    with suppress(OSError):  # where a folder can be opened, make the names last
        folder = os.open(path.absolute().parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    return broken


def refuse_when_open(path: Path) -> None:
    """Raise StoreError when another process has it open: what it wrote after a repair would be lost."""
    try:
        import fcntl
    except ImportError:  # Windows: a file that is open cannot be renamed there anyway
        return
    start, length = _SHARED_LOCKS
    try:
        with path.open("rb+") as file:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, length, start)
    except BlockingIOError:
        raise StoreError(
            f"another process has {path} open", field="state", fix="stop it, or give `out` a new file's name"
        ) from None
    except OSError:
        return  # read-only: nobody writes to it either


def _through_sqlite(path: Path) -> Iterator[tuple[str, tuple[Any, ...]]]:
    with closing(reading(path)) as db:
        there = tables(db)
        for table, shape in shapes().items():
            if table in there:
                has = {name for (name,) in db.execute("SELECT name FROM pragma_table_info(?)", (table,))}
                columns = [name for name in shape.columns if name in has]
                for values in db.execute(f"SELECT {', '.join(columns)} FROM {table}"):
                    row = shape.whole(values)
                    if row is not None:
                        yield table, row


def _pour(
    db: sqlite3.Connection, rows: Iterable[tuple[str, tuple[Any, ...]]], progress: Progress
) -> tuple[dict[str, int], Counter[str]]:
    """Insert rows, the first of each key.

    Returns the highest of each counter, {} when there was no row at all, and how many rows were refused.
    """
    last, refused, made = dict[str, int](), Counter[str](), tables(db)
    for done, (table, row) in enumerate(rows):
        if done % _EVERY == 0:
            progress("rows", float(done))
        if table in _COUNTERS:
            if table == "clock" or row[0] == "memories":
                last[table] = max(last.get(table, 0), row[1])
            continue
        last.setdefault("clock", 0)
        if table not in made:
            db.execute(GUESTS[table])
            made.add(table)
        try:  # the same key again is an older state of the row
            db.execute(f"INSERT OR IGNORE INTO {table} VALUES ({', '.join('?' * len(row))})", row)
        except (sqlite3.IntegrityError, UnicodeEncodeError):
            refused[table] += 1
    return last, refused


def _forget_removed(db: sqlite3.Connection) -> None:
    """What was removed can still lie in a page that was given back."""
    of_one = [(table, "id") for table in ("memories", "vectors", "words", "closed", "seen")]
    for table, column in (*of_one, ("closed", "successor"), ("edges", "source"), ("edges", "target")):
        db.execute(f"DELETE FROM {table} WHERE {column} IN (SELECT id FROM removed)")
    db.execute("DELETE FROM hyperedge_members WHERE memory IN (SELECT id FROM removed)")


def _drop_faulty(db: sqlite3.Connection) -> Counter[str]:
    dropped = Counter[str]()
    for fault in faults(db):
        if fault.table in _COUNTERS:
            continue
        which = " AND ".join(f"{name} = ?" for name, _ in fault.key)
        db.execute(f"DELETE FROM {fault.table} WHERE {which}", [value for _, value in fault.key])
        dropped[fault.table] += 1
    return dropped


def _set_counters(db: sqlite3.Connection, last: dict[str, int]) -> int:
    """Go on counting where the damaged file was; returns how many memories it must have had that are not here.

    Each id up to the last one given was kept or is among the removed. What is neither becomes removed now, so
    that an index that was saved beside the file learns of it. A counter far from the rows is itself damaged.
    """
    revision, given = _highest(db, "revision"), _highest(db, "id")
    revision = max(revision, _believed(last.get("clock", 0), revision)) + 1
    given = max(given, _believed(last.get("sqlite_sequence", 0), given))
    db.execute("UPDATE clock SET revision = ?", (revision,))
    db.execute("DELETE FROM sqlite_sequence WHERE name = 'memories'")
    db.execute("INSERT INTO sqlite_sequence VALUES ('memories', ?)", (given,))
    if given > _MOST_LOST:
        return 0
    db.execute(
        "WITH RECURSIVE ids (id) AS (SELECT 1 UNION ALL SELECT id + 1 FROM ids WHERE id < ?1)"
        " INSERT INTO removed SELECT id, ?2 FROM ids WHERE id <= ?1"
        " AND id NOT IN (SELECT id FROM memories) AND id NOT IN (SELECT id FROM removed)",
        (given, revision),
    )
    return int(db.execute("SELECT changes()").fetchone()[0])


def _highest(db: sqlite3.Connection, column: str) -> int:
    parts = (f"coalesce((SELECT max({column}) FROM {table}), 0)" for table in ("memories", "removed"))
    return int(db.execute(f"SELECT max({', '.join(parts)})").fetchone()[0])


def _believed(counter: int, seen: int) -> int:
    return counter if 0 <= counter <= seen + _MOST_LOST else seen
