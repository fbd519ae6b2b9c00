"""Whatever is sent, the answer names the field and the fix, and is never a 5xx."""

from __future__ import annotations

import socket

import httpx
import pytest
from conftest import Running, Writer, serving
from waiting import PATIENCE

from ruvllm import RuvLLM
from ruvllm_edge.app import OPERATIONS
from ruvllm_edge.operations import Operation

JSON = {"content-type": "application/json"}


@pytest.mark.parametrize(
    ("body", "status", "field"),
    [
        (b"", 400, "body"),
        (b"{", 400, "body"),
        (b"\xff\xfe", 400, "body"),
        (b"[]", 422, "body"),
        (b"{}", 422, "text"),
        (b'{"text": 3}', 422, "text"),
        (b'{"text": ""}', 422, "text"),
        (b'{"text": " \\u0000 "}', 422, "text"),
        (b'{"text": "a", "top": -1}', 422, "top"),
        (b'{"text": "a", "top": 1e99}', 422, "top"),
        (b'{"text": "\\ud800"}', 422, "text"),
        (b"[" * 100_000, 400, "body"),
    ],
)
def test_a_bad_route_is_a_problem(edge: Running, body: bytes, status: int, field: str):
    answer = edge.client.post("/v1/route", content=body, headers=JSON)
    told = answer.json()
    assert (answer.status_code, told["status"], told["field"]) == (status, status, field)
    assert answer.headers["content-type"] == "application/problem+json"
    assert told["detail"]
    assert told["fix"]
    assert told["request_id"] == answer.headers["x-request-id"]


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("/v1/feedback", {"text": "a task"}, "agent"),
        ("/v1/feedback", {"text": "a task", "agent": "nobody"}, "agent"),
        ("/v1/feedback", {"request_id": "req-unknown", "rating": 3}, "request_id"),
        ("/v1/feedback", {"text": "a task", "agent": "coder", "weight": 11}, "weight"),
        ("/v1/memory", {"memories": []}, "memories"),
        ("/v1/memory/search", {"query": "a", "filter": {"$what": 1}}, "filter.$what"),
        ("/query", {"query": "a", "temperature": 9}, "temperature"),
        ("/query", {"query": "a", "force_model": "nothing"}, "force_model"),
    ],
)
def test_errors_of_the_core_are_problems(edge: Running, path: str, body: dict, field: str):
    answer = edge.post(path, body)
    assert (answer.status_code, answer.json()["field"]) == (422, field)
    assert answer.json()["fix"]


def test_a_body_must_be_declared_as_json(edge: Running):
    answer = edge.client.post("/v1/route", content=b'{"text": "a"}', headers={"content-type": "text/plain"})
    assert (answer.status_code, answer.json()["field"]) == (415, "content-type")


def test_unknown_paths_and_methods(edge: Running):
    assert edge.post("/v1/nothing", {}).status_code == 404
    wrong = edge.client.delete("/v1/route")
    assert (wrong.status_code, wrong.headers["allow"]) == (405, "POST")
    assert edge.client.head("/health").status_code == 200


@pytest.mark.parametrize(
    ("kind", "status"), [("unavailable", 503), ("timeout", 504), ("rate_limited", 429), ("bad_response", 502)]
)
def test_a_failing_backend_has_its_own_status(kind: str, status: int):
    llm = RuvLLM(encoder="static", backends={"small": Writer(fails_after=0, fails_with=kind)})
    with serving(llm) as edge:
        answer = edge.post("/query", {"query": "hello"})
        assert (answer.status_code, answer.headers["retry-after"]) == (status, "7")
        chat = {"messages": [{"role": "user", "content": "hello"}], "stream": True}
        assert edge.post("/v1/chat/completions", chat).status_code == status
        assert f'ruvllm_backend_failures_total{{kind="{kind}"}} 2.0' in edge.get("/metrics").text


def test_garbage_on_the_wire_does_not_stop_it(edge: Running):
    for garbage in (b"\x16\x03\x01\x02\x00", b"GET\r\n\r\n", b"POST /v1/route HTTP/1.1\r\ncontent-length: -4\r\n\r\n"):
        with socket.create_connection(("127.0.0.1", edge.port), timeout=PATIENCE) as sock:
            sock.sendall(garbage)
            sock.shutdown(socket.SHUT_WR)
            sock.recv(1_000)
    assert edge.get("/health").status_code == 200


@pytest.mark.parametrize(
    "operation", [one for one in OPERATIONS if one.body not in (None, bytes)], ids=lambda one: one.path
)
def test_json_20_000_levels_deep_is_400_on_every_endpoint(edge: Running, operation: Operation):
    deep = "[" * 20_000 + "]" * 20_000
    path = operation.plain_path.format(id="a", name="a")
    for body in (
        deep,
        '{"a":' * 20_000,
        f'{{"text": {deep}}}',
        f'{{"unknown": {deep}, "text": "a"}}',
        f'["[", {deep}]',
    ):
        answer = edge.client.request(operation.method, path, content=body, headers=JSON)
        assert answer.status_code == 400
        assert "nested" in answer.text
    assert edge.get("/health").status_code == 200


