"""A query as tagged words: a light tagger over the lexicon, one letter per word so that patterns can be regular.

w question word · a auxiliary · v verb as in an order · d determiner · r pronoun · p preposition · b adverb ·
c "and" · o "or" · , comma · ; semicolon · m number · N name · q quoted, code or a fixed pair · n anything else
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from ruvllm.rlm.lexicon import lexicon

__all__ = ["Words", "tag_words"]

_OPAQUE = re.compile(
    r"```.*?```|`[^`]+`|\"[^\"\n]+\"|“[^”\n]+”|«[^»\n]+»|(?<!\w)'[^'\n]{2,80}'(?!\w)"
    r"|https?://\S+|\([^()\n]*\)|\[[^\[\]\n]*\]|\{[^{}\n]*\}"
    # Names joined by an ampersand.
    r"|[A-Z][\w.']*(?:, [A-Z][\w.']*)* ?& ?[A-Z][\w.']*|\w+&\w+",
    re.DOTALL,
)
_OPENS = re.compile(r"[`\"“«'&(\[{]|://")
_SHELL = re.compile(r"(?:[\w./\"=-]+ ){1,12}(?:&&|\|\|?) [\w./\"=-]+(?: [\w./\"=-]+){0,12}")
_WORD = re.compile(r"[^\s,;]+(?<![.?!:])|[,;:]|[.?!]+")
_AND = frozenset(("and", "&", "plus"))
_PUNCTUATION = {",": ",", ";": ";", ":": ":"}


@dataclass(frozen=True, slots=True)
class Words:
    """Words of a text.

    Attributes:
        spans: (start, end) of each in the text.
        low: lower-cased.
        tags: one letter a word.
    """

    text: str
    spans: list[tuple[int, int]]
    low: list[str]
    tags: str

    def cut(self, start: int, end: int | None = None) -> str:
        """The text from one word to before another, bare of the punctuation around it."""
        end = len(self.spans) if end is None else end
        if start >= end:
            return ""
        return self.text[self.spans[start][0] : self.spans[end - 1][1]].strip(" ,;:.?!")


@lru_cache(maxsize=256)
def tag_words(text: str) -> Words:
    """The words of a text."""
    known = lexicon().tags
    spans: list[tuple[int, int]] = []
    low: list[str] = []
    tags: list[str] = []
    names = not text.isupper()
    at = 0
    for start, end in [*_opaque(text), (len(text), len(text))]:
        for match in _WORD.finditer(text, at, start):
            word = match.group()
            lower = word.lower().replace("’", "'")
            spans.append(match.span())
            low.append(lower)
            tags.append(_tag(word, lower, known, names and len(tags) > 0))
        if end > start:
            spans.append((start, end))
            low.append(text[start:end].lower())
            tags.append("q")
        at = end
    _join_pairs(spans, low, tags)
    return Words(text, spans, low, "".join(tags))


def _opaque(text: str) -> list[tuple[int, int]]:
    """What is quoted, code or a name, and must stay in one piece; in order."""
    if "&&" in text or " | " in text:
        return [match.span() for match in _SHELL.finditer(text)]
    return [match.span() for match in _OPAQUE.finditer(text)] if _OPENS.search(text) else []


def _join_pairs(spans: list[tuple[int, int]], low: list[str], tags: list[str]) -> None:
    """Make one word of each pair that is one thing; "and so on" joins nothing."""
    lex = lexicon()
    for i in range(len(tags) - 2, -1, -1):
        if tags[i] not in "co" and low[i] != "n":
            continue
        if i and (low[i - 1], low[i + 1]) in lex.pairs:
            spans[i - 1 : i + 2] = [(spans[i - 1][0], spans[i + 1][1])]
            low[i - 1 : i + 2] = [" ".join(low[i - 1 : i + 2])]
            tags[i - 1 : i + 2] = "q"
        elif low[i + 1] in lex.rest:
            tags[i] = "n"


def _tag(word: str, lower: str, known: dict[str, str], may_be_name: bool) -> str:
    if lower in _AND:
        return "c"
    if lower == "or":
        return "o"
    if lower in _PUNCTUATION:
        return _PUNCTUATION[lower]
    tag = known.get(lower)
    if may_be_name and word[0].isupper() and tag in (None, "v", "p") and lower != "i":
        return "N"
    if tag is not None:
        return tag
    return "m" if word[0].isdigit() else "n"
