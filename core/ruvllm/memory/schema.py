"""The tables of the state file, and how an older file becomes a newer one."""

from __future__ import annotations

import sqlite3

from ruvllm.errors import StoreError

__all__ = ["APPLICATION_ID", "SCHEMA_VERSION", "prepare"]

APPLICATION_ID = 0x72757631  # "ruv1"
_NOW = "((julianday('now') - 2440587.5) * 86400.0)"

_FEEDBACK = f"""
CREATE TABLE feedback (
    id INTEGER PRIMARY KEY,
    text TEXT NOT NULL,
    agent TEXT NOT NULL,
    weight REAL NOT NULL,
    created REAL NOT NULL DEFAULT {_NOW}
) STRICT;
"""

# `revision` rises with every change, so that another process can ask for what is new. `crc` is over text,
# metadata and vector: SQLite's own check sees a broken page, not a flipped bit inside a value.
_MEMORY = f"""
CREATE TABLE clock (one INTEGER PRIMARY KEY CHECK (one = 1), revision INTEGER NOT NULL) STRICT;
INSERT INTO clock VALUES (1, 0);
CREATE TABLE memories (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    collection TEXT NOT NULL,
    kind TEXT NOT NULL,
    text TEXT NOT NULL,
    metadata TEXT NOT NULL,
    quality REAL NOT NULL,
    accesses INTEGER NOT NULL DEFAULT 0,
    created REAL NOT NULL DEFAULT {_NOW},
    accessed REAL NOT NULL DEFAULT {_NOW},
    archived INTEGER NOT NULL DEFAULT 0,
    revision INTEGER NOT NULL,
    crc INTEGER NOT NULL
) STRICT;
CREATE INDEX memories_by_revision ON memories (revision);
CREATE INDEX memories_by_collection ON memories (collection, archived);
CREATE TABLE vectors (
    id INTEGER PRIMARY KEY REFERENCES memories (id) ON DELETE CASCADE,
    space TEXT NOT NULL,
    data BLOB NOT NULL
) STRICT;
CREATE TABLE removed (id INTEGER PRIMARY KEY, revision INTEGER NOT NULL) STRICT;
CREATE TABLE edges (
    source INTEGER NOT NULL REFERENCES memories (id) ON DELETE CASCADE,
    target INTEGER NOT NULL REFERENCES memories (id) ON DELETE CASCADE,
    kind TEXT NOT NULL,
    weight REAL NOT NULL,
    PRIMARY KEY (source, target, kind)
) STRICT, WITHOUT ROWID;
CREATE INDEX edges_by_target ON edges (target);
CREATE TABLE hyperedges (
    id INTEGER PRIMARY KEY,
    kind TEXT NOT NULL,
    weight REAL NOT NULL,
    metadata TEXT NOT NULL
) STRICT;
CREATE TABLE hyperedge_members (
    hyperedge INTEGER NOT NULL REFERENCES hyperedges (id) ON DELETE CASCADE,
    memory INTEGER NOT NULL REFERENCES memories (id) ON DELETE CASCADE,
    PRIMARY KEY (hyperedge, memory)
) STRICT, WITHOUT ROWID;
CREATE INDEX hyperedges_by_member ON hyperedge_members (memory);
CREATE TABLE learnt (
    name TEXT PRIMARY KEY,
    data BLOB NOT NULL,
    sha256 TEXT NOT NULL,
    changed REAL NOT NULL DEFAULT {_NOW}
) STRICT;
"""

_MIGRATIONS = (_FEEDBACK, _MEMORY)  # entry i takes a file from version i to i + 1
SCHEMA_VERSION = len(_MIGRATIONS)


def prepare(db: sqlite3.Connection, path: str) -> None:
    """Make the tables, or bring those of an older version up to date, in one transaction.

    Raises:
        StoreError: another program's file, or one of a newer ruvllm; neither is touched.
    """
    (application,) = db.execute("PRAGMA application_id").fetchone()
    (tables,) = db.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if tables and application != APPLICATION_ID:
        fix = "give the path of a ruvllm state file, or a new one"
        raise StoreError(f"{path} is another program's database", field="state", fix=fix)
    version = _version(db)
    if version > SCHEMA_VERSION:
        raise StoreError(f"{path} was written by a newer ruvllm", field="state", fix="pip install -U ruvllm")
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = FULL")
    db.execute("PRAGMA foreign_keys = ON")
    if version < SCHEMA_VERSION:
        _migrate(db)


def _version(db: sqlite3.Connection) -> int:
    (version,) = db.execute("PRAGMA user_version").fetchone()
    return int(version)


def _migrate(db: sqlite3.Connection) -> None:
    db.execute("BEGIN IMMEDIATE")
    try:
        for step in _MIGRATIONS[_version(db) :]:  # read again: another process may have been faster
            for statement in step.split(";\n"):
                db.execute(statement)
        db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        db.execute("COMMIT")
    except BaseException:
        db.execute("ROLLBACK")
        raise
