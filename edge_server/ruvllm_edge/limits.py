"""Bounds on what a client can make the server hold: bodies, requests at a time, answers that wait."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from starlette.types import Receive, Scope

from ruvllm_edge.problems import Problem, too_many

_STEP = 64 << 10  # bytes that a body of unknown length is given at a time


class DisconnectedError(Exception):
    """The client has gone; nobody is left to answer."""


class Bodies:
    """Reads request bodies, all of them together within a bound.

    Args:
        total: bytes that all bodies being read or worked on may take.
        patience: seconds for a body to arrive.
    """

    def __init__(self, total: int, patience: float) -> None:
        self._free, self._patience = total, patience

    async def read(self, scope: Scope, receive: Receive, most: int) -> bytes:
        """A body of up to `most` bytes.

        Raises:
            Problem: 408, 413 or 503.
            DisconnectedError: the client left in the middle of it.
        """
        length = _content_length(scope)
        if length is not None and length > most:
            raise _too_large(most)
        try:
            async with asyncio.timeout(self._patience):
                first: Any = await receive()
                if length is not None and length <= _STEP and not first.get("more_body", True):
                    body: bytes = first.get("body", b"")
                    return body
                return await self._pieces(receive, first, most)
        except TimeoutError:
            raise Problem(408, "the body did not arrive in time", field="body", fix="send it faster") from None

    async def _pieces(self, receive: Receive, first: Any, most: int) -> bytes:
        held, pieces, size = 0, list[bytes](), 0
        try:
            while True:
                message = first or await receive()
                first = None
                if message["type"] == "http.disconnect":
                    raise DisconnectedError
                piece = message.get("body", b"")
                size += len(piece)
                if size > most:
                    raise _too_large(most)
                while held < size:
                    if self._free < _STEP:
                        raise too_many("the server is reading too much at once", 1, "body", status=503)
                    self._free, held = self._free - _STEP, held + _STEP
                pieces.append(piece)
                if not message.get("more_body"):
                    return b"".join(pieces)
        finally:
            self._free += held


def _content_length(scope: Scope) -> int | None:
    for name, value in scope["headers"]:
        if name == b"content-length":
            return int(value) if value.isdigit() else None
    return None


def _too_large(most: int) -> Problem:
    return Problem(413, f"the body is larger than {most} bytes", field="body", fix="send less at a time")


class Answers:
    """Answers that backends write at a time, and a queue before them that has an end.

    Args:
        most: at a time.
        queue: that may wait.
        patience: seconds in the queue.
    """

    def __init__(self, most: int, queue: int, patience: float) -> None:
        self._turns = asyncio.Semaphore(most)
        self._queue, self._patience = queue, patience
        self.running = self.waiting = 0

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """One's turn. Raises Problem: 503, the queue is full or does not move."""
        await self._wait()
        self.running += 1
        try:
            yield
        finally:
            self.running -= 1
            self._turns.release()

    async def _wait(self) -> None:
        if not self._turns.locked():
            await self._turns.acquire()
            return
        if self.waiting >= self._queue:
            raise too_many("too many answers are being written", 2, status=503)
        self.waiting += 1
        try:
            async with asyncio.timeout(self._patience):
                await self._turns.acquire()
        except TimeoutError:
            raise too_many("no backend had time", 5, status=503) from None
        finally:
            self.waiting -= 1
