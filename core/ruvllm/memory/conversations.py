"""Conversations in the state file: what was said, by session, and what a restart needs to go on with it."""

from __future__ import annotations

import json
from base64 import b64decode
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ruvllm.errors import REPAIR, StoreError
from ruvllm.state.record import LITTLE, read_metadata
from ruvllm.state.set_aside import base64_of
from ruvllm.state.store import Store
from ruvllm.text.surrogates import well_formed

_KINDS = ("session", "turn")  # of what is set aside

_SAVE = (
    "INSERT INTO sessions (id, metadata, created, accessed, hidden, last, size) VALUES (?, ?, ?, ?, ?, ?, ?)"
    " ON CONFLICT (id) DO UPDATE SET metadata = excluded.metadata, created = excluded.created,"
    " accessed = excluded.accessed, hidden = excluded.hidden, last = excluded.last, size = excluded.size"
)
_TRIM = (
    "DELETE FROM turns WHERE session = ?1 AND id <="
    " (SELECT id FROM turns WHERE session = ?1 ORDER BY id DESC LIMIT 1 OFFSET ?2)"
)


@dataclass(frozen=True, slots=True)
class SessionRow:
    """What tells which session goes first: when it was used last (seconds since 1970), and its characters."""

    id: str
    accessed: float
    size: int


@dataclass(frozen=True, slots=True, eq=False)
class StoredSession:
    """One session.

    Attributes:
        turns: (question, answer), oldest first; to be written, only those that are not there yet.
        count: how many of the latest turns stay.
        hidden: float32 (hidden,), the model router's state; (0,) where it has none.
        last: id of the memory that keeps the last turn.
    """

    id: str
    metadata: Mapping[str, Any]
    created: float
    accessed: float
    hidden: NDArray[np.float32]
    last: int | None
    size: int
    turns: Sequence[tuple[str, str]] = ()
    count: int = 0


class Conversations:
    """The sessions of one state file.

    Args:
        store: the file.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    def rows(self) -> list[SessionRow]:
        """All of them, the one unused for longest first. Raises StoreError: they cannot be read."""
        found = self._store.read("SELECT id, accessed, size FROM sessions ORDER BY accessed, id")
        return [SessionRow(*row) for row in found]

    def read(self, id: str) -> StoredSession | None:
        """One with its history; None when it is not there. Raises StoreError: it is damaged."""
        found = self._store.read(
            "SELECT metadata, created, accessed, hidden, last, size FROM sessions WHERE id = ?", (id,)
        )
        if not found:
            return None
        metadata, created, accessed, hidden, last, size = found[0]
        turns = self._store.read("SELECT question, answer FROM turns WHERE session = ? ORDER BY id", (id,))
        try:
            about = read_metadata(metadata)
            state = np.frombuffer(hidden, LITTLE).astype(np.float32)
        except (ValueError, TypeError, AttributeError):
            fix = f"{REPAIR}, which drops it; begin another session"
            raise StoreError(f"the session {id[:60]!r} is damaged", field="state", fix=fix) from None
        return StoredSession(id, about, created, accessed, state, last, size, tuple(turns), len(turns))

    def write(self, sessions: Collection[StoredSession], gone: Collection[str] = ()) -> None:
        """Put sessions there, those that are gone away first; what of them cannot be written is set aside alone.

        Raises:
            StoreError: the file takes nothing; nothing has been written then.
        """
        aside = self._store.set_aside
        with self._store.write() as db:
            if gone:
                with self._store.erasing():
                    db.executemany("DELETE FROM sessions WHERE id = ?", [(id,) for id in gone])
                aside.erase(_KINDS, gone)
            aside.write_each("session", list(sessions), self.put, lambda one: one.id, payload_of)
            turns = [replace(one, turns=(turn,)) for one in sessions for turn in one.turns]
            aside.write_each("turn", turns, self.put_turns, lambda one: one.id, payload_of)

    def put(self, sessions: Sequence[StoredSession]) -> None:
        """Put sessions there without their turns, all or nothing. Raises whatever is wrong with one."""
        with self._store.write() as db:
            db.executemany(_SAVE, [_values(one) for one in sessions])

    def put_turns(self, sessions: Sequence[StoredSession]) -> None:
        """Put turns after those of their sessions, all or nothing. Raises whatever is wrong with one."""
        turns = [(one.id, well_formed(said), well_formed(answer)) for one in sessions for said, answer in one.turns]
        with self._store.write() as db:
            db.executemany("INSERT INTO turns (session, question, answer) VALUES (?, ?, ?)", turns)
            with self._store.erasing():
                db.executemany(_TRIM, [(one.id, one.count) for one in sessions])

    def clear(self) -> None:
        """Forget all of them. Raises StoreError: it cannot be written."""
        self._store.set_aside.erase(_KINDS)
        if self._store.read("SELECT 1 FROM sessions LIMIT 1"):
            with self._store.write() as db, self._store.erasing():
                db.execute("DELETE FROM sessions")


def payload_of(one: StoredSession) -> dict[str, Any]:
    """What brings a session back that was set aside, as JSON; see `session_from`."""
    return asdict(one) | {"hidden": base64_of(one.hidden)}


def session_from(payload: Mapping[str, Any]) -> StoredSession:
    """A session of what `payload_of` gave. Raises TypeError, ValueError or KeyError: it is none."""
    hidden = np.frombuffer(b64decode(payload["hidden"]), LITTLE).astype(np.float32)
    return StoredSession(**{**payload, "hidden": hidden})


def _values(one: StoredSession) -> tuple[Any, ...]:
    hidden = one.hidden.astype(LITTLE).tobytes() if one.hidden.any() else b""
    return one.id, json.dumps(dict(one.metadata)), one.created, one.accessed, hidden, one.last, one.size
