"""The SQLite file of all that is learnt, the user's own agents with it, in this page's file system."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from ruvllm import Feedback, StoreError
from ruvllm.state.agents import agents_of
from ruvllm.state.names import JOBS, RELIABILITY
from ruvllm.state.store import Store

_FIX = "choose a file that `export` gave"
_BESIDE = f"name IN ('{RELIABILITY}', '{JOBS}')"  # of what is learnt, what changes no answer: the other's is taken


def read_state(path: Path) -> bytes:
    """The file with what is still in its journal."""
    with closing(sqlite3.connect(path)) as connection:
        return connection.serialize()


def write_state(path: Path, data: bytes | None) -> None:
    """A file of these bytes, or none, without the journals of the one before."""
    for end in ("", "-wal", "-shm"):
        path.with_name(path.name + end).unlink(missing_ok=True)
    if data is not None:
        path.write_bytes(data)


def check_state(data: bytes, path: Path) -> None:
    """Raise StoreError unless the bytes are a whole state file; nothing but a trial file beside `path` is touched."""
    trial = path.with_suffix(".trial")
    if not data.startswith(b"SQLite format 3\0"):
        raise StoreError("this is no SQLite file", field="state", fix=_FIX)
    try:
        write_state(trial, data)
        _try_state(trial)
    except sqlite3.Error as error:
        raise StoreError(f"the file is damaged: {error}", field="state", fix=_FIX) from None
    except StoreError as error:
        raise StoreError(error.message.replace(str(trial), "the file"), field="state", fix=_FIX) from None
    finally:
        write_state(trial, None)


def new_lessons(store: Store, data: bytes, path: Path) -> list[Feedback] | None:
    """What lessons a state file has more than `store`, which takes them in; None where it differs otherwise.

    Raises:
        StoreError: it is damaged.
    """
    other = path.with_suffix(".other")
    try:
        write_state(other, data)
        with store.alone() as db:
            db.execute("ATTACH ? AS other", (str(other),))
            try:
                return _unite(store, db)
            finally:
                db.execute("DETACH other")
    finally:
        write_state(other, None)


def _unite(store: Store, db: sqlite3.Connection) -> list[Feedback] | None:
    schema = "SELECT name, sql FROM {}.sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%' ORDER BY name"
    here, there = (db.execute(schema.format(name)).fetchall() for name in ("main", "other"))
    if here != there:
        return None
    for name, _ in here:
        rows = 'SELECT * FROM {}."' + name + (f'" WHERE NOT {_BESIDE}' if name == "learnt" else '"')
        for one, two in [("main", "other"), ("other", "main")][: 1 if name == "feedback" else 2]:
            if db.execute(f"{rows.format(one)} EXCEPT {rows.format(two)} LIMIT 1").fetchone():
                return None
    (last,) = db.execute("SELECT coalesce(max(id), 0) FROM main.feedback").fetchone()
    with store.write():
        db.execute("INSERT INTO main.feedback SELECT * FROM other.feedback EXCEPT SELECT * FROM main.feedback")
        db.execute(f"INSERT OR REPLACE INTO main.learnt SELECT * FROM other.learnt WHERE {_BESIDE}")
    return [row.feedback for row in store.feedback_rows(last)]


def _try_state(trial: Path) -> None:
    with closing(Store(trial)) as store:
        with closing(sqlite3.connect(trial)) as connection:
            (verdict,) = connection.execute("PRAGMA integrity_check").fetchone()
        if verdict != "ok":
            raise StoreError(f"the file is damaged: {verdict}", field="state", fix=_FIX)
        store.feedback()
        if store.read("SELECT 1 FROM sqlite_master WHERE name = 'own_agents'"):
            agents_of(store.read("SELECT agent FROM own_agents ORDER BY id"))
