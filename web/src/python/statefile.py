"""The SQLite file of all that is learnt, the user's own agents with it, in this page's file system."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from ruvllm import StoreError
from ruvllm.state.agents import kept_agents
from ruvllm.state.store import Store

__all__ = ["check_state", "read_state", "write_state"]

_FIX = "choose a file that `export` gave"


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


def _try_state(trial: Path) -> None:
    with closing(Store(trial)) as store:
        with closing(sqlite3.connect(trial)) as connection:
            (verdict,) = connection.execute("PRAGMA integrity_check").fetchone()
        if verdict != "ok":
            raise StoreError(f"the file is damaged: {verdict}", field="state", fix=_FIX)
        store.feedback()
        kept_agents(store)
