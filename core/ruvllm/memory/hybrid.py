"""Search by meaning and by words at once, with what stands beside a hit in its conversation or document."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ruvllm.memory.filters import Filter
from ruvllm.memory.found import Why
from ruvllm.memory.validity import Closed, Moment, moment_of
from ruvllm.memory.words import WordHits, Words
from ruvllm.state.record import OBSERVED, VALID_FROM
from ruvllm.text.dates import first_date
from ruvllm.text.terms import Sought

if TYPE_CHECKING:
    from ruvllm.memory.memory import MemoryStore

__all__ = ["HybridSearch"]

# What a query's words, the speaker that it names and a neighbour's score count for beside a cosine; chosen on
# conversations of our own (`ruvllm_bench.memory.talks`).
_WORDS, _SPEAKER, _BESIDE = 0.8, 0.2, 0.15
_WORD_HITS, _VECTOR_HITS, _DATED_HITS = 32, 16, 64  # candidates of each kind, at least
_DATED, _ENDED, _HELD = 0.25, 0.5, 0.1  # for a day that is named, against what holds no longer, for what held then
_HALF_LIFE = 30  # days
_ANY = "SELECT EXISTS (SELECT 1 FROM edges), EXISTS (SELECT 1 FROM closed)"
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
        moment: Moment | None = None,
        recency: float = 0.0,
    ) -> dict[int, Why]:
        """The k memories of a collection that have most to do with a query, best first.

        Args:
            vector: float32 (dim,) of the query; zero where the encoder knows no word of it.
            sought: the query's words and syntax.
            meaning: whether vectors are searched; False searches and ranks by words alone.
            moment: the time that is meant; what the query's words say of it when None.
            recency: what being of today adds to a score; half of it after 30 days.

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
        moment = moment or moment_of(sought.text)
        dated = set[int]()
        if moment.span is not None and not moment.strict:
            dated = set(self.words.dated(collection, moment.span, _DATED_HITS).tolist())
            ids |= dated if allowed is None else dated & set(allowed.tolist())
        edges, closing = self._memory.store.read("SELECT EXISTS (SELECT 1 FROM edges), EXISTS (SELECT 1 FROM closed)")[
            0
        ]
        closed = self._memory.validity.closed(ids) if closing else {}
        pairs = self._beside(ids) if edges and meaning else []
        others = {one.successor for one in closed.values() if one.successor} | {other for _, other, _ in pairs}
        ids |= others if allowed is None else others & set(allowed.tolist())
        found, parts = self._parts(np.array(sorted(ids), np.int64), vector, hits, pairs, collection, meaning)
        place = {i: at for at, i in enumerate(found)}
        parts[4, [place[i] for i in dated if i in place]] += _DATED
        if closing:
            closed |= self._memory.validity.closed(others - closed.keys())
            _pass_on(parts, place, {i: one for i, one in closed.items() if i in place}, moment)
        if recency or moment.strict:
            self._age(parts, found, moment, recency)
        order = np.argsort(-parts.sum(0), kind="stable")[:k]
        return {found[at]: Why(*parts[:, at].tolist()) for at in order.tolist()}

    def _parts(
        self,
        ids: Ids,
        vector: Floats,
        hits: WordHits,
        pairs: list[tuple[int, int, float]],
        collection: str,
        meaning: bool,
    ) -> tuple[list[int], Floats]:
        """Those of these memories that are in the index, and float32 (5, n), what makes their scores, as in Why."""
        ids, cosines = self._memory.compared(ids, vector, collection)
        words, speakers = hits.of(ids)
        parts = np.zeros((5, len(ids)), np.float32)
        parts[0], parts[1], parts[2] = cosines * meaning, words * np.float32(_WORDS), speakers * np.float32(_SPEAKER)
        place = {i: at for at, i in enumerate(ids.tolist())}
        joined = [(place[a], place[b], w) for a, b, w in pairs if a in place and b in place]
        if joined:
            here, there, weights = map(np.array, zip(*joined, strict=True))
            direct = parts[0] + parts[1]
            np.add.at(parts[3], here, np.float32(_BESIDE) * weights.astype(np.float32) * direct[there])
        return list(place), parts

    def _age(self, parts: Floats, ids: list[int], moment: Moment, recency: float) -> None:
        """Add to the time part what being new is worth, and take off what was not known at a moment."""
        place, today = {i: at for at, i in enumerate(ids)}, date.today()
        for one in self._memory.get(ids):
            begins = one.metadata.get(VALID_FROM, one.metadata.get(OBSERVED, one.created))
            when = first_date(begins, today) or first_date(one.created)
            if when is None:
                continue
            if recency:
                parts[4, place[one.id]] += recency * 0.5 ** (max((today - when.first).days, 0) / _HALF_LIFE)
            if moment.strict and moment.span is not None and when.first > moment.span.last:
                parts[4, place[one.id]] -= _ENDED

    def _beside(self, ids: set[int]) -> list[tuple[int, int, float]]:
        """Edges between what follows each other in a conversation, of some memories and of those beside them."""
        graph = self._memory.graph
        if not ids:
            return []
        pairs = graph.beside(ids, _FOLLOWS, _MOST_BESIDE * len(ids))
        others = {other for _, other, _ in pairs} - ids
        back = graph.beside(others, _FOLLOWS, _MOST_BESIDE * len(others)) if others else []
        return list(dict.fromkeys([*pairs, *back]))


def _pass_on(parts: Floats, place: Mapping[int, int], closed: Mapping[int, Closed], moment: Moment) -> None:
    """Let what holds instead of a memory be no worse than this was, where the query asks for what holds now."""
    for i, one in sorted(closed.items()):  # what superseded another one may itself be superseded, by a later one
        at = place[i]
        if moment.holds(one.until):
            parts[4, at] += _HELD
            continue
        if one.successor is not None and one.successor in place:
            there = place[one.successor]
            parts[4, there] += max(float(parts[:, at].sum() - parts[:, there].sum()), 0.0)
        parts[4, at] -= _ENDED
