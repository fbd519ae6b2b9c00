"""Why a decision came out as it did, and what else was close."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import log

import numpy as np
from numpy.typing import NDArray

from ruvllm.encoders.static import StaticEncoder
from ruvllm.index.select import best as highest
from ruvllm.routing.calibration import confidence_row, logistic, scope_row, sigmoid
from ruvllm.routing.fusion import FEATURES, RouterWeights
from ruvllm.routing.recollection import BELOW_USE
from ruvllm.routing.scorer import Scored
from ruvllm.routing.teaching import Taught
from ruvllm.sizing.tiers import USE_ABOVE
from ruvllm.text.lexical import Bm25
from ruvllm.types import Agent, Candidate, Evidence

__all__ = ["FIRST", "Explainer", "Outcome", "judge", "restrained"]

Array = NDArray[np.float32]


FIRST = 0.7  # how much the static logits count beside the contextual ones
_EVERYDAY_DOUBT = 0.05  # P(out of scope) up to the prior share says nothing against a text


@dataclass(frozen=True, slots=True)
class Outcome:
    """Probabilities of one stage.

    Attributes:
        stage: the name of an encoder.
        probabilities: float32 (agents,), calibrated, their sum is at most 1 - out_of_scope.
        features: raw, float32 (FEATURES, agents).
        head: float32 (agents,), what the head added to the logits.
        top: the number of the best agent.
        confidence: its probability.
        logits: float32 (agents,), and that of "no agent" where a prior gives it.
    """

    stage: str
    probabilities: Array
    out_of_scope: float
    features: Array
    head: Array
    top: int
    confidence: float
    logits: Array
    nobody: float | None

    def decided(self, agent: int, confidence: float, out_of_scope: float) -> Outcome:
        """The same for an agent that something else speaks for as well; the others share what is left."""
        probabilities = self.probabilities.copy()
        probabilities[agent] = 0
        rest = float(probabilities.sum())
        probabilities *= np.float32(min(1.0, max(0.0, 1 - confidence - out_of_scope) / max(rest, 1e-9)))
        probabilities[agent] = confidence
        return replace(self, probabilities=probabilities, out_of_scope=out_of_scope, top=agent, confidence=confidence)


def judge(
    stage: str,
    scored: Scored,
    taught: Taught,
    weights: RouterWeights,
    candidates: NDArray[np.intp] | None = None,
    first: Outcome | None = None,
) -> Outcome:
    """Calibrated probabilities of one stage.

    Args:
        stage: the name of an encoder.
        scored, taught: by that stage's scorer, and what it was taught; without a calibration margins tell how sure.
        candidates: numbers of the agents that it may be; any when None.
        first: of the static encoder, which says its part where both have a prior.
    """
    features, logits, nobody = scored.features, scored.logits, scored.nobody
    prior, calibration = taught.prior, taught.calibration
    joint = False
    if first is not None and first.nobody is not None and nobody is not None and calibration is None:
        joint, logits, nobody = True, logits + np.float32(FIRST) * first.logits, nobody + FIRST * first.nobody
    every = logits
    if candidates is not None:
        features, logits = features[:, candidates], logits[candidates]
    best = int(logits.argmax()) if candidates is None else int(candidates[logits.argmax()])
    if prior is not None and best in prior.fresh:
        prior = None
    most = logits.max()
    powers = np.exp(logits - most)
    total = float(powers.sum())
    alone = 0.0 if prior is None or nobody is None else nobody - float(most) - log(total)
    if prior is not None:
        slope, intercept = prior.scope[int(joint)].tolist()
        outside = sigmoid(slope * alone + intercept)
    elif calibration is not None:
        slope, intercept = weights.familiarity.tolist()
        outside = sigmoid(slope * calibration.familiarity(logits, scored.closeness) + intercept)
    else:
        outside = logistic(scope_row(features), weights.scopes[stage])
    if calibration is not None:
        probabilities = np.exp((logits - logits.max()) / np.float32(calibration.temperature))
        probabilities *= np.float32((1 - calibration.lapse) / float(probabilities.sum()))
        probabilities += np.float32(calibration.lapse / len(logits))
    else:
        raw = powers / np.float32(total)
        row = confidence_row(logits, raw, features)
        fitted = weights.confidence[stage] if prior is None else prior.confidence[int(joint)]
        score = float(row.dot(fitted[: len(row)])) + alone * float(fitted[-2]) + float(fitted[-1])
        probabilities = _from_margins(raw, sigmoid(score))
    probabilities *= np.float32(min(1.0, (1 - outside) / (1 - _EVERYDAY_DOUBT)))
    if candidates is not None:
        among, probabilities = probabilities, np.zeros(len(every), np.float32)
        probabilities[candidates] = among
    top = int(probabilities.argmax())
    head, sure = scored.logits - scored.zero, float(probabilities[top])
    return Outcome(stage, probabilities, outside, scored.features, head, top, sure, every, nobody)


def restrained(outcome: Outcome, local: Outcome) -> Outcome:
    """What a router decides with others' feedback: never "use" where it would not say so without it."""
    if outcome.confidence <= BELOW_USE or (local.top == outcome.top and local.confidence > USE_ABOVE):
        return outcome
    return outcome.decided(outcome.top, BELOW_USE, outcome.out_of_scope)


