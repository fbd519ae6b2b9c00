"""`ruvllm mcp`: routing and memory as tools of the Model Context Protocol, over standard input and output."""

from __future__ import annotations

import asyncio
import re
import sys
from importlib.util import find_spec
from io import BufferedIOBase, TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import click

from ruvllm import Agent, InputError, RuvLLM, RuvllmError, __version__
from ruvllm.cli.options import (
    agents_option,
    default_state,
    encoder_option,
    least_score,
    open_llm,
    state_of,
    state_option,
)
from ruvllm.errors import unknown
from ruvllm.text.surrogates import well_formed_json

if TYPE_CHECKING:
    from mcp.server.mcpserver import MCPServer

__all__ = ["make_server", "mcp"]

_ABOUT = (
    "Names the best agent for a developer's task with a calibrated confidence, remembers texts by meaning, and learns "
    "at once from feedback. Everything runs on this machine."
)
_MOST_AGENTS = 200  # in one answer
# Any escape of JSON, of which the group is half a character without its other half.
_ESCAPE = re.compile(
    rb"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(u[dD][89a-fA-F][0-9a-fA-F]{2})|.)"
)


@click.command()
@agents_option
@encoder_option
@state_option
@click.pass_context
def mcp(ctx: click.Context, agents: Path | None, encoder: str | None, state: Path | None) -> None:
    """Serve the tools route, agents, remember, recall and feedback to an MCP client over stdio.

    \b
    In a client's configuration:
      {"mcpServers": {"ruvllm": {"command": "ruvllm", "args": ["mcp", "--agents", ".claude/agents"]}}}
    """
    sys.stdin = TextIOWrapper(_WellFormed(sys.stdin.buffer), "utf-8", "replace")
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
    from pydantic import ValidationError

    class Server(MCPServer[Any]):
        """One that says in words what is wrong with a call."""

        async def call_tool(self, name: str, arguments: dict[str, Any], context: Any = None) -> Any:
            schemas = {tool.name: tool.input_schema for tool in await self.list_tools()}
            try:
                return await super().call_tool(name, _checked(name, arguments, schemas), context)
            except RuvllmError as error:
                raise ToolError(str(error)) from None
            except ToolError as error:
                cause = error.__cause__
                if isinstance(cause, ValidationError):
                    wrong = (f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in cause.errors())
                    raise ToolError(f"{name}: {'; '.join(wrong)}"[:600]) from None
                if isinstance(cause, RuvllmError):
                    raise ToolError(str(cause)) from None
                raise

    server = Server("ruvllm", instructions=_ABOUT, version=__version__, log_level="WARNING")
    tools = _Tools(llm)
    for tool in (tools.route, tools.agents, tools.remember, tools.recall, tools.feedback):
        server.add_tool(tool)
    return server


def _checked(name: str, arguments: dict[str, Any], schemas: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """What was given; models often send null or "" for what they do not give.

    Raises:
        InputError: a tool or an argument that there is not, or one that is missing.
    """
    if name not in schemas:
        raise unknown("tool", name, schemas)
    names, required = schemas[name]["properties"], schemas[name].get("required", ())
    given = {
        key: value for key, value in well_formed_json(arguments).items() if key in required or value not in (None, "")
    }
    for key in given:
        if key not in names:
            raise unknown("argument", key, names)
    for key in required:
        if given.get(key) is None:
            raise InputError(f"{name} was given no {key}", field=key, fix=f"give {' and '.join(required)}")
    return given


class _WellFormed(BufferedIOBase):
    """Lines of JSON without halves of characters: the protocol's SDK gives no answer to a line that has one."""

    def __init__(self, source: BinaryIO) -> None:
        self._source = source

    def readable(self) -> bool:
        return True

    def read1(self, size: int = -1) -> bytes:
        """The next line, whatever its size; empty at the end."""
        return _ESCAPE.sub(lambda match: rb"\ufffd" if match[1] else match[0], self._source.readline())


class _Tools:
    """What a client can call. A mistake that has a fix reaches the model in words, so that it can try again."""

    def __init__(self, llm: RuvLLM) -> None:
        self._llm = llm

    async def route(self, task: str, alternatives: int = 3) -> dict[str, Any]:
        """The agent that should take a task, with calibrated confidence, model tier, evidence and alternatives.

        action "use" means that it is sure, "confirm" ask a person, "escalate" ask a stronger model or a person.
        """
        found = (await self._llm.aroute(task, max(0, min(alternatives, 20)))).to_dict()
        return {key: value for key, value in found.items() if key not in ("timings_us", "cached")}

    async def agents(self, query: str = "", limit: int = 50) -> list[dict[str, Any]]:
        """The agents that tasks are routed among: name, description and model tier (null: by the task's difficulty).

        With a query only those whose name, description or keywords hold all of its words.
        """
        words = query.casefold().split()
        found = [one for one in self._llm.agents if all(word in _said(one) for word in words)]
        return [
            {"name": one.name, "description": one.description, "tier": one.tier and int(one.tier)}
            for one in found[: max(1, min(limit, _MOST_AGENTS))]
        ]

    async def remember(self, text: str, metadata: dict[str, Any] | None = None, collection: str = "default") -> int:
        """Keep a fact, decision or answer for later; returns its id. It stays on this machine, across sessions."""
        return (await self._llm.memory.aadd(text, metadata=metadata or {}, collection=collection))[0]

    async def recall(
        self, query: str, most: int = 5, collection: str = "default", min_score: float | None = None
    ) -> list[dict[str, Any]]:
        """What was remembered that means something similar, best first, with its cosine.

        What is less alike than min_score is left out; without it, what is no more alike than any two texts are.
        """
        memory = self._llm.memory
        found = await memory.asearch(query, max(1, min(most, 50)), collection=collection)
        counts = memory.records.counts()
        if not found and counts and collection not in counts:
            raise unknown("collection", collection, counts)
        least = least_score(self._llm) if min_score is None else min_score
        return [
            {
                "id": one.memory.id,
                "text": one.memory.text,
                "score": round(one.score, 4),
                "kind": one.memory.kind,
                "metadata": well_formed_json(dict(one.memory.metadata)),
            }
            for one in found
            if one.score >= least
        ]

    async def feedback(self, task: str, agent: str, right: bool = True) -> str:
        """Teach that a task belongs to an agent, or with right = false that it does not; similar tasks follow."""
        await self._llm.afeedback(task, agent, right=right)
        return f"learnt: {'' if right else 'not '}{agent}"


def _said(agent: Agent) -> str:
    return " ".join((agent.name, agent.description, *agent.keywords)).casefold()
