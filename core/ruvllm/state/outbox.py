"""What a state file has to say to other nodes: each write that they replicate is also a row of its outbox.

Triggers of the connection write that row, in the same transaction; they are not in the file, and there are none until
`enable` was called once for it. A row says what was written and under which id (UUIDv7, made here); the content is
read when it is sent, so that nothing which was erased meanwhile can leave.
"""

from __future__ import annotations

import json
import os
import sqlite3
from base64 import b64decode, b64encode
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import field
from time import time
from typing import TYPE_CHECKING, Any, NamedTuple

from ruvllm.lazy_dataclass import dataclass
from ruvllm.reprs import Shown
from ruvllm.state.names import REPLICA
from ruvllm.state.schema import GUESTS

if TYPE_CHECKING:
    from ruvllm.state.store import Store


KINDS = frozenset(
    ("agent", "archive", "bind", "closed", "delta", "edge", "feedback", "forget", "memory", "outcome", "rate",
     "rating", "undo", "weigh")
)  # fmt: skip
# What a space shares -> kinds of changes that leave it. "vectors" are memories with their metadata, without texts,
# "deltas" sums over groups of tasks, as `learning.federated` makes them.
SHARES = {
    "texts": KINDS - {"delta"},
    "vectors": KINDS - {"agent", "feedback", "outcome", "undo"},
    "deltas": frozenset({"delta"}),
}
_TABLES = ("outbox", "replicated", "outcomes")
_NOW = "CAST((julianday('now') - 2440587.5) * 86400000 + 0.5 AS INTEGER)"
_UID = (
    "printf('%08x-%04x-7%03x-%04x-%012x', at >> 16, at & 65535, {low} & 4095,"
    " 32768 | (random() & 16383), random() & 281474976710655)"
)
_OF = "(SELECT uid FROM replicated WHERE kind = '{kind}' AND item = CAST({row}.id AS TEXT))"
_EDGE = "{row}.source || ' ' || {row}.target || ' ' || {row}.kind"


class Position(NamedTuple):
    """How far a log was read: transaction, and place in it."""

    xid: int = 0
    place: int = 0


class Waiting(NamedTuple):
    """What is in the outbox: how many changes, and when the oldest was made (seconds since 1970, 0 without any)."""

    changes: int
    oldest: float


@dataclass(frozen=True, slots=True, repr=False)
class Change(Shown):
    """One write, as it travels.

    Attributes:
        uid: UUIDv7 of the write; applying it again changes nothing.
        kind: one of KINDS.
        target: uid of what it is about, where that is another write.
        data: plain JSON types.
        vector: of a memory, float32 little-endian, of the space that `data` names; b"" without one.
    """

    uid: str
    kind: str
    target: str | None = None
    data: Mapping[str, Any] = field(default_factory=dict)
    vector: bytes = b""


def _make_tables(db: sqlite3.Connection) -> None:
    for name in _TABLES:
        db.execute(GUESTS[name].replace("TABLE", "TABLE IF NOT EXISTS", 1))


def new_uid() -> str:
    """A UUIDv7 of now."""
    at, low = int(time() * 1000), os.urandom(10).hex()
    return f"{at >> 16:08x}-{at & 65535:04x}-7{low[:3]}-8{low[3:6]}-{low[6:18]}"


def time_of(uid: str) -> int:
    """Milliseconds since 1970 at which an id was made. Raises ValueError: it is no UUIDv7."""
    if len(uid) != 36 or uid[14] != "7" or uid[8::5][:4] != "----":
        raise ValueError("no UUIDv7")
    return int(uid[:8] + uid[9:13], 16)


