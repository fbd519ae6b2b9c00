"""The MCP server, as the official SDK's client sees it."""

from __future__ import annotations

import asyncio
import json
import re
import sqlite3
import subprocess
import sys
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from waiting import PATIENCE

from ruvllm import RuvLLM

pytest.importorskip("mcp.server.mcpserver")
from mcp import Client, StdioServerParameters

from ruvllm.cli.mcp import make_server

TASK = "add unit tests for the parser"


def use(server: Any, conversation: Callable[[Client], Awaitable[None]]) -> None:
    async def main() -> None:
        async with Client(server) as client:
            await conversation(client)

    asyncio.run(asyncio.wait_for(main(), PATIENCE))


@pytest.fixture
def server(static_llm: RuvLLM) -> Any:
    return make_server(RuvLLM(encoder="static", like=static_llm))


def test_the_tools_say_what_they_are_for(server: Any):
    async def conversation(client: Client) -> None:
        tools = {tool.name: tool for tool in (await client.list_tools()).tools}
        assert tools.keys() == {"route", "decide", "agents", "search_tools", "remember", "recall", "feedback"}
        assert all(tool.description for tool in tools.values())
        assert tools["route"].input_schema["required"] == ["task"]

    use(server, conversation)


def test_a_task_is_routed(server: Any):
    async def conversation(client: Client) -> None:
        told = (await client.call_tool("route", {"task": TASK, "alternatives": 2})).structured_content
        assert told is not None
        assert (told["agent"], len(told["alternatives"])) == ("tester", 2)
        assert told["confidence"] > 0.9

    use(server, conversation)


def test_tools_are_found(server: Any):
    async def conversation(client: Client) -> None:
        tools = [{"name": "get_weather", "description": "Forecast of a place."}, {"name": "send_mail"}]
        call = {"task": "will it rain in Rome?", "most": 1, "tools": tools}
        found = (await client.call_tool("search_tools", call)).structured_content
        assert found is not None
        assert found["tool_references"] == [{"type": "tool_reference", "tool_name": "get_weather"}]
        assert found["tools"] == tools[:1]
        assert (await client.call_tool("search_tools", {"task": "rain"})).structured_content["hits"] == []

    use(server, conversation)


def test_what_is_remembered_is_recalled(server: Any):
    async def conversation(client: Client) -> None:
        text = "The staging database is reset every Monday."
        await client.call_tool("remember", {"text": text, "metadata": {"team": "web"}})
        await client.call_tool("remember", {"text": "Refunds take five days."})
        told = (await client.call_tool("recall", {"query": "when is staging reset?", "most": 1})).structured_content
        assert told is not None
        assert [(one["text"], one["metadata"]) for one in told["result"]] == [(text, {"team": "web"})]

    use(server, conversation)


def test_feedback_teaches(server: Any):
    async def conversation(client: Client) -> None:
        task = "please frobnicate the widget"
        await client.call_tool("feedback", {"task": task, "agent": "tester"})
        told = (await client.call_tool("route", {"task": task})).structured_content
        assert told is not None
        assert told["agent"] == "tester"
        await client.call_tool("feedback", {"task": task, "agent": "tester", "right": False})
        after = (await client.call_tool("route", {"task": task})).structured_content
        assert after is not None
        assert after["agent"] != "tester" or after["confidence"] < told["confidence"]

    use(server, conversation)


@pytest.mark.parametrize(
    ("tool", "arguments", "said"),
    [
        ("route", {"task": " "}, "text is empty"),
        ("recall", {"query": ""}, "query is empty"),
        ("remember", {"text": ""}, "no usable text"),
        ("feedback", {"task": TASK, "agent": "nobody"}, "no agent is called 'nobody'. use "),
        ("feedback", {"task": TASK, "agent": "testr"}, "no agent is called 'testr'. did you mean tester?"),
        ("rout", {"task": TASK}, "no tool is called 'rout'. did you mean route?"),
        ("dance", {}, "no tool is called 'dance'. use route, decide, agents, search_tools, remember, recall, feedback"),
        ("route", {"tsk": TASK}, "no argument is called 'tsk'. did you mean task?"),
        ("recall", {"query": TASK, "colection": "notes"}, "did you mean collection?"),
        ("route", {}, "route was given no task. give task"),
        ("route", {"task": None}, "route was given no task"),
        ("feedback", {"task": TASK}, "feedback was given no agent. give task and agent"),
        ("route", {"task": TASK, "alternatives": "many"}, "alternatives: Input should be a valid integer"),
    ],
)
def test_a_mistake_comes_back_in_words(server: Any, tool: str, arguments: dict[str, Any], said: str):
    async def conversation(client: Client) -> None:
        told = await client.call_tool(tool, arguments)
        assert told.is_error
        assert said in words(told)
        assert not re.search("`ruvllm |https?:|pydantic", words(told))  # a program has no command line, and no browser

    use(server, conversation)


def words(told: Any) -> str:
    return str(told.content[0].text)


