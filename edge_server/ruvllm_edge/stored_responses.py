"""Answers of the Responses API that a later request may go on from, in the state file of their space."""

from __future__ import annotations

import json
import logging
import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from ruvllm.state.schema import GUESTS
from ruvllm.state.store import Store
from ruvllm_edge.logs import event

_TABLE = GUESTS["responses"].replace("TABLE", "TABLE IF NOT EXISTS", 1)
_THERE = "SELECT 1 FROM sqlite_master WHERE name = 'responses'"
_encode = msgspec.json.Encoder().encode


class StoredResponse(NamedTuple):
    """One of them.

    Attributes:
        response: as its client got it.
        items: of the conversation up to and with it.
    """

    response: Mapping[str, Any]
    items: Sequence[Mapping[str, Any]]


class StoredResponses:
    """Those of a space, each its key's alone, for a time; the oldest are forgotten where they become too many.

    Args:
        store: the space's; one in memory keeps them as long as the server runs.
        ttl: seconds.
        most: of them.
        most_bytes: of all together, compressed.
        keep: whether they may be written down; else those that are there are removed.
        clock: seconds since 1970.

    Raises:
        StoreError: those that are not to be kept cannot be removed.
    """

    def __init__(
        self, store: Store, ttl: float, most: int, most_bytes: int, keep: bool = True,
        clock: Callable[[], float] = time.time,
    ) -> None:  # fmt: skip
        self._ttl, self._most, self._most_bytes, self._clock = ttl, most, most_bytes, clock
        self._there = bool(store.read(_THERE))
        if not keep and self._there:
            with store.write() as db, store.erasing():
                db.execute("DELETE FROM responses")
        if not keep:
            store, self._there = Store(), False
        self._store = store

    def put(self, owner: str, response: Mapping[str, Any], items: Sequence[Mapping[str, Any]]) -> None:
        """Store an answer: on disk when this returns.

        Args:
            owner: name of the key, "" where none is needed.
            items: of the conversation up to and with it.

        Raises:
            StoreError: the file takes nothing.
        """
        data = zlib.compress(_encode([response, items]), 1)
        names = " ".join(str(item["id"]) for item in response["output"])
        row = (response["id"], owner, self._clock() + self._ttl, names, data)
        with self._store.write() as db, self._store.erasing():
            db.execute(_TABLE)
            db.execute("INSERT INTO responses (name, owner, until, items, data) VALUES (?, ?, ?, ?, ?)", row)
            db.execute("DELETE FROM responses WHERE until <= ?", (self._clock(),))
            db.execute(
                "DELETE FROM responses WHERE id IN (SELECT id FROM (SELECT id, row_number() OVER newest AS number,"
                " sum(length(data)) OVER newest AS size FROM responses WINDOW newest AS (ORDER BY id DESC))"
                " WHERE number > ? OR size > ?)",
                (self._most, self._most_bytes),
            )
        self._there = True

    def get(self, owner: str, name: str) -> StoredResponse | None:
        """An answer of this owner's; None where there is none, or no more."""
        return self._read("name = ?", owner, name)

    def item(self, owner: str, name: str) -> Mapping[str, Any] | None:
        """An item of an answer of this owner's; None where there is none, or no more."""
        found = self._read("instr(' ' || items || ' ', ' ' || ? || ' ')", owner, name)
        return next((item for item in found.response["output"] if item["id"] == name), None) if found else None

    def delete(self, owner: str, name: str) -> bool:
        """Forget one, and overwrite it in the file; whether it was there. Raises StoreError: it cannot be written."""
        if not self._there:
            return False
        with self._store.write() as db, self._store.erasing():
            gone = db.execute("DELETE FROM responses WHERE owner = ? AND name = ?", (owner, name))
            return gone.rowcount > 0

    def _read(self, where: str, owner: str, name: str) -> StoredResponse | None:
        if not self._there or not name:
            return None
        sql = f"SELECT data FROM responses WHERE owner = ? AND until > ? AND {where} ORDER BY id DESC LIMIT 1"
        for (data,) in self._store.read(sql, (owner, self._clock(), name)):
            try:
                return StoredResponse(*json.loads(zlib.decompress(data)))
            except (zlib.error, ValueError, TypeError) as error:
                event(logging.ERROR, "a stored answer is damaged", problem=repr(error)[:200])
        return None
