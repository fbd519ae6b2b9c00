"""Requests as agents' programs make them: the same answer and events through the server as directly, diffed.

tests/data/wire/requests.json has the fields, headers and order of turns that these programs send, in words of our own.
They were seen of the programs themselves, run without a screen before a scripted server that called a tool:

| program | version |
|---|---|
| Claude Code | npm @anthropic-ai/claude-code 2.1.197 |
| Codex | npm @openai/codex 0.171.0 |
| Continue | npm @continuedev/cli 1.5.47 |
| AI SDK | npm ai 6.0.326, @ai-sdk/openai 3.0.141, @ai-sdk/anthropic 3.0.140 |
| LangChain | PyPI langchain-openai 1.7.4 (openai 3.57.0), langchain-anthropic 1.7.10 (anthropic 2.14.0) |
| Aider | PyPI aider-chat 0.86.2 (openai 2.20.0) |
| Open WebUI | not run: as its API is known to be |
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from conftest import Running, serving
from llm_server import Server, answer, stream
from test_backends import llm_server

from ruvllm import RuvLLM
from ruvllm.config import Config

REQUESTS = json.loads((Path(__file__).parents[1] / "data" / "wire" / "requests.json").read_text("utf-8"))
CHAT, MESSAGES, RESPONSES = "/v1/chat/completions", "/v1/messages", "/v1/responses"
OPENAI, ANTHROPIC = "openai", "anthropic"
DIALECT = {CHAT: OPENAI, MESSAGES: ANTHROPIC, RESPONSES: "responses"}


@dataclass(frozen=True)
class Said:
    """What a model says, in no API's words."""

    text: str = ""
    thought: str = ""
    calls: tuple[tuple[str, str, str], ...] = ()  # (id, name, arguments)


SAYINGS = {
    "text": Said("Closed, and it says so. ⚓"),
    "call": Said("I look.", calls=(("call_1", "read_note", '{"name":"tides"}'),)),
    "calls": Said(
        thought="Both at once.",
        calls=(("call_1", "read_note", '{"name":"tides"}'), ("call_2", "write_note", '{"name":"ö","text":"a\\"b"}')),
    ),
}
READ, CACHED, WRITTEN = 9, 5, 4  # tokens


