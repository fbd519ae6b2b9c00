"""The SQLite file of all that is learnt, in this page's file system, and the user's own agents in it.

The core keeps its feedback log there. The agents are a table of the same file, so that one write keeps both or
neither, one export carries both, and a host that knows nothing of the table still opens the file.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable
from contextlib import closing
from dataclasses import asdict
from pathlib import Path

from ruvllm import Agent, InputError, StoreError
from ruvllm.agents.catalog import agent_from
from ruvllm.memory.store import Store

__all__ = ["check_state", "keep_agents", "kept_agents", "read_state", "write_state"]

_FIX = "choose a file that `export` gave"
_TABLE = "CREATE TABLE IF NOT EXISTS own_agents (id INTEGER PRIMARY KEY, agent TEXT NOT NULL) STRICT"


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
    kept_agents(trial)


def kept_agents(path: Path) -> dict[str, Agent] | None:
    """The user's own agents by name, in the order they came; None where the file says nothing of agents.

    Raises:
        StoreError: a row is no agent.
    """
    with closing(sqlite3.connect(path)) as connection:
        if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'own_agents'").fetchone():
            return None
        rows = connection.execute("SELECT agent FROM own_agents ORDER BY id").fetchall()
    try:
        agents = [agent_from(json.loads(text), f"own agent {i + 1}") for i, (text,) in enumerate(rows)]
    except (InputError, ValueError, AttributeError) as error:
        raise StoreError(f"an agent in the file is damaged: {error}", field="state", fix=_FIX) from None
    return {agent.name: agent for agent in agents}


def keep_agents(path: Path, agents: Iterable[Agent]) -> None:
    """Make these the user's own agents: all of them or, on an error, those before.

    Raises:
        StoreError: they could not be written.
    """
    rows = [(json.dumps(asdict(agent)),) for agent in agents]
    try:
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.execute(_TABLE)
            connection.execute("DELETE FROM own_agents")
            connection.executemany("INSERT INTO own_agents (agent) VALUES (?)", rows)
    except sqlite3.Error as error:
        fix = "export what was learnt, then reload"
        raise StoreError(f"the agents could not be kept: {error}", field="state", fix=fix) from None
