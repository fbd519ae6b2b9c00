"""`POST /v1/tools/search`: the few of many tools that a task needs."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

from msgspec import Meta, Struct

from ruvllm.encoders.protocol import pause
from ruvllm.routing.tools import ToolsFound
from ruvllm_edge.edge import Edge
from ruvllm_edge.operations import Call, Operation


class ToolsBody(Struct):
    """A task, and the tools to search: those of the catalog where there are none."""

    task: str
    k: Annotated[int, Meta(ge=1, le=1000, description="how many to find")] = 5
    tools: Annotated[
        list[dict[str, Any]] | None, Meta(description="definitions as OpenAI, Anthropic or MCP write them")
    ] = None
    keep: Annotated[list[str], Meta(description="names that stay among `tools` whatever the task")] = []


async def search(edge: Edge, call: Call) -> ToolsFound:
    """The tools that a task may need, of the request's or of the catalog."""
    body: ToolsBody = call.body
    service = edge.llm.tools
    if body.tools is not None:
        await asyncio.to_thread(service.prepare, body.tools)
    return await service.found(body.task, body.k, body.tools, body.keep, pause)


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
