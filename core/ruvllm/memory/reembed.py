"""Memories of another encoder, or of an earlier edition of this one, encoded anew.

In small transactions, so that it may be stopped at any time.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import numpy as np

from ruvllm.encoders.protocol import Pause, no_pause
from ruvllm.errors import REPAIR, StoreError
from ruvllm.memory.memory import MemoryStore
from ruvllm.memory.surroundings import directed
from ruvllm.state.names import EDITION, BlobStore
from ruvllm.state.record import checksum, heard, read_metadata

_BATCH = 16  # what is lost at most when it is stopped; a language model takes seconds for them


def elsewhere(memory: MemoryStore) -> dict[str, int]:
    """Space -> memories, archived ones too, whose vectors are not of this memory's encoder."""
    rows = memory.store.read("SELECT space, count(*) FROM vectors WHERE space <> ? GROUP BY space", (memory.space,))
    return dict(rows)


def refuse_strange(memory: MemoryStore) -> None:
    """For who is about to serve for long. Raises StoreError: there are memories, and none is of this encoder."""
    here = memory.store.read("SELECT EXISTS (SELECT 1 FROM vectors WHERE space = ?)", (memory.space,))[0][0]
    for collection in () if here else memory.records.counts():
        memory.nearest(np.ones(memory.encoder.dim, np.float32), 1, collection=collection)


async def reembed(memory: MemoryStore, pause: Pause = no_pause) -> AsyncIterator[int]:
    """Give every memory a vector of this memory's encoder; yields how many were done, batch by batch.

    What is done is on disk before it is told. A memory keeps its old vector until its new one is there, and what was
    done before is not done again: after an end of any kind it simply goes on.

    Args:
        pause: awaited after each batch.

    Raises:
        EncoderError: a text cannot be encoded.
        StoreError: it cannot be read or written.
    """
    async for done, _ in _read_anew(memory, False, 0):
        yield done
        await pause()


async def renew(memory: MemoryStore, store: BlobStore, edition: int, pause: Pause = no_pause) -> int:
    """Read with this edition of the encoder what an earlier one may have read; returns how many memories.

    All of them are found meanwhile, by the old vectors or the new. What was read stays read, also where the pause
    raises; the next call goes on from there.

    Raises:
        EncoderError: a text cannot be encoded.
        StoreError: it cannot be read or written.
    """
    count, before = 0, _read_so_far(store)
    async for done, last in _read_anew(memory, True, before):
        count += done
        store.put(EDITION, json.dumps([edition - 1, last]).encode())
        await pause()
    store.put(EDITION, json.dumps([edition, 0]).encode())
    if count or before:
        memory.indexes.reopen()
    return count


def _read_so_far(store: BlobStore) -> int:
    """The last memory that was read anew before."""
    try:
        _, after = json.loads(store.load(EDITION) or b"[1, 0]")
        return int(after)
    except (ValueError, TypeError, StoreError):
        return 0


async def _read_anew(memory: MemoryStore, here: bool, after: int) -> AsyncIterator[tuple[int, int]]:
    """(how many were done, the last of them), batch by batch, of memories with an id above `after`.

    Args:
        here: those of this space, or those of all others.
    """
    while True:
        rows = memory.store.read(
            "SELECT m.id, m.collection, m.kind, m.text, m.metadata FROM memories m JOIN vectors v USING (id)"
            " WHERE (v.space = ?) = ? AND m.id > ? ORDER BY m.id LIMIT ?",
            (memory.space, here, after, _BATCH),
        )
        if not rows:
            return
        after = rows[-1][0]
        if not all(isinstance(value, str) for row in rows for value in row[1:]):
            raise StoreError("a memory is damaged", field="state", fix=REPAIR)
        encoded = await memory.encoder.encode([_heard(row[3], row[4]) for row in rows])
        # A text that this encoder has no direction for keeps its old vector: none would be lost to every search.
        good = [i for i, vector in enumerate(encoded) if vector.any()]
        rows, vectors = [rows[i] for i in good], directed(encoded[good], (len(good), memory.encoder.dim))
        blobs = [row.tobytes() for row in np.ascontiguousarray(vectors, "<f4")]
        with memory.store.write() as db:
            (revision,) = db.execute("UPDATE clock SET revision = revision + 1 RETURNING revision").fetchone()
            for (i, *fields), blob in zip(rows, blobs, strict=True):
                collection, kind, text, metadata = fields
                crc = checksum(collection, kind, memory.space, text, metadata, blob)
                # One that was forgotten meanwhile has neither row any more.
                db.execute("UPDATE vectors SET space = ?, data = ? WHERE id = ?", (memory.space, blob, i))
                db.execute("UPDATE memories SET crc = ?, revision = ? WHERE id = ?", (crc, revision, i))
        memory.store.flush()
        yield len(rows), after


def _heard(text: str, metadata: str) -> str:
    try:
        return heard(text, read_metadata(metadata))
    except ValueError:
        raise StoreError("the metadata of a memory are damaged", field="state", fix=REPAIR) from None
