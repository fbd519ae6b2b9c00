"""`ruvllm demo`: the main job at a glance, then the reader's own tasks."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from ruvllm import Decision, InputError, RuvLLM
from ruvllm.cli.console import fail, number, plain, show_table
from ruvllm.cli.options import agents_option, encoder_option, open_llm

TASKS = (
    "add unit tests for the auth module",
    "fix the memory leak in the cache module",
    "optimize database queries",
    "is our password reset safe against account takeover?",
    "review my pull request before I merge it",
    "set up a GitHub Actions workflow with a build matrix",
    "write a README with a quick start",
    "compare message queues for an event driven backend",
    "turn these nested callbacks into async/await",
    "elect a new leader when the raft node dies",
    "break the billing rewrite into two-week milestones",
    "what should I cook tonight?",
)
_COLUMNS = ("Task", "Agent", "Confidence", "Action", "Tier", "Encoder", "ms")


@click.command()
@agents_option
@encoder_option
def demo(agents: Path | None, encoder: str | None) -> None:
    """Route a dozen sample tasks, then the ones you type.

    \b
    Examples:
      ruvllm demo
      ruvllm demo --agents .claude/agents
    """
    with open_llm(agents, encoder) as llm:
        for task in TASKS[:2]:
            llm.route(task + "?")  # open the encoders, so that the table shows what a warm decision takes
        rows = [_row(task, llm.route(task)) for task in TASKS]
        show_table(f"{len(TASKS)} tasks, {len(llm.agents)} agents, no network", _COLUMNS, rows, ("Confidence", "ms"))
        if sys.stdin.isatty():
            _prompt(llm)


def _row(task: str, decision: Decision) -> tuple[str, ...]:
    milliseconds = decision.timings_us["total"] / 1000
    confidence = number(decision.confidence)
    tier = str(int(decision.tier))
    return task, decision.agent, confidence, decision.action, tier, decision.encoder, number(milliseconds)


def _prompt(llm: RuvLLM) -> None:
    click.echo("Type a task (an empty line ends):")
    while text := click.prompt("task", default="", show_default=False).strip():
        try:
            decision = llm.route(text)
        except InputError as error:
            fail(error)
            continue
        others = ", ".join(f"{plain(other.agent)} {other.confidence:.2f}" for other in decision.alternatives)
        click.echo(
            f"Agent: {plain(decision.agent)} | Confidence: {decision.confidence:.2f} | Tier: {int(decision.tier)}"
            f"  ({decision.action}; then {others})"
        )
