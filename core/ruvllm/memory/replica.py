"""What other nodes wrote, applied to this state file: each change once, whatever the order and however often it comes.

A change whose id is there already changes nothing. Of agents, edges and closed memories the latest id counts; changes
of quality add up; what was forgotten stays so. What is unusable is set aside alone.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

import numpy as np

from ruvllm.agents.catalog import agent_from
from ruvllm.encoders.protocol import Pause, no_pause
from ruvllm.errors import InputError
from ruvllm.memory.erasure import erase
from ruvllm.memory.memory import MemoryStore
from ruvllm.memory.ratings import insert_rating
from ruvllm.memory.subgraph import Edge
from ruvllm.memory.validity import Closed
from ruvllm.state.agents import load_agents, save_agents
from ruvllm.state.outbox import KINDS, Change, Position, time_of
from ruvllm.state.record import ELSEWHERE, LITTLE, Memory, heard, read_metadata, row_of
from ruvllm.types import Feedback

_EDGE = "SELECT 1 FROM edges WHERE source = ? AND target = ? AND kind = ?"
_FIRST = {"memory": 0, "feedback": 1, "outcome": 2}  # kinds of which nothing depends on anything
_SLICE = 16  # texts encoded between two pauses
_MOST_WEIGHT = 10
_LONGEST = 4_000_000  # characters of a task


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of an answer on another node; `Outbox.outcome` has the fields."""

    text: str
    agent: str
    model: str
    quality: float
    success: bool | None


@dataclass(slots=True)
class Applied:
    """What a router and others that learn have to take in.

    Attributes:
        count: changes that were new.
        feedback, outcomes: that were added.
        undone: whether feedback was taken back. deltas: whether updates of what others learnt were taken in.
        agents: whether added agents changed.
    """

    count: int = 0
    feedback: list[Feedback] = field(default_factory=list)
    outcomes: list[Outcome] = field(default_factory=list)
    undone: bool = False
    deltas: bool = False
    agents: bool = False


