"""Agents as another program hands them over, a page or a client: objects or files, each read by itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import PurePosixPath
from typing import Any

from ruvllm.agents.catalog import MAX_AGENTS, agent_from
from ruvllm.agents.readers import parse_agents
from ruvllm.errors import AgentFileError, InputError, RuvllmError
from ruvllm.text.surrogates import well_formed
from ruvllm.types import Agent

__all__ = ["read_incoming"]


def read_incoming(rows: Any) -> tuple[list[Agent], list[RuvllmError]]:
    """Agents from a list of objects with an agent's fields, or of files {path, text}.

    Returns:
        (agents, problems): what cannot be used is told in the sender's own paths and numbers, and stops no other.

    Raises:
        InputError: neither kind of list.
    """
    if not isinstance(rows, list | tuple) or not all(isinstance(row, Mapping) for row in rows):
        raise InputError("agents is no list of agents", field="agents", fix="pass agents, or files {path, text}")
    if len(rows) > MAX_AGENTS:
        raise InputError(f"{len(rows)} agents or files", field="agents", fix=f"pass at most {MAX_AGENTS}")
    return _files(rows) if any("text" in row for row in rows) else _objects(rows)


def _objects(rows: Any) -> tuple[list[Agent], list[RuvllmError]]:
    agents, problems = list[Agent](), list[RuvllmError]()
    for number, row in enumerate(rows):
        where = f"agents[{number}]"
        try:
            agents.append(replace(agent_from(row, where), source=""))
        except InputError as error:
            problems.append(InputError(error.message, field=f"{where}: {error.field}", fix=error.fix))
    return agents, problems


def _files(rows: Any) -> tuple[list[Agent], list[RuvllmError]]:
    agents, problems = dict[str, Agent](), list[RuvllmError]()
    for row in rows:
        path, text = row.get("path"), row.get("text")
        if not isinstance(path, str) or not isinstance(text, str):
            problems.append(InputError("a file without path and text", field="agents", fix="pass files {path, text}"))
            continue
        try:
            found = parse_agents(_plain(text), PurePosixPath(path or "agent.md"))
        except AgentFileError as problem:
            problems.append(problem)
            continue
        for agent in found:
            if agent.name in agents:
                message = f"{path}: a second agent called {agent.name!r}"
                problems.append(AgentFileError(message, field=path, fix="rename one of the two"))
            else:
                agents[agent.name] = replace(agent, source=path)
    return list(agents.values()), problems


def _plain(text: str) -> str:
    """Without a mark of its encoding, and without halves of characters."""
    return well_formed(text.removeprefix("\ufeff"))
