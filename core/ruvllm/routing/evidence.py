"""Why a decision came out as it did, and what else was close."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from math import log
from operator import mul
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from ruvllm.encoders.static import StaticEncoder
from ruvllm.lazy_dataclass import dataclass
from ruvllm.routing.calibration import Peaks, logistic, scope_row, sigmoid
from ruvllm.routing.fusion import FEATURES, RouterWeights
from ruvllm.routing.reading import Reading
from ruvllm.routing.recollection import BELOW_USE, Recollected
from ruvllm.routing.scorer import Scored
from ruvllm.routing.teaching import Fitted
from ruvllm.sizing.edits import edit_of
from ruvllm.sizing.tiers import USE_ABOVE, Features, choose
from ruvllm.text.lexical import Bm25, content, spoken
from ruvllm.types import Agent, Candidate, Choice, Evidence, Tier

Array = NDArray[np.float32]


FIRST = 0.7  # how much the static logits count beside the contextual ones
_EVERYDAY_DOUBT = 0.05  # P(out of scope) up to the prior share says nothing against a text


class Votes(Protocol):
    """What outcomes of similar tasks say of agents.

    Attributes:
        encoder: name of the one whose vectors it compares.
        version: changes whenever its votes may.
    """

    @property
    def encoder(self) -> str:
        """The encoder whose vectors it compares."""

    @property
    def version(self) -> int:
        """Another one whenever its votes may have changed."""

    def votes(self, vector: Array) -> Mapping[str, float]:
        """By agent, the log of the evidence for a task (dim,), below 0 against it; agents left out count 0."""
        ...


class Spread(NamedTuple):
    """How the agents share what is probable: worked out for all of them only where somebody asks.

    Attributes:
        agents: how many there are.
        candidates: numbers of those that it may be; any when None.
        powers: float32 (candidates,), which their probabilities follow.
        best, first: the place of the best of them, and its probability; None where it follows its power.
        scale: of powers other than the first's; `least` is added to each.
        most: what no other comes above.
    """

    agents: int
    candidates: NDArray[np.intp] | None
    powers: Array
    best: int
    first: float | None
    scale: float
    least: float = 0.0
    most: float = 1.0

    def probabilities(self) -> Array:
        """float32 (agents,)."""
        out: Array = np.minimum(self.powers * np.float32(self.scale) + np.float32(self.least), np.float32(self.most))
        if self.first is not None:
            out[self.best] = self.first
        if self.candidates is None:
            return out
        every = np.zeros(self.agents, np.float32)
        every[self.candidates] = out
        return every

    def decided(self, agent: int, confidence: float, out_of_scope: float) -> Spread:
        """The same where an agent has this probability; the others share what is left."""
        others = self.probabilities()
        others[agent] = 0
        scale = min(1.0, max(0.0, 1 - confidence - out_of_scope) / max(float(others.sum()), 1e-9))
        return Spread(self.agents, None, others, agent, confidence, scale)


@dataclass(slots=True)
class Outcome:
    """Probabilities of one stage.

    Attributes:
        stage: the name of an encoder.
        spread: gives the probabilities.
        scored: what they come from.
        top: the number of the best agent.
        confidence: its probability.
    """

    stage: str
    spread: Spread
    out_of_scope: float
    scored: Scored
    top: int
    confidence: float

    @property
    def probabilities(self) -> Array:
        """float32 (agents,), calibrated, their sum is at most 1 - out_of_scope."""
        return self.spread.probabilities()

    def decided(self, agent: int, confidence: float, out_of_scope: float) -> Outcome:
        """The same for an agent that something else speaks for as well; the others share what is left."""
        spread = self.spread.decided(agent, confidence, out_of_scope)
        return Outcome(self.stage, spread, out_of_scope, self.scored, agent, confidence)


def outcomes_of(
    stage: str,
    every: Sequence[Scored],
    fitted: Fitted,
    weights: RouterWeights,
    candidates: Sequence[NDArray[np.intp] | None],
    firsts: Sequence[Outcome | None] = (),
) -> list[Outcome]:
    """Calibrated probabilities of one stage for each of n tasks, as if it were alone.

    Args:
        every, fitted: by that stage's scorer, and what was fitted to it; without a calibration margins tell how sure.
        candidates: of each task, numbers of the agents that it may be; any when None.
        firsts: of the static encoder, which says its part where both have a prior.
    """
    if len(every) == 1:
        return _outcomes(stage, every, fitted, weights, candidates[0], firsts)
    alike: dict[int, list[int]] = {}
    found: dict[int, Outcome] = {}
    for i, some in enumerate(candidates):
        alike.setdefault(id(some), []).append(i)
    for places in alike.values():
        before = [firsts[i] for i in places] if firsts else ()
        among = candidates[places[0]]
        found |= zip(places, _outcomes(stage, [every[i] for i in places], fitted, weights, among, before), strict=True)
    return [found[i] for i in range(len(every))]


def _outcomes(
    stage: str,
    every: Sequence[Scored],
    fitted: Fitted,
    weights: RouterWeights,
    candidates: NDArray[np.intp] | None,
    firsts: Sequence[Outcome | None],
) -> list[Outcome]:
    """The same of tasks that have the same candidates."""
    calibration, agents = fitted.calibration, every[0].rows.shape[1]
    nobodies, joint = [scored.nobody for scored in every], False
    rows = every[0].rows[None] if len(every) == 1 else np.stack([scored.rows for scored in every])
    before = [first.scored for first in firsts if first is not None and first.scored.nobody is not None]
    if before and calibration is None and nobodies[0] is not None:
        joint, rows = True, rows.copy()
        for i, one in enumerate(before):
            rows[i, -1] += np.float32(FIRST) * one.logits
        nobodies = [(one or 0) + FIRST * (first.nobody or 0) for one, first in zip(nobodies, before, strict=True)]
    if candidates is not None:
        rows = rows.take(candidates, 2)
    out: list[Outcome] = []
    peaks = Peaks(rows)
    for i, scored in enumerate(every):
        best, highest, total, nobody = peaks.firsts[i][-1], peaks.highest[i][1][-1], peaks.total(i), nobodies[i]
        top, prior = best if candidates is None else int(candidates[best]), fitted.prior
        if prior is not None and top in prior.fresh:
            prior = None
        energy = highest + log(total)
        alone = 0.0 if prior is None or nobody is None else nobody - energy
        if prior is not None:
            slope, intercept = prior.scope[int(joint)].tolist()
            outside = sigmoid(slope * alone + intercept)
        elif calibration is not None:
            slope, intercept = weights.familiarity.tolist()
            outside = sigmoid(slope * calibration.familiarity(energy, scored.closeness) + intercept)
        else:
            outside = logistic(scope_row(rows[i, :-1]), weights.scopes[stage])
        inside = min(1.0, (1 - outside) / (1 - _EVERYDAY_DOUBT))
        if calibration is not None:
            cooled = np.exp(peaks.below[i] / np.float32(calibration.temperature))
            scale, least = (1 - calibration.lapse) / float(cooled.sum()) * inside, calibration.lapse / len(cooled)
            spread = Spread(agents, candidates, cooled, best, None, scale, least * inside)
            confidence = scale + least * inside
        else:
            betas = (weights.confidence[stage] if prior is None else prior.confidence[int(joint)]).tolist()
            score, among = sum(map(mul, peaks.confidence(i), betas)) + alone * betas[-2] + betas[-1], rows.shape[2]
            sure = max(sigmoid(score), 1 / among) if among > 1 else 1.0
            confidence = sure * inside
            # The runner-up never overtakes, however low the confidence.
            scale, runner_up = (1 - sure) / max(total - 1, 1e-9 * total) * inside, confidence * 0.999
            power = (
                peaks.powers[i] if len(every) == 1 else peaks.powers[i].copy()
            )  # else all others' would stay with it
            spread = Spread(agents, candidates, power, best, confidence, scale, most=runner_up)
        out.append(Outcome(stage, spread, outside, scored, top, confidence))
    return out


def restrained(outcome: Outcome, local: Outcome) -> Outcome:
    """What a router decides with others' feedback: never "use" where it would not say so without it."""
    if outcome.confidence <= BELOW_USE or (local.top == outcome.top and local.confidence > USE_ABOVE):
        return outcome
    return outcome.decided(outcome.top, BELOW_USE, outcome.out_of_scope)


