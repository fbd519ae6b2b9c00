"""Long texts cut into passages: by headings, paragraphs, lines and sentences, only as deep as needed."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import pairwise

__all__ = ["Cut", "lines_of", "partition"]

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
        section: number of that section.
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
    """Neighbours joined while they fit."""
    out: list[tuple[int, int]] = []
    for start, end in pieces:
        if out and end - out[-1][0] <= longest:
            out[-1] = (out[-1][0], end)
        elif text[start:end].strip():
            out.append((start, end))
    return out
