"""The tables of the state file, and how an older file becomes a newer one."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from functools import cache

from ruvllm.errors import REPAIR, StoreError

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

# The text of a table that ALTER leaves differs between versions of SQLite, and `strangers` compares texts: what
# gains columns is made anew, around a copy. `relevance` is a JSON object of memory ids.
_RATINGS = f"""
CREATE TEMP TABLE told AS SELECT id, text, agent, weight, created FROM feedback;
DROP TABLE feedback;
CREATE TABLE feedback (
    id INTEGER PRIMARY KEY,
    text TEXT NOT NULL,
    agent TEXT NOT NULL,
    weight REAL NOT NULL,
    created REAL NOT NULL DEFAULT {_NOW},
    right INTEGER NOT NULL DEFAULT 1,
    undone INTEGER NOT NULL DEFAULT 0,
    request TEXT,
    rating REAL
) STRICT;
INSERT INTO feedback (id, text, agent, weight, created) SELECT id, text, agent, weight, created FROM temp.told;
DROP TABLE temp.told;
CREATE TABLE ratings (
    id INTEGER PRIMARY KEY,
    space TEXT NOT NULL,
    query BLOB NOT NULL,
    relevance TEXT NOT NULL,
    created REAL NOT NULL DEFAULT {_NOW}
) STRICT;
"""

# `size` is the characters of all that a session holds, so that which of them stay is decided without reading them.
_SESSIONS = """
CREATE TABLE sessions (
    id TEXT PRIMARY KEY,
    metadata TEXT NOT NULL,
    created REAL NOT NULL,
    accessed REAL NOT NULL,
    hidden BLOB NOT NULL,
    last INTEGER,
    size INTEGER NOT NULL
) STRICT;
CREATE TABLE turns (
    id INTEGER PRIMARY KEY,
    session TEXT NOT NULL REFERENCES sessions (id) ON DELETE CASCADE,
    question TEXT NOT NULL,
    answer TEXT NOT NULL
) STRICT;
CREATE INDEX turns_by_session ON turns (session);
"""

# The hashes of a text's words in order, as little-endian uint32: `text.terms`. What has no row gets one when it is
# searched, so this table can be emptied at any time. `closed` says of a memory until when it held and which other
# one says so; `seen` counts how often it was said.
_WORDS = f"""
CREATE TABLE words (
    id INTEGER PRIMARY KEY REFERENCES memories (id) ON DELETE CASCADE,
    count INTEGER NOT NULL,
    data BLOB NOT NULL
) STRICT;
CREATE TABLE closed (
    id INTEGER PRIMARY KEY REFERENCES memories (id) ON DELETE CASCADE,
    until REAL NOT NULL,
    successor INTEGER REFERENCES memories (id) ON DELETE CASCADE,
    reason TEXT NOT NULL,
    confidence REAL NOT NULL,
    created REAL NOT NULL DEFAULT {_NOW}
) STRICT;
CREATE INDEX closed_by_successor ON closed (successor);
CREATE TABLE seen (
    id INTEGER PRIMARY KEY REFERENCES memories (id) ON DELETE CASCADE,
    count INTEGER NOT NULL,
    latest REAL NOT NULL
) STRICT;
"""

_MIGRATIONS = (_FEEDBACK, _MEMORY, _RATINGS, _SESSIONS, _WORDS)  # entry i takes a file from version i to i + 1
SCHEMA_VERSION = len(_MIGRATIONS)

# Tables that are made when there is something to put into them, so that a file says nothing of it until then.
GUESTS = {
    "own_agents": "CREATE TABLE own_agents (id INTEGER PRIMARY KEY, agent TEXT NOT NULL) STRICT",
    "federated_updates": "CREATE TABLE federated_updates (id INTEGER PRIMARY KEY, data BLOB NOT NULL) STRICT",
    "responses": "CREATE TABLE responses (id INTEGER PRIMARY KEY, name TEXT NOT NULL, owner TEXT NOT NULL,"
    " until REAL NOT NULL, items TEXT NOT NULL, data BLOB NOT NULL) STRICT",
    # Of nodes that replicate each other: what others were not sent yet; what each id (UUIDv7) of theirs and ours is
    # here, NULL for what is gone or was done once; what came of answers.
    "outbox": "CREATE TABLE outbox (id INTEGER PRIMARY KEY, uid TEXT NOT NULL, at INTEGER NOT NULL, kind TEXT NOT NULL,"
    " item TEXT NOT NULL, value REAL) STRICT",
    "replicated": "CREATE TABLE replicated (uid TEXT PRIMARY KEY, kind TEXT NOT NULL, item TEXT, at INTEGER NOT NULL,"
    " UNIQUE (kind, item)) STRICT",
    "outcomes": "CREATE TABLE outcomes (id INTEGER PRIMARY KEY, text TEXT NOT NULL, agent TEXT NOT NULL,"
    f" model TEXT NOT NULL, quality REAL NOT NULL, success INTEGER, created REAL NOT NULL DEFAULT {_NOW}) STRICT",
    "set_aside": "CREATE TABLE set_aside (id INTEGER PRIMARY KEY, kind TEXT NOT NULL, item TEXT NOT NULL,"
    " reason TEXT NOT NULL, created REAL NOT NULL, payload BLOB NOT NULL) STRICT",
}


def prepare(db: sqlite3.Connection, path: str) -> None:
    """Make the tables, or bring those of an older version up to date, in one transaction.

    Raises:
        StoreError: another program's file, one of a newer ruvllm, or one whose tables are not as ruvllm
            makes them; none is touched.
    """
    harden(db)
    db.execute("BEGIN")  # another process may be making the tables: see all of them or none
    try:
        version = _recognised(db, path)
    finally:
        if db.in_transaction:
            db.execute("ROLLBACK")
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = FULL")
    db.execute("PRAGMA foreign_keys = ON")
    if version < SCHEMA_VERSION:
        _migrate(db)


def _recognised(db: sqlite3.Connection, path: str) -> int:
    """The version of a file that is ours, or new. Raises StoreError for another."""
    (application,) = db.execute("PRAGMA application_id").fetchone()
    (tables,) = db.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if tables and application != APPLICATION_ID:
        fix = "give the path of a ruvllm state file, or a new one"
        raise StoreError(f"{path} is another program's database", field="state", fix=fix)
    version = _version(db)
    if not tables and not version:
        return 0  # nothing to compare
    if version > SCHEMA_VERSION:
        raise StoreError(f"{path} was written by a newer ruvllm", field="state", fix="pip install -U ruvllm")
    for what in differences(db, version):
        raise StoreError(f"{path} is not as ruvllm makes it: {what}", field="state", fix=REPAIR)
    return version


def harden(db: sqlite3.Connection) -> None:
    """Take a file for what it may be, somebody else's: run nothing that it brings, and check pages as they are read."""
    db.execute("PRAGMA trusted_schema = OFF")
    db.execute("PRAGMA cell_size_check = ON")


