"""Agents act through the server: calls of tools, images and all other fields, to servers of either API."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from anthropic import Anthropic
from conftest import Running, serving
from llm_server import Behaviour, Server, answer, events, stream
from openai import OpenAI
from test_backends import llm_server

from ruvllm import RuvLLM
from ruvllm.config import Config

ASK = "Write the notes into notes.txt"
CALL = {"path": "notes.txt", "text": "one\ntwo"}
OPENAI_TOOLS = [{"type": "function", "function": {"name": "write", "parameters": {"type": "object"}}}]
CLAUDE_TOOLS = [{"name": "write", "description": "writes a file", "input_schema": {"type": "object"}}]


def chat_chunk(delta: dict[str, Any], reason: str | None = None) -> dict[str, Any]:
    choice = {"index": 0, "delta": delta, "finish_reason": reason, "logprobs": None}
    return {"id": "chatcmpl-9", "object": "chat.completion.chunk", "created": 1, "model": "up", "choices": [choice]}


ARGUMENTS = json.dumps(CALL)
CHUNKS = [
    chat_chunk({"role": "assistant", "content": None}),
    chat_chunk({"content": "I write."}),
    chat_chunk({"tool_calls": [{"index": 0, "id": "c1", "type": "function",
                                "function": {"name": "write", "arguments": ""}}]}),
    *(chat_chunk({"tool_calls": [{"index": 0, "function": {"arguments": piece}}]})
      for piece in (ARGUMENTS[:7], ARGUMENTS[7:])),
    chat_chunk({}, "tool_calls"),
]  # fmt: skip
USED = {"prompt_tokens": 9, "completion_tokens": 4, "total_tokens": 13, "prompt_tokens_details": {"cached_tokens": 5}}
CALLED = {"id": "c1", "type": "function", "function": {"name": "write", "arguments": ARGUMENTS}}
WHOLE = {
    "id": "chatcmpl-9", "object": "chat.completion", "created": 1, "model": "up", "system_fingerprint": "fp",
    "choices": [{"index": 0, "finish_reason": "tool_calls", "logprobs": None,
                 "message": {"role": "assistant", "content": "I write.", "tool_calls": [CALLED]}}],
    "usage": USED,
}  # fmt: skip
MESSAGE = {
    "id": "msg_9", "type": "message", "role": "assistant", "model": "up", "stop_reason": "tool_use",
    "stop_sequence": None, "usage": {"input_tokens": 4, "cache_read_input_tokens": 5, "output_tokens": 4},
    "content": [{"type": "text", "text": "I write."}, {"type": "tool_use", "id": "c1", "name": "write", "input": CALL}],
}  # fmt: skip
EVENTS = [
    {"type": "message_start", "message": MESSAGE | {"content": [], "stop_reason": None}},
    {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "I write."}},
    {"type": "content_block_stop", "index": 0},
    {"type": "content_block_start", "index": 1,
     "content_block": {"type": "tool_use", "id": "c1", "name": "write", "input": {}}},
    {"type": "content_block_delta", "index": 1, "delta": {"type": "input_json_delta", "partial_json": ARGUMENTS}},
    {"type": "content_block_stop", "index": 1},
    {"type": "message_delta", "usage": {"output_tokens": 4},
     "delta": {"stop_reason": "tool_use", "stop_sequence": None}},
    {"type": "message_stop"},
]  # fmt: skip


def claude_stream(found: list[dict[str, Any]]) -> Behaviour:
    return stream(*(f"event: {one['type']}\ndata: {json.dumps(one)}\n\n".encode() for one in found))


SERVED = {
    ("openai", False): answer(200, WHOLE),
    ("openai", True): stream(events(*CHUNKS, {**chat_chunk({}), "choices": [], "usage": USED}, b"[DONE]")),
    ("anthropic", False): answer(200, MESSAGE),
    ("anthropic", True): claude_stream(EVENTS),
}


@contextmanager
def before(server: Server, kind: str = "openai", **more: Any) -> Iterator[Running]:
    tier = {"kind": kind, "url": server.url, "model": "up-1", "retries": 0, "api_key_env": "UP_KEY"} | more
    config = Config.from_dict({"inference": {"tiers": {"small": tier}}})
    with serving(RuvLLM(encoder="static", config=config)) as edge:
        yield edge


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UP_KEY", "secret-of-the-server")


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("upstream", ["openai", "anthropic"])
def test_openais_client_gets_the_calls_of_either_server(upstream: str, streamed: bool):
    turns = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": ASK},
                                     {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}]},
        {"role": "assistant", "content": None, "tool_calls": [CALLED]},
        {"role": "tool", "tool_call_id": "c1", "content": "no such folder"},
    ]  # fmt: skip
    with llm_server(SERVED[upstream, streamed]) as server, before(server, upstream) as edge:
        client = OpenAI(base_url=f"{edge.url}/v1", api_key="mine", max_retries=0)
        made = client.chat.completions.create(
            model="auto", messages=turns, tools=OPENAI_TOOLS, tool_choice="required", stream=streamed
        )
        if streamed:
            pieces = [one for one in made if one.choices]
            calls = [call for one in pieces for call in one.choices[0].delta.tool_calls or ()]
            assert (calls[0].id, calls[0].function.name) == ("c1", "write")
            assert json.loads("".join(call.function.arguments or "" for call in calls)) == CALL
            assert "".join(one.choices[0].delta.content or "" for one in pieces) == "I write."
            assert pieces[-1].choices[0].finish_reason == "tool_calls"
        else:
            choice = made.choices[0]
            assert (choice.finish_reason, choice.message.content) == ("tool_calls", "I write.")
            assert json.loads(choice.message.tool_calls[0].function.arguments) == CALL
            assert (made.usage.prompt_tokens, made.usage.prompt_tokens_details.cached_tokens) == (9, 5)
        (request,) = server.requests
        sent = request.body
    assert (sent["model"], sent["stream"]) == ("up-1", streamed)
    if upstream == "openai":
        assert (sent["messages"], sent["tools"], sent["tool_choice"]) == (turns, OPENAI_TOOLS, "required")
        assert request.headers["authorization"] == "Bearer secret-of-the-server"
    else:
        assert request.path == "/v1/messages"
        assert request.headers["x-api-key"] == "secret-of-the-server"
        assert sent["system"] == "Be brief."
        image = {"type": "base64", "media_type": "image/png", "data": "AAAA"}
        assert sent["messages"][0]["content"][1] == {"type": "image", "source": image}
        assert sent["messages"][1]["content"] == [{"type": "tool_use", "id": "c1", "name": "write", "input": CALL}]
        assert sent["messages"][2]["content"][0]["tool_use_id"] == "c1"
        assert (sent["tools"][0]["name"], sent["tool_choice"]) == ("write", {"type": "any"})


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("upstream", ["openai", "anthropic"])
def test_anthropics_client_gets_the_calls_of_either_server(upstream: str, streamed: bool):
    cached = {"cache_control": {"type": "ephemeral"}}
    turns = [
        {"role": "user", "content": [{"type": "text", "text": ASK, **cached}]},
        {"role": "assistant", "content": [{"type": "tool_use", "id": "c1", "name": "write", "input": CALL}]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "c1", "content": "no", "is_error": True}]},
    ]
    body = {
        "model": "claude-any", "max_tokens": 64, "messages": turns, "tools": CLAUDE_TOOLS,
        "system": [{"type": "text", "text": "Be brief.", **cached}], "metadata": {"user_id": "ada"},
    }  # fmt: skip
    beta = {"anthropic-beta": "fine-grained-tool-streaming-2025-05-14"}
    with llm_server(SERVED[upstream, streamed]) as server, before(server, upstream) as edge:
        client = Anthropic(base_url=edge.url, api_key="mine", max_retries=0)
        if streamed:
            with client.messages.stream(**body, extra_headers=beta) as got:
                message = got.get_final_message()
        else:
            message = client.messages.create(**body, extra_headers=beta)
        (request,) = server.requests
        sent = request.body
    text, call = message.content
    assert (text.text, call.id, call.name, call.input) == ("I write.", "c1", "write", CALL)
    assert (message.stop_reason, message.usage.cache_read_input_tokens) == ("tool_use", 5)
    if upstream == "anthropic":
        assert sent == body | {"model": "up-1", "stream": streamed}
        assert request.headers["anthropic-beta"] == beta["anthropic-beta"]
    else:
        assert [turn["role"] for turn in sent["messages"]] == ["system", "user", "assistant", "tool"]
        assert sent["messages"][2]["tool_calls"][0]["id"] == "c1"
        assert sent["messages"][3] == {"role": "tool", "tool_call_id": "c1", "content": "[error] no"}
        assert "anthropic-beta" not in request.headers


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("api", ["openai", "anthropic"])
def test_a_server_of_the_same_api_is_heard_word_for_word(api: str, streamed: bool):
    path = "/v1/chat/completions" if api == "openai" else "/v1/messages"
    tools = OPENAI_TOOLS if api == "openai" else CLAUDE_TOOLS
    options = {"stream_options": {"include_usage": True}} if api == "openai" and streamed else {}
    body = {"model": "auto", "max_tokens": 64, "messages": [{"role": "user", "content": ASK}], "tools": tools}
    body |= {"stream": streamed, "new_field": {"a": [1]}} | options
    with llm_server(SERVED[api, streamed]) as server:
        with before(server, api) as edge:
            through = edge.post(path, body)
            direct = edge.client.post(f"{server.url}{path.removeprefix('/v1')}", json=body)
        first, second = (request.body for request in server.requests)
        assert first == second | {"model": "up-1"}
    assert through.headers["content-type"].split(";")[0] == direct.headers["content-type"].split(";")[0]
    assert through.text == direct.text


def test_a_text_alone_backend_refuses_an_image_by_its_place():
    image = {"type": "image", "source": {"type": "url", "url": "https://example.com/a.png"}}
    body = {"max_tokens": 9, "messages": [{"role": "user", "content": [{"type": "text", "text": "what?"}, image]}]}
    with serving(RuvLLM(encoder="static")) as edge:
        found = edge.post("/v1/messages", body)
        assert (found.status_code, found.json()["error"]["field"]) == (400, "messages[0].content[1]")


@pytest.mark.parametrize("wrong", [{"source": 5}, {"source": {"type": "base64", "media_type": [], "data": {}}}, {}])
def test_a_part_of_a_wrong_shape_is_the_callers_own_mistake(wrong: dict[str, Any]):
    body = {"max_tokens": 9, "messages": [{"role": "user", "content": [{"type": "image", **wrong}, "text"]}]}
    body["messages"][0]["content"].pop()
    with llm_server(SERVED["openai", False]) as server, before(server) as edge:
        assert edge.post("/v1/messages", body).status_code in (200, 400)


@pytest.mark.parametrize(
    "said", [[], 5, {"choices": 5}, {"choices": [{"message": 7}]}, {"type": "message", "content": 3}]
)
@pytest.mark.parametrize("kind", ["openai", "anthropic"])
def test_an_answer_of_a_wrong_shape_is_the_servers_fault(kind: str, said: Any):
    body = {"max_tokens": 9, "messages": [{"role": "user", "content": ASK}]}
    with llm_server(answer(200, said)) as server, before(server, kind) as edge:
        assert edge.post("/v1/messages", body).status_code == 502


def turn(edge: Running, *turns: dict[str, Any]) -> str:
    body = {"model": "auto", "messages": list(turns), "user": "session-1"}
    return str(edge.post("/v1/chat/completions", body).headers["x-ruvllm-backend"])


def test_a_conversation_stays_while_tools_are_called_and_moves_up_at_a_harder_question():
    calls = answer(200, WHOLE)
    with llm_server(calls) as small, llm_server(calls) as large:
        tiers = {
            name: {
                "kind": "openai",
                "url": server.url,
                "model": name,
                "prompt_price": price,
                "cached_price": price / 10,
            }
            for name, server, price in (("small", small, 1.0), ("large", large, 5.0))
        }
        with serving(RuvLLM(encoder="static", config=Config.from_dict({"inference": {"tiers": tiers}}))) as edge:
            easy = {"role": "user", "content": "thanks, fix the typo in the readme"}
            hard = {"role": "user", "content": "design the security architecture of our distributed payment system"}
            called = {"role": "assistant", "content": None, "tool_calls": [CALLED]}
            result = {"role": "tool", "tool_call_id": "c1", "content": "design the architecture of everything"}
            first = turn(edge, easy)
            assert turn(edge, easy, called, result) == first  # whatever the tool said
            if first == "small":
                assert turn(edge, easy, called, result, {"role": "assistant", "content": "done"}, hard) == "large"
