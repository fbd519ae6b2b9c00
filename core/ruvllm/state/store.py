"""The one durable file: SQLite, opened by every host alike.

By default nothing that was acknowledged can be lost: every write is on disk when its call returns. With
`batch` writes share a transaction, and a crash loses at most that many, or what came within `interval`.
"""

from __future__ import annotations

import math
import os
import sqlite3
import threading
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path
from time import monotonic, sleep
from typing import Any, Generic, TypeVar

from ruvllm.errors import REPAIR, InputError, StoreError
from ruvllm.lazy_dataclass import dataclass
from ruvllm.reprs import Shown, shortened
from ruvllm.state.outbox import Outbox
from ruvllm.state.schema import prepare
from ruvllm.state.set_aside import SetAside
from ruvllm.text.surrogates import well_formed
from ruvllm.types import Feedback

_PATIENCE_MS = 2_000  # how long a writer waits for another process's transaction
_REPAIR = f"{REPAIR}, or restore a copy"
_BUSY = ("database is locked", "database table is locked")


def _patiently(prepare: Callable[[], None]) -> None:
    """Wait for other processes where SQLite does not: while one turns on the write-ahead log, or closes as the last."""
    until = monotonic() + _PATIENCE_MS / 1000
    while True:
        try:
            return prepare()
        except sqlite3.OperationalError as error:
            if str(error) not in _BUSY or monotonic() >= until:
                raise
            sleep(0.01)


@dataclass(frozen=True, slots=True, repr=False)
class FeedbackRow(Shown):
    """Feedback as the file holds it.

    Attributes:
        id: rises with time.
        request: which answer it is about, None where nobody said.
        rating: 1 to 5, None where there was none.
        created: seconds since 1970, UTC.
    """

    id: int
    feedback: Feedback
    request: str | None
    rating: float | None
    created: float


