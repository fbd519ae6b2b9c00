"""The `ruvllm` command and the one place where an error becomes a line on stderr."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from io import TextIOWrapper
from pathlib import Path
from typing import Any, NoReturn, TextIO

import click

from ruvllm import RuvllmError, __version__
from ruvllm.cli.console import fail
from ruvllm.cli.plugins import OpenGroup

_COMMANDS = {
    "agents": "ruvllm.cli.agents:agents",
    "chat": "ruvllm.cli.chat:chat",
    "completion": "ruvllm.cli.completion:completion",
    "decide": "ruvllm.cli.decide:decide",
    "decompose": "ruvllm.cli.query:decompose",
    "demo": "ruvllm.cli.demo:demo",
    "doctor": "ruvllm.cli.doctor:doctor",
    "embed": "ruvllm.cli.vectors:embed",
    "eval": "ruvllm.cli.evals.command:evaluate",
    "feedback": "ruvllm.cli.feedback:feedback",
    "hook": "ruvllm.cli.hook.command:hook",
    "info": "ruvllm.cli.info:info",
    "install": "ruvllm.cli.hook.install:install",
    "learn": "ruvllm.cli.learn:learn",
    "mcp": "ruvllm.cli.mcp:mcp",
    "memory": "ruvllm.cli.memory.command:memory",
    "query": "ruvllm.cli.query:query",
    "report": "ruvllm.cli.report.command:report",
    "route": "ruvllm.cli.route:route",
    "similarity": "ruvllm.cli.vectors:similarity",
    "skills": "ruvllm.cli.skills:skills",
    "state": "ruvllm.cli.state:state",
    "stats": "ruvllm.cli.vectors:stats",
    "tiers": "ruvllm.cli.tiers:tiers",
    "uninstall": "ruvllm.cli.hook.install:uninstall",
}
# As other systems of this kind call them.
_ALIASES = {
    "benchmark": "bench",
    "export": "learn export",
    "generate": "query",
    "pretrain": "learn run",
    "train": "learn",
}


class _Group(OpenGroup):
    """A group whose commands may raise any RuvllmError."""

    def main(self, *args: Any, **options: Any) -> Any:
        """Run it, and exit."""
        given = args[0] if args else options.pop("args", None)
        words = sys.argv[1:] if given is None else list(given)
        if _is_hook(words):
            self._run_hook(words, options)
        return super().main(given, *args[1:], **options)

    def _run_hook(self, words: list[str], options: dict[str, Any]) -> NoReturn:
        """A status of 2 would take the prompt away from whoever typed it: it is 0, and 1 with --debug."""
        debug, failed = "--debug" in words, True
        try:
            failed = bool(super().main(words, **options | {"standalone_mode": False}))
        except BaseException as error:
            if debug:
                with suppress(OSError):
                    said = error.format_message() if isinstance(error, click.ClickException) else str(error)
                    fail(f"{type(error).__name__}: {said}")
        for stream in (sys.stdout, sys.stderr):
            _let_go(stream)
        sys.exit(1 if debug and failed else 0)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; a person never sees a traceback for a mistake that has a fix."""
        try:
            return super().invoke(ctx)
        except RuvllmError as error:
            if ctx.invoked_subcommand == "hook":
                raise
            fail(error)
            ctx.exit(2)


def _is_hook(words: Sequence[str]) -> bool:
    """Whether the command is `hook`, whatever stands before it; what follows an option may be its value."""
    option = ""
    for word in words:
        if word.startswith("-"):
            option = word
        elif option == "--state" or (option and word != "hook"):
            option = ""
        else:
            return word == "hook"
    return False


def _let_go(stream: TextIO | None) -> None:
    """Write what waits; where nobody reads it any more, the interpreter would try again and exit with 120."""
    if stream is None:
        return
    try:
        stream.flush()
    except (OSError, ValueError):
        with suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


@click.group(cls=_Group, lazy=_COMMANDS, aliases=_ALIASES, context_settings={"help_option_names": ["-h", "--help"]})
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

    The exit code is 0 when it is done, 1 when something was found (a finding of lint, a check that fails, a line of a
    batch that could not be answered), and 2 for a mistake, which is named with its fix. `hook` never says 2.

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
