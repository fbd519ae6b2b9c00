"""A real server on a free port of this machine, and backends that misbehave when told to."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Event, Thread
from typing import Any

import httpx
import pytest
import waiting
from waiting import PATIENCE, until_async

from ruvllm import RuvLLM
from ruvllm.errors import BackendError
from ruvllm.inference.backend import Chunk, Completion, Message, Params, estimate_usage, gather
from ruvllm_edge import Settings
from ruvllm_edge.serve import bound, make_server


@dataclass
class Writer:
    """Says what the last message said, word by word, and remembers what it was asked."""

    name: str = "writer"
    model: str = "writer-1"
    context: int = 100_000
    pause: float = 0.0
    held_after: int = -1  # words, then nothing more until `go` is set; -1: never
    go: Event = field(default_factory=Event)
    fails_after: int = -1  # words, then a BackendError; -1: never
    fails_with: str = "unavailable"
    asked: list[Sequence[Message]] = field(default_factory=list)
    params: list[Params] = field(default_factory=list)
    confidence: float | None = 0.9
    stopped: int = 0  # streams that were broken off
    closed: bool = False

    async def generate(self, messages: Sequence[Message], params: Params) -> Completion:
        return await gather(self.stream(messages, params), self.model)

    async def stream(self, messages: Sequence[Message], params: Params) -> AsyncIterator[Chunk]:
        self.asked.append(messages)
        self.params.append(params)
        words = [word + " " for word in messages[-1].content.split()]
        try:
            for number, word in enumerate(words):
                if number == self.fails_after:
                    raise BackendError("the backend is down", kind=self.fails_with, retry_after=7.0)
                if number == self.held_after:
                    await until_async(self.go.is_set)
                await asyncio.sleep(self.pause)
                yield Chunk(word)
            yield Chunk("", "stop", estimate_usage(messages, "".join(words)), self.confidence)
        except (GeneratorExit, asyncio.CancelledError):
            self.stopped += 1
            raise

    async def healthy(self) -> bool:
        return True

    async def close(self) -> None:
        self.closed = True


@dataclass
class Running:
    """A server in a thread."""

    url: str
    llm: RuvLLM
    port: int
    client: httpx.Client
    stop: Callable[[], None]

    def post(self, path: str, json: Any = None, **more: Any) -> httpx.Response:
        return self.client.post(path, json=json, **more)

    def get(self, path: str, **more: Any) -> httpx.Response:
        return self.client.get(path, **more)


@contextmanager
def serving(llm: RuvLLM, keeps: bool = False, until: str = "/ready", **options: Any) -> Iterator[Running]:
    """From when `until` is answered with 200 to the end of the block, or to `stop`, which is as orderly."""
    settings = Settings(**{"log_level": "error", "drain": PATIENCE} | options)
    sock = bound(settings.host, 0)
    port = sock.getsockname()[1]
    server = make_server(llm, settings, keeps=keeps)
    thread = Thread(target=lambda: asyncio.run(server.serve([sock])), daemon=True)
    thread.start()

    def stop() -> None:
        server.should_exit = True
        thread.join(2 * PATIENCE)
        assert not thread.is_alive()

    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=PATIENCE) as client:

        def there() -> bool:
            try:
                return client.get(until).status_code == 200
            except httpx.ConnectError:
                return False

        try:
            waiting.until(there)
            yield Running(str(client.base_url), llm, port, client, stop)
        finally:
            stop()


@pytest.fixture(scope="module")
def writer() -> Writer:
    return Writer()


@pytest.fixture(scope="module")
def edge(writer: Writer) -> Iterator[Running]:
    """A server without a key, with one backend for every tier."""
    with serving(RuvLLM(encoder="static", backends={"small": writer})) as running:
        yield running


@pytest.fixture
def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])
