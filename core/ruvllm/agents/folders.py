"""The agent files of a folder, and what was read of a long folder before."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import astuple
from hashlib import sha256

from ruvllm.agents.catalog import agent_of
from ruvllm.disk_cache import DiskCache
from ruvllm.errors import AgentFileError
from ruvllm.types import Agent

Found = tuple[list[Agent], list[AgentFileError]]  # agents, and what could not be used

MARKDOWN = (".md", ".markdown", ".mdc")
_DOCUMENTS = {"opencode.json", "opencode.jsonc", "agents.yaml", "agents.yml", "agent-card.json"}
_NOT_ENTERED = {".git", ".hg", ".svn", "node_modules", ".venv", "venv", "__pycache__"}
_MAX_SEEN = 200_000  # names in folders
_CACHED = 3  # the layout of what is cached, and the way it was read


def _holds_agents(folder: str, name: str) -> bool:
    """Whether a file of a folder is read: Markdown, documents of well-known names, and Codex's agents."""
    lower = name.lower()
    codex = lower.endswith(".toml") and os.path.basename(folder).lower() == "agents"
    return (lower.endswith(MARKDOWN) or codex or lower in _DOCUMENTS) and not name.startswith("._")


def agent_files(root: str) -> tuple[list[str], list[tuple[str, str, str]]]:
    """Each file of agents below a folder once, whatever links lead to it.

    Returns:
        (files in order, (path, what is wrong with it, fix) of what could not be listed).
    """
    problems = list[tuple[str, str, str]]()

    def failed(error: OSError) -> None:
        why = f"cannot be read ({error.strerror})"
        problems.append((str(error.filename), why, "check the path and its permissions"))

    entered, files, seen = set[str](), dict[str, str](), 0
    for folder, folders, names in os.walk(root, followlinks=True, onerror=failed):
        real = os.path.realpath(folder)
        seen += len(folders) + len(names)
        if seen > _MAX_SEEN:
            problems.append((root, f"more than {_MAX_SEEN} files", "point at .claude/agents"))
            break
        if real in entered:
            folders.clear()
            continue
        entered.add(real)
        folders[:] = sorted(name for name in folders if name.lower() not in _NOT_ENTERED)
        for name in sorted(names):
            if _holds_agents(folder, name):
                file = os.path.join(folder, name)
                itself = os.path.realpath(file) if os.path.islink(file) else os.path.join(real, name)
                files.setdefault(itself, file)
    return sorted(files.values(), key=lambda file: file.split(os.sep)), problems


def read_before(files: Sequence[str], cache: DiskCache | None, read: Callable[[], Found], most: int) -> Found:
    """What `read` gives of these files: from the cache, where all of them are as they were then.

    It serves one file too: a hook that reads no YAML need not import what reads it.

    Args:
        most: bytes that are read of a file.
    """
    if cache is None or not files:
        return read()
    digest = sha256()
    for file in files:
        with suppress(OSError):
            if os.path.isfile(file):
                with open(file, "rb") as opened:
                    data = opened.read(most + 1)
                digest.update(f"{os.fsencode(file)!r} {len(data)}\n".encode() + data)
    name = f"agents-{_CACHED}-{digest.hexdigest()}"
    cached = cache.get(name)
    if cached is None:
        agents, problems = read()
        left_out = [(one.message, one.field, one.fix, one.skipped) for one in problems]
        cache.put(name, json.dumps([[astuple(agent) for agent in agents], left_out]).encode())
        return agents, problems
    rows, left_out = json.loads(cached)
    return [agent_of(row) for row in rows], [
        AgentFileError(message, field=field, fix=fix, skipped=skipped) for message, field, fix, skipped in left_out
    ]
