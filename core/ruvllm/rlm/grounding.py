"""How far sources bear out what an answer says: measured sentence by sentence, never assumed."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ruvllm.encoders.protocol import Encoder
from ruvllm.inference.passages import Passage
from ruvllm.inference.sentences import sentences
from ruvllm.text.lexical import content, stems

__all__ = ["CITATION", "Grounding", "ground"]

CITATION = re.compile(r"\s*\[(\d{1,3})\]")
_NUMBER = re.compile(r"\d+(?:[.,:]\d+)*")
_BORNE_OUT = 0.5  # support from which a sentence counts as borne out
_WORDS = 0.6  # what the words of a sentence count for, beside its meaning
_OTHER_NUMBER = 0.4  # what is left of the support of a sentence with a number that its source has not
_OWN_WORDS = 0.99  # most that an answer in other words than its sources can have: the same words may say another thing


@dataclass(frozen=True, slots=True)
class Grounding:
    """What a measurement says.

    Attributes:
        score: 0 to 1, the mean support of the sentences; 1 only where all of them are in the sources word for word.
        doubtful: the sentences that no source bears out.
    """

    score: float
    doubtful: tuple[str, ...] = ()


async def ground(text: str, sources: Sequence[Passage], encoder: Encoder) -> Grounding | None:
    """Measure an answer against sources; None if there is nothing to measure.

    The support of a sentence is the best, over the sentences of the sources, of how many of its words they have and
    how near they are in meaning; a number that is not there counts against it.
    """
    said = [sentence.text for sentence in sentences(CITATION.sub("", text)) if content(stems(sentence.text))]
    known = [sentence.whole for passage in sources for sentence in sentences(passage.text)]
    if not said or not known:
        return None
    vectors = await encoder.encode([*said, *known])
    cosines = np.clip(vectors[: len(said)] @ vectors[len(said) :].T, 0, 1)  # (said, known)
    words = [frozenset(stems(text)) for text in known]
    everything = frozenset().union(*words)
    numbers = [frozenset(_NUMBER.findall(text)) for text in known]
    support = []
    for sentence, near in zip(said, cosines, strict=True):
        terms = content(stems(sentence))
        shared = np.array([sum(term in other for term in terms) / len(terms) for other in words])
        both = np.asarray(_WORDS * shared + (1 - _WORDS) * near)
        wanted = frozenset(_NUMBER.findall(sentence))
        if wanted:
            both *= np.array([1.0 if wanted <= other else _OTHER_NUMBER for other in numbers])
        loose = sum(term in everything for term in terms) / len(terms)
        support.append(float(both.max()) * (0.5 + 0.5 * loose))
    doubtful = tuple(sentence for sentence, each in zip(said, support, strict=True) if each < _BORNE_OUT)
    whole = [_plain(passage.text) for passage in sources]
    quoted = all(any(_plain(sentence) in text for text in whole) for sentence in said)
    return Grounding(min(float(np.mean(support)), 1.0 if quoted else _OWN_WORDS), doubtful)


def _plain(text: str) -> str:
    return " ".join(text.casefold().split()).rstrip(" .!?")
