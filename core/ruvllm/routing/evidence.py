"""Why a decision came out as it did, and what else was close."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ruvllm.encoders.static import StaticEncoder
from ruvllm.index.select import best as highest
from ruvllm.routing.fusion import FEATURES
from ruvllm.routing.judge import Outcome
from ruvllm.text.lexical import Bm25
from ruvllm.types import Agent, Candidate, Evidence

__all__ = ["Explainer"]

_KEYWORDS = 6
_EXAMPLES = 3
_FEW = 256  # up to so many agents a whole sort is the fastest

Array = NDArray[np.float32]


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
