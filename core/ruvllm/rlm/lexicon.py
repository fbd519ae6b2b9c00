"""The words that decomposition goes by, from lexicon.toml."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from functools import cache
from importlib import resources


@dataclass(frozen=True, slots=True)
class Lexicon:
    """Word classes, lower case.

    Attributes:
        tags: word -> its tag, see `words`.
        pairs: (last word before "and", first word behind it) of what is one thing.
        lead: matches the politeness that a query begins with.
        greeting: matches a sentence that asks nothing.
    """

    tags: dict[str, str]
    separable: frozenset[str]
    back: frozenset[str]
    bare: frozenset[str]
    be: frozenset[str]
    condition: frozenset[str]
    inform: frozenset[str]
    marker: frozenset[str]
    meet: frozenset[str]
    of_only: frozenset[str]
    relational: frozenset[str]
    rest: frozenset[str]
    sequence: frozenset[str]
    together: frozenset[str]
    wh: frozenset[str]
    pairs: frozenset[tuple[str, str]]
    lead: re.Pattern[str]
    greeting: re.Pattern[str]


# Later classes win: "is" is an auxiliary before it is anything else.
_TAGS = {"verb": "v", "adverb": "b", "preposition": "p", "det": "d", "pronoun": "r", "aux": "a", "wh": "w"}


@cache
def lexicon() -> Lexicon:
    """The one lexicon, read at first use."""
    data = tomllib.loads((resources.files("ruvllm.rlm") / "lexicon.toml").read_text("utf-8"))
    pairs, lead, greeting = data.pop("pairs"), _alternatives(data.pop("lead")), _alternatives(data.pop("greeting"))
    words = {name: frozenset(text.split()) for name, text in data.items()}
    return Lexicon(
        tags={word: tag for name, tag in _TAGS.items() for word in words[name]},
        pairs=frozenset(map(_joint, pairs.replace("\n", "|").split("|"))),
        lead=re.compile(rf"(?:(?:{lead})\b[,:!.]?\s+)+", re.IGNORECASE),
        greeting=re.compile(rf"(?:{greeting})\b[^?]{{0,30}}[.!,]*", re.IGNORECASE),
        **{name: found for name, found in words.items() if name in Lexicon.__slots__},
    )


def _joint(pair: str) -> tuple[str, str]:
    left, _, right = pair.partition(" and ")
    return left.split()[-1], right.split()[0]


def _alternatives(text: str) -> str:
    """Of a pattern; whatever begins another comes after it."""
    return "|".join(sorted(map(re.escape, text.replace("\n", "|").split("|")), key=len, reverse=True))


def singular(noun: str) -> str:
    """The singular of a regular English noun, lower case."""
    if noun.endswith("ies") and len(noun) > 4:
        return noun[:-3] + "y"
    if noun.endswith(("sses", "ches", "shes", "xes")):
        return noun[:-2]
    return noun[:-1] if noun.endswith("s") and not noun.endswith(("ss", "us", "is")) else noun
