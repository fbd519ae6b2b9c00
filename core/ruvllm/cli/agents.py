"""`ruvllm agents`: which agents there are, what one is, and what to change about a set."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ruvllm import Agent, AgentFileError, RuvLLM, read_agents
from ruvllm.agents.catalog import KINDS, builtin_agents
from ruvllm.agents.folders import Found
from ruvllm.agents.sources import Source, given_agents, names_sources, read_sources, sources_of
from ruvllm.cli.agents_test import test
from ruvllm.cli.console import plain, print_json, show_table, warn
from ruvllm.cli.options import agents_option, json_option, warn_of_skipped
from ruvllm.cli.remote import RemoteSource, is_url, servers_of
from ruvllm.disk_cache import user_cache
from ruvllm.errors import unknown

if TYPE_CHECKING:
    from ruvllm.routing.lint import Finding


_HEADINGS = {
    "empty": "Nothing to route by",
    "short": "Too little to route by",
    "long": "Too long",
    "trigger": "Does not say when",
    "product": "Of one product",
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
      ruvllm agents test prompts.json --agents .claude/agents --junit report.xml
    """


@agents.command("list")
@agents_option
@click.option(
    "--from",
    "places",
    multiple=True,
    metavar="SOURCE",
    help="Where agents, skills, commands and tools come from, instead of --agents: a folder or file of any format that "
    "is known, `project:`, `user:` or `plugin:` and a path, a client (claude, codex, copilot, opencode, cursor), auto, "
    "an MCP client's configuration, or the URL of a document or an MCP server. May be given several times.",
)
@click.option("--kind", type=click.Choice(KINDS), help="Only these.")
@click.option("--start", is_flag=True, help="Start the MCP servers that a configuration names as commands.")
@click.option("--private", is_flag=True, help="Let URLs lead to this machine and its network.")
@json_option
def list_(
    agents: Path | None, places: tuple[str, ...], kind: str | None, start: bool, private: bool, as_json: bool
) -> None:
    """List the agents that tasks are routed among, or what other places have.

    Of two with one name that of the project counts before the user's, and this before a plugin's.

    \b
    Examples:
      ruvllm agents list
      ruvllm agents list --agents .claude/agents --json
      ruvllm agents list --from auto
      ruvllm agents list --from claude --from user:~/more-agents --kind skill
      ruvllm agents list --from openapi.yaml
      ruvllm agents list --from .mcp.json --start
    """
    found = _from(places, start, private) if places else _agents(agents)
    found = [agent for agent in found if kind in (None, agent.kind)]
    if as_json:
        print_json([asdict(agent) for agent in found])
        return
    if places:
        rows = [(a.name, a.kind, a.scope, a.model or _tier(a), str(len(a.examples)), a.description) for a in found]
        names = ("Name", "Kind", "Scope", "Model", "Examples", "Description")
        show_table(_counts(found), names, rows, right=("Examples",), cut="Description")
        return
    short = [(a.name, a.category, _tier(a), str(len(a.examples)), a.description) for a in found]
    columns = ("Name", "Category", "Tier", "Examples", "Description")
    show_table(f"{len(found)} agents", columns, short, right=("Tier", "Examples"), cut="Description")


def _counts(found: Sequence[Agent]) -> str:
    kinds = Counter(agent.kind for agent in found)
    return ", ".join(f"{count} {kind}{'' if count == 1 else 's'}" for kind, count in kinds.items()) or "nothing"


def _from(places: Sequence[str], start: bool, private: bool) -> list[Agent]:
    """The agents of sources; what cannot be used is said, and stops no other."""
    sources = list[Source]()
    for place in places:
        remote: list[RemoteSource] = [RemoteSource(place, private=private)] if is_url(place) else []
        sources += remote or servers_of(Path(place), start, private) or sources_of(place)
    found, problems = read_sources(sources, user_cache())
    for problem in problems:
        warn(f"{problem.message}; {problem.fix}" if problem.fix else problem.message)
    return found


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
    """Check the agents in DIR (or a file, or sources as --agents takes them): which collide, say too little or too
    much, do not say when to use them, or cannot be read.

    Without DIR the built-in agents are checked. The exit code is 1 when an agent cannot be used; with --strict
    when there is anything to change, so that a build can ask for clean agents.

    \b
    Examples:
      ruvllm agents lint .claude/agents
      ruvllm agents lint agents.toml --json
      ruvllm agents lint auto
      ruvllm agents lint --strict .claude/agents
    """
    found, problems = _linted(directory) if directory else (list(builtin_agents()), [])
    skipped, notes = [one for one in problems if one.skipped], [one for one in problems if not one.skipped]
    findings: list[Finding] = []
    if found:
        with RuvLLM(found, encoder="static") as llm:
            findings = llm.lint()
    if as_json:
        rows = {"notes": _rows(notes), "skipped": _rows(skipped)}
        print_json({"agents": len(found), "findings": [asdict(finding) for finding in findings], **rows})
    else:
        _show_problems("Skipped", skipped)
        _show_problems("Left out", notes)
        _show_findings(findings)
        counts = f"{len(findings)} finding(s), {len(notes)} note(s), {len(skipped)} skipped"
        click.echo(f"{len(found)} agents, {counts}")
    ctx.exit(1 if skipped or (strict and (findings or notes)) else 0)


agents.add_command(test)


def _linted(place: Path) -> Found:
    sources = not place.exists() and names_sources(str(place))
    return read_sources(sources_of(str(place)), user_cache()) if sources else read_agents(place)


def _agents(path: Path | None) -> Sequence[Agent]:
    if path is None:
        return builtin_agents()
    found, problems = given_agents(path)
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
        ("kind", agent.kind),
        ("scope", agent.scope),
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
