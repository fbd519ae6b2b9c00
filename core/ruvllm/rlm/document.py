"""A long document that questions are asked of: cut up, indexed, and read only where it matters."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from hashlib import sha256
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from ruvllm.encoders.protocol import Encoder
from ruvllm.errors import InputError
from ruvllm.index import BinaryIndex
from ruvllm.inference.passages import Passage
from ruvllm.text.lexical import Bm25, content, stems

_LONGEST = 1_200  # characters of a passage: about 300 tokens, two or three of which make an answer's prompt
_LINES = 500  # of what is looked for: a few sentences are about one thing, a passage may be about several
_HEADING = re.compile(r"^(?:#{1,6}[ \t]+(\S.*)|(\S.{0,78})\n(?:={3,}|-{3,}|~{3,})[ \t]*)$", re.MULTILINE)
# From the strongest boundary to the weakest; the last is no boundary at all.
_BOUNDARIES = (
    re.compile(r"\n[ \t]*\n\s*"),
    re.compile(r"\n(?=\S)"),
    re.compile(r"\n"),
    re.compile(r"(?<=[.!?;])\s+"),
    re.compile(r"\s+"),
)


@dataclass(frozen=True, slots=True)
class Cut:
    """A passage of a text.

    Attributes:
        start, end: in characters.
        heading: of the section that it stands in, "" without one.
    """

    start: int
    end: int
    heading: str
    section: int


def partition(text: str) -> list[Cut]:
    """The passages in order; together they hold everything but white space."""
    out: list[Cut] = []
    marks = [(match.start(), (match[1] or match[2]).strip()) for match in _HEADING.finditer(text)]
    if not marks or marks[0][0] > 0:
        marks.insert(0, (0, ""))
    for number, (start, heading) in enumerate(marks):
        end = marks[number + 1][0] if number + 1 < len(marks) else len(text)
        out += [Cut(a, b, heading, number) for a, b in _packed(text, _pieces(text, start, end, _LONGEST), _LONGEST)]
    return out


def lines_of(passage: str) -> list[str]:
    """A passage in parts of a few sentences."""
    return [passage[a:b] for a, b in _packed(passage, _pieces(passage, 0, len(passage), _LINES), _LINES)]


def _pieces(text: str, start: int, end: int, longest: int, depth: int = 0) -> list[tuple[int, int]]:
    """A span, or the parts of it that are short enough."""
    if end - start <= longest:
        return [(start, end)]
    if depth == len(_BOUNDARIES):
        return [(at, min(at + longest, end)) for at in range(start, end, longest)]
    edges = [start, *(match.end() for match in _BOUNDARIES[depth].finditer(text, start, end)), end]
    pairs = pairwise(edges)
    return [piece for a, b in pairs if b > a for piece in _pieces(text, a, b, longest, depth + 1)]


def _packed(text: str, pieces: list[tuple[int, int]], longest: int) -> list[tuple[int, int]]:
    out: list[tuple[int, int]] = []
    for start, end in pieces:
        if out and end - out[-1][0] <= longest:
            out[-1] = (out[-1][0], end)
        elif text[start:end].strip():
            out.append((start, end))
    return out


_BATCH = 256  # parts encoded at a time
_WIDE = 64  # parts looked at by meaning, and as many by words
_PART, _PASSAGE = 0.4, 0.4  # what the best BM25 score among parts, and among passages, counts for beside a cosine of 1
CHARS_PER_PAGE = 2_500


class Document:
    """Passages of a text, found by the meaning and the words of their parts.

    Made by `Document.read`.

    Args:
        parts: (passage, text) of what is looked for.
        vectors: float32 (parts, dim), unit rows.
        key: names the text.
    """

    def __init__(
        self,
        encoder: Encoder,
        passages: list[Passage],
        parts: list[tuple[int, str]],
        vectors: NDArray[np.float32],
        key: str,
    ) -> None:
        self.encoder, self.passages, self.key = encoder, passages, key
        self._owner = np.array([owner for owner, _ in parts], np.int64)
        self._vectors, self._index = vectors, BinaryIndex(encoder.dim)
        living = np.flatnonzero(np.einsum("ij,ij->i", vectors, vectors) > 0)  # rules and tables may hold no word
        self._index.add(living, vectors[living])
        self._part_words = Bm25([Counter(stems(text)) for _, text in parts], b=0.75)
        self._words = Bm25([Counter(stems(f"{passage.source} {passage.text}")) for passage in passages], b=0.75)

    def __len__(self) -> int:
        return len(self.passages)

    @classmethod
    async def read(cls, text: str, encoder: Encoder, name: str = "") -> Document:
        """Cut up and index a text.

        Args:
            name: of the text, for citations.

        Raises:
            InputError: there is nothing in it.
        """
        if not isinstance(text, str) or not text.strip():
            raise InputError("the text is empty", field="context", fix="give a text, or leave it out")
        passages = []
        for place, cut in enumerate(partition(text)):
            page = f"p. {cut.start // CHARS_PER_PAGE + 1}"
            source = ", ".join(filter(None, (name, cut.heading, page)))
            passages.append(Passage(text[cut.start : cut.end].strip(), f"passage {place}", source=source))
        parts = [(place, part) for place, passage in enumerate(passages) for part in lines_of(passage.text)]
        texts = [part for _, part in parts]
        blocks = [await encoder.encode(texts[at : at + _BATCH]) for at in range(0, len(texts), _BATCH)]
        key = sha256(text.encode("utf-8", "replace")).hexdigest()
        return cls(encoder, passages, parts, np.concatenate(blocks), key)

    async def find(self, question: str, k: int = 5) -> list[Passage]:
        """The k passages that most likely hold the answer, best first; `score` is the best cosine in each."""
        vector = (await self.encoder.encode([question]))[0]
        terms = content(stems(question))
        words = _of_best(self._words.scores(terms))
        part_words = _of_best(self._part_words.scores(terms))
        near = self._index.search(vector, _WIDE).ids if vector.any() and len(self._index) else np.zeros(0, np.int64)
        rows = np.union1d(near, np.argsort(-(part_words + words[self._owner]), kind="stable")[:_WIDE]).astype(np.intp)
        cosines = self._vectors[rows] @ vector
        scores = cosines + _PART * part_words[rows] + _PASSAGE * words[self._owner[rows]]
        found: dict[int, float] = {}
        for i in np.argsort(-scores, kind="stable"):
            found.setdefault(int(self._owner[rows[i]]), float(cosines[i]))
            if len(found) == k:
                break
        return [self._scored(place, score) for place, score in found.items()]

    def outline(self, k: int) -> list[Passage]:
        """The k passages that stand best for the whole, in order: the most central of equal shares of the text."""
        shares = np.array_split(np.arange(len(self._owner)), min(k, len(self._owner)))
        central = [part[np.argmax(self._vectors[part] @ self._vectors[part].mean(axis=0))] for part in shares]
        return [self._scored(place, 0.0) for place in dict.fromkeys(self._owner[central].tolist())]

    def _scored(self, place: int, score: float) -> Passage:
        passage = self.passages[place]
        return Passage(passage.text, passage.id, score, passage.source)


def _of_best(scores: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(scores / max(float(scores.max(initial=0)), 1e-9), np.float32)
