"""Models that are loaded when they are needed, and let go when others need the room (FEATURES.md I11)."""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from ruvllm.errors import ConfigError
from ruvllm.inference.backend import Backend

__all__ = ["ModelManager"]


class ModelManager:
    """Keeps the most recently used models, never letting go of one that is in use.

    Two requests for a model load it once. A request for one more than there is room for waits until a model is free.

    Args:
        load: makes the backend of a model's name; a failure is the requester's, and the next one tries again.
        most: models loaded at once.

    Raises:
        ConfigError: `most` is below 1.
    """

    def __init__(self, load: Callable[[str], Awaitable[Backend]], most: int = 2) -> None:
        if most < 1:
            raise ConfigError(f"most is {most}", field="most", fix="allow 1 model or more")
        self._load, self.most = load, most
        self._loaded: OrderedDict[str, Backend] = OrderedDict()  # the least recently used first
        self._users: Counter[str] = Counter()
        self._loading = asyncio.Lock()  # one at a time: two could need more memory than there is
        self._freed = asyncio.Event()

    @property
    def loaded(self) -> tuple[str, ...]:
        """The models there are, the least recently used first."""
        return tuple(self._loaded)

    @asynccontextmanager
    async def use(self, name: str) -> AsyncIterator[Backend]:
        """A model, loaded if need be, that stays for as long as the block lasts."""
        backend = self._loaded[name] if name in self._loaded else await self._get(name)
        self._loaded.move_to_end(name)
        self._users[name] += 1
        try:
            yield backend
        finally:
            self._users[name] -= 1
            self._freed.set()

    async def unload(self, name: str) -> bool:
        """Let a model go, unless it is in use or not there: False then."""
        if name not in self._loaded or self._users[name]:
            return False
        await self._drop(name)
        return True

    async def close(self) -> None:
        """Let all go, those in use too."""
        for name in self.loaded:
            await self._drop(name)

    async def _get(self, name: str) -> Backend:
        async with self._loading:
            while name not in self._loaded:  # another request may have loaded it meanwhile
                if await self._make_room():
                    self._loaded[name] = await self._load(name)
            return self._loaded[name]

    async def _make_room(self) -> bool:
        """Let the least recently used idle model go if there are too many; False after waiting for one to be idle."""
        if len(self._loaded) < self.most:
            return True
        idle = next((name for name in self._loaded if not self._users[name]), None)
        if idle is not None:
            await self._drop(idle)
            return True
        self._freed.clear()
        await self._freed.wait()
        return False

    async def _drop(self, name: str) -> None:
        backend = self._loaded.pop(name)
        self._freed.set()
        await backend.close()
