"""Searches that somebody judged: kept with their query, and what graph attention learns its ranking from."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from ruvllm.encoders.protocol import Pause, no_pause
from ruvllm.errors import REPAIR, InputError, StoreError
from ruvllm.memory.attention import GraphAttention
from ruvllm.memory.attention.layer import heads_for
from ruvllm.memory.attention.training import Example, Trained, save_attention, saved_attention, train_attention
from ruvllm.memory.graph import Graph, delta_of
from ruvllm.memory.records import Records
from ruvllm.memory.subgraph import Subgraph
from ruvllm.memory.surroundings import Surroundings
from ruvllm.state.names import ATTENTION, ATTENTION_REVIEWED, name_in
from ruvllm.state.record import LITTLE, read_metadata
from ruvllm.state.set_aside import base64_of
from ruvllm.state.store import Store

ENOUGH = 40  # rated searches; fewer hold out too few to tell
_BEST, _WORST = 5, 1  # the ratings of what helped and what did not
_MOST = 2_000  # ratings that are kept
_NEW = 0.2  # share of the ratings that has to be new since the last review
_SEEDS, _HOPS, _AROUND = 16, 2, 64  # the neighbourhood that an answer is looked for in

Nearest = Callable[[NDArray[np.float32], int, str], Sequence[int]]  # a vector, how many, a collection -> ids


class Ratings:
    """Rated searches of one vector space.

    Args:
        records, graph: of the store.
        surroundings: ranks what a search found.
        space, dim: of the vectors.
    """

    def __init__(self, records: Records, graph: Graph, surroundings: Surroundings, space: str, dim: int) -> None:
        self._records, self._graph, self._surroundings = records, graph, surroundings
        self._store: Store = records.store
        self._space, self._dim = space, dim
        self._stored_as = name_in(space, ATTENTION)
        self._reviewed = name_in(space, ATTENTION_REVIEWED)  # the last rating that a review has seen

    def __len__(self) -> int:
        return int(self._store.read("SELECT count(*) FROM ratings WHERE space = ?", (self._space,))[0][0])

    def rate(self, vector: NDArray[np.float32], hits: list[int], rated: Mapping[int, float]) -> None:
        """Take in which memories helped with a query, all or nothing: quality, edges that led there, the rating itself.

        Args:
            vector: float32 (dim,) of the query.
            hits: what a search for it finds directly.
            rated: id -> how far it helped, 0 to 1.

        Raises:
            InputError: an unknown id, a number out of range, or none at all.
            StoreError: it cannot be kept.
        """
        if not rated:
            raise InputError("no memory is rated", field="ids", fix="give the ids of memories in this store")
        for i, helped in rated.items():
            number = isinstance(helped, int | float) and not isinstance(helped, bool)
            if not number or not 0 <= helped <= 1:
                fix = "use 0 (it did not help) to 1 (it did)"
                raise InputError(f"memory {i!r} is rated {helped!r}"[:100], field="ids", fix=fix)
        self._graph.neighbours(sorted(rated), most=1)  # knows unknown ids
        gains = {i: delta_of(_WORST + (_BEST - _WORST) * helped) for i, helped in rated.items()}
        with self._store.write():
            self._records.rate(gains)
            self._graph.strengthen(self.led(hits, gains))
            self._graph.strengthen(self.bound(hits, gains))
            self.keep(vector, rated)

    def keep(self, vector: NDArray[np.float32], relevance: Mapping[int, float], request: str = "") -> None:
        """Keep what a search for a vector (dim,) should have found: id -> 0 and more, the oldest make room.

        Where nothing was relevant there is nothing to rank first, and nothing is kept.

        Args:
            request: the answer that was rated: a rating that cannot be written is set aside under its id.

        Raises:
            StoreError: it cannot be kept.
        """
        if not any(value > 0 for value in relevance.values()):
            return
        scores = {str(i): float(value) for i, value in relevance.items()}
        if not request:
            insert_rating(self._store, self._space, vector, scores)
            return
        self._store.set_aside.write_each(
            "rating",
            [scores],
            lambda _: insert_rating(self._store, self._space, vector, scores),
            lambda _: request,
            lambda _: {"space": self._space, "vector": base64_of(vector), "relevance": scores},
        )

    def bound(self, hits: list[int], rated: Mapping[int, float]) -> dict[int, float]:
        """Of each hyperedge that joins hits with other rated memories, by id, what these were rated.

        Args:
            rated: id -> what an edge that led there gains.
        """
        others = rated.keys() - set(hits)
        found = self._graph.bindings(sorted(others)) if hits and others else []
        joining = [one for one in found if not set(hits).isdisjoint(one.members)]
        return {one.id: sum(rated[i] for i in others.intersection(one.members)) for one in joining}

    def led(self, hits: list[int], rated: Mapping[int, float]) -> dict[tuple[int, int, str], float]:
        """Of each edge on the heaviest ways from hits to rated memories, what these were rated.

        Args:
            rated: id -> what an edge that led there gains.
        """
        if not hits or not set(rated) - set(hits):
            return {}
        graph = self._graph.expand(hits, _HOPS)
        hops = dict(zip(graph.ids.tolist(), graph.hops.tolist(), strict=True))
        ways = self._ways(graph, hops)
        gains = dict[tuple[int, int, str], float]()
        for i, gain in rated.items():
            while hops.get(i, 0) and i in ways:
                edge, nearer = ways[i]
                gains[edge] = gains.get(edge, 0.0) + gain
                i = nearer
        return gains

    def _ways(self, graph: Subgraph, hops: Mapping[int, int]) -> dict[int, tuple[tuple[int, int, str], int]]:
        """Of each memory that a hop led to: the heaviest edge it came along, and from where."""
        away = [i for i in graph.ids.tolist() if hops[i]]
        ways = dict[int, tuple[tuple[int, int, str], int]]()
        for node, other, kind, _, outgoing in self._graph.neighbours(away):  # heaviest first
            if hops.get(other) == hops[node] - 1 and node not in ways:
                ways[node] = ((node, other, kind) if outgoing else (other, node, kind), other)
        return ways

    async def review(
        self, nearest: Nearest, pause: Pause = no_pause, *, epochs: int = 30, most: int = 500
    ) -> Trained | None:
        """Train the attention on the latest ratings; what ranks held-out ones better is kept in the state file.

        Args:
            nearest: ids of the memories nearest to a vector in a collection.
            pause: awaited between slices of the work.
            epochs, most: what it may cost: passes over the ratings, and how many of these.

        Returns:
            What training gave; None when there are too few ratings, or hardly any since the last review (judging
            the same ones again and again would keep a layer that is better by chance), or another encoder's
            layer is in the state file.
        """
        last, count, new = self._counts()
        if count < ENOUGH or new < _NEW * count:
            return None
        examples = await self._examples(nearest, most, pause)
        before = saved_attention(self._store, self._dim, name=self._stored_as)
        if len(examples) < ENOUGH or (before is None and self._store.digest(self._stored_as) is not None):
            return None
        before = before or GraphAttention(self._dim, heads_for(self._dim))
        trained = await train_attention(before, examples, epochs=epochs, seed=last, pause=pause)
        with self._store.write():
            if trained.accepted:
                save_attention(self._store, trained.attention, self._stored_as)
            self._store.put(self._reviewed, str(last).encode())
        return trained

    def _counts(self) -> tuple[int, int, int]:
        """(id of the last rating, how many there are, how many since the last review)."""
        scores = self._store.load(self._reviewed) or b"0"
        seen = int(scores) if scores.isdigit() else 0
        sql = "SELECT coalesce(max(id), 0), count(*), coalesce(sum(id > ?), 0) FROM ratings WHERE space = ?"
        last, count, new = self._store.read(sql, (seen, self._space))[0]
        return last, count, new

    async def _examples(self, nearest: Nearest, most: int, pause: Pause) -> list[Example]:
        """The latest ratings, oldest first, as a search would find their memories today."""
        rows = self._store.read(
            "SELECT query, relevance FROM ratings WHERE space = ? AND length(query) = ? ORDER BY id DESC LIMIT ?",
            (self._space, self._dim * LITTLE.itemsize, most),
        )
        found = list[Example]()
        for query, scores in reversed(rows):
            example = self._example(np.frombuffer(query, LITTLE).astype(np.float32), relevance_of(scores), nearest)
            found += [example] if example is not None else []
            await pause()
        return found

    def _example(self, vector: NDArray[np.float32], relevance: Mapping[int, float], nearest: Nearest) -> Example | None:
        there = {memory.id: memory.collection for memory in self._records.get(list(relevance))}
        relevant = [i for i in there if relevance[i] > 0]
        if not relevant:
            return None
        collection = there[relevant[0]]
        seeds = list(dict.fromkeys([*nearest(vector, _SEEDS, collection), *there]))
        part = self._surroundings.around(seeds, _HOPS, collection=collection, most=_AROUND)
        rows = np.array([relevance.get(i, 0.0) for i in part.graph.ids.tolist()], np.float32)
        return Example(vector, part.vectors, part.graph, rows) if rows.any() else None


def insert_rating(store: Store, space: str, vector: NDArray[np.float32], relevance: Mapping[str, float]) -> None:
    """Write a rated search down; the oldest make room. Raises StoreError: it cannot be written."""
    with store.write() as db:
        row = (space, np.asarray(vector, LITTLE).tobytes(), json.dumps(relevance))
        db.execute("INSERT INTO ratings (space, query, relevance) VALUES (?, ?, ?)", row)
        db.execute(
            "DELETE FROM ratings WHERE id <= (SELECT id FROM ratings ORDER BY id DESC LIMIT 1 OFFSET ?)", (_MOST,)
        )


def relevance_of(relevance: str) -> dict[int, float]:
    """How far each memory helped a rated search, by id. Raises StoreError: the row is damaged."""
    try:
        return {int(i): max(0.0, float(value)) for i, value in read_metadata(relevance).items()}
    except (ValueError, TypeError):
        raise StoreError("a rated search is damaged", field="state", fix=REPAIR) from None
