"""Agents as another program hands them over, a page or a client: objects or files, each read by itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ruvllm.agents.catalog import MAX_AGENTS
from ruvllm.agents.folders import Found
from ruvllm.agents.readers import parse_agents, read_row, together
from ruvllm.errors import AgentFileError, InputError
from ruvllm.text.surrogates import well_formed
from ruvllm.types import Agent


def read_incoming(rows: Any) -> Found:
    """Agents from a list of objects with an agent's fields, or of files {path, text}.

    It touches no file, and takes up to a second for each 2 MB of text: an event loop calls it in a thread.

    Returns:
        (agents, problems): what cannot be used is told in the sender's own paths and numbers, and stops no other.

    Raises:
        InputError: no list, or too long a one.
    """
    if not isinstance(rows, list | tuple):
        raise InputError("agents is no list of agents", field="agents", fix="pass agents, or files {path, text}")
    if len(rows) > MAX_AGENTS:
        raise InputError(f"{len(rows)} agents or files", field="agents", fix=f"pass at most {MAX_AGENTS}")
    return together(_incoming(row, f"agents[{number}]") for number, row in enumerate(rows))


def _incoming(row: Any, where: str) -> tuple[str, list[Agent], list[AgentFileError]]:
    if not isinstance(row, Mapping) or not ("text" in row or "path" in row):
        return where, *read_row(row, where)
    path, text = row.get("path"), row.get("text")
    if not isinstance(path, str) or not isinstance(text, str):
        problem = AgentFileError("a file without path and text", field="agents", fix="pass files {path, text}")
        return where, [], [problem]
    path = well_formed(path)
    agents, problems = parse_agents(text, path or "agent.md")
    return path, [replace(agent, source=path) for agent in agents], problems