def halves(text: str) -> tuple[str, str]:
    return text[: len(text) // 2], text[len(text) // 2 :]


def as_openai(said: Said, streamed: bool, usage: bool) -> Any:
    used = {"prompt_tokens": READ, "completion_tokens": WRITTEN, "total_tokens": READ + WRITTEN,
            "prompt_tokens_details": {"cached_tokens": CACHED}}  # fmt: skip
    reason = "tool_calls" if said.calls else "stop"
    calls = [
        {"index": i, "id": name, "type": "function", "function": {"name": tool, "arguments": given}}
        for i, (name, tool, given) in enumerate(said.calls)
    ]
    about = {"id": "chatcmpl-1", "created": 1, "model": "up-1", "system_fingerprint": "fp", "service_tier": "default"}
    message = {"role": "assistant", "content": said.text or None}
    if said.thought:
        message["reasoning_content"] = said.thought
    if not streamed:
        message |= {"tool_calls": [{k: v for k, v in call.items() if k != "index"} for call in calls]} if calls else {}
        choice = {"index": 0, "message": message, "finish_reason": reason}
        return about | {"object": "chat.completion", "choices": [choice], "usage": used}
    deltas: list[dict[str, Any]] = [{"role": "assistant", "content": ""}]
    deltas += [{"reasoning_content": piece} for piece in halves(said.thought) if piece]
    deltas += [{"content": piece} for piece in halves(said.text) if piece]
    for call in calls:
        deltas.append({"tool_calls": [call | {"function": call["function"] | {"arguments": ""}}]})
        pieces = halves(call["function"]["arguments"])
        deltas += [{"tool_calls": [{"index": call["index"], "function": {"arguments": one}}]} for one in pieces]
    chunks = [{"choices": [{"index": 0, "delta": delta, "finish_reason": None}]} for delta in deltas]
    chunks.append({"choices": [{"index": 0, "delta": {}, "finish_reason": reason}]})
    chunks += [{"choices": [], "usage": used}] if usage else []
    return [about | {"object": "chat.completion.chunk"} | one for one in chunks] + ["[DONE]"]


def as_anthropic(said: Said, streamed: bool, usage: bool) -> Any:
    blocks: list[dict[str, Any]] = []
    blocks += [{"type": "thinking", "thinking": said.thought, "signature": "c2ln"}] if said.thought else []
    blocks += [{"type": "text", "text": said.text}] if said.text else []
    blocks += [{"type": "tool_use", "id": i, "name": name, "input": json.loads(given)} for i, name, given in said.calls]
    used = {"input_tokens": READ - CACHED, "cache_read_input_tokens": CACHED, "output_tokens": WRITTEN}
    end = {"stop_reason": "tool_use" if said.calls else "end_turn", "stop_sequence": None}
    about = {"id": "msg_1", "type": "message", "role": "assistant", "model": "up-1", "container": None}
    if not streamed:
        return about | {"content": blocks, "usage": used} | end
    empty = {"content": [], "stop_reason": None, "stop_sequence": None, "usage": used | {"output_tokens": 1}}
    out: list[dict[str, Any]] = [{"type": "message_start", "message": about | empty}, {"type": "ping"}]
    for i, block in enumerate(blocks):
        kind = block["type"]
        begun = {"thinking": {"thinking": "", "signature": ""}, "text": {"text": ""}, "tool_use": {"input": {}}}[kind]
        out.append({"type": "content_block_start", "index": i, "content_block": block | begun})
        if kind == "tool_use":
            deltas = [
                {"type": "input_json_delta", "partial_json": one}
                for one in halves(json.dumps(block["input"], ensure_ascii=False))
            ]
        else:
            deltas = [{"type": f"{kind}_delta", kind: one} for one in halves(block[kind])]
            deltas += [{"type": "signature_delta", "signature": "c2ln"}] if kind == "thinking" else []
        out += [{"type": "content_block_delta", "index": i, "delta": one} for one in deltas]
        out.append({"type": "content_block_stop", "index": i})
    return [*out, {"type": "message_delta", "delta": end, "usage": used}, {"type": "message_stop"}]


def as_responses(said: Said, streamed: bool, usage: bool) -> Any:
    output: list[dict[str, Any]] = []
    if said.thought:
        summary = [{"type": "summary_text", "text": said.thought}]
        output.append({"type": "reasoning", "id": "rs_1", "summary": summary})
    if said.text:
        content = [{"type": "output_text", "text": said.text, "annotations": []}]
        output.append(
            {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "content": content}
        )
    output += [
        {"type": "function_call", "id": f"fc_{i}", "call_id": i, "name": name, "arguments": given}
        for i, name, given in said.calls
    ]
    used = {"input_tokens": READ, "output_tokens": WRITTEN, "input_tokens_details": {"cached_tokens": CACHED}}
    whole = {
        "id": "resp_1",
        "object": "response",
        "status": "completed",
        "model": "up",
        "output": output,
        "usage": used,
    }
    return [{"type": "response.completed", "response": whole}] if streamed else whole


WORDS = {OPENAI: as_openai, ANTHROPIC: as_anthropic, "responses": as_responses}


def read_answer(dialect: str, found: Any) -> dict[str, Any]:
    """What a whole answer, or its events, say in no API's words."""
    if dialect == OPENAI:
        return _read_openai([found] if isinstance(found, dict) else found)
    if dialect == ANTHROPIC:
        return _read_anthropic(found if isinstance(found, dict) else _joined(found))
    found = found if isinstance(found, dict) else found[-1]["response"]
    out = [item for item in found["output"] if item["type"] == "function_call"]
    texts = [part["text"] for item in found["output"] for part in item.get("content") or () if "text" in part]
    thoughts = [part["text"] for item in found["output"] for part in item.get("summary") or ()]
    thoughts = thoughts or [part["text"] for item in found["output"] if item["type"] == "reasoning"
                            for part in item.get("content") or ()]  # fmt: skip
    used = found["usage"]
    tokens = used["input_tokens"], used["input_tokens_details"]["cached_tokens"], used["output_tokens"]
    calls = [(item["call_id"], item["name"], json.loads(item["arguments"])) for item in out]
    texts = [text for text in texts if text not in thoughts]
    return _meaning("".join(texts), "".join(thoughts), calls, bool(calls), tokens)


def _meaning(text: str, thought: str, calls: Any, called: bool, tokens: Any) -> dict[str, Any]:
    return {"text": text, "thought": thought, "calls": list(calls), "calls tools": called, "tokens": tokens}


def _read_openai(found: list[dict[str, Any]]) -> dict[str, Any]:
    text = thought = reason = ""
    calls: dict[int, list[str]] = {}
    tokens = None
    for one in found:
        for choice in one["choices"]:
            said = choice.get("message") or choice.get("delta") or {}
            text += said.get("content") or ""
            thought += said.get("reasoning_content") or ""
            reason = choice["finish_reason"] or reason
            for place, call in enumerate(said.get("tool_calls") or ()):
                parts = calls.setdefault(call.get("index", place), ["", "", ""])
                function = call["function"]
                for i, piece in enumerate((call.get("id"), function.get("name"), function.get("arguments"))):
                    parts[i] += piece or ""
        if used := one.get("usage"):
            cached = used["prompt_tokens_details"]["cached_tokens"]
            tokens = used["prompt_tokens"], cached, used["completion_tokens"]
    read = [(name, tool, json.loads(given)) for name, tool, given in calls.values()]
    return _meaning(text, thought, read, reason == "tool_calls", tokens)


def _joined(found: list[dict[str, Any]]) -> dict[str, Any]:
    """The message that its events make."""
    message: dict[str, Any] = {}
    for one in found:
        kind = one["type"]
        if kind == "message_start":
            message = one["message"]
        elif kind == "content_block_start":
            message["content"].append(one["content_block"] | {"json": ""})
        elif kind == "content_block_delta":
            block, delta = message["content"][one["index"]], one["delta"]
            for name, into in (("text", "text"), ("thinking", "thinking"), ("partial_json", "json")):
                block[into] = block.get(into, "") + delta.get(name, "")
        elif kind == "message_delta":
            message |= one["delta"]
            message["usage"] = message["usage"] | one["usage"]
    for block in message["content"]:
        given = block.pop("json", "")
        block["input"] = json.loads(given) if given else block.get("input")
    return message


def _read_anthropic(found: dict[str, Any]) -> dict[str, Any]:
    blocks, used = found["content"], found["usage"]
    cached = used["cache_read_input_tokens"]
    return _meaning(
        "".join(one["text"] for one in blocks if one["type"] == "text"),
        "".join(one["thinking"] for one in blocks if one["type"] == "thinking"),
        [(one["id"], one["name"], one["input"]) for one in blocks if one["type"] == "tool_use"],
        found["stop_reason"] == "tool_use",
        (used["input_tokens"] + cached, cached, used["output_tokens"]),
    )


def read_request(dialect: str, body: dict[str, Any]) -> dict[str, Any]:
    """What a request says in no API's words: instructions, turns, tools."""
    system = body.get("system") or ""
    turns = body.get("messages") or body.get("input")
    rows: list[tuple[Any, ...]] = [("system", one) for one in _texts(system)]
    for turn in turns:
        rows += _rows(turn)
    joined: list[list[Any]] = []
    for kind, *rest in rows:  # texts beside each other may be one
        if joined and joined[-1][0] == kind and kind in ("user", "assistant", "system"):
            joined[-1][1] += "\n" + rest[0]
        else:
            joined.append([kind, *rest])
    tools = [one.get("function") or one for one in body.get("tools") or ()]
    return {
        "system": "\n".join(text for kind, text, *_ in rows if kind == "system").split(),
        "turns": [[kind, *(part.split() if isinstance(part, str) else part for part in rest)]
                  for kind, *rest in joined if kind != "system" and rest != [""]],
        "tools": [(one["name"], one["description"], one.get("parameters") or one["input_schema"]) for one in tools],
        "form": _form(body),
        "sampling": {name: body[name] for name in ("temperature", "top_p") if name in body},
    }  # fmt: skip


def _form(body: dict[str, Any]) -> Any:
    """The JSON schema that an answer shall have."""
    theirs = (body.get("output_config") or {}).get("format")
    return theirs["schema"] if theirs else ((body.get("response_format") or {}).get("json_schema") or {}).get("schema")


def _texts(content: Any) -> list[str]:
    if isinstance(content, str):
        return [content] if content else []
    return [part["text"] for part in content or () if "text" in part]


def _rows(turn: dict[str, Any]) -> Iterator[tuple[Any, ...]]:
    role, content = turn.get("role"), turn.get("content")
    if turn.get("type") == "function_call":
        yield "call", turn["call_id"], turn["name"], json.loads(turn["arguments"])
    elif turn.get("type") == "function_call_output":
        yield "result", turn["call_id"], turn["output"]
    elif role == "tool":
        yield "result", turn["tool_call_id"], content
    elif role in ("system", "developer"):
        yield from (("system", text) for text in _texts(content))
    else:
        for part in [{"type": "text", "text": content}] if isinstance(content, str) else content or ():
            if part["type"] == "tool_result":
                yield "result", part["tool_use_id"], "".join(_texts(part["content"]))
            elif part["type"] == "tool_use":
                yield "call", part["id"], part["name"], part["input"]
            elif part["type"] == "image_url":
                yield "image", part["image_url"]["url"].rpartition(",")[2]
            elif part["type"] == "image":
                yield "image", part["source"]["data"]
            elif part["text"]:
                yield role, part["text"]
        for call in turn.get("tool_calls") or ():
            yield "call", call["id"], call["function"]["name"], json.loads(call["function"]["arguments"])


@dataclass
class Scripted:
    """A server of all three APIs, and one of ruvllm before it for each kind of tier."""

    server: Server
    edges: dict[str, Running]
    said: Said = SAYINGS["text"]


@pytest.fixture(scope="module")
def scripted() -> Iterator[Scripted]:
    held: list[Scripted] = []

    async def behave(reader: Any, writer: Any) -> None:
        request = held[0].server.requests[-1]
        dialect, streamed = DIALECT[request.path.partition("?")[0]], bool(request.body.get("stream"))
        usage = bool((request.body.get("stream_options") or {}).get("include_usage"))
        made = WORDS[dialect](held[0].said, streamed, usage)
        if not streamed:
            await answer(200, made)(reader, writer)
            return
        await stream(*(_event(dialect, one) for one in made))(reader, writer)

    with ExitStack() as stack:
        server = stack.enter_context(llm_server(behave))
        held.append(Scripted(server, {}))
        for kind in (OPENAI, ANTHROPIC):
            tiers = {"small": {"kind": kind, "url": server.url, "model": "up-1", "retries": 0}}
            config = Config.from_dict({"inference": {"tiers": tiers}})
            held[0].edges[kind] = stack.enter_context(serving(RuvLLM(encoder="static", config=config)))
        yield held[0]


def _event(dialect: str, one: Any) -> bytes:
    if dialect == OPENAI:
        return b"data: %s\n\n" % (one if isinstance(one, str) else json.dumps(one)).encode()
    return b"event: %s\ndata: %s\n\n" % (one["type"].encode(), json.dumps(one).encode())


def found_in(response: httpx.Response, streamed: bool) -> Any:
    if not streamed:
        return response.json()
    data = [line.removeprefix("data: ") for line in response.text.splitlines() if line.startswith("data: ")]
    return [json.loads(one) for one in data if one != "[DONE]"]


@pytest.mark.parametrize("tier", [OPENAI, ANTHROPIC])
@pytest.mark.parametrize("sent", REQUESTS, ids=[one["client"] for one in REQUESTS])
def test_a_program_gets_through_the_server_what_it_gets_directly(sent: Any, tier: str, scripted: Scripted):
    server, edge, body = scripted.server, scripted.edges[tier], sent["body"]
    dialect, streamed = DIALECT[sent["path"].partition("?")[0]], bool(body.get("stream"))
    headers, direct = sent["headers"] | {"authorization": "Bearer -"}, server.url.removesuffix("/v1")
    for said in SAYINGS.values() if body.get("tools") else [SAYINGS["text"]]:
        scripted.said = said
        plain = httpx.post(direct + sent["path"], json=body, headers=headers)
        through = edge.post(sent["path"], body, headers=headers)
        assert through.status_code == plain.status_code == 200, through.text
        first, second = server.requests[-2:]
        if tier == dialect:
            assert through.content == plain.content
            given = first.body | {"model": "up-1", "stream": streamed}
            if streamed and tier == OPENAI:  # what is used is always asked for
                given["stream_options"] = {"include_usage": True}
            assert second.body == given
            assert (second.method, second.path.partition("?")[0]) == (first.method, first.path.partition("?")[0])
            for name in ("anthropic-beta", "anthropic-version"):
                assert second.headers.get(name) == first.headers.get(name)
        mine, theirs = (read_answer(dialect, found_in(one, streamed)) for one in (through, plain))
        assert mine == theirs
        assert read_request(tier, second.body) == read_request(dialect, first.body)


def test_every_program_is_there():
    clients = " ".join(one["client"] for one in REQUESTS)
    names = (
        "Claude Code",
        "Codex",
        "Continue",
        "Aider",
        "Open WebUI",
        "langchain-openai",
        "langchain-anthropic",
        "AI SDK",
    )
    assert [name for name in names if name not in clients] == []
