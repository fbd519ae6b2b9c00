"""The words that decomposition goes by, from lexicon.toml."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from functools import cache
from importlib import resources

__all__ = ["Lexicon", "lexicon", "singular"]


@dataclass(frozen=True, slots=True)
class Lexicon:
    """Word classes, lower case.

    Attributes:
        tags: word -> its tag, see `words`.
        pairs: finds word pairs that are one thing.
        lead: matches the politeness that a query begins with.
        greeting: matches a sentence that asks nothing.
    """

    tags: dict[str, str]
    wh: frozenset[str]
    be: frozenset[str]
    back: frozenset[str]
    sequence: frozenset[str]
    marker: frozenset[str]
    together: frozenset[str]
    inform: frozenset[str]
    apart: frozenset[str]
    meet: frozenset[str]
    relational: frozenset[str]
    of_only: frozenset[str]
    pairs: re.Pattern[str]
    lead: re.Pattern[str]
    greeting: re.Pattern[str]


# Later classes win: "is" is an auxiliary before it is anything else.
_TAGS = (("verb", "v"), ("adverb", "b"), ("preposition", "p"), ("det", "d"), ("pronoun", "r"), ("aux", "a"), ("wh", "w"))


@cache
def lexicon() -> Lexicon:
    """The one lexicon, read at first use."""
    data = tomllib.loads((resources.files("ruvllm.rlm") / "lexicon.toml").read_text("utf-8"))
    words = {name: frozenset(text.split()) for name, text in data.items() if name not in ("pairs", "lead", "greeting")}
    pairs, lead, greeting = (_alternatives(data[name]) for name in ("pairs", "lead", "greeting"))
    return Lexicon(
        {word: tag for name, tag in _TAGS for word in words[name]},
        *(words[name] for name in ("wh", "be", "back", "sequence", "marker", "together", "inform", "apart", "meet")),
        words["relational"],
        words["of_only"],
        re.compile(rf"\b(?:{pairs.replace(' and ', ' (?:and|&|n|or) ')})\b", re.IGNORECASE),
        re.compile(rf"(?:(?:{lead})\b[,:!.]?\s+)+", re.IGNORECASE),
        re.compile(rf"(?:{greeting})\b[^?]{{0,30}}[.!,]*", re.IGNORECASE),
    )


def _alternatives(text: str) -> str:
    """Of a pattern; whatever begins another comes after it."""
    return "|".join(sorted(map(re.escape, text.replace("\n", "|").split("|")), key=len, reverse=True)).replace(
        r"\ ", " "
    )


def singular(noun: str) -> str:
    """The singular of a regular English noun, lower case."""
    if noun.endswith("ies") and len(noun) > 4:
        return noun[:-3] + "y"
    if noun.endswith(("sses", "ches", "shes", "xes")):
        return noun[:-2]
    return noun[:-1] if noun.endswith("s") and not noun.endswith(("ss", "us", "is")) else noun
