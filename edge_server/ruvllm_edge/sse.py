"""Server-sent events: sent as they come, kept alive, and stopped when nobody listens any more."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import suppress
from typing import Any, TypeVar

from starlette.types import Receive, Send

from ruvllm_edge.limits import DisconnectedError

QUIET = 15.0  # seconds without an event after which a comment goes out, so that no proxy hangs up
_COMMENT = b": still working\n\n"
T = TypeVar("T")


async def while_there(work: Coroutine[Any, Any, T], receive: Receive) -> T:
    """The outcome of some work, which is cancelled when the client leaves.

    Raises:
        DisconnectedError: it left.
    """
    task = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_gone(receive))
    try:
        await asyncio.wait((task, gone), return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise DisconnectedError
        return await task
    finally:
        for one in (task, gone):
            if not one.done():
                one.cancel()
                with suppress(asyncio.CancelledError, Exception):
                    await one


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def send_events(events: AsyncIterator[bytes], send: Send, comments: bool = True) -> None:
    """Send each event at once, comments while there is none (if the format has some), and the end."""
    upcoming: asyncio.Task[bytes] | None = None
    try:
        while True:
            upcoming = upcoming or asyncio.ensure_future(_next(events))
            done, _ = await asyncio.wait((upcoming,), timeout=QUIET)
            if not done:
                if comments:
                    await send(_piece(_COMMENT))
                continue
            try:
                event = upcoming.result()
            except StopAsyncIteration:
                break
            upcoming = None
            await send(_piece(event))
        await send({"type": "http.response.body", "body": b""})
    finally:
        if upcoming is not None and not upcoming.done():
            upcoming.cancel()
            with suppress(asyncio.CancelledError, Exception):
                await upcoming
        with suppress(Exception):
            await events.aclose()  # type: ignore[attr-defined]


async def _next(events: AsyncIterator[bytes]) -> bytes:
    return await anext(events)


def _piece(body: bytes) -> dict[str, Any]:
    return {"type": "http.response.body", "body": body, "more_body": True}
