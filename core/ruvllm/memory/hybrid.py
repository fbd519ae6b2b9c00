"""Search by meaning and by words at once, with what stands beside a hit in its conversation or document."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ruvllm.memory.filters import Filter
from ruvllm.memory.found import Why
from ruvllm.memory.words import WordHits, Words
from ruvllm.text.terms import Sought

if TYPE_CHECKING:
    from ruvllm.memory.memory import MemoryStore

__all__ = ["HybridSearch"]

# What a query's words, the speaker that it names and a neighbour's score count for beside a cosine, as fitted on
# conversations of our own by `ruvllm bench memory fusion`.
_WORDS, _SPEAKER, _BESIDE = 0.8, 0.2, 0.15
_WORD_HITS, _VECTOR_HITS = 32, 16  # candidates of each kind, at least
_FOLLOWS = "Follows"
_MOST_BESIDE = 4  # edges of a candidate

Ids = NDArray[np.int64]
Floats = NDArray[np.float32]


class HybridSearch:
    """Ranks memories by all that speaks for them.

    Args:
        memory: where vectors are searched.
    """

    def __init__(self, memory: MemoryStore) -> None:
        self._memory, self.words = memory, Words(memory.records)

    def rank(
        self,
        vector: Floats,
        sought: Sought,
        k: int,
        *,
        collection: str,
        filter: Filter | None = None,
        recall: float | None = None,
        meaning: bool = True,
    ) -> dict[int, Why]:
        """The k memories of a collection that have most to do with a query, best first.

        Args:
            vector: float32 (dim,) of the query; zero where the encoder knows no word of it.
            sought: the query's words and syntax.
            meaning: whether vectors are searched; False searches and ranks by words alone.

        Raises:
            InputError: a filter that cannot be understood.
            StoreError: the file cannot be read.
        """
        allowed = self.words.allowed(collection, sought, filter)
        if allowed is not None and not sought.text:
            return {i: Why() for i in allowed[: -k - 1 : -1].tolist()}  # all that there is to say is which may be found
        hits = self.words.find(collection, sought.text, allowed)
        ids = set(hits.best(max(_WORD_HITS, 2 * k))[0].tolist())
        pairs = list[tuple[int, int, float]]()
        if meaning and vector.any():
            least = max(_VECTOR_HITS, k)
            near = self._memory.nearest(vector, least, collection=collection, filter=filter, recall=recall).ids
            ids.update((near if sought.plain or allowed is None else near[np.isin(near, allowed)]).tolist())
        if meaning and (pairs := self._beside(ids)):
            others = {other for _, other, _ in pairs} - ids
            ids |= others if allowed is None else others & set(allowed.tolist())
        return self._ranked(np.array(sorted(ids), np.int64), vector, hits, pairs, k, collection, meaning)

    def _ranked(
        self,
        ids: Ids,
        vector: Floats,
        hits: WordHits,
        pairs: list[tuple[int, int, float]],
        k: int,
        collection: str,
        meaning: bool,
    ) -> dict[int, Why]:
        ids, cosines = self._memory.compared(ids, vector, collection)
        words, speakers = hits.of(ids)
        parts = np.zeros((4, len(ids)), np.float32)  # in the order of Why
        parts[0], parts[1], parts[2] = cosines * meaning, words * np.float32(_WORDS), speakers * np.float32(_SPEAKER)
        if pairs:
            place = {i: at for at, i in enumerate(ids.tolist())}
            joined = [(place[a], place[b], w) for a, b, w in pairs if a in place and b in place]
            if joined:
                here, there, weights = map(np.array, zip(*joined, strict=True))
                own = parts[0] + parts[1]
                np.add.at(parts[3], here, np.float32(_BESIDE) * weights.astype(np.float32) * own[there])
        total = parts.sum(0)
        order = np.argsort(-total, kind="stable")[:k]
        return {int(ids[at]): Why(*parts[:, at].tolist()) for at in order}

    def _beside(self, ids: set[int]) -> list[tuple[int, int, float]]:
        """Edges between what follows each other in a conversation, of some memories and of those beside them."""
        graph = self._memory.graph
        if not ids or not graph.store.read("SELECT 1 FROM edges LIMIT 1"):
            return []
        pairs = graph.beside(ids, _FOLLOWS, _MOST_BESIDE * len(ids))
        others = {other for _, other, _ in pairs} - ids
        back = graph.beside(others, _FOLLOWS, _MOST_BESIDE * len(others)) if others else []
        return list(dict.fromkeys([*pairs, *back]))
