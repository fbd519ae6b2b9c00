"""`ruvllm hook`: tells Claude Code which agent a prompt is for, before it begins to work on it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click

from ruvllm import Decision, InputError, RuvLLM
from ruvllm.cli.console import plain, print_json
from ruvllm.cli.options import agents_option, default_state, encoder_option, state_of, state_option

__all__ = ["hook"]

_EVENT = "UserPromptSubmit"
_MOST_BYTES = 16_000_000  # of what arrives on stdin
_LEAST_CONFIDENCE = 0.5
_OUT_OF_SCOPE = 0.5  # probability from which no agent is recommended
_NEAR = 2  # examples that are shown
_LONGEST = 160  # characters of an example


@click.command(context_settings={"ignore_unknown_options": True, "allow_extra_args": True})
@agents_option
@encoder_option
@state_option
@click.option(
    "--min-confidence",
    type=float,
    default=_LEAST_CONFIDENCE,
    show_default=True,
    help="Say nothing below it.",
)
@click.option("--debug", is_flag=True, help="Say on stderr what went wrong, and exit with 1.")
@click.pass_context
def hook(
    ctx: click.Context,
    agents: Path | None,
    encoder: str | None,
    state: Path | None,
    min_confidence: float,
    debug: bool,
) -> None:
    """Recommend an agent for a Claude Code prompt (a UserPromptSubmit hook).

    Reads the event's JSON on stdin and writes JSON whose additionalContext names the agent, the confidence and the
    evidence. The project's own .claude/agents are used where there are any. Whatever goes wrong, the prompt goes
    through as it was: there is no output and the exit code is 0.

    \b
    In .claude/settings.json:
      {"hooks": {"UserPromptSubmit": [{"hooks": [{"type": "command", "command": "ruvllm hook"}]}]}}
    """
    try:
        event = _read()
        prompt = event["prompt"]
        if not prompt.strip() or prompt.lstrip().startswith("/"):  # a command of Claude Code's own
            return
        known = state_of(ctx, state) or (default_state() if default_state().exists() else None)
        with RuvLLM(agents or _project_agents(event), encoder=encoder or "static", state=known) as llm:
            decision = llm.route(prompt)
        if decision.confidence >= min_confidence and decision.out_of_scope < _OUT_OF_SCOPE:
            told = {"hookEventName": _EVENT, "additionalContext": _context(decision)}
            print_json({"hookSpecificOutput": told})
    except Exception as error:  # a hint that cannot be given must not cost anybody a prompt
        if debug:
            click.echo(f"error: {plain(f'{type(error).__name__}: {error}')}", err=True)
            ctx.exit(1)


def _read() -> dict[str, Any]:
    """The event. Raises InputError: it is none that asks for an agent."""
    data = sys.stdin.buffer.read(_MOST_BYTES + 1)
    if len(data) > _MOST_BYTES:
        raise InputError(f"more than {_MOST_BYTES:,} bytes came in", field="stdin", fix="send one event")
    event = json.loads(data)
    if not isinstance(event, dict) or not isinstance(event.get("prompt"), str):
        raise InputError("the event has no prompt", field="prompt", fix=f"send an event of {_EVENT}")
    named = event.get("hook_event_name", _EVENT)
    if named != _EVENT:
        raise InputError(f"this is an event of {named!r}"[:100], field="hook_event_name", fix=f"hook it to {_EVENT}")
    return event


def _project_agents(event: dict[str, Any]) -> Path | None:
    """The folder of the project's agents, None where it has none."""
    cwd = event.get("cwd")
    folder = Path(cwd if isinstance(cwd, str) and cwd else ".") / ".claude" / "agents"
    return folder if folder.is_dir() and any(folder.rglob("*.md")) else None


def _context(decision: Decision) -> str:
    """For a model to read; names and examples are others' text, so each stays on its line."""
    lines = [
        f"ruvllm recommends the agent `{plain(decision.agent)}` for this prompt "
        f"(confidence {decision.confidence:.2f}, model tier {int(decision.tier)}, {decision.action})."
    ]
    evidence = decision.evidence
    if evidence.keywords:
        lines.append(f"Matching words: {', '.join(map(plain, evidence.keywords))}.")
    for example, similarity in evidence.examples[:_NEAR]:
        lines.append(f'Similar task of this agent ({similarity:.2f}): "{plain(example)[:_LONGEST]}".')
    if decision.alternatives:
        others = ", ".join(f"`{plain(one.agent)}` {one.confidence:.2f}" for one in decision.alternatives)
        lines.append(f"Next best: {others}.")
    return "\n".join(lines)
