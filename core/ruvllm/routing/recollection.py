"""Tasks that were confirmed before, found again by meaning: a near-duplicate is answered from memory.

A hit has to be nearer than a bound above which, in labelled intents where neighbours are known
(models/recipes/recollection.py), at least nine in ten nearest texts share their label; and the other
texts as near must agree. Where confirmed tasks turn out to contradict their own near-duplicates (people
err), memory answers for exact repetitions alone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ruvllm.index import BinaryIndex

__all__ = ["Recollected", "Recollection"]

_NEIGHBOURS = 5
_SURE = 0.9  # P(same agent) from which memory answers
_AGREEING = 0.8  # share of the near texts' weight that has to be for the same agent
_RECALL = 0.95
_SAME = 0.999  # cosine of a repetition
_ASKED = 200  # confirmed tasks that tell how far near-duplicates agree
_FIRST, _GROWN = 64, 2  # tasks from which they are asked, and how many times as many until they are asked again
_PRIOR = (20, 0.95)  # what is believed before: so many agreements, at this rate


@dataclass(frozen=True, slots=True)
class Recollected:
    """A confirmed task near enough to answer for another.

    Attributes:
        agent: number of its agent.
        confidence: calibrated P(the new task belongs to it too).
        near: (text, cosine) of the confirmed tasks that agree, nearest first.
    """

    agent: int
    confidence: float
    near: tuple[tuple[str, float], ...]


class Recollection:
    """Confirmed tasks by their static vectors.

    Args:
        dim: width of the vectors.
        weights: float32 (2,), slope and intercept of logit P(same label) over cosine.
    """

    def __init__(self, dim: int, weights: NDArray[np.float32]) -> None:
        self._slope, self._intercept = (float(value) for value in weights)
        self.bound = (math.log(_SURE / (1 - _SURE)) - self._intercept) / self._slope
        self._index = BinaryIndex(dim, recall=_RECALL)
        self._texts: list[str] = []
        self._agents: list[int] = []
        self._weights: list[float] = []
        self._known: dict[str, int] = {}
        self._agreement, self._asked_at = _PRIOR[1], 0

    def __len__(self) -> int:
        return len(self._index)

    def add(self, texts: list[str], agents: list[int], weights: list[float], vectors: NDArray[np.float32]) -> None:
        """Confirmed tasks with their agents' numbers; the last word on a text holds."""
        latest = {text: i for i, text in enumerate(texts)}
        rows = [i for i in latest.values() if vectors[i].any()]  # a text without a known word has no direction
        ids = [self._known.setdefault(texts[i], len(self._known)) for i in rows]
        for number, i in zip(ids, rows, strict=True):
            if number == len(self._texts):
                self._texts.append(texts[i])
                self._agents.append(agents[i])
                self._weights.append(weights[i])
            else:
                self._agents[number], self._weights[number] = agents[i], weights[i]
        if rows:
            self._index.add(np.array(ids, np.int64), vectors[rows])
        if len(self._texts) >= max(_FIRST, _GROWN * self._asked_at):
            self._asked_at = len(self._texts)
            self._agreement = self._measured()

    def find(self, vector: NDArray[np.float32]) -> Recollected | None:
        """The answer that memory gives to a task's static vector (dim,), None when nothing is near enough."""
        if not self._texts or not vector.any():
            return None
        hits = self._index.search(vector, _NEIGHBOURS)
        near = [(i, s) for i, s in zip(hits.ids.tolist(), hits.scores.tolist(), strict=True) if s >= self.bound]
        if not near:
            return None
        agent = self._agents[near[0][0]]
        for_it = sum(self._weights[i] for i, _ in near if self._agents[i] == agent)
        if for_it < _AGREEING * sum(self._weights[i] for i, _ in near):
            return None
        if self._agreement < _SURE and near[0][1] < _SAME:
            return None
        agreeing = tuple((self._texts[i], score) for i, score in near if self._agents[i] == agent)
        return Recollected(agent, self._chance(agreeing[0][1]), agreeing)

    def _measured(self) -> float:
        """How often the nearest other task within the bound has the same agent."""
        strength, rate = _PRIOR
        same, pairs = strength * rate, float(strength)
        held = self._index.rows
        for row in range(0, held.size, max(1, held.size // _ASKED)):
            hits = self._index.search(held.vectors[row], 2)
            others = [
                (i, s) for i, s in zip(hits.ids.tolist(), hits.scores.tolist(), strict=True) if i != held.ids[row]
            ]
            if others and others[0][1] >= self.bound:
                same += self._agents[others[0][0]] == self._agents[int(held.ids[row])]
                pairs += 1
        return same / pairs

    def _chance(self, cosine: float) -> float:
        return min(self._agreement, 1 / (1 + math.exp(-(self._slope * cosine + self._intercept))))
