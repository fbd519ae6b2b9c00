"""SIGTERM and kill -9 on a real process: streams end whole, and what was acknowledged is there afterwards."""

from __future__ import annotations

import asyncio
import sys
from contextlib import closing
from pathlib import Path

import httpx
import pytest
from waiting import PATIENCE, until_async

from ruvllm import RuvLLM
from ruvllm.state.repair.check import check
from ruvllm.state.store import Store
from ruvllm_bench.serve.crash import Written, crash, missing, write
from ruvllm_bench.serve.slow_backend import slow_backend
from ruvllm_bench.serve.spawn import Spawned, spawn

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals")

STREAMS, WORDS, PAUSE = 20, 40, 0.1
STORY = {"messages": [{"role": "user", "content": "tell me a story"}], "stream": True}


def before(url: str, **more: str) -> dict[str, str]:
    """Settings of a server with this backend."""
    return {
        "RUVLLM_INFERENCE_SMALL_KIND": "openai",
        "RUVLLM_INFERENCE_SMALL_URL": url,
        "RUVLLM_INFERENCE_SMALL_MODEL": "slow",
        "RUVLLM_LOG_LEVEL": "warning",
    } | {f"RUVLLM_{name}": value for name, value in more.items()}


async def stream(client: httpx.AsyncClient, said: list[str]) -> None:
    """One answer, or what came of it."""
    try:
        async with client.stream("POST", "/v1/chat/completions", json=STORY) as answer:
            async for piece in answer.aiter_text():
                said.append(piece)  # noqa: PERF401 - what came before a failure counts
    except httpx.HTTPError as error:
        said.append(repr(error))


async def ended(server: Spawned, written: Written) -> list[str]:
    """Streams and writers, a SIGTERM in the middle of both: what the streams got."""
    said: list[list[str]] = [[] for _ in range(STREAMS)]
    limits = httpx.Limits(max_connections=STREAMS)
    async with httpx.AsyncClient(base_url=server.url, timeout=PATIENCE, limits=limits) as client:
        writing = asyncio.ensure_future(write(server.url, written, "last"))
        await until_async(lambda: len(written) > 20)
        streams = asyncio.gather(*(stream(client, one) for one in said))
        await until_async(lambda: all("word" in "".join(one) for one in said))
        assert not streams.done()
        await asyncio.to_thread(server.stop)
        await asyncio.gather(streams, writing)
    return ["".join(one) for one in said]


def test_sigterm_lets_streams_end_and_loses_no_write(tmp_path: Path):
    state, written = tmp_path / "state.db", Written()
    with slow_backend(PAUSE, WORDS) as url:
        with spawn(state, settings=before(url, DRAIN=f"{PATIENCE:g}")) as server:
            texts = asyncio.run(ended(server, written))
            assert server.process.returncode in (0, -15)
        whole = [text for text in texts if text.count('" word') == WORDS - 1 and text.endswith("[DONE]\n\n")]
        assert len(whole) == STREAMS
        assert not state.with_name("state.db-wal").exists()  # everything is in the one file
        assert check(state).ok
        assert len(written) > 20
        with spawn(state, settings=before(url)) as server:
            assert asyncio.run(missing(server, state, written)) == 0


def test_who_does_not_end_in_time_is_broken_off(tmp_path: Path):
    with slow_backend(0.5, 100) as url, spawn(tmp_path / "state.db", settings=before(url, DRAIN="1")) as server:
        texts = asyncio.run(ended(server, Written()))
    assert all("[DONE]" not in text for text in texts)
    assert all("word" in text for text in texts)


def test_answers_that_wait_to_be_remembered_are_written_at_the_end(tmp_path: Path):
    """Good answers go to memory in batches; SIGTERM does not lose the last one."""
    state = tmp_path / "state.db"
    with slow_backend(0.0, 3) as url:
        settings = before(url, MEMORY_WRITE_INTERVAL_MS="3600000", MEMORY_QUALITY_THRESHOLD="0")
        with spawn(state, settings=settings) as server, httpx.Client(base_url=server.url, timeout=PATIENCE) as client:
            for text in ("fix the login page", "why is checkout slow?"):
                assert client.post("/v1/query", json={"query": text}).status_code == 200
            assert client.get("/stats").json()["waiting"] == 2
            server.stop()
    with RuvLLM(encoder="static", state=state) as llm:
        assert sum(llm.memory.records.counts().values()) == 2


def test_sigterm_after_half_a_character_loses_nothing(tmp_path: Path):
    """The agent whose name held one took every confident task; from then on nothing of these was written."""
    state, task = tmp_path / "state.db", "paint the garden fence"
    agent = rb'{"agents":[{"name":"fence-painter\ud800","description":"paint the garden fence","examples":["%s"]}]}'
    with slow_backend(0.0, 3) as url:
        settings = before(url, MEMORY_WRITE_INTERVAL_MS="3600000", MEMORY_QUALITY_THRESHOLD="0")
        with spawn(state, settings=settings) as server, httpx.Client(base_url=server.url) as client:
            headers = {"content-type": "application/json"}
            assert client.put("/v1/agents", content=agent % task.encode(), headers=headers).status_code == 200
            session = client.post("/v1/sessions", json={}).json()["session_id"]
            asked = {"query": task, "session_id": session}
            assert client.post("/v1/query", json=asked).json()["agent"] == "fence-painter\ufffd"
            server.stop()
        assert '"level":"error"' not in server.log.read_text()
        with spawn(state, settings=settings) as server, httpx.Client(base_url=server.url) as client:
            assert "fence-painter\ufffd" in [one["name"] for one in client.get("/v1/agents").json()["agents"]]
            assert len(client.get(f"/v1/sessions/{session}").json()["history"]) == 2
            told = client.get("/stats").json()
            assert (told["memory_nodes"], told["set_aside"], told["failures"]) == (1, {}, {})


def test_kill_9_during_writes_loses_nothing(tmp_path: Path):
    found = asyncio.run(crash(tmp_path / "state.db", 2, {"RUVLLM_LOG_LEVEL": "warning"}))
    assert (found.lost, found.damaged) == (0, 0)
    assert found.written > 20


def test_a_loss_would_be_seen(tmp_path: Path):
    """The measure itself: what is taken out of the file is missed."""
    state = tmp_path / "state.db"
    with spawn(state) as server:
        body = {"memories": [{"text": f"Parcel {i}", "metadata": {"mark": "a-1"}} for i in range(2)]}
        ids = httpx.post(f"{server.url}/v1/memory", json=body, timeout=PATIENCE).json()["ids"]
        written = Written({"a-1": ids[0]}, {"never taught"}, {"nobody"})
        assert asyncio.run(missing(server, state, written)) == 2
    with closing(Store(state)) as store, store.write() as db:
        db.execute("DELETE FROM memories WHERE id = ?", (ids[1],))
    with spawn(state) as server:
        assert asyncio.run(missing(server, state, written)) == 3
