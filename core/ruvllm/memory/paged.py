"""Vectors that stay in the state file and are read by row when a search asks for them."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ruvllm.errors import REPAIR, StoreError
from ruvllm.memory.records import LITTLE
from ruvllm.memory.store import Store

__all__ = ["PagedVectors"]

_SPREAD = 2  # ids in a range, for each one wanted, up to which the range is read

Ids = NDArray[np.int64]


class PagedVectors:
    """Rows of unit vectors; what has been removed from the file reads as zeros, which no search finds near.

    Args:
        store: the state file.
        ids: int64 (n,) rising, the memory behind each row.
        dim: width of the vectors.
    """

    def __init__(self, store: Store, ids: Ids, dim: int) -> None:
        self._store, self._ids, self.dim = store, ids, dim

    def __len__(self) -> int:
        return len(self._ids)

    def __getitem__(self, rows: NDArray[np.integer[Any]]) -> NDArray[np.float32]:
        """float32 (len(rows), dim). Raises StoreError when one is damaged."""
        asked = self._ids[rows]
        order = asked.argsort()  # the file is read in its own order
        ids = asked[order]
        found = self._found(ids)
        width = self.dim * LITTLE.itemsize
        if any(len(data) != width for _, data in found):
            raise _damaged()
        read = np.frombuffer(b"".join([data for _, data in found]), LITTLE).reshape(len(found), self.dim)
        lengths = np.sqrt(np.einsum("ij,ij->i", read, read))
        if not np.isfinite(lengths).all():
            raise _damaged()
        out = np.zeros((len(ids), self.dim), np.float32)
        if len(found) < len(ids):
            order = order[np.isin(ids, np.fromiter((i for i, _ in found), np.int64, len(found)))]
        out[order] = read / np.maximum(lengths, np.finfo(np.float32).tiny)[:, None]
        return out

    def _found(self, ids: Ids) -> list[tuple[int, bytes]]:
        """Id and bytes of those of rising ids that are there, rising."""
        if not len(ids):
            return []
        first, last = int(ids[0]), int(ids[-1])
        if len(ids) > 1 and last - first < _SPREAD * len(ids):
            found = self._store.read("SELECT id, data FROM vectors WHERE id BETWEEN ? AND ? ORDER BY id", (first, last))
            if len(found) > len(ids):  # some are another collection's
                wanted = set(ids.tolist())
                found = [row for row in found if row[0] in wanted]
            return found
        # CROSS keeps SQLite to this order: a look-up for each id.
        return self._store.read(
            "SELECT v.id, v.data FROM json_each(?) j CROSS JOIN vectors v ON v.id = j.value",
            (json.dumps(ids.tolist()),),
        )


def _damaged() -> StoreError:
    return StoreError("a vector is damaged", field="state", fix=REPAIR)
