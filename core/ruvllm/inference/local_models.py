"""Converted models as backends: loaded when they are first asked, shared, one answer of each at a time."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import OrderedDict, deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path

from ruvllm.errors import BackendError, ConfigError, RuvllmError
from ruvllm.inference.backend import Backend, Chunk, Message, Params, Streaming
from ruvllm.inference.library import Converted, read_converted
from ruvllm.inference.local import open_local


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
            loaded = {entry.name: entry.state for entry in self._entries.values()}
            return dict.fromkeys(self._failed, ModelState.FAILED) | loaded

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


_RETRY = 5.0  # seconds after which somebody who was turned away may come again


class _Ticket:
    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.future: asyncio.Future[None] = self._loop.create_future()
        self.called = False  # guarded by whoever hands tickets out

    def call(self) -> None:
        with suppress(RuntimeError):  # its loop has ended
            self._loop.call_soon_threadsafe(self._wake)

    def _wake(self) -> None:
        if not self.future.done():
            self.future.set_result(None)

    async def wait(self) -> None:
        await self.future


class Waiters:
    """All who wait for a change are woken by it, and look again."""

    def __init__(self) -> None:
        self._tickets: list[_Ticket] = []
        self._lock = threading.Lock()

    def ticket(self) -> asyncio.Future[None]:
        """To be awaited; to be taken while the state that was looked at cannot change."""
        ticket = _Ticket()
        with self._lock:
            self._tickets.append(ticket)
        return ticket.future

    def wake(self) -> None:
        """Something changed."""
        with self._lock:
            tickets, self._tickets = self._tickets, []
        for ticket in tickets:
            ticket.call()


class Turns:
    """Lets one after the other do something, in the order in which they came.

    Args:
        queue: that may wait; more are turned away.
    """

    def __init__(self, queue: int = 16) -> None:
        self.queue = queue
        self._taken = False
        self._waiting: deque[_Ticket] = deque()
        self._lock = threading.Lock()

    @property
    def waiting(self) -> int:
        """How many wait."""
        return len(self._waiting)

    @asynccontextmanager
    async def turn(self, timeout: float | None = None) -> AsyncIterator[None]:
        """One's turn, for as long as the block lasts.

        Raises:
            BackendError: too many wait ("rate_limited"), or it was not one's turn in so many seconds ("timeout").
        """
        with self._lock:
            free, self._taken = not self._taken, True
            if not free and len(self._waiting) >= self.queue:
                message = f"{self.queue} requests wait for this model already"
                raise BackendError(message, kind="rate_limited", retry_after=_RETRY, fix="try again later")
            ticket = None if free else _Ticket()
            if ticket is not None:
                self._waiting.append(ticket)
        if ticket is not None:
            await self._wait(ticket, timeout)
        try:
            yield
        finally:
            self._pass_on()

    async def _wait(self, ticket: _Ticket, timeout: float | None) -> None:
        try:
            async with asyncio.timeout(timeout):
                await ticket.wait()
        except BaseException as ended:
            with self._lock:
                called = ticket.called
                if not called:
                    self._waiting.remove(ticket)
            if called:  # just now: the next one's turn
                self._pass_on()
            if isinstance(ended, TimeoutError):
                raise BackendError(f"the model was busy for {timeout} s", kind="timeout", fix="allow more") from None
            raise

    def _pass_on(self) -> None:
        with self._lock:
            ticket = self._waiting.popleft() if self._waiting else None
            if ticket is None:
                self._taken = False
                return
            ticket.called = True
        ticket.call()


_CORES_ARE_SHARED = 2  # models loaded at once, where nobody says otherwise


class LocalModels:
    """The models of one runtime.

    Args:
        memory: bytes that loaded models may take together, as large as their files; None for no limit.
        queue: requests that may wait for a model; more are turned away.
        most: models loaded at once.
        threads: of a model; 0 for as many as there are cores.
    """

    def __init__(
        self, *, memory: int | None = None, queue: int = 16, most: int = _CORES_ARE_SHARED, threads: int = 0
    ) -> None:
        self._queue, self._threads = queue, threads
        self._converted: dict[str, Converted] = {}
        self._contexts: dict[str, int] = {}
        self._turns: dict[str, Turns] = {}
        self.manager = ModelManager(self._load, most, memory=memory, size=lambda key: self._converted[key].bytes)

    def backend(self, name: str, folder: Path, context: int | None = None) -> LocalBackend:
        """A backend over a converted folder; two of the same folder share what is loaded.

        Args:
            context: tokens of prompt and answer, at most; None for the model's own.

        Raises:
            ArtifactError: the folder is not whole.
        """
        model = read_converted(folder.resolve())
        key, most = str(model.path), min(context or model.context, model.context)
        self._converted[key] = model
        self._contexts[key] = max(most, self._contexts.get(key, 0))
        turns = self._turns.setdefault(key, Turns(self._queue))
        return LocalBackend(name, model, most, self.manager, turns)

    async def _load(self, key: str) -> Backend:
        model = await asyncio.to_thread(open_local, Path(key), threads=self._threads)
        model.context = min(model.context, self._contexts[key])
        return model


class LocalBackend(Streaming):
    """One tier's view of a model on this machine. Nothing is loaded before the first request."""

    def __init__(self, name: str, model: Converted, context: int, manager: ModelManager, turns: Turns) -> None:
        self.name, self.model, self.context = name, model.name, context
        self._folder, self._manager, self._turns = model.path, manager, turns

    async def stream(self, messages: Sequence[Message], params: Params) -> AsyncGenerator[Chunk, None]:
        """The answer as it is written; a caller that stops reading stops the model.

        Raises:
            BackendError: too many wait, the prompt does not fit, time ran out, or the model cannot be loaded.
        """
        until = None if params.timeout is None else time.monotonic() + params.timeout
        async with self._turns.turn(params.timeout), self._manager.use(str(self._folder)) as model:
            # Below 0 the model itself says that there is no time left.
            left = None if until is None else max(until - time.monotonic(), 1e-9)
            chunks = model.stream(messages, replace(params, timeout=left))
            async with aclosing(chunks):  # type: ignore[type-var]
                async for chunk in chunks:
                    yield chunk

    async def healthy(self) -> bool:
        """Whether the model's files are there and whole."""
        try:
            read_converted(self._folder)
        except RuvllmError:
            return False
        return True

    async def close(self) -> None:
        """Let the memory go; the next request loads the model again."""
        await self._manager.unload(str(self._folder))
