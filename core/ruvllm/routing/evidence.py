"""Why a decision came out as it did, and what else was close."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from math import log
from operator import mul
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ruvllm.encoders.static import StaticEncoder
from ruvllm.lazy_dataclass import dataclass
from ruvllm.routing.calibration import confidence_values, logistic, scope_row, sigmoid
from ruvllm.routing.fusion import FEATURES, RouterWeights
from ruvllm.routing.reading import Reading
from ruvllm.routing.recollection import BELOW_USE, Recollected
from ruvllm.routing.scorer import Scored
from ruvllm.routing.teaching import Fitted
from ruvllm.sizing.edits import edit_of
from ruvllm.sizing.tiers import USE_ABOVE, Features, choose
from ruvllm.text.lexical import Bm25, content
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


@dataclass(slots=True)
class Outcome:
    """Probabilities of one stage.

    Attributes:
        stage: the name of an encoder.
        probabilities: float32 (agents,), calibrated, their sum is at most 1 - out_of_scope.
        scored: what they come from.
        top: the number of the best agent.
        confidence: its probability.
    """

    stage: str
    probabilities: Array
    out_of_scope: float
    scored: Scored
    top: int
    confidence: float

    def decided(self, agent: int, confidence: float, out_of_scope: float) -> Outcome:
        """The same for an agent that something else speaks for as well; the others share what is left."""
        probabilities = self.probabilities.copy()
        probabilities[agent] = 0
        rest = float(probabilities.sum())
        probabilities *= np.float32(min(1.0, max(0.0, 1 - confidence - out_of_scope) / max(rest, 1e-9)))
        probabilities[agent] = confidence
        return replace(self, probabilities=probabilities, out_of_scope=out_of_scope, top=agent, confidence=confidence)


def outcome_of(
    stage: str,
    scored: Scored,
    fitted: Fitted,
    weights: RouterWeights,
    candidates: NDArray[np.intp] | None = None,
    first: Outcome | None = None,
) -> Outcome:
    """Calibrated probabilities of one stage.

    Args:
        scored, fitted: by that stage's scorer, and what was fitted to it; without a calibration margins tell how sure.
        candidates: numbers of the agents that it may be; any when None.
        first: of the static encoder, which says its part where both have a prior.
    """
    prior, calibration, before = fitted.prior, fitted.calibration, None if first is None else first.scored
    joint, rows, nobody = False, scored.rows, scored.nobody
    if before is not None and before.nobody is not None and scored.nobody is not None and calibration is None:
        joint, nobody = True, scored.nobody + FIRST * before.nobody
        rows = scored.added(np.float32(FIRST) * before.logits).rows
    if candidates is not None:
        rows = rows.take(candidates, 1)
    logits = rows[-1]
    best = int(logits.argmax())
    top = best if candidates is None else int(candidates[best])
    if prior is not None and top in prior.fresh:
        prior = None
    most = float(logits[best])
    powers = np.exp(logits - most)
    total = float(np.add.reduce(powers))
    alone = 0.0 if prior is None or nobody is None else nobody - most - log(total)
    if prior is not None:
        slope, intercept = prior.scope[int(joint)].tolist()
        outside = sigmoid(slope * alone + intercept)
    elif calibration is not None:
        slope, intercept = weights.familiarity.tolist()
        outside = sigmoid(slope * calibration.familiarity(logits, scored.closeness) + intercept)
    else:
        outside = logistic(scope_row(rows[:-1]), weights.scopes[stage])
    if calibration is not None:
        probabilities = np.exp((logits - most) / np.float32(calibration.temperature))
        probabilities *= np.float32((1 - calibration.lapse) / float(probabilities.sum()))
        probabilities += np.float32(calibration.lapse / len(logits))
    else:
        raw = powers / np.float32(total)
        values = confidence_values(rows, raw)
        betas = (weights.confidence[stage] if prior is None else prior.confidence[int(joint)]).tolist()
        score = sum(map(mul, values, betas)) + alone * betas[-2] + betas[-1]
        probabilities = _from_margins(raw, best, sigmoid(score))
    probabilities *= np.float32(min(1.0, (1 - outside) / (1 - _EVERYDAY_DOUBT)))
    if candidates is not None:
        among, probabilities = probabilities, np.zeros(scored.rows.shape[1], np.float32)
        probabilities[candidates] = among
    return Outcome(stage, probabilities, outside, scored, top, float(probabilities[top]))


def restrained(outcome: Outcome, local: Outcome) -> Outcome:
    """What a router decides with others' feedback: never "use" where it would not say so without it."""
    if outcome.confidence <= BELOW_USE or (local.top == outcome.top and local.confidence > USE_ABOVE):
        return outcome
    return outcome.decided(outcome.top, BELOW_USE, outcome.out_of_scope)