class Replica:
    """Applies changes to a state file whose outbox is enabled.

    Args:
        memory: of that file.
        learn: takes in an update of what another node learnt (`learning.federated.Update`).
    """

    def __init__(self, memory: MemoryStore, learn: Callable[[bytes], object] | None = None) -> None:
        self._memory, self._store, self._learn = memory, memory.store, learn
        self._applied = Applied()
        self._together: dict[str, Callable[[Sequence[Change]], None]] = {
            "feedback": self._feedback,
            "memory": self._memories,
            "outcome": self._outcomes,
        }
        self._vectors = dict[str, bytes]()  # of changes at hand, in this node's space
        self._writers: dict[str, Callable[[Change], None]] = {
            "agent": self._agent,
            "archive": lambda one: memory.records.archive(self._ids("memory", one.target)),
            "bind": self._bind,
            "delta": self._delta,
            "closed": self._closed,
            "edge": self._edge,
            "forget": self._forget,
            "rate": self._rate,
            "rating": self._rating,
            "undo": self._undo,
            "weigh": self._weigh,
        }

    async def apply(
        self, changes: Sequence[Change], position: Position | None = None, pause: Pause = no_pause
    ) -> Applied:
        """Apply changes in their order; what is new of them.

        Args:
            position: up to which they reach in the log; stored with the last of them.

        Raises:
            InputError: a kind that a newer ruvllm writes; nothing is applied.
            StoreError: the file takes nothing. Applying them again goes on from there.
        """
        for one in changes:
            if one.kind not in KINDS:
                what = f"another node writes changes of kind {one.kind!r}"[:120]
                raise InputError(what, field="kind", fix="upgrade ruvllm on this node")
        self._applied = Applied()
        there = self._present([one.uid for one in changes])
        fresh = [one for uid, one in {one.uid: one for one in changes}.items() if uid not in there]
        fresh.sort(key=lambda one: _FIRST.get(one.kind, len(_FIRST)))  # others may be about these
        await self._encode([one for one in fresh if one.kind == "memory"], pause)
        groups = [(erasing, list(group)) for erasing, group in groupby(fresh, _erases)] or [(False, [])]
        for number, (erasing, some) in enumerate(groups, 1):
            if erasing and (ids := [id for one in some for id in self._ids("memory", one.target)]):
                erase(self._memory, ids)  # with what repeats these texts, which may be news to others
            with self._store.write(), self._store.outbox.flag("applying"):
                self._write(some)
                if position is not None and number == len(groups):
                    self._store.outbox.reached(position)
            await pause()
        self._vectors.clear()
        return self._applied

    async def adopt(self, changes: Sequence[Change], pause: Pause = no_pause) -> None:
        """Take in memories that this file has let go of, with what was said of each since, in the order of the log.

        What was forgotten here stays so, and what a crash takes away again is elsewhere yet: nobody waits for the disk.
        Raises StoreError: as `apply`.
        """
        await self._encode([one for one in changes if one.kind == "memory"], pause)
        with self._store.unsynced(), self._store.write() as db, self._store.outbox.flag("applying"):
            there = self._present([one.uid for one in changes if one.kind == "memory"])
            new = {one.uid for one in changes if one.kind == "memory"} - there
            if not self._store.outbox.waiting().changes:  # else a weight of here may not be in the log yet
                new |= (bound := {one.uid for one in changes if one.kind == "bind" and not new.isdisjoint(_ends(one))})
                for uid in bound:  # as it was with fewer members
                    for id in self._ids("bind", uid):
                        self._memory.graph.unbind(id)
            fresh = [one for one in changes if not new.isdisjoint((one.uid, one.target, *_ends(one, "bind")))]
            fresh.sort(key=lambda one: _FIRST.get(one.kind, len(_FIRST)))
            again = [(one.uid,) for one in fresh if one.kind != "memory"]
            db.executemany("DELETE FROM replicated WHERE uid = ?", again)
            self._write(fresh)

    def missing(self, uids: Sequence[str]) -> list[str]:
        """Those of these memories that are neither here nor were forgotten here."""
        there = self._present(uids)
        return [uid for uid in uids if uid not in there]

    def release(self, ids: Sequence[int]) -> None:
        """Let go of memories that are elsewhere; it is no forgetting, and `adopt` takes them in again."""
        with self._store.write() as db, self._store.outbox.flag("applying"):
            rows = [(str(id),) for id in ids]
            db.executemany("DELETE FROM replicated WHERE kind = 'memory' AND item = ?", rows)
            self._memory.forget(ids)

    def excess(self, collection: str, most: int) -> list[int]:
        """Ids of memories of a collection beyond so many, used least and longest ago; none while anything waits.

        A use counts like a day, 30 at most. What superseded another memory stays: it says that this holds no longer.
        """
        held = self._memory.records.size(collection)
        if held <= most or self._store.outbox.waiting().changes:
            return []
        sql = (
            "SELECT id FROM memories JOIN replicated r ON r.kind = 'memory' AND r.item = CAST(id AS TEXT)"
            " WHERE collection = ? AND NOT archived"
            " AND id NOT IN (SELECT successor FROM closed WHERE successor NOT NULL)"
            " ORDER BY accessed + 86400 * min(accesses, 30) LIMIT ?"  # what was just fetched was accessed just now
        )
        return [id for (id,) in self._store.read(sql, (collection, held - most))]

    def _write(self, changes: Sequence[Change]) -> None:
        there = self._present([one.uid for one in changes])  # while texts were read, somebody may have written
        fresh = [one for one in changes if one.uid not in there]
        for kind, group in groupby(fresh, lambda one: one.kind):
            self._store.set_aside.write_each(
                "change",
                list(group),
                self._together.get(kind, self._each),
                lambda one: one.uid,
                lambda one: {"kind": one.kind, "target": one.target, "data": dict(one.data)},
            )
        with self._store.write() as db:  # what was set aside is done as well: it would fail each time
            rows = [(one.uid, one.kind, _time(one.uid)) for one in fresh]
            db.executemany("INSERT OR IGNORE INTO replicated (uid, kind, at) VALUES (?, ?, ?)", rows)
        self._applied.count += len(fresh)

    def _each(self, changes: Sequence[Change]) -> None:
        for one in changes:
            self._writers[one.kind](one)

    async def _encode(self, changes: Sequence[Change], pause: Pause) -> None:
        """Vectors of memories that bring none of this space."""
        missing = list[tuple[str, str]]()
        for one in changes:
            usable = one.data.get("space") == self._memory.space and len(one.vector) == 4 * self._memory.encoder.dim
            if usable and np.isfinite(np.frombuffer(one.vector, LITTLE)).all():
                self._vectors[one.uid] = one.vector
            else:
                try:
                    memory = _memory(one)
                    if ELSEWHERE in memory.metadata:
                        raise InputError("a vector of another encoder, without a text", field="vector")
                    missing.append((one.uid, heard(row_of(memory)[2], memory.metadata)))
                except (InputError, ValueError, TypeError, KeyError):  # set aside when it is written
                    self._vectors[one.uid] = bytes(4 * self._memory.encoder.dim)
        for start in range(0, len(missing), _SLICE):
            some = missing[start : start + _SLICE]
            vectors = await self._memory.encoder.encode([text for _, text in some])
            self._vectors |= {
                uid: np.asarray(row, LITTLE).tobytes() for (uid, _), row in zip(some, vectors, strict=True)
            }
            await pause()

    def _memories(self, changes: Sequence[Change]) -> None:
        memories = [_memory(one) for one in changes]
        created = [_number(one.data["created"]) for one in changes]
        table = np.stack([np.frombuffer(self._vectors[one.uid], LITTLE) for one in changes])
        ids = self._memory.records.add(memories, table, self._memory.space)
        with self._store.write() as db:
            db.executemany("UPDATE memories SET created = ? WHERE id = ?", list(zip(created, ids, strict=True)))
        archived = [id for id, memory in zip(ids, memories, strict=True) if memory.archived]
        if archived:
            self._memory.records.archive(archived)
        self._note("memory", zip(changes, ids, strict=True))

    def _feedback(self, changes: Sequence[Change]) -> None:
        rows = [_feedback_row(one.data) for one in changes]
        self._insert("feedback", "text, agent, weight, right, undone, rating, created", changes, rows)
        given = [
            Feedback(text, agent, weight, bool(right)) for text, agent, weight, right, undone, *_ in rows if not undone
        ]
        self._applied.feedback += given

    def _undo(self, one: Change) -> None:
        for id in self._ids("feedback", one.target):
            self._applied.undone |= self._store.undo_feedback(id)

    def _rate(self, one: Change) -> None:
        change = _number(one.data["change"])
        self._memory.records.rate(dict.fromkeys(self._ids("memory", one.target), change))

    def _forget(self, one: Change) -> None:
        memories, feedback = self._ids("memory", one.target), self._ids("feedback", one.target)
        for id in self._ids("bind", one.target):
            self._memory.graph.unbind(id)
        with self._store.write() as db, self._store.erasing():
            if memories:
                self._memory.forget(memories)
            for table, ids in (("feedback", feedback), ("outcomes", self._ids("outcome", one.target))):
                db.executemany(f"DELETE FROM {table} WHERE id = ?", [(id,) for id in ids])
            self._applied.undone |= bool(feedback)
            row = (one.target, "forget", _time(one.uid))  # what may come of it yet is not written any more
            db.execute(
                "INSERT INTO replicated (uid, kind, at) VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET item = NULL", row
            )

    def _closed(self, one: Change) -> None:
        for id in self._ids("memory", one.target):
            if not self._latest(one, str(id)):
                continue
            if one.data.get("until") is None:
                self._memory.validity.reopen([id])
                continue
            successor = next(iter(self._ids("memory", one.data.get("successor"))), None)
            until, sure, created = (_number(one.data[name]) for name in ("until", "confidence", "created"))
            self._memory.validity.close(
                [Closed(id, until, successor, str(one.data["reason"] or ELSEWHERE), sure, created)]
            )

    def _edge(self, one: Change) -> None:
        ends = [*self._ids("memory", one.data["source"]), *self._ids("memory", one.data["target"])]
        kind, weight = str(one.data["edge"]), one.data.get("weight")
        if len(ends) < 2 or not self._latest(one, f"{ends[0]} {ends[1]} {kind}"):
            return
        if weight is None:
            self._memory.graph.unlink(ends[0], ends[1], kind)
        else:
            self._memory.graph.link_all([Edge(ends[0], ends[1], kind, _number(weight))])

    def _weigh(self, one: Change) -> None:
        change = _number(one.data["change"])
        if one.target is not None:
            keys: list[tuple[int, int, str] | int] = [*self._ids("bind", one.target)]
        else:
            ends = [*self._ids("memory", one.data["source"]), *self._ids("memory", one.data["target"])]
            kind = str(one.data["edge"])
            there = len(ends) == 2 and self._store.read(_EDGE, (*ends, kind))
            keys = [(ends[0], ends[1], kind)] if there else []
        self._memory.graph.strengthen(dict.fromkeys(keys, change))

    def _bind(self, one: Change) -> None:
        members = [id for uid in str(one.data["members"]).split(",") for id in self._ids("memory", uid)]
        if len(members) > 1:  # others were forgotten, or are elsewhere
            weight, about = _number(one.data["weight"]), read_metadata(one.data["metadata"])
            self._note("bind", [(one, self._memory.graph.bind(members, str(one.data["edge"]), weight, about))])

    def _rating(self, one: Change) -> None:
        rated = read_metadata(one.data["relevance"])
        relevance = {str(id): _number(value) for uid, value in rated.items() for id in self._ids("memory", uid)}
        vector, width = np.frombuffer(one.vector, LITTLE), self._memory.encoder.dim
        if relevance and one.data["space"] == self._memory.space and len(vector) == width and np.isfinite(vector).all():
            insert_rating(self._store, self._memory.space, vector, relevance)

    def _delta(self, one: Change) -> None:
        if self._learn is not None:
            self._learn(one.vector)
            self._applied.deltas = True

    def _agent(self, one: Change) -> None:
        name, given = str(one.data["name"]), one.data.get("agent")
        if not self._latest(one, name):
            return
        agents = load_agents(self._store) or {}
        agents.pop(name, None)
        if given is not None:
            agents[name] = agent_from(dict(given), name)
        save_agents(self._store, agents.values())
        self._applied.agents = True

    def _outcomes(self, changes: Sequence[Change]) -> None:
        rows = [_outcome_row(one.data) for one in changes]
        self._insert("outcome", "text, agent, model, quality, success, created", changes, rows)
        for text, agent, model, quality, success, _ in rows:
            self._applied.outcomes.append(
                Outcome(text, agent, model, quality, None if success is None else bool(success))
            )

    def _insert(self, kind: str, columns: str, changes: Sequence[Change], rows: Sequence[tuple[Any, ...]]) -> None:
        """Into the table of a kind."""
        table = "outcomes" if kind == "outcome" else kind
        sql = f"INSERT INTO {table} ({columns}) VALUES ({', '.join('?' * len(rows[0]))})"
        with self._store.write() as db:
            self._note(kind, [(one, db.execute(sql, row).lastrowid) for one, row in zip(changes, rows, strict=True)])

    def _latest(self, one: Change, item: str) -> bool:
        """Whether no later change of the same thing is there; then this one is the latest from now on."""
        found = self._store.read("SELECT uid FROM replicated WHERE kind = ? AND item = ?", (one.kind, item))
        if found and found[0][0] > one.uid:
            return False
        with self._store.write() as db:
            db.execute("UPDATE replicated SET item = NULL WHERE kind = ? AND item = ?", (one.kind, item))
        self._note(one.kind, [(one, item)])
        return True

    def _note(self, kind: str, rows: Any) -> None:
        """What of (change, item) is where."""
        with self._store.write() as db:
            db.executemany(
                "INSERT INTO replicated (uid, kind, item, at) VALUES (?, ?, ?, ?)",
                [(one.uid, kind, str(item), _time(one.uid)) for one, item in rows],
            )

    def _ids(self, kind: str, uid: object) -> list[int]:
        """The id here of what has an id everywhere, if it is here."""
        sql = "SELECT CAST(item AS INTEGER) FROM replicated WHERE uid = ? AND kind = ? AND item IS NOT NULL"
        return [id for (id,) in self._store.read(sql, (uid, kind))] if isinstance(uid, str) else []

    def _present(self, uids: Sequence[str]) -> set[str]:
        sql = "SELECT uid FROM replicated WHERE uid IN (SELECT value FROM json_each(?))"
        return {uid for (uid,) in self._store.read(sql, (json.dumps(list(uids)),))}


