"""What a search came upon: memories, the sessions that they belong to, and what speaks for them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import exp

from ruvllm.reprs import one_line
from ruvllm.state.record import SESSION, Memory

__all__ = ["Found", "FoundSession", "Why", "answerable", "by_session"]

_BEST, _AHEAD, _NO_RIVAL, _BIAS = 2.4, 3.15, 0.6, -0.75
_NEXT = 0.15  # what a session's next memory counts for beside the one before


@dataclass(frozen=True, slots=True)
class Why:
    """What a memory's score is the sum of.

    Attributes:
        cosine: to the query.
        words: for the query's words in it, the rarer the more.
        speaker: for having been said by somebody whom the query names.
        neighbour: for what was said just before and after it.
        time: for being of the days that the query names, or new; less than 0 for what holds no longer.
    """

    cosine: float = 0.0
    words: float = 0.0
    speaker: float = 0.0
    neighbour: float = 0.0
    time: float = 0.0

    __repr__ = one_line

    @property
    def score(self) -> float:
        """The sum."""
        return self.cosine + self.words + self.speaker + self.neighbour + self.time


@dataclass(frozen=True, slots=True)
class Found:
    """A memory that a search came upon.

    Attributes:
        score: cosine to the query, and what its words add to that where words are searched.
        hops: edges away from the nearest direct hit; 0 is a direct one.
        why: what the score is the sum of; None where only vectors were searched, or an edge led to it.
    """

    memory: Memory
    score: float
    hops: int = 0
    why: Why | None = None

    __repr__ = one_line


@dataclass(frozen=True, slots=True)
class FoundSession:
    """A conversation that a search came upon.

    Attributes:
        session: as the metadata name it.
        score: that of its best memory and a part of the next ones'.
        found: its memories among the hits, best first.
    """

    session: str
    score: float
    found: tuple[Found, ...]

    __repr__ = one_line


def answerable(found: Iterable[Found]) -> float:
    """The chance that what was found holds an answer to the question, 0 to 1.

    It goes by words: how many of the question's stand in the best hit, and whether somebody whom it does not name said
    them rather. Fitted on conversations of our own, on questions whose answer was left out or was somebody else's.
    """
    hits = [one for one in found if one.why is not None]
    if not hits:
        return 0.0
    named = [one.why.words for one in hits if one.why and one.why.speaker > 0]
    others = [one.why.words for one in hits if one.why and not one.why.speaker > 0]
    best = max(named or others)
    rival = max(others, default=0.0) if named else _NO_RIVAL * best
    return 1 / (1 + exp(-(_BEST * best + _AHEAD * (best - rival) + _BIAS)))


def by_session(found: Iterable[Found]) -> list[FoundSession]:
    """The sessions that hits belong to, best first; hits without one are left out."""
    groups = dict[str, list[Found]]()
    for one in found:
        if (session := one.memory.metadata.get(SESSION)) is not None:
            groups.setdefault(str(session), []).append(one)
    scores = {name: sum(_NEXT**place * one.score for place, one in enumerate(some)) for name, some in groups.items()}
    best = sorted(groups, key=scores.__getitem__, reverse=True)
    return [FoundSession(name, scores[name], tuple(groups[name])) for name in best]
