"""Many streaming clients at once before a slow backend: is every answer whole, and does routing stay fast?"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass

from ruvllm_bench.serve.load import Load, drive, prompts
from ruvllm_bench.serve.slow_backend import slow_backend
from ruvllm_bench.serve.spawn import running

_PAUSE = 0.1  # ten words a second in each stream
_SPREAD = 10.3  # words over which the streams begin
_LEAST_S = 5.0


@dataclass(frozen=True, slots=True)
class Streamed:
    """What came of it.

    Attributes:
        whole: streams with every word and their end.
        alone_ms, beside_ms: p50 of one client that routes, without and beside the streams.
        errors: of that client.
    """

    streams: int
    whole: int
    alone_ms: float
    beside_ms: float
    errors: int

    @property
    def ratio(self) -> float:
        """By how much routing got slower."""
        return round(self.beside_ms / self.alone_ms, 2) if self.alone_ms else float("inf")


def streamed(streams: int, seconds: float) -> Streamed:
    """Measure for so many seconds without, and as many with streams. Raises RuvllmError: no server starts."""
    words = int(max(_LEAST_S, seconds + 4) / _PAUSE)
    with slow_backend(_PAUSE, words) as url:
        tier = {"KIND": "openai", "URL": url, "MODEL": "slow"}
        settings = {f"RUVLLM_INFERENCE_SMALL_{name}": value for name, value in tier.items()}
        with running(settings=settings | {"RUVLLM_LOG_LEVEL": "warning"}) as server:
            return asyncio.run(_measure(server.port, streams, seconds, words))


async def _measure(port: int, streams: int, seconds: float, words: int) -> Streamed:
    asked = prompts()
    await drive(port, 1, min(1.0, seconds), asked)
    alone = await drive(port, 1, seconds, asked)
    clients = []
    for _ in range(streams):  # evenly over the time of a word: their words shall not come all at once
        clients.append(await _open(port))
        await asyncio.sleep(_PAUSE * _SPREAD / streams)
    await asyncio.sleep(1)  # all of them are being written to
    beside: Load = await drive(port, 1, seconds, asked)
    done = await asyncio.wait_for(asyncio.gather(*(client.done for client in clients)), words * _PAUSE + 60)
    whole = sum(_is_whole(text, words) for text in done)
    return Streamed(streams, whole, alone.p50_ms, beside.p50_ms, alone.errors + beside.errors)


def _is_whole(text: bytes, words: int) -> bool:
    return text.startswith(b"HTTP/1.1 200") and text.count(b'" word') == words - 1 and b"data: [DONE]" in text


async def _open(port: int) -> _Stream:
    _, client = await asyncio.get_running_loop().create_connection(_Stream, "127.0.0.1", port)
    return client


class _Stream(asyncio.Protocol):
    """A client of one stream; `done` is all that it got."""

    def __init__(self) -> None:
        self._held = bytearray()
        self.done: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask at once."""
        assert isinstance(transport, asyncio.Transport)
        body = json.dumps({"stream": True, "messages": [{"role": "user", "content": "tell me a long story"}]}).encode()
        head = "POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n"
        head += f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        transport.write(head.encode() + body)

    def data_received(self, data: bytes) -> None:
        """A piece."""
        self._held += data

    def connection_lost(self, exc: Exception | None) -> None:
        """The end of it, good or bad."""
        self.done.set_result(bytes(self._held))
