"""A bounded LRU map in O(1): vectors by text here, whole decisions in the router."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Sequence
from typing import Generic, TypeVar

import numpy as np

from ruvllm.encoders.protocol import Encoder, Vectors

MOST_TEXT = 10_000  # characters of a text worth remembering: ten thousand longer ones would fill a server

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class LruCache(Generic[K, V]):
    """The `capacity` most recently used entries; hits and misses are counted."""

    def __init__(self, capacity: int) -> None:
        self.capacity, self.hits, self.misses = capacity, 0, 0
        self._entries: OrderedDict[K, V] = OrderedDict()

    def get(self, key: K) -> V | None:
        """The value, now the most recent, or None."""
        value = self._entries.get(key)
        if value is None:
            self.misses += 1
            return None
        try:  # noqa: SIM105 - `suppress` costs more than all the rest
            self._entries.move_to_end(key)
        except KeyError:  # another thread has just made room
            pass
        self.hits += 1
        return value

    def put(self, key: K, value: V) -> None:
        """Keep `value`, forgetting the least recent entry when full."""
        if self.capacity <= 0:
            return
        self._entries[key] = value
        self._entries.move_to_end(key)
        if len(self._entries) > self.capacity:
            self._entries.popitem(last=False)

    def drop(self, key: K) -> None:
        """Forget an entry, if it is there."""
        self._entries.pop(key, None)

    def clear(self) -> None:
        """Forget every entry; the counts stay."""
        self._entries.clear()

    def __len__(self) -> int:
        return len(self._entries)


class CachedEncoder:
    """An encoder that remembers the vectors of its last texts (FEATURES.md E2, E3)."""

    def __init__(self, encoder: Encoder, capacity: int = 10_000) -> None:
        self.encoder, self.name, self.dim = encoder, encoder.name, encoder.dim
        self.cache: LruCache[str, Vectors] = LruCache(capacity)

    async def encode(self, texts: Sequence[str]) -> Vectors:
        """float32 (len(texts), dim), unit rows; each distinct unknown text is encoded once."""
        found = {text: self.cache.get(text) for text in dict.fromkeys(texts)}
        missing = [text for text, vector in found.items() if vector is None]
        if missing:
            for text, vector in zip(missing, await self.encoder.encode(missing), strict=True):
                found[text] = vector
                if len(text) <= MOST_TEXT:
                    self.cache.put(text, vector)
        if not texts:
            return np.zeros((0, self.dim), np.float32)
        return np.stack([vector for vector in map(found.get, texts) if vector is not None])
