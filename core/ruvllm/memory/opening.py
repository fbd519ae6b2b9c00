"""How a collection's index comes to be: read whole, built from the file, or restored from what was saved beside it."""

from __future__ import annotations

import io
import json
import os
import secrets
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from hashlib import file_digest, sha256
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ruvllm.errors import REEMBED, StoreError
from ruvllm.index import AutoIndex, HnswIndex, IvfIndex, Rows
from ruvllm.index.auto import GRAPHS
from ruvllm.index.saved import pack, unpack, unpack_graph
from ruvllm.memory.records import Records
from ruvllm.memory.tiering import PagedVectors, TieredVectors

Ids = NDArray[np.int64]
_FORMAT = 1
_HEADER = "index.json"
_MOST_HEADER = 1 << 20
_STALE_S = 3_600  # files that no header names may be another process's, which is about to write its own


class SavedArrays:
    """One set of arrays with facts about them.

    Args:
        folder: made when something is saved.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def write(self, facts: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> bool:
        """Replace what is there; False where the folder cannot be written."""
        mark, files = secrets.token_hex(8), dict[str, dict[str, Any]]()
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            old = self._named()
            for name, array in arrays.items():
                buffer = io.BytesIO()
                np.save(buffer, np.ascontiguousarray(array), allow_pickle=False)
                data, file = buffer.getbuffer(), f"{name}-{mark}.npy"
                (self.folder / file).write_bytes(data)
                files[name] = {"file": file, "bytes": len(data), "sha256": sha256(data).hexdigest()}
            content = {"format": _FORMAT, "facts": dict(facts), "arrays": files}
            text = json.dumps(content | {"sha256": _digest(content)})
            fresh = self.folder / f"header-{mark}.part"
            fresh.write_text(text, "utf-8")
            fresh.replace(self.folder / _HEADER)
        except OSError:
            for path in self.folder.glob(f"*-{mark}.*"):
                _remove(path)
            return False
        self._tidy(old, {entry["file"] for entry in files.values()})
        return True

    def facts(self) -> dict[str, Any]:
        """What was saved about the arrays, none of which is read; empty where there is nothing."""
        content = self._header()
        return {} if content is None else dict(content["facts"])

    def read(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]] | None:
        """Facts and arrays; None when anything is missing, damaged or of another format."""
        content = self._header()
        if content is None:
            return None
        arrays = dict[str, NDArray[Any]]()
        try:
            for name, entry in content["arrays"].items():
                path = self.folder / Path(entry["file"]).name
                if path.stat().st_size != entry["bytes"]:
                    return None
                with path.open("rb") as file:
                    if file_digest(file, "sha256").hexdigest() != entry["sha256"]:
                        return None
                # Mapped: read as it is searched, and dropped when memory is short. What is changed is a copy.
                arrays[name] = np.load(path, mmap_mode=None if os.name == "nt" else "c", allow_pickle=False)
        except (OSError, ValueError, EOFError, KeyError, TypeError, AttributeError):
            return None
        return content["facts"], arrays

    def _header(self) -> dict[str, Any] | None:
        path = self.folder / _HEADER
        try:
            if path.stat().st_size > _MOST_HEADER:
                return None
            content = json.loads(path.read_text("utf-8"))
            digest = content.pop("sha256")
        except (OSError, ValueError, RecursionError, AttributeError, KeyError, TypeError):
            return None
        if digest != _digest(content) or content.get("format") != _FORMAT:
            return None
        facts, arrays = content.get("facts"), content.get("arrays")
        if not isinstance(facts, dict) or not isinstance(arrays, dict):
            return None
        sound = all(isinstance(entry, dict) and isinstance(entry.get("file"), str) for entry in arrays.values())
        return dict(content) if sound else None

    def _named(self) -> set[str]:
        """Names of the files that the header there names."""
        content = self._header() or {"arrays": {}}
        return {Path(entry["file"]).name for entry in content["arrays"].values()}

    def _tidy(self, old: set[str], new: set[str]) -> None:
        """Delete what is no longer named."""
        before = time.time() - _STALE_S
        with suppress(OSError):
            for path in self.folder.iterdir():
                stray = path.suffix in (".npy", ".part") and path.stat().st_mtime < before
                if path.name not in new and (path.name in old or stray):
                    _remove(path)


def _digest(content: Mapping[str, Any]) -> str:
    return sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _remove(path: Path) -> None:
    with suppress(OSError):
        os.remove(path)


Progress = Callable[[int, int], None]

_LARGE = 50_000  # memories from which an index is saved
_TIERS = "-tiers"  # what is added to the name of an index's folder
_LARGE_GRAPH = 2_000  # the same of a graph, which takes longer to build
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
        distance = abs(self.size - before.size) + abs(self.dead - before.dead)
        return distance if self.epoch == before.epoch else self.size


class Opening:
    """Opens and saves the indexes of one state file and vector space.

    Args:
        records: the memories.
        space, dim: of the vectors.
        recall: of searches that name none.
        background: runs long index work, see `AutoIndex`.
        progress: told the rows sorted so far, and all, while a large index is built.
        large, paged: memories from which an index is saved, and from which vectors stay in the file.
        use: the kind of index, see `AutoIndex`.
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
        use: str = "auto",
    ) -> None:
        self._records, self._space, self._dim, self._recall = records, space, dim, recall
        self._background, self._progress = background, progress
        self._large, self._paged, self._use = min(large, _LARGE_GRAPH) if use == "hnsw" else large, paged, use
        self._seen: dict[str, _Seen] = {}
        path = records.store.path
        self._root = None if path == ":memory:" or sys.platform == "emscripten" else Path(f"{path}.index")

    def open(self, collection: str) -> AutoIndex:
        """A collection's index, as the file is now.

        Raises:
            StoreError: the file cannot be read, or all its memories of this collection are of other encoders.
        """
        size, saved = self._records.size(collection), self._saved(collection)
        index: IvfIndex | HnswIndex | None = None
        if saved is not None and size >= self._large:
            index = self._restored(collection, size, saved)
            if index is not None:
                self._seen[collection] = _state(index)
            elif size >= self._paged and self._use in ("auto", "ivf"):
                rows = self._rows(collection, self._records.ids(collection, self._space), paged=True)
                index = IvfIndex(self._dim, recall=self._recall, rows=rows, progress=self._progress)
        whole = None
        if index is None:
            whole = self._rows(collection, self._records.ids(collection, self._space), paged=False)
        if size and not len(index if index is not None else whole or ()):
            raise self._of_another(collection, size)
        return AutoIndex(
            self._dim, recall=self._recall, rows=whole, index=index, background=self._background, use=self._use
        )

    def _of_another(self, collection: str, size: int) -> StoreError:
        spaces = self._records.store.read(
            "SELECT DISTINCT space FROM vectors JOIN memories USING (id) WHERE collection = ? AND NOT archived LIMIT 3",
            (collection,),
        )
        named = ", ".join(space for (space,) in spaces)
        message = f"the {size:,} memories of {collection!r} are of another encoder ({named}), not {self._space}"
        fix = f"{REEMBED} with this encoder, or use the one that they were remembered with"
        return StoreError(message[:300], field="encoder", fix=fix)

    def save(self, collection: str, collection_index: AutoIndex, revision: int) -> bool:
        """Keep a large index that has changed much since; True if it did. Everything in it must be on disk."""
        index, saved = collection_index.index, self._saved(collection)
        if saved is None or not isinstance(index, IvfIndex | HnswIndex) or len(index) < self._large:
            return False
        now, before = _state(index), self._seen.get(collection)
        if before is not None and now.moved(before) <= _MOVED * now.size:
            return False
        arrays = pack(index)
        if arrays is None:
            return False
        ids = arrays["ids"]
        elsewhere = self._records.size(collection) - len(ids)
        facts = self._facts(collection, revision, ids) | {"kind": index.kind, "elsewhere": elsewhere}
        self._seen[collection] = now  # where it cannot be written, it is not tried every time
        return saved.write(facts, arrays)

    def save_tiers(self, collection: str, tiered: TieredVectors, rows: Rows, revision: int) -> bool:
        """Write the tiers of a collection's vectors beside the state file, to be taken up when it is next opened."""
        saved, view = self._saved(collection, _TIERS), rows.view
        if saved is None:
            return False
        living = np.flatnonzero(view.penalty[: len(tiered)] == 0).astype(np.int64)
        living = living[view.ids[living].argsort(kind="stable")]
        facts = self._facts(collection, revision, view.ids[living]) | {"tiers": tiered.stats()}
        return saved.write(facts, {"ids": view.ids[living], **tiered.packed(living)})

    def tiers(self, collection: str, size: int) -> dict[str, dict[str, int]]:
        """Memories and bytes by tier of a collection of this size that is not open, as they were saved."""
        saved = self._saved(collection, _TIERS)
        facts = {} if saved is None else saved.facts()
        if self._fits(facts, collection) and isinstance(facts.get("tiers"), dict):
            return dict(facts["tiers"])
        paged = size >= self._paged and self._root is not None and self._use in ("auto", "ivf")
        return {"file" if paged else "f32": {"count": size, "bytes": 0 if paged else 4 * self._dim * size}}

    def _facts(self, collection: str, revision: int, ids: Ids) -> dict[str, Any]:
        """What tells later whether arrays about these memories are of this file."""
        of = {"space": self._space, "collection": collection, "dim": self._dim}
        return of | {"revision": revision, "rows": len(ids), "probes": self._probes(ids)}

    def _fits(self, facts: Mapping[str, Any], collection: str) -> bool:
        """Whether facts are of this collection of this file, as far as can be told without their arrays."""
        of = {"space": self._space, "collection": collection, "dim": self._dim}
        revision = facts.get("revision")
        named = all(facts.get(key) == value for key, value in of.items())
        return named and isinstance(revision, int) and revision <= self._records.revision()

    def _saved(self, collection: str, part: str = "") -> SavedArrays | None:
        if self._root is None:
            return None
        name = sha256(f"{self._space}\0{collection}".encode()).hexdigest()[:16]
        return SavedArrays(self._root / (name + part))

    def _restored(self, collection: str, size: int, saved: SavedArrays) -> IvfIndex | HnswIndex | None:
        """What was saved, brought up to the file; None unless it fits in every respect."""
        found = saved.read()
        if found is None:
            return None
        facts, arrays = found
        elsewhere, kind = facts.get("elsewhere"), "hnsw" if self._use == "hnsw" else "ivf"
        if not self._fits(facts, collection) or facts.get("rows") != len(arrays.get("ids", ())):
            return None
        if not isinstance(elsewhere, int) or facts.get("kind") != kind or self._use not in ("auto", kind):
            return None
        there, gone = self._records.changed(facts["revision"])
        left = [i for i, of, archived in there if archived or of != collection]
        try:
            ids = arrays["ids"]
            if self._probes(ids, gone) != self._remaining(facts.get("probes"), gone):
                return None
            rows = self._rows(collection, ids, paged=len(ids) >= self._paged and kind == "ivf")
            index = (unpack_graph if kind == "hnsw" else unpack)(arrays, rows, self._recall)
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
    def _remaining(probes: Any, gone: list[int]) -> Any:
        """Saved probes without those that are gone since."""
        missing = set(gone)
        return [pair for pair in probes if pair[0] not in missing]

    def _rows(self, collection: str, ids: Ids, *, paged: bool) -> Rows:
        """The vectors of memories: by tier where they were, else over the file or in memory.

        Those of memories that are gone point anywhere.
        """
        vectors = PagedVectors(self._records.store, ids, self._dim)
        tiered = self._tiered(collection, vectors)
        if tiered is not None or paged:
            return Rows(self._dim, unit=True, base=vectors if tiered is None else tiered, base_ids=ids)
        rows = Rows(self._dim, unit=True)
        for start in range(0, len(ids), _CHUNK):
            part = vectors[np.arange(start, min(start + _CHUNK, len(ids)))]
            part[~part.any(1), 0] = 1
            rows.add(ids[start : start + _CHUNK], part)
        return rows

    def _tiered(self, collection: str, vectors: PagedVectors) -> TieredVectors | None:
        """The tiers that were saved, for these vectors; None unless they fit in every respect."""
        saved = self._saved(collection, _TIERS)
        found = None if saved is None else saved.read()
        if found is None or not self._fits(found[0], collection) or self._use in GRAPHS:
            return None
        facts, arrays = found
        try:
            ids = arrays["ids"]
            gone = self._records.changed(facts["revision"])[1]
            if len(ids) != facts.get("rows") or self._probes(ids, gone) != self._remaining(facts.get("probes"), gone):
                return None
            return TieredVectors.unpacked(arrays, ids, vectors, vectors.ids)
        except (ValueError, TypeError, IndexError, KeyError):
            return None


def _state(index: IvfIndex | HnswIndex) -> _Seen:
    view = index.rows.view
    return _Seen(view.epoch, view.size, view.dead)