class Store:
    """What the system has been told and has learnt, kept across processes.

    Args:
        path: the file, made when missing; ":memory:" keeps nothing.
        batch: writes that may share a transaction; 1 commits each.
        interval: seconds after which an open transaction is committed by the next write or `tick`.

    Attributes:
        set_aside: what could not be written, alone.
        outbox: what other nodes are to be sent.
        committed: is called after each commit; None calls nobody.

    Raises:
        StoreError: the file is not a ruvllm state file, is damaged, or cannot be opened.
    """

    def __init__(
        self,
        path: str | Path = ":memory:",
        *,
        batch: int = 1,
        interval: float = 1.0,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        if not isinstance(path, str | os.PathLike) or not str(path):
            raise InputError(f"state is {shortened(path)}", field="state", fix="give the path of a file")
        if batch < 1:
            raise InputError(f"batch is {batch}", field="batch", fix="use 1 to commit every write, or more")
        self.path, self.batch, self.interval = str(path), batch, interval
        self._clock, self._lock = clock, threading.RLock()
        self._open, self._since = 0, 0.0  # writes in the open transaction, and when it began
        self._inside = 0  # writes that are being made, one within the other
        self.set_aside, self.outbox = SetAside(self), Outbox(self)
        self.committed: Callable[[], None] | None = None
        fix = f"give a writable path to a ruvllm state file, or {REPAIR}"
        try:
            if self.path != ":memory:":
                Path(self.path).parent.mkdir(parents=True, exist_ok=True)
                with suppress(OSError):  # a new one is for its owner alone: it holds what people said
                    os.close(os.open(self.path, os.O_CREAT | os.O_EXCL, 0o600))
            self._db = sqlite3.connect(
                self.path, timeout=_PATIENCE_MS / 1000, isolation_level=None, check_same_thread=False
            )
            try:
                _patiently(lambda: prepare(self._db, self.path))
            except BaseException:
                self._db.close()
                raise
        except (sqlite3.Error, OSError) as error:
            if str(error) in _BUSY:
                raise self._failure(error) from None
            raise StoreError(f"{self.path} cannot be opened: {error}", field="state", fix=fix) from None
        self.outbox.attach()

    def read(self, sql: str, values: Sequence[Any] = ()) -> list[Any]:
        """All rows of a query. Raises StoreError when the file cannot be read."""
        with self._lock:
            try:
                return self._db.execute(sql, values).fetchall()
            except UnicodeEncodeError:  # ask for what is stored of such a text
                return self.read(sql, [well_formed(value) if isinstance(value, str) else value for value in values])
            except sqlite3.Error as error:
                raise StoreError(f"{self.path} cannot be read: {error}", field="state", fix=_REPAIR) from None

    def stamp(self) -> tuple[int, int]:
        """Another pair of numbers after any change of the file, by this process or another one.

        Raises:
            StoreError: the file cannot be read.
        """
        return int(self.read("PRAGMA data_version")[0][0]), self._db.total_changes

    @contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """A transaction, whole or not at all; durable on leaving unless writes are batched.

        Raises:
            StoreError: it could not be kept: another process is writing, the disk is full or read-only.
        """
        with self._lock:
            try:
                if not self._open:
                    self._db.execute("BEGIN IMMEDIATE")
                    self._since = self._clock()
                self._db.execute("SAVEPOINT one")
            except sqlite3.Error as error:
                raise self._failure(error) from None
            self._open += 1
            self._inside += 1
            try:
                yield self._db
                self._db.execute("RELEASE one")
            except BaseException as error:
                self._undo()
                if isinstance(error, sqlite3.Error | UnicodeEncodeError):
                    raise self._failure(error) from None
                raise
            finally:
                self._inside -= 1
            if not self._inside and (self._open >= self.batch or self._clock() - self._since >= self.interval):
                self.flush()

    @contextmanager
    def alone(self) -> Iterator[sqlite3.Connection]:
        """The connection while nobody else uses it, for what is done to the file as a whole.

        Raises:
            StoreError: it could not be done.
        """
        with self._lock:
            try:
                yield self._db
            except sqlite3.Error as error:
                raise self._failure(error) from None

    @contextmanager
    def unsynced(self) -> Iterator[None]:
        """Do not wait for the disk after writes meanwhile: of what can be had again. The next write waits for all."""
        with self.alone() as db:
            if not self._open:  # within a transaction SQLite changes nothing of that
                db.execute("PRAGMA synchronous = NORMAL")
            try:
                yield
            finally:
                if not self._open:
                    db.execute("PRAGMA synchronous = FULL")

    @contextmanager
    def erasing(self) -> Iterator[None]:
        """Overwrite what a write deletes meanwhile: SQLite would leave the words there until it needs the room."""
        (before,) = self._db.execute("PRAGMA secure_delete").fetchone()
        self._db.execute("PRAGMA secure_delete = ON")
        try:
            with self.outbox.flag("erasing"):
                yield
        finally:
            self._db.execute(f"PRAGMA secure_delete = {int(before)}")

    def flush(self) -> None:
        """Put everything acknowledged on disk."""
        with self._lock:
            if not self._open:
                return
            if self._inside:
                self._since = -math.inf  # a write is whole or not at all: it is put on disk when it ends
                return
            try:
                self._db.execute("COMMIT")
            except sqlite3.Error as error:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise self._failure(error) from None
            finally:
                self._open = 0
            if self.committed is not None:
                self.committed()

    def tick(self) -> None:
        """For a host's timer: commit a transaction that has been open for long."""
        if self._open and self._clock() - self._since >= self.interval:
            self.flush()

    def add_feedback(self, feedback: Feedback, *, request: str | None = None, rating: float | None = None) -> int:
        """Keep it; once this returns it is on disk. Returns its id; a later one is higher.

        Args:
            request: which answer it is about, where the caller numbers these.
            rating: 1 (bad) to 5 (good), where it came with one.

        Raises:
            InputError: a rating out of range.
            StoreError: it cannot be kept.
        """
        if rating is not None and not 1 <= rating <= 5:
            raise InputError(f"rating is {rating}", field="rating", fix="use 1 (bad) to 5 (good)")
        row = (feedback.text, feedback.agent, feedback.weight, int(feedback.right), request, rating)
        with self.write() as db:
            made = db.execute(
                "INSERT INTO feedback (text, agent, weight, right, request, rating) VALUES (?, ?, ?, ?, ?, ?)", row
            ).lastrowid
        assert made is not None
        return made

    def feedback(self) -> list[Feedback]:
        """All of it, oldest first, without what was undone."""
        return self.feedback_since()[0]

    def feedback_since(self, after: int = 0, most: int = -1) -> tuple[list[Feedback], int]:
        """(what came into this file with a higher id, in that order, without what was undone; the id of the last).

        Args:
            most: so many at most, -1 for all.

        Raises:
            StoreError: it cannot be read, or is damaged.
        """
        sql = "SELECT text, agent, weight, right, id FROM feedback WHERE id > ? AND NOT undone ORDER BY id LIMIT ?"
        rows = self.read(sql, (after, most))
        found = [self._feedback_of(*row[:4]) for row in rows]
        return found, rows[-1][-1] if rows else after

    def feedback_rows(self, after: int = 0, most: int = -1) -> list[FeedbackRow]:
        """What was kept with a higher id, oldest first, without what was undone; at most so many, -1 for all.

        Where nodes replicate each other, the oldest is what was first given on any of them: the same order on all.

        Raises:
            StoreError: it cannot be read, or is damaged.
        """
        joined = " LEFT JOIN replicated r ON r.kind = 'feedback' AND r.item = CAST(id AS TEXT)"
        join, order = (joined, "r.uid, id") if self.outbox.enabled else ("", "id")
        found = self.read(
            f"SELECT id, text, agent, weight, right, request, rating, created FROM feedback{join}"
            f" WHERE id > ? AND NOT undone ORDER BY {order} LIMIT ?",
            (after, most),
        )
        return [FeedbackRow(row[0], self._feedback_of(*row[1:5]), *row[5:]) for row in found]

    def _feedback_of(self, text: object, agent: object, weight: object, right: object) -> Feedback:
        """Raises StoreError: it is damaged, as a page can be: it then holds what its table forbids."""
        if not (isinstance(text, str) and isinstance(agent, str) and isinstance(weight, float)):
            raise StoreError(f"feedback in {self.path} is damaged", field="state", fix=_REPAIR)
        return Feedback(text, agent, weight, bool(right))

    def undo_feedback(self, id: int) -> bool:
        """Take feedback back: it stays in the file, and nobody learns from it any more; whether there was such."""
        with self.write() as db:
            return db.execute("UPDATE feedback SET undone = 1 WHERE id = ? AND NOT undone", (id,)).rowcount > 0

    def put(self, name: str, data: bytes) -> None:
        """Keep learnt weights under a name, in the place of what was there."""
        with self.write() as db:
            db.execute(
                "INSERT INTO learnt (name, data, sha256) VALUES (?, ?, ?) ON CONFLICT (name)"
                " DO UPDATE SET data = excluded.data, sha256 = excluded.sha256, changed = excluded.changed",
                (name, data, sha256(data).hexdigest()),
            )

    def save(self, name: str, dump: Callable[[], bytes]) -> bool:
        """`put` what `dump` gives, or set it aside; whether it was written. Raises StoreError: nothing can be kept."""
        return self.set_aside.save(name, dump)

    def load(self, name: str) -> bytes | None:
        """Learnt weights, None when there are none. Raises StoreError when they are damaged."""
        rows = self.read("SELECT data, sha256 FROM learnt WHERE name = ?", (name,))
        if not rows:
            return None
        data, digest = rows[0]
        if sha256(data).hexdigest() != digest:
            fix = f"{REPAIR}: it drops them, and they are learnt again"
            raise StoreError(f"the learnt weights {name} are damaged", field="state", fix=fix)
        return bytes(data)

    def digest(self, name: str) -> str | None:
        """What tells one state of learnt weights from another; None when there are none."""
        rows = self.read("SELECT sha256 FROM learnt WHERE name = ?", (name,))
        return str(rows[0][0]) if rows else None

    def close(self) -> None:
        """Release the file; what was added stays."""
        with self._lock:
            try:
                self.flush()
            finally:
                self._db.close()

    def _undo(self) -> None:
        """Take back the write at hand; of a batch, what went before stays, unless SQLite dropped it all."""
        try:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK TO one")
                self._db.execute("RELEASE one")
                self._open -= 1
                if not self._open:
                    self._db.execute("ROLLBACK")
                return
        except sqlite3.Error:  # the disk does not even take that
            with suppress(sqlite3.Error):
                self._db.execute("ROLLBACK")
        self._open = 0

    def _failure(self, error: Exception) -> StoreError:
        if str(error) in _BUSY:
            fix = "wait for it, or let one process, a server, do the writing"
            return StoreError(f"another process is writing to {self.path}", field="state", fix=fix)
        return StoreError(f"it could not be kept: {error}", field="state", fix="check free disk space and rights")


K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Unchanged(Generic[K, V]):
    """Rows that were read by key, for as long as nothing in the file changes.

    Args:
        most: keys, from which on all are dropped.
    """

    def __init__(self, store: Store, most: int = 100_000) -> None:
        self._store, self._most, self._stamp = store, most, (-1, -1)
        self._rows = dict[K, list[V]]()

    def get(self, keys: Iterable[K], read: Callable[[list[K]], Iterable[tuple[K, V]]]) -> dict[K, list[V]]:
        """The rows of each key.

        Args:
            read: (key, row) of keys that were not read before.
        """
        stamp = self._store.stamp()
        if stamp != self._stamp or len(self._rows) > self._most:
            self._rows, self._stamp = {}, stamp
        rows = self._rows
        found = {key: rows.get(key) for key in keys}
        if new := [key for key, there in found.items() if there is None]:
            fresh: dict[K, list[V]] = {key: [] for key in new}
            for key, row in read(new):
                fresh[key].append(row)
            rows |= fresh
            found |= fresh
        return found  # type: ignore[return-value]