def _memory(change: Change) -> Memory:
    """Raises InputError, ValueError, TypeError, KeyError: it is none."""
    data, metadata = change.data, read_metadata(change.data["metadata"])
    if data["text"] is None:  # which stays where it was written
        metadata = {**metadata, ELSEWHERE: change.uid}
    made = Memory(
        change.uid if data["text"] is None else data["text"],
        data["memory"],
        data["collection"],
        metadata,
        _number(data["quality"]),
        archived=bool(data["archived"]),
    )
    row_of(made)
    return made


def _ends(change: Change, besides: str = "") -> tuple[str, ...]:
    """Uids of what an edge or a hyperedge joins; none of a kind that is left out."""
    data = change.data if change.kind != besides else {}
    members = data.get("members"), data.get("source"), data.get("target")
    return tuple(uid for one in members if isinstance(one, str) for uid in one.split(","))


def _feedback_row(data: Mapping[str, Any]) -> tuple[Any, ...]:
    """Raises InputError, TypeError, KeyError: it is none."""
    text, agent, weight, rating = data["text"], data["agent"], _number(data["weight"]), data["rating"]
    usable = isinstance(text, str) and text.strip() and len(text) <= _LONGEST and isinstance(agent, str)
    if not usable or not 0 < weight <= _MOST_WEIGHT or (rating is not None and not 1 <= _number(rating) <= 5):
        raise InputError("unusable feedback", field="feedback", fix="see which node wrote it")
    return text, agent, weight, int(bool(data["right"])), int(bool(data["undone"])), rating, _number(data["created"])


def _outcome_row(data: Mapping[str, Any]) -> tuple[Any, ...]:
    """Raises InputError, KeyError: it is none."""
    text, agent, model, quality = data["text"], data["agent"], data["model"], _number(data["quality"])
    if not (isinstance(text, str) and isinstance(agent, str) and isinstance(model, str) and 0 <= quality <= 1):
        raise InputError("an unusable outcome", field="outcome", fix="see which node wrote it")
    success = None if data["success"] is None else int(bool(data["success"]))
    return text, agent, model, quality, success, _number(data["created"])


def _erases(one: Change) -> bool:
    return one.kind == "forget" and one.data.get("erase") is True


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not np.isfinite(value):
        raise InputError("a number is none", field="number", fix="see which node wrote it")
    return float(value)


def _time(uid: str) -> int:
    try:
        return time_of(uid)
    except ValueError:
        return 0
