"""Backends over HTTP that speak OpenAI's chat completions: llama.cpp, vLLM, Ollama, LM Studio and clouds."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from functools import cache
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from ruvllm.errors import BackendError, ConfigError, InputError
from ruvllm.inference.backend import Chunk, Completion, Message, Params, estimate_usage, gather
from ruvllm.inference.chat_wire import ChatReader, request_body
from ruvllm.inference.endpoint import Endpoint
from ruvllm.inference.http_attempt import Attempt
from ruvllm.inference.secrets import KeyFromEnvironment

if TYPE_CHECKING:
    import ssl

    import httpx

__all__ = ["OpenAiHttp"]

_HEALTH_TIMEOUT = 2.0
_IDLE = 32  # connections kept for later


class OpenAiHttp:
    """A model behind an OpenAI-like API; it passes on the fields of a request that ruvllm does not know.

    Answers are streamed from the server even where the caller wants a whole one: a stall is noticed between two
    tokens, and a caller who gives up frees the server at once.

    Args:
        endpoint: where it is.
        name: for logs, headers and statistics; by default the model's.
        clock: seconds, monotonic.
        sleep: waits between attempts.
        jitter: uniform in [0, 1).

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
        self.model, self.context = endpoint.model, endpoint.context
        self._key = KeyFromEnvironment(endpoint.api_key_env)
        self._clock, self._sleep, self._jitter = clock, sleep, jitter
        # A connection belongs to the event loop that opened it, and a synchronous caller starts one per call.
        self._clients: WeakKeyDictionary[asyncio.AbstractEventLoop, httpx.AsyncClient] = WeakKeyDictionary()

    def __repr__(self) -> str:
        return f"OpenAiHttp({self.endpoint.url!r}, model={self.model!r})"

    async def generate(self, messages: Sequence[Message], params: Params) -> Completion:
        """The whole answer.

        Raises:
            BackendError: there is none; what came of it is in `partial`.
        """
        async with aclosing(self.stream(messages, params)) as chunks:
            return await gather(chunks, self.model)

    async def stream(self, messages: Sequence[Message], params: Params) -> AsyncGenerator[Chunk, None]:
        """The answer as it is written. Attempts are repeated only while nothing of it has come."""
        seconds = self.endpoint.timeout if params.timeout is None else min(params.timeout, self.endpoint.timeout)
        deadline = self._clock() + seconds
        fields = request_body(self.model, messages, params, self.endpoint.dialect, self._extra())
        body, attempt, reader = _encoded(fields), 0, ChatReader()
        while True:
            try:
                async with aclosing(self._attempt(body, reader, deadline)) as texts:
                    async for text in texts:
                        yield Chunk(text, confidence=reader.confidence, refusal=reader.refused)
                break
            except BackendError as error:
                error.partial = reader.text
                self._key.hide(error)
                left = deadline - self._clock()
                delay = None if reader.text else self.endpoint.retries.delay(attempt, error, left, self._jitter)
                if delay is None:
                    raise
            attempt, reader = attempt + 1, ChatReader()
            await self._sleep(delay)
        usage = reader.usage or estimate_usage(messages, reader.text)
        cost = self.endpoint.price.of(usage)
        yield Chunk("", reader.finish_reason or "stop", usage, reader.confidence, cost, reader.model)

    async def healthy(self) -> bool:
        """Whether it lists its models, or is at least there and says that it has no such list."""
        import httpx

        try:
            headers = self._key.headers()
            response = await self._client().get(self.endpoint.at("models"), headers=headers, timeout=_HEALTH_TIMEOUT)
        except (httpx.HTTPError, OSError, ConfigError):
            return False
        return response.is_success or response.status_code in (404, 405)

    async def close(self) -> None:
        """Close this event loop's connections; those of other loops went with their loops."""
        client = self._clients.pop(asyncio.get_running_loop(), None)
        if client is not None:
            await client.aclose()

    def _attempt(self, body: bytes, reader: ChatReader, deadline: float) -> AsyncGenerator[str, None]:
        return Attempt(self._client(), self.endpoint, reader, deadline, self._clock).texts(body, self._key.headers())

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
