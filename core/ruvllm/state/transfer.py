"""A whole state file as bytes: taken from a store that is in use, and put in the place of what one holds."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager

from ruvllm.errors import StoreError
from ruvllm.state.agents import agents_of
from ruvllm.state.names import REPLICA
from ruvllm.state.repair.audit import as_text, faults
from ruvllm.state.schema import GUESTS, prepare
from ruvllm.state.store import Store

UNFIT = "choose a file that an export gave"  # the fix of a file that cannot be used
_MAGIC = b"SQLite format 3\0"
_JOURNALS = slice(18, 20)  # bytes of the header that name the journal: 1 a rollback journal, 2 a write-ahead log


def dump(store: Store) -> bytes:
    """All that a store holds, as a state file. Raises StoreError: it cannot be read."""
    store.flush()
    with store.alone() as db:
        return db.serialize()


def empty(of: Store | None = None) -> bytes:
    """A state file that holds nothing but what other nodes have to be told of one: that all of it is gone.

    Args:
        of: everything that others were sent of it is deleted, for them to hear. Raises StoreError: it cannot be.
    """
    with closing(Store()) as store:
        if of is not None and of.outbox.enabled:
            of.outbox.clear()
            with store.write() as db:
                for name in ("outbox", "replicated", "outcomes"):
                    db.execute(GUESTS[name])
                for name in ("outbox", "replicated"):
                    rows = of.read(f"SELECT * FROM {name}")
                    db.executemany(f"INSERT INTO {name} VALUES ({', '.join('?' * len(rows[0]))})" if rows else "", rows)
                store.put(REPLICA, of.load(REPLICA) or b"")
        return dump(store)


@contextmanager
def replaced(store: Store, data: bytes) -> Iterator[None]:
    """Put a state file in the place of all that a store holds; what was there before comes back on an error.

    Raises:
        StoreError: the bytes are no whole state file, were written by a newer ruvllm, or cannot be written.
    """
    before = dump(store)
    with closing(_image(data)) as image:
        _copy(image, store)
    try:
        yield
    except BaseException:
        with closing(_loaded(before)) as image:
            _copy(image, store)
        raise


def _image(data: bytes) -> sqlite3.Connection:
    """A state file in memory, whole and of today's version."""
    if not isinstance(data, bytes | bytearray) or len(data) < 100 or not data.startswith(_MAGIC):
        raise StoreError("this is no SQLite file", field="state", fix=UNFIT)
    try:
        db = _loaded(data)
        try:
            _try(db)
        except BaseException:
            db.close()
            raise
    except (sqlite3.Error, UnicodeError) as error:
        raise StoreError(f"the file is damaged: {error}"[:300], field="state", fix=UNFIT) from None
    except StoreError as error:
        raise StoreError(error.message, field="state", fix=UNFIT) from None
    return db


def _loaded(data: bytes) -> sqlite3.Connection:
    image = bytearray(data)
    image[_JOURNALS] = b"\1\1"  # memory has no room for a write-ahead log
    db = sqlite3.connect(":memory:", isolation_level=None)
    try:
        db.deserialize(bytes(image))
    except BaseException:
        db.close()
        raise
    return db


def _try(db: sqlite3.Connection) -> None:
    prepare(db, "the file")
    (verdict,) = db.execute("PRAGMA integrity_check(1)").fetchone()
    if verdict != "ok":
        raise StoreError(f"the file is damaged: {verdict}"[:300], field="state", fix=UNFIT)
    if db.execute("SELECT 1 FROM sqlite_master WHERE name = 'own_agents'").fetchone():
        agents_of(db.execute("SELECT agent FROM own_agents ORDER BY id").fetchall())
    db.text_factory = as_text
    if (fault := next(faults(db), None)) is not None:
        raise StoreError(f"the file is damaged: {fault.table}, {fault.why}", field="state", fix=UNFIT)


def _copy(image: sqlite3.Connection, store: Store) -> None:
    """All or nothing. Raises StoreError: it cannot be written."""
    store.flush()
    with store.alone() as db:
        # Other processes ask for what is newer than what they know: all of it is.
        (before,) = db.execute("SELECT revision FROM clock").fetchone()
        image.execute("UPDATE clock SET revision = max(revision, ?) + 1", (before,))
        image.backup(db)
    store.outbox.attach()
