"""From one API of LLMs to the other and back: nothing is lost, and what cannot be said is refused by its name."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ruvllm.errors import BackendError
from ruvllm.inference.translate.answers import ToAnthropic, ToOpenAi
from ruvllm.inference.translate.requests import to_anthropic, to_openai

WORDS = st.text("abc é😀\n", min_size=1, max_size=12).filter(str.strip)
GIVEN = st.dictionaries(WORDS, st.one_of(WORDS, st.integers(-5, 5), st.booleans(), st.none()), max_size=3)
SCHEMA = {"type": "object", "properties": {"path": {"type": "string"}}, "required": ["path"]}
IMAGE = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}}
LINK = {"type": "image", "source": {"type": "url", "url": "https://example.com/a.png"}}


@st.composite
def conversations(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Turns of Anthropic's API in the form that a translation back has: lists of blocks."""
    turns = [{"role": "user", "content": [{"type": "text", "text": draw(WORDS)}]}]
    for number in range(draw(st.integers(0, 3))):
        calls = [
            {"type": "tool_use", "id": f"t{number}-{i}", "name": draw(WORDS), "input": draw(GIVEN)}
            for i in range(draw(st.integers(1, 3)))
        ]
        said = [{"type": "text", "text": draw(WORDS)}] if draw(st.booleans()) else []
        turns.append({"role": "assistant", "content": [*said, *calls]})
        results = [
            {"type": "tool_result", "tool_use_id": call["id"], "content": draw(WORDS)}
            | ({"is_error": True} if draw(st.booleans()) else {})
            for call in calls
        ]
        more = draw(st.sampled_from([[], [{"type": "text", "text": "and now?"}], [IMAGE], [LINK]]))
        turns.append({"role": "user", "content": [*results, *more]})
    return turns


@given(conversations(), st.sampled_from(["auto", "any", "none", "tool"]), st.booleans())
def test_a_request_comes_back_as_it_was(turns: list[dict[str, Any]], choice: str, parallel: bool):
    tools = [{"name": "write", "description": "writes", "input_schema": SCHEMA}]
    chosen: dict[str, Any] = {"type": choice} | ({"name": "write"} if choice == "tool" else {})
    chosen |= {} if parallel else {"disable_parallel_tool_use": True}
    body = {
        "system": "Be brief.",
        "messages": turns,
        "max_tokens": 9,
        "tools": tools,
        "tool_choice": chosen,
        "temperature": 0.5,
        "stop_sequences": ["END"],
        "stream": True,
        "output_config": {"format": {"type": "json_schema", "schema": SCHEMA}},
    }
    assert to_anthropic(json.loads(json.dumps(to_openai(body)))) == body


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"mcp_servers": [{"url": "x"}]}, "mcp_servers"),
        ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "tools[0].type"),
        ({"messages": [{"role": "user", "content": [{"type": "search_result"}]}]}, "messages[0].content[0].type"),
        (
            {"messages": [{"role": "assistant", "content": [{"type": "server_tool_use"}]}]},
            "messages[0].content[0].type",
        ),
    ],
)
def test_what_openai_cannot_say_is_refused_by_name(change: dict[str, Any], name: str):
    with pytest.raises(BackendError) as caught:
        to_openai({"messages": [{"role": "user", "content": "hi"}], "max_tokens": 9} | change)
    assert caught.value.field.startswith(name)
    assert caught.value.status == 400


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"n": 2}, "n"),
        ({"logprobs": True}, "logprobs"),
        ({"modalities": ["audio"]}, "modalities"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"tools": [{"type": "custom", "custom": {"name": "x"}}]}, "tools[0].type"),
        ({"messages": [{"role": "user", "content": [{"type": "input_audio"}]}]}, "messages[0].content[0].type"),
    ],
)
def test_what_anthropic_cannot_say_is_refused_by_name(change: dict[str, Any], name: str):
    with pytest.raises(BackendError) as caught:
        to_anthropic({"messages": [{"role": "user", "content": "hi"}]} | change)
    assert caught.value.field.startswith(name)


