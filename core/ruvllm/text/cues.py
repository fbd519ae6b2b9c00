"""Words and phrases that say something about a text, counted: hardly a text has any, and that is seen at once."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cached_property

from ruvllm.text.lexical import Memo

_WORD = re.compile(r"\w+")
_HEAD = re.compile(r"[a-z]+(?![?*])")
_MOST_WORDS = 20_000  # remembered


def words_of(low: str) -> list[str]:
    """The words of a text in lower case."""
    return _WORD.findall(low)


class Cues:
    """Counts kinds of cues: a regular expression of many words, searched for, takes ten times as long.

    Args:
        kinds: of each the cues, regular expressions in lower case that begin with letters they always have; what
            they match ends where a word ends.
    """

    def __init__(self, *kinds: Sequence[str]) -> None:
        self._kinds = kinds
        heads = [tuple(head[0] for cue in cues if (head := _HEAD.match(cue))) for cues in kinds]
        assert all(len(head) == len(cues) for head, cues in zip(heads, kinds, strict=True))
        every = tuple(head for some in heads for head in some)

        def begins(word: str) -> tuple[int, ...]:
            """Of which kinds a cue may begin with this word."""
            return tuple(k for k, some in enumerate(heads) if word.startswith(some)) if word.startswith(every) else ()

        self._begins = Memo(begins, _MOST_WORDS)

    @cached_property
    def _patterns(self) -> list[re.Pattern[str]]:
        return [re.compile(rf"(?:{'|'.join(cues)})\b") for cues in self._kinds]

    def counts(self, low: str, words: Sequence[str]) -> list[int]:
        """How many of each kind are in a text in lower case, of these `words_of`; of one kind none within another."""
        found = [0] * len(self._kinds)
        begun = list(map(self._begins.__getitem__, words))
        if not any(begun):
            return found
        ends, start = found.copy(), 0
        for word, kinds in zip(words, begun, strict=True):
            start = low.index(word, start)  # what lies between two words is of no word
            for kind in kinds:
                if start >= ends[kind] and (cue := self._patterns[kind].match(low, start)):
                    found[kind] += 1
                    ends[kind] = cue.end()
            start += len(word)
        return found
