"""A set that differs little from one that was built before: what was learnt there is kept, not learnt again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ruvllm.encoders.protocol import Pause, Vectors, no_pause
from ruvllm.routing.head import Design, Examples, Head, Neighbours
from ruvllm.routing.teaching import Taught, centroids_of
from ruvllm.text.lexical import HashedTfidf
from ruvllm.types import Agent

__all__ = ["Places", "places", "refit", "widen"]

_FEW = 4  # agents of which one may be new, gone or changed: the share and calibration of the others still hold


@dataclass(frozen=True, slots=True)
class Places:
    """Where the agents of a set stood in the one built before.

    Attributes:
        before: int64 (agents,), the number there; -1 for a new or changed one.
        count: how many agents it had.
        same_examples: whether both sets have the same examples in all.
    """

    before: NDArray[np.int64]
    count: int
    same_examples: bool

    @property
    def identity(self) -> bool:
        """Whether the sets are the same, in the same order."""
        return np.array_equal(self.before, np.arange(self.count))

    @property
    def kept(self) -> NDArray[np.intp]:
        """The agents that were there."""
        return np.flatnonzero(self.before >= 0)

    @property
    def fresh(self) -> NDArray[np.intp]:
        """The agents that were not."""
        return np.flatnonzero(self.before < 0)

    def rows(self, before: Vectors, fresh: Vectors) -> Vectors:
        """A row (dim,) of each agent, from those of the agents before and of the fresh ones."""
        out = np.zeros((len(self.before), before.shape[1]), np.float32)
        out[self.kept], out[self.fresh] = before[self.before[self.kept]], fresh
        return out

    def moved(self, columns: NDArray[np.float32]) -> NDArray[np.float32]:
        """(…, agents before) to (…, agents); zero for a new one."""
        out = np.zeros((*columns.shape[:-1], len(self.before)), np.float32)
        out[..., self.kept] = columns[..., self.before[self.kept]]
        return out


def places(agents: Sequence[Agent], before: Sequence[Agent]) -> Places | None:
    """How `agents` go back to `before`; None where too few do."""
    number = {_taught_by(agent): i for i, agent in enumerate(before)}
    found = [number.pop(_taught_by(agent), -1) for agent in agents]
    fresh = [agent for agent, place in zip(agents, found, strict=True) if place < 0]
    gone = [before[i] for i in number.values()]
    if _FEW * (len(gone) + len(fresh)) > len(before):
        return None
    return Places(np.array(found, np.int64), len(before), not any(agent.examples for agent in (*gone, *fresh)))


def _taught_by(agent: Agent) -> tuple[object, ...]:
    """All of an agent that a scorer learns from."""
    return agent.name, agent.description, tuple(agent.keywords), tuple(agent.examples)


def widen(taught: Taught, moves: Places) -> Taught:
    """The same knowledge for agents that brought no example: they have their zero-shot scores alone."""
    tfidf = HashedTfidf(dict(taught.head.tfidf.idf), taught.head.tfidf.width)
    near = taught.neighbours
    if near is not None:
        now = np.full(near.agents, -1, np.int64)
        now[moves.before[moves.kept]] = moves.kept
        near = replace(near, labels=now[near.labels], agents=len(moves.before))
    return replace(taught, head=Head(moves.moved(taught.head.weights), tfidf), neighbours=near)


async def refit(taught: Taught, moves: Places, examples: Examples, pause: Pause = no_pause) -> Taught:
    """A head on all examples that starts from the weights of the one before; share and calibration stand."""
    start = moves.moved(taught.head.weights)
    head = await Design(examples, taught.head.tfidf.width).fit(pause, float(taught.share), start=start)
    near = taught.neighbours
    if near is not None:
        near = Neighbours(examples.vectors, examples.labels, len(moves.before), near.weight)
    return replace(taught, head=head, neighbours=near, centroids=centroids_of(examples)[0])
