"""The messages API as Claude Code speaks it."""

from __future__ import annotations

import json

import pytest
from conftest import Running, Writer, serving

from ruvllm import RuvLLM

ASKED = {"model": "claude-sonnet-4", "max_tokens": 64, "messages": [{"role": "user", "content": "say two words"}]}


def events(text: str) -> list[tuple[str, dict]]:
    found = []
    for block in text.strip().split("\n\n"):
        kind, data = block.split("\n")
        found.append((kind.removeprefix("event: "), json.loads(data.removeprefix("data: "))))
    return found


def test_a_whole_answer(edge: Running, writer: Writer):
    answer = edge.post("/v1/messages", ASKED | {"system": "Be brief.", "stop_sequences": ["END"]})
    told = answer.json()
    assert (told["type"], told["role"], told["stop_reason"]) == ("message", "assistant", "end_turn")
    assert told["content"] == [{"type": "text", "text": "say two words "}]
    assert told["usage"]["input_tokens"] > 0
    assert answer.headers["x-ruvllm-backend"] == "writer"
    assert (writer.asked[-1][0].role, writer.asked[-1][0].content) == ("system", "Be brief.")
    assert writer.params[-1].stop == ("END",)


def test_a_stream_has_the_events_in_their_order(edge: Running):
    got = events(edge.post("/v1/messages", ASKED | {"stream": True}).text)
    kinds = [kind for kind, _ in got]
    assert kinds == [
        "message_start", "content_block_start", "ping", *["content_block_delta"] * 3,
        "content_block_stop", "message_delta", "message_stop",
    ]  # fmt: skip
    assert all(data["type"] == kind for kind, data in got)
    assert got[0][1]["message"]["content"] == []
    assert next(data["delta"] for kind, data in got if kind == "content_block_delta") == {
        "type": "text_delta",
        "text": "say ",
    }
    assert got[-2][1]["delta"]["stop_reason"] == "end_turn"
    assert got[-2][1]["usage"]["output_tokens"] > 0


def test_blocks_of_tools_are_read_as_text(edge: Running, writer: Writer):
    turns = [
        {
            "role": "user",
            "content": [{"type": "text", "text": "list the files", "cache_control": {"type": "ephemeral"}}],
        },
        {"role": "assistant", "content": [{"type": "tool_use", "id": "t", "name": "ls", "input": {"path": "."}}]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": "a.py"}]},
    ]
    unused = {"tools": [{"name": "ls", "input_schema": {"type": "object"}}], "tool_choice": {"type": "none"}}
    answer = edge.post("/v1/messages", {"model": "auto", "max_tokens": 9, "messages": turns} | unused)
    assert answer.headers["x-ruvllm-ignored"] == "tools"
    said = [one.content for one in writer.asked[-1]]
    assert said == ["list the files", '[called ls: {"path":"."}]', "[result: a.py]"]


def test_optional_fields_may_be_null(edge: Running):
    names = ("stop_sequences", "stream", "system", "temperature", "top_p", "tools", "tool_choice", "metadata")
    answer = edge.post("/v1/messages", ASKED | dict.fromkeys(names))
    assert (answer.status_code, answer.json()["stop_reason"]) == (200, "end_turn")
    assert "x-ruvllm-ignored" not in answer.headers


def test_fields_without_effect_are_listed(edge: Running):
    unread = {"metadata": {"user_id": "ada"}, "thinking": {"type": "disabled"}, "top_k": 5}
    for stream in (False, True):
        answer = edge.post("/v1/messages", ASKED | unread | {"stream": stream})
        assert (answer.status_code, answer.headers["x-ruvllm-ignored"]) == (200, "metadata, thinking, top_k")


def test_tokens_are_counted(edge: Running):
    few, many = (
        edge.post("/v1/messages/count_tokens", {"messages": [{"role": "user", "content": "word " * n}]}).json()
        for n in (10, 1_000)
    )
    assert 0 < few["input_tokens"] < many["input_tokens"]


@pytest.mark.parametrize(
    ("change", "status", "kind", "field"),
    [
        ({"max_tokens": None}, 400, "invalid_request_error", "max_tokens"),
        ({"model": "llama"}, 404, "not_found_error", "model"),
        ({"tool_choice": {"type": "any"}}, 400, "invalid_request_error", "tool_choice"),
        ({"tools": [{"name": "ls", "input_schema": {"type": "object"}}]}, 400, "invalid_request_error", "tools"),
        ({"output_config": {"format": {"type": "json_schema"}}}, 400, "invalid_request_error", "output_config"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image", "source": {}}]}]},
            400,
            "invalid_request_error",
            "messages[0].content[0]",
        ),
    ],
)
def test_mistakes_look_like_anthropics(edge: Running, change: dict, status: int, kind: str, field: str):
    answer = edge.post("/v1/messages", ASKED | change)
    told = answer.json()
    assert (answer.status_code, told["type"]) == (status, "error")
    assert (told["error"]["type"], told["error"]["field"]) == (kind, field)


def test_a_failure_in_the_middle_is_an_event():
    with serving(RuvLLM(encoder="static", backends={"small": Writer(fails_after=1)})) as edge:
        got = events(edge.post("/v1/messages", ASKED | {"stream": True}).text)
        assert got[-1][0] == "error"
        assert got[-1][1]["error"]["type"] == "overloaded_error"
        assert "message_stop" not in [kind for kind, _ in got]
