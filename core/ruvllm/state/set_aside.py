"""What cannot be written is set aside alone: its id and the reason go to the log, all the rest is written.

The item itself waits in a table of the state file, whose encoding holds every text, until it is written again or
dropped (`ruvllm state set-aside`). A file that takes nothing at all is another matter: a StoreError, and all waits.
"""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from time import time
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from ruvllm.errors import RuvllmError, StoreError
from ruvllm.lazy_dataclass import dataclass
from ruvllm.state.schema import GUESTS
from ruvllm.text.surrogates import well_formed

if TYPE_CHECKING:
    from ruvllm.state.store import Store


T = TypeVar("T")
R = TypeVar("R")

_TABLE = GUESTS["set_aside"].replace("TABLE", "TABLE IF NOT EXISTS", 1)
_MOST, _MOST_BYTES = 1_000, 64 << 20  # rows, and bytes of their payloads together; the oldest leave
_LONGEST = 200  # characters of an id
_TURN = "turn"  # of a session: the next one does not take the place of the one before
_OF_A_MEMORY, _OF_TWO = ("accesses", "quality"), ("edge", "weight")
_SURPLUS = (
    "SELECT id, kind, item FROM (SELECT id, kind, item, row_number() OVER latest AS place,"
    " sum(length(payload)) OVER latest AS size FROM set_aside WINDOW latest AS (ORDER BY id DESC))"
    " WHERE place > ? OR size > ?"
)


@dataclass(frozen=True, slots=True)
class SetAsideRow:
    """Something that could not be written.

    Attributes:
        kind: "memory", "edge", "session", "turn", "feedback", "rating", "learnt", "agent", "federated", "quality",
            "weight" or "accesses".
        item: the id of what it is: of a request, a session, an agent, memories.
        reason: type of the error and what is at fault, without any text.
        created: seconds since 1970, UTC.
        size: bytes that a retry can write; 0 where the item itself could not be had.
    """

    id: int
    kind: str
    item: str
    reason: str
    created: float
    size: int