def _made(kind: str, item: str, value: str = "NULL", low: str = "0", latest: bool = False) -> str:
    """SQL that adds a row; `latest` where only the last one counts, which then has a later id than those before."""
    before = f"coalesce((SELECT at + 1 FROM replicated WHERE kind = '{kind}' AND item = {item}), 0)"
    at = f"max({_NOW}, {before})" if latest else _NOW
    done = f"UPDATE replicated SET item = NULL WHERE kind = '{kind}' AND item = {item}; " if latest else ""
    entity = latest or kind in ("bind", "feedback", "memory", "outcome")
    columns = f"uid, kind, {'item' if entity else 'NULL'}, at"
    uid = _UID.format(low=low)
    return (
        f"INSERT INTO outbox (uid, at, kind, item, value) SELECT {uid}, at, '{kind}', {item}, {value}"
        f" FROM (SELECT {at} AS at); {done}INSERT INTO replicated (uid, kind, item, at)"
        f" SELECT {columns} FROM outbox WHERE id = last_insert_rowid();"
    )


def _gone(table: str, kind: str) -> tuple[str, str, str]:
    uid = _OF.format(kind=kind, row="OLD")
    made = _made("forget", uid, "(SELECT erasing FROM temp.replication)")
    left = f"UPDATE replicated SET item = NULL WHERE kind = '{kind}' AND item = CAST(OLD.id AS TEXT);"
    return f"DELETE ON {table}", f"{uid} IS NOT NULL", f"{made} {left}"


def _ends(row: str) -> str:
    return f"(SELECT count(*) FROM memories WHERE id IN ({row}.source, {row}.target)) = 2"


