"""State files with a bit of everything, and what they hold."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from ruvllm.memory.records import Records
from ruvllm.state.record import Memory
from ruvllm.state.store import Store
from ruvllm.types import Feedback

Content = dict[str, set[Any]]
SPACE, DIM = "test", 96
# Columns that a checksum covers or that nothing changes after the fact; what else there is, `check` cannot judge.
COVERED = {
    "memories": "id, collection, kind, text, metadata",
    "vectors": "id, space, data",
    "learnt": "name, data",
    "edges": "source, target",
    "feedback": "id",
    "ratings": "id",
    "hyperedges": "id",
    "hyperedge_members": "hyperedge, memory",
    "sessions": "id",
    "turns": "id, session",
    "own_agents": "id",
}


def build(path: Path, memories: int = 400) -> None:
    """Memories with vectors, some removed, archived or rated; edges, a hyperedge, feedback, weights, agents."""
    rng = np.random.default_rng(1)
    with closing(Store(path, batch=1_000)) as store:
        records = Records(store)
        for first in range(0, memories, 20):
            told = [
                Memory(f"text {i} " + "x" * (i % 300), metadata={"n": i, "s": "é" * (i % 9)})
                for i in range(first, first + 20)
            ]
            records.add(told, rng.standard_normal((20, DIM)).astype(np.float32), SPACE)
            store.add_feedback(Feedback(f"feedback {first}", "agent", 1.5, first % 40 == 0), rating=1 + first % 5)
            with store.write() as db:
                edges = [(first + 1, first + other, "Follows", 0.5) for other in range(2, 20)]
                db.executemany("INSERT INTO edges VALUES (?, ?, ?, ?)", edges)
        records.remove([5, 6, 7])
        records.archive([9])
        records.rate({10: -0.25})
        store.put("weights", bytes(range(256)) * 40)  # longer than a page
        with store.write() as db:
            db.execute("INSERT INTO hyperedges VALUES (1, 'a', 1.0, '{}')")
            db.executemany("INSERT INTO hyperedge_members VALUES (?, ?)", [(1, 1), (1, 2)])
            query = rng.standard_normal(DIM).astype("<f4").tobytes()
            db.execute("INSERT INTO ratings (space, query, relevance) VALUES (?, ?, '{\"1\": 1.0}')", (SPACE, query))
            db.execute("INSERT INTO sessions VALUES ('s-1', '{}', 1.0, 2.0, zeroblob(256), 3, 800)")
            turns = [("s-1", f"question {n}", "answer " * n) for n in range(12)]
            db.executemany("INSERT INTO turns (session, question, answer) VALUES (?, ?, ?)", turns)
            db.execute("CREATE TABLE own_agents (id INTEGER PRIMARY KEY, agent TEXT NOT NULL) STRICT")
            db.execute("INSERT INTO own_agents (agent) VALUES ('{}')")


def add_memories(records: Records, count: int, text: str = "later") -> list[int]:
    """One write each."""
    vector = np.ones((1, DIM), np.float32)
    return [i for n in range(count) for i in records.add([Memory(f"{text} {n}")], vector, SPACE)]


def content(path: Path, columns: Callable[[str], str] = COVERED.__getitem__) -> Content:
    """Table -> its rows, of the tables that are there."""
    with closing(sqlite3.connect(path)) as db:
        there = {name for (name,) in db.execute("SELECT name FROM sqlite_master")}
        return {
            table: set(db.execute(f"SELECT {columns(table)} FROM {table}")) if table in there else set()
            for table in COVERED
        }


def everything(path: Path) -> Content:
    """Table -> its rows with all columns."""
    return content(path, lambda table: "*")
