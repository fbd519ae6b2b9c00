"""A server of LLMs for tests, on a real socket: it speaks the API as well or as badly as a test tells it to."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

__all__ = ["Request", "Server", "answer", "chunk", "cut", "events", "hold", "stream"]

Behaviour = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
SSE = "text/event-stream; charset=utf-8"


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    headers: dict[str, str]
    body: Any


class Server:
    """Answers its n-th request by its n-th behaviour, and all further ones by the last.

    Attributes:
        left: how many clients went away in the middle of an answer.
        connections: that there were.
    """

    def __init__(self, *behaviours: Behaviour) -> None:
        self.behaviours, self.left, self.connections = behaviours, 0, 0
        self.requests: list[Request] = []

    async def __aenter__(self) -> Server:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/v1"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while (request := await _read(reader)) is not None:
                self.requests.append(request)
                behaviour = self.behaviours[min(len(self.requests), len(self.behaviours)) - 1]
                await behaviour(reader, writer)
        except ConnectionError:
            self.left += 1
        except asyncio.CancelledError:
            return  # the test is over; 3.11 would print it
        finally:
            writer.close()


async def _read(reader: asyncio.StreamReader) -> Request | None:
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
    except (asyncio.IncompleteReadError, ConnectionError):
        return None
    method, path, _ = head[0].split()
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:] if line)}
    body = await reader.readexactly(int(headers.get("content-length", 0)))
    return Request(method, path, headers, json.loads(body) if body else None)


def chunk(text: str = "", **more: Any) -> dict[str, Any]:
    """An event's object with a piece of text."""
    choice = {"index": 0, "delta": {"content": text} if text else {}, "finish_reason": None}
    return {"object": "chat.completion.chunk", "model": "served", "choices": [choice | more]}


def events(*objects: Any) -> bytes:
    """Objects (or raw data) as server-sent events."""
    return b"".join(b"data: " + (o if isinstance(o, bytes) else json.dumps(o).encode()) + b"\n\n" for o in objects)


def answer(status: int, body: Any = "", **headers: str) -> Behaviour:
    """A whole response."""
    kind = "text/html" if isinstance(body, str) else "application/json"
    data = body.encode() if isinstance(body, str) else json.dumps(body).encode()

    async def behave(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        lines = [f"HTTP/1.1 {status} Said", f"Content-Type: {kind}", f"Content-Length: {len(data)}"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + data)
        await writer.drain()

    return behave


def stream(*pieces: bytes | float | asyncio.Event, finish: bool = True, kind: str = SSE) -> Behaviour:
    """Pieces of a chunked response; without `finish` the connection breaks off.

    Args:
        pieces: floats are seconds to wait, events are waited for.
    """

    async def behave(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nTransfer-Encoding: chunked\r\n\r\n".encode())
        for piece in pieces:
            if isinstance(piece, float):
                await asyncio.sleep(piece)
            elif isinstance(piece, asyncio.Event):
                await piece.wait()
            else:
                writer.write(b"%x\r\n%s\r\n" % (len(piece), piece))
                await writer.drain()
        if not finish:
            raise ConnectionError
        writer.write(b"0\r\n\r\n")
        await writer.drain()

    return behave


def cut(data: bytes = b"") -> Behaviour:
    """Raw bytes, and the end of the connection."""

    async def behave(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(data)
        await writer.drain()
        raise ConnectionError

    return behave


def hold(*pieces: bytes) -> Behaviour:
    """The beginning of a stream, and then nothing more until the client goes away."""

    async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(f"HTTP/1.1 200 OK\r\nContent-Type: {SSE}\r\nTransfer-Encoding: chunked\r\n\r\n".encode())
        for piece in pieces:
            writer.write(b"%x\r\n%s\r\n" % (len(piece), piece))
        await writer.drain()
        await reader.read()
        raise ConnectionError

    return behave