@pytest.mark.parametrize("nothing", [None, ""])
def test_null_or_an_empty_text_is_an_argument_that_was_not_given(server: Any, nothing: Any):
    async def conversation(client: Client) -> None:
        calls: list[tuple[str, dict[str, Any]]] = [
            ("route", {"task": TASK, "alternatives": nothing}),
            ("agents", {"query": nothing, "limit": nothing}),
            ("remember", {"text": "Staging is reset on Mondays.", "metadata": nothing, "collection": nothing}),
            ("recall", {"query": "staging", "most": nothing, "collection": nothing, "min_score": nothing}),
            ("feedback", {"task": TASK, "agent": "tester", "right": nothing}),
            ("route", {"task": TASK, "nonsense": nothing}),
        ]
        for tool, arguments in calls:
            told = await client.call_tool(tool, arguments)
            assert not told.is_error, words(told)
        found = (await client.call_tool("recall", {"query": "staging"})).structured_content
        assert found is not None
        assert len(found["result"]) == 1

    use(server, conversation)


def test_the_agents_are_listed(server: Any):
    async def conversation(client: Client) -> None:
        async def names(**arguments: Any) -> list[str]:
            found = (await client.call_tool("agents", arguments)).structured_content
            assert found is not None
            assert all(row.keys() == {"name", "description", "tier"} for row in found["result"])
            return [row["name"] for row in found["result"]]

        assert "tester" in await names(limit=200)
        assert len(await names(limit=3)) == 3
        assert len(await names(limit=-1)) == 1
        assert "security-architect" in await names(query="Security ARCHITECT")
        assert await names(query="no agent says this") == []

    use(server, conversation)


def test_an_unknown_collection_is_named_with_one_called_alike(server: Any):
    async def conversation(client: Client) -> None:
        assert (await client.call_tool("recall", {"query": "x"})).structured_content == {"result": []}
        await client.call_tool("remember", {"text": "Refunds take five days.", "collection": "notes"})
        told = await client.call_tool("recall", {"query": "refunds", "collection": "note"})
        assert told.is_error
        assert "no collection is called 'note'. did you mean notes?" in words(told)
        told = await client.call_tool("recall", {"query": "refunds"})
        assert "no collection is called 'default'. use notes" in words(told)

    use(server, conversation)


def test_what_has_nothing_to_do_with_the_query_is_not_recalled(server: Any):
    async def conversation(client: Client) -> None:
        await client.call_tool("remember", {"text": "Refunds take five days."})
        query = {"query": "how do whales sleep?"}
        assert (await client.call_tool("recall", query)).structured_content == {"result": []}
        found = (await client.call_tool("recall", query | {"min_score": -1})).structured_content
        assert found is not None
        assert len(found["result"]) == 1

    use(server, conversation)


def test_what_is_damaged_sends_no_program_to_a_command(tmp_path: Path, static_llm: RuvLLM):
    path = tmp_path / "state.db"
    with RuvLLM(encoder="static", like=static_llm, state=path) as llm:
        llm.memory.add("Refunds take five days.")
    with closing(sqlite3.connect(path)) as db:
        db.execute("UPDATE memories SET metadata = '['")
        db.commit()

    async def conversation(client: Client) -> None:
        told = await client.call_tool("recall", {"query": "refunds"})
        assert told.is_error
        assert words(told).endswith("repair the state file")

    with RuvLLM(encoder="static", like=static_llm, state=path) as llm:
        use(make_server(llm), conversation)


def test_over_stdio_with_a_state_file(tmp_path: Path):
    command = [sys.executable, "-m", "ruvllm.cli", "--state", str(tmp_path / "state.db"), "mcp", "--encoder", "static"]
    parameters = StdioServerParameters(command=command[0], args=command[1:])

    async def first(client: Client) -> None:
        await client.call_tool("remember", {"text": "The staging database is reset every Monday."})

    async def second(client: Client) -> None:
        told = (await client.call_tool("recall", {"query": "staging reset"})).structured_content
        assert told is not None
        assert len(told["result"]) == 1

    use(parameters, first)
    use(parameters, second)


def test_a_lone_surrogate_over_stdio_is_answered(tmp_path: Path):
    """As JSON can carry one: in a text, a key or a name; a pair and an escaped backslash are no such thing."""
    command = [sys.executable, "-m", "ruvllm.cli", "--state", str(tmp_path / "state.db"), "mcp", "--encoder", "static"]
    hello = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}}
    calls = [
        r'{"name": "route", "arguments": {"task": "add unit tests \ud800"}}',
        r'{"name": "remember", "arguments": {"text": "\udc00 a\ud83d\ude00 \\ud800 b", "metadata": {"\uD800": 1}}}',
        r'{"name": "recall", "arguments": {"query": "b \uDFFF", "min_score": -1}}',
        r'{"name": "r\ud800", "arguments": {}}',
        r'{"name": "route", "arguments": {"task": "\ud83d"}}',
    ]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as server:

        def answer(*lines: str) -> Any:
            assert server.stdin is not None
            assert server.stdout is not None
            server.stdin.write("".join(line + "\n" for line in lines).encode())
            server.stdin.flush()
            return json.loads(server.stdout.readline())

        answer(json.dumps({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": hello}))
        started = '{"jsonrpc": "2.0", "method": "notifications/initialized"}'
        results = []
        for number, call in enumerate(calls, 1):
            request = f'{{"jsonrpc": "2.0", "id": {number}, "method": "tools/call", "params": {call}}}'
            told = answer(*([started] if number == 1 else []), request)
            assert told["id"] == number
            results.append(told["result"])
        assert server.stdin is not None
        server.stdin.close()
    assert results[0]["structuredContent"]["agent"] == "tester"
    (memory,) = results[2]["structuredContent"]["result"]
    assert (memory["text"], memory["metadata"]) == ("\ufffd a😀 \\ud800 b", {"\ufffd": 1})
    assert "no tool is called" in results[3]["content"][0]["text"]