def _from_margins(raw: Array, confidence: float) -> Array:
    """The top probability as given, the rest in proportion to the softmax `raw`."""
    if len(raw) == 1:
        return raw
    top = int(raw.argmax())
    confidence = max(confidence, 1 / len(raw))
    rest = float(raw.sum() - raw[top])
    # The runner-up never overtakes, however low the confidence.
    out = np.minimum(raw * np.float32((1 - confidence) / max(rest, 1e-9)), np.float32(confidence * 0.999))
    out[top] = confidence
    return np.asarray(out, np.float32)


_KEYWORDS = 6
_EXAMPLES = 3
_FEW = 256  # up to so many agents a whole sort is the fastest


class Explainer:
    """Names the words and examples that speak for an agent.

    Args:
        agents: the set.
        lexicon: their words.
        static: encodes their examples, when first needed.
    """

    def __init__(self, agents: Sequence[Agent], lexicon: Bm25, static: StaticEncoder) -> None:
        self._agents, self._lexicon, self._static = agents, lexicon, static
        self._vectors: dict[int, Array] = {}  # agent -> its examples' vectors

    def evidence(self, outcome: Outcome, spelled: dict[str, str], terms: list[str], static: Array) -> Evidence:
        """For the chosen agent.

        Args:
            spelled: stem -> the word as it was typed.
            terms: the stems that say something.
            static: float32 (dim,) of the task.
        """
        best = outcome.top
        keywords = tuple(spelled[term] for term, _ in self._lexicon.matches(terms, best)[:_KEYWORDS])
        scores = dict(zip(FEATURES, outcome.features[:, best].tolist(), strict=True))
        scores["head"] = float(outcome.head[best])
        return Evidence(keywords, self._nearest_examples(best, static), scores)

    def alternatives(self, outcome: Outcome, top: int) -> tuple[Candidate, ...]:
        """The `top` next best agents, best first."""
        probabilities, best = outcome.probabilities, outcome.top
        if len(probabilities) <= _FEW:
            ranked = (-probabilities).argsort(kind="stable")[: top + 1].tolist()
        else:
            ranked = highest(probabilities, top + 1).tolist()
        others = [i for i in ranked if i != best][:top]
        return tuple(Candidate(self._agents[i].name, round(float(probabilities[i]), 4)) for i in others)

    def _nearest_examples(self, agent: int, static: Array) -> tuple[tuple[str, float], ...]:
        examples = self._agents[agent].examples
        if not examples:
            return ()
        vectors = self._vectors.get(agent)
        if vectors is None:
            vectors = self._vectors[agent] = self._static.encode_now(examples)
        cosines = vectors.dot(static).tolist()  # a few dozen: Python sorts them sooner than numpy wakes up
        nearest = sorted(range(len(cosines)), key=cosines.__getitem__, reverse=True)[:_EXAMPLES]
        return tuple((examples[i], cosines[i]) for i in nearest)
