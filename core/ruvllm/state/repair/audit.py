"""What is wrong with the rows of a state file whose pages SQLite can read."""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from ruvllm.reprs import Shown
from ruvllm.state.record import LITTLE, NODE_KINDS, checksum, read_metadata, word_hashes
from ruvllm.state.schema import harden

Progress = Callable[[str, float], None]  # what is being looked at, the share of it that is done


def silent(what: str, fraction: float) -> None:
    """No progress is told."""


_EVERY = 2_000  # rows between two reports

_MEMORIES = (
    "SELECT m.id, m.collection, m.kind, m.text, m.metadata, m.quality, m.accesses, m.created, m.accessed,"
    " m.archived, m.crc, v.space, v.data, {0} FROM memories m LEFT JOIN vectors v USING (id) {1} ORDER BY m.id"
)


@dataclass(frozen=True, slots=True, repr=False)
class Fault(Shown):
    """A row that cannot be used: where it is, by the columns of its key, and why."""

    table: str
    key: tuple[tuple[str, Any], ...]
    why: str


def as_text(raw: bytes) -> str:
    """SQLite's text, also where it is no UTF-8 any more (it cannot be encoded again then)."""
    return raw.decode("utf-8", "surrogateescape")


def reading(path: Path) -> sqlite3.Connection:
    """A connection that cannot write. A read-only folder has no room for the index of a log: it is done without."""
    address = path.absolute().as_uri()
    for mode in ("mode=ro", "mode=ro&immutable=1"):
        db = sqlite3.connect(f"{address}?{mode}", uri=True, isolation_level=None, check_same_thread=False)
        db.text_factory = as_text
        harden(db)
        try:
            db.execute("SELECT 1 FROM sqlite_master").fetchone()
        except sqlite3.OperationalError:
            wal = Path(f"{path}-wal")
            if mode == "mode=ro" and not (wal.exists() and wal.stat().st_size):
                db.close()
                continue
        except sqlite3.Error:
            pass  # told by what is asked next
        return db
    return db


def tables(db: sqlite3.Connection) -> set[str]:
    """Names of the real tables."""
    return {name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}


def faults(db: sqlite3.Connection, progress: Progress = silent) -> Iterator[Fault]:
    """Every row at fault, parents before what refers to them; `db.text_factory` has to be `as_text`.

    What a table's faults are is asked when the faults before have been taken, so that whoever deletes rows
    along the way is told of those that referred to them.
    """
    there = tables(db)
    for table, look in _LOOKS.items():
        if table in there:
            yield from look(db, progress)


def _memories(db: sqlite3.Connection, progress: Progress) -> Iterator[Fault]:
    (total,) = db.execute("SELECT count(*) FROM memories").fetchone()
    widths = _widths(db)
    words = "words" in tables(db)  # since version 5
    found = ("w.data", "LEFT JOIN words w USING (id)") if words else ("NULL", "")
    for i, (*row, hashes) in enumerate(db.execute(_MEMORIES.format(*found))):
        if i % _EVERY == 0:
            progress("memories", i / total)
        if why := _memory_fault(tuple(row), widths):
            yield Fault("memories", (("id", row[0]),), why)
        elif hashes is not None and hashes != _hashes(row[3], row[4]):
            yield Fault("words", (("id", row[0]),), "they are not those of its text; they are made again")
    progress("memories", 1.0)


def _memory_fault(row: tuple[Any, ...], widths: dict[str, int]) -> str:
    _, collection, kind, text, metadata, quality, accesses, created, accessed, archived, crc, space, data = row
    try:
        if data is None:
            return "its vector is missing"
        if checksum(collection, kind, space, text, metadata, data) != crc:
            return "its checksum does not hold"
        read_metadata(metadata)
    except (ValueError, TypeError, AttributeError):
        return "its text or metadata are damaged"
    if kind not in NODE_KINDS or archived not in (0, 1):
        return f"its kind is {kind!r:.20}, its archived {archived!r:.20}"
    if not (_within(quality, 0, 1) and _within(accesses, 0) and _within(created) and _within(accessed)):
        return "a number of it is out of range"
    if len(data) != widths.get(space) or len(data) % LITTLE.itemsize:
        return f"its vector has {len(data)} bytes, others of the same encoder {widths.get(space)}"
    return "" if _finite(data) else "its vector is not finite"


