"""What a search came upon: memories, the sessions that they belong to, and what speaks for them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import exp
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from ruvllm.memory.filters import Filter
from ruvllm.reprs import Shown
from ruvllm.state.record import SESSION, Memory

_BEST, _AHEAD, _AHEAD_OF_THREE, _BIAS = 1.5, 1.85, 1.03, -0.73
_NO_RIVAL, _HITS = 0.6, 10
_LONGEST = 8_000  # characters of a passage, unless its hit alone has more
_NEXT = 0.15  # what a session's next memory counts for beside the one before


# "" where all memories are in the store; "meaning" where a query's words were looked for here alone.
Brought = Literal["", "searched", "meaning", "late", "unreachable"]


class Elsewhere(Protocol):
    """Where memories are that a store has let go of."""

    def covers(self, collection: str) -> bool:
        """Whether there may be more of a collection than the store has."""
        ...

    async def bring(
        self,
        vector: NDArray[np.float32],
        k: int,
        collection: str,
        filter: Filter | None,
        text: str = "",
        steps: int = 0,
    ) -> Brought:
        """Have the k memories nearest to a query (dim,) in the store; how that went.

        Args:
            vector: zero where its words alone are looked for.
            text: whose words are looked for as well.
            steps: edges to follow from what was found.
        """
        ...


@dataclass(frozen=True, slots=True, repr=False)
class Why(Shown):
    """What a memory's score is the sum of.

    Attributes:
        cosine: to the query.
        words: for the query's words in it, the rarer the more.
        speaker: for having been said by somebody whom the query names.
        neighbour: for what was said just before and after it.
        time: for being of the days that the query names, or new; less than 0 for what holds no longer.
        graph: for naming what a better hit names, too, where the question needs both.
    """

    cosine: float = 0.0
    words: float = 0.0
    speaker: float = 0.0
    neighbour: float = 0.0
    time: float = 0.0
    graph: float = 0.0

    @property
    def score(self) -> float:
        """The sum."""
        return self.cosine + self.words + self.speaker + self.neighbour + self.time + self.graph


@dataclass(frozen=True, slots=True, repr=False)
class Found(Shown):
    """A memory that a search came upon.

    Attributes:
        score: cosine to the query, and what its words add to that where words are searched.
        hops: edges away from the nearest direct hit; 0 is a direct one.
        why: what the score is the sum of; None where only vectors were searched, or an edge led to it.
        passage: what was said before and after it, itself among it, in order; empty where that was not asked for.
    """

    memory: Memory
    score: float
    hops: int = 0
    why: Why | None = None
    passage: tuple[Found, ...] = ()


@dataclass(frozen=True, slots=True, repr=False)
class FoundSession(Shown):
    """A conversation that a search came upon.

    Attributes:
        session: as the metadata name it.
        score: that of its best memory and a part of the next ones'.
        found: its memories among the hits, best first.
    """

    session: str
    score: float
    found: tuple[Found, ...]


def answerable(found: Iterable[Found]) -> float:
    """The chance that what was found holds an answer to the question, 0 to 1; see `answer_odds`."""
    odds = answer_odds([one.why for one in found if one.why is not None])
    return 0.0 if odds is None else 1 / (1 + exp(-odds))


def answer_odds(whys: Sequence[Why]) -> float | None:
    """The logarithm of the odds that hits hold an answer to the question; None without any.

    It goes by words: how many of the question's stand in the best hits, and whether somebody whom it does not name said
    them rather. Fitted on conversations of our own, on questions whose answer was left out or was somebody else's
    (build/fit_abstention.py).

    Args:
        whys: of the best ten, in any order.
    """
    named = sorted((one.words for one in whys[:_HITS] if one.speaker > 0), reverse=True)
    others = sorted((one.words for one in whys[:_HITS] if not one.speaker > 0), reverse=True)
    if not (named or others):
        return None
    best = (named or others)[0]
    rivals = others if named else []
    ahead = best - (rivals[0] if rivals else 0.0 if named else _NO_RIVAL * best)
    return _BEST * best + _AHEAD * ahead + _AHEAD_OF_THREE * (sum((named or others)[:3]) - sum(rivals[:3])) + _BIAS


def by_passage(hits: Sequence[Found], lines: Mapping[int, Sequence[int]], around: Iterable[Found]) -> list[Found]:
    """Hits of different passages, best first, with these; no memory is in two of them.

    Args:
        hits: best first.
        lines: id of a hit -> ids before and after it, itself among them, in order.
        around: what there is of these.
    """
    there = {one.memory.id: one for one in [*around, *hits]}
    covered, out = set[int](), list[Found]()
    for hit in hits:
        if hit.memory.id in covered:
            continue
        line, length = lines[hit.memory.id], len(hit.memory.text)
        at = line.index(hit.memory.id)
        chosen = {hit.memory.id}
        for side in (line[at + 1 :], line[:at][::-1]):
            for i in side:
                if i in covered or i not in there or length + len(there[i].memory.text) > _LONGEST:
                    break
                length += len(there[i].memory.text)
                chosen.add(i)
        covered |= chosen
        out.append(replace(hit, passage=tuple(there[i] for i in line if i in chosen)))
    return out


def by_session(found: Iterable[Found]) -> list[FoundSession]:
    """The sessions that hits belong to, best first; hits without one are left out."""
    groups = dict[str, list[Found]]()
    for one in found:
        if (session := one.memory.metadata.get(SESSION)) is not None:
            groups.setdefault(str(session), []).append(one)
    scores = {name: sum(_NEXT**place * one.score for place, one in enumerate(some)) for name, some in groups.items()}
    best = sorted(groups, key=scores.__getitem__, reverse=True)
    return [FoundSession(name, scores[name], tuple(groups[name])) for name in best]
