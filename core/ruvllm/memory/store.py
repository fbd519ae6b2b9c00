"""The one durable file: SQLite, opened by every host alike.

Issue A keeps the feedback log here; memories, edges and learnt weights join it.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path

from ruvllm.errors import StoreError
from ruvllm.types import Feedback

__all__ = ["APPLICATION_ID", "SCHEMA_VERSION", "Store"]

APPLICATION_ID = 0x72757631  # "ruv1"
SCHEMA_VERSION = 1

_SCHEMA = """
CREATE TABLE feedback (
    id INTEGER PRIMARY KEY,
    text TEXT NOT NULL,
    agent TEXT NOT NULL,
    weight REAL NOT NULL,
    created REAL NOT NULL DEFAULT ((julianday('now') - 2440587.5) * 86400.0)
) STRICT;
"""


class Store:
    """What the system has been told, kept across processes.

    Args:
        path: the file, made when missing; ":memory:" keeps nothing.

    Raises:
        StoreError: the file is not a ruvllm state file, is damaged, or cannot be opened.
    """

    def __init__(self, path: str | Path = ":memory:") -> None:
        self.path = str(path)
        fix = "give a writable path to a ruvllm state file, or a new one"
        try:
            if self.path != ":memory:":
                Path(self.path).parent.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False)
            self._prepare(fix)
        except (sqlite3.Error, OSError) as error:
            raise StoreError(f"{self.path} cannot be opened: {error}", field="state", fix=fix) from None

    def _prepare(self, fix: str) -> None:
        (application,) = self._db.execute("PRAGMA application_id").fetchone()
        (version,) = self._db.execute("PRAGMA user_version").fetchone()
        (tables,) = self._db.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if tables and application != APPLICATION_ID:
            raise StoreError(f"{self.path} is another program's database", field="state", fix=fix)
        if version > SCHEMA_VERSION:
            raise StoreError(f"{self.path} was written by a newer ruvllm", field="state", fix="pip install -U ruvllm")
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = FULL")
        self._db.execute("PRAGMA busy_timeout = 2000")
        if not tables:
            self._db.executescript(
                f"BEGIN; {_SCHEMA} PRAGMA application_id = {APPLICATION_ID};"
                f" PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;"
            )

    def add_feedback(self, feedback: Feedback) -> None:
        """Keep it; once this returns it is on disk."""
        row = (feedback.text, feedback.agent, feedback.weight)
        try:
            self._db.execute("INSERT INTO feedback (text, agent, weight) VALUES (?, ?, ?)", row)
        except (sqlite3.Error, UnicodeEncodeError) as error:
            raise StoreError(
                f"the feedback could not be kept: {error}", field="state", fix="check disk and rights"
            ) from None

    def feedback(self) -> list[Feedback]:
        """All of it, oldest first."""
        try:
            rows = self._db.execute("SELECT text, agent, weight FROM feedback ORDER BY id").fetchall()
        except sqlite3.Error as error:
            raise StoreError(
                f"{self.path} cannot be read: {error}", field="state", fix="restore a copy of it"
            ) from None
        return [Feedback(*row) for row in rows]

    def close(self) -> None:
        """Release the file; what was added stays."""
        self._db.close()