_TRIGGERS = (
    ("INSERT ON feedback", "1", _made("feedback", "CAST(NEW.id AS TEXT)", low="NEW.id")),
    ("UPDATE OF undone ON feedback", "NEW.undone > OLD.undone", _made("undo", _OF.format(kind="feedback", row="NEW"))),
    _gone("feedback", "feedback"),
    ("INSERT ON memories", "1", _made("memory", "CAST(NEW.id AS TEXT)", low="NEW.id")),
    (
        "UPDATE OF archived ON memories",
        "NEW.archived > OLD.archived",
        _made("archive", _OF.format(kind="memory", row="NEW")),
    ),
    (
        "UPDATE OF quality ON memories",
        "NEW.quality <> OLD.quality",
        _made("rate", _OF.format(kind="memory", row="NEW"), "NEW.quality - OLD.quality"),
    ),
    _gone("memories", "memory"),
    ("INSERT ON edges", "1", _made("edge", _EDGE.format(row="NEW"), latest=True)),
    (
        "UPDATE OF weight ON edges",
        "NEW.weight <> OLD.weight AND NOT (SELECT adding FROM temp.replication)",
        _made("edge", _EDGE.format(row="NEW"), latest=True),
    ),
    (
        "UPDATE OF weight ON edges",
        "NEW.weight <> OLD.weight AND (SELECT adding FROM temp.replication)",
        _made("weigh", _EDGE.format(row="NEW"), "NEW.weight - OLD.weight"),
    ),
    ("INSERT ON hyperedges", "1", _made("bind", "CAST(NEW.id AS TEXT)", low="NEW.id")),
    (
        "UPDATE OF weight ON hyperedges",
        f"NEW.weight <> OLD.weight AND {_OF.format(kind='bind', row='NEW')} IS NOT NULL",
        _made("weigh", _OF.format(kind="bind", row="NEW"), "NEW.weight - OLD.weight"),
    ),
    _gone("hyperedges", "bind"),
    ("INSERT ON ratings", "1", _made("rating", "CAST(NEW.id AS TEXT)", low="NEW.id")),
    ("DELETE ON edges", _ends("OLD"), _made("edge", _EDGE.format(row="OLD"), latest=True)),
    ("INSERT ON closed", "1", _made("closed", "CAST(NEW.id AS TEXT)", latest=True)),
    (
        "DELETE ON closed",
        "EXISTS (SELECT 1 FROM memories WHERE id = OLD.id)",
        _made("closed", "CAST(OLD.id AS TEXT)", latest=True),
    ),
    ("INSERT ON outcomes", "1", _made("outcome", "CAST(NEW.id AS TEXT)", low="NEW.id")),
    _gone("outcomes", "outcome"),
)
# What a file has held before it was replicated; each under the time that it was made.
_BEFORE = (
    ("feedback", "CAST(id AS TEXT)", "feedback", "created", "id"),
    ("memory", "CAST(id AS TEXT)", "memories", "created", "id"),
    ("edge", "source || ' ' || target || ' ' || kind", "edges", "0", "0"),
    ("closed", "CAST(id AS TEXT)", "closed", "created", "0"),
    ("bind", "CAST(id AS TEXT)", "hyperedges", "0", "id"),
    ("rating", "CAST(id AS TEXT)", "ratings", "created", "id"),
)
_ADDED = "coalesce((SELECT total(value) FROM outbox WHERE kind = 'weigh' AND item = {item}), 0)"
_MEMORY = "(SELECT uid FROM replicated WHERE kind = 'memory' AND item = {item})"
# What is left to send of an item: SQL of the target's uid, the vector, and these fields.
_READ: dict[str, tuple[str, tuple[str, ...]]] = {
    "feedback": (
        "SELECT NULL, NULL, text, agent, weight, right, undone, rating, created FROM feedback WHERE id = ?1",
        ("text", "agent", "weight", "right", "undone", "rating", "created"),
    ),
    "memory": (
        "SELECT NULL, data, text, kind, collection, metadata, quality - coalesce((SELECT total(value) FROM outbox"
        f" WHERE kind = 'rate' AND item = {_MEMORY.format(item='?1')}), 0), archived, created, space"
        " FROM memories JOIN vectors USING (id) WHERE id = ?1",
        ("text", "memory", "collection", "metadata", "quality", "archived", "created", "space"),
    ),
    "closed": (
        f"SELECT m.uid, NULL, until, reason, confidence, created, {_MEMORY.format(item='CAST(successor AS TEXT)')}"
        " FROM replicated m LEFT JOIN closed c ON c.id = ?1 WHERE m.kind = 'memory' AND m.item = ?1",
        ("until", "reason", "confidence", "created", "successor"),
    ),
    "outcome": (
        "SELECT NULL, NULL, text, agent, model, quality, success, created FROM outcomes WHERE id = ?1",
        ("text", "agent", "model", "quality", "success", "created"),
    ),
    "edge": (
        f"SELECT NULL, NULL, s.uid, t.uid, ?4, weight - {_ADDED.format(item='?1')} FROM replicated s"
        " JOIN replicated t ON t.kind = 'memory' AND t.item = ?3"
        " LEFT JOIN edges e ON e.source = ?2 AND e.target = ?3 AND e.kind = ?4 WHERE s.kind = 'memory' AND s.item = ?2",
        ("source", "target", "edge", "weight"),
    ),
    "bind": (
        "SELECT NULL, NULL, (SELECT group_concat(uid) FROM hyperedge_members JOIN replicated r ON r.kind = 'memory'"
        " AND r.item = CAST(memory AS TEXT) WHERE hyperedge = id), hyperedges.kind,"
        f" weight - {_ADDED.format(item='b.uid')}, metadata FROM hyperedges JOIN replicated b ON b.kind = 'bind'"
        " AND b.item = ?1 WHERE id = ?1",
        ("members", "edge", "weight", "metadata"),
    ),
    "rating": (
        "SELECT NULL, query, space, (SELECT json_group_object(uid, value) FROM json_each(relevance)"
        " JOIN replicated r ON r.kind = 'memory' AND r.item = key) FROM ratings WHERE id = ?1",
        ("space", "relevance"),
    ),
}


