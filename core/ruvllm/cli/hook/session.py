"""What a session of a coding agent has installed: in its project, for its user, by plugins, by the client itself."""

from __future__ import annotations

import json
import os
import re
import tomllib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from functools import cached_property
from itertools import islice, takewhile
from pathlib import Path
from typing import Any

from ruvllm import Agent, RuvllmError, read_agents
from ruvllm.agents.readers import read_row
from ruvllm.agents.sources import installed_plugins, user_folder
from ruvllm.disk_cache import user_cache

_MOST_SETTINGS = 4_000_000  # bytes of one of a client's files
_MOST_TOML, _MOST_DOTS = 200_000, 30  # bytes; dots in a line, as dotted keys take tomllib quadratic time
_QUOTED = re.compile(r'"""(?:[^\\]|\\.)*?"""|"(?:[^"\\\n]|\\.)*"', re.DOTALL)
_MOST_PLUGINS, _MOST_FOLDERS, _MOST_FILES = 200, 500, 500

# Agents that a client brings itself and uses anyway, so that they are not recommended. Beside the user's own they
# keep a task that is for none of those from being given to whichever is least unlike it.
_CLAUDE = {
    "Explore": "Reads a codebase without changing it: where something is defined, what calls it, how parts fit.",
    "Plan": "Thinks an implementation through before anything is written: its steps and trade-offs.",
    "general-purpose": "Researches open questions and carries out tasks of many steps.",
    "claude-code-guide": "Answers questions about Claude Code itself and its Agent SDK.",
    "statusline-setup": "Sets up the status line of Claude Code.",
}
_CODEX = {
    "default": "Carries out tasks of many steps.",
    "explorer": "Answers a question about a codebase without changing it: where something is, how parts fit.",
    "worker": "Carries out a change that has been decided, in files that are its own.",
}
_OPENCODE = {
    "build": "Carries out tasks of many steps with all tools.",
    "plan": "Thinks an implementation through before anything is written.",
    "general": "Researches open questions and carries out tasks of many steps.",
    "explore": "Reads a codebase without changing it: where something is defined, what calls it.",
}
BUILTIN = {"claude": _CLAUDE, "codex": _CODEX, "opencode": _OPENCODE}  # client -> its agents
CLIENTS = tuple(BUILTIN)
_FOLDERS = {"claude": ".claude", "codex": ".codex", "opencode": ".opencode"}
_COMMANDS = (
    "add-dir agents allowed-tools bashes branch btw bug checkpoint chrome clear color compact config context continue "
    "copy cost desktop diff doctor effort exit export extra-usage fast feedback fork heapdump help hooks ide init "
    "insights install-github-app install-slack-app keybindings login logout loop mcp memory migrate-installer mobile "
    "model new output-style passes permissions plan plugin plugins pr-comments pr_comments privacy-settings quit rc "
    "release-notes reload-plugins remote-control remote-env rename reset resume review rewind sandbox schedule "
    "security-review settings setup-bedrock setup-vertex simplify skills stats status statusline stickers tasks "
    "teleport terminal-setup theme todos ultraplan ultrareview upgrade usage vim voice"
)
_COMMAND = re.compile(r"/([\w-]+)(:[\w:-]+)?(?!\S)")


