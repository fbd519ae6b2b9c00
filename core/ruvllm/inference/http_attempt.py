"""One request to a chat completions API: its pieces within a deadline, its failures as BackendErrors."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from ruvllm.errors import BackendError, BackendFailure
from ruvllm.inference.chat_wire import ChatReader
from ruvllm.inference.endpoint import Endpoint
from ruvllm.inference.refusals import failure
from ruvllm.inference.retry import retry_after
from ruvllm.inference.sse import EventReader

if TYPE_CHECKING:
    import httpx

__all__ = ["Attempt"]

_MOST_ERROR = 65_536  # bytes of an error's body that are read
_MOST_BYTES = 64 << 20  # of an answer, events and all
_FOR_USAGE = 2.0  # seconds that the counts may come after the answer's end
_FOR_END = 0.02  # and the end of the response, after which its connection can be used again, after that
T = TypeVar("T")


@dataclass(slots=True)
class Attempt:
    """Sends one request and reads its answer.

    Args:
        reader: gets the events, and knows afterwards how the answer ended.
        deadline: by the clock.
    """

    client: httpx.AsyncClient
    endpoint: Endpoint
    reader: ChatReader
    deadline: float
    clock: Callable[[], float]
    _began: bool = False  # a status has come

    async def texts(self, body: bytes, headers: Mapping[str, str]) -> AsyncGenerator[str, None]:
        """The pieces of the answer; it is whole when this ends without an error.

        Raises:
            BackendError: it is not.
        """
        response = await self._within(self._send(body, headers))
        self._began = True
        try:
            if response.status_code != 200:
                raise await self._refusal(response)
            async with aclosing(self._read(response)) as texts:
                async for text in texts:
                    yield text
        finally:
            await response.aclose()

    async def _send(self, body: bytes, headers: Mapping[str, str]) -> httpx.Response:
        import httpx

        connect = self.endpoint.connect_timeout
        timeout = httpx.Timeout(self.endpoint.read_timeout, connect=connect, pool=connect)
        # Compression would hold tokens back until a block of it is full.
        plain = {"Content-Type": "application/json", "Accept-Encoding": "identity", **headers}
        request = self.client.build_request(
            "POST", self.endpoint.at("chat/completions"), content=body, headers=plain, timeout=timeout
        )
        return await self.client.send(request, stream=True)

    async def _read(self, response: httpx.Response) -> AsyncGenerator[str, None]:
        events, pieces, size = EventReader(), response.aiter_bytes(), 0
        whole = bytearray() if _is_json(response) else None  # of a server that does not stream
        piece: bytes | None = b""
        while piece is not None:
            try:
                piece = await self._within(anext(pieces, None))
            except BackendError:
                if not self.reader.complete:
                    raise
                break
            size += len(piece or b"")
            if size > _MOST_BYTES:
                raise _broken(f"more than {_MOST_BYTES} bytes")
            if whole is not None:
                whole += piece or b""
                continue
            for event in _events(events, piece):
                if not self.reader.done and (text := self.reader.read(event)):
                    yield text
            if self.reader.complete:
                self.deadline = min(self.deadline, self.clock() + (_FOR_END if self.reader.done else _FOR_USAGE))
        if whole and (text := self.reader.read(whole.decode("utf-8", "replace"))):
            yield text
        if not self.reader.complete:
            kind = response.headers.get("content-type", "no content type")
            raise _broken(f"the end of its stream ({kind}) before the end of the answer")

    async def _refusal(self, response: httpx.Response) -> BackendError:
        said, pieces = b"", response.aiter_bytes()
        try:
            while len(said) < _MOST_ERROR and (piece := await self._within(anext(pieces, None))) is not None:
                said += piece
        except BackendError:
            pass  # the status says enough
        text = said[:_MOST_ERROR].decode("utf-8", "replace")
        try:
            body = json.loads(text)
        except (ValueError, RecursionError):
            body = text
        return failure(response.status_code, body, retry_after(response.headers))

    async def _within(self, work: Awaitable[T]) -> T:
        """What the deadline leaves time for, with this module's errors."""
        import httpx

        try:
            async with asyncio.timeout(max(self.deadline - self.clock(), 0)):
                return await work
        except (TimeoutError, httpx.TimeoutException, httpx.HTTPError, httpx.StreamError, OSError) as error:
            raise self._error(error) from None

    def _error(self, error: Exception) -> BackendError:
        import httpx

        url = self.endpoint.url
        if isinstance(error, httpx.PoolTimeout):
            message = f"all {self.endpoint.connections} connections to {url} are busy"
            return _error("unavailable", message, "connections", "raise it, or send less at once")
        if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
            return _error("unavailable", f"no connection to {url}", "url", "start the backend, or correct url")
        if isinstance(error, httpx.TimeoutException):
            message = f"{url} was silent for {self.endpoint.read_timeout:g} s"
            return _error("timeout", message, "read_timeout", "raise it, or choose a faster model")
        if isinstance(error, TimeoutError):
            return _error("timeout", f"{url} took too long", "timeout", "raise it, or choose a faster model")
        return self._lost(error)

    def _lost(self, error: Exception) -> BackendError:
        import httpx

        # Before the answer, a lost connection is as good as none; later it leaves half an answer.
        if self._began or (isinstance(error, httpx.ProtocolError) and "disconnected" not in str(error)):
            return _broken(f"a stream that broke off ({type(error).__name__})")
        message = f"{self.endpoint.url} closed the connection without an answer"
        return _error("unavailable", message, "url", "see the backend's own log")


def _is_json(response: httpx.Response) -> bool:
    return bool(response.headers.get("content-type", "").lower().startswith("application/json"))


def _events(events: EventReader, piece: bytes | None) -> list[str]:
    try:
        return events.close() if piece is None else events.feed(piece)
    except ValueError as error:
        raise _broken(str(error)) from None


def _broken(what: str) -> BackendError:
    message = f"the backend sent {what}"
    return _error("bad_response", message, "url", "check that url leads to the API, and see the backend's own log")


def _error(kind: BackendFailure, message: str, field: str, fix: str) -> BackendError:
    return BackendError(message, kind=kind, field=field, fix=fix)
