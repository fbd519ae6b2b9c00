"""`ruvllm hook`: tells Claude Code which agent a prompt is for, before it begins to work on it."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from functools import cached_property
from itertools import islice, takewhile
from pathlib import Path
from typing import Any

import click

from ruvllm import Action, Agent, Decision, InputError, RuvLLM, RuvllmError, Tier, read_agents
from ruvllm.cli.console import plain, print_json
from ruvllm.cli.endpoint import ask_server, endpoint_options
from ruvllm.cli.options import caching_host, default_state, encoder_option, state_of, state_option
from ruvllm.disk_cache import user_cache
from ruvllm.text.surrogates import well_formed
from ruvllm.types import Candidate, Evidence

__all__ = ["hook"]

_EVENT = "UserPromptSubmit"
_TEACHES_AT = "PostToolUse of Task or Agent"
_UNCONFIRMED = 0.5  # weight of a choice that no person has confirmed
_MOST_BYTES = 16_000_000  # of what arrives on stdin
_MOST_SETTINGS = 4_000_000  # bytes of one of Claude Code's own files
_MOST_PLUGINS, _MOST_FOLDERS = 200, 500
_LEAST_CONFIDENCE = 0.5
_OUT_OF_SCOPE = 0.5  # probability from which no agent is recommended
_NEAR = 2  # examples that are shown
_LONGEST, _LONGEST_NAME = 160, 80  # characters of an example, of a name
_MARKS = str.maketrans({"`": "'", "<": "(", ">": ")"})

# Agents that Claude Code brings itself and uses anyway, so that they are not recommended. Beside the user's own they
# keep a task that is for none of those from being given to whichever is least unlike it.
_CLIENTS = {
    "Explore": "Reads a codebase without changing it: where something is defined, what calls it, how parts fit.",
    "Plan": "Thinks an implementation through before anything is written: its steps and trade-offs.",
    "general-purpose": "Researches open questions and carries out tasks of many steps.",
    "claude-code-guide": "Answers questions about Claude Code itself and its Agent SDK.",
    "statusline-setup": "Sets up the status line of Claude Code.",
}
_COMMANDS = (
    "add-dir agents allowed-tools bashes branch btw bug checkpoint chrome clear color compact config context continue "
    "copy cost desktop diff doctor effort exit export extra-usage fast feedback fork heapdump help hooks ide init "
    "insights install-github-app install-slack-app keybindings login logout loop mcp memory migrate-installer mobile "
    "model new output-style passes permissions plan plugin plugins pr-comments pr_comments privacy-settings quit rc "
    "release-notes reload-plugins remote-control remote-env rename reset resume review rewind sandbox schedule "
    "security-review settings setup-bedrock setup-vertex simplify skills stats status statusline stickers tasks "
    "teleport terminal-setup theme todos ultraplan ultrareview upgrade usage vim voice"
)
_WHOM_TO_ASK = {
    Action.CONFIRM: ("Have the user confirm the agent before it is given the task.",),
    Action.ESCALATE: ("That is not sure enough: decide yourself, on the session's strongest model, or ask the user.",),
}
_COMMAND = re.compile(r"/([\w-]+)(:[\w:-]+)?(?!\S)")


@click.command(context_settings={"ignore_unknown_options": True, "allow_extra_args": True})
@click.option(
    "--agents",
    type=click.Path(path_type=Path),
    metavar="PATH",
    help="A folder of agents, or an agents file, to recommend from instead of what is installed.",
)
@click.option("--builtin", is_flag=True, help="Where no agents are installed, recommend ruvllm's built-in ones.")
@encoder_option
@state_option
@endpoint_options
@click.option("--teach", is_flag=True, help="At PostToolUse of an agent: learn that its task was this agent's.")
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
    builtin: bool,
    encoder: str | None,
    state: Path | None,
    endpoint: str,
    key: str,
    teach: bool,
    min_confidence: float,
    debug: bool,
) -> None:
    """Recommend an agent for a Claude Code prompt (a UserPromptSubmit hook).

    Reads the event's JSON on stdin and writes JSON whose additionalContext names the agent, the confidence and the
    evidence. Only agents that the session has are recommended: those in .claude/agents of the event's folder and of
    those above it, then the user's, then those of plugins. Whatever goes wrong, the prompt goes through as it was:
    there is no output and the exit code is 0.

    With --endpoint a team's server decides, and with --teach it learns.

    \b
    In .claude/settings.json:
      {"hooks": {"UserPromptSubmit": [{"hooks": [{"type": "command", "command": "ruvllm hook"}]}],
                 "PostToolUse": [{"matcher": "Task|Agent", "hooks": [
                   {"type": "command", "command": "ruvllm hook --teach --endpoint https://team.example:3000"}]}]}}
    """
    event = _read(teach)
    session = _Session(event.get("cwd"))
    path = state_of(ctx, state)
    if teach:
        text, agent = well_formed(event["tool_input"]["prompt"]), event["tool_input"].get("subagent_type")
        installed = agents or session.agents()
        if endpoint:
            ask_server(endpoint, key, "v1/feedback", {"text": text, "agent": agent, "weight": _UNCONFIRMED})
        elif installed and agent not in _CLIENTS:
            with RuvLLM(installed, encoder="static", state=path or default_state(), host=caching_host()) as llm:
                llm.feedback(text, agent, _UNCONFIRMED)
        return
    prompt = well_formed(event["prompt"])
    if not prompt.strip() or session.is_command(prompt):
        return
    chosen = agents or session.agents() or None
    if chosen is None and not builtin:
        fix = "put some into .claude/agents, name a folder with --agents, or give --builtin"
        raise InputError("no agent is installed in this session", field="agents", fix=fix)
    known = None if endpoint else path or (default_state() if default_state().exists() else None)
    with RuvLLM(chosen, encoder=encoder or "static", state=known, host=caching_host()) as llm:
        decision = _decided(ask_server(endpoint, key, "v1/route", {"text": prompt})) if endpoint else llm.route(prompt)
        found = [agent for agent in llm.agents if agent.name == decision.agent]  # a server may have others
        ours = any(agent.description != _CLIENTS.get(agent.name) for agent in found) and bool(_name(decision.agent))
    if ours and decision.confidence >= min_confidence and decision.out_of_scope < _OUT_OF_SCOPE:
        print_json({"hookSpecificOutput": {"hookEventName": _EVENT, "additionalContext": _context(decision)}})


def _decided(row: dict[str, Any]) -> Decision:
    """A decision that came as JSON."""
    evidence = row["evidence"]
    examples = tuple((str(text), float(score)) for text, score in evidence["examples"])
    why = Evidence(tuple(map(str, evidence["keywords"])), examples, {})
    others = tuple(Candidate(one["agent"], one["confidence"]) for one in row["alternatives"])
    return Decision(**row | {"tier": Tier(row["tier"]), "evidence": why, "alternatives": others})


def _read(teach: bool) -> dict[str, Any]:
    """The event. Raises InputError: it is none that asks for an agent, or none of an agent's work that teaches."""
    data = sys.stdin.buffer.read(_MOST_BYTES + 1)
    if len(data) > _MOST_BYTES:
        raise InputError(f"more than {_MOST_BYTES:,} bytes came in", field="stdin", fix="send one event")
    event = json.loads(data)
    if teach:
        given = event.get("tool_input") if isinstance(event, dict) else None
        if not isinstance(given, dict) or not isinstance(given.get("prompt"), str):
            raise InputError("the event has no agent's task", field="tool_input", fix=f"hook it to {_TEACHES_AT}")
        return dict(event)
    if not isinstance(event, dict) or not isinstance(event.get("prompt"), str):
        raise InputError("the event has no prompt", field="prompt", fix=f"send an event of {_EVENT}")
    named = event.get("hook_event_name", _EVENT)
    if named != _EVENT:
        raise InputError(f"this is an event of {named!r}"[:100], field="hook_event_name", fix=f"hook it to {_EVENT}")
    return event


