"""POST over plain HTTP/1.1 connections that stay open, to a server on this machine or in this network.

httpx, which has to know much more, takes a third of the time before a stream's first event there. Errors are httpx's.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from time import monotonic
from urllib.request import getproxies

import httpx

from ruvllm.inference.endpoint import Endpoint

__all__ = ["PlainAnswer", "PlainHttp"]

_IDLE, _IDLE_SECONDS = 32, 5.0  # connections kept for later, and how long: as httpx does
_MOST_HEAD = 65_536  # bytes of an answer's headers, or of one line between the chunks of its body
_MOST_LINES = 100  # after the last chunk
_STEP = 65_536  # bytes of a body that are taken at once
_STATUS = re.compile(rb"HTTP/1\.([01]) ([1-5]\d\d)(?: [^\r\n]*)?\r\n")
_HEADER = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+: [^\r\n\0]*")
_SIZE = re.compile(rb"([0-9a-fA-F]{1,12})[ \t]*(?:;[^\r\n]*)?\r\n")
_Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class PlainHttp:
    """Connections of one event loop to the server of an endpoint, at most `endpoint.connections` of them."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint, url = endpoint, httpx.URL(endpoint.url)
        self._address = url.host.strip("[]"), url.port or 80
        self._path, self._host = url.raw_path.rstrip(b"/") + b"/", url.netloc.decode()
        self._idle: list[tuple[float, _Connection]] = []
        self._free = asyncio.Semaphore(endpoint.connections)

    @staticmethod
    def serves(endpoint: Endpoint) -> bool:
        """Whether it is reached without TLS, and without a proxy."""
        return httpx.URL(endpoint.url).scheme == "http" and (endpoint.local or not getproxies())

    async def post(self, path: str, body: bytes, headers: Mapping[str, str]) -> PlainAnswer:
        """The answer to what is posted to a path under the endpoint's URL, as soon as its headers are there.

        Raises:
            httpx.HTTPError, OSError: there is none.
        """
        lines = [f"{name}: {value}" for name, value in headers.items()]
        if not all(map(_HEADER.fullmatch, lines)):
            raise httpx.LocalProtocolError("a header holds what no header may")
        lines = [f"Host: {self._host}", "Accept: */*", f"Content-Length: {len(body)}", *lines]
        head = b"POST %s%s HTTP/1.1\r\n%s\r\n\r\n" % (self._path, path.encode(), "\r\n".join(lines).encode("latin-1"))
        try:
            async with asyncio.timeout(self._endpoint.connect_timeout):
                await self._free.acquire()
        except TimeoutError:
            raise httpx.PoolTimeout("all connections are busy") from None
        answer = None
        try:
            answer = PlainAnswer(self, await self._connection())
            await answer.begin(head + body)
            return answer
        except BaseException:
            if answer is None:
                self._free.release()
            else:
                await answer.aclose()
            raise

    async def _connection(self) -> _Connection:
        while self._idle:
            since, (reader, writer) = self._idle.pop()
            if monotonic() - since < _IDLE_SECONDS and not (reader.at_eof() or writer.is_closing()):
                return reader, writer
            writer.close()
        try:
            async with asyncio.timeout(self._endpoint.connect_timeout):
                return await asyncio.open_connection(*self._address, limit=_MOST_HEAD)
        except TimeoutError:
            raise httpx.ConnectTimeout("no connection in time") from None
        except OSError as error:
            raise httpx.ConnectError(str(error)) from None

    def let_go(self, connection: _Connection, again: bool) -> None:
        """A connection is not needed any more; `again` where another request may use it."""
        self._free.release()
        if again and len(self._idle) < _IDLE:
            self._idle.append((monotonic(), connection))
        else:
            connection[1].close()

    async def aclose(self) -> None:
        """Close those that nobody uses."""
        while self._idle:
            self._idle.pop()[1][1].close()


