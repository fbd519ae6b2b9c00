"""The page, the document, the end of the server, and many clients at once."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path
from statistics import median
from threading import Event, Thread
from time import perf_counter

import httpx
import pytest
from conftest import Running, Writer, serving
from waiting import PATIENCE, until, until_async

from ruvllm import RuvLLM
from ruvllm_bench.serve.load import drive, prompts

TASK = {"text": "fix the login page"}


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A small built page, with a precompressed form of one file."""
    folder = tmp_path / "dist"
    (folder / "models").mkdir(parents=True)
    (folder / "index.html").write_text("<!doctype html><title>page</title>")
    (folder / "main-0123abcd.js").write_text("export const long = 1;" * 50)
    (folder / "main-0123abcd.js.br").write_bytes(b"brotli")
    (folder / "app.wasm").write_bytes(b"\0asm")
    (tmp_path / "secret.txt").write_text("secret")
    return folder


def test_the_page_is_served_with_its_headers(site: Path):
    with serving(RuvLLM(encoder="static"), web=site) as edge:
        page = edge.get("/")
        assert "page" in page.text
        assert "script-src 'self' 'wasm-unsafe-eval'" in page.headers["content-security-policy"]
        assert page.headers["cross-origin-opener-policy"] == "same-origin"
        assert page.headers["cross-origin-embedder-policy"] == "require-corp"
        assert page.headers["x-content-type-options"] == "nosniff"
        assert page.headers["cache-control"] == "no-cache"
        again = edge.get("/", headers={"if-none-match": page.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")
        assert edge.get("/app.wasm").headers["content-type"] == "application/wasm"
        assert edge.get("/models/").status_code == 404


def test_hashed_files_are_cached_for_long_and_sent_compressed(site: Path):
    with serving(RuvLLM(encoder="static"), web=site) as edge:
        plain = edge.get("/main-0123abcd.js", headers={"accept-encoding": "identity"})
        assert "immutable" in plain.headers["cache-control"]
        assert "content-encoding" not in plain.headers
        with edge.client.stream("GET", "/main-0123abcd.js", headers={"accept-encoding": "gzip, br;q=0.9"}) as packed:
            assert packed.headers["content-encoding"] == "br"
            assert b"".join(packed.iter_raw()) == b"brotli"
            assert packed.headers["content-type"].startswith("text/javascript")


def test_the_guide_lies_beside_the_page(site: Path):
    with serving(RuvLLM(encoder="static"), web=site) as edge:
        assert "make docs" in edge.get("/guide").text
        assert "server-timing" not in edge.get("/").headers
    start = site.parent / "guide" / "start"
    start.mkdir(parents=True)
    (start.parent / "index.html").write_text("<!doctype html><title>guide</title>")
    (start / "index.html").write_text("<!doctype html><title>start</title>")
    with serving(RuvLLM(encoder="static"), web=site) as edge:
        assert edge.get("/").headers["server-timing"] == "guide"
        guide = edge.client.get("/guide")
        assert (guide.status_code, guide.headers["location"]) == (307, "/guide/")
        assert "img-src 'self' data:" in edge.get("/guide/").headers["content-security-policy"]
        assert edge.client.get("/guide/start").headers["location"] == "/guide/start/"
        assert "start" in edge.get("/guide/start/").text
        for path in ("/guide/nothing/", "/guide/../secret.txt", "/guide/%2e%2e/secret.txt", "/guidelines"):
            assert edge.get(path).status_code == 404


@pytest.mark.parametrize("path", ["/../secret.txt", "/%2e%2e/secret.txt", "/..%2fsecret.txt", "/%252e%252e/secret.txt"])
def test_nothing_outside_the_folder_is_served(site: Path, path: str):
    with serving(RuvLLM(encoder="static"), web=site) as edge:
        connection = httpx.Client()
        answer = connection.send(httpx.Request("GET", httpx.URL(edge.url).copy_with(raw_path=path.encode())))
        assert answer.status_code == 404
        assert "secret" not in answer.text


def test_a_page_that_is_not_built_says_so(tmp_path: Path):
    with serving(RuvLLM(encoder="static"), web=tmp_path) as edge:
        page = edge.get("/")
        assert page.status_code == 404
        assert "make web" in page.text
        assert edge.post("/v1/route", TASK).status_code == 200


def test_the_document_names_every_path_and_the_docs_need_nothing_else(edge: Running):
    document = edge.get("/openapi.json").json()
    assert document["openapi"] == "3.1.0"
    assert {"/v1/route", "/v1/chat/completions", "/v1/messages", "/health"} <= set(document["paths"])
    schema = document["components"]["schemas"]["Decision"]
    assert set(schema["required"]) >= {"agent", "confidence", "tier", "alternatives"}
    docs = edge.get("/docs")
    assert "default-src 'none'" in docs.headers["content-security-policy"]
    assert not re.search(r"<script|https?://(?!127\.0\.0\.1:3000)", docs.text)
    for name in document["components"]["schemas"]:
        assert f'id="{name}"' in docs.text


def test_federated_updates_survive_a_restart(tmp_path: Path):
    import numpy as np

    from ruvllm.learning.federated import EphemeralAgent, SharedModel

    state = tmp_path / "state.db"
    with serving(RuvLLM(encoder="static", state=state)) as edge:
        dim = edge.llm.encoders.static.dim
        agent = EphemeralAgent("a1", dim)
        rng = np.random.default_rng(0)
        for i in range(12):
            vector = rng.normal(size=dim).astype(np.float32)
            agent.process_trajectory(vector / np.linalg.norm(vector), model=f"route-{i % 2}")
        update = agent.export_state().to_bytes()
        accepted = edge.client.post("/v1/federated/updates", content=update).json()
        assert accepted["texts"] > 0
        assert edge.client.post("/v1/federated/updates", content=update).json()["again"] is True
        assert edge.client.post("/v1/federated/updates", content=b"nonsense").status_code == 422
    with serving(RuvLLM(encoder="static", state=state)) as edge:
        assert edge.get("/v1/federated").json()["updates"] == 1
        model = SharedModel.from_bytes(edge.get("/v1/federated/model").content)
        assert set(model.routes) == {"route-0", "route-1"}
        assert edge.client.post("/v1/federated/updates", content=update).json()["again"] is True


def test_a_hundred_streams_are_all_finished_and_routing_goes_on():
    writer = Writer(pause=0.05)
    with serving(RuvLLM(encoder="static", backends={"small": writer})) as edge:

        async def routes(number: int) -> list[float]:
            async with httpx.AsyncClient(base_url=edge.url, timeout=PATIENCE) as client:
                times = []
                for i in range(number):
                    began = perf_counter()
                    assert (await client.post("/v1/route", json={"text": f"task {i}"})).status_code == 200
                    times.append(perf_counter() - began)
                return times

        async def stream(client: httpx.AsyncClient) -> str:
            body = {"messages": [{"role": "user", "content": "word " * 20}], "stream": True}
            return (await client.post("/v1/chat/completions", json=body)).text

        async def all_of_it() -> tuple[list[str], list[float], list[float]]:
            alone = await routes(40)
            limits = httpx.Limits(max_connections=200)
            async with httpx.AsyncClient(base_url=edge.url, timeout=PATIENCE, limits=limits) as client:
                streams = asyncio.gather(*(stream(client) for _ in range(100)))
                await until_async(lambda: len(writer.asked) == 100)
                beside = await routes(40)
                return await streams, alone, beside

        texts, alone, beside = asyncio.run(all_of_it())
        assert len(texts) == 100
        assert all(text.endswith("data: [DONE]\n\n") and text.count('"content":"word') == 20 for text in texts)
        print(f"route p50: {median(alone) * 1e3:.1f} ms alone, {median(beside) * 1e3:.1f} ms beside 100 streams")


def test_health_and_readiness_are_apart(monkeypatch: pytest.MonkeyPatch):
    llm, warmed = RuvLLM(encoder="static"), Event()

    async def slowly(pause: object) -> None:
        while not warmed.is_set():
            await asyncio.sleep(0.01)

    monkeypatch.setattr(llm.routing.router, "warm", slowly)
    with serving(llm, until="/health") as edge:
        cold = edge.get("/ready")
        assert (cold.status_code, cold.json()) == (503, {"ready": False})
        assert edge.post("/v1/route", TASK).status_code == 200  # who asks all the same is answered, only later
        warmed.set()
        until(lambda: edge.get("/ready").status_code == 200)
        assert edge.get("/ready").json()["ready"] is True


def test_the_load_generator_counts_what_it_got(edge: Running):
    load = asyncio.run(drive(edge.port, 8, 0.3, prompts()))
    assert load.errors == 0
    assert load.answers >= 8  # each asks once at least
    assert 0 < load.p50_ms <= load.p99_ms


def refused(port: int) -> bool:
    """Whether nobody listens there."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=PATIENCE).close()
    except ConnectionRefusedError:
        return True
    return False


def test_running_requests_end_in_order_and_backends_are_closed():
    writer = Writer(held_after=3)
    got: list[httpx.Response] = []
    with serving(RuvLLM(encoder="static", backends={"small": writer})) as edge:
        asker = Thread(
            target=lambda: got.append(httpx.post(f"{edge.url}/query", json={"query": "a b c d e"}, timeout=PATIENCE))
        )
        asker.start()
        until(lambda: writer.asked)
        stopper = Thread(target=edge.stop)
        stopper.start()
        until(lambda: refused(edge.port))  # it takes no more
        writer.go.set()
        for thread in (asker, stopper):
            thread.join()
    assert (got[0].status_code, got[0].json()["text"]) == (200, "a b c d e ")
    assert writer.closed


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_the_command_starts_and_keeps_everything_when_it_is_ended(tmp_path: Path):
    state = tmp_path / "state.db"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RUVLLM_")}
    command = [sys.executable, "-m", "ruvllm.cli", "--state", str(state), "serve", "--port", "0", "--encoder", "static"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment, text=True)
    assert process.stdout is not None
    with process.stdout:
        url = re.search(r"http://127\.0\.0\.1:\d+", process.stdout.readline())
        assert url
        text = "wax the cello"
        with httpx.Client(base_url=url[0], timeout=PATIENCE) as client:
            assert client.get("/health").status_code == 200
            client.post("/v1/feedback", json={"text": text, "agent": "planner"})
            memories = {"memories": [{"text": "The cello is in the attic."}]}
            ids = client.post("/v1/memory", json=memories).json()["ids"]
            client.post("/v1/memory/search", json={"query": "where is the cello?"})
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) in (0, -signal.SIGTERM)
    with RuvLLM(encoder="static", state=state) as llm:
        assert llm.route(text).agent == "planner"
        (memory,) = llm.memory.records.get(ids)
        assert (memory.text, memory.accesses) == ("The cello is in the attic.", 1)
