"""The server finds tools, and passes on those that a question needs, where it is set to do so."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from conftest import Running, serving
from llm_server import answer
from test_backends import llm_server
from test_tools import MESSAGE, WHOLE

from ruvllm import Agent, RuvLLM
from ruvllm.config import Config
from ruvllm_edge.auth import Key, read_keys

THINGS = (
    "invoice",
    "customer",
    "calendar",
    "playlist",
    "warehouse",
    "recipe",
    "flight",
    "patient",
    "lecture",
    "vessel",
)
CLAUDE = [
    {"name": f"{verb}_{thing}", "description": f"{verb} a {thing}", "input_schema": {"type": "object"}}
    for verb in ("list", "create", "delete") for thing in THINGS
]  # fmt: skip
OPENAI = [{"type": "function", "function": {"name": one["name"], "description": one["description"],
           "parameters": {"type": "object"}}} for one in CLAUDE]  # fmt: skip
ASK = "create an invoice for Ada"


def test_a_search_gives_hits_references_and_filtered_tools(edge: Running) -> None:
    for tools in (CLAUDE, OPENAI):
        found = edge.post("/v1/tools/search", {"task": ASK, "k": 3, "tools": tools, "keep": ["list_flight"]}).json()
        assert found["hits"][0]["name"] == "create_invoice"
        assert found["tool_references"][0] == {"type": "tool_reference", "tool_name": "create_invoice"}
        names = [one.get("function", one)["name"] for one in found["tools"]]
        assert len(names) == 4
        assert {"create_invoice", "list_flight"} <= set(names)
        assert all(one in tools for one in found["tools"])
        assert found["tokens"][1] < found["tokens"][0] / 5


def test_without_tools_those_of_the_catalog_are_searched() -> None:
    agents = [Agent("oven", "Heats food.", kind="tool"), Agent("chef", "Cooks.")]
    with serving(RuvLLM(agents, encoder="static")) as edge:
        found = edge.post("/v1/tools/search", {"task": "heat the soup"}).json()
        assert [one["name"] for one in found["hits"]] == ["oven"]
        assert found["tools"] is None


def test_a_body_that_is_none_is_refused(edge: Running) -> None:
    for body in ({}, {"task": ""}, {"task": "x", "k": 0}, {"task": "x", "tools": [1]}):
        assert edge.post("/v1/tools/search", body).status_code in (400, 422)
    many = {"task": "x", "tools": [{"name": f"t{i}"} for i in range(5001)]}
    assert edge.post("/v1/tools/search", many).json()["field"] == "tools"


def before(url: str, kind: str) -> RuvLLM:
    tier = {"kind": kind, "url": url, "model": "up-1", "retries": 0}
    return RuvLLM(encoder="static", config=Config.from_dict({"inference": {"tiers": {"small": tier}}}))


@pytest.mark.parametrize("kind", ["openai", "anthropic"])
def test_a_request_loses_the_tools_that_it_does_not_need(kind: str) -> None:
    called = {"id": "c1", "type": "function", "function": {"name": "delete_vessel", "arguments": "{}"}}
    turns: dict[str, list[dict[str, Any]]] = {
        "openai": [
            {"role": "user", "content": ASK},
            {"role": "assistant", "content": None, "tool_calls": [called]},
            {"role": "tool", "tool_call_id": "c1", "content": "gone"},
        ],
        "anthropic": [
            {"role": "user", "content": ASK},
            {"role": "assistant", "content": [{"type": "tool_use", "id": "c1", "name": "delete_vessel", "input": {}}]},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "c1", "content": "gone"}]},
        ],
    }
    tools = OPENAI if kind == "openai" else CLAUDE
    path = "/v1/chat/completions" if kind == "openai" else "/v1/messages"
    body = {"model": "auto", "max_tokens": 64, "messages": turns[kind], "tools": tools}
    with llm_server(answer(200, WHOLE if kind == "openai" else MESSAGE)) as server:
        with serving(before(server.url, kind), trim_tools=4) as edge:
            assert edge.post(path, body).status_code == 200
            assert "ruvllm_tools_left_out_total 25.0" in edge.get("/metrics").text
        with serving(before(server.url, kind)) as edge:
            assert edge.post(path, body).status_code == 200
        trimmed, whole = [request.body for request in server.requests]
    names = [one.get("function", one)["name"] for one in trimmed["tools"]]
    assert len(names) == 5
    assert {"create_invoice", "delete_vessel"} <= set(names)  # what it asks for, what it has called
    assert all(one in tools for one in trimmed["tools"])
    assert trimmed["messages"] == turns[kind]
    assert whole["tools"] == tools


def test_a_key_has_a_number_of_its_own(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    keys = {"few": 2.0, "all": 0.0, "plain": None}
    lines = [Key(name, sha256(name.encode()).digest(), tools=tools).line() for name, tools in keys.items()]
    file.write_text("".join(lines))
    assert {key.name: key.tools for key in read_keys(file).keys} == keys
    body = {"model": "auto", "messages": [{"role": "user", "content": ASK}], "tools": OPENAI}
    with (
        llm_server(answer(200, WHOLE)) as server,
        serving(before(server.url, "openai"), trim_tools=4, keys_file=file) as edge,
    ):
        for name in keys:
            headers = {"authorization": f"Bearer {name}"}
            assert edge.post("/v1/chat/completions", body, headers=headers).status_code == 200
        assert [len(request.body["tools"]) for request in server.requests] == [2, 30, 4]
