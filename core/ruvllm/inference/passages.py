"""Which sentences of the passages at hand answer a question, and how sure that is."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from math import exp, log

import numpy as np
from numpy.typing import NDArray

from ruvllm.encoders.protocol import Encoder
from ruvllm.memory.found import Found
from ruvllm.reprs import Shown
from ruvllm.text.lexical import content, stem_all, stems

MOST_CHARS = 20_000  # of one text; what lies further down rarely answers
_LONGEST = 600  # characters shown of a sentence; tables and logs have no ends
_WRAPPED = 60  # a line of so many characters may have been broken by an editor
_ITEM = re.compile(r"\s*(?:[-*•+]|\d{1,3}[.)])\s+")
_HEADING = re.compile(r"\s*#{1,6}\s+")
_SPEAKER = re.compile(r"\s*(?:q|a|question|answer)\s*[:.)]\s+", re.IGNORECASE)
_END = re.compile(r"(?<=[.!?…])[\"'”’)\]]*\s+(?=[\"'“‘(\[]?[^\Wa-z_])|(?<=[。！？])(?=\S)")
_ABBREVIATED = re.compile(
    r"(?:^|[\s(])(?:[A-Z]|mr|mrs|ms|dr|prof|st|no|vs|etc|e\.g|i\.e|cf|fig|approx|inc|ltd|u\.s)\.$", re.IGNORECASE
)
_REFERS = re.compile(r"(?:it|its|they|their|them|this|these|those|that|he|she|his|her|such)\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Sentence:
    """A sentence of a text.

    Attributes:
        lead: what it is said under, a question or a heading; "" without one.
    """

    text: str
    lead: str = ""

    @property
    def whole(self) -> str:
        """With its lead: what it is about."""
        return f"{self.lead} {self.text}" if self.lead else self.text


def sentences(text: str) -> list[Sentence]:
    """In order. One that refers back ("It runs …") comes together with the one before it."""
    found: list[Sentence] = []
    section, lead, was_item, joined = "", "", False, False
    for line in _lines(text[:MOST_CHARS]):
        if heading := _HEADING.match(line):
            section, lead = line[heading.end() :], ""
            continue
        item = _ITEM.match(line) is not None
        lead = "" if was_item and not item else lead
        was_item = item
        for said in map(_bare, _split(_bare(line))):
            if said.endswith(("?", ":")):
                lead = said
            elif found and not (lead or item or joined) and _REFERS.match(said):
                joined, found[-1] = True, Sentence(f"{found[-1].text} {said}", found[-1].lead)
            else:
                joined = False
                found.append(Sentence(said, lead or section))
                lead = lead if item else ""
    return found


def _lines(text: str) -> list[str]:
    """Paragraphs, list items and headings: lines that an editor broke are joined again."""
    out: list[str] = []
    fresh = True
    for line in text.splitlines():
        bare = " ".join(line.split())
        starts = fresh or _ITEM.match(line) or _HEADING.match(line) or _SPEAKER.match(line)
        if bare and not starts and _goes_on(out[-1], bare):
            out[-1] = f"{out[-1]} {bare}"
        elif bare:
            out.append(bare)
        fresh = not bare or _HEADING.match(line) is not None
    return out


def _goes_on(line: str, following: str) -> bool:
    """Whether a paragraph continues: its last line was long or unfinished, or the next begins small."""
    return following[0].islower() or line[-1] in ",;-" or (len(line) >= _WRAPPED and line[-1] not in ".!?:")


def _bare(line: str) -> str:
    """Without the mark of a list or of a speaker."""
    line = line[match.end() :] if (match := _ITEM.match(line)) else line
    return line[match.end() :] if (match := _SPEAKER.match(line)) else line


def _split(line: str) -> list[str]:
    out: list[str] = []
    start = 0
    for end in _END.finditer(line):
        said = line[start : end.end()].strip()
        if said and not _ABBREVIATED.search(said[-12:]):
            out.append(said[:_LONGEST])
            start = end.end()
    rest = line[start:].strip()
    return [*out, rest[:_LONGEST]] if rest else out


# Logistic regression on the best sentence (build/fit_answers.py): do the passages hold the answer?
WEIGHTS, BIAS = np.array([8.0, 6.6, 1.1, 0.9]), -7.7  # of what `weigh` returns
ANSWERS_FROM = 0.35  # confidence; below it, what is at hand is about something else
# With `Passage.odds`: of these, of the best sentence's, and the bias (build/fit_abstention.py).
TOGETHER, LIKELY_FROM = np.array([1.29, 0.43, 0.36]), 0.5
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


@dataclass(frozen=True, slots=True, repr=False)
class Passage(Shown):
    """A text that an answer may be in.

    Attributes:
        score: cosine to the question.
        source: where it comes from, for people; "" leaves it to the id.
        odds: what `memory.found.answer_odds` says of all that it was found with; None where nobody asked.
    """

    text: str
    id: int | str = 0
    score: float = 0.0
    source: str = ""
    odds: float | None = None

    @classmethod
    def of(cls, found: Found) -> Passage:
        """A memory that a search came upon; its source is what its metadata calls so."""
        named = next((found.memory.metadata[k] for k in ("source", "title", "path") if k in found.memory.metadata), "")
        score = found.score if found.why is None else found.why.cosine
        return cls(found.memory.text, found.memory.id, score, str(named))


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
    """
    candidates, features, vectors = await weigh(question, passages, encoder)
    if not candidates:
        return Extract()
    odds = np.clip(features @ WEIGHTS + BIAS, -30, 30)
    best, least = float(odds.max()), ANSWERS_FROM
    memory = next((one.odds for one in passages if one.odds is not None), None)
    if memory is not None:
        best, least = float(np.array([memory, best, 1.0]) @ TOGETHER), LIKELY_FROM
    confidence = 1 / (1 + exp(-best))
    if confidence < least:
        return Extract()
    chosen = _choose(1 / (1 + np.exp(-odds)), vectors, most)
    return _cite([candidates[i] for i in chosen], passages, confidence)


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
    best, chosen = float(sure.max()), list[int]()
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