def _from_margins(raw: Array, top: int, confidence: float) -> Array:
    """The probability of the first as given, the rest in proportion to the softmax `raw`."""
    if len(raw) == 1:
        return raw
    confidence = max(confidence, 1 / len(raw))
    rest = float(np.add.reduce(raw) - raw[top])
    # The runner-up never overtakes, however low the confidence.
    out: Array = np.minimum(raw * np.float32((1 - confidence) / max(rest, 1e-9)), np.float32(confidence * 0.999))
    out[top] = confidence
    return out


_KEYWORDS = 6
_EXAMPLES = 3
_FEW = 256  # up to so many agents a whole sort is the fastest


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
        if len(probabilities) <= _FEW:
            ranked = (-probabilities).argsort(kind="stable")[: top + 1].tolist()
        else:
            from ruvllm.index.select import best as highest  # hardly any set needs it

            ranked = highest(probabilities, top + 1).tolist()
        others = [i for i in ranked if i != best][:top]
        shares = probabilities.take(others).tolist()
        return tuple([Candidate(self._agents[i].name, round(one, 4)) for i, one in zip(others, shares, strict=True)])

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


class Reasons:
    """What a decision says beside its agent and confidence, each worked out when it is first read.

    Args:
        text: the task as it was given, and `reading` as it was understood.
        top: how many alternatives to name.
        shared: what others' feedback adds to the chosen agent; None where nothing was pulled.
        found: confirmed tasks that speak for it; None where none do.
        trained: what a trained difficulty says of the task.
        marks: the stages with the second in which each ended, after the one in which the first began.
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
        marks: list[tuple[str, float]],
    ) -> None:
        self._explain, self._text, self._reading, self._agent, self._top = explain, text, reading, agent, top
        self._shared, self._found, self._trained, self._marks = shared, found, trained, marks
        self._best = best = outcome.top
        self._scores = outcome.scored.parts(best)
        self._choice: Choice | None = None
        self._probabilities = outcome.probabilities
        self._alternatives: tuple[Candidate, ...] | None = None
        if len(self._probabilities) > _FEW:  # thousands of decisions are remembered, and shall not hold so much each
            self._alternatives, self._probabilities = self.alternatives(), np.zeros(0, np.float32)

    def evidence(self) -> Evidence:
        """The words and examples that speak for the agent, and its scores."""
        reading, best = self._reading, self._best
        spelled = dict(zip(reading.words, reading.spelled, strict=True))
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
        if self._alternatives is None:
            self._alternatives = self._explain.alternatives(self._probabilities, self._best, self._top)
        return self._alternatives

    def tier(self) -> Tier:
        """That of the choice."""
        return self.choice().tier

    def choice(self) -> Choice:
        """How strong a model the task takes; a query goes by outcomes, too, and by how sure the route is."""
        if self._choice is None:
            self._choice = choose(Features(self._text, self._agent, edit_of(self._text), self._trained))
        return self._choice

    def timings_us(self) -> dict[str, float]:
        """Microseconds of each stage, and of all."""
        times = {stage: (end - began) * 1e6 for (_, began), (stage, end) in pairwise(self._marks)}
        return times | {"total": (self._marks[-1][1] - self._marks[0][1]) * 1e6}
