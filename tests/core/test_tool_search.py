"""The few of many tools that a task needs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ruvllm import Agent, InputError, RuvLLM
from ruvllm.encoders.protocol import run_now
from ruvllm.routing.tools import ToolIndex, used_tools

VERBS = ("list", "create", "delete", "update", "export")
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
ASKS = {
    "createInvoice": "make a new invoice",
    "delete-recipe": "delete the recipe of the soup",
    "export_patient": "export the record of this patient",
    "listFlight": "which flights are there?",
}


def definitions() -> list[dict[str, Any]]:
    found = []
    for verb in VERBS:
        for thing in THINGS:
            name = {0: f"{verb}{thing.title()}", 1: f"{verb}_{thing}", 2: f"{verb}-{thing}"}[THINGS.index(thing) % 3]
            schema = {"type": "object", "properties": {"id": {"description": f"of the {thing}"}}}
            found.append({"name": name, "description": f"{verb.title()} one {thing}.", "input_schema": schema})
    return found


@pytest.fixture(scope="module")
def llm() -> RuvLLM:
    return RuvLLM([Agent("chef", "Cooks."), Agent("oven", "Heats food.", kind="tool")], encoder="static")


def test_names_fall_into_their_words(llm: RuvLLM) -> None:
    tools = definitions()
    for name, ask in ASKS.items():
        assert name in [hit.tool.name for hit in llm.tools.search(ask, 5, tools)]


def test_parameters_are_evidence(llm: RuvLLM) -> None:
    def tool(name: str, parameter: str, said: str) -> dict[str, Any]:
        properties = {parameter: {"type": "string", "description": said}}
        return {"type": "function", "function": {"name": name, "parameters": {"properties": properties}}}

    tools = [tool("run_a", "iban", "number of the bank account"), tool("run_b", "isbn", "number of the book")]
    assert llm.tools.search("look up this bank account", 1, tools)[0].tool.name == "run_a"
    assert llm.tools.search("which book has this isbn?", 1, tools)[0].tool.name == "run_b"


def test_the_catalogs_tools_are_searched_and_others_can_be_added() -> None:
    llm = RuvLLM([Agent("chef", "Cooks."), Agent("oven", "Heats food.", kind="tool")], encoder="static")
    assert [hit.tool.name for hit in llm.tools.search("heat the soup")] == ["oven"]
    assert llm.tools.add([{"name": "mail", "description": "Sends a letter."}]) == 2
    assert llm.tools.search("send a letter to my aunt", 1)[0].tool.name == "mail"
    assert llm.tools.add([Agent("fridge", "Cools food down.")]) == 3
    assert llm.tools.search("cool the drinks down", 1)[0].tool.name == "fridge"
    llm.add_agents([Agent("hammer", "Drives nails.", kind="tool")])
    assert llm.tools.search("drive a nail into the wall", 1)[0].tool.name == "hammer"


def test_what_is_no_tool_or_no_search_says_so(llm: RuvLLM) -> None:
    with pytest.raises(InputError, match=r"tools\[1\]"):
        llm.tools.add([{"name": "a"}, {"description": "b"}])
    for task, k in (("", 1), ("x", 0), ("x", True), (3, 1)):
        with pytest.raises(InputError):
            llm.tools.search(task, k)  # type: ignore[arg-type]
    assert RuvLLM(encoder="static").tools.search("anything") == []


def test_what_a_request_keeps(llm: RuvLLM) -> None:
    server = {"type": "web_search_20250305", "name": "web_search"}
    cached = {"name": "last", "input_schema": {}, "cache_control": {"type": "ephemeral"}}
    tools = [server, *definitions(), cached]
    chosen = run_now(llm.tools.select(tools, "delete the recipe", 3, {"list_customer"}))
    names = [one["name"] for one in chosen]
    assert names[0] == "web_search"
    assert names[-1] == "last"
    assert {"list_customer", "delete-recipe"} <= set(names)
    assert len(names) == 6
    assert all(one in tools for one in chosen)
    assert names == [one["name"] for one in tools if one["name"] in names]  # in their order
    assert run_now(llm.tools.select(tools[:3], "x", 3)) == tools[:3]


def test_used_and_forced_tools() -> None:
    openai = {
        "tool_choice": {"type": "function", "function": {"name": "forced"}},
        "messages": [
            {"role": "user", "content": "hi"},
            {"role": "assistant", "tool_calls": [{"id": "1", "type": "function", "function": {"name": "called"}}]},
            {"role": "assistant", "function_call": {"name": "old", "arguments": "{}"}},
        ],
    }
    assert used_tools(openai) == {"forced", "called", "old"}
    allowed = {"type": "allowed_tools", "allowed_tools": {"tools": [{"type": "function", "function": {"name": "a"}}]}}
    assert used_tools({"tool_choice": allowed}) == {"a"}
    reference = {"type": "tool_reference", "tool_name": "found"}
    anthropic = {
        "tool_choice": {"type": "tool", "name": "forced"},
        "messages": [
            {
                "role": "assistant",
                "content": [{"type": "tool_use", "name": "called", "input": {"name": "x"}}],
            },
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "1", "content": [reference]}]},
        ],
    }
    assert used_tools(anthropic) == {"forced", "called", "found"}
    assert used_tools({"messages": [1, {"content": 2}], "tool_choice": "auto"}) == set()


def test_the_contextual_encoder_reads_only_the_best() -> None:
    class Counted:
        name, dim = "counted", 4

        def __init__(self) -> None:
            self.texts = list[str]()

        async def encode(self, texts: list[str]) -> np.ndarray:
            self.texts += texts
            return np.eye(4, dtype=np.float32)[[len(text) % 4 for text in texts]]

    encoder = Counted()
    tools = [Agent(f"tool {i}", f"Does the thing number {i}.", kind="tool") for i in range(300)]
    index = ToolIndex(tools, RuvLLM(encoder="static").encoders.static, encoder)
    assert len(run_now(index.search("the thing number 7", 10))) == 10
    assert len(encoder.texts) <= 40
    before = len(encoder.texts)
    assert run_now(index.search("the thing number 7", 10)) == run_now(index.search("the thing number 7", 10))
    assert len(encoder.texts) == before + 2  # the task alone
    assert len({place for place, _ in run_now(index.search("thing", 300))}) == 300