def differences(db: sqlite3.Connection, version: int) -> list[str]:
    """What the schema has that ruvllm does not make, or lacks: triggers, views, altered tables.

    SQLite runs triggers, expressions of indexes and defaults by itself, so only the very text of the
    migrations is accepted for our tables. Other plain tables are somebody else's business, and never touched.
    """
    ours = made_by(version)
    names = {table for _, _, table, _ in made_by(SCHEMA_VERSION)}
    found = set(db.execute("SELECT type, name, tbl_name, sql FROM sqlite_master").fetchall())
    problems = [f"{kind} {name} is missing or altered" for kind, name, _, _ in sorted(ours - found, key=str)]
    problems += [
        f"table {name} is altered" for _, name, _, sql in sorted(found, key=str) if GUESTS.get(name, sql) != sql
    ]
    for kind, name, table, _ in sorted(found - ours, key=str):
        if kind not in ("table", "index") or table in names:
            problems.append(f"it has a {kind} {name}"[:200])
    return problems


@cache
def made_by(version: int) -> frozenset[tuple[str, str, str, str | None]]:
    """(type, name, table, SQL) of all that the migrations up to a version make."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as db:
        for step in _MIGRATIONS[: max(version, 0)]:
            for statement in step.split(";\n"):
                db.execute(statement)
        return frozenset(db.execute("SELECT type, name, tbl_name, sql FROM sqlite_master"))


def _version(db: sqlite3.Connection) -> int:
    (version,) = db.execute("PRAGMA user_version").fetchone()
    return int(version)


def _migrate(db: sqlite3.Connection) -> None:
    db.execute("PRAGMA temp_store = MEMORY")  # a host may have no place for temporary files
    db.execute("BEGIN IMMEDIATE")
    try:
        for step in _MIGRATIONS[max(_version(db), 0) :]:  # read again: another process may have been faster
            for statement in step.split(";\n"):
                db.execute(statement)
        db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:  # a full disk has ended it already
            db.execute("ROLLBACK")
        raise
