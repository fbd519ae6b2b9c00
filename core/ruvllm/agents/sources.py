"""Several places that agents come from at once: whose each is, and whose counts where two have one name."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from ruvllm.agents.catalog import MAX_AGENTS, as_agents, unique
from ruvllm.agents.folders import Found
from ruvllm.agents.readers import read_agents
from ruvllm.disk_cache import DiskCache
from ruvllm.errors import LINT, AgentFileError, InputError, RuvllmError, unknown
from ruvllm.reprs import Shown
from ruvllm.types import Agent

SCOPES = ("project", "user", "plugin")  # whose counts first
_MOST_BYTES = 4_000_000  # of a registry of plugins
_MOST_PLUGINS = 200
_SAME = 0.97  # cosine of two texts that say the same
Encode = Callable[[Sequence[str]], Any]
# Where clients look, below a project and below the user's home; files and folders that are not there are passed over.
CLIENTS: dict[str, dict[str, tuple[str, ...]]] = {
    "claude": {
        "project": (".claude/agents", ".claude/skills", ".claude/commands"),
        "user": (".claude/agents", ".claude/skills", ".claude/commands"),
    },
    "codex": {
        "project": (".codex/agents", ".codex/skills", ".agents/skills", "AGENTS.md"),
        "user": (".codex/agents", ".codex/skills", ".codex/prompts", ".agents/skills"),
    },
    "copilot": {
        "project": (".github/agents", ".github/chatmodes", ".github/prompts", ".github/instructions", ".github/skills"),
        "user": (".copilot/agents", ".copilot/skills"),
    },
    "opencode": {
        "project": (
            ".opencode/agents", ".opencode/agent", ".opencode/commands", ".opencode/command", ".opencode/skills",
            "opencode.json", "opencode.jsonc",
        ),
        "user": (
            ".config/opencode/agents", ".config/opencode/agent", ".config/opencode/commands",
            ".config/opencode/command", ".config/opencode/opencode.json", ".config/opencode/opencode.jsonc",
        ),
    },
    "cursor": {
        "project": (".cursor/agents", ".cursor/rules", ".cursor/commands", ".cursor/skills"),
        "user": (".cursor/agents", ".cursor/commands", ".cursor/skills"),
    },
}  # fmt: skip


@runtime_checkable
class Source(Protocol):
    """Whatever has agents; `path` is what problems call it."""

    @property
    def path(self) -> str:
        """Where it is, as it was named."""

    def read(self, cache: DiskCache | None = None) -> Found:
        """Its agents, and what could not be used. Raises RuvllmError: there are none to be had."""
        ...


@dataclass(frozen=True, slots=True, repr=False)
class AgentSource(Shown):
    """One place that agents come from.

    Attributes:
        path: a folder or a file, as `read_agents` takes it.
        scope: one of SCOPES, or "" for what whoever runs this named without one.
        plugin: its name, which stands before those of its agents.
    """

    path: str
    scope: str = ""
    plugin: str = ""

    def read(self, cache: DiskCache | None = None) -> Found:
        """Its agents, and what could not be used. Raises AgentFileError: it does not exist."""
        agents, problems = read_agents(self.path, cache)
        before = f"{self.plugin}:" if self.plugin else ""
        return [replace(one, name=before + one.name, scope=self.scope) for one in agents], problems


def sources_of(text: str, here: str | Path = ".") -> list[AgentSource]:
    """The sources that a text names, in the order that they count.

    Args:
        text: separated by commas: a path, one with its scope before it (`user:~/agents`, `plugin:./tools`), a client
            (`claude`, `codex`, `copilot`, `opencode`, `cursor`), or `auto` for what all of these have.
        here: the project's folder.

    Raises:
        InputError: a part names nothing.
    """
    found = list[AgentSource]()
    for part in filter(None, map(str.strip, text.split(","))):
        scope, colon, path = part.partition(":")
        if part == "auto" or part in CLIENTS:
            for client in CLIENTS if part == "auto" else (part,):
                found += _of_client(client, Path(here))
        elif colon and scope in SCOPES:
            path = os.path.expanduser(path)
            found.append(AgentSource(path, scope, _plugin_name(Path(path)) if scope == "plugin" else ""))
        elif os.path.exists(os.path.expanduser(part)):
            found.append(AgentSource(os.path.expanduser(part)))
        elif os.sep in part or "." in part:
            fix = "give a folder of agents or an agents file"
            raise AgentFileError(f"{part} does not exist", field=part, fix=fix)
        else:
            raise unknown("source", part, ("auto", *CLIENTS, *(f"{one}:PATH" for one in SCOPES)))
    order = ("", *SCOPES)
    return sorted(dict.fromkeys(found), key=lambda one: order.index(one.scope))


def given_agents(given: object, cache: DiskCache | None = None, encode: Encode | None = None) -> Found:
    """Agents as a path or sources, or as code gives them.

    Args:
        given: what `RuvLLM` takes; a text that is no path may name sources, as `sources_of` reads it.
        encode: for `without_copies`, which several sources are read with.

    Raises:
        AgentFileError, InputError: no usable one is there.
    """
    if isinstance(given, Source):
        given = [given]
    if isinstance(given, list | tuple) and given and all(isinstance(one, Source | Path) for one in given):
        sources = [AgentSource(str(one)) if isinstance(one, Path) else one for one in given]
        return read_sources(sources, cache, encode)
    if not isinstance(given, str | Path):
        return list(unique(as_agents(given))), []
    if not os.path.exists(given) and names_sources(str(given)):
        return read_sources(sources_of(str(given)), cache, encode)
    agents, problems = read_agents(given, cache)
    if not agents:
        first = f" ({problems[0].message})" if problems else ""
        raise InputError(f"{given} holds no usable agent{first}", field="agents", fix=LINT)
    return agents, problems


def names_sources(text: str) -> bool:
    """Whether a text is no path but names sources."""
    parts = [part.strip() for part in text.split(",")]
    return any(part == "auto" or part in CLIENTS or part.partition(":")[0] in SCOPES for part in parts)


def read_sources(sources: Iterable[Source], cache: DiskCache | None = None, encode: Encode | None = None) -> Found:
    """The agents of several sources; of one name and kind those of the first source count, and a problem says so.

    Raises:
        InputError: none of them has any agent.
    """
    agents, problems, looked = dict[str, Agent](), list[AgentFileError](), list[str]()
    for source in sources:
        looked.append(source.path)
        try:
            found, more = source.read(cache)
        except (RuvllmError, OSError) as error:
            fix = "check the path and its permissions"
            found, more = [], [AgentFileError(str(error), field=source.path, fix=getattr(error, "fix", fix))]
        problems += more
        for agent in found:
            if (before := agents.get(agent.name)) is not None and before.kind != agent.kind:
                agent = replace(agent, name=f"{agent.kind}:{agent.name}")
            if (before := agents.get(agent.name)) is not None:
                where = agent.source or source.path
                message = f"{where}: {agent.name!r} is hidden by that of {before.source}"
                problems.append(AgentFileError(message, field=where, fix="rename one of the two", skipped=False))
            elif len(agents) == MAX_AGENTS:
                raise InputError(f"more than {MAX_AGENTS} agents", field="agents", fix="name fewer sources")
            else:
                agents[agent.name] = agent
    if not agents:
        seen = f"there are no agents in {', '.join(looked[:8])}" if looked else "no client on this machine has agents"
        first = f" ({problems[0].message})" if problems else ""
        fix = "give a folder or file that has some, such as .claude/agents, or nothing for the built-in ones"
        raise InputError(f"{seen}{first}", field="agents", fix=fix)
    if encode is None:
        return list(agents.values()), problems
    chosen, copies = without_copies(list(agents.values()), encode)
    return chosen, problems + copies


def without_copies(agents: Sequence[Agent], encode: Encode) -> Found:
    """Without what agents of a project have of those of other sources, so that they draw no task of these.

    A project is whatever was cloned: its agents cannot say that they are the user's. One that is described as another
    source's agent is left out, and an example that another source's agent has is no example of a project's.

    Args:
        encode: texts -> unit vectors, float32 (texts, dim).
    """
    if len({agent.scope == "project" for agent in agents}) < 2:
        return list(agents), []
    others = [agent for agent in agents if agent.scope != "project"]
    theirs = encode([agent.description for agent in others])
    texts = [text for agent in others for text in agent.examples]
    examples = encode(texts or [""])
    out, problems = list[Agent](), list[AgentFileError]()
    for agent in agents:
        if agent.scope != "project":
            out.append(agent)
            continue
        alike = theirs @ encode([agent.description])[0]
        if agent.description and float(alike.max()) >= _SAME:
            name = others[int(alike.argmax())].name
            why = f"{agent.source}: the project's {agent.name!r} says what {name!r} of another source says"
            problems.append(AgentFileError(why, field=agent.source, fix="say what only this agent does"))
            continue
        near = (encode(agent.examples) @ examples.T).max(1).tolist() if agent.examples else []
        free = tuple(text for text, most in zip(agent.examples, near, strict=True) if most < _SAME)
        if len(free) < len(agent.examples):
            count = len(agent.examples) - len(free)
            why = f"{agent.source}: {count} example(s) of the project's {agent.name!r} are another source's"
            fix = "leave them to the other agent"
            problems.append(AgentFileError(why, field=agent.source, fix=fix, skipped=False))
        out.append(replace(agent, examples=free))
    return out, problems


def _of_client(client: str, here: Path) -> Iterator[AgentSource]:
    """What a client would find from a project's folder."""
    home = Path(os.path.expanduser("~"))
    for scope, root in (("project", here), ("user", home)):
        if scope == "project" and here.resolve() == home.resolve():
            continue  # the same folders are the user's
        for part in CLIENTS[client][scope]:
            path = root / part
            if client == "claude" and scope == "user":
                path = user_folder(client) / part.removeprefix(".claude/")
            if path.exists():
                yield AgentSource(str(path), scope)
    if client == "claude":
        for key, root, _ in installed_plugins(user_folder(client) / "plugins" / "installed_plugins.json"):
            for kind in ("agents", "skills", "commands"):
                if (root / kind).is_dir():
                    yield AgentSource(str(root / kind), "plugin", key.partition("@")[0])