class SetAside:
    """The items of one state file that could not be written."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def write_each(
        self,
        kind: str,
        items: Sequence[T],
        write: Callable[[Sequence[T]], Sequence[R] | None],
        named: Callable[[T], str],
        payload: Callable[[T], Mapping[str, Any]],
    ) -> list[tuple[T, R | None]]:
        """Write all of them in one transaction; those that raise anything are set aside.

        Args:
            write: writes several, or one; returns something for each of them, or None.
            named: the id of one.
            payload: what a retry needs of one, as JSON.

        Returns:
            Those that were written, each with what `write` gave for it.

        Raises:
            StoreError: the file takes nothing, not even what is set aside; nothing has been written then.
        """
        if not items:
            return []
        refused = list[tuple[T, Exception]]()
        with self._store.write():
            done = self._written(items, write, refused)
            for item, error in refused:
                self.add(kind, named(item), error, lambda item=item: payload(item))  # type: ignore[misc]
        return done

    def save(self, name: str, dump: Callable[[], bytes]) -> bool:
        """`Store.put` what `dump` gives; whether it could be written. Raises StoreError: the file takes nothing."""
        data = list[bytes]()

        def write(_: Sequence[str]) -> None:
            if not data:
                data.append(dump())
            self._store.put(name, data[0])

        written = self.write_each("learnt", [name], write, str, lambda _: {"name": name, "data": base64_of(data[0])})
        if written:  # what was set aside is older
            self.erase(("learnt",), [name])
        return bool(written)

    def add(self, kind: str, item: str, error: Exception, payload: Callable[[], Mapping[str, Any]]) -> None:
        """Set one aside, in the place of an older one of this kind and id. Raises StoreError: it cannot be written."""
        item, reason = well_formed(item)[:_LONGEST], reason_of(error)
        try:
            data = json.dumps(payload()).encode()
        except Exception:  # then all that is left of it are its id and the reason
            data = b""
        with self._store.write() as db:
            db.execute(_TABLE)
            if kind != _TURN:
                db.execute("DELETE FROM set_aside WHERE kind = ? AND item = ?", (kind, item))
            row = (kind, item, reason, time(), data if len(data) <= _MOST_BYTES else b"")
            db.execute("INSERT INTO set_aside (kind, item, reason, created, payload) VALUES (?, ?, ?, ?, ?)", row)
            surplus = db.execute(_SURPLUS, (_MOST, _MOST_BYTES)).fetchall()
            self._delete([i for i, _, _ in surplus])
        _log("set aside: %s %a: %s", kind, item, reason)
        for _, lost, name in surplus:
            _log("dropped, since too much is set aside: %s %a", lost, name)

    def rows(self) -> list[SetAsideRow]:
        """All of them, oldest first. Raises StoreError: they cannot be read."""
        if not self._there():
            return []
        sql = "SELECT id, kind, item, reason, created, length(payload) FROM set_aside ORDER BY id"
        return [SetAsideRow(*row) for row in self._store.read(sql)]

    def counts(self) -> dict[str, int]:
        """Kind -> how many. Raises StoreError: they cannot be read."""
        if not self._there():
            return {}
        return dict(self._store.read("SELECT kind, count(*) FROM set_aside GROUP BY kind ORDER BY kind"))

    def refuse(self, row: SetAsideRow, error: Exception) -> None:
        """It cannot be written this time either, and this is why. Raises StoreError: that cannot be written."""
        with self._store.write() as db:
            db.execute("UPDATE set_aside SET reason = ? WHERE id = ?", (reason_of(error), row.id))
        _log("still set aside: %s %a: %s", row.kind, row.item, reason_of(error))

    def drop(self, ids: Iterable[int]) -> int:
        """Remove these for good; how many there were. Raises StoreError: it cannot be written."""
        chosen = set(ids) & {row.id for row in self.rows()}
        self._delete(chosen)
        return len(chosen)

    def erase(self, kinds: Collection[str], items: Iterable[str] | None = None) -> None:
        """Remove those of some kinds, all or of these ids, because what they belong to is removed or was replaced."""
        chosen = None if items is None else {well_formed(item)[:_LONGEST] for item in items}
        rows = [row for row in self.rows() if row.kind in kinds and (chosen is None or row.item in chosen)]
        self._delete([row.id for row in rows])

    def erase_texts(self, forms: Iterable[bytes]) -> None:
        """Remove what holds any of these bytes."""
        if self._there():
            for form in forms:
                self._delete(
                    [i for (i,) in self._store.read("SELECT id FROM set_aside WHERE instr(payload, ?)", (form,))]
                )

    def erase_memories(self, ids: Collection[int]) -> None:
        """Remove what belongs to memories: these are forgotten."""
        if rows := self.rows():
            gone = {str(i) for i in ids}
            one = [row.id for row in rows if row.kind in _OF_A_MEMORY and row.item in gone]
            two = [row.id for row in rows if row.kind in _OF_TWO and not gone.isdisjoint(row.item.split()[:2])]
            self._delete(one + two)

    def _written(
        self, items: Sequence[T], write: Callable[[Sequence[T]], Sequence[R] | None], refused: list[tuple[T, Exception]]
    ) -> list[tuple[T, R | None]]:
        """Halves, and halves of these, until whatever cannot be written is alone."""
        try:
            with self._store.write():
                results: Sequence[R | None] = write(items) or [None] * len(items)
                return list(zip(items, results, strict=True))
        except Exception as error:
            if len(items) == 1:
                refused.append((items[0], error))
                return []
        half = len(items) // 2
        return self._written(items[:half], write, refused) + self._written(items[half:], write, refused)

    def _there(self) -> bool:
        return bool(self._store.read("SELECT 1 FROM sqlite_master WHERE name = 'set_aside'"))

    def _delete(self, ids: Collection[int]) -> None:
        if ids:
            with self._store.write() as db, self._store.erasing():
                db.executemany("DELETE FROM set_aside WHERE id = ?", [(i,) for i in ids])


def reason_of(error: BaseException) -> str:
    """The type of an error, and what of it can be said without its message, which may quote a text."""
    if isinstance(error, StoreError) and error.__context__ is not None:  # what SQLite had against it
        error = error.__context__
    what = getattr(error, "sqlite_errorname", "")
    if isinstance(error, UnicodeError):
        what = getattr(error, "reason", "")
    elif isinstance(error, RuvllmError):
        what = error.field
    return f"{type(error).__name__}: {what}"[:_LONGEST] if what else type(error).__name__


def base64_of(data: bytes | NDArray[np.float32]) -> str:
    """Bytes, or a vector as little-endian float32, for a payload."""
    return b64encode(data if isinstance(data, bytes) else data.astype("<f4").tobytes()).decode()


def _log(line: str, *values: object) -> None:
    import logging  # no start waits for it

    logging.getLogger("ruvllm.state").error(line, *values)