class Session:
    """What can be delegated to in a session.

    Args:
        cwd: the folder that the event names.
        client: "claude", "codex" or "opencode".

    Attributes:
        projects: folders of the client's settings in the session's folder and those above it, the nearest first.
        scopes: where each agent of `agents` comes from: "project", "user", "plugin" or "client".
    """

    def __init__(self, cwd: object, client: str = "claude") -> None:
        self._client, hidden = client, _FOLDERS[client]
        home = Path("~").expanduser()
        self._user = user_folder(client)
        here = Path(cwd) if isinstance(cwd, str) and cwd else Path.cwd()
        above = takewhile(lambda folder: folder != home, (here, *here.parents))
        project = os.environ.get("CLAUDE_PROJECT_DIR")
        folders = [*above, *([Path(project)] if project else ())]
        self.projects = [folder for each in dict.fromkeys(folders) if (folder := each / hidden) != self._user]
        self.scopes = dict[str, str]()

    def agents(self) -> list[Agent]:
        """All, the nearest of each name, with the client's own; empty where it has none but those."""
        found: dict[str, Agent] = {}
        for folder in (*self.projects, self._user):
            for agent in self._agents_in(folder):
                if found.setdefault(agent.name, agent) is agent:
                    self.scopes[agent.name] = "user" if folder == self._user else "project"
        for plugin, root in self._plugins.items():
            for folder in _parts(root, "agents"):
                for agent in _read(folder):
                    name = f"{plugin}:{agent.name}"
                    if found.setdefault(name, replace(agent, name=name)) is not agent:
                        self.scopes.setdefault(name, "plugin")
        builtin = {name: Agent(name, description) for name, description in BUILTIN[self._client].items()}
        for name in builtin.keys() - found.keys():
            self.scopes[name] = "client"
        return list((builtin | found).values()) if found else []

    def is_command(self, prompt: str) -> bool:
        """Whether it is a slash command that is known; a path, or a word that is none, is a prompt."""
        match = _COMMAND.match(prompt.lstrip())
        if not match:
            return False
        name, of_plugin = match.groups()
        if of_plugin or name in _COMMANDS.split() or name.startswith("mcp__"):
            return True
        roots = (*self.projects, self._user, *self._plugins.values())
        skills = (os.path.isfile(root / "skills" / name / "SKILL.md") for root in roots)
        return any(skills) or any(_holds(root / "commands", f"{name}.md") for root in roots)

    def _agents_in(self, folder: Path) -> list[Agent]:
        """Those that a folder of the client's settings holds."""
        if self._client == "opencode":
            return [*_read(folder / "agents"), *_read(folder / "agent")]
        if self._client == "claude":
            return _read(folder / "agents")
        found, files = list[Agent](), list[Path]()
        with suppress(OSError, ValueError):
            files = sorted((folder / "agents").glob("*.toml"))[:_MOST_FILES]
        for file in files:
            row = {key: value for key, value in read_toml(file).items() if key in ("name", "description", "model")}
            found += read_row({"name": file.stem} | row, str(file), str(file))[0]
        return found

    @cached_property
    def _plugins(self) -> dict[str, Path]:
        """The folders of those that are installed, for this project, and not switched off, by name."""
        if self._client != "claude":
            return {}
        folder, found, switched = self._user / "plugins", dict[str, Path](), dict[str, Any]()
        for settings in (self._user / "settings.json", *self._settings()):
            switched |= _mapping(read_json(settings).get("enabledPlugins"))
        registry = folder / "installed_plugins.json"
        if not os.path.isfile(registry):  # marketplaces hold what could be installed
            roots = [root for root in folder.glob("*") if root.name not in ("cache", "marketplaces")]
            named = [(root.name, root) for root in roots]
            named += [(root.parent.name, root) for root in islice(folder.glob("cache/*/*/*"), _MOST_PLUGINS)]
            return {name: root for name, root in named[:_MOST_PLUGINS] if root.is_dir()}
        for key, root, project in installed_plugins(registry):
            here = project is None or project / ".claude" in self.projects
            if here and switched.get(key) is not False:
                found.setdefault(key.partition("@")[0], root)
        return found

    def _settings(self) -> Iterator[Path]:
        """The projects' own, the nearest last."""
        for folder in reversed(self.projects):
            yield from (folder / "settings.json", folder / "settings.local.json")


def read_json(path: Path) -> dict[str, Any]:
    """A file's object; an empty one where there is none that can be read."""
    with suppress(OSError, ValueError, RecursionError):
        if os.path.isfile(path) and path.stat().st_size <= _MOST_SETTINGS:
            return _mapping(json.loads(path.read_bytes()))
    return {}


def read_toml(path: Path) -> dict[str, Any]:
    """A TOML file's table; an empty one where there is none that can be read."""
    with suppress(OSError, ValueError, RecursionError):
        if os.path.isfile(path) and path.stat().st_size <= _MOST_TOML:
            text = path.read_text("utf-8")
            lines = _QUOTED.sub('""', text).split("\n")
            return {} if any(line.count(".") > _MOST_DOTS for line in lines) else tomllib.loads(text)
    return {}


def _read(path: Path) -> list[Agent]:
    """Those of a folder or file; none where it cannot be read, which must not cost the others."""
    with suppress(RuvllmError, OSError, ValueError):
        if path.exists():
            return read_agents(path, user_cache())[0]
    return []


def _parts(root: Path, kind: str) -> list[Path]:
    """Where a plugin keeps its agents: the usual folder, and what its manifest names inside it."""
    named = read_json(root / ".claude-plugin" / "plugin.json").get(kind)
    paths = [root / path for path in (named if isinstance(named, list) else [named]) if isinstance(path, str)]
    inside = [path for path in paths[:_MOST_PLUGINS] if path.resolve().is_relative_to(root.resolve())]
    return [root / kind, *inside]


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _holds(folder: Path, name: str) -> bool:
    """Whether a file of this name is in a folder, or in one within it."""
    return any(name in files for _, _, files in islice(os.walk(folder), _MOST_FOLDERS))