def _widths(db: sqlite3.Connection) -> dict[str, int]:
    """Encoder's space -> the bytes that most of its vectors have."""
    found = db.execute("SELECT space, length(data), count(*) FROM vectors GROUP BY 1, 2 ORDER BY 3, 2")
    return {space: width for space, width, _ in found}


def _vectors(db: sqlite3.Connection, progress: Progress) -> Iterator[Fault]:
    for (i,) in db.execute("SELECT id FROM vectors WHERE id NOT IN (SELECT id FROM memories)").fetchall():
        yield Fault("vectors", (("id", i),), "its memory is missing")


def _words(db: sqlite3.Connection, progress: Progress) -> Iterator[Fault]:
    for (i,) in db.execute("SELECT id FROM words WHERE id NOT IN (SELECT id FROM memories)").fetchall():
        yield Fault("words", (("id", i),), "its memory is missing")


def _hashes(text: str, metadata: str) -> bytes:
    try:
        return word_hashes(text, read_metadata(metadata)).astype("<u4").tobytes()
    except (ValueError, TypeError, AttributeError):
        return b"?"


def _closed(db: sqlite3.Connection, progress: Progress) -> Iterator[Fault]:
    lost = "id NOT IN (SELECT id FROM memories) OR successor NOT IN (SELECT id FROM memories)"
    sql = f"SELECT id, until, reason, confidence, created, coalesce({lost}, 0) FROM closed"
    for i, until, reason, confidence, created, orphan in db.execute(sql).fetchall():
        if orphan or not (_within(until) and _clean(reason) and _within(confidence, 0, 1) and _within(created)):
            why = "its memory or successor is missing" if orphan else "its reason or numbers are damaged"
            yield Fault("closed", (("id", i),), why)


def _seen(db: sqlite3.Connection, progress: Progress) -> Iterator[Fault]:
    lost = "id NOT IN (SELECT id FROM memories)"
    for i, count, latest, orphan in db.execute(f"SELECT id, count, latest, {lost} FROM seen").fetchall():
        if orphan or not (_within(count, 1) and _within(latest)):
            yield Fault("seen", (("id", i),), "its memory is missing" if orphan else "its numbers are damaged")


def _edges(db: sqlite3.Connection, progress: Progress) -> Iterator[Fault]:
    sound = "(SELECT id FROM memories)"
    lost = f"source NOT IN {sound} OR target NOT IN {sound}"
    for source, target, kind, weight, orphan in db.execute(f"SELECT *, {lost} FROM edges").fetchall():
        if orphan or not _within(weight) or not _clean(kind):
            why = "one of its ends is missing" if orphan else "its kind or weight is damaged"
            yield Fault("edges", (("source", source), ("target", target), ("kind", kind)), why)


def _hyperedges(db: sqlite3.Connection, progress: Progress) -> Iterator[Fault]:
    for i, kind, weight, metadata in db.execute("SELECT id, kind, weight, metadata FROM hyperedges").fetchall():
        if not (_within(weight) and _clean(kind) and _json(metadata)):
            yield Fault("hyperedges", (("id", i),), "its kind, weight or metadata are damaged")


def _members(db: sqlite3.Connection, progress: Progress) -> Iterator[Fault]:
    found = db.execute(
        "SELECT hyperedge, memory FROM hyperedge_members"
        " WHERE hyperedge NOT IN (SELECT id FROM hyperedges) OR memory NOT IN (SELECT id FROM memories)"
    ).fetchall()
    for hyperedge, memory in found:
        key = (("hyperedge", hyperedge), ("memory", memory))
        yield Fault("hyperedge_members", key, "its hyperedge or memory is missing")


def _feedback(db: sqlite3.Connection, progress: Progress) -> Iterator[Fault]:
    for i, text, agent, weight, created, *more in db.execute("SELECT * FROM feedback"):
        if not (_clean(text) and _clean(agent) and _within(weight) and _within(created) and _judged(*more)):
            yield Fault("feedback", (("id", i),), "its text or numbers are damaged")