_KEYWORDS = 6
_EXAMPLES = 3
_MANY = 256  # agents


class Explainer:
    """Names the words and examples that speak for an agent."""

    def __init__(self, agents: Sequence[Agent], lexicon: Bm25, static: StaticEncoder) -> None:
        self._agents, self._lexicon, self._static = agents, lexicon, static
        self._vectors: dict[int, Array] = {}  # agent -> its examples' vectors

    def keywords(self, agent: int, spelled: Mapping[str, str], terms: Sequence[str]) -> tuple[str, ...]:
        """The words that speak for an agent, the strongest first.

        Args:
            spelled: stem -> the word as it was typed.
            terms: the stems that say something.
        """
        return tuple([spelled[term] for term, _ in self._lexicon.matches(terms, agent)[:_KEYWORDS]])

    def alternatives(self, probabilities: Array, best: int, top: int) -> tuple[Candidate, ...]:
        """The `top` next best agents, best first."""
        left, found = probabilities.copy(), list[Candidate]()
        left[best] = -1
        for _ in range(min(top, len(left) - 1)):  # sooner than any sorting: they are few
            i = int(left.argmax())
            found.append(Candidate(self._agents[i].name, round(float(left[i]), 4)))
            left[i] = -1
        return tuple(found)

    def nearest_examples(self, agent: int, reading: Reading) -> tuple[tuple[str, float], ...]:
        """An agent's examples that are nearest to a task, with their cosines."""
        examples = self._agents[agent].examples
        if not examples:
            return ()
        vectors = self._vectors.get(agent)
        if vectors is None:
            vectors = self._vectors[agent] = self._static.encode_now(examples)
        vector = self._static.encode_one(reading.text, reading.ids)
        cosines = vectors.dot(vector).tolist()  # a few dozen: Python sorts them sooner than numpy wakes up
        nearest = sorted(range(len(cosines)), key=cosines.__getitem__, reverse=True)[:_EXAMPLES]
        return tuple([(examples[i], cosines[i]) for i in nearest])