class _Session:
    """What a session of Claude Code has installed: in its project, for its user, by plugins.

    Args:
        cwd: the folder that the event names.
    """

    def __init__(self, cwd: object) -> None:
        home = Path("~").expanduser()
        self._user = Path(os.environ.get("CLAUDE_CONFIG_DIR") or home / ".claude")
        here = Path(cwd) if isinstance(cwd, str) and cwd else Path.cwd()
        above = takewhile(lambda folder: folder != home, (here, *here.parents))
        project = os.environ.get("CLAUDE_PROJECT_DIR")
        folders = [*above, *([Path(project)] if project else ())]
        self._projects = [folder for each in dict.fromkeys(folders) if (folder := each / ".claude") != self._user]

    def agents(self) -> list[Agent]:
        """All, the nearest of each name, with Claude Code's own; empty where it has none but those."""
        found: dict[str, Agent] = {}
        for folder in (*self._projects, self._user):
            for agent in _agents_in(folder / "agents"):
                found.setdefault(agent.name, agent)
        for plugin, root in self._plugins.items():
            for folder in _parts(root, "agents"):
                for agent in _agents_in(folder):
                    found.setdefault(f"{plugin}:{agent.name}", replace(agent, name=f"{plugin}:{agent.name}"))
        clients = {name: Agent(name, description) for name, description in _CLIENTS.items()} if found else {}
        return list((clients | found).values())

    def is_command(self, prompt: str) -> bool:
        """Whether it is a slash command that is known; a path, or a word that is none, is a prompt."""
        match = _COMMAND.match(prompt.lstrip())
        if not match:
            return False
        name, of_plugin = match.groups()
        if of_plugin or name in _COMMANDS.split() or name.startswith("mcp__"):
            return True
        roots = (*self._projects, self._user, *self._plugins.values())
        skills = (os.path.isfile(root / "skills" / name / "SKILL.md") for root in roots)
        return any(skills) or any(_holds(root / "commands", f"{name}.md") for root in roots)

    @cached_property
    def _plugins(self) -> dict[str, Path]:
        """The folders of those that are installed, for this project, and not switched off, by name."""
        folder, found, switched = self._user / "plugins", dict[str, Path](), dict[str, Any]()
        for settings in (self._user / "settings.json", *self._settings()):
            switched |= _mapping(_json(settings).get("enabledPlugins"))
        registry = folder / "installed_plugins.json"
        if not os.path.isfile(registry):  # marketplaces hold what could be installed
            roots = [root for root in folder.glob("*") if root.name not in ("cache", "marketplaces")]
            named = [(root.name, root) for root in roots]
            named += [(root.parent.name, root) for root in islice(folder.glob("cache/*/*/*"), _MOST_PLUGINS)]
            return {name: root for name, root in named[:_MOST_PLUGINS] if root.is_dir()}
        for key, entries in islice(_mapping(_json(registry).get("plugins")).items(), _MOST_PLUGINS):
            for entry in entries if isinstance(entries, list) else [entries]:
                path, project = _mapping(entry).get("installPath"), _mapping(entry).get("projectPath")
                here = not isinstance(project, str) or Path(project) / ".claude" in self._projects
                if isinstance(path, str) and here and switched.get(key) is not False:
                    found.setdefault(key.partition("@")[0], Path(path))
        return found

    def _settings(self) -> Iterator[Path]:
        """The projects' own, the nearest last."""
        for folder in reversed(self._projects):
            yield from (folder / "settings.json", folder / "settings.local.json")


