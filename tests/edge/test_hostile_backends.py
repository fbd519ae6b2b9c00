"""LLM servers that break off, send garbage or never end in the middle of a stream: each API's own error, and no end."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from conftest import Running, serving
from llm_server import Behaviour, Server, chunk, events, hold, stream
from test_backends import llm_server
from test_tools import CHUNKS, EVENTS, claude_stream
from waiting import patiently

from ruvllm import RuvLLM
from ruvllm.config import Config
from ruvllm.inference import chat_wire, openai_http

ASK = "When does the ferry leave?"
TURNS = [{"role": "user", "content": ASK}]
TOOLS = [{"type": "function", "function": {"name": "write", "parameters": {"type": "object"}}}]
WHERE: dict[str, tuple[dict[str, Any], str, str]] = {  # path: body, what an end says, what an error says
    "/v1/chat/completions": ({"messages": TURNS, "tools": TOOLS}, "[DONE]", '"error":{"message"'),
    "/v1/messages": ({"messages": TURNS, "max_tokens": 9}, "message_stop", "event: error"),
    "/v1/responses": ({"input": ASK}, "response.completed", "response.failed"),
    "/v1/completions": ({"prompt": ASK}, "[DONE]", '"error":{"message"'),
    "/api/chat": ({"messages": TURNS}, '"done":true', '{"error":'),
}
BEGUN, CLAUDE = events(chunk("at ")), [f"event: {one['type']}\ndata: {json.dumps(one)}\n\n".encode() for one in EVENTS]
CALLED = events(*CHUNKS[:4])  # the name of a tool and half of what it is given
BROKEN: dict[str, tuple[str, Behaviour]] = {
    "garbage": ("openai", stream(BEGUN, b"data: {nonsense\n\n")),
    "another API's event": ("openai", stream(BEGUN, events({"hello": "world"}))),
    "a cut event": ("openai", stream(BEGUN, b'data: {"choices": [{"del', finish=False)),
    "an end of HTTP before its own": ("openai", stream(BEGUN)),
    "dead in a tool's call": ("openai", stream(CALLED, finish=False)),
    "an error of its own in a tool's call": (
        "openai",
        stream(CALLED, events({"error": {"code": 500, "message": "x"}})),
    ),
    "an event without end": ("openai", stream(BEGUN, *[b"data: " + b"x" * 4_000] * 9)),
    "events without end": ("openai", stream(*[BEGUN] * 2_000)),
    "claude: dead in a tool's call": ("anthropic", stream(*CLAUDE[:6], finish=False)),
    "claude: garbage": ("anthropic", stream(*CLAUDE[:3], b"event: x\ndata: ]\n\n")),
    "claude: an error of its own": (
        "anthropic",
        claude_stream([*EVENTS[:3], {"type": "error", "error": {"type": "api_error"}}]),
    ),
}
WELL = {"openai": stream(events(chunk("at noon"), chunk(finish_reason="stop"), b"[DONE]")),
        "anthropic": claude_stream([*EVENTS[:4], *EVENTS[-2:]])}  # fmt: skip


@pytest.fixture(scope="module")
def fronts() -> Iterator[dict[str, tuple[Server, Running]]]:
    """A backend of each API, with a server of ruvllm before it."""
    with ExitStack() as stack:
        found = {}
        for kind, well in WELL.items():
            server = stack.enter_context(llm_server(well))
            tier = {"kind": kind, "url": server.url, "model": "up-1", "retries": 0, "read_timeout": 60}
            config = Config.from_dict({"inference": {"tiers": {"small": tier}}})
            found[kind] = server, stack.enter_context(serving(RuvLLM(encoder="static", config=config)))
        yield found


def ask(edge: Running, path: str) -> str:
    found = edge.post(path, {"model": "auto", "stream": True, **WHERE[path][0]})
    assert found.status_code == 200, found.text
    return found.text


@pytest.mark.parametrize("name", BROKEN)
def test_what_breaks_in_the_middle_is_an_error_of_each_api_and_the_backends_failure(
    name: str, fronts: dict[str, tuple[Server, Running]], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(chat_wire, "MOST_EVENT", 10_000)
    monkeypatch.setattr(openai_http, "_MOST_BYTES", 100_000)
    kind, broken = BROKEN[name]
    server, edge = fronts[kind]
    for path, (_, end, error) in WHERE.items():
        for behaviour in (WELL[kind], WELL[kind], broken):  # the well ones keep its circuit closed
            server.behaviours = (behaviour,)
            text = ask(edge, path)
            failed = behaviour is broken
            assert ((end in text), (error in text)) == (not failed, failed), text[-300:]
            assert edge.get("/ready").json()["status"] == ("degraded" if failed else "ok")
        assert "at " in text or "write" in text or "I write." in text or path == "/v1/completions"


def test_a_backend_that_falls_silent_in_a_tools_call_is_an_error_in_time():
    def check(slower: float) -> None:
        with llm_server(hold(CALLED)) as silent:
            tier = {"kind": "openai", "url": silent.url, "model": "up-1", "read_timeout": 0.5 * slower, "retries": 0}
            config = Config.from_dict({"inference": {"tiers": {"small": tier}}})
            with serving(RuvLLM(encoder="static", config=config)) as edge:
                for path in ("/v1/messages", "/v1/responses"):
                    text, (_, end, error) = ask(edge, path), WHERE[path]
                    assert (end in text, error in text) == (False, True)
                assert edge.get("/ready").json()["unavailable"] == ["small"]

    patiently(check)
