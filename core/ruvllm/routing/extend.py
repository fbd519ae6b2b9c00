"""A set that differs little from one that was built before: what was learnt there is kept, not learnt again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ruvllm.encoders.protocol import Vectors
from ruvllm.lazy_dataclass import dataclass
from ruvllm.routing.head import Head, Prior
from ruvllm.types import Agent

_FEW = 4  # agents of which one may be new or changed: what was learnt of the others still holds


@dataclass(frozen=True, slots=True)
class Places:
    """Where the agents of a set stood in the one built before.

    Attributes:
        before: int64 (agents,), the number there; -1 for a new or changed one.
        count: how many agents it had.
    """

    before: NDArray[np.int64]
    count: int

    @property
    def identity(self) -> bool:
        """Whether the sets are the same, in the same order."""
        return np.array_equal(self.before, np.arange(self.count))

    @property
    def remaining(self) -> NDArray[np.intp]:
        """The agents that were there."""
        return np.flatnonzero(self.before >= 0)

    @property
    def fresh(self) -> NDArray[np.intp]:
        """The agents that were not."""
        return np.flatnonzero(self.before < 0)

    def rows(self, before: Vectors, fresh: Vectors) -> Vectors:
        """A row (dim,) of each agent, from those of the agents before and of the fresh ones."""
        out = np.zeros((len(self.before), before.shape[1]), np.float32)
        out[self.remaining], out[self.fresh] = before[self.before[self.remaining]], fresh
        return out


def places(agents: Sequence[Agent], before: Sequence[Agent], few: bool = True) -> Places | None:
    """How `agents` go back to `before`; None where too many are new, unless any number may be (`few` is False)."""
    number = {_learnt_from(agent): i for i, agent in enumerate(before)}
    found = np.array([number.pop(_learnt_from(agent), -1) for agent in agents], np.int64)
    return None if few and _FEW * int((found < 0).sum()) > len(agents) else Places(found, len(before))


def _learnt_from(agent: Agent) -> tuple[object, ...]:
    """All of an agent that a scorer learns from."""
    return agent.name, agent.description, tuple(agent.keywords), tuple(agent.examples)


def moved_prior(prior: Prior | None, moves: Places) -> Prior | None:
    """The same for these agents; a new one has its zero-shot scores alone."""
    if prior is None or moves.identity:
        return prior
    before = prior.head.weights
    weights = np.zeros((len(before), len(moves.before) + 1), np.float32)
    weights[:, moves.remaining], weights[:, -1] = before[:, moves.before[moves.remaining]], before[:, -1]
    return replace(prior, head=Head(weights, prior.head.tfidf), fresh=frozenset(moves.fresh.tolist()))
