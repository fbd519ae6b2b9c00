"""`ruvllm agents`: which agents there are, what one is, and what to change about a set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ruvllm import Agent, AgentFileError, RuvLLM, read_agents
from ruvllm.agents.catalog import builtin_agents
from ruvllm.cli.console import plain, print_json, show_table
from ruvllm.cli.options import agents_option, json_option, warn_of_skipped
from ruvllm.errors import unknown

if TYPE_CHECKING:
    from ruvllm.routing.lint import Finding

__all__ = ["agents"]

_HEADINGS = {
    "empty": "Nothing to route by",
    "short": "Too little to route by",
    "duplicate": "Say the same",
    "confusable": "Easily confused",
}


@click.group()
def agents() -> None:
    """List, show and check agents.

    \b
    Examples:
      ruvllm agents list
      ruvllm agents show tester
      ruvllm agents lint .claude/agents
    """


@agents.command("list")
@agents_option
@json_option
def list_(agents: Path | None, as_json: bool) -> None:
    """List the agents that tasks are routed among.

    \b
    Examples:
      ruvllm agents list
      ruvllm agents list --agents .claude/agents --json
    """
    found = _agents(agents)
    if as_json:
        print_json([asdict(agent) for agent in found])
        return
    rows = [(a.name, a.category, _tier(a), str(len(a.examples)), a.description) for a in found]
    columns = ("Name", "Category", "Tier", "Examples", "Description")
    show_table(f"{len(found)} agents", columns, rows, right=("Tier", "Examples"), cut="Description")


@agents.command()
@click.argument("name")
@agents_option
@json_option
def show(name: str, agents: Path | None, as_json: bool) -> None:
    """Show everything that is known of the agent NAME.

    \b
    Examples:
      ruvllm agents show tester
      ruvllm agents show my-agent --agents .claude/agents --json
    """
    agent = _named(name, _agents(agents))
    if as_json:
        print_json(asdict(agent))
        return
    rows = [(field, value) for field, value in _facts(agent) if value]
    show_table(agent.name, ("", ""), rows)
    if agent.examples:
        show_table(f"{len(agent.examples)} example tasks", ("",), [(example,) for example in agent.examples])


@agents.command()
@click.argument("directory", metavar="[DIR]", required=False, type=click.Path(path_type=Path))
@click.option("--strict", is_flag=True, help="The exit code is 1 for findings and notes, too.")
@json_option
@click.pass_context
def lint(ctx: click.Context, directory: Path | None, strict: bool, as_json: bool) -> None:
    """Check the agents in DIR (or an agents file): which collide, say too little, or cannot be read.

    Without DIR the built-in agents are checked. The exit code is 1 when an agent cannot be used; with --strict
    when there is anything to change, so that a build can ask for clean agents.

    \b
    Examples:
      ruvllm agents lint .claude/agents
      ruvllm agents lint agents.toml --json
      ruvllm agents lint --strict .claude/agents
    """
    found, problems = read_agents(directory) if directory else (list(builtin_agents()), [])
    skipped, notes = [one for one in problems if one.skipped], [one for one in problems if not one.skipped]
    findings: list[Finding] = []
    if found:
        with RuvLLM(found, encoder="static") as llm:
            findings = llm.lint()
    if as_json:
        told = {"findings": [asdict(finding) for finding in findings], "notes": _rows(notes), "skipped": _rows(skipped)}
        print_json({"agents": len(found)} | told)
    else:
        _show_problems("Skipped", skipped)
        _show_problems("Left out", notes)
        _show_findings(findings)
        counts = f"{len(findings)} finding(s), {len(notes)} note(s), {len(skipped)} skipped"
        click.echo(f"{len(found)} agents, {counts}")
    ctx.exit(1 if skipped or (strict and (findings or notes)) else 0)


def _agents(path: Path | None) -> Sequence[Agent]:
    if path is None:
        return builtin_agents()
    found, problems = read_agents(path)
    warn_of_skipped(problems, path)
    return found


def _named(name: str, found: Sequence[Agent]) -> Agent:
    agent = next((agent for agent in found if agent.name == name), None)
    if agent is None:
        raise unknown("agent", name, (agent.name for agent in found))
    return agent


def _tier(agent: Agent) -> str:
    return str(int(agent.tier)) if agent.tier else "auto"


def _facts(agent: Agent) -> list[tuple[str, str]]:
    return [
        ("description", agent.description),
        ("category", agent.category),
        ("tier", "by the task's difficulty" if agent.tier is None else str(int(agent.tier))),
        ("model", agent.model or ""),
        ("keywords", ", ".join(agent.keywords)),
        ("tools", ", ".join(agent.tools)),
        ("requires", ", ".join(agent.requires)),
        ("source", agent.source),
    ]


def _rows(problems: Sequence[AgentFileError]) -> list[dict[str, Any]]:
    return [{"where": problem.field, "message": problem.message, "fix": problem.fix} for problem in problems]


def _show_problems(heading: str, problems: Sequence[AgentFileError]) -> None:
    if problems:
        click.secho(heading, bold=True)
    for problem in problems:
        named = problem.field in problem.message
        _show_item(problem.message if named else f"{problem.field}: {problem.message}", problem.fix)


def _show_findings(findings: Sequence[Finding]) -> None:
    for kind in dict.fromkeys(finding.kind for finding in findings):
        click.secho(_HEADINGS.get(kind, kind), bold=True)
        for finding in findings:
            if finding.kind == kind:
                _show_item(f"{', '.join(finding.agents)}: {finding.message}", finding.fix, finding.prompts)


def _show_item(what: str, fix: str, prompts: Sequence[str] = ()) -> None:
    click.echo(f"  {plain(what)}")
    for prompt in prompts[:3]:
        click.secho(f"      {plain(prompt)}", dim=True)
    if len(prompts) > 3:
        click.secho(f"      and {len(prompts) - 3} more", dim=True)
    click.echo(f"    fix: {plain(fix)}")
