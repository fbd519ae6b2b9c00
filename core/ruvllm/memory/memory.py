"""What the rest of ruvllm remembers with: texts in, the most similar ones out, kept in the state file."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ruvllm.encoders.protocol import Encoder, Pause, no_pause, run_now
from ruvllm.errors import InputError
from ruvllm.index import AutoIndex, Hits, Mask
from ruvllm.index.auto import GRAPHS
from ruvllm.memory.attention.training import Trained
from ruvllm.memory.filters import Filter
from ruvllm.memory.found import Found, FoundSession, Why, by_session
from ruvllm.memory.graph import Graph
from ruvllm.memory.hybrid import HybridSearch
from ruvllm.memory.opening import Opening, Progress
from ruvllm.memory.ratings import Ratings
from ruvllm.memory.records import Recent, Records
from ruvllm.memory.surroundings import Surroundings, directed
from ruvllm.memory.tiering import LEAST, PagedVectors, TieredVectors, retiered
from ruvllm.options import CHOICES, MemoryConfig
from ruvllm.reprs import shortened
from ruvllm.state.record import Given, Memory, heard, ids_of, memories_of, row_of
from ruvllm.state.store import Store
from ruvllm.text.surrogates import well_formed
from ruvllm.text.terms import Sought, parse

__all__ = ["Found", "FoundSession", "Masks", "MemoryStore", "QueryAdapter"]

_MOST = 64


class Masks:
    """Filters that were asked before, for as long as nothing changes.

    Args:
        records: tells which memories fulfil a filter.
    """

    def __init__(self, records: Records) -> None:
        self._records = records
        self._kept: dict[tuple[str, str], Mask] = {}

    def of(self, collection: str, shelf: AutoIndex, filter: Filter | None) -> Mask | None:
        """A filter's mask over a collection's index; None where there is nothing to filter.

        Raises:
            InputError: a filter that cannot be understood.
        """
        if not filter:
            return None
        try:
            key = (collection, json.dumps(filter, sort_keys=True))
        except (TypeError, ValueError, RecursionError):
            key = (collection, "")
        mask = self._kept.get(key) if key[1] else None
        if mask is None or mask.version != shelf.rows.version:
            mask = shelf.mask(self._records.matching(collection, filter))
            if len(self._kept) >= _MOST:
                self._kept.pop(next(iter(self._kept)))
            self._kept[key] = mask
        return mask

    def clear(self) -> None:
        """Forget them: metadata may have changed."""
        self._kept.clear()


_AT_HAND = 200  # memories added in one go that are kept at hand
_HELPED = 0.5  # from which what helped answered
_WIDE = 32  # hits that what answered is compared with: few hard ones alone teach little, and mislead where one is false
_TURNS, _TURNS_EACH = 100, 10  # memories that sessions are gathered from, in all and for each session
_RATED = 10  # hits from which edges lead to what is rated
_HALF_LIFE = 7 * 86_400.0  # seconds after which a use counts half
_WORN = 0.25  # part of the rows that may be gone
_SHELVES = 1_000  # open at a time, from which on the empty ones are let go


class QueryAdapter(Protocol):
    """Learns how queries of a collection lie to what answers them."""

    def adapt(self, vector: NDArray[np.float32], collection: str) -> NDArray[np.float32]:
        """A query's vector (dim,) as a search shall use it."""
        ...

    def prefer(
        self, vector: NDArray[np.float32], useful: NDArray[np.float32], others: NDArray[np.float32], collection: str
    ) -> None:
        """These memories (n, dim) answered a query (dim,) and those (m, dim) did not."""
        ...


