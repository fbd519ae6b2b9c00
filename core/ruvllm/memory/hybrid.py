"""Search by meaning and by words at once, with what stands beside a hit in its conversation or document."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ruvllm.memory.filters import Filter
from ruvllm.memory.found import Why
from ruvllm.memory.validity import Closed, Moment, moment_of
from ruvllm.memory.words import WordHits, Words
from ruvllm.state.record import OBSERVED, VALID_FROM
from ruvllm.text.dates import first_date
from ruvllm.text.entities import entities_in, relative_clause
from ruvllm.text.terms import Sought, terms

if TYPE_CHECKING:
    from ruvllm.memory.memory import MemoryStore


# What a query's words, the speaker that it names and a neighbour's score count for beside a cosine; chosen on
# conversations of our own (`ruvllm_bench.memory.talks`).
_WORDS, _SPEAKER, _BESIDE = 0.8, 0.2, 0.15
_WORD_HITS, _VECTOR_HITS, _DATED_HITS = 32, 16, 64  # candidates of each kind, at least
_DATED, _ENDED, _HELD = 0.25, 0.5, 0.1  # for a day that is named, against what holds no longer, for what held then
_HALF_LIFE = 30  # days
# For what is reached by names; where the walk begins and ends, and how much of it follows a link at each step.
_REACHED_ALWAYS = 0.1
_REACHED, _SEEDS, _MOST_REACHED, _STEPS, _DAMPING = 0.8, 4, 64, 4, 0.6
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
        ids = {*hits.best(max(_WORD_HITS, 2 * k))[0].tolist()}
        if meaning and vector.any():
            least = max(_VECTOR_HITS, k)
            near = self._memory.nearest(vector, least, collection=collection, filter=filter, recall=recall).ids
            ids.update((near if sought.plain or allowed is None else near[np.isin(near, allowed)]).tolist())
        moment = moment or moment_of(sought.text)
        dated = np.empty(0, np.int64)
        if moment.span is not None and not moment.strict:
            dated = self.words.dated(collection, moment.span, _DATED_HITS)
            dated = dated if allowed is None else np.intersect1d(dated, allowed)
            ids.update(dated.tolist())
        ((edges, closing),) = self._memory.store.read(_ANY)
        pairs = self._beside(ids) if edges and meaning else []
        others = {other for _, other, _ in pairs} - ids
        closed = self._memory.validity.closed([*ids, *others]) if closing else {}
        more = {one.successor for i, one in closed.items() if one.successor and i in ids} - ids - others
        others |= more
        ids |= others if allowed is None else others & {*allowed.tolist()}
        found, parts = self._parts(np.array(sorted(ids), np.int64), vector, hits, pairs, collection, meaning)
        always, way = sought.text if meaning else "", self._memory.options.entities
        clause = "" if way == "never" else relative_clause(sought.text) or (always if way == "always" else "")
        reached = self._reached(clause, collection, allowed) if clause else {}
        if reached:
            ids.update(reached)
            found, parts = self._parts(np.array(sorted(ids), np.int64), vector, hits, pairs, collection, meaning)
            weight = _REACHED if clause != always else _REACHED_ALWAYS
            parts[5] = [weight * reached.get(i, 0.0) for i in found.tolist()]
        if len(dated):
            parts[4] += np.float32(_DATED) * np.isin(found, dated)
        if closed:
            closed |= self._memory.validity.closed(more) if more else {}
            place = {i: at for at, i in enumerate(found.tolist())}
            _pass_on(parts, place, {i: one for i, one in closed.items() if i in place}, moment)
        if recency or moment.strict:
            self._age(parts, found.tolist(), moment, recency)
        order = np.argsort(-parts.sum(0), kind="stable")[:k]
        return {i: Why(*why) for i, why in zip(found[order].tolist(), parts[:, order].T.tolist(), strict=True)}

    def _parts(
        self,
        ids: Ids,
        vector: Floats,
        hits: WordHits,
        pairs: Sequence[tuple[int, int, float]],
        collection: str,
        meaning: bool,
    ) -> tuple[Ids, Floats]:
        """Those of these memories that are in the index, and float32 (6, n), what makes their scores, as in Why."""
        ids, cosines = self._memory.compared(ids, vector, collection)
        parts = np.zeros((6, len(ids)), np.float32)
        if not len(ids):
            return ids, parts
        words, speakers = hits.of(ids)
        parts[0], parts[1], parts[2] = cosines * meaning, words * np.float32(_WORDS), speakers * np.float32(_SPEAKER)
        if pairs:
            ends = np.fromiter(chain.from_iterable(pairs), np.float64, 3 * len(pairs)).reshape(-1, 3)
            rows = np.minimum(ids.searchsorted(ends[:, :2]), len(ids) - 1)
            joined = (ids[rows] == ends[:, :2]).all(1)
            here, there = rows[joined].T
            heard = _BESIDE * ends[joined, 2] * (parts[0] + parts[1])[there]
            parts[3] = np.bincount(here, heard, len(ids))
        return ids, parts

    def _reached(self, clause: str, collection: str, allowed: Ids | None) -> dict[int, float]:
        """Memories that name what those name which say what a question says of somebody: id -> 0 to 1.

        Personalised PageRank over memories and names, from the memories that have most of the clause's words.
        """
        seeds, scores = self.words.find(collection, clause, allowed).best(_SEEDS)
        there = dict(zip(seeds.tolist(), scores.tolist(), strict=True))
        said, links = set(terms(clause)), dict[str, Ids]()
        for one in self._memory.get(list(there)):
            for name in entities_in(one.text):
                if name not in links and not said.issuperset(terms(name)):
                    links[name] = self.words.naming(collection, name)
        if not links:
            return {}
        nodes = np.unique(np.concatenate([seeds, *links.values()]))
        sizes = [len(some) for some in links.values()]
        rows, names = nodes.searchsorted(np.concatenate(list(links.values()))), np.repeat(np.arange(len(links)), sizes)
        start = np.array([there.get(i, 0.0) for i in nodes.tolist()])
        start = start**2 / (start**2).sum()
        of_memory = np.maximum(np.bincount(rows, minlength=len(nodes)), 1)
        rank = start
        for _ in range(_STEPS):
            heard = np.bincount(names, (rank / of_memory)[rows], len(links)) / sizes
            rank = (1 - _DAMPING) * start + _DAMPING * np.bincount(rows, heard[names], len(nodes))
        if allowed is not None:
            rank = rank * np.isin(nodes, allowed)
        best = np.argsort(-rank, kind="stable")[:_MOST_REACHED]
        return dict(zip(nodes[best].tolist(), (rank[best] / max(rank.max(), 1e-12)).tolist(), strict=True))

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
        pairs = graph.beside(ids, _FOLLOWS, _MOST_BESIDE * len(ids))
        others = {other for _, other, _ in pairs} - ids
        return list({*pairs, *graph.beside(others, _FOLLOWS, _MOST_BESIDE * len(others))})


def _pass_on(parts: Floats, place: Mapping[int, int], closed: Mapping[int, Closed], moment: Moment) -> None:
    """Let what holds instead of a memory be no worse than this was, where the query asks for what holds now."""
    totals = parts.sum(0).tolist()
    before = totals.copy()
    for i, one in sorted(closed.items()):  # what superseded another one may itself be superseded, by a later one
        at = place[i]
        if moment.holds(one.until):
            totals[at] += _HELD
            continue
        if one.successor is not None and one.successor in place:
            there = place[one.successor]
            totals[there] = max(totals[there], totals[at])
        totals[at] -= _ENDED
    parts[4] += np.array(totals, np.float32) - np.array(before, np.float32)
