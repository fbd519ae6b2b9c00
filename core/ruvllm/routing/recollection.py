"""Tasks that were confirmed before, found again by meaning: a near-duplicate is answered from memory.

A near-duplicate is nearer than a bound above which, in labelled intents where neighbours are known
(models/recipes/recollection.py), at least nine in ten nearest texts share their label; the other texts as
near must agree, and no rejection be as near. Where confirmed tasks turn out to contradict their own
near-duplicates (people err), memory answers for exact repetitions alone.

A similar task, where it is eight in ten, decides nothing by itself: it makes what the scorers say of the same agent
surer, within the band of actions that they put it in.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ruvllm.lazy_dataclass import dataclass
from ruvllm.sizing.tiers import USE_ABOVE
from ruvllm.types import Feedback

if TYPE_CHECKING:  # where nothing was confirmed yet, nobody waits for it
    from ruvllm.index import BinaryIndex


_NEIGHBOURS = 5
_SURE = 0.9  # P(same agent) from which memory answers
_LIKELY = 0.8  # from which it strengthens an answer that is the same without it
_MOST = 0.9999  # nobody is as sure as 1
_REPEATED = 0.999  # P(same agent) of a task that was itself confirmed, where confirmed tasks agree
BELOW_USE = USE_ABOVE - 1e-4  # how sure what is not the scorers' can make a task that was not to be used without asking
_AGREEING = 0.8  # share of the near texts' weight that has to be for the same agent
_RECALL = 0.95
_SAME = 0.999  # cosine of a repetition
_TINY = 1e-6
_STORED = 20_000  # confirmed tasks, and as many rejected: a kilobyte each
_ANY = -1  # in the place of an agent's number: a text belongs to one agent, and may have been rejected for several
_Key = tuple[str, int]
_SAMPLED = 200  # confirmed tasks that tell how far near-duplicates agree
_FIRST, _GROWN = 64, 2  # tasks from which they are asked, and how many times as many until they are asked again
_PRIOR = (20, 0.95)  # what is believed before: so many agreements, at this rate


@dataclass(frozen=True, slots=True)
class Recollected:
    """Confirmed tasks near another.

    Attributes:
        agent: number of their agent.
        confidence: calibrated P(the new task belongs to it too), by the nearest.
        near: (text, cosine) of those that agree, nearest first.
        answers: whether they are near enough to answer for it; else they only bear out the same answer.
    """

    agent: int
    confidence: float
    near: tuple[tuple[str, float], ...]
    answers: bool = True

    def joined(self, probability: float, first: bool) -> float:
        """How sure it is of the agent, together with the scorers; never less than these alone.

        Args:
            probability: what the scorers give the agent.
            first: whether it is the one that they choose.
        """
        if not first:
            return max(self.confidence, probability)
        joined = _odds(probability) * max(1.0, _odds(self.confidence) / _odds(_LIKELY))
        surer = max(probability, min(joined / (1 + joined), _MOST))
        if self.answers:
            return max(self.confidence, surer)
        return surer if probability > USE_ABOVE else max(probability, min(surer, BELOW_USE))


def latest(records: Sequence[Feedback], most: int = _STORED) -> Sequence[Feedback]:
    """The last `most` confirmations and as many rejections, oldest first: those before them would not stay."""
    if len(records) <= most:
        return records
    found, counts = list[Feedback](), {True: 0, False: 0}
    for feedback in reversed(records):
        counts[feedback.right] += 1
        if counts[feedback.right] <= most:
            found.append(feedback)
        elif min(counts.values()) >= most:
            break
    return found[::-1]


class Recollection:
    """Confirmed tasks by their static vectors, and what they were found not to belong to.

    Args:
        weights: float32 (2,), slope and intercept of logit P(same label) over cosine.
        most: confirmed tasks that are remembered, and as many rejections; those of longest ago leave.
    """

    def __init__(self, dim: int, weights: NDArray[np.float32], most: int = _STORED) -> None:
        self._slope, self._intercept = (float(value) for value in weights)
        self.bound, self._similar = (self._cosine_at(chance) for chance in (_SURE, _LIKELY))
        self._confirmed, self._rejected = _Texts(dim, most), _Texts(dim, most)
        self._agreement, self._measured_at = _PRIOR[1], 0

    def __len__(self) -> int:
        return len(self._confirmed.agents)

    def add(self, records: Sequence[Feedback], agents: Sequence[int], vectors: NDArray[np.float32]) -> None:
        """Feedback with its agents' numbers and static vectors (n, dim); the last word on a text holds."""
        right, wrong = dict[_Key, int](), dict[_Key, int]()
        for i, (feedback, agent) in enumerate(zip(records, agents, strict=True)):
            here, rejection = (feedback.text, _ANY), (feedback.text, agent)
            if not vectors[i].any():  # a text without a known word has no direction
                continue
            if feedback.right:
                right[here] = i
                wrong.pop(rejection, None)
                self._rejected.drop(rejection)
            else:
                wrong[rejection] = i
                if here in right and agents[right[here]] == agent:
                    del right[here]
                if self._confirmed.agent(here) == agent:
                    self._confirmed.drop(here)
        self._confirmed.put(right, records, agents, vectors)
        self._rejected.put(wrong, records, agents, vectors)
        if len(self) >= max(_FIRST, _GROWN * self._measured_at):
            self._measured_at = len(self)
            self._agreement = self._measured()

    def find(self, vector: NDArray[np.float32]) -> Recollected | None:
        """What memory says of a task's static vector (dim,), None when nothing is near enough."""
        if not self._confirmed.agents or not vector.any():
            return None
        near = self._confirmed.near(vector, self._similar)
        if not near:
            return None
        agent, closest = near[0].agent, near[0].cosine
        answers = closest >= self.bound
        bound = self.bound if answers else self._similar
        near = [one for one in near if one.cosine >= bound]
        against = [one for one in self._rejected.near(vector, bound) if one.agent == agent]
        if against and against[0].cosine >= closest - _TINY:
            return None
        for_it = sum(one.weight for one in near if one.agent == agent)
        if for_it < _AGREEING * sum(one.weight for one in near + against):
            return None
        if self._agreement < _SURE and closest < _SAME:
            return None
        agreeing = tuple((one.text, one.cosine) for one in near if one.agent == agent)
        return Recollected(agent, self._chance(closest), agreeing, answers)

    def _measured(self) -> float:
        """How often the nearest other task within the bound has the same agent."""
        strength, rate = _PRIOR
        same, pairs = strength * rate, float(strength)
        held = self._confirmed.index.rows.view
        alive = np.flatnonzero(held.penalty == 0)
        for row in alive[:: max(1, len(alive) // _SAMPLED)].tolist():
            one = int(held.ids[row])
            others = [
                other
                for other in self._confirmed.near(held.take(np.array([row]))[0], self.bound, 2)
                if other.number != one
            ]
            if others:
                same += others[0].agent == self._confirmed.agents[one]
                pairs += 1
        return same / pairs

    def _cosine_at(self, chance: float) -> float:
        return (math.log(_odds(chance)) - self._intercept) / self._slope

    def _chance(self, cosine: float) -> float:
        if cosine >= _SAME and self._agreement >= _SURE:
            return _REPEATED
        return min(self._agreement, 1 / (1 + math.exp(-(self._slope * cosine + self._intercept))))


def _odds(probability: float) -> float:
    return probability / max(1 - probability, _TINY)


class _Near(NamedTuple):
    """A text near to another."""

    number: int
    text: str
    agent: int
    weight: float
    cosine: float


class _Texts:
    """Texts by their vectors, each with the number of an agent, and a weight; those of longest ago leave.

    Attributes:
        agents: number -> agent.
    """

    def __init__(self, dim: int, most: int) -> None:
        self._dim, self._most = dim, most
        self.agents: dict[int, int] = {}
        self._texts: dict[int, str] = {}
        self._weights: dict[int, float] = {}
        self._numbers: dict[_Key, int] = {}
        self._next = 0

    @cached_property
    def index(self) -> BinaryIndex:
        """Made when the first text comes."""
        from ruvllm.index import BinaryIndex

        return BinaryIndex(self._dim, recall=_RECALL)

    def agent(self, key: _Key) -> int | None:
        """Of a key, None when it is not there."""
        return self.agents[self._numbers[key]] if key in self._numbers else None

    def drop(self, key: _Key) -> None:
        if key in self._numbers:
            number = self._numbers.pop(key)
            self.index.remove(np.array([number], np.int64))
            del self.agents[number], self._texts[number], self._weights[number]

    def put(
        self, rows: dict[_Key, int], records: Sequence[Feedback], agents: Sequence[int], vectors: NDArray[np.float32]
    ) -> None:
        """Key -> row of the others; a key that is there has the same vector."""
        new, numbers = list[int](), list[int]()
        for key, i in rows.items():
            number = self._numbers.pop(key, None)  # it is the latest now
            if number is None:
                number, self._next = self._next, self._next + 1
                new.append(i)
                numbers.append(number)
            self._numbers[key] = number
            self._texts[number], self.agents[number], self._weights[number] = (
                records[i].text,
                agents[i],
                records[i].weight,
            )
        if new:
            self.index.add(np.array(numbers, np.int64), vectors[new])
        for key in list(islice(self._numbers, max(0, len(self._numbers) - self._most))):
            self.drop(key)

    def near(self, vector: NDArray[np.float32], bound: float, k: int = _NEIGHBOURS) -> list[_Near]:
        """The nearest to (dim,) whose cosine is not below the bound, nearest first."""
        if not self.agents:
            return []
        hits = self.index.search(vector, k)
        found = zip(hits.ids.tolist(), hits.scores.tolist(), strict=True)
        return [_Near(i, self._texts[i], self.agents[i], self._weights[i], s) for i, s in found if s >= bound]
