"""How a collection's index comes to be: read whole, built from the file, or restored from what was saved beside it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ruvllm.errors import REEMBED, StoreError
from ruvllm.index import AutoIndex, IvfIndex, Rows
from ruvllm.index.saved import pack, unpack
from ruvllm.memory.paged import PagedVectors
from ruvllm.memory.records import Records
from ruvllm.memory.saved import SavedArrays

__all__ = ["Opening", "Progress"]

Progress = Callable[[int, int], None]

_LARGE = 50_000  # memories from which an index is saved
_PAGED = 200_000  # memories from which their vectors stay in the file
_MOVED = 0.05  # share of the memories that has to have changed before it is saved again
_PROBES = 64  # memories whose checksums tell whether this is still the file that the index was saved beside
_CHUNK = 4_096


@dataclass(frozen=True, slots=True)
class _Seen:
    """How a shelf was when it was last saved or restored."""

    epoch: int
    size: int
    dead: int

    def moved(self, before: _Seen) -> int:
        """How many rows came or went since."""
        apart = abs(self.size - before.size) + abs(self.dead - before.dead)
        return apart if self.epoch == before.epoch else self.size


class Opening:
    """Opens and saves the indexes of one state file and vector space.

    Args:
        records: the memories.
        space, dim: of the vectors.
        recall: of searches that name none.
        background: runs long index work, see `AutoIndex`.
        progress: told the rows sorted so far, and all, while a large index is built.
        large, paged: memories from which an index is saved, and from which vectors stay in the file.
    """

    def __init__(
        self,
        records: Records,
        space: str,
        dim: int,
        recall: float,
        background: Callable[[Callable[[], None]], Any] | None = None,
        progress: Progress | None = None,
        large: int = _LARGE,
        paged: int = _PAGED,
    ) -> None:
        self._records, self._space, self._dim, self._recall = records, space, dim, recall
        self._background, self._progress = background, progress
        self._large, self._paged = large, paged
        self._seen: dict[str, _Seen] = {}
        path = records.store.path
        self._root = None if path == ":memory:" or sys.platform == "emscripten" else Path(f"{path}.index")

    def open(self, collection: str) -> AutoIndex:
        """A collection's index, as the file is now.

        Raises:
            StoreError: the file cannot be read, or all its memories of this collection are of other encoders.
        """
        size, saved = self._records.size(collection), self._saved(collection)
        index: IvfIndex | None = None
        if saved is not None and size >= self._large:
            index = self._restored(collection, size, saved)
            if index is not None:
                self._seen[collection] = _state(index)
            elif size >= self._paged:
                rows = self._rows(self._records.ids(collection, self._space))
                index = IvfIndex(self._dim, recall=self._recall, rows=rows, progress=self._progress)
        whole = self._read(collection) if index is None else None
        if size and not len(index if index is not None else whole or ()):
            raise self._of_another(collection, size)
        return AutoIndex(self._dim, recall=self._recall, rows=whole, index=index, background=self._background)

    def _of_another(self, collection: str, size: int) -> StoreError:
        spaces = self._records.store.read(
            "SELECT DISTINCT space FROM vectors JOIN memories USING (id) WHERE collection = ? AND NOT archived LIMIT 3",
            (collection,),
        )
        named = ", ".join(space for (space,) in spaces)
        message = f"the {size:,} memories of {collection!r} are of another encoder ({named}), not {self._space}"
        fix = f"{REEMBED} with this encoder, or use the one that they were remembered with"
        return StoreError(message[:300], field="encoder", fix=fix)

    def save(self, collection: str, shelf: AutoIndex, revision: int) -> bool:
        """Keep a large index that has changed much since; True if it did. Everything in it must be on disk."""
        index, saved = shelf.index, self._saved(collection)
        if saved is None or not isinstance(index, IvfIndex) or len(index) < self._large:
            return False
        now, before = _state(index), self._seen.get(collection)
        if before is not None and now.moved(before) <= _MOVED * now.size:
            return False
        arrays = pack(index)
        if arrays is None:
            return False
        ids = arrays["ids"]
        facts = {
            "space": self._space,
            "collection": collection,
            "dim": self._dim,
            "revision": revision,
            "rows": len(ids),
            "elsewhere": self._records.size(collection) - len(ids),
            "probes": self._probes(ids),
        }
        self._seen[collection] = now  # where it cannot be written, it is not tried every time
        return saved.write(facts, arrays)

    def _saved(self, collection: str) -> SavedArrays | None:
        if self._root is None:
            return None
        name = sha256(f"{self._space}\0{collection}".encode()).hexdigest()[:16]
        return SavedArrays(self._root / name)

    def _restored(self, collection: str, size: int, saved: SavedArrays) -> IvfIndex | None:
        """What was saved, brought up to the file; None unless it fits in every respect."""
        found = saved.read()
        if found is None:
            return None
        facts, arrays = found
        wanted = {"space": self._space, "collection": collection, "dim": self._dim, "rows": len(arrays.get("ids", ()))}
        if any(facts.get(key) != value for key, value in wanted.items()):
            return None
        revision, elsewhere = facts.get("revision"), facts.get("elsewhere")
        if not isinstance(revision, int) or not isinstance(elsewhere, int) or revision > self._records.revision():
            return None
        there, gone = self._records.changed(revision)
        left = [i for i, of, archived in there if archived or of != collection]
        try:
            ids = arrays["ids"]
            if self._probes(ids, gone) != self._kept(facts.get("probes"), gone):
                return None
            index = unpack(arrays, self._rows(ids), self._recall)
        except (ValueError, TypeError, IndexError):
            return None
        index.remove(np.array(gone + left, np.int64))
        new = np.array([i for i, of, archived in there if of == collection and not archived], np.int64)
        new = new[~np.isin(new, index.rows.ids)]
        mine = self._records.in_space(new, self._space)
        for start in range(0, len(mine), _CHUNK):
            part = mine[start : start + _CHUNK]
            index.add(part, self._records.vectors(part))
        return index if len(index) + elsewhere + len(new) - len(mine) == size else None

    def _probes(self, ids: NDArray[np.int64], gone: list[int] | None = None) -> list[list[int]]:
        """Ids from all over, the last among them, with their checksums."""
        some = np.unique(ids[np.linspace(0, len(ids) - 1, min(_PROBES, len(ids))).astype(np.intp)])
        some = some[~np.isin(some, np.array(gone or [], np.int64))]
        return [list(pair) for pair in zip(some.tolist(), self._records.checksums(some), strict=False)]

    @staticmethod
    def _kept(probes: Any, gone: list[int]) -> Any:
        """Saved probes without those that are gone since."""
        missing = set(gone)
        return [pair for pair in probes if pair[0] not in missing]

    def _rows(self, ids: NDArray[np.int64]) -> Rows:
        """Rows over the file, or read whole where there are not too many."""
        vectors = PagedVectors(self._records.store, ids, self._dim)
        if len(ids) >= self._paged:
            return Rows(self._dim, unit=True, base=vectors, base_ids=ids)
        whole = np.empty((len(ids), self._dim), np.float32)
        for start in range(0, len(ids), _CHUNK):
            whole[start : start + _CHUNK] = vectors[np.arange(start, min(start + _CHUNK, len(ids)))]
        return Rows(self._dim, unit=True, base=whole, base_ids=ids)

    def _read(self, collection: str) -> Rows:
        rows = Rows(self._dim, unit=True)
        for ids, joined in self._records.chunks(collection, self._space):
            rows.add(ids, np.frombuffer(joined, "<f4").reshape(len(ids), -1))
        return rows


def _state(index: IvfIndex) -> _Seen:
    view = index.rows.view
    return _Seen(view.epoch, view.size, view.dead)