class PlainAnswer:
    """One answer.

    Attributes:
        status_code: of it.
        headers: by their names in lower case.
    """

    def __init__(self, pool: PlainHttp, connection: _Connection) -> None:
        self._pool, self._connection = pool, connection
        self._reader, self._writer = connection
        self._again = self._open = False
        self.status_code, self.headers = 0, dict[str, str]()

    async def begin(self, request: bytes) -> None:
        """Send a request, and read the headers of its answer."""
        self._open = True
        self._writer.write(request)
        await self._writer.drain()
        while self.status_code < 200:  # before the real one there may be some of 100 and above
            self._read_head(await self._until(b"\r\n\r\n"))

    def _read_head(self, head: bytes) -> None:
        status = _STATUS.match(head)
        if status is None:
            raise httpx.RemoteProtocolError("no answer in HTTP/1.1")
        self.headers = {}
        for line in head[status.end() : -4].split(b"\r\n") if len(head) > status.end() + 2 else ():
            name, colon, value = line.decode("latin-1").partition(":")
            if not colon or not name.strip():
                raise httpx.RemoteProtocolError("a header without a name")
            self.headers[name.strip().lower()] = value.strip()
        self.status_code = int(status[2])
        self._again = status[1] == b"1" and self.headers.get("connection", "").lower() != "close"
        if self.headers.get("content-encoding", "identity").lower() != "identity":
            raise httpx.RemoteProtocolError("a compressed answer, which was not asked for")

    async def aiter_bytes(self) -> AsyncGenerator[bytes, None]:
        """The body as it comes. Raises httpx.HTTPError, OSError: it breaks off, or is none."""
        async for piece in self._body():
            yield piece
        self._leave(self._again)

    def _body(self) -> AsyncIterator[bytes]:
        coding, length = self.headers.get("transfer-encoding", ""), self.headers.get("content-length", "")
        if coding:
            if coding.lower() != "chunked":
                raise httpx.RemoteProtocolError("a transfer coding that is not known")
            return self._chunks()
        if self.status_code in (204, 304):
            return self._sized(0)
        if length and not (length.isascii() and length.isdigit() and len(length) < 16):
            raise httpx.RemoteProtocolError("a length that is no number")
        self._again = self._again and bool(length)
        return self._sized(int(length)) if length else self._to_end()

    async def _chunks(self) -> AsyncIterator[bytes]:
        while True:
            size = _SIZE.fullmatch(await self._until(b"\r\n"))
            if size is None:
                raise httpx.RemoteProtocolError("a chunk without its size")
            if not (left := int(size[1], 16)):
                break
            async for piece in self._sized(left):
                yield piece
            if await self._until(b"\r\n") != b"\r\n":
                raise httpx.RemoteProtocolError("a chunk without its end")
        for _ in range(_MOST_LINES):
            if await self._until(b"\r\n") == b"\r\n":
                return
        raise httpx.RemoteProtocolError("too many trailers")

    async def _sized(self, left: int) -> AsyncIterator[bytes]:
        while left:
            piece = await self._reader.read(min(left, _STEP))
            if not piece:
                raise httpx.RemoteProtocolError("the body broke off")
            left -= len(piece)
            yield piece

    async def _to_end(self) -> AsyncIterator[bytes]:
        while piece := await self._reader.read(_STEP):
            yield piece

    async def _until(self, end: bytes) -> bytes:
        try:
            return await self._reader.readuntil(end)
        except asyncio.IncompleteReadError as error:
            said = "an answer broke off" if error.partial or self.status_code else "disconnected"
            raise httpx.RemoteProtocolError(said) from None
        except asyncio.LimitOverrunError:
            raise httpx.RemoteProtocolError("a line or headers without an end") from None

    async def aclose(self) -> None:
        """Leave the answer; its connection is used again if all of it has been read."""
        self._leave(again=False)

    def _leave(self, again: bool) -> None:
        if self._open:
            self._open = False
            self._pool.let_go(self._connection, again)
