"""What the rest of ruvllm remembers with: texts in, the most similar ones out, kept in the state file."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ruvllm.encoders.protocol import Encoder, Pause, no_pause, synchronous
from ruvllm.errors import InputError
from ruvllm.index import Hits
from ruvllm.memory.attention.training import Trained
from ruvllm.memory.filters import Filter, visible_to
from ruvllm.memory.found import Brought, Elsewhere, Found, FoundSession, Why, by_passage, by_session
from ruvllm.memory.graph import Graph
from ruvllm.memory.hybrid import HybridSearch
from ruvllm.memory.indexes import Indexes, checked_name
from ruvllm.memory.opening import Opening, Progress
from ruvllm.memory.ratings import Ratings
from ruvllm.memory.records import Records
from ruvllm.memory.surroundings import Surroundings, directed
from ruvllm.memory.validity import Closed, Validity, moment_of
from ruvllm.options import CHOICES, MemoryConfig
from ruvllm.reprs import shortened
from ruvllm.state.record import Given, Memory, heard, ids_of, memories_of, row_of
from ruvllm.state.store import Store
from ruvllm.text.surrogates import well_formed
from ruvllm.text.terms import Sought, parse

_HELPED = 0.5  # from which what helped answered
_WIDE = 32  # hits that what answered is compared with: few hard ones alone teach little, and mislead where one is false
_TURNS, _TURNS_EACH = 100, 10  # memories that sessions are gathered from, in all and for each session
_OLDER = 16  # memories of the same words that a new one may supersede
_WIDEST = 8  # memories before and after a hit
_BROUGHT_RECALL = 0.99  # at least, of what is here of a collection whose rest was searched with less already
_RATED = 10  # hits from which edges lead to what is rated


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
        elsewhere: brings what the store has let go of; None where it holds everything.

    >>> (id,) = llm.memory.add("Staging is reset at noon.")
    >>> llm.memory.search("staging")[0].memory.id == id
    True
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
        self.elsewhere: Elsewhere | None = None
        self.records, self.graph = Records(store), Graph(store)
        self.space = space or f"{encoder.name}-{encoder.dim}"
        self.surroundings = Surroundings(self.records, self.graph, self.space, encoder.dim)
        self.ratings = Ratings(self.records, self.graph, self.surroundings, self.space, encoder.dim)
        self.options = options = options or MemoryConfig()
        self.validity, self.hybrid = Validity(store, options.supersede, options.ask_unsure), HybridSearch(self)
        opening = Opening(self.records, self.space, encoder.dim, recall, background, progress, use=options.index)
        self.indexes = Indexes(self.records, opening, self.space, options.index)

    async def aadd(
        self, memories: Given | Iterable[Given], metadata: Mapping[str, Any] | None = None, **about: Any
    ) -> list[int]:
        """Remember texts, Memory objects or mappings with their fields; returns ids, all on disk (see `Store`).

        Args:
            metadata, about: fields of `Memory`, for all of them: collection, kind, quality.

        Raises:
            InputError: a text or field that cannot be kept.
            StoreError: the file cannot be written.

        >>> len(llm.memory.add(["Ada owns billing.", "Staging is reset at noon."], {"team": "web"}))
        2
        """
        new = list(memories_of(memories, about if metadata is None else {**about, "metadata": metadata}))
        texts = [heard(row_of(memory)[2], memory.metadata) for memory in new]  # checked before an encoder sees it
        if not new:
            return []
        vectors = await self.encoder.encode(texts)
        return self.add_encoded(new, vectors)

    add = synchronous(aadd)

    async def aremember(
        self, memories: Given | Iterable[Given], metadata: Mapping[str, Any] | None = None, **about: Any
    ) -> list[int]:
        """`add` what is not there yet; what an agent's memories say already is counted, and its id returned.

        The same is what has the same words, or states the same of the same thing (see `text.statements`).

        >>> llm.memory.remember("Ada owns billing.") == llm.memory.remember("ada owns billing")
        True
        """
        ids = list[int]()
        for new in memories_of(memories, about if metadata is None else {**about, "metadata": metadata}):
            near = self.hybrid.words.find(new.collection, row_of(new)[2]).best(_OLDER)[0].tolist()
            there = self.validity.said_before(new, self.get(near))
            ids += await self.aadd(new) if there is None else [there]
        return ids

    remember = synchronous(aremember)

    def add_encoded(self, memories: Sequence[Memory], vectors: NDArray[np.float32]) -> list[int]:
        """Remember what is encoded already, float32 (n, dim).

        >>> from ruvllm.state.record import Memory
        >>> len(llm.memory.add_encoded([Memory("Ada owns billing.")], llm.embed(["Ada owns billing."])))
        1
        """
        vectors = directed(vectors, (len(memories), self.encoder.dim))
        self.indexes.refresh()
        ids = self.records.add(memories, vectors, self.space)
        self.include(ids, memories, vectors)
        self.supersede(ids)
        return ids

    def include(self, ids: list[int], memories: Sequence[Memory], vectors: NDArray[np.float32]) -> None:
        """Have memories in the index that `records.add` has just written, with their vectors float32 (n, dim).

        >>> llm.memory.include([], [], llm.embed([]))
        """
        self.indexes.add(ids, memories, vectors)

    def supersede(self, ids: Sequence[int]) -> list[Closed]:
        """Close older memories that these say are so no longer; see `Validity`. Raises StoreError.

        >>> llm.memory.supersede(llm.memory.add("Ada owns billing."))  # nothing older says otherwise
        []
        """

        def older(memory: Memory) -> list[Memory]:
            near = self.hybrid.words.find(memory.collection, memory.text).best(_OLDER)[0].tolist()
            vector = self.records.vectors(np.array([memory.id], np.int64))[0]
            near += self.nearest(vector, _OLDER, collection=memory.collection).ids.tolist()
            return self.get([i for i in dict.fromkeys(near) if i < memory.id])

        return self.validity.supersede(self.get(ids), older)

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
        at: object = None,
        recency: float | None = None,
        agent_id: str | None = None,
        window: int = 0,
        brought: list[Brought] | None = None,
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
            at: search as of this date: what held then, and of what was known then. Without it the days that a text
                names count; what holds no longer stands behind what holds, unless that is asked for ("used to").
            recency: 0 to 1, what being of today adds to a score, half of it after 30 days; None for the store's option.
            agent_id: find what is this agent's and what is nobody's (`agent_id` among the metadata); None for all.
            window: 0 to 8, how many memories before and after a hit in its conversation or document (`Follows` edges)
                come with it, as `Found.passage`. A hit in the passage of a better one is no hit of its own.
            brought: is given what came of asking elsewhere (`Elsewhere.bring`).

        Raises:
            InputError: an empty query, a filter that cannot be understood, k, recall or window out of range.
            StoreError: the file cannot be read.

        >>> ids = llm.memory.add(["Ada owns billing.", "Staging is reset at noon."])
        >>> llm.memory.search("who owns billing?", k=1)[0].memory.text
        'Ada owns billing.'
        """
        way = self._way(query, search)
        if not isinstance(k, int) or k < 1:
            raise InputError(f"k is {shortened(k)}", field="k", fix="use 1 or more")
        if not isinstance(window, int) or not 0 <= window <= _WIDEST:
            raise InputError(f"window is {shortened(window)}", field="window", fix=f"use 0 to {_WIDEST}")
        collection, filter, wanted = checked_name(collection), visible_to(agent_id, filter), k
        k = k if not window else k + min(2 * window * k, _TURNS)  # several may be of one passage
        sought = None if way == "vectors" or not isinstance(query, str) else parse(query)
        vector = self.adapted(await self._read(query, sought), collection)
        if self.elsewhere is not None:
            meant, text = vector if way != "words" else np.zeros_like(vector), sought.text if sought else ""
            many, steps = k if way == "vectors" else 2 * k, max(hops, window)
            how = await self.elsewhere.bring(meant, many, collection, filter, text, steps)
            recall = max(recall or self.recall, _BROUGHT_RECALL) if how else recall
            if brought is not None:
                brought.append(how)
        why = dict[int, Why]()
        if sought is None:
            hits = self.nearest(vector, k, collection=collection, filter=filter, recall=recall)
            found = {i: (score, 0) for i, score in zip(hits.ids.tolist(), hits.scores.tolist(), strict=True)}
        else:
            options: dict[str, Any] = {"collection": collection, "filter": filter, "recall": recall}
            options["moment"] = moment_of(sought.text, at)
            options["recency"] = self.options.recency if recency is None else recency
            why = self.hybrid.rank(vector, sought, k, meaning=way == "hybrid", **options)
            found = {i: (one.score, 0) for i, one in why.items()}
        if hops and vector.any():
            more = self.surroundings.best(vector, list(found), hops, k, collection=collection, filter=filter)
            ended = {i: found[i] for i, one in why.items() if one.time < 0}
            best = {i: (max(score, found.get(i, (score, 0))[0]), away) for i, (score, away) in more.items()}
            ranked = [(i, ended.get(i, one)) for i, one in best.items()]
            if why and self.surroundings.attention() is None:
                ranked.sort(key=lambda one: -one[1][0])
            found = dict(ranked)
        out = [Found(memory, *found[memory.id], why.get(memory.id)) for memory in self.records.get(list(found))]
        if window:
            out = self._passages(out, vector, window, collection, filter)[:wanted]
        self.records.touch([one.memory.id for one in out])
        return out

    search = synchronous(asearch)

    def _passages(
        self, found: Sequence[Found], vector: NDArray[np.float32], window: int, collection: str, filter: Filter | None
    ) -> list[Found]:
        """Hits with what lies around them as far as it may be found, too."""
        lines = self.graph.windows([one.memory.id for one in found], window)
        members = np.array(sorted({i for line in lines.values() for i in line}), np.int64)
        fitting = self.records.fitting(members, collection, self.space, filter or {})
        scores = self.cosines(fitting, vector, collection=collection)
        around = [Found(memory, scores.get(memory.id, 0.0), 1) for memory in self.get(fitting)]
        return by_passage(found, lines, around)

    async def asearch_sessions(self, query: str, k: int = 10, **options: Any) -> list[FoundSession]:
        """The k sessions (`session` among the metadata) that have most to do with a query, best first.

        A session's score is that of its best memory and a part of that of the next ones. Options and errors are those
        of `search`.

        >>> ids = llm.memory.add("Ada owns billing.", {"session": "monday"})
        >>> llm.memory.search_sessions("billing")[0].session
        'monday'
        """
        return by_session(await self.asearch(query, max(_TURNS, _TURNS_EACH * k), **options))[:k]

    search_sessions = synchronous(asearch_sessions)

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

        >>> ids = llm.memory.add("Ada owns billing.")
        >>> llm.memory.nearest(llm.embed(["Who owns billing?"])[0], k=5).ids.tolist() == ids
        True
        """
        if not vector.dot(vector):
            return Hits(np.empty(0, np.int64), np.empty(0, np.float32))
        self.indexes.refresh()
        index = self.indexes.of(collection)
        return index.search(vector, k, filter=self.indexes.masks.of(collection, index, filter), recall=recall)

    def compared(
        self, ids: NDArray[np.int64], vector: NDArray[np.float32], collection: str
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Those of these memories that are in a collection's index, and their cosines to a vector (dim,).

        >>> ids = llm.memory.add("Ada owns billing.")
        >>> found, cosines = llm.memory.compared(np.array(ids), llm.embed(["Who owns billing?"])[0], "default")
        >>> found.tolist() == ids, cosines.shape
        (True, (1,))
        """
        held = self.indexes.of(collection).rows
        with held.lock:  # rows are renumbered now and then
            rows, view = held.find(ids), held.view
        return view.ids[rows], view.take(rows).dot(vector)

    def get(self, ids: Sequence[int]) -> list[Memory]:
        """Those of these memories that were there at the latest search, in the order asked.

        How often they were used may have grown since.

        >>> llm.memory.get(llm.memory.add("Ada owns billing."))[0].text
        'Ada owns billing.'
        """
        return self.indexes.recent.get(ids if isinstance(ids, list | tuple) else ids_of(ids))

    def cosines(
        self, ids: Sequence[int], vector: NDArray[np.float32], *, collection: str = "default"
    ) -> dict[int, float]:
        """Of those of these memories that are in a collection and in this space, archived ones too, by rising id.

        Args:
            vector: float32 (dim,), of a query.

        Raises:
            StoreError: a vector is damaged.

        >>> (id,) = llm.memory.add("Ada owns billing.")
        >>> llm.memory.cosines([id], llm.embed(["Ada owns billing."])[0])[id] > 0.99
        True
        """
        held = self.indexes.of(collection).rows
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

    async def arate(
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

        >>> ada, staging = llm.memory.add(["Ada owns billing.", "Staging is reset at noon."])
        >>> llm.memory.rate("who owns billing?", helpful=[ada], unhelpful=[staging])
        >>> llm.memory.get([ada])[0].quality > llm.memory.get([staging])[0].quality
        True
        """
        graded = dict(helpful) if isinstance(helpful, Mapping) else dict.fromkeys(ids_of(helpful), 1.0)
        bad = set(ids_of(unhelpful))
        if graded.keys() & bad:
            fix = "give each id once"
            raise InputError("a memory is rated twice", field="ids", fix=fix)
        vector = await self.vector(query)
        hits = self.nearest(vector, _RATED, collection=collection).ids.tolist()
        self.ratings.rate(vector, hits, graded | dict.fromkeys(bad, 0.0))
        self.prefer(vector, [i for i, helped in graded.items() if helped > _HELPED], collection)

    rate = synchronous(arate)

    def adapted(self, vector: NDArray[np.float32], collection: str) -> NDArray[np.float32]:
        """A query's vector (dim,) as a search in a collection shall use it.

        >>> llm.memory.adapted(llm.embed(["Who owns billing?"])[0], "default").shape
        (256,)
        """
        if self.adapter is None or not isinstance(collection, str) or not vector.any():
            return vector
        return self.adapter.adapt(vector, collection)

    def prefer(
        self, vector: NDArray[np.float32], useful: Sequence[int], collection: str, without: Iterable[int | None] = ()
    ) -> None:
        """Let the adapter learn which memories answered a query (dim,), among what a search for it finds.

        Args:
            without: memories that are neither.

        >>> ids = llm.memory.add(["Ada owns billing.", "Staging is reset at noon."])
        >>> llm.memory.prefer(llm.embed(["Who owns billing?"])[0], ids[:1], "default")
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
        """Learn from what was rated how to rank hits and what lies around them; see `Ratings.review`.

        >>> asyncio.run(llm.memory.review()) is None  # too little was rated
        True
        """

        def nearest(vector: NDArray[np.float32], k: int, collection: str) -> list[int]:
            found: list[int] = self.nearest(vector, k, collection=collection).ids.tolist()
            return found

        return await self.ratings.review(nearest, pause, epochs=epochs, most=most)

    async def vector(self, query: str | NDArray[np.float32]) -> NDArray[np.float32]:
        """A query as float32 (dim,).

        Raises:
            InputError: an empty text, or no finite vector of this width that has a direction.

        >>> asyncio.run(llm.memory.vector("who owns billing?")).shape
        (256,)
        """
        if not isinstance(query, str):
            return directed(query, (self.encoder.dim,), "query")
        if not query.strip():
            raise InputError("the query is empty", field="query", fix="say what to look for")
        vectors = await self.encoder.encode([well_formed(query)])
        return np.asarray(vectors[0], np.float32)

    def forget(self, ids: Iterable[int]) -> int:
        """Remove memories for good; returns how many there were. Raises InputError: these are no ids.

        >>> llm.memory.forget(llm.memory.add("Ada owns billing."))
        1
        """
        chosen = ids_of(ids)
        self.indexes.refresh()
        gone = self.records.remove(chosen)
        self.indexes.remove(chosen)
        return gone

    def archive(self, ids: Iterable[int]) -> None:
        """Take memories out of the search; they stay reachable by id.

        >>> (id,) = llm.memory.add("Ada owns billing.")
        >>> llm.memory.archive([id])
        >>> llm.memory.search("billing"), llm.memory.get([id])[0].archived
        ([], True)
        """
        chosen = ids_of(ids)
        self.indexes.refresh()
        self.records.archive(chosen)
        self.indexes.remove(chosen)

    def stats(self) -> dict[str, Any]:
        """Memories of each collection, memories and bytes by tier, and how the open ones are searched.

        >>> ids = llm.memory.add("Ada owns billing.")
        >>> llm.memory.stats()["collections"]
        {'default': 1}
        """
        indexes = self.indexes.stats()
        return {"space": self.space, "collections": self.records.counts(), "tiers": self.tiers(), "indexes": indexes}

    def tiers(self) -> dict[str, dict[str, dict[str, int]]]:
        """Memories and bytes of each collection by tier; of "file" no vectors are held in memory.

        >>> ids = llm.memory.add("Ada owns billing.")
        >>> list(llm.memory.tiers())
        ['default']
        """
        return self.indexes.tiers()

    async def aauto_tier(
        self, collections: Iterable[str] | None = None, pause: Pause = no_pause, least: int = 0
    ) -> dict[str, dict[str, dict[str, int]]]:
        """Compress vectors by how much their memories are used; the state file holds all of them whole.

        Args:
            collections: names; all that are large enough to gain when None. Smaller ones stay as they are.

        Returns:
            Memories and bytes by tier, of each collection.

        Raises:
            InputError: the index holds whole vectors.
            StoreError: the file cannot be read.

        >>> llm.memory.auto_tier()  # no collection is large enough to gain
        {}
        """
        return await self.indexes.retier(collections, pause, least)

    auto_tier = synchronous(aauto_tier)

    def flush(self) -> None:
        """Write down everything that waits.

        >>> llm.memory.flush()
        """
        self.records.flush()
        self.save()

    def save(self) -> None:
        """Keep the indexes of large collections beside the state file, where they have changed much.

        They are a cache: nothing is lost when the folder `<state>.index` cannot be written, or is deleted.

        Raises:
            StoreError: what waits cannot be written to the state file.

        >>> llm.memory.save()
        """
        self.store.flush()  # what is not on disk must not be in a saved index
        self.indexes.save()
