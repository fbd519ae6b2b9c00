"""The `ruvllm` command and the one place where an error becomes a line on stderr."""

from __future__ import annotations

import os
import sys
from io import TextIOWrapper
from pathlib import Path
from typing import Any

import click

from ruvllm import RuvllmError, __version__
from ruvllm.cli.console import fail
from ruvllm.cli.plugins import OpenGroup

__all__ = ["main"]

_COMMANDS = {
    "agents": "ruvllm.cli.agents:agents",
    "chat": "ruvllm.cli.chat:chat",
    "decompose": "ruvllm.cli.query:decompose",
    "demo": "ruvllm.cli.demo:demo",
    "doctor": "ruvllm.cli.doctor:doctor",
    "eval": "ruvllm.cli.evaluate:evaluate",
    "feedback": "ruvllm.cli.route:feedback",
    "hook": "ruvllm.cli.hook:hook",
    "info": "ruvllm.cli.info:info",
    "learn": "ruvllm.cli.learn:learn",
    "mcp": "ruvllm.cli.mcp:mcp",
    "memory": "ruvllm.cli.memory:memory",
    "query": "ruvllm.cli.query:query",
    "route": "ruvllm.cli.route:route",
    "tiers": "ruvllm.cli.tiers:tiers",
}


class _Group(OpenGroup):
    """A group whose commands may raise any RuvllmError."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; a person never sees a traceback for a mistake that has a fix."""
        try:
            return super().invoke(ctx)
        except RuvllmError as error:
            fail(str(error))
            ctx.exit(2)


@click.group(cls=_Group, lazy=_COMMANDS, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="ruvllm")
@click.option(
    "--state",
    type=click.Path(dir_okay=False, path_type=Path),
    envvar="RUVLLM_STATE",
    metavar="PATH",
    help="The file that keeps feedback, for every command that reads or writes it.  [env: RUVLLM_STATE]",
)
@click.pass_context
def main(ctx: click.Context, state: Path | None) -> None:
    """Route a developer's task to the best agent, offline, answer it, and learn from feedback.

    \b
    Examples:
      ruvllm route "write unit tests for the parser"
      ruvllm route --explain "why is checkout slow?"
      ruvllm feedback "check the contract terms" reviewer
      ruvllm agents lint .claude/agents
      ruvllm chat
      ruvllm info
    """
    if os.environ.get("NO_COLOR"):
        ctx.color = False
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # a name that the terminal's encoding lacks must not end the command
            stream.reconfigure(errors="backslashreplace")
