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
    lex = lexicon()
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
            tags.append(_tag(word, lower, lex.tags, names and len(tags) > 0))
        if end > start:
            spans.append((start, end))
            low.append(text[start:end].lower())
            tags.append("q")
        at = end
    return Words(text, spans, low, "".join(tags))


def _opaque(text: str) -> list[tuple[int, int]]:
    """What must stay in one piece, in order; pairs inside something quoted are part of that."""
    pattern = _SHELL if "&&" in text or " | " in text else _OPAQUE
    found = [match.span() for match in pattern.finditer(text)]
    if " and " in (lower := text.lower()) or " & " in lower or " n " in lower or " or " in lower:
        pairs = [match.span() for match in lexicon().pairs.finditer(text)]
        found += [(s, e) for s, e in pairs if not any(s < end and start < e for start, end in found)]
    return sorted(found)


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
