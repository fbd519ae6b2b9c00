"""Texts cut into sentences that can stand alone in an answer."""

from __future__ import annotations

import re
from dataclasses import dataclass

__all__ = ["Sentence", "sentences"]

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
