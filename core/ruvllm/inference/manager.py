"""Models that are loaded when they are needed, and let go when others need the room (FEATURES.md I11)."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from enum import StrEnum

from ruvllm.errors import BackendError, ConfigError
from ruvllm.inference.backend import Backend
from ruvllm.inference.turns import Waiters

__all__ = ["ModelManager", "ModelState"]


class ModelState(StrEnum):
    """Where a model is in its life."""

    ABSENT = "absent"
    LOADING = "loading"
    READY = "ready"
    BUSY = "busy"
    UNLOADING = "unloading"
    FAILED = "failed"


@dataclass(slots=True, eq=False)
class _Entry:
    """A model that takes room. Without a backend it is being loaded."""

    name: str
    bytes: int
    backend: Backend | None = None
    users: int = 0
    closing: bool = False

    @property
    def state(self) -> ModelState:
        if self.closing:
            return ModelState.UNLOADING
        if self.backend is None:
            return ModelState.LOADING
        return ModelState.BUSY if self.users else ModelState.READY


class ModelManager:
    """Keeps the most recently used models, never letting go of one that is in use.

    Two requests for a model load it once. A request for one more than there is room for waits until a model is free.
    Requests may come from several threads, each with an event loop of its own.

    Args:
        load: makes the backend of a model's name; a failure is the requester's, and the next one tries again.
        most: models loaded at once.
        memory: bytes that they may take together, as `size` tells it; None for no such limit.
        size: the bytes that a model takes, from its name.

    Raises:
        ConfigError: `most` or `memory` is below 1, or there is a limit and nothing tells the size.
    """

    def __init__(
        self,
        load: Callable[[str], Awaitable[Backend]],
        most: int = 2,
        *,
        memory: int | None = None,
        size: Callable[[str], int] | None = None,
    ) -> None:
        if most < 1:
            raise ConfigError(f"most is {most}", field="most", fix="allow 1 model or more")
        if memory is not None and (memory < 1 or size is None):
            raise ConfigError(f"memory is {memory}", field="memory", fix="give bytes above 0, and what tells the size")
        self._load, self.most, self.memory = load, most, memory
        self._size = size or (lambda name: 0)
        self._entries: OrderedDict[str, _Entry] = OrderedDict()  # the least recently used first
        self._failed: set[str] = set()
        self._lock, self._changed = threading.Lock(), Waiters()

    @property
    def loaded(self) -> tuple[str, ...]:
        """The models there are, the least recently used first."""
        with self._lock:
            return tuple(e.name for e in self._entries.values() if e.backend is not None and not e.closing)

    @property
    def states(self) -> Mapping[str, ModelState]:
        """Every model that takes room, and those that could not be loaded the last time."""
        with self._lock:
            known = {entry.name: entry.state for entry in self._entries.values()}
            return dict.fromkeys(self._failed, ModelState.FAILED) | known

    def state(self, name: str) -> ModelState:
        """Where a model is in its life."""
        return self.states.get(name, ModelState.ABSENT)

    @asynccontextmanager
    async def use(self, name: str) -> AsyncIterator[Backend]:
        """A model, loaded if need be, that stays for as long as the block lasts.

        Raises:
            BackendError: it alone takes more memory than is allowed; or whatever loading it raises.
        """
        entry, backend = await self._claim(name)
        try:
            yield backend
        finally:
            with self._lock:
                entry.users -= 1
            self._changed.wake()

    async def get_or_load(self, name: str) -> Backend:
        """A model, loaded if need be. It may be let go when others need the room: `use` holds on to it."""
        async with self.use(name) as backend:
            return backend

    async def unload(self, name: str) -> bool:
        """Let a model go, unless it is in use or not there: False then."""
        with self._lock:
            entry = self._entries.get(name)
            if entry is None or entry.state != ModelState.READY:
                return False
            entry.closing = True
        await self._drop(entry)
        return True

    async def close(self) -> None:
        """Let all go, those in use too."""
        with self._lock:
            going = [e for e in self._entries.values() if e.backend is not None and not e.closing]
            for entry in going:
                entry.closing = True
        for entry in going:
            await self._drop(entry)

    async def _claim(self, name: str) -> tuple[_Entry, Backend]:
        while True:
            changed = None
            with self._lock:
                entry = self._entries.get(name)
                if entry is not None and entry.backend is not None and not entry.closing:
                    entry.users += 1
                    self._entries.move_to_end(name)
                    return entry, entry.backend
                entry = self._next(name)
                if entry is None:
                    changed = self._changed.ticket()
            if changed is not None:
                await changed
            elif entry is not None and entry.closing:
                await self._drop(entry)
            elif entry is not None:
                await self._fill(entry)

    def _next(self, name: str) -> _Entry | None:
        """What to do for a model that is not there: fill the new entry, drop the closing one, or wait (None).

        One is loaded at a time: two could need more memory than there is.
        """
        needed = self._size(name)
        if self.memory is not None and needed > self.memory:
            message = f"{name} takes {needed / 1e6:,.0f} MB, and {self.memory / 1e6:,.0f} MB are allowed"
            raise BackendError(message, kind="refused", field="memory", fix="allow more, or use a smaller model")
        entries = self._entries.values()
        if any(entry.backend is None for entry in entries):
            return None
        taken = sum(entry.bytes for entry in entries)
        if len(entries) < self.most and (self.memory is None or taken + needed <= self.memory):
            self._entries[name] = made = _Entry(name, needed)
            return made
        idle = next((entry for entry in entries if entry.state == ModelState.READY), None)
        if idle is not None:
            idle.closing = True
        return idle

    async def _fill(self, entry: _Entry) -> None:
        try:
            backend = await self._load(entry.name)
        except BaseException as failure:
            with self._lock:
                del self._entries[entry.name]
                if isinstance(failure, Exception):
                    self._failed.add(entry.name)
            self._changed.wake()
            raise
        with self._lock:
            entry.backend = backend
            self._failed.discard(entry.name)
        self._changed.wake()

    async def _drop(self, entry: _Entry) -> None:
        try:
            if entry.backend is not None:
                await entry.backend.close()
        finally:
            with self._lock:
                if self._entries.get(entry.name) is entry:
                    del self._entries[entry.name]
            entry.backend = None
            self._changed.wake()
