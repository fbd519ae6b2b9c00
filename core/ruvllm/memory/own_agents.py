"""The agents that a user has added, in the state file: one write keeps them with all else, one export carries them.

It is a table of its own that only hosts make, so that a file says nothing of agents until somebody has added some.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict

from ruvllm.agents.catalog import agent_from
from ruvllm.errors import REPAIR, InputError, StoreError
from ruvllm.memory.schema import GUESTS
from ruvllm.memory.store import Store
from ruvllm.types import Agent

__all__ = ["agents_of", "keep_agents", "kept_agents"]

_TABLE = GUESTS["own_agents"].replace("TABLE", "TABLE IF NOT EXISTS", 1)
_THERE = "SELECT 1 FROM sqlite_master WHERE name = 'own_agents'"


def keep_agents(store: Store, agents: Iterable[Agent]) -> None:
    """Make these the added agents: all of them or, on an error, those before. Raises StoreError: that error."""
    rows = [(json.dumps(asdict(agent)),) for agent in agents]
    with store.write() as db:
        db.execute(_TABLE)
        db.execute("DELETE FROM own_agents")
        db.executemany("INSERT INTO own_agents (agent) VALUES (?)", rows)


def kept_agents(store: Store) -> dict[str, Agent] | None:
    """Those added before by name, in the order they came; None where the file says nothing of agents.

    Raises:
        StoreError: a row is no agent.
    """
    if not store.read(_THERE):
        return None
    return agents_of(store.read("SELECT agent FROM own_agents ORDER BY id"))


def agents_of(rows: Iterable[Sequence[str]]) -> dict[str, Agent]:
    """The agents of the table's rows, by name. Raises StoreError: a row is no agent."""
    try:
        agents = [agent_from(json.loads(text), f"added agent {i + 1}") for i, (text,) in enumerate(rows)]
    except (InputError, ValueError, AttributeError) as error:
        raise StoreError(f"an agent in the state file is damaged: {error}", field="state", fix=REPAIR) from None
    return {agent.name: agent for agent in agents}