def user_folder(client: str) -> Path:
    """Where Claude Code ("claude"), "codex" or "opencode" keeps a user's settings."""
    home = Path("~").expanduser()
    return {
        "claude": Path(os.environ.get("CLAUDE_CONFIG_DIR") or home / ".claude"),
        "codex": Path(os.environ.get("CODEX_HOME") or home / ".codex"),
        "opencode": Path(os.environ.get("XDG_CONFIG_HOME") or home / ".config") / "opencode",
    }[client]


def installed_plugins(registry: Path) -> Iterator[tuple[str, Path, Path | None]]:
    """("name@marketplace", folder, the project that it is for) of what Claude Code's installed_plugins.json names.

    Nothing where the file cannot be read; the project is None for a plugin of all projects.
    """
    found: Any = {}
    with suppress(OSError, ValueError, RecursionError):
        if registry.is_file() and registry.stat().st_size <= _MOST_BYTES:
            found = json.loads(registry.read_bytes())
    plugins = found.get("plugins") if isinstance(found, dict) else None
    for key, entries in islice(plugins.items() if isinstance(plugins, dict) else (), _MOST_PLUGINS):
        for entry in entries if isinstance(entries, list) else [entries]:
            if isinstance(entry, dict) and isinstance(entry.get("installPath"), str):
                project = entry.get("projectPath")
                yield key, Path(entry["installPath"]), Path(project) if isinstance(project, str) else None


def _plugin_name(root: Path) -> str:
    for manifest in (root / ".claude-plugin" / "plugin.json", root / ".codex-plugin" / "plugin.json"):
        with suppress(OSError, ValueError, RecursionError, AttributeError):
            name = json.loads(manifest.read_bytes()[:_MOST_BYTES]).get("name")
            if isinstance(name, str) and name:
                return name[:100]
    return root.resolve().name
