"""Before an LLM server that is down, slow, busy or talks nonsense: the status, the fall-back, the circuit."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from threading import Thread

import httpx
import pytest
from conftest import Running, serving
from llm_server import Behaviour, Server, answer, chunk, cut, events, hold, stream
from waiting import PATIENCE, patiently, until

from ruvllm import RuvLLM
from ruvllm.config import Config
from ruvllm.inference.tiers import CircuitBreaker
from ruvllm.options import BackendConfig, InferenceConfig

END = events(chunk(finish_reason="stop"), b"[DONE]")
WELL = stream(events(chunk("all ")), events(chunk("well")) + END)
LARGE = stream(events(chunk("from the large one")) + END)
HALF = stream(events(chunk("half ")), events(chunk("an answer")), finish=False)
ASKED = {"model": "auto", "messages": [{"role": "user", "content": "add unit tests for the auth module"}]}
LIMIT = 0.6  # seconds that a backend gets which says nothing


@contextmanager
def llm_server(*behaviours: Behaviour) -> Iterator[Server]:
    """One with an event loop of its own: a server that shares ours could not be slow by itself."""
    loop = asyncio.new_event_loop()
    thread = Thread(target=loop.run_forever, daemon=True)
    thread.start()
    server = asyncio.run_coroutine_threadsafe(Server(*behaviours).__aenter__(), loop).result(PATIENCE)
    try:
        yield server
    finally:
        asyncio.run_coroutine_threadsafe(_end(server), loop).result(PATIENCE)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(PATIENCE)
        loop.close()


async def _end(server: Server) -> None:
    await server.__aexit__()
    rest = asyncio.all_tasks() - {asyncio.current_task()}
    for task in rest:
        task.cancel()
    await asyncio.gather(*rest, return_exceptions=True)


@contextmanager
def before(small: str, large: str = "", *, retries: int = 0, timeout: float = PATIENCE) -> Iterator[Running]:
    """A server of ruvllm before these URLs; `timeout` is of the small one."""
    urls = {"small": small, "large": large}
    tiers = {
        tier: BackendConfig(
            kind="openai",
            url=url,
            model=f"{tier}-1",
            timeout=timeout if tier == "small" else PATIENCE,
            retries=retries,
        )
        for tier, url in urls.items()
        if url
    }
    with serving(RuvLLM(encoder="static", config=Config(inference=InferenceConfig(tiers)))) as edge:
        yield edge


def ask(edge: Running, path: str = "/v1/query", **more: object) -> httpx.Response:
    """One question."""
    body = {"query": "add unit tests for the auth module"} if path == "/v1/query" else ASKED
    return edge.post(path, {**body, **more})


FAULTS = {  # with the status, and the limit that a backend of this kind is given
    "slow": (hold(), 504, LIMIT),
    "slow after its first word": (hold(events(chunk("um"))), 504, LIMIT),
    "garbage": (answer(200, "<html>It works!</html>"), 502, PATIENCE),
    "no HTTP": (cut(b"SSH-2.0-OpenSSH_9.6\r\n\r\n"), 502, PATIENCE),
    "half": (HALF, 502, PATIENCE),
    "closed": (cut(), 503, PATIENCE),
    "error 500": (answer(500, "oops"), 503, PATIENCE),
    "error 503": (answer(503), 503, PATIENCE),
    "busy": (answer(429, {"error": {"message": "slow down"}}, retry_after="7"), 429, PATIENCE),
}


@pytest.mark.parametrize(("fault", "status", "limit"), FAULTS.values(), ids=FAULTS)
def test_each_fault_has_its_status_and_costs_nothing_else(fault: Behaviour, status: int, limit: float):
    with llm_server(fault) as broken, before(broken.url, timeout=limit) as edge:
        session = edge.post("/v1/sessions", {}).json()["session_id"]
        failed = ask(edge, session_id=session)
        assert (failed.status_code, bool(failed.json()["fix"])) == (status, True)
        assert failed.headers.get("retry-after") == ("7" if status == 429 else None)
        assert ask(edge, "/v1/chat/completions").status_code == status
        # What needs no backend goes on, and of the failed question nothing is kept.
        assert edge.post("/v1/route", {"text": "fix the ferry"}).status_code == 200
        assert edge.post("/v1/memory", {"memories": [{"text": "The ferry leaves at noon."}]}).status_code == 200
        assert edge.get(f"/v1/sessions/{session}").json()["history"] == []
        assert edge.get("/stats").json()["total_queries"] == 0
        assert edge.get("/ready").status_code == 200


def test_nobody_there_is_503(free_port: int):
    with before(f"http://127.0.0.1:{free_port}/v1") as edge:
        assert ask(edge).status_code == 503
        assert ask(edge, "/v1/chat/completions", stream=True).status_code == 503


@pytest.mark.parametrize(("fault", "status", "limit"), FAULTS.values(), ids=FAULTS)
def test_another_tier_answers_instead(fault: Behaviour, status: int, limit: float):
    with llm_server(fault) as broken, llm_server(LARGE) as well, before(broken.url, well.url, timeout=limit) as edge:
        found = edge.post("/v1/chat/completions", ASKED)
        assert found.status_code == 200
        assert found.json()["choices"][0]["message"]["content"] == "from the large one"
        assert found.headers["x-ruvllm-backend"] == "large"


def test_an_answer_that_breaks_off_in_the_middle_ends_with_an_error_and_without_done():
    with llm_server(HALF) as broken, llm_server(LARGE) as well, before(broken.url, well.url) as edge:
        found = ask(edge, "/v1/chat/completions", stream=True)
        assert found.status_code == 200
        assert '"content": "half "' in found.text
        assert '"error"' in found.text
        assert "[DONE]" not in found.text
        assert "large" not in found.text  # no second voice goes on where the first stopped
        assert edge.get("/stats").json()["total_queries"] == 0


def test_a_stall_in_the_middle_ends_in_time():
    def check(slower: float) -> None:
        limit = LIMIT * slower
        with llm_server(hold(events(chunk("um ")))) as stalled, before(stalled.url, timeout=limit) as edge:
            found = ask(edge, "/v1/chat/completions", stream=True)
            assert '"content": "um "' in found.text
            assert '"error"' in found.text
            until(lambda: stalled.left == 1)  # the backend was let go

    patiently(check)


@pytest.mark.parametrize("busy", [answer(503), answer(429, "", retry_after="0.2"), cut()])
def test_who_was_busy_is_asked_again(busy: Behaviour):
    with llm_server(busy, WELL) as server, before(server.url, retries=1) as edge:
        found = edge.post("/v1/query", {"query": "Is all well?"})
        assert (found.status_code, found.json().get("text"), len(server.requests)) == (200, "all well", 2)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds that circuits go by, which stand still."""
    now = [1_000.0]
    made = partial(CircuitBreaker, clock=lambda: now[0])
    monkeypatch.setattr("ruvllm.inference.tiers.CircuitBreaker", lambda name, **_: made(name))
    return now


