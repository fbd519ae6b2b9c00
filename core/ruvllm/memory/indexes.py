"""The open indexes of a state file's collections: kept up with the file, filtered, re-tiered by use, saved."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ruvllm.encoders.protocol import Pause, no_pause
from ruvllm.errors import InputError
from ruvllm.index import AutoIndex, Mask
from ruvllm.index.auto import GRAPHS
from ruvllm.memory.filters import Filter
from ruvllm.memory.opening import Opening
from ruvllm.memory.records import Recent, Records
from ruvllm.memory.tiering import LEAST, PagedVectors, TieredVectors, retiered
from ruvllm.reprs import shortened
from ruvllm.state.record import Memory
from ruvllm.text.surrogates import well_formed

_MOST_MASKS = 64
_AT_HAND = 200  # memories added in one go that are read at once
_HALF_LIFE = 7 * 86_400.0  # seconds after which a use counts half
_WORN = 0.25  # part of the rows that may be gone
_MOST_OPEN = 1_000  # collections, from which on the empty ones are closed


def checked_name(collection: object) -> str:
    """The name of a collection, in whole characters. Raises InputError: it is no text."""
    if not isinstance(collection, str):
        raise InputError(f"collection is {shortened(collection)}", field="collection", fix="give its name")
    return well_formed(collection)


class _Filtered(NamedTuple):
    """What fulfilled a filter at a revision."""

    mask: Mask
    ids: NDArray[np.int64]
    revision: int


class Masks:
    """Filters that were used before; of what has changed since, they are looked at again.

    Args:
        records: tells which memories fulfil a filter.
    """

    def __init__(self, records: Records) -> None:
        self._records = records
        self._masks: dict[tuple[str, str], _Filtered] = {}
        self._current = set[tuple[str, str]]()

    def of(self, collection: str, index: AutoIndex, filter: Filter | None) -> Mask | None:
        """A filter's mask over a collection's index; None where there is nothing to filter.

        Raises:
            InputError: a filter that cannot be understood.
        """
        if not filter:
            return None
        try:
            key = (collection, json.dumps(filter, sort_keys=True))
        except (TypeError, ValueError, RecursionError):
            return index.mask(self._records.matching(collection, filter))
        there = self._masks.pop(key, None)
        if there is None or key not in self._current or there.mask.version != index.rows.version:
            revision = self._records.revision()
            if there is None:
                ids = self._records.matching(collection, filter)
            else:
                changed, fitting = self._records.rematched(collection, filter, there.revision)
                ids = np.concatenate([there.ids[~np.isin(there.ids, changed)], fitting]) if len(changed) else there.ids
            there = _Filtered(index.mask(ids), ids, revision)
            self._current.add(key)
        while len(self._masks) >= _MOST_MASKS:  # that was used longest ago
            self._masks.pop(next(iter(self._masks)))
        self._masks[key] = there
        return there.mask

    def outdate(self) -> None:
        """Look at what has changed before they are used again: metadata may have."""
        self._current.clear()

    def clear(self) -> None:
        """Forget them."""
        self._masks.clear()
        self._current.clear()


class Indexes:
    """An index for each collection that was searched, opened when it is first needed.

    Args:
        records: the memories.
        opening: opens and saves an index.
        space: name of the vector space.
        kind: of the index, as `memory.index` names it.

    Attributes:
        masks: of filters.
        recent: memories by id, as they were at the latest search.
        opening: as given.
    """

    def __init__(self, records: Records, opening: Opening, space: str, kind: str) -> None:
        self._records, self.opening, self._space, self._kind = records, opening, space, kind
        self._open: dict[str, AutoIndex] = {}
        self.masks, self.recent = Masks(records), Recent(records)
        self._revision = records.revision()

    def of(self, collection: str) -> AutoIndex:
        """A collection's index, read from the file when it is first needed.

        Raises:
            InputError: `collection` is no text.
            StoreError: the file cannot be read.
        """
        collection = checked_name(collection)
        index = self._open.get(collection)
        if index is None:
            if len(self._open) >= _MOST_OPEN:  # anybody can name collections that there are not
                self._open = {name: one for name, one in self._open.items() if len(one)}
                self.masks.clear()
            index = self._open[collection] = self.opening.open(collection)
        return index

    def add(self, ids: Sequence[int], memories: Sequence[Memory], vectors: NDArray[np.float32]) -> None:
        """Take in memories that were just written, with their vectors float32 (n, dim)."""
        self.changed_here()
        if len(ids) <= _AT_HAND:
            self.recent.get(ids)  # what is new is soon needed, and reading it at once costs least
        for collection in {memory.collection for memory in memories}:
            index = self._open.get(collection)
            rows = [i for i, memory in enumerate(memories) if memory.collection == collection]
            if index is not None:
                index.add(np.array([ids[i] for i in rows], np.int64), vectors[rows])

    def remove(self, ids: Sequence[int]) -> None:
        """Leave out memories that were just removed or archived."""
        self._drop(ids)
        self.changed_here()

    def changed_here(self) -> None:
        """Count a change of this process; what another one changed meanwhile is left for `refresh`."""
        if self._records.revision() == self._revision + 1:
            self._revision += 1

    def refresh(self) -> None:
        """Take in what another process, or another object on the same file, has changed."""
        revision = self._records.revision()
        if revision == self._revision:
            return
        there, gone = self._records.changed(self._revision)
        self._revision = revision
        self.masks.outdate()
        self.recent.drop(i for i, _, _ in there)
        self._drop(gone + [i for i, _, archived in there if archived])
        for name, index in self._open.items():
            new = np.array([i for i, collection, archived in there if collection == name and not archived], np.int64)
            new = self._records.in_space(new[~np.isin(new, index.rows.ids)], self._space)
            if len(new):
                index.add(new, self._records.vectors(new))

    def reopen(self) -> None:
        """Read every index from the file again when it is next needed: vectors in it have changed."""
        self._open.clear()
        self.masks.clear()
        self._revision = self._records.revision()

    def save(self) -> None:
        """Save the indexes of large collections that have changed much. Everything in them must be on disk."""
        for name, index in self._open.items():
            self.opening.save(name, index, self._revision)

    def stats(self) -> dict[str, Any]:
        """How each open collection is searched."""
        return {name: index.stats() for name, index in self._open.items()}

    def tiers(self) -> dict[str, dict[str, dict[str, int]]]:
        """Memories and bytes of each collection by tier; of "file" no vectors are held in memory."""
        return {name: self._tiers(name, count) for name, count in self._records.counts().items()}

    async def retier(
        self, collections: Iterable[str] | None, pause: Pause, least: int
    ) -> dict[str, dict[str, dict[str, int]]]:
        """Compress vectors by use. See `MemoryStore.aauto_tier`."""
        if self._kind in GRAPHS:
            fix = 'use memory.index = "auto" where vectors shall be compressed'
            raise InputError(f"an index of kind {self._kind} holds whole vectors", field="memory.index", fix=fix)
        self._records.flush()  # how much each is used
        counts = self._records.counts()
        named = (self._open if least else counts) if collections is None else collections
        chosen = [name for name in named if collections is not None or counts.get(name, 0) >= max(LEAST, least)]
        for name in chosen:
            if counts.get(name, 0) >= LEAST:
                await self._retier(name, pause)
        return {name: self._tiers(name, counts.get(name, 0)) for name in chosen}

    async def compare(self, pause: Pause = no_pause) -> list[str]:
        """Find out whether a compiled graph is faster. See `MemoryStore.compare_indexes`."""
        due = [name for name, index in self._open.items() if index.due_to_compare()]
        for name in due:
            await self._open[name].compare(pause)
        return due

    async def _retier(self, collection: str, pause: Pause) -> None:
        self.refresh()
        index = self.of(collection)
        if index.rows.view.base is not None and index.rows.view.dead > _WORN * index.rows.size:
            del self._open[collection]  # rows of a base stay until the collection is opened again
            self.masks.clear()
            index = self.of(collection)
        epoch, heat = index.rows.view.epoch, await self._records.heat(collection, _HALF_LIFE, pause)
        store = self._records.store
        tiered = await retiered(index.rows, *heat, store, pause)
        if tiered is None or index.rows.view.epoch != epoch or self._open.get(collection) is not index:
            return
        index.rebase(tiered)
        store.flush()
        self.opening.save_tiers(collection, tiered, index.rows, self._revision)

    def _tiers(self, collection: str, size: int) -> dict[str, dict[str, int]]:
        """Memories and bytes of a collection by tier."""
        index = self._open.get(collection)
        if index is None:
            return self.opening.tiers(collection, size)
        view = index.rows.view
        if not isinstance(view.base, TieredVectors):
            paged = isinstance(view.base, PagedVectors)
            return {"file" if paged else "f32": {"count": view.living, "bytes": 0 if paged else view.tail.nbytes}}
        tiers = view.base.stats()
        tiers["f32"] = {
            "count": tiers["f32"]["count"] + len(view.tail),
            "bytes": tiers["f32"]["bytes"] + view.tail.nbytes,
        }
        return tiers

    def _drop(self, ids: Sequence[int]) -> None:
        self.recent.drop(ids)
        for index in self._open.values():
            index.remove(np.array(ids, np.int64))
