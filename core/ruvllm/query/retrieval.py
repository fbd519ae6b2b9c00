"""What memory knows of a query: the nearest memories, what lies around them, and which of these answer best."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from operator import itemgetter

import numpy as np
from numpy.typing import NDArray

from ruvllm.errors import InputError
from ruvllm.memory.attention import GraphAttention
from ruvllm.memory.attention.layer import heads_for
from ruvllm.memory.filters import Filter, visible_to
from ruvllm.memory.found import answer_odds
from ruvllm.memory.memory import MemoryStore
from ruvllm.memory.subgraph import AttentionSummary, EdgeKey, Subgraph
from ruvllm.memory.validity import Moment, moment_of
from ruvllm.options import MemoryConfig
from ruvllm.query.responses import Source
from ruvllm.state.record import AGENT, ELSEWHERE, Memory, heard
from ruvllm.text.terms import Sought

_SAID = 0.4  # what words add from which a memory has something to do with a query, whatever its cosine
_SURE = 0.2  # how much all that speaks for it has to be above the cosine that would do alone
_FARTHER = 0.9  # what a cosine counts for, an edge away
_TRUST = 0.5  # how much of a score a memory of quality 0 keeps
_SEEDS = 4  # of the nearest, that the graph is followed from
_ATTENDED = 16  # the same, for learnt attention to rank
_SUMMED = 64  # memories that a summary without learnt attention is of
_SPARE = 3  # memories looked at beyond those that are asked for: quality may change their order
_MOST_AROUND = 24  # memories that hops may lead to
# Milliseconds that a whole answer may take -> memories looked at (FEATURES.md M3).
_BUDGETS = ((100, 32), (300, 64))


@dataclass(slots=True)
class Retrieved:
    """What was found so far.

    Attributes:
        vector: float32 (dim,), of the query, as the collection's adapter has it.
        scores: id -> cosine and what words add to it, of the memory or of what it says with its neighbours.
        cosines: id -> cosine alone, which is what the confidence of answers without a model goes by.
        hops: id -> edges away; those that are no direct hits.
        edges: source, target, kind and weight, between these and around the best.
        graph: the same as arrays, of those that `attention` ranks; None while there is none.
        odds: what `memory.found.answer_odds` says of the best hits; None where no words were looked for.
        attention: the learnt layer that ranks them, None where there is none.
        moment: the time that the query is about.
        agent_id: who asks, and finds what is shared and their own; None for all.
    """

    vector: NDArray[np.float32]
    scores: dict[int, float] = field(default_factory=dict)
    cosines: dict[int, float] = field(default_factory=dict)
    hops: dict[int, int] = field(default_factory=dict)
    edges: list[tuple[int, int, str, float]] = field(default_factory=list)
    graph: Subgraph | None = None
    attention: GraphAttention | None = None
    moment: Moment = field(default_factory=Moment)
    agent_id: str | None = None
    odds: float | None = None

    def likeness(self) -> dict[int, float]:
        """id -> cosine, raised along edges as `scores` are when they are ranked; empty where attention ranks."""
        if self.attention is not None:
            return {}
        return _raised(self.cosines, self.edges, self.hops)


class Retriever:
    """Looks queries up."""

    def __init__(self, memory: MemoryStore, config: MemoryConfig) -> None:
        self._memory, self._config = memory, config

    async def anearest(
        self, vector: NDArray[np.float32], max_latency_ms: float | None, text: str, agent_id: str | None
    ) -> Retrieved:
        """As `nearest`, of what of the collection is elsewhere, too, as far as it comes in time."""
        if self._memory.elsewhere is not None and (vector.any() or text):
            options, words = self._config, text if self._config.search != "vectors" else ""
            adapted, filter = self._memory.adapted(vector, options.collection), visible_to(agent_id)
            await self._memory.elsewhere.bring(adapted, options.k, options.collection, filter, words, options.hops)
        return self.nearest(vector, max_latency_ms, text, agent_id)

    def nearest(
        self,
        vector: NDArray[np.float32],
        max_latency_ms: float | None = None,
        text: str = "",
        agent_id: str | None = None,
    ) -> Retrieved:
        """The memories that have to do with a query, its vector float32 (dim,) as the collection's adapter has it.

        Their scores are cosines, and what the query's words in them add; the better ones of the memory alone and of
        what it says with its neighbours.
        """
        vector = self._memory.adapted(vector, self._config.collection)
        budgets = (k for most, k in _BUDGETS if max_latency_ms is not None and max_latency_ms < most)
        k = min(self._config.k, next(budgets, self._config.k))
        filter = visible_to(agent_id)
        scores, cosines, odds = self._scores(vector, text, k, filter)
        if self._config.hops:
            informed = self._memory.surroundings.informed(vector, k, self._config.collection, filter)
            informed = {i: score for i, score in informed.items() if score >= self._config.relevance}
            scores |= {i: score for i, score in informed.items() if score > scores.get(i, -1.0)}
            cosines |= {i: score for i, score in informed.items() if score > cosines.get(i, -1.0)}
            scores = dict(sorted(scores.items(), key=itemgetter(1), reverse=True)) if informed else scores
        return Retrieved(vector, scores, cosines, moment=moment_of(text), agent_id=agent_id, odds=odds)

    def _scores(
        self, vector: NDArray[np.float32], text: str, k: int, filter: Filter | None
    ) -> tuple[dict[int, float], dict[int, float], float | None]:
        """Scores and cosines of memories that are near enough or have enough of the words, best first; the odds."""
        collection, recall, relevance = self._config.collection, self._config.recall, self._config.relevance
        if self._config.search == "vectors" or not text:
            hits = self._memory.nearest(vector, k, collection=collection, filter=filter, recall=recall)
            near = zip(hits.ids.tolist(), hits.scores.tolist(), strict=True)
            scores = {i: one for i, one in near if one >= relevance}
            return scores, scores.copy(), None
        sought, meaning = Sought(text), self._config.search == "hybrid"
        options = {"collection": collection, "filter": filter, "recall": recall, "recency": self._config.recency}
        why = self._memory.hybrid.rank(vector, sought, k, meaning=meaning, **options)  # type: ignore[arg-type]
        found = {
            i: one
            for i, one in why.items()
            if one.cosine >= relevance or one.words >= _SAID or one.score - one.speaker >= relevance + _SURE
        }
        # Of a day that is named there need not be a word in what was said on it.
        odds = None if moment_of(text).span is not None else answer_odds(list(why.values()))
        return {i: one.score for i, one in found.items()}, {i: one.cosine for i, one in found.items()}, odds

    def expand(self, found: Retrieved) -> None:
        """Add what lies around the best hits; the less was hit, the further away."""
        if not found.scores or not self._config.hops:
            return
        found.attention = self._memory.surroundings.attention()
        seeds = list(islice(found.scores, _SEEDS if found.attention is None else _ATTENDED))
        hops = self._config.hops if len(found.scores) < self._config.sources + _SPARE else 1
        try:
            grown = self._memory.graph.grow(
                seeds, hops, most=_MOST_AROUND + len(seeds), among=found.attention is not None
            )
        except InputError:  # another process has removed one just now
            return
        scored, away = found.scores, grown.hops
        new = [i for i in away if i not in scored]
        if new:
            # An edge may lead to what is of another collection, or of another encoder's space.
            near = self._memory.cosines(new, found.vector, collection=self._config.collection)
            found.scores |= near
            found.cosines |= near
            found.hops = {i: away[i] for i in near}
        found.edges = [edge for edge in grown.edges() if edge[0] in scored and edge[1] in scored]
        if found.attention is not None:
            inside = [i for i in away if i in scored]
            found.graph = Subgraph.of(inside, found.edges, [away[i] for i in inside])

    def rank(self, found: Retrieved) -> tuple[tuple[Source, ...], tuple[EdgeKey, ...]]:
        """The best sources, and the edges among them."""
        if not found.scores or not self._config.sources:
            return (), ()
        if found.attention is None:
            near = _raised(found.scores, found.edges, found.hops)
        else:
            near = _farther(self._attended(found, found.attention), found.hops)
        best = sorted(near, key=near.__getitem__, reverse=True)[: self._config.sources + _SPARE]
        scored = [memory for memory in self._memory.get(best) if not memory.archived or memory.id in found.hops]
        scored = self._usable(found, scored)
        scored.sort(key=lambda memory: -near[memory.id] * (_TRUST + (1 - _TRUST) * memory.quality))
        scored = scored[: self._config.sources]
        self._memory.records.touch([memory.id for memory in scored])
        passages, hops = self._passages(found, scored), found.hops
        sources = tuple(
            Source(m.id, m.text, round(near[m.id], 4), m.kind, dict(m.metadata), hops.get(m.id, 0), passages[m.id])
            for m in scored
        )
        return sources, _among(found.edges, {source.id for source in sources})

    def _usable(self, found: Retrieved, memories: Sequence[Memory]) -> list[Memory]:
        """Those that held at the time asked for, and are no other agent's: edges may lead to what is."""
        memories = [memory for memory in memories if ELSEWHERE not in memory.metadata]  # of which there is no text
        if found.agent_id is not None:
            memories = [memory for memory in memories if memory.metadata.get(AGENT) in (None, found.agent_id)]
        return self._memory.validity.holding(memories, found.moment)

    def _passages(self, found: Retrieved, sources: Sequence[Memory]) -> dict[int, str]:
        """What was said around each of some sources, by its id; nothing is in two of them."""
        lines = self._memory.graph.windows([one.id for one in sources], self._config.window)
        around = sorted({i for line in lines.values() for i in line} - lines.keys())
        beside = [one for one in self._memory.get(around) if one.collection == self._config.collection]
        there = {one.id: one for one in self._usable(found, [*sources, *beside])}
        free, out = set(there) - lines.keys(), dict[int, str]()
        there |= {one.id: one for one in sources}
        for i, line in lines.items():
            said = [there[j] for j in line if j in there and (j == i or j in free)]
            free = free - {one.id for one in said}
            out[i] = "\n".join(heard(one.text, one.metadata) for one in said) if len(said) > 1 else ""
        return out

    def summary(self, found: Retrieved) -> AttentionSummary | None:
        """Which of the memories found the query draws on, along which edges; None where nothing was found."""
        graph = found.graph if found.graph is not None else Subgraph.of(list(found.scores)[:_SUMMED], found.edges)
        if not len(graph):
            return None
        attention = found.attention or GraphAttention(len(found.vector), heads_for(len(found.vector)))
        return attention.summary(found.vector, self._memory.records.vectors(graph.ids), graph)

    def _attended(self, found: Retrieved, attention: GraphAttention) -> dict[int, float]:
        """Scores by learnt attention, over the graph."""
        graph = found.graph if found.graph is not None else Subgraph.of(list(found.scores)[:_ATTENDED])
        ranked = attention.rank(found.vector, self._memory.records.vectors(graph.ids), graph)
        return dict(zip(graph.ids.tolist(), ranked.tolist(), strict=True))


def _raised(
    direct: Mapping[int, float], edges: Sequence[tuple[int, int, str, float]], hops: Mapping[int, int]
) -> dict[int, float]:
    """Scores, raised to the mean with what a neighbour's is worth along an edge, where that is more."""
    raised = dict(direct)
    for source, target, _, weight in edges:
        here, there = direct[source], direct[target]
        raised[source] = max(raised[source], (here + weight * there) / 2)
        raised[target] = max(raised[target], (there + weight * here) / 2)
    return _farther(raised, hops)


def _farther(scores: dict[int, float], hops: Mapping[int, int]) -> dict[int, float]:
    """With what is no direct hit counting less."""
    return scores | {i: scores[i] * _FARTHER**away for i, away in hops.items() if i in scores}


def _among(edges: Sequence[tuple[int, int, str, float]], chosen: set[int]) -> tuple[EdgeKey, ...]:
    return tuple((a, b, kind) for a, b, kind, _ in edges if a in chosen and b in chosen)