class Times(NamedTuple):
    """How long tasks took that were decided together.

    Attributes:
        marks: the stages with the second in which each ended, after the one in which the first began.
        tasks: how many they were.
    """

    marks: list[tuple[str, float]]
    tasks: int


class Reasons:
    """What a decision says beside its agent and confidence, each worked out when it is first read.

    Args:
        text: the task as it was given, and `reading` as it was understood.
        top: how many alternatives to name.
        shared: what others' feedback adds to the chosen agent; None where nothing was pulled.
        found: confirmed tasks that speak for it; None where none do.
        trained: what a trained difficulty says of the task.
    """

    def __init__(
        self,
        explain: Explainer,
        text: str,
        reading: Reading,
        outcome: Outcome,
        agent: Agent,
        top: int,
        shared: float | None,
        found: Recollected | None,
        trained: Tier | None,
        times: Times,
    ) -> None:
        self._explain, self._text, self._reading, self._agent, self._top = explain, text, reading, agent, top
        self._shared, self._found, self._trained, self._times = shared, found, trained, times
        self._best = best = outcome.top
        self._scores = outcome.scored.parts(best)
        self._choice: Choice | None = None
        self._spread: Spread | None = outcome.spread
        self._alternatives: tuple[Candidate, ...] | None = None
        if outcome.spread.agents > _MANY:  # thousands of decisions are remembered, and shall not hold so much each
            self.alternatives()

    def evidence(self) -> Evidence:
        """The words and examples that speak for the agent, and its scores."""
        reading, best = self._reading, self._best
        spelled = dict(zip(reading.words, spoken(reading.text), strict=True))
        examples = self._explain.nearest_examples(best, reading)
        scores = dict(zip((*FEATURES, "head"), self._scores, strict=True))
        if self._shared is not None:
            scores["shared"] = self._shared
        if self._found is not None:  # confirmed tasks come before the agent's own examples
            near = self._found.near
            examples = (*near, *(one for one in examples if one[0] not in dict(near)))
            scores["memory"] = near[0][1]
        return Evidence(self._explain.keywords(best, spelled, content(reading.words)), examples, scores)

    def alternatives(self) -> tuple[Candidate, ...]:
        """The next best agents, best first."""
        if self._alternatives is None and self._spread is not None:
            self._alternatives = self._explain.alternatives(self._spread.probabilities(), self._best, self._top)
            self._spread = None
        return self._alternatives or ()

    def tier(self) -> Tier:
        """That of the choice."""
        return self.choice().tier

    def choice(self) -> Choice:
        """How strong a model the task takes; a query goes by outcomes, too, and by how sure the route is."""
        if self._choice is None:
            self._choice = choose(Features(self._text, self._agent, edit_of(self._text), self._trained))
        return self._choice

    def timings_us(self) -> dict[str, float]:
        """Microseconds of each stage, and of all; of tasks that were decided together each one's share."""
        marks, each = self._times.marks, 1e6 / self._times.tasks
        times = {stage: (end - began) * each for (_, began), (stage, end) in pairwise(marks)}
        return times | {"total": (marks[-1][1] - marks[0][1]) * each}