def _judged(right: Any = 1, undone: Any = 0, request: Any = None, rating: Any = None) -> bool:
    """Whether the columns that feedback has from version 3 on are possible."""
    flags = right in (0, 1) and undone in (0, 1)
    return flags and (request is None or _clean(request)) and (rating is None or _within(rating, 1, 5))


def _ratings(db: sqlite3.Connection, progress: Progress) -> Iterator[Fault]:
    for i, space, query, relevance, created in db.execute("SELECT id, space, query, relevance, created FROM ratings"):
        whole = _clean(space) and _within(created) and _json(relevance)
        if not (whole and query and len(query) % LITTLE.itemsize == 0 and _finite(query)):
            yield Fault("ratings", (("id", i),), "its query or numbers are damaged")


def _sessions(db: sqlite3.Connection, progress: Progress) -> Iterator[Fault]:
    for i, metadata, created, accessed, hidden, size in db.execute(
        "SELECT id, metadata, created, accessed, hidden, size FROM sessions"
    ):
        numbers = _within(created) and _within(accessed) and _within(size, 0)
        whole = len(hidden) % LITTLE.itemsize == 0 and _finite(hidden)
        if not (_clean(i) and _json(metadata) and numbers and whole):
            yield Fault("sessions", (("id", i),), "its metadata or numbers are damaged")


def _turns(db: sqlite3.Connection, progress: Progress) -> Iterator[Fault]:
    lost = "session NOT IN (SELECT id FROM sessions)"
    for i, question, answer, orphan in db.execute(f"SELECT id, question, answer, {lost} FROM turns"):
        if orphan or not (_clean(question) and _clean(answer)):
            yield Fault("turns", (("id", i),), "its session is missing" if orphan else "its texts are damaged")


def _learnt(db: sqlite3.Connection, progress: Progress) -> Iterator[Fault]:
    for rowid, name, data, digest in db.execute("SELECT rowid, name, data, sha256 FROM learnt"):
        if not _clean(name) or not isinstance(data, bytes) or sha256(data).hexdigest() != digest:
            yield Fault("learnt", (("rowid", rowid),), "its SHA-256 does not hold; it is learnt again")


def _set_aside(db: sqlite3.Connection, progress: Progress) -> Iterator[Fault]:
    for i, kind, item, reason, created in db.execute("SELECT id, kind, item, reason, created FROM set_aside"):
        if not (_clean(kind) and _clean(item) and _clean(reason) and _within(created)):
            yield Fault("set_aside", (("id", i),), "its id, reason or time are damaged")


def _clock(db: sqlite3.Connection, progress: Progress) -> Iterator[Fault]:
    rows = db.execute("SELECT one, revision, (SELECT max(revision) FROM memories) FROM clock").fetchall()
    if len(rows) != 1 or not _within(rows[0][1], rows[0][2] or 0):
        yield Fault("clock", (("one", 1),), "it is behind what it counts")


_LOOKS = {
    "memories": _memories,
    "vectors": _vectors,
    "words": _words,
    "closed": _closed,
    "seen": _seen,
    "edges": _edges,
    "hyperedges": _hyperedges,
    "hyperedge_members": _members,
    "feedback": _feedback,
    "ratings": _ratings,
    "sessions": _sessions,
    "turns": _turns,
    "learnt": _learnt,
    "set_aside": _set_aside,
    "clock": _clock,
}


def _within(value: Any, least: float = -math.inf, most: float = math.inf) -> bool:
    return isinstance(value, int | float) and math.isfinite(value) and least <= value <= most


def _finite(vector: bytes) -> bool:
    return bool(np.isfinite(np.frombuffer(vector, LITTLE)).all())


def _clean(value: Any) -> bool:
    """Whether it is text in UTF-8."""
    return isinstance(value, str) and not any("\ud800" <= letter <= "\udfff" for letter in value)


def _json(value: Any) -> bool:
    try:
        read_metadata(value)
        return _clean(value)
    except (ValueError, TypeError, AttributeError):
        return False
