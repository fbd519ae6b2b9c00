"""`POST /v1/tools/search`: the few of many tools that a task needs."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from ruvllm.encoders.protocol import pause
from ruvllm.inference.backend import estimate_tokens
from ruvllm_edge.edge import Edge
from ruvllm_edge.operations import Call, Operation

__all__ = ["OPERATIONS"]

_encode = msgspec.json.Encoder().encode


class ToolsBody(Struct):
    """A task, and the tools to search: those of the catalog where there are none."""

    task: str
    k: Annotated[int, Meta(ge=1, le=1000, description="how many to find")] = 5
    tools: Annotated[
        list[dict[str, Any]] | None, Meta(description="definitions as OpenAI, Anthropic or MCP write them")
    ] = None
    keep: Annotated[list[str], Meta(description="names that stay among `tools` whatever the task")] = []


class ToolFound(Struct):
    """A tool, the best first."""

    name: str
    description: str
    score: float


class ToolReference(Struct, tag_field="type", tag="tool_reference"):
    """What Anthropic's API takes as the content of a tool search's `tool_result`."""

    tool_name: str


class ToolsFound(Struct):
    """What was found.

    `tools` are the definitions of the request that were found or are to stay, as they came and in their order;
    `tokens` is about how many all of the request's take, and how many these.
    """

    hits: list[ToolFound]
    tool_references: list[ToolReference]
    tools: list[dict[str, Any]] | None = None
    tokens: tuple[int, int] | None = None


async def search(edge: Edge, call: Call) -> ToolsFound:
    """The tools that a task may need, of the request's or of the catalog."""
    body: ToolsBody = call.body
    service = edge.llm.tools
    if body.tools is not None:
        await asyncio.to_thread(service.prepare, body.tools)
    found = await service.asearch(body.task, body.k, body.tools, pause)
    hits = [ToolFound(one.tool.name, one.tool.description, round(one.score, 4)) for one in found]
    answer = ToolsFound(hits, [ToolReference(one.name) for one in hits])
    if body.tools is not None:
        chosen = [dict(one) for one in await service.select(body.tools, body.task, body.k, body.keep, pause)]
        answer.tools, answer.tokens = chosen, (_tokens(body.tools), _tokens(chosen))
    return answer


def _tokens(tools: Any) -> int:
    return estimate_tokens(_encode(tools).decode())


_EXAMPLE = {
    "task": "will it rain in Rome tomorrow?",
    "k": 1,
    "tools": [
        {"name": "get_weather", "description": "Forecast of a place.", "input_schema": {"type": "object"}},
        {"name": "send_mail", "description": "Sends an e-mail.", "input_schema": {"type": "object"}},
    ],
}

OPERATIONS = (
    Operation("POST", "/v1/tools/search", search, "Find the tools for a task", ToolsBody, answer=ToolsFound,
              tag="routing", most=8 << 20, example=_EXAMPLE),
)  # fmt: skip