@pytest.mark.parametrize("levels", [50, 20_000])
def test_texts_that_hold_deep_json_are_texts(edge: Running, levels: int):
    deep = "[" * levels + "]" * levels
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": deep}}
    turns = [{"role": "user", "content": deep}, {"role": "assistant", "content": None, "tool_calls": [call]}]
    assert edge.post("/v1/chat/completions", {"messages": turns}).status_code == 200
    assert edge.post("/v1/route", {"text": deep}).status_code == 200
    files = [
        {"path": f"a.{kind}", "text": text} for kind, text in (("json", deep), ("yaml", deep), ("toml", f"a={deep}"))
    ]
    answer = edge.client.put("/v1/agents", json={"files": files})
    assert answer.status_code == 200
    assert len(answer.json()["problems"]) == 3


def test_metadata_may_nest_but_not_for_ever(edge: Running):
    def nested(levels: int) -> dict:
        inner: dict = {}
        for _ in range(levels):
            inner = {"a": inner}
        return inner

    for levels, status in ((80, 200), (99, 400)):
        assert edge.post("/v1/sessions", {"metadata": nested(levels)}).status_code == status
        memories = [{"text": "a", "metadata": nested(levels - 2)}]
        assert edge.post("/v1/memory", {"memories": memories}).status_code == status


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/v1/chat/completions", "openai"),
        ("/v1/chat/completions/nothing", "openai"),
        ("/v1/models/nothing/at/all", "openai"),
        ("/v1/responses", "openai"),
        ("/v1/embeddings", "openai"),
        ("/v1/messages", "anthropic"),
        ("/v1/messages/count_tokens", "anthropic"),
        ("/v1/messages/batches", "anthropic"),
        ("/v1/route", "own"),
        ("/v1/nothing", "own"),
        ("/v1/message", "own"),
        ("/nothing", "own"),
    ],
)
def test_every_error_has_the_shape_of_its_paths_api(edge: Running, path: str, kind: str):
    wrong = {"host": "evil.example", "origin": "https://evil.example"}
    answers = [edge.client.request(method, path, json=[]) for method in ("POST", "PUT", "PATCH")]
    answers += [edge.client.post(path, json=[], headers={name: value}) for name, value in wrong.items()]
    assert {403, 421} <= {answer.status_code for answer in answers}
    with serving(RuvLLM(encoder="static"), api_keys=("rv-0123456789abcdefghijk",), until="/health") as guarded:
        answers.append(guarded.client.request("POST", path, json={}))
    for answer in answers:
        assert answer.status_code >= 400
        told = answer.json()
        if kind == "openai":
            assert set(told) == {"error"}
            assert {"message", "type", "param", "code"} <= set(told["error"])
        elif kind == "anthropic":
            assert (told["type"], set(told["error"]) >= {"type", "message"}) == ("error", True)
        else:
            assert answer.headers["content-type"] == "application/problem+json"
            assert told["status"] == answer.status_code


def test_a_full_server_says_so_in_the_shape_of_the_path(edge: Running, monkeypatch: pytest.MonkeyPatch):
    with serving(RuvLLM(encoder="static"), max_connections=1) as full:
        for path, key in (("/v1/models", "error"), ("/v1/messages", "error"), ("/v1/agents", "status")):
            answer = httpx.get(f"{full.url}{path}")  # a second connection
            assert answer.status_code in (503, 529)
            assert key in answer.json()
            assert "retry-after" in answer.headers


def test_a_model_whose_id_has_slashes(edge: Running):
    llm = RuvLLM(encoder="static", backends={"small": Writer(model="qwen/qwen3-4b/q8")})
    with serving(llm) as running:
        for path in ("/v1/models/qwen/qwen3-4b/q8", "/v1/models/qwen%2Fqwen3-4b%2Fq8"):
            assert running.get(path).json()["id"] == "qwen/qwen3-4b/q8"
        assert running.get("/v1/models/qwen/qwen3-4b").status_code == 404
        agent = {"name": "shop/baker", "description": "Bakes bread."}
        running.client.put("/v1/agents", json={"agents": [agent]})
        assert running.client.delete("/v1/agents/shop/baker").status_code == 200
        assert 'path="/v1/models/{id}"' in running.get("/metrics").text


def test_an_unforeseen_error_tells_nothing(edge: Running, monkeypatch: pytest.MonkeyPatch):
    def broken():
        raise RuntimeError("secret inside")

    monkeypatch.setattr(edge.llm, "stats", broken)
    answer = edge.get("/stats")
    assert answer.status_code == 500
    assert "secret" not in answer.text


def test_an_unknown_field_is_named_with_the_nearest_that_there_is(edge: Running):
    for path, body, field, near in (
        ("/v1/query", {"query": "hi", "sessionid": "a"}, "sessionid", "session_id"),
        ("/v1/query", {"query": "hi", "max_token": 4}, "max_token", "max_tokens"),
        ("/v1/route", {"text": "fix it", "tops": 2}, "tops", "top"),
        ("/v1/memory", {"memories": [{"text": "a", "kinds": "Fact"}]}, "memories[0].kinds", "kind"),
    ):
        answer = edge.post(path, body)
        assert (answer.status_code, answer.json()["field"]) == (422, field)
        assert f"did you mean {near}?" in answer.json()["fix"]
    said = edge.post("/v1/query", {"query": "hi", "zzzz": 1}).json()
    assert said["fix"].startswith("leave it out")