class Outbox:
    """The changes of one state file that other nodes have not been sent yet.

    Args:
        store: the file.

    Attributes:
        enabled: whether writes are replicated.
        sharing: what of them leaves, one of SHARES.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self.enabled, self.sharing = False, "texts"

    def attach(self) -> None:
        """Have writes of this connection go into the outbox, where the file has one."""
        before, there = self.enabled, self._store.read("SELECT 1 FROM sqlite_master WHERE name = 'outbox'")
        self.enabled = bool(there)
        with self._store.alone() as db:
            if before:  # of the file that was in the place of this one
                for number in range(len(_TRIGGERS)):
                    db.execute(f"DROP TRIGGER IF EXISTS temp.replicate_{number}")
            if not self.enabled:
                return
            db.execute("PRAGMA temp_store = MEMORY")
            _make_tables(db)
            db.execute("CREATE TEMP TABLE IF NOT EXISTS replication AS SELECT 0 AS applying, 0 AS erasing, 0 AS adding")
            for number, (event, condition, made) in enumerate(_TRIGGERS):
                when = f"(SELECT applying FROM temp.replication) = 0 AND {condition}"
                db.execute(f"CREATE TEMP TRIGGER replicate_{number} AFTER {event} WHEN {when} BEGIN {made} END")

    def enable(self) -> None:
        """From now on, have all writes in the outbox, by whichever process; what is there already goes in at once.

        Raises:
            StoreError: it cannot be written; nothing has changed then.
        """
        if not self.enabled:
            with self._store.write() as db:
                _make_tables(db)
                for kind, item, table, created, low in _BEFORE:
                    at = f"SELECT CAST({created} * 1000 AS INTEGER) AS at, {item} AS item, {low} AS id FROM {table}"
                    uid = _UID.format(low=low)
                    db.execute(f"INSERT INTO outbox (uid, at, kind, item) SELECT {uid}, at, '{kind}', item FROM ({at})")
                db.execute("INSERT INTO replicated (uid, kind, item, at) SELECT uid, kind, item, at FROM outbox")
                self._store.put(REPLICA, json.dumps({"node": os.urandom(8).hex(), "position": [0, 0]}).encode())
            self.attach()
            if self._store.read("SELECT 1 FROM sqlite_master WHERE name = 'own_agents'"):
                names = self._store.read("SELECT DISTINCT json_extract(agent, '$.name') FROM own_agents")
                self.agents([name for (name,) in names])

    @contextmanager
    def flag(self, name: str) -> Iterator[None]:
        """While others' changes are "applying", none goes into the outbox; what is deleted while "erasing" says so.

        While "adding", weights of edges are changed by a difference: those of all nodes add up.
        """
        if not self.enabled:
            yield
            return
        with self._store.alone() as db:
            db.execute(f"UPDATE temp.replication SET {name} = 1")
            try:
                yield
            finally:
                db.execute(f"UPDATE temp.replication SET {name} = 0")

    def agents(self, names: Sequence[str]) -> None:
        """Agents of these names were added, changed or taken away. Raises StoreError."""
        if self.enabled and names and not self._store.read("SELECT applying FROM temp.replication")[0][0]:
            with self._store.write() as db:
                for name in names:
                    for statement in _made("agent", "?1", latest=True).rstrip(";").split("; "):
                        db.execute(statement, (name,) if "?1" in statement else ())

    def clear(self) -> None:
        """Delete all that is replicated, on every node. Raises StoreError."""
        with self._store.write() as db, self._store.erasing():
            for table in ("memories", "feedback", "outcomes"):
                db.execute(f"DELETE FROM {table}")
            if db.execute("SELECT 1 FROM sqlite_master WHERE name = 'own_agents'").fetchone():
                names = [row[0] for row in db.execute("SELECT json_extract(agent, '$.name') FROM own_agents")]
                db.execute("DELETE FROM own_agents")
                self.agents(names)

    def outcome(self, text: str, agent: str, model: str, quality: float, success: bool | None) -> None:
        """What came of an answer, for the nodes that learn from it. Raises StoreError."""
        if self.enabled:
            row = (text, agent, model, quality, None if success is None else int(success))
            with self._store.write() as db:
                db.execute("INSERT INTO outcomes (text, agent, model, quality, success) VALUES (?, ?, ?, ?, ?)", row)

    def delta(self, update: bytes) -> None:
        """An update of what was learnt here, for nodes that are sent no texts. Raises StoreError."""
        with self._store.write() as db:
            for statement in _made("delta", "?1").rstrip(";").split("; "):
                db.execute(statement, (b64encode(update).decode(),) if "?1" in statement else ())

    def outcomes(self, most: int = 10_000) -> list[tuple[str, str, str, float, bool | None]]:
        """The latest outcomes and feedback as (task, agent, model, quality 0 to 1, success), oldest first.

        The same on all nodes. What was both is there once; what was taken back is not.
        """
        rows = self._store.read(
            "SELECT text, agent, model, quality, success, uid FROM outcomes JOIN replicated r ON r.kind = 'outcome'"
            " AND r.item = CAST(id AS TEXT) WHERE (text, agent) NOT IN (SELECT text, agent FROM feedback WHERE undone)"
            " UNION ALL SELECT text, agent, '', CAST(right AS REAL), right, uid FROM feedback JOIN replicated r"
            " ON r.kind = 'feedback' AND r.item = CAST(id AS TEXT) WHERE NOT undone"
            " AND (text, agent) NOT IN (SELECT text, agent FROM outcomes) ORDER BY uid DESC LIMIT ?",
            (most,),
        )
        return [(*row, None if success is None else bool(success)) for *row, success, _ in reversed(rows)]

    def waiting(self) -> Waiting:
        """How much has not been sent. Raises StoreError."""
        if not self.enabled:
            return Waiting(0, 0.0)
        ((count, oldest),) = self._store.read("SELECT count(*), coalesce(min(at), 0) FROM outbox")
        return Waiting(count, oldest / 1000)

    def take(self, most: int = 500, most_bytes: int = 4 << 20) -> tuple[list[int], list[Change]]:
        """The oldest changes that wait: ids for `sent`, and what is left to send of them.

        Args:
            most, most_bytes: changes, and bytes of these, about.
        """
        ids, changes, size = list[int](), list[Change](), 0
        for id, uid, kind, item, value in self._store.read(
            "SELECT id, uid, kind, item, value FROM outbox ORDER BY id LIMIT ?", (most,)
        ):
            ids.append(id)
            found = self._change(uid, kind, item, value) if kind in SHARES[self.sharing] else None
            if found is not None:
                changes.append(found)
                size += len(found.vector) + len(str(found.data))
            if size > most_bytes:
                break
        return ids, changes

    def _change(self, uid: str, kind: str, item: str, value: float | None) -> Change | None:
        """None for what is gone: another change says so."""
        if kind == "forget":
            return Change(uid, kind, item, {"erase": bool(value)})
        if kind == "rate" or (kind == "weigh" and " " not in item):
            return Change(uid, kind, item, {"change": value})
        if kind == "delta":
            return Change(uid, kind, vector=b64decode(item))
        if kind == "agent":
            there = self._store.read("SELECT 1 FROM sqlite_master WHERE name = 'own_agents'")
            sql = "SELECT agent FROM own_agents WHERE json_extract(agent, '$.name') = ?"
            rows = self._store.read(sql, (item,)) if there else []
            return Change(uid, kind, None, {"name": item, "agent": json.loads(rows[0][0]) if rows else None})
        if kind not in _READ and kind != "weigh":
            return Change(uid, kind, item)
        sql, names = _READ["edge" if kind == "weigh" else kind]
        ends = item.split(" ", 2) if kind in ("edge", "weigh") else ()
        for target, vector, *values in self._store.read(sql, (item, *ends)):
            data = dict(zip(names, values, strict=True))
            if kind == "weigh":
                data = {**data, "weight": None, "change": value}
            if self.sharing != "texts":
                data |= {name: None for name in ("text", "reason") if name in data}
            return Change(uid, kind, target, data, bytes(vector or b""))
        return None

    def sent(self, ids: Sequence[int]) -> None:
        """Others have these now. Raises StoreError."""
        with self._store.write() as db:
            db.executemany("DELETE FROM outbox WHERE id = ?", [(id,) for id in ids])

    @property
    def node(self) -> str:
        """Tells this file from those of other nodes."""
        return str(self._about()["node"])

    @property
    def position(self) -> Position:
        """How far the log was applied."""
        return Position(*self._about()["position"])

    def reached(self, position: Position) -> None:
        """Up to there the log is applied; part of the transaction at hand. Raises StoreError."""
        self._store.put(REPLICA, json.dumps({"node": self.node, "position": position}).encode())

    def _about(self) -> dict[str, Any]:
        return dict(json.loads(self._store.load(REPLICA) or b'{"node": "", "position": [0, 0]}'))
