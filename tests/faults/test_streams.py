"""kill -9 of a server that streams answers: what was acknowledged is there, and no client takes half for whole."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
from llm_server import Server, chunk, events, hold, stream
from waiting import PATIENCE, until_async

from ruvllm.state.repair.check import check
from ruvllm_bench.serve.crash import Written, missing, write
from ruvllm_bench.serve.spawn import Spawned, spawn

STREAMS = 2  # of each kind at a time
TURNS = [{"role": "user", "content": "When does the ferry leave?"}]
CALL = {"tool_calls": [{"index": 0, "id": "c1", "type": "function", "function": {"name": "look", "arguments": '{"a'}}]}
HELD = hold(events(chunk("at ")), events(chunk(delta=CALL)))
WELL = stream(events(chunk("at noon"), chunk(finish_reason="stop"), b"[DONE]"))
# Paths of all streams, with what the end of one says and no half of it does.
KINDS: dict[str, tuple[dict[str, Any], str]] = {
    "/v1/chat/completions": ({"messages": TURNS}, "[DONE]"),
    "/v1/messages": ({"messages": TURNS, "max_tokens": 9}, "message_stop"),
    "/v1/responses": ({"input": "When does the ferry leave?"}, "response.completed"),
    "/v1/completions": ({"prompt": "When does the ferry leave?"}, "[DONE]"),
    "/api/chat": ({"messages": TURNS}, '"done":true'),
}


async def listen(client: httpx.AsyncClient, path: str, heard: list[str]) -> bool:
    """Whether a stream came to an end that HTTP calls one; `heard` gets what came."""
    body = {"model": "auto", "stream": True, **KINDS[path][0]}
    number = len(heard)
    heard.append("")
    try:
        async with client.stream("POST", path, json=body) as answer:
            async for text in answer.aiter_text():
                heard[number] += text
    except httpx.HTTPError:
        return False
    return True


async def killed(server: Spawned, backend: Server, written: Written) -> str:
    """Kill it while it streams and writes; the id of a response that it had acknowledged."""
    async with httpx.AsyncClient(base_url=server.url, timeout=PATIENCE) as client:
        backend.behaviours = (WELL,)
        answered = await client.post("/v1/responses", json={"model": "auto", "input": "When?"})
        backend.behaviours = (HELD,)
        heard: dict[str, list[str]] = {path: [] for path in KINDS}
        streams = [asyncio.ensure_future(listen(client, path, heard[path])) for path in KINDS for _ in range(STREAMS)]
        await until_async(lambda: all(len(texts) == STREAMS and all(texts) for texts in heard.values()))
        writing = asyncio.ensure_future(write(server.url, written, "parcel"))
        await until_async(lambda: len(written) >= 20 or writing.done())
        server.kill()
        assert not any(await asyncio.gather(*streams)), "a client took a broken stream for a whole one"
        with suppress(httpx.HTTPError):
            await writing
    for path, (_, end) in KINDS.items():
        for text in heard[path]:
            assert "at" in text or path == "/v1/responses"
            assert end not in text
    return str(answered.json()["id"])


def test_what_was_acknowledged_is_there_after_a_kill_in_streams_and_no_stream_has_a_wrong_end(tmp_path: Path):
    state, written = tmp_path / "state.db", Written()

    async def main() -> None:
        async with Server(WELL) as backend:
            tier = {"KIND": "openai", "URL": backend.url, "MODEL": "ferry-1"}
            settings = {f"RUVLLM_INFERENCE_SMALL_{name}": value for name, value in tier.items()}
            with spawn(state, settings=settings) as server:
                name = await killed(server, backend, written)
            assert check(state).ok
            backend.behaviours = (WELL,)
            with spawn(state, settings=settings) as server:
                assert await missing(server, state, written) == 0
                async with httpx.AsyncClient(base_url=server.url, timeout=PATIENCE) as client:
                    stored = (await client.get(f"/v1/responses/{name}")).json()
                    assert stored["output"][0]["content"][0]["text"] == "at noon"
                    body = {"model": "auto", "stream": True, "messages": TURNS}
                    assert (await client.post("/v1/chat/completions", json=body)).text.endswith("data: [DONE]\n\n")
                    # Of the broken ones nothing is left.
                    assert (await client.get("/stats")).json()["total_queries"] == 1

    asyncio.run(main())