ANSWER = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "claude",
    "content": [
        {"type": "thinking", "thinking": "hm", "signature": ""},
        {"type": "text", "text": "I write."},
        {"type": "tool_use", "id": "t1", "name": "write", "input": {"path": "a", "lines": ["x"]}},
        {"type": "tool_use", "id": "t2", "name": "ls", "input": {}},
    ],
    "stop_reason": "tool_use",
    "stop_sequence": None,
    "usage": {
        "input_tokens": 7,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 3,
        "output_tokens": 5,
    },
}


def test_a_whole_answer_comes_back_as_it_was():
    there = ToOpenAi().whole(ANSWER)
    assert there["choices"][0]["finish_reason"] == "tool_calls"
    assert there["usage"]["prompt_tokens"] == 10
    assert ToAnthropic("r").whole(there) == ANSWER


def events_of(message: dict[str, Any], piece: int) -> list[dict[str, Any]]:
    """As Anthropic streams a message, its texts in pieces of so many characters."""
    empty = message | {"content": [], "stop_reason": None, "usage": {"input_tokens": 7, "cache_read_input_tokens": 3}}
    out: list[dict[str, Any]] = [{"type": "message_start", "message": empty}, {"type": "ping"}]
    for i, block in enumerate(message["content"]):
        name, kind = {"text": ("text", "text_delta"), "thinking": ("thinking", "thinking_delta")}.get(
            block["type"], ("partial_json", "input_json_delta")
        )
        text = json.dumps(block["input"]) if block["type"] == "tool_use" else block[name]
        start = block | ({"input": {}} if block["type"] == "tool_use" else {name: ""})
        out.append({"type": "content_block_start", "index": i, "content_block": start})
        pieces = (text[at : at + piece] for at in range(0, len(text), piece))
        out += [{"type": "content_block_delta", "index": i, "delta": {"type": kind, name: one}} for one in pieces]
        out.append({"type": "content_block_stop", "index": i})
    end = {"stop_reason": message["stop_reason"], "stop_sequence": None}
    out.append({"type": "message_delta", "delta": end, "usage": {"output_tokens": 5}})
    return [*out, {"type": "message_stop"}]


def gathered(events: list[dict[str, Any]]) -> dict[str, Any]:
    """The message that a client makes of Anthropic's events."""
    message = dict(events[0]["message"])
    blocks, inputs = list[dict[str, Any]](), dict[int, str]()
    for event in events[1:]:
        if event["type"] == "content_block_start":
            assert event["index"] == len(blocks)
            blocks.append(dict(event["content_block"]))
        elif event["type"] == "content_block_delta":
            delta = event["delta"]
            if delta["type"] == "input_json_delta":
                inputs[event["index"]] = inputs.get(event["index"], "") + delta["partial_json"]
            else:
                name = delta["type"].removesuffix("_delta")
                blocks[event["index"]][name] += delta[name]
        elif event["type"] == "message_delta":
            message |= {**event["delta"], "usage": event["usage"]}
    for index, text in inputs.items():
        blocks[index]["input"] = json.loads(text)
    return message | {"content": blocks}


@pytest.mark.parametrize("piece", [1, 3, 1_000])
def test_an_answer_in_events_comes_back_as_it_was(piece: int):
    there, back = ToOpenAi(), ToAnthropic("r")
    chunks = [chunk for event in events_of(ANSWER, piece) for chunk in there.feed(event)]
    events = [event for chunk in chunks for event in back.feed(chunk)] + back.close()
    assert gathered(events) == ANSWER
    assert [event["type"] for event in events][-2:] == ["message_delta", "message_stop"]
    starts = [event["index"] for event in events if event["type"] == "content_block_start"]
    assert starts == [event["index"] for event in events if event["type"] == "content_block_stop"]


def test_a_call_without_a_name_of_its_own_gets_one():
    back = ToAnthropic("r")
    calls = [{"index": 0, "function": {"name": "ls", "arguments": "{}"}}]
    events = back.feed({"choices": [{"delta": {"tool_calls": calls}}]}) + back.close()
    (block,) = (event["content_block"] for event in events if event["type"] == "content_block_start")
    assert block["id"].startswith("toolu_")
