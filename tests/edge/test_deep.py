"""Questions that are answered part by part, over HTTP."""

from __future__ import annotations

import json
from typing import Any

import pytest
from conftest import Running, Writer, serving

from ruvllm import RuvLLM

QUERY = "When is the staging database reset and when is production backed up?"
MEMORIES = [{"text": "The staging database is reset every Monday."}, {"text": "Production is backed up every night."}]


@pytest.mark.parametrize("path", ["/query", "/v1/query"])
def test_without_a_model_each_part_is_answered_from_memory(path: str):
    with serving(RuvLLM(encoder="static")) as edge:
        edge.post("/v1/memory", {"memories": MEMORIES})
        answer = edge.post(path, {"query": QUERY, "deep": True})
        told = answer.json()
        assert answer.status_code == 200
        assert all(word in told["text"] for word in ("Monday", "night", "[1]", "[2]"))
        assert [bool(part["text"]) for part in told["findings"]] == [True, True]
        assert {source["text"] for source in told["sources"]} == {row["text"] for row in MEMORIES}
        assert (told["unanswered"], told["calls"], told["usage"]["completion_tokens"]) == ([], 0, 0)
        assert 0 < told["quality"] <= 1


def test_a_model_answers_the_parts_and_puts_them_together_within_the_limits(edge: Running, writer: Writer):
    edge.post("/v1/memory", {"memories": MEMORIES})
    limits = {"max_tokens": 100, "temperature": 0.5, "max_latency_ms": 60_000}
    told = edge.post("/v1/query", {"query": QUERY, "deep": True} | limits).json()
    assert told["calls"] == len(writer.asked) == 3
    assert told["usage"]["prompt_tokens"] > 0
    assert {params.temperature for params in writer.params} == {0.5}
    assert max(params.max_tokens or 0 for params in writer.params) <= 100
    assert 'ruvllm_tokens_total{backend="writer",kind="prompt"}' in edge.get("/metrics").text


@pytest.mark.parametrize(
    ("field", "value"),
    [("top_p", 0.5), ("seed", 3), ("session_id", "sess-1"), ("force_model", "writer"), ("force_context", 512),
     ("max_tokens", 5), ("temperature", 3), ("max_latency_ms", 0)],
)  # fmt: skip
def test_what_the_parts_of_a_query_do_not_know_is_refused_by_name(edge: Running, field: str, value: object):
    answer = edge.post("/v1/query", {"query": QUERY, "deep": True, field: value})
    assert (answer.status_code, answer.json()["field"]) == (422, field)
    assert answer.json()["fix"]


def events_of(edge: Running, body: dict[str, Any]) -> list[tuple[str, Any]]:
    with edge.client.stream("POST", "/v1/query", json=body) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        found = [event.split("\ndata: ", 1) for event in "".join(answer.iter_text()).split("\n\n") if event]
    return [(name.removeprefix("event: "), json.loads(data)) for name, data in found]


def test_the_answers_to_the_parts_come_before_what_is_made_of_them(edge: Running, writer: Writer):
    edge.post("/v1/memory", {"memories": MEMORIES})
    writer.asked.clear()
    events = events_of(edge, {"query": QUERY, "deep": True, "stream": True})
    names = [name for name, _ in events]
    assert names[:3] == ["planned", "answered", "answered"]
    assert (names[-1], set(names[3:-1])) == ("answer", {"delta"})
    answer = events[-1][1]
    assert [part["text"] for part in events[0][1]["plan"]["parts"]] == [row["query"] for row in answer["findings"]]
    assert {row["finding"]["query"] for name, row in events if name == "answered"} == {
        row["query"] for row in answer["findings"]
    }
    text = ""
    for name, row in events:
        if name == "delta":
            text = row["text"] if row["restart"] else text + row["text"]
    assert text.strip()
    assert text.split() == answer["text"].split()


def test_a_part_arrives_while_another_is_still_waited_for():
    writer = Writer(held_after=0)
    with serving(RuvLLM(encoder="static", backends={"small": writer})) as edge:
        edge.post("/v1/memory", {"memories": MEMORIES})
        body = {"query": QUERY, "deep": True, "stream": True}
        with edge.client.stream("POST", "/v1/query", json=body) as answer:
            lines = answer.iter_lines()
            assert next(lines) == "event: planned"  # no part has its answer yet
            writer.go.set()
            assert [line for line in lines if line.startswith("event:")][-1] == "event: answer"


def test_a_stream_of_what_is_not_deep_is_refused_and_a_bad_limit_has_a_status(edge: Running):
    refused = edge.post("/v1/query", {"query": QUERY, "stream": True})
    assert (refused.status_code, refused.json()["field"]) == (422, "stream")
    refused = edge.post("/v1/query", {"query": QUERY, "deep": True, "stream": True, "temperature": 9})
    assert (refused.status_code, refused.json()["field"]) == (422, "temperature")


def test_it_is_answered_from_a_text_within_its_settings(edge: Running, writer: Writer):
    body = {"query": "Who keeps the lighthouse?", "deep": True, "context": "Mia Stone keeps the lighthouse."}
    answer = edge.post("/v1/query", body | {"settings": {"max_depth": 0}}).json()
    assert answer["depth"] == 0
    assert any("Mia Stone" in message.content for message in writer.asked[-1])
