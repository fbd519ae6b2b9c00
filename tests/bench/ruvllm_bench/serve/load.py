"""A load generator: so many connections, each asking again as soon as it is answered."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from time import perf_counter

from ruvllm.agents.catalog import builtin_agents


@dataclass(frozen=True, slots=True)
class Load:
    """What came of it.

    Attributes:
        rate: answers a second.
        p50_ms, p99_ms: from the last byte sent to the last byte received.
        errors: answers other than 200, and connections that broke.
    """

    answers: int
    rate: float
    p50_ms: float
    p99_ms: float
    errors: int


def prompts() -> Iterator[str]:
    """Endless tasks of which no two are alike, so that no answer comes from a cache."""
    asked = [example for agent in builtin_agents() for example in agent.examples]
    for round_ in count(1):
        for text in asked:
            yield f"{text} #{round_}"


def routing_request(text: str) -> bytes:
    """`POST /v1/route` as it goes over the wire."""
    body = json.dumps({"text": text}).encode()
    head = (
        f"POST /v1/route HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\ncontent-length: {len(body)}"
    )
    return head.encode() + b"\r\n\r\n" + body


class _Connection(asyncio.Protocol):
    """One client."""

    def __init__(self, asked: Iterator[str], end: float) -> None:
        self._asked, self._end = asked, end
        self._held = bytearray()
        self._needs = 0  # bytes of the answer at hand, 0 while its header is not there
        self._sent = 0.0
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.seconds: list[float] = []
        self.errors = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask at once."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._ask()

    def data_received(self, data: bytes) -> None:
        """A piece of the answer."""
        self._held += data
        if not self._needs:
            header = self._held.find(b"\r\n\r\n")
            if header < 0:
                return
            head = bytes(self._held[:header]).lower()
            length = head.partition(b"content-length:")[2].split(b"\r\n", 1)[0]
            self._needs = header + 4 + int(length or 0)
        if len(self._held) >= self._needs:
            self.errors += not self._held.startswith(b"HTTP/1.1 200")
            self.seconds.append(perf_counter() - self._sent)
            self._held.clear()
            self._needs = 0
            self._ask()

    def connection_lost(self, exc: Exception | None) -> None:
        """By the server only when something went wrong."""
        if not self.done.done():
            self.errors += 1
            self.done.set_result(None)

    def _ask(self) -> None:
        if perf_counter() >= self._end:
            self.done.set_result(None)
            self._transport.close()
            return
        request = routing_request(next(self._asked))
        self._sent = perf_counter()
        self._transport.write(request)


async def drive(port: int, connections: int, seconds: float, asked: Iterator[str]) -> Load:
    """Let a server on this machine route the tasks of an iterator, for a while."""
    loop = asyncio.get_running_loop()
    began = perf_counter()
    clients = []
    for _ in range(connections):
        _, client = await loop.create_connection(lambda: _Connection(asked, began + seconds), "127.0.0.1", port)
        clients.append(client)
    await asyncio.gather(*(client.done for client in clients))
    spent = perf_counter() - began
    times = sorted(one for client in clients for one in client.seconds)
    errors = sum(client.errors for client in clients)
    if not times:
        return Load(0, 0.0, 0.0, 0.0, errors or 1)
    p50, p99 = (times[min(len(times) - 1, int(len(times) * share))] * 1000 for share in (0.5, 0.99))
    return Load(len(times), round(len(times) / spent, 1), round(p50, 2), round(p99, 2), errors)
