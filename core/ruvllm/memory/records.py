"""Memories in the state file: text, metadata, vector, quality, how often they were used."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ruvllm.encoders.cache import LruCache
from ruvllm.encoders.protocol import Pause
from ruvllm.errors import REPAIR, InputError, StoreError
from ruvllm.memory.filters import Filter, compile_filter
from ruvllm.state.record import LITTLE, Memory, checksum, read_metadata, row_of, word_hashes
from ruvllm.state.store import Store

_COLUMNS = "id, collection, kind, text, metadata, quality, accesses, created, accessed, archived"
_IDS, _PAGE = 65_536, 8_192
_MOST_RECENT = 2_000
_LONGEST = 4_000  # characters of a text; longer ones are read each time


class Records:
    """Memories of a store, their vectors beside them (float32, little-endian).

    Args:
        store: where they are kept.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self._touched: Counter[int] = Counter()

    def add(self, memories: Sequence[Memory], vectors: NDArray[np.float32], space: str) -> list[int]:
        """Keep memories with the vectors (n, dim) of an encoder's space; returns their ids.

        Raises:
            InputError: a text, metadata, kind, quality or vector that cannot be kept.
            StoreError: the file cannot be written; none was kept then.
        """
        rows = [row_of(memory) for memory in memories]
        table = np.ascontiguousarray(vectors, LITTLE)
        if table.ndim != 2 or len(table) != len(rows):
            message = f"vectors of shape {table.shape} for {len(rows)} memories"
            raise InputError(message, field="vectors", fix="give a row each")
        if not np.isfinite(table).all():
            raise InputError("a vector is not finite", field="vectors", fix="leave out what the encoder failed on")
        blobs = [row.tobytes() for row in table]
        ids = list[int]()
        with self.store.write() as db:
            revision = self._next(db)
            for row, blob in zip(rows, blobs, strict=True):
                crc = checksum(row[0], row[1], space, row[2], row[3], blob)
                cursor = db.execute(
                    "INSERT INTO memories (collection, kind, text, metadata, quality, revision, crc)"
                    " VALUES (?, ?, ?, ?, ?, ?, ?)",
                    (*row, revision, crc),
                )
                assert cursor.lastrowid is not None
                ids.append(cursor.lastrowid)
            db.executemany("INSERT INTO vectors VALUES (?, ?, ?)", zip(ids, [space] * len(ids), blobs, strict=True))
            words = [word_hashes(memory.text, memory.metadata) for memory in memories]
            self.add_words([(i, len(one), one.astype("<u4").tobytes()) for i, one in zip(ids, words, strict=True)])
        return ids

    def add_words(self, rows: Sequence[tuple[int, int, bytes]]) -> None:
        """Write (id, how many terms, their hashes as uint32) of memories; see `text.terms`."""
        with self.store.write() as db:
            db.executemany("INSERT OR REPLACE INTO words VALUES (?, ?, ?)", rows)

    def get(self, ids: Sequence[int]) -> list[Memory]:
        """Those of these ids that are there, in the order asked."""
        found = self.store.read(
            f"SELECT {_COLUMNS} FROM memories WHERE id IN (SELECT value FROM json_each(?))", (json.dumps(list(ids)),)
        )
        by_id = {row[0]: self._memory(row) for row in found}
        return [by_id[i] for i in ids if i in by_id]

    def vectors(self, ids: NDArray[np.int64]) -> NDArray[np.float32]:
        """float32 (n, dim) in the order asked. Raises StoreError when one is missing or of another width."""
        found = dict(
            self.store.read(
                "SELECT id, data FROM vectors WHERE id IN (SELECT value FROM json_each(?))",
                (json.dumps(ids.tolist()),),
            )
        )
        blobs = [found.get(i, b"") for i in ids.tolist()]
        widths = {len(blob) for blob in blobs} or {0}
        if len(widths) > 1 or (width := widths.pop()) % LITTLE.itemsize or (blobs and not width):
            raise StoreError("a vector is missing or damaged", field="state", fix=REPAIR)
        joined = np.frombuffer(b"".join(blobs), LITTLE).reshape(len(blobs), width // LITTLE.itemsize)
        return joined.astype(np.float32, copy=False)

    def matching(self, collection: str, filter: Filter | None = None) -> NDArray[np.int64]:
        """int64 ids of a collection's memories in the index whose metadata fulfils a filter, rising."""
        sql, values = compile_filter(filter or {})
        found = self.store.read(
            f"SELECT id FROM memories WHERE collection = ? AND NOT archived AND {sql} ORDER BY id",
            (collection, *values),
        )
        return np.fromiter((row[0] for row in found), np.int64, len(found))

    def rematched(self, collection: str, filter: Filter, since: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """(ids of a collection's memories that changed after a revision, those of them that are `matching` now)."""
        sql, values = compile_filter(filter)
        found = self.store.read(
            f"SELECT id, NOT archived AND {sql} FROM memories WHERE revision > ? AND +collection = ?",
            (*values, since, collection),
        )
        rows = np.array(found, np.int64).reshape(len(found), 2)
        return rows[:, 0], rows[rows[:, 1] == 1, 0]

    def revision(self) -> int:
        """The number of the last change, this process's or another's."""
        return int(self.store.read("SELECT revision FROM clock")[0][0])

    def changed(self, since: int) -> tuple[list[tuple[int, str, bool]], list[int]]:
        """What changed after a revision: (id, collection, archived) of those there, and ids that are gone."""
        there = self.store.read("SELECT id, collection, archived FROM memories WHERE revision > ?", (since,))
        gone = self.store.read("SELECT id FROM removed WHERE revision > ?", (since,))
        return [(i, collection, bool(archived)) for i, collection, archived in there], [row[0] for row in gone]

    def remove(self, ids: Sequence[int]) -> int:
        """Forget memories with their vectors and edges; returns how many there were."""
        with self.store.write() as db:
            revision, chosen = self._next(db), json.dumps(list(ids))
            db.execute(
                "INSERT OR REPLACE INTO removed"
                " SELECT id, ? FROM memories WHERE id IN (SELECT value FROM json_each(?))",
                (revision, chosen),
            )
            self.store.set_aside.erase_memories(ids)
            return db.execute("DELETE FROM memories WHERE id IN (SELECT value FROM json_each(?))", (chosen,)).rowcount

    def archive(self, ids: Sequence[int]) -> None:
        """Take memories out of the index; they stay reachable by id and by their edges."""
        with self.store.write() as db:
            db.execute(
                "UPDATE memories SET archived = 1, revision = ? WHERE id IN (SELECT value FROM json_each(?))",
                (self._next(db), json.dumps(list(ids))),
            )

    def rate(self, changes: Mapping[int, float]) -> None:
        """Move the quality of memories by so much, within 0 and 1."""
        with self.store.write() as db:
            revision = self._next(db)
            db.executemany(
                "UPDATE memories SET quality = max(0, min(1, quality + ?)), revision = ? WHERE id = ?",
                [(change, revision, i) for i, change in changes.items()],
            )

    def touch(self, ids: Sequence[int]) -> None:
        """Count an access of each; written down with the next `flush`."""
        self._touched.update(ids)

    def flush(self) -> None:
        """Write down accesses and what else waits."""
        touched, self._touched = self._touched, Counter()
        try:
            self.store.set_aside.write_each(
                "accesses",
                list(touched.items()),
                self.count_accesses,
                lambda one: str(one[0]),
                lambda one: {"id": one[0], "count": one[1]},
            )
            self.store.flush()
        except StoreError:
            self._touched.update(touched)  # for the next time
            raise

    def count_accesses(self, counts: Sequence[tuple[int, int]]) -> None:
        """Add (id, accesses), which were just now, all or nothing."""
        with self.store.write() as db:
            db.executemany(
                "UPDATE memories SET accesses = accesses + ?,"
                " accessed = (julianday('now') - 2440587.5) * 86400.0 WHERE id = ?",
                [(count, i) for i, count in counts],
            )

    def size(self, collection: str) -> int:
        """How many memories of a collection are in the index, whatever the space of their vectors."""
        sql = "SELECT count(*) FROM memories WHERE collection = ? AND NOT archived"
        return int(self.store.read(sql, (collection,))[0][0])

    def ids(self, collection: str, space: str) -> NDArray[np.int64]:
        """int64 ids of a collection's memories in the index that have a vector of this space, rising."""
        parts, after = [np.empty(0, np.int64)], 0
        while True:
            rows = self.store.read(
                "SELECT id FROM memories m JOIN vectors v USING (id)"
                " WHERE m.collection = ? AND NOT m.archived AND v.space = ? AND id > ? ORDER BY id LIMIT ?",
                (collection, space, after, _IDS),
            )
            if not rows:
                return np.concatenate(parts)
            parts.append(np.fromiter((row[0] for row in rows), np.int64, len(rows)))
            after = rows[-1][0]

    async def heat(
        self, collection: str, half_life: float, pause: Pause
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """int64 ids of a collection's memories in the index, rising, and how much each is used.

        Args:
            half_life: seconds without a use after which accesses count half.
        """
        parts, after = [np.empty((0, 3))], 0
        while rows := self.store.read(
            "SELECT id, accesses, (julianday('now') - 2440587.5) * 86400.0 - accessed FROM memories"
            " WHERE collection = ? AND NOT archived AND id > ? ORDER BY id LIMIT ?",
            (collection, after, _PAGE),
        ):
            parts.append(np.array(rows, np.float64))
            after = rows[-1][0]
            await pause()
        ids, accesses, ages = np.concatenate(parts).T
        return ids.astype(np.int64), accesses * 2.0 ** -(np.maximum(ages, 0.0) / half_life)

    def in_space(self, ids: NDArray[np.int64], space: str) -> NDArray[np.int64]:
        """Those of these ids whose vectors are of a space, rising."""
        found = self.store.read(
            "SELECT id FROM vectors WHERE id IN (SELECT value FROM json_each(?)) AND space = ? ORDER BY id",
            (json.dumps(ids.tolist()), space),
        )
        return np.fromiter((row[0] for row in found), np.int64, len(found))

    def fitting(self, ids: NDArray[np.int64], collection: str, space: str, filter: Filter) -> list[int]:
        """Those of these ids that are in a collection and a space and fulfil a filter, archived ones too, rising."""
        sql, values = compile_filter(filter)
        found = self.store.read(
            "SELECT id FROM memories JOIN vectors USING (id) WHERE id IN (SELECT value FROM json_each(?))"
            # By id, with the plus: by its collection SQLite would look at all that this holds.
            f" AND +collection = ? AND space = ? AND {sql} ORDER BY id",
            (json.dumps(ids.tolist()), collection, space, *values),
        )
        return [row[0] for row in found]

    def checksums(self, ids: NDArray[np.int64]) -> list[int]:
        """The checksums of those of these ids that are there, in rising id."""
        found = self.store.read(
            "SELECT crc FROM memories WHERE id IN (SELECT value FROM json_each(?)) ORDER BY id",
            (json.dumps(ids.tolist()),),
        )
        return [row[0] for row in found]

    def present(self, ids: Iterable[int]) -> set[int]:
        """Those of these ids that are there."""
        found = self.store.read(
            "SELECT id FROM memories WHERE id IN (SELECT value FROM json_each(?))", (json.dumps(list(ids)),)
        )
        return {i for (i,) in found}

    def counts(self) -> dict[str, int]:
        """Collection -> memories in the index."""
        found = self.store.read("SELECT collection, count(*) FROM memories WHERE NOT archived GROUP BY collection")
        return dict(found)

    @staticmethod
    def _next(db: Any) -> int:
        (revision,) = db.execute("UPDATE clock SET revision = revision + 1 RETURNING revision").fetchone()
        return int(revision)

    @staticmethod
    def _memory(row: tuple[Any, ...]) -> Memory:
        i, collection, kind, text, metadata, quality, accesses, created, accessed, archived = row
        try:
            about = read_metadata(metadata)
        except ValueError:
            raise StoreError(f"the metadata of memory {i} are damaged", field="state", fix=REPAIR) from None
        return Memory(text, kind, collection, about, quality, i, accesses, created, accessed, bool(archived))


class Recent:
    """Memories by id, as the state file had them when they were last read or dropped.

    Args:
        records: reads those that are not at hand.
    """

    def __init__(self, records: Records) -> None:
        self._records = records
        self._recent: LruCache[int, Memory] = LruCache(_MOST_RECENT)

    def get(self, ids: Sequence[int]) -> list[Memory]:
        """Those of these ids that are there, in the order asked; how often they were used may have grown since."""
        found = {i: self._recent.get(i) for i in ids}
        missing = [i for i, memory in found.items() if memory is None]
        for memory in self._records.get(missing) if missing else ():
            found[memory.id] = memory
            if len(memory.text) <= _LONGEST:
                self._recent.put(memory.id, memory)
        return [memory for memory in found.values() if memory is not None]

    def drop(self, ids: Iterable[int]) -> None:
        """They were changed, or removed."""
        for i in ids:
            self._recent.drop(i)
