"""A slow stand-in for an LLM server, for benchmarks: `python -m ruvllm_bench.serve.slow_backend PAUSE WORDS`.

It speaks as much of OpenAI's streaming chat completions as ruvllm asks for, and every answer says that no model
wrote it: so many words, each after a pause of so many seconds. Where there are tools and none has answered, it calls
the first one instead, with a `text` in two pieces. Its first line on stdout is its URL.
"""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from ruvllm import RuvllmError

SAYS = "[stand-in for an LLM]"
_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
_LENGTH = re.compile(rb"content-length:\s*(\d+)", re.IGNORECASE)


@contextmanager
def slow_backend(pause: float, words: int) -> Iterator[str]:
    """One in a process of its own: its URL, up to /v1. Raises RuvllmError: it does not start."""
    command = [sys.executable, "-m", "ruvllm_bench.serve.slow_backend", str(pause), str(words)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    with process.stdout:
        try:
            url = process.stdout.readline().strip()
            if not url:
                raise RuvllmError("the slow backend did not start", field="bench", fix="see what it says on stderr")
            yield url
        finally:
            process.terminate()
            process.wait()


async def _serve(pause: float, words: int) -> None:
    pieces = [_event(SAYS), *(_event(f" word{i}") for i in range(1, words))]
    ends = {reason: _made({}, reason) + _chunk(b"data: [DONE]\n\n") for reason in ("stop", "tool_calls")}

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            while head := await reader.readuntil(b"\r\n\r\n"):
                length = _LENGTH.search(head)
                body = await reader.readexactly(int(length[1]) if length else 0)
                given = json.loads(body or b"{}")
                if not given.get("stream"):
                    await asyncio.sleep(pause * words)
                    writer.write(_whole(words))
                    continue
                tools = b'"tool_call_id"' not in body and given.get("tools")
                writer.write(_HEAD)
                for piece in _called(tools[0]["function"]["name"]) if tools else pieces:
                    await asyncio.sleep(pause)
                    writer.write(piece)
                    await writer.drain()
                writer.write(ends["tool_calls" if tools else "stop"] + b"0\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0, backlog=1_024)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1", flush=True)
    await server.serve_forever()


def _whole(words: int) -> bytes:
    """An answer that is not streamed."""
    text = SAYS + "".join(f" word{i}" for i in range(1, words))
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    usage = {"prompt_tokens": 1, "completion_tokens": words, "total_tokens": words + 1}
    row = {"id": "one", "object": "chat.completion", "created": 0, "model": "stand-in", "choices": [choice]}
    data = json.dumps(row | {"usage": usage}).encode()
    return b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s" % (len(data), data)


def _event(text: str) -> bytes:
    return _made({"content": text})


def _called(name: str) -> list[bytes]:
    """The events of a call of this tool."""
    call = {"index": 0, "id": "call_1", "type": "function", "function": {"name": name, "arguments": '{"text":'}}
    rest = {"index": 0, "function": {"arguments": '"closed"}'}}
    return [_made({"tool_calls": [one]}) for one in (call, rest)]


def _made(delta: dict[str, Any], reason: str | None = None) -> bytes:
    said = json.dumps({"choices": [{"index": 0, "delta": delta, "finish_reason": reason}]})
    return _chunk(b"data: " + said.encode() + b"\n\n")


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        asyncio.run(_serve(float(sys.argv[1]), int(sys.argv[2])))
