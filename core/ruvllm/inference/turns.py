"""Waiting that may begin in one event loop and be ended from another thread's."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from ruvllm.errors import BackendError

__all__ = ["Turns", "Waiters"]

_RETRY = 5.0  # seconds after which somebody who was turned away may come again


class _Ticket:
    """Somebody who waits in an event loop."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.future: asyncio.Future[None] = self._loop.create_future()
        self.called = False  # guarded by whoever hands tickets out

    def call(self) -> None:
        """Wake whoever waits, from any thread."""
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
