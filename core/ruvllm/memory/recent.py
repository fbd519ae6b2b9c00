"""The memories that answers were made of last, kept at hand: the same ones are asked for over and over."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ruvllm.encoders.cache import LruCache
from ruvllm.memory.record import Memory
from ruvllm.memory.records import Records

__all__ = ["Recent"]

_MOST = 2_000
_LONGEST = 4_000  # characters of a text; longer ones are read each time


class Recent:
    """Memories by id, as the state file had them when they were last read or dropped.

    Args:
        records: reads those that are not at hand.
    """

    def __init__(self, records: Records) -> None:
        self._records = records
        self._known: LruCache[int, Memory] = LruCache(_MOST)

    def get(self, ids: Sequence[int]) -> list[Memory]:
        """Those of these ids that are there, in the order asked; how often they were used may have grown since."""
        found = {i: self._known.get(i) for i in ids}
        missing = [i for i, memory in found.items() if memory is None]
        for memory in self._records.get(missing) if missing else ():
            found[memory.id] = memory
            if len(memory.text) <= _LONGEST:
                self._known.put(memory.id, memory)
        return [memory for memory in found.values() if memory is not None]

    def drop(self, ids: Iterable[int]) -> None:
        """They were changed, or removed."""
        for i in ids:
            self._known.drop(i)