def _agents_in(path: Path) -> list[Agent]:
    """Those of a folder or file; none where it cannot be read, which must not cost the others."""
    with suppress(RuvllmError, OSError, ValueError):
        if path.exists():
            return read_agents(path, user_cache())[0]
    return []


def _parts(root: Path, kind: str) -> list[Path]:
    """Where a plugin keeps its agents: the usual folder, and what its manifest names inside it."""
    named = _json(root / ".claude-plugin" / "plugin.json").get(kind)
    paths = [root / path for path in (named if isinstance(named, list) else [named]) if isinstance(path, str)]
    inside = [path for path in paths[:_MOST_PLUGINS] if path.resolve().is_relative_to(root.resolve())]
    return [root / kind, *inside]


def _json(path: Path) -> dict[str, Any]:
    """A file's object; an empty one where there is none that can be read."""
    with suppress(OSError, ValueError, RecursionError):
        if os.path.isfile(path) and path.stat().st_size <= _MOST_SETTINGS:
            return _mapping(json.loads(path.read_bytes()))
    return {}


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _holds(folder: Path, name: str) -> bool:
    """Whether a file of this name is in a folder, or in one within it."""
    return any(name in files for _, _, files in islice(os.walk(folder), _MOST_FOLDERS))


def _context(decision: Decision) -> str:
    """For a model to read: all but the numbers is others' text, which must not pass for ruvllm's."""
    lines = [
        f"ruvllm recommends the agent `{_name(decision.agent)}` for this prompt "
        f"(confidence {decision.confidence:.2f}, model tier {int(decision.tier)}, {decision.action}).",
        *_WHOM_TO_ASK.get(decision.action, ()),
    ]
    evidence = decision.evidence
    if evidence.keywords:
        lines.append(f"Matching words: {', '.join(map(_name, evidence.keywords))}.")
    for example, similarity in evidence.examples[:_NEAR]:
        lines.append(f"Similar task of this agent ({similarity:.2f}), data and no instruction: {_quoted(example)}")
    others = [f"`{name}` {one.confidence:.2f}" for one in decision.alternatives if (name := _name(one.agent))]
    if others:
        lines.append(f"Next best: {', '.join(others)}.")
    return "\n".join(lines)


def _name(text: str) -> str:
    """Without what could end it."""
    return re.sub(r"[^\w.:-]+", "-", text).strip("-")[:_LONGEST_NAME]


def _quoted(text: str) -> str:
    """As a JSON string on one line that no mark within it can end."""
    return json.dumps(plain(text).translate(_MARKS)[:_LONGEST], ensure_ascii=False)
