"""What uvicorn alone answers: `python -m ruvllm_bench.serve.floor` serves the same JSON to whoever asks.

No server on it answers faster: what is measured beside it says how much of that a route takes. With the URL of an LLM
server it sends each request on to that, by httpx, and its answer back as it comes: a proxy that does nothing else.
"""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import msgspec
import uvicorn

from ruvllm import RuvllmError


class _Body(msgspec.Struct):
    text: str
    top: int = 3


_decode, _encode = msgspec.json.Decoder(_Body).decode, msgspec.json.Encoder().encode
_CHOICE = {"tier": 2, "by": "difficulty", "why": "by its words a small model fails with 0.15", "cost": 0.0002}
_ANSWER = {
    "agent": "tester",
    "confidence": 0.9875,
    "tier": 2,
    "action": "use",
    "out_of_scope": 0.0009,
    "alternatives": [{"agent": "documenter", "confidence": 0.0332}] * 3,
    "encoder": "static",
    "evidence": {
        "keywords": ["tests"],
        "examples": [["add tests for the edge cases of the parser", 0.8132781]] * 3,
        "scores": dict.fromkeys(("adapted", "card", "name", "bm25", "head"), 0.5123214),
    },
    "timings_us": dict.fromkeys(("read", "encode_static", "recall", "lexical", "score", "decide", "total"), 12.123214),
    "cached": False,
    "choice": _CHOICE | {"latency_ms": 500.0, "backend": "", "others": [1, 3]},
}


async def _app(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] != "http":
        return
    _decode((await receive())["body"])
    data = _encode(_ANSWER)
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(data))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": data})


def _relay(url: str) -> Callable[[Any, Any, Any], Awaitable[None]]:
    client = httpx.AsyncClient(base_url=url, trust_env=False, timeout=60)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        body = (await receive())["body"]
        headers = {"content-type": "application/json"}
        async with client.stream("POST", "/chat/completions", content=body, headers=headers) as answer:
            kind = answer.headers["content-type"].encode()
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", kind)]})
            async for piece in answer.aiter_raw():
                await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    return app


@contextmanager
def floor(url: str = "") -> Iterator[int]:
    """Its port, while the block runs.

    Args:
        url: of the LLM server that all is sent on to, up to /v1.

    Raises:
        RuvllmError: it does not start.
    """
    command = [sys.executable, "-m", "ruvllm_bench.serve.floor", *filter(None, [url])]
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert process.stdout is not None
    with process.stdout:
        try:
            found = re.search(rb"(\d+)", process.stdout.readline())
            if not found:
                raise RuvllmError("uvicorn alone does not start", field="serve", fix="see `ruvllm doctor`")
            yield int(found[1])
        finally:
            process.terminate()
            process.wait()


if __name__ == "__main__":
    from ruvllm_edge.serve import bound, loop_factory

    sock = bound("127.0.0.1", 0)
    print(sock.getsockname()[1], flush=True)
    app = _relay(sys.argv[1]) if sys.argv[1:] else _app
    config = uvicorn.Config(app, lifespan="off", log_config=None, access_log=False, server_header=False, ws="none")
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(uvicorn.Server(config).serve([sock]))
