"""`ruvllm mcp`: routing and memory as tools of the Model Context Protocol, over standard input and output."""

from __future__ import annotations

import asyncio
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ruvllm import RuvLLM, RuvllmError, __version__
from ruvllm.cli.options import agents_option, default_state, encoder_option, open_llm, state_of, state_option

if TYPE_CHECKING:
    from mcp.server.mcpserver import MCPServer

__all__ = ["make_server", "mcp"]

_ABOUT = (
    "Names the best agent for a developer's task with a calibrated confidence, remembers texts by meaning, and learns "
    "at once from feedback. Everything runs on this machine."
)


@click.command()
@agents_option
@encoder_option
@state_option
@click.pass_context
def mcp(ctx: click.Context, agents: Path | None, encoder: str | None, state: Path | None) -> None:
    """Serve the tools route, remember, recall and feedback to an MCP client over stdio.

    \b
    In a client's configuration:
      {"mcpServers": {"ruvllm": {"command": "ruvllm", "args": ["mcp", "--agents", ".claude/agents"]}}}
    """
    with open_llm(agents, encoder, state_of(ctx, state) or default_state()) as llm:
        asyncio.run(make_server(llm).run_stdio_async())


def make_server(llm: RuvLLM) -> MCPServer[Any]:
    """The tools over a RuvLLM.

    Raises:
        RuvllmError: the protocol's SDK is not installed.
    """
    if find_spec("mcp") is None or find_spec("mcp.server.mcpserver") is None:
        raise RuvllmError("the MCP SDK is not installed", field="mcp", fix="pip install 'ruvllm[mcp]'")
    from mcp.server.mcpserver import MCPServer
    from mcp.server.mcpserver.exceptions import ToolError

    server: MCPServer[Any] = MCPServer("ruvllm", instructions=_ABOUT, version=__version__, log_level="WARNING")
    tools = _Tools(llm, ToolError)
    for tool in (tools.route, tools.remember, tools.recall, tools.feedback):
        server.add_tool(tool)
    return server


class _Tools:
    """What a client can call. A mistake that has a fix reaches the model in words, so that it can try again."""

    def __init__(self, llm: RuvLLM, error: type[Exception]) -> None:
        self._llm, self._error = llm, error

    async def route(self, task: str, alternatives: int = 3) -> dict[str, Any]:
        """The agent that should take a task, with calibrated confidence, model tier, evidence and alternatives.

        action "use" means that it is sure, "confirm" ask a person, "escalate" ask a stronger model or a person.
        """
        try:
            told = (await self._llm.aroute(task, max(0, min(alternatives, 20)))).to_dict()
        except RuvllmError as error:
            raise self._error(str(error)) from None
        return {key: value for key, value in told.items() if key not in ("timings_us", "cached")}

    async def remember(self, text: str, metadata: dict[str, Any] | None = None, collection: str = "default") -> int:
        """Keep a fact, decision or answer for later; returns its id. It stays on this machine, across sessions."""
        try:
            return (await self._llm.memory.aadd(text, metadata=metadata or {}, collection=collection))[0]
        except RuvllmError as error:
            raise self._error(str(error)) from None

    async def recall(self, query: str, most: int = 5, collection: str = "default") -> list[dict[str, Any]]:
        """What was remembered that means something similar, best first, with its cosine."""
        try:
            found = await self._llm.memory.asearch(query, max(1, min(most, 50)), collection=collection)
        except RuvllmError as error:
            raise self._error(str(error)) from None
        return [
            {
                "id": one.memory.id,
                "text": one.memory.text,
                "score": round(one.score, 4),
                "kind": one.memory.kind,
                "metadata": dict(one.memory.metadata),
            }
            for one in found
        ]

    async def feedback(self, task: str, agent: str, right: bool = True) -> str:
        """Teach that a task belongs to an agent, or with right = false that it does not; similar tasks follow."""
        try:
            await self._llm.afeedback(task, agent, right=right)
        except RuvllmError as error:
            raise self._error(str(error)) from None
        return f"learnt: {'' if right else 'not '}{agent}"
