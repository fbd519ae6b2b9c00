"""Words and phrases that say something about a text, counted: hardly a text has any, and that is seen at once."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

__all__ = ["Cues", "words_of"]

_WORD = re.compile(r"\w+")
_HEAD = re.compile(r"[a-z]+(?![?*])")
_MOST_WORDS = 10_000  # remembered


def words_of(low: str) -> list[str]:
    """The words of a text in lower case."""
    return _WORD.findall(low)


class Cues:
    """Counts what begins with one of some words.

    Args:
        cues: regular expressions in lower case, each beginning with letters that it always has, tried in this order
            at the beginning of each word.
    """

    def __init__(self, *cues: str) -> None:
        self._pattern = re.compile(rf"\b(?:{'|'.join(cues)})\b")
        heads = tuple(head[0] for cue in cues if (head := _HEAD.match(cue)))
        assert len(heads) == len(cues)
        # A regular expression of many words takes microseconds where there is none of them, most of the time.
        self._begins = lru_cache(_MOST_WORDS)(lambda word: word.startswith(heads))

    def count(self, low: str, words: Sequence[str]) -> int:
        """How many there are in a text in lower case, of these `words_of`."""
        return len(self._pattern.findall(low)) if any(map(self._begins, words)) else 0
