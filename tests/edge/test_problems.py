"""Whatever is sent, the answer names the field and the fix, and is never a 5xx."""

from __future__ import annotations

import socket

import pytest
from conftest import Running, Writer, serving
from waiting import PATIENCE

from ruvllm import RuvLLM

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
        (b'{"text": "\\ud800"}', 400, "body"),
        (b"[" * 100_000, 422, "body"),
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
        ("/query", {"query": "a", "session_id": "none"}, "session"),
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


def test_an_unforeseen_error_tells_nothing(edge: Running, monkeypatch: pytest.MonkeyPatch):
    def broken():
        raise RuntimeError("secret inside")

    monkeypatch.setattr(edge.llm, "stats", broken)
    answer = edge.get("/stats")
    assert answer.status_code == 500
    assert "secret" not in answer.text