class MemoryStore:
    """Remembers texts by meaning.

    Args:
        encoder: turns texts into vectors; memories of another encoder's space are kept, but not searched.
        store: the state file.
        space: name of the vector space; encoders trained to share one can share their memories.
        recall: recall@k of a search that names none.
        background: runs long index work, see `AutoIndex`.
        progress: told the memories sorted so far, and all, while the index of a large collection is first built.
        options: the kind of index, and the size from which on vectors are compressed by use; None for the defaults.

    Attributes:
        adapter: of queries; None searches with the encoder's vectors.
    """

    def __init__(
        self,
        encoder: Encoder,
        store: Store,
        *,
        space: str | None = None,
        recall: float = 0.95,
        background: Callable[[Callable[[], None]], Any] | None = None,
        progress: Progress | None = None,
        options: MemoryConfig | None = None,
    ) -> None:
        self.encoder, self.store, self.recall = encoder, store, recall
        self.adapter: QueryAdapter | None = None
        self.records, self.graph = Records(store), Graph(store)
        self.space = space or f"{encoder.name}-{encoder.dim}"
        self.surroundings = Surroundings(self.records, self.graph, self.space, encoder.dim)
        self.ratings = Ratings(self.records, self.graph, self.surroundings, self.space, encoder.dim)
        self.options = options = options or MemoryConfig()
        self.hybrid = HybridSearch(self)
        self._opening = Opening(self.records, self.space, encoder.dim, recall, background, progress, use=options.index)
        self._shelves: dict[str, AutoIndex] = {}
        self._masks, self._recent = Masks(self.records), Recent(self.records)
        self._revision = self.records.revision()

    def add(
        self, memories: Given | Iterable[Given], metadata: Mapping[str, Any] | None = None, **about: Any
    ) -> list[int]:
        """Remember texts, Memory objects or mappings with their fields; returns ids, all on disk (see `Store`).

        Args:
            metadata, about: fields of `Memory`, for all of them: collection, kind, quality.

        Raises:
            InputError: a text or field that cannot be kept.
            StoreError: the file cannot be written.
        """
        return run_now(self.aadd(memories, metadata, **about))

    async def aadd(
        self, memories: Given | Iterable[Given], metadata: Mapping[str, Any] | None = None, **about: Any
    ) -> list[int]:
        """`add`, awaited."""
        new = list(memories_of(memories, about if metadata is None else {**about, "metadata": metadata}))
        texts = [heard(row_of(memory)[2], memory.metadata) for memory in new]  # checked before an encoder sees it
        if not new:
            return []
        vectors = await self.encoder.encode(texts)
        return self.add_encoded(new, vectors)

    def add_encoded(self, memories: Sequence[Memory], vectors: NDArray[np.float32]) -> list[int]:
        """Remember what is encoded already, float32 (n, dim)."""
        vectors = directed(vectors, (len(memories), self.encoder.dim))
        self._refresh()
        ids = self.records.add(memories, vectors, self.space)
        self.include(ids, memories, vectors)
        return ids

    def include(self, ids: list[int], memories: Sequence[Memory], vectors: NDArray[np.float32]) -> None:
        """Have memories in the index that `records.add` has just written, with their vectors float32 (n, dim)."""
        self._changed_here()
        if len(ids) <= _AT_HAND:
            self._recent.get(ids)  # what is new is asked for soon, and reading it at once costs least
        for collection in {memory.collection for memory in memories}:
            shelf = self._shelves.get(collection)
            rows = [i for i, memory in enumerate(memories) if memory.collection == collection]
            if shelf is not None:
                shelf.add(np.array([ids[i] for i in rows], np.int64), vectors[rows])

    def search(
        self,
        query: str | NDArray[np.float32],
        k: int = 10,
        *,
        collection: str = "default",
        filter: Filter | None = None,
        hops: int = 0,
        recall: float | None = None,
        search: str | None = None,
    ) -> list[Found]:
        """The k memories of a collection nearest to a text or a vector (dim,), best first.

        A text may have `"an exact phrase"`, `-word` and `field:value` of the metadata in it.

        Args:
            filter: what their metadata must fulfil, e.g. {"agentId": "a1"}; see `filters.compile_filter`.
            hops: look at what is so many edges away from the hits as well, archived memories too; the k best of
                both are returned. What `review` has learnt ranks them; until then an edge away counts for a
                tenth less.
            recall: the share of the true nearest to be found.
            search: "hybrid" looks for a text's meaning and its words, "vectors" and "words" for one of these; the
                store's option when None. A vector has no words.

        Raises:
            InputError: an empty query, a filter that cannot be understood, k or recall out of range.
            StoreError: the file cannot be read.
        """
        options: dict[str, Any] = {"collection": collection, "filter": filter, "hops": hops, "recall": recall}
        return run_now(self.asearch(query, k, **options, search=search))

    async def asearch(
        self,
        query: str | NDArray[np.float32],
        k: int = 10,
        *,
        collection: str = "default",
        filter: Filter | None = None,
        hops: int = 0,
        recall: float | None = None,
        search: str | None = None,
    ) -> list[Found]:
        """`search`, awaited."""
        way = self._way(query, search)
        if not isinstance(k, int) or k < 1:
            raise InputError(f"k is {shortened(k)}", field="k", fix="use 1 or more")
        sought = None if way == "vectors" or not isinstance(query, str) else parse(query)
        vector = self.adapted(await self._read(query, sought), collection)
        why = dict[int, Why]()
        if sought is None:
            hits = self.nearest(vector, k, collection=collection, filter=filter, recall=recall)
            found = {i: (score, 0) for i, score in zip(hits.ids.tolist(), hits.scores.tolist(), strict=True)}
        else:
            options: dict[str, Any] = {"collection": collection, "filter": filter, "recall": recall}
            why = self.hybrid.rank(vector, sought, k, meaning=way == "hybrid", **options)
            found = {i: (one.score, 0) for i, one in why.items()}
        if hops and vector.any():
            more = self.surroundings.best(vector, list(found), hops, k, collection=collection, filter=filter)
            ranked = [(i, (max(score, found.get(i, (score, 0))[0]), away)) for i, (score, away) in more.items()]
            if why and self.surroundings.attention() is None:
                ranked.sort(key=lambda one: -one[1][0])
            found = dict(ranked)
        self.records.touch(list(found))
        return [Found(memory, *found[memory.id], why.get(memory.id)) for memory in self.records.get(list(found))]

    def search_sessions(self, query: str, k: int = 10, **options: Any) -> list[FoundSession]:
        """The k sessions (`session` among the metadata) that have most to do with a query, best first.

        A session's score is that of its best memory and a part of that of the next ones. Options and errors are those
        of `search`.
        """
        return run_now(self.asearch_sessions(query, k, **options))

    async def asearch_sessions(self, query: str, k: int = 10, **options: Any) -> list[FoundSession]:
        """`search_sessions`, awaited."""
        return by_session(await self.asearch(query, max(_TURNS, _TURNS_EACH * k), **options))[:k]

    def _way(self, query: str | NDArray[np.float32], search: str | None) -> str:
        """How a query is searched. Raises InputError: there is no such way."""
        way = self.options.search if search is None else search
        if way not in CHOICES["memory.search"]:
            fix = f"use one of {', '.join(CHOICES['memory.search'])}"
            raise InputError(f"search is {shortened(way)}", field="search", fix=fix)
        if way == "words" and not isinstance(query, str):
            raise InputError("a vector has no words", field="search", fix='give a text, or use search = "vectors"')
        return way

    async def _read(self, query: str | NDArray[np.float32], sought: Sought | None) -> NDArray[np.float32]:
        """A query's vector; zero for one that is syntax alone."""
        if sought is None or sought.plain:
            return await self.vector(query)
        return await self.vector(sought.text) if sought.text else np.zeros(self.encoder.dim, np.float32)

    def nearest(
        self,
        vector: NDArray[np.float32],
        k: int,
        *,
        collection: str = "default",
        filter: Filter | None = None,
        recall: float | None = None,
    ) -> Hits:
        """Ids and cosines of the memories nearest to float32 (dim,); not counted as an access.

        A text without a word that the static encoder knows has a zero vector, and nothing is near it.
        """
        if not vector.dot(vector):
            return Hits(np.empty(0, np.int64), np.empty(0, np.float32))
        self._refresh()
        shelf = self._shelf(collection)
        return shelf.search(vector, k, filter=self._masks.of(collection, shelf, filter), recall=recall)

    def compared(
        self, ids: NDArray[np.int64], vector: NDArray[np.float32], collection: str
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Those of these memories that are in a collection's index, and their cosines to a vector (dim,)."""
        held = self._shelf(collection).rows
        with held.lock:  # rows are renumbered now and then
            rows, view = held.find(ids), held.view
        return view.ids[rows], view.take(rows).dot(vector)

    def get(self, ids: Sequence[int]) -> list[Memory]:
        """Those of these memories that were there at the latest search, in the order asked.

        How often they were used may have grown since.
        """
        return self._recent.get(ids if isinstance(ids, list | tuple) else ids_of(ids))

    def cosines(
        self, ids: Sequence[int], vector: NDArray[np.float32], *, collection: str = "default"
    ) -> dict[int, float]:
        """Of those of these memories that are in a collection and in this space, archived ones too, by rising id.

        Args:
            vector: float32 (dim,), of a query.

        Raises:
            StoreError: a vector is damaged.
        """
        held = self._shelf(collection).rows
        with held.lock:  # rows are renumbered now and then
            rows, view = held.find(np.array(sorted(ids), np.int64)), held.view
        found = dict(zip(view.ids[rows].tolist(), view.take(rows).dot(vector).tolist(), strict=True))
        if len(found) < len(ids):
            others = np.array([i for i in ids if i not in found], np.int64)
            fitting = self.records.fitting(others, collection, self.space, {})
            if fitting:
                read = self.records.vectors(np.array(fitting, np.int64)) @ vector
                found |= zip(fitting, read.tolist(), strict=True)
        return dict(sorted(found.items()))

    def rate(
        self,
        query: str | NDArray[np.float32],
        helpful: Iterable[int] | Mapping[int, float] = (),
        unhelpful: Iterable[int] = (),
        *,
        collection: str = "default",
    ) -> None:
        """Say which memories helped with a query, and which did not.

        Args:
            helpful: ids, or a number for each id: 1 it helped, 0 it did not, anything between the two.

        Their quality rises or falls, and so do the weights of the edges that led from the hits to them. The query
        is kept, for `review` to learn from.

        Raises:
            InputError: an unknown id, one that is both, or none at all; a number out of range; an empty query.
            StoreError: it cannot be kept; nothing has changed then.
        """
        run_now(self.arate(query, helpful, unhelpful, collection=collection))

    async def arate(
        self,
        query: str | NDArray[np.float32],
        helpful: Iterable[int] | Mapping[int, float] = (),
        unhelpful: Iterable[int] = (),
        *,
        collection: str = "default",
    ) -> None:
        """`rate`, awaited."""
        graded = dict(helpful) if isinstance(helpful, Mapping) else dict.fromkeys(ids_of(helpful), 1.0)
        bad = set(ids_of(unhelpful))
        if graded.keys() & bad:
            fix = "give each id once"
            raise InputError("a memory is rated twice", field="ids", fix=fix)
        vector = await self.vector(query)
        hits = self.nearest(vector, _RATED, collection=collection).ids.tolist()
        self.ratings.rate(vector, hits, graded | dict.fromkeys(bad, 0.0))
        self.prefer(vector, [i for i, helped in graded.items() if helped > _HELPED], collection)

    def adapted(self, vector: NDArray[np.float32], collection: str) -> NDArray[np.float32]:
        """A query's vector (dim,) as a search in a collection shall use it."""
        if self.adapter is None or not isinstance(collection, str) or not vector.any():
            return vector
        return self.adapter.adapt(vector, collection)

    def prefer(
        self, vector: NDArray[np.float32], useful: Sequence[int], collection: str, without: Iterable[int | None] = ()
    ) -> None:
        """Let the adapter learn which memories answered a query (dim,), among what a search for it finds.

        Args:
            without: memories that are neither.
        """
        if self.adapter is None or not useful or not vector.any():
            return
        found = set[int]()
        for query in (vector, self.adapted(vector, collection)):
            found |= {*self.nearest(query, _WIDE, collection=collection).ids.tolist()}
        others = sorted(found - {*useful, *without})
        if others:
            rows = self.records.vectors(np.array([*useful, *others], np.int64))
            with suppress(InputError):  # one collection too many, or of too long a name
                self.adapter.prefer(vector, rows[: len(useful)], rows[len(useful) :], collection)

    async def review(self, pause: Pause = no_pause, *, epochs: int = 30, most: int = 500) -> Trained | None:
        """Learn from what was rated how to rank hits and what lies around them; see `Ratings.review`."""

        def nearest(vector: NDArray[np.float32], k: int, collection: str) -> list[int]:
            found: list[int] = self.nearest(vector, k, collection=collection).ids.tolist()
            return found

        return await self.ratings.review(nearest, pause, epochs=epochs, most=most)

    async def vector(self, query: str | NDArray[np.float32]) -> NDArray[np.float32]:
        """A query as float32 (dim,).

        Raises:
            InputError: an empty text, or no finite vector of this width that has a direction.
        """
        if not isinstance(query, str):
            return directed(query, (self.encoder.dim,), "query")
        if not query.strip():
            raise InputError("the query is empty", field="query", fix="say what to look for")
        vectors = await self.encoder.encode([well_formed(query)])
        return np.asarray(vectors[0], np.float32)

    def forget(self, ids: Iterable[int]) -> int:
        """Remove memories for good; returns how many there were. Raises InputError: these are no ids."""
        chosen = ids_of(ids)
        self._refresh()
        gone = self.records.remove(chosen)
        self._drop(chosen)
        self._changed_here()
        return gone

    def archive(self, ids: Iterable[int]) -> None:
        """Take memories out of the search; they stay reachable by id."""
        chosen = ids_of(ids)
        self._refresh()
        self.records.archive(chosen)
        self._drop(chosen)
        self._changed_here()

    def stats(self) -> dict[str, Any]:
        """Memories of each collection, memories and bytes by tier, and how the open ones are searched."""
        shelves = {name: shelf.stats() for name, shelf in self._shelves.items()}
        return {"space": self.space, "collections": self.records.counts(), "tiers": self.tiers(), "indexes": shelves}

    def tiers(self) -> dict[str, dict[str, dict[str, int]]]:
        """Memories and bytes of each collection by tier; of "file" no vectors are held in memory."""
        return {name: self._tiers(name, count) for name, count in self.records.counts().items()}

    def auto_tier(self, collections: Iterable[str] | None = None) -> dict[str, dict[str, dict[str, int]]]:
        """Compress vectors by how much their memories are used; the state file holds all of them whole.

        Args:
            collections: names; all that are large enough to gain when None. Smaller ones stay as they are.

        Returns:
            Memories and bytes by tier, of each collection.

        Raises:
            InputError: the index holds whole vectors.
            StoreError: the file cannot be read.
        """
        return run_now(self.aauto_tier(collections))

    async def aauto_tier(
        self, collections: Iterable[str] | None = None, pause: Pause = no_pause, least: int = 0
    ) -> dict[str, dict[str, dict[str, int]]]:
        """`auto_tier`, awaited; where `least` is given, of collections that are open and have so many memories."""
        if self.options.index in GRAPHS:
            fix = 'use memory.index = "auto" where vectors shall be compressed'
            raise InputError(
                f"an index of kind {self.options.index} holds whole vectors", field="memory.index", fix=fix
            )
        self.records.flush()  # how much each is used
        counts = self.records.counts()
        named = (self._shelves if least else counts) if collections is None else collections
        chosen = [name for name in named if collections is not None or counts.get(name, 0) >= max(LEAST, least)]
        for name in chosen:
            if counts.get(name, 0) >= LEAST:
                await self._retier(name, pause)
        return {name: self._tiers(name, counts.get(name, 0)) for name in chosen}

    async def compare_indexes(self, pause: Pause = no_pause) -> list[str]:
        """Find out whether a compiled graph is faster, of the open collections where that may be; returns their names.

        See `AutoIndex.compare`.
        """
        due = [name for name, shelf in self._shelves.items() if shelf.due_to_compare()]
        for name in due:
            await self._shelves[name].compare(pause)
        return due

    async def _retier(self, collection: str, pause: Pause) -> None:
        self._refresh()
        shelf = self._shelf(collection)
        if shelf.rows.view.base is not None and shelf.rows.view.dead > _WORN * shelf.rows.size:
            del self._shelves[collection]  # rows of a base stay until the collection is opened again
            self._masks.clear()
            shelf = self._shelf(collection)
        epoch, heat = shelf.rows.view.epoch, await self.records.heat(collection, _HALF_LIFE, pause)
        tiered = await retiered(shelf.rows, *heat, self.store, pause)
        if tiered is None or shelf.rows.view.epoch != epoch or self._shelves.get(collection) is not shelf:
            return
        shelf.rebase(tiered)
        self.store.flush()
        self._opening.save_tiers(collection, tiered, shelf.rows, self._revision)

    def _tiers(self, collection: str, size: int) -> dict[str, dict[str, int]]:
        """Memories and bytes of a collection by tier."""
        shelf = self._shelves.get(collection)
        if shelf is None:
            return self._opening.tiers(collection, size)
        view = shelf.rows.view
        if not isinstance(view.base, TieredVectors):
            paged = isinstance(view.base, PagedVectors)
            return {"file" if paged else "f32": {"count": view.living, "bytes": 0 if paged else view.tail.nbytes}}
        tiers = view.base.stats()
        tiers["f32"] = {
            "count": tiers["f32"]["count"] + len(view.tail),
            "bytes": tiers["f32"]["bytes"] + view.tail.nbytes,
        }
        return tiers

    def flush(self) -> None:
        """Write down everything that waits."""
        self.records.flush()
        self.save()

    def save(self) -> None:
        """Keep the indexes of large collections beside the state file, where they have changed much.

        They are a cache: nothing is lost when the folder `<state>.index` cannot be written, or is deleted.

        Raises:
            StoreError: what waits cannot be written to the state file.
        """
        self.store.flush()  # what is not on disk must not be in a saved index
        for name, shelf in self._shelves.items():
            self._opening.save(name, shelf, self._revision)

    def _changed_here(self) -> None:
        """Count a change of our own; what another process changed meanwhile is left for `_refresh`."""
        if self.records.revision() == self._revision + 1:
            self._revision += 1

    def _drop(self, ids: list[int]) -> None:
        self._recent.drop(ids)
        for shelf in self._shelves.values():
            shelf.remove(np.array(ids, np.int64))

    def _shelf(self, collection: str) -> AutoIndex:
        """A collection's index, read from the file when first asked."""
        if not isinstance(collection, str):
            raise InputError(f"collection is {shortened(collection)}", field="collection", fix="give its name")
        collection = well_formed(collection)
        shelf = self._shelves.get(collection)
        if shelf is None:
            if len(self._shelves) >= _SHELVES:  # anybody can ask for collections that there are not
                self._shelves = {name: one for name, one in self._shelves.items() if len(one)}
                self._masks.clear()
            shelf = self._shelves[collection] = self._opening.open(collection)
        return shelf

    def _refresh(self) -> None:
        """Take in what another process, or another object on the same file, has changed."""
        revision = self.records.revision()
        if revision == self._revision:
            return
        there, gone = self.records.changed(self._revision)
        self._revision = revision
        self._masks.clear()
        self._recent.drop(i for i, _, _ in there)
        self._drop(gone + [i for i, _, archived in there if archived])
        for name, shelf in self._shelves.items():
            new = np.array([i for i, collection, archived in there if collection == name and not archived], np.int64)
            new = self.records.in_space(new[~np.isin(new, shelf.rows.ids)], self.space)
            if len(new):
                shelf.add(new, self.records.vectors(new))
