"""Agents as JavaScript hands them over, read by the core's own readers from this page's file system."""

from __future__ import annotations

import json
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

from ruvllm import Agent, AgentFileError, InputError, RuvllmError, read_agents

__all__ = ["problem_row", "read_input"]

_MAX_FILES = 10_000


def read_input(rows: Any) -> tuple[list[Agent], list[dict[str, str]]]:
    """Agents from a list of Agent objects, or of files {path, text}.

    Returns:
        (agents, problems): a file or agent that cannot be used becomes a problem {field, message, fix}.

    Raises:
        InputError: neither kind of list.
    """
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise InputError("agents is no list of agents", field="agents", fix="pass agents, or files {path, text}")
    if len(rows) > _MAX_FILES:
        raise InputError(f"{len(rows)} agents or files", field="agents", fix=f"pass at most {_MAX_FILES}")
    folder = Path(tempfile.mkdtemp())
    try:
        if any("text" in row for row in rows):
            return _read_files(rows, folder)
        agents: list[Agent] = []
        problems: list[dict[str, str]] = []
        for number, row in enumerate(rows):
            file = folder / "agents.json"
            file.write_text(json.dumps({"agents": [row]}), "utf-8")
            found, wrong = read_agents(file)
            agents += [replace(agent, source="") for agent in found]
            problems += [problem_row(problem, str(file), f"agents[{number}]") for problem in wrong]
        return agents, problems
    finally:
        shutil.rmtree(folder)


def _read_files(rows: list[dict[str, Any]], folder: Path) -> tuple[list[Agent], list[dict[str, str]]]:
    """Each file by itself, so that one that is broken stops no other."""
    agents: dict[str, Agent] = {}
    problems: list[dict[str, str]] = []
    for row in rows:
        path, text = row.get("path"), row.get("text")
        if not isinstance(path, str) or not isinstance(text, str):
            wrong = InputError("a file without path and text", field="agents", fix="pass files {path, text}")
            problems.append(problem_row(wrong))
            continue
        file = folder / (PurePosixPath(path.replace("\\", "/")).name.replace("\0", "") or "agent.md")
        file.write_bytes(text.encode("utf-8", "replace"))
        found, bad = read_agents(file)
        file.unlink()
        problems += [problem_row(problem, str(file), path) for problem in bad]
        for agent in found:
            if agent.name in agents:
                twice = AgentFileError(
                    f"{path}: a second agent called {agent.name!r}", field=path, fix="rename one of the two"
                )
                problems.append(problem_row(twice))
            else:
                agents[agent.name] = replace(agent, source=path)
    return list(agents.values()), problems


def problem_row(error: RuvllmError, inner: str = "", outer: str = "") -> dict[str, str]:
    """An error as {field, message, fix}, with this file system's path replaced by the user's."""

    def told(text: str) -> str:
        return text.replace(f"{inner}: agent 1", outer).replace(inner, outer) if inner else text

    return {"field": told(error.field), "message": told(error.message), "fix": error.fix}
