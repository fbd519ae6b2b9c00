"""Agents as clients send them, read by the core's own readers; those that are added stay in the state file."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, replace
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory

import msgspec

from ruvllm import Agent, RuvllmError, StoreError, read_agents
from ruvllm.agents.catalog import agent_from
from ruvllm.memory.store import Store
from ruvllm_edge.schemas import AgentBody, AgentFile, ProblemRow

__all__ = ["from_bodies", "from_files", "keep_agents", "kept_agents"]

# The same table that a page keeps its visitor's agents in: a file of one opens in the other.
_TABLE = "CREATE TABLE IF NOT EXISTS own_agents (id INTEGER PRIMARY KEY, agent TEXT NOT NULL) STRICT"
_THERE = "SELECT 1 FROM sqlite_master WHERE name = 'own_agents'"


def from_bodies(rows: Sequence[AgentBody]) -> list[Agent]:
    """Agents. Raises InputError: one cannot be used."""
    return [agent_from(msgspec.to_builtins(row), f"agents[{i}]") for i, row in enumerate(rows)]


def from_files(files: Sequence[AgentFile]) -> tuple[list[Agent], list[ProblemRow]]:
    """Agents of files, each read by itself, so that one that is broken stops no other."""
    agents: dict[str, Agent] = {}
    problems: list[ProblemRow] = []
    with TemporaryDirectory() as folder:
        for sent in files:
            name = PurePosixPath(sent.path.replace("\\", "/")).name.replace("\0", "")[-100:] or "agent.md"
            file = Path(folder) / name
            file.write_bytes(sent.text.encode("utf-8", "replace"))
            found, bad = read_agents(file)
            file.unlink()
            problems += [_row(problem, str(file), sent.path) for problem in bad]
            for agent in found:
                if agent.name in agents:
                    message = f"{sent.path}: a second agent called {agent.name!r}"
                    problems.append(ProblemRow(sent.path, message, "rename one of the two"))
                else:
                    agents[agent.name] = replace(agent, source=sent.path)
    return list(agents.values()), problems


def _row(error: RuvllmError, inner: str, outer: str) -> ProblemRow:
    """An error in the words of the sender's path."""
    return ProblemRow(error.field.replace(inner, outer), error.message.replace(inner, outer), error.fix)


def keep_agents(store: Store, agents: Iterable[Agent]) -> None:
    """Make these the added agents in the state file. Raises StoreError: they could not be kept."""
    rows = [(json.dumps(asdict(agent)),) for agent in agents]
    with store.write() as db:
        db.execute(_TABLE)
        db.execute("DELETE FROM own_agents")
        db.executemany("INSERT INTO own_agents (agent) VALUES (?)", rows)


def kept_agents(store: Store) -> list[Agent]:
    """Those added before. Raises StoreError: a row is no agent."""
    if not store.read(_THERE):
        return []
    rows = store.read("SELECT agent FROM own_agents ORDER BY id")
    try:
        return [agent_from(json.loads(text), f"added agent {i + 1}") for i, (text,) in enumerate(rows)]
    except (RuvllmError, ValueError, AttributeError) as error:
        fix = "`ruvllm memory check --repair` saves what it can"
        raise StoreError(f"an agent in the state file is damaged: {error}", field="state", fix=fix) from None
