"""Bounds on connections, around all requests: how many there are, bytes and seconds of headers, answers nobody reads.

uvicorn bounds none of them: a header could be endless, and a connection half open for ever.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable
from http import HTTPStatus
from ipaddress import IPv6Address, ip_address
from typing import Any

import h11
import msgspec
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from ruvllm_edge.dialects import style_of
from ruvllm_edge.logs import event
from ruvllm_edge.problems import Problem, too_many
from ruvllm_edge.settings import Settings

try:
    from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
except ImportError:  # no httptools, as on PyPy
    HttpToolsProtocol = None  # type: ignore[assignment,misc]


_SPARE = 16  # connections beyond the most, on which /health is answered and nothing else
_SPARE_SECONDS = 1.0  # for their headers
_SUBNET = 64  # bits of an IPv6 address that one customer has


class _Watch:
    """One connection.

    Attributes:
        unread: bytes received since the parser last handed on headers or a piece of a body.
    """

    __slots__ = ("_address", "_counts", "_protocol", "_seconds", "_settings", "_stall", "_timer", "_unsent", "unread")

    def __init__(self, protocol: Any, settings: Settings, counts: Counter[str]) -> None:
        self._protocol, self._settings, self._counts = protocol, settings, counts
        self._seconds, self.unread = settings.header_timeout, 0
        self._address = _address(protocol.client)
        counts[self._address] += 1
        self._timer: asyncio.TimerHandle | None = None
        self._stall: asyncio.TimerHandle | None = None
        self._unsent = 0
        over = len(protocol.connections) - settings.max_connections
        if self._address and settings.address_connections:
            over = max(over, counts[self._address] - settings.address_connections)
        if over > _SPARE:
            self.refuse(too_many("too many connections", 5, status=503))
            return
        if over > 0:
            protocol.app, self._seconds = _full(protocol.app), min(self._seconds, _SPARE_SECONDS)
        self._timer = protocol.loop.call_later(self._seconds, self._late)

    def left(self) -> None:
        """It is gone."""
        for timer in (self._timer, self._stall):
            if timer is not None:
                timer.cancel()
        self._counts[self._address] -= 1
        if not self._counts[self._address]:
            del self._counts[self._address]

    def look(self) -> None:
        """After some bytes: are there too many, and is it time for a deadline? Headers in one piece cost no timer."""
        protocol = self._protocol
        if protocol.transport.is_closing():
            return
        if self.unread > self._settings.max_headers:
            self.refuse(self.too_large)
        elif protocol.cycle is None or protocol.cycle.response_complete:
            if self._timer is None:
                self._timer = protocol.loop.call_later(self._seconds, self._late)
        elif self._timer is not None:
            self._timer.cancel()
            self._timer = None

    @property
    def too_large(self) -> Problem:
        """What is answered to headers, or trailers, of too many bytes."""
        message = f"the headers are larger than {self._settings.max_headers} bytes"
        return Problem(431, message, field="headers", fix="send fewer and shorter ones")

    def refuse(self, problem: Problem) -> None:
        """Answer, if an answer has not begun, and close."""
        protocol = self._protocol
        if protocol.transport.is_closing():
            return
        event(logging.INFO, "refused", status=problem.status, problem=problem.message)
        cycle = protocol.cycle
        if cycle is None or cycle.response_complete or not cycle.response_started:
            protocol.transport.write(_raw(problem, protocol.request_path()))
        protocol.transport.close()

    def sent(self) -> None:
        """Bytes may be waiting for a client that takes none: then they do not wait for ever."""
        self._unsent = self._protocol.transport.get_write_buffer_size()
        if self._unsent and self._stall is None:
            self._stall = self._protocol.loop.call_later(self._settings.body_timeout, self._stalled)

    def _stalled(self) -> None:
        self._stall, before, transport = None, self._unsent, self._protocol.transport
        if transport.get_write_buffer_size() < before:
            self.sent()
        else:
            transport.abort()

    def _late(self) -> None:
        """Nothing at all, or the rest of a body that was answered early, is no request that waits for an answer."""
        self._timer = None
        if self.unread:
            self.refuse(Problem(408, "the headers did not arrive in time", field="headers", fix="send them faster"))
        else:
            self._protocol.transport.close()


def bounded_protocol(settings: Settings, *, fast: bool = HttpToolsProtocol is not None) -> type[asyncio.Protocol]:
    """uvicorn's protocol within the bounds of the settings, for one server.

    Args:
        fast: parse by httptools; else by h11, which is everywhere.
    """
    counts = Counter[str]()

    def watch(protocol: Any) -> _Watch:
        return _Watch(protocol, settings, counts)

    return _fast(settings, watch) if fast else _slow(watch)


class _Watched:
    """What both parsers' protocols tell their watch; before the protocol among a class's bases."""

    watching: Callable[[Any], _Watch]
    watch: _Watch

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)  # type: ignore[misc]
        self.watch = self.watching(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self.watch.left()
        super().connection_lost(exc)  # type: ignore[misc]

    def on_response_complete(self) -> None:
        super().on_response_complete()  # type: ignore[misc]
        self.watch.sent()

    def pause_writing(self) -> None:
        super().pause_writing()  # type: ignore[misc]
        self.watch.sent()


def _fast(settings: Settings, watch: Callable[[Any], _Watch]) -> type[asyncio.Protocol]:
    most = settings.max_headers

    class Bounded(_Watched, HttpToolsProtocol):
        url, watching = b"", staticmethod(watch)

        def data_received(self, data: bytes) -> None:
            self.watch.unread += len(data)
            super().data_received(data)
            self.watch.look()

        def on_headers_complete(self) -> None:
            # With a body behind them, perhaps. The error ends the parser, and leads to `send_400_response`.
            if self.watch.unread > most and _size(self.url, self.headers) > most:
                raise ValueError
            self.watch.unread = 0
            super().on_headers_complete()

        def on_body(self, body: bytes) -> None:
            self.watch.unread = 0
            super().on_body(body)

        def send_400_response(self, msg: str) -> None:
            self.watch.refuse(self.watch.too_large if self.watch.unread > most else _unreadable())

        def request_path(self) -> bytes:
            return self.url

    return Bounded


def _slow(watch: Callable[[Any], _Watch]) -> type[asyncio.Protocol]:
    class Bounded(_Watched, H11Protocol):  # which takes `h11_max_incomplete_event_size` for headers and trailers
        watching = staticmethod(watch)

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            waits = self.conn.their_state in (h11.IDLE, h11.SEND_BODY)
            self.watch.unread = len(self.conn.trailing_data[0]) if waits else 0
            self.watch.look()

        def send_400_response(self, msg: str) -> None:
            large = len(self.conn.trailing_data[0]) > (self.config.h11_max_incomplete_event_size or 0)
            self.watch.refuse(self.watch.too_large if large else _unreadable())

        def request_path(self) -> bytes:
            words = bytes(self.conn.trailing_data[0][:2_000]).split(b" ", 2)
            return words[1] if len(words) > 1 else b""

    return Bounded


def _size(url: bytes, headers: list[tuple[bytes, bytes]]) -> int:
    return len(url) + sum(len(name) + len(value) + 4 for name, value in headers)


def _unreadable() -> Problem:
    return Problem(400, "this is no HTTP/1.1 request", fix="see RFC 9112")


def _full(app: ASGIApp) -> ASGIApp:
    async def crowded(scope: Scope, receive: Receive, send: Send) -> None:
        scope["ruvllm.full"] = True
        await app(scope, receive, send)

    return crowded


def _address(client: tuple[str, int] | None) -> str:
    """What counts as one address; "" of this machine, whose proxy may speak for many."""
    try:
        address = ip_address(client[0].partition("%")[0]) if client else None
    except ValueError:  # of a socket that has none
        return ""
    if isinstance(address, IPv6Address):
        address = address.ipv4_mapped or address
    if address is None or address.is_loopback:
        return ""
    return address.exploded[: _SUBNET // 4 + 3] if isinstance(address, IPv6Address) else str(address)


def _raw(problem: Problem, target: bytes) -> bytes:
    """A whole response."""
    style = style_of(target.partition(b"?")[0].decode("latin-1"))
    status = style.statuses.get(problem.status, problem.status)
    body = msgspec.json.encode(style.body(problem, ""))
    headers = {
        "content-type": style.media.decode(),
        "content-length": str(len(body)),
        "connection": "close",
        **problem.headers,
    }
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\n{lines}\r\n".encode("latin-1") + body
