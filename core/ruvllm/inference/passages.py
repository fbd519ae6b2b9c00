"""Which sentences of the passages at hand answer a question, and how sure that is."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from math import log

import numpy as np
from numpy.typing import NDArray

from ruvllm.encoders.protocol import Encoder
from ruvllm.inference.sentences import Sentence, sentences
from ruvllm.memory.memory import Found
from ruvllm.reprs import one_line
from ruvllm.text.lexical import content, stem_all, stems

__all__ = ["BIAS", "WEIGHTS", "Candidate", "Cited", "Extract", "Passage", "extract", "weigh"]

# Logistic regression on the best sentence (build/fit_answers.py): do the passages hold the answer?
WEIGHTS, BIAS = np.array([8.0, 6.6, 1.1, 0.9]), -7.7  # of what `weigh` returns
ANSWERS_FROM = 0.35  # confidence; below it, what is at hand is about something else
_BESIDE = 0.3  # of the best sentence's confidence, for another one to stand beside it
_ALIKE = 0.95  # cosine of two sentences that say the same
_SENTENCES, _PASSAGES = 32, 16  # looked at
_ASK = "who whom whose where why which many much did was were does long often tell know explain"
_ASKING = frozenset(stem_all(_ASK.split()))
_ASKS_AMOUNT = re.compile(
    r"\b(?:how (?:long|many|much|often|far|big|old|large|tall|heavy|wide|fast|high)|when"
    r"|what (?:time|date|year|weight|price|size))\b",
    re.IGNORECASE,
)
_AMOUNT_WORDS = re.compile(
    r"\d|\b(?:one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|twenty|thirty|forty|fifty|sixty|ninety"
    r"|hundred|thousand|million|half|once|twice|daily|noon|midnight|january|february|march|april|may|june|july|august"
    r"|september|october|november|december|monday|tuesday|wednesday|thursday|friday|saturday|sunday|spring|summer"
    r"|autumn|winter|before|after|until|when|every)\b",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Passage:
    """A text that an answer may be in.

    Attributes:
        score: cosine to the question.
        source: where it comes from, for people; "" leaves it to the id.
    """

    text: str
    id: int | str = 0
    score: float = 0.0
    source: str = ""

    __repr__ = one_line

    @classmethod
    def of(cls, found: Found) -> Passage:
        """A memory that a search came upon; its source is what its metadata calls so."""
        named = next((found.memory.metadata[k] for k in ("source", "title", "path") if k in found.memory.metadata), "")
        return cls(found.memory.text, found.memory.id, found.score, str(named))


@dataclass(frozen=True, slots=True)
class Cited:
    """A sentence and the number of its passage, counted from 1."""

    text: str
    source: int


@dataclass(frozen=True, slots=True)
class Extract:
    """What the passages answer: nothing at a confidence of 0. `sources` are those cited, by their number."""

    sentences: tuple[Cited, ...] = ()
    sources: Mapping[int, Passage] = field(default_factory=dict)
    confidence: float = 0.0


@dataclass(frozen=True, slots=True)
class Candidate:
    """A sentence that may be part of the answer.

    Attributes:
        passage, place: which passage it is of, and where in it, both counted from 0.
        words: stems.
    """

    passage: int
    place: int
    sentence: Sentence
    words: frozenset[str]


async def extract(question: str, passages: Sequence[Passage], encoder: Encoder, most: int = 3) -> Extract:
    """The sentences that answer a question best, in their passages' order.

    Args:
        passages: best first.
        encoder: of the space that the passages' scores are cosines in.
        most: sentences.
    """
    candidates, features, vectors = await weigh(question, passages, encoder)
    if not candidates:
        return Extract()
    sure = 1 / (1 + np.exp(-np.clip(features @ WEIGHTS + BIAS, -30, 30)))
    chosen = _choose(sure, vectors, most)
    return _cite([candidates[i] for i in chosen], passages, float(sure.max())) if chosen else Extract()


async def weigh(
    question: str, passages: Sequence[Passage], encoder: Encoder
) -> tuple[list[Candidate], NDArray[np.float64], NDArray[np.float32]]:
    """The sentences worth a look, what speaks for each, and their vectors (n, dim).

    What speaks for them is float64 (n, 4): cosine of the sentence and of its passage to the question, share of the
    question's terms in it, and 1 or -1 where the question asks for an amount or a time and it holds one or none.
    """
    terms = [term for term in content(stems(question)) if term not in _ASKING]
    candidates, coverage = _shortlist(terms, passages)
    vectors = await encoder.encode([question, *(c.sentence.whole for c in candidates)])
    near = vectors[1:] @ vectors[0]
    around = [passages[c.passage].score for c in candidates]
    amount = np.zeros(len(candidates))
    if _ASKS_AMOUNT.search(question):
        amount[:] = [1 if _AMOUNT_WORDS.search(c.sentence.text) else -1 for c in candidates]
    return candidates, np.column_stack([near, around, coverage, amount]), vectors[1:]


def _shortlist(terms: list[str], passages: Sequence[Passage]) -> tuple[list[Candidate], NDArray[np.float64]]:
    """Candidates worth a vector, and which share of the question's terms each holds: float64 (candidates,)."""
    found: list[Candidate] = []
    for i, passage in enumerate(islice(passages, _PASSAGES)):
        for place, sentence in enumerate(sentences(passage.text)):
            found.append(Candidate(i, place, sentence, frozenset(stems(sentence.whole))))
    counts = Counter(term for candidate in found for term in candidate.words)
    weights = {term: log(1 + (len(found) + 0.5) / (counts[term] + 0.5)) for term in terms}
    total = sum(weights.values()) or 1.0
    coverage = np.array([sum(weights[t] for t in terms if t in c.words) / total for c in found])
    order = sorted(range(len(found)), key=lambda j: -coverage[j] - passages[found[j].passage].score)[:_SENTENCES]
    return [found[j] for j in order], coverage[order] if found else coverage


def _choose(sure: NDArray[np.float64], vectors: NDArray[np.float32], most: int) -> list[int]:
    """The best candidates, none that says again what a better one says."""
    best = float(sure.max())
    if best < ANSWERS_FROM:
        return []
    chosen: list[int] = []
    for i in np.argsort(-sure, kind="stable"):
        if len(chosen) == most or sure[i] < _BESIDE * best:
            break
        if all(vectors[i] @ vectors[j] < _ALIKE for j in chosen):
            chosen.append(int(i))
    return chosen


def _cite(chosen: list[Candidate], passages: Sequence[Passage], confidence: float) -> Extract:
    """In the order of passages (the one of the best sentence first) and of places within them."""
    order = {passage: n for n, passage in enumerate(dict.fromkeys(c.passage for c in chosen))}
    ordered = sorted(chosen, key=lambda c: (order[c.passage], c.place))
    cited = tuple(Cited(c.sentence.text, c.passage + 1) for c in ordered)
    return Extract(cited, {i + 1: passages[i] for i in sorted(order)}, confidence)
