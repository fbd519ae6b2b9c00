"""The MCP server, as the official SDK's client sees it."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from ruvllm import RuvLLM

pytest.importorskip("mcp.server.mcpserver")
from mcp import Client, StdioServerParameters

from ruvllm.cli.mcp import make_server

TASK = "add unit tests for the parser"


def use(server: Any, conversation: Callable[[Client], Awaitable[None]]) -> None:
    async def main() -> None:
        async with Client(server) as client:
            await conversation(client)

    asyncio.run(asyncio.wait_for(main(), 60))


@pytest.fixture
def server(static_llm: RuvLLM) -> Any:
    return make_server(RuvLLM(encoder="static", like=static_llm))


def test_the_tools_say_what_they_are_for(server: Any):
    async def conversation(client: Client) -> None:
        tools = {tool.name: tool for tool in (await client.list_tools()).tools}
        assert tools.keys() == {"route", "remember", "recall", "feedback"}
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
        ("feedback", {"task": TASK, "agent": "nobody"}, "no agent is called 'nobody'"),
        ("route", {}, "task"),
    ],
)
def test_a_mistake_comes_back_in_words(server: Any, tool: str, arguments: dict[str, Any], said: str):
    async def conversation(client: Client) -> None:
        told = await client.call_tool(tool, arguments)
        assert told.is_error
        assert said in told.content[0].text  # type: ignore[union-attr]

    use(server, conversation)


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