def test_the_circuit_opens_and_heals(clock: list[float]):
    with llm_server(*[answer(500, "oops")] * 5, WELL) as server, before(server.url) as edge:
        session = edge.post("/v1/sessions", {}).json()["session_id"]
        assert [ask(edge).status_code for _ in range(5)] == [503] * 5
        rests = [ask(edge) for _ in range(5)]
        assert {(one.status_code, one.headers["retry-after"]) for one in rests} == {(503, "10")}
        assert len(server.requests) == 5  # it was left alone
        clock[0] += 10
        healed = ask(edge, session_id=session)
        assert (healed.status_code, healed.json()["text"]) == (200, "all well")
        assert len(edge.get(f"/v1/sessions/{session}").json()["history"]) == 2
        assert {ask(edge).status_code for _ in range(3)} == {200}


def test_an_open_circuit_sends_everything_to_the_other_tier_at_once(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("ruvllm.inference.tiers.CircuitBreaker", partial(CircuitBreaker, window=3_600, rest=3_600))
    with llm_server(hold()) as slow, llm_server(LARGE) as well, before(slow.url, well.url, timeout=1.1) as edge:
        for _ in range(8):  # the circuit counts who was silent for a second at least
            found = edge.post("/v1/chat/completions", ASKED)
            assert (found.status_code, found.headers["x-ruvllm-backend"]) == (200, "large")
        assert len(slow.requests) == 5  # the others did not wait for it


def test_a_model_that_was_asked_for_by_name_rests_too_and_nobody_else_answers_for_it(clock: list[float]):
    with llm_server(answer(500, "oops")) as broken, llm_server(LARGE) as well, before(broken.url, well.url) as edge:
        assert [ask(edge, "/v1/chat/completions", model="small").status_code for _ in range(7)] == [503] * 7
        assert len(broken.requests) == 5
        assert ask(edge, "/v1/chat/completions", model="small-1").headers["retry-after"]
        assert ask(edge, "/v1/chat/completions", model="large").status_code == 200
        assert len(well.requests) == 1


EDIT = "change var to const:\n```js\nvar a = 1;\n```"


def test_who_is_asked_is_one_decision_on_every_path():
    with llm_server(WELL) as small, llm_server(LARGE) as large, before(small.url, large.url) as edge:
        sure = ask(edge).json()
        assert (sure["choice"]["by"], sure["choice"]["tier"], sure["choice"]["others"]) == ("default", 2, [3])
        assert (sure["choice"]["backend"], sure["choice"]["latency_ms"], sure["advice"]) == ("small", 500, "")
        hard = ask(edge, query="design a distributed consensus protocol, and prove that it is safe").json()
        assert (hard["routing"]["backend"], hard["choice"]["by"]) == ("large", "difficulty")
        unsure = ask(edge, query="Hi").json()
        assert (unsure["routing"]["backend"], unsure["choice"]["by"]) == ("large", "escalation")
        assert unsure["advice"].startswith("no agent is sure enough to speak (")
        assert ask(edge, query="Hi", force_model="small").json()["choice"]["by"] == "request"
        assert ask(edge, max_cost=-1).status_code == 422
        for model, backend, by in (("auto", "small", "default"), ("large", "large", "request")):
            headers = ask(edge, "/v1/chat/completions", model=model).headers
            assert (headers["x-ruvllm-backend"], headers["x-ruvllm-decided-by"]) == (backend, by)
            assert headers["x-ruvllm-why"]
            assert float(headers["x-ruvllm-expected-ms"]) > 0
            assert float(headers["x-ruvllm-expected-cost"]) == 0  # nobody said what it costs
        assert [row["backend"] for row in edge.get("/v1/stats").json()["tiers"]] == ["small", "large"]


def test_an_edit_is_carried_out_for_a_query_and_in_a_chat():
    with llm_server(WELL) as small, before(small.url) as edge:
        done = ask(edge, query=EDIT).json()
        assert (done["text"], done["tier"], done["cost"]) == ("```js\nconst a = 1;\n```", 1, 0)
        asked = [{"role": "user", "content": EDIT}]
        answered = ask(edge, "/v1/chat/completions", messages=asked)
        assert answered.json()["choices"][0]["message"]["content"] == "```js\nconst a = 1;\n```"
        assert answered.headers["x-ruvllm-decided-by"] == "edit"
        assert small.requests == []
        insisting = [{"role": "system", "content": "Answer in French."}, *asked]
        ask(edge, "/v1/chat/completions", messages=insisting)
        ask(edge, "/v1/chat/completions", messages=asked, response_format={"type": "json_object"})
        assert len(small.requests) == 2
