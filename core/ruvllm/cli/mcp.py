"""`ruvllm mcp`: routing, decisions and memory by the Model Context Protocol, over standard input and output."""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import Callable
from importlib.util import find_spec
from io import BufferedIOBase, TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import click

from ruvllm import RuvLLM, RuvllmError
from ruvllm.cli.options import (
    agents_option,
    default_state,
    encoder_option,
    open_llm,
    state_of,
    state_option,
)

if TYPE_CHECKING:
    from ruvllm.cli.mcp_server import McpServer


# Any escape of JSON, of which the group is half a character without its other half.
_ESCAPE = re.compile(
    rb"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(u[dD][89a-fA-F][0-9a-fA-F]{2})|.)"
)


@click.command()
@agents_option
@click.option("--agent", default="", help="The agent that uses it: it recalls its own memories and shared ones.")
@encoder_option
@state_option
@click.pass_context
def mcp(ctx: click.Context, agents: Path | None, agent: str, encoder: str | None, state: Path | None) -> None:
    """Serve the tools route, decide, agents, search_tools, remember, recall and feedback to an MCP client over stdio.

    Agents are its resources, too. `ruvllm serve` has the same at /mcp, over HTTP.

    \b
    In a client's configuration:
      {"mcpServers": {"ruvllm": {"command": "ruvllm", "args": ["mcp", "--agents", ".claude/agents"]}}}
    """
    sys.stdin = TextIOWrapper(_WellFormed(sys.stdin.buffer), "utf-8", "replace")
    with open_llm(agents, encoder, state_of(ctx, state) or default_state()) as llm:
        asyncio.run(make_server(llm, lambda _request, _role: agent).run_stdio_async())


def make_server(llm: RuvLLM, check: Callable[[Any, str], str] = lambda _request, _role: "") -> McpServer:
    """The server over a RuvLLM. See `McpServer`. Raises RuvllmError: the protocol's SDK is not installed."""
    if find_spec("mcp") is None or find_spec("mcp.server.mcpserver") is None:
        raise RuvllmError("the MCP SDK is not installed", field="mcp", fix="pip install 'ruvllm[mcp]'")
    from ruvllm.cli.mcp_server import McpServer

    return McpServer(llm, check)


class _WellFormed(BufferedIOBase):
    """Lines of JSON without halves of characters: the protocol's SDK gives no answer to a line that has one."""

    def __init__(self, source: BinaryIO) -> None:
        self._source = source

    def readable(self) -> bool:
        return True

    def read1(self, size: int = -1) -> bytes:
        """The next line, whatever its size; empty at the end."""
        return _ESCAPE.sub(lambda match: rb"\ufffd" if match[1] else match[0], self._source.readline())
