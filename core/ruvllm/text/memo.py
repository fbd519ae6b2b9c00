"""What was worked out for a word, remembered."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

__all__ = ["Memo"]

V = TypeVar("V")


class Memo(dict[str, V]):
    """word -> its value, worked out when first asked for.

    Everything is forgotten when there is too much: the links of an LRU cache, which lie all over memory, cost
    more than working some words out again.

    Args:
        work: gives a word's value.
        most: words.
    """

    def __init__(self, work: Callable[[str], V], most: int) -> None:
        self._work, self._most = work, most

    def __missing__(self, word: str) -> V:
        if len(self) >= self._most:
            self.clear()
        self[word] = value = self._work(word)
        return value
