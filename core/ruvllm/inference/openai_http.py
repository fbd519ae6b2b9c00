"""Backends over HTTP that speak OpenAI's chat completions or Anthropic's messages: servers of one's own, and clouds."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, TypeVar
from weakref import WeakKeyDictionary

from ruvllm.errors import BackendError, BackendFailure, ConfigError, InputError
from ruvllm.inference.backend import TRACE, Chunk, Message, Params, Streaming, estimate_usage
from ruvllm.inference.chat_wire import EventReader, KeyFromEnvironment, failure
from ruvllm.inference.endpoint import Endpoint, retry_after
from ruvllm.inference.relay import Piece, Relay, body_for

if TYPE_CHECKING:
    import ssl

    import httpx


_MOST_ERROR = 65_536  # bytes of an error's body that are read
_MOST_BYTES = 64 << 20  # of an answer, events and all
_FOR_USAGE = 2.0  # seconds that the counts may come after the answer's end
_FOR_END = 0.02  # and the end of the response, after which its connection can be used again, after that
T = TypeVar("T")


@dataclass(slots=True)
class Attempt:
    """Sends one request and reads its answer.

    Args:
        relay: reads the events, and knows afterwards how the answer ended.
        patience: seconds between two signs of life.
    """

    client: httpx.AsyncClient
    endpoint: Endpoint
    relay: Relay
    deadline: float
    clock: Callable[[], float]
    patience: float
    _began: bool = False  # a status has come

    async def pieces(self, body: bytes, headers: Mapping[str, str]) -> AsyncGenerator[Piece, None]:
        """The pieces of the answer; it is whole when this ends without an error. Raises BackendError: it is not."""
        response = await self._within(self._send(body, headers))
        self._began = True
        try:
            if response.status_code != 200:
                raise await self._refusal(response)
            async with aclosing(self._read(response)) as pieces:
                async for piece in pieces:
                    yield piece
        finally:
            await response.aclose()

    async def _send(self, body: bytes, headers: Mapping[str, str]) -> httpx.Response:
        import httpx

        connect = self.endpoint.connect_timeout
        timeout = httpx.Timeout(self.patience, connect=connect, pool=connect)
        # Compression would hold tokens back until a block of it is full.
        plain = {"Content-Type": "application/json", "Accept-Encoding": "identity", **headers}
        url = self.endpoint.at("messages" if self.endpoint.api == "anthropic" else "chat/completions")
        request = self.client.build_request("POST", url, content=body, headers=plain, timeout=timeout)
        return await self.client.send(request, stream=True)

    async def _read(self, response: httpx.Response) -> AsyncGenerator[Piece, None]:
        events, pieces, size, reader = EventReader(), response.aiter_bytes(), 0, self.relay.reader
        whole = bytearray() if _is_json(response) else None  # of a server that does not stream
        piece: bytes | None = b""
        while piece is not None:
            try:
                piece = await self._within(anext(pieces, None))
            except BackendError:
                if not reader.complete:
                    raise
                break
            size += len(piece or b"")
            if size > _MOST_BYTES:
                raise _broken(f"more than {_MOST_BYTES} bytes")
            if whole is not None:
                whole += piece or b""
                continue
            for event in _events(events, piece):
                if not reader.done:
                    yield self.relay.read(event)
            if reader.complete:
                self.deadline = min(self.deadline, self.clock() + (_FOR_END if reader.done else _FOR_USAGE))
        if whole:
            yield self.relay.read(whole.decode("utf-8", "replace"))
        if not reader.complete:
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
            message = f"{url} was silent for {self.patience:g} s"
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


_HEALTH_TIMEOUT = 2.0
_IDLE = 32  # connections kept for later


class OpenAiHttp(Streaming):
    """A model behind an API like OpenAI's or Anthropic's; a client's request is passed on with all of its fields.

    Answers are streamed from the server even where ruvllm's own caller wants a whole one: a stall is noticed between
    two tokens, and a caller who gives up frees the server at once. What a client asks for whole is asked for whole.

    Args:
        name: for logs, headers and statistics; by default the model's.

    Raises:
        ConfigError: httpx is not installed, or the API key's variable is not set.
    """

    passes = True

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        name: str = "",
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        if find_spec("httpx") is None:
            raise ConfigError("httpx is not installed", field="inference", fix="pip install 'ruvllm[http]'")
        self.endpoint, self.name = endpoint, name or endpoint.model
        self.model, self.context, self.price = endpoint.model, endpoint.context, endpoint.price
        self._key = KeyFromEnvironment(endpoint.api_key_env)
        self._clock, self._sleep, self._jitter = clock, sleep, jitter
        # A connection belongs to the event loop that opened it, and a synchronous caller starts one per call.
        self._clients: WeakKeyDictionary[asyncio.AbstractEventLoop, httpx.AsyncClient] = WeakKeyDictionary()

    def __repr__(self) -> str:
        return f"OpenAiHttp({self.endpoint.url!r}, model={self.model!r})"

    async def stream(self, messages: Sequence[Message], params: Params) -> AsyncGenerator[Chunk, None]:
        """The answer as it is written. Attempts are repeated only while nothing of it has come.

        Raises:
            BackendError: there is none; what came of it is in `partial`.
        """
        seconds = self.endpoint.timeout if params.timeout is None else min(params.timeout, self.endpoint.timeout)
        deadline = self._clock() + seconds
        api, attempt, begun = self.endpoint.api, 0, False
        fields = body_for(api, self.model, messages, params, self.endpoint.dialect, self._extra())
        body, options = _encoded(fields), params.extra.get("stream_options")
        wanted = isinstance(options, Mapping) and bool(options.get("include_usage"))
        tokens = estimate_usage(messages, "").prompt_tokens
        patience = self.endpoint.read_timeout if fields.get("stream") else seconds
        while True:
            relay = Relay(api, params.api, wanted, tokens)
            reader = relay.reader
            try:
                async with aclosing(self._attempt(body, relay, deadline, patience, params)) as pieces:
                    async for piece in pieces:
                        if piece.text or piece.events:
                            begun = True
                            yield Chunk(
                                piece.text,
                                confidence=reader.confidence,
                                refusal=reader.refused,
                                events=piece.events,
                                whole=piece.whole,
                                called=reader.called,
                            )
                break
            except BackendError as error:
                error.partial = reader.text
                self._key.hide(error)
                left = deadline - self._clock()
                delay = None if begun else self.endpoint.retries.delay(attempt, error, left, self._jitter)
                if delay is None:
                    raise
            attempt += 1
            await self._sleep(delay)
        usage = reader.usage or estimate_usage(messages, reader.text)
        cost, reason, last = self.endpoint.price.of(usage), reader.finish_reason or "stop", relay.close()
        yield Chunk("", reason, usage, reader.confidence, cost, reader.model, events=last, called=reader.called)

    async def healthy(self) -> bool:
        """Whether it lists its models, or is at least there and says that it has no such list."""
        import httpx

        try:
            headers = self._key.headers(self.endpoint.api)
            response = await self._client().get(self.endpoint.at("models"), headers=headers, timeout=_HEALTH_TIMEOUT)
        except (httpx.HTTPError, OSError, ConfigError):
            return False
        return response.is_success or response.status_code in (404, 405)

    async def close(self) -> None:
        """Close this event loop's connections; those of other loops went with their loops."""
        client = self._clients.pop(asyncio.get_running_loop(), None)
        if client is not None:
            await client.aclose()

    def _attempt(
        self, body: bytes, relay: Relay, deadline: float, patience: float, params: Params
    ) -> AsyncGenerator[Piece, None]:
        given, same = params.headers.items(), params.api == self.endpoint.api
        headers = self._key.headers(self.endpoint.api) | {name: value for name, value in given if same or name in TRACE}
        return Attempt(self._client(), self.endpoint, relay, deadline, self._clock, patience).pieces(body, headers)

    def _extra(self) -> dict[str, Any]:
        return ({"logprobs": True} if self.endpoint.logprobs else {}) | dict(self.endpoint.extra)

    def _client(self) -> httpx.AsyncClient:
        import httpx

        loop = asyncio.get_running_loop()
        client = self._clients.get(loop)
        if client is None or client.is_closed:
            limits = httpx.Limits(max_connections=self.endpoint.connections, max_keepalive_connections=_IDLE)
            # Redirects are not followed: they would take the key elsewhere.
            client = httpx.AsyncClient(
                limits=limits, follow_redirects=False, trust_env=not self.endpoint.local, verify=_certificates()
            )
            self._clients[loop] = client
        return client


def _encoded(fields: dict[str, Any]) -> bytes:
    try:
        return json.dumps(fields).encode()
    except (RecursionError, TypeError, ValueError) as bad:
        message = f"a field of the request is no JSON: {str(bad)[:100]}"
        raise InputError(message, field="extra", fix="give JSON types, not too deeply nested") from None


@cache
def _certificates() -> ssl.SSLContext:
    """Read once: a new client would read them for tens of milliseconds."""
    import httpx

    return httpx.create_ssl_context()
