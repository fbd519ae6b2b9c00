"""The agents that a user has added, in the state file: one write keeps them with all else, one export carries them.

It is a table of its own that only hosts make, so that a file says nothing of agents until somebody has added some.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from typing import Any

from ruvllm.agents.catalog import agent_from
from ruvllm.errors import REPAIR, InputError, StoreError
from ruvllm.state.schema import GUESTS
from ruvllm.state.store import Store
from ruvllm.types import Agent

_TABLE = GUESTS["own_agents"].replace("TABLE", "TABLE IF NOT EXISTS", 1)
_THERE = "SELECT 1 FROM sqlite_master WHERE name = 'own_agents'"


def save_agents(store: Store, agents: Iterable[Agent]) -> list[str]:
    """Make these the added agents; returns the names of those that could not be written and are set aside.

    Raises:
        StoreError: the file takes nothing; it has those from before.
    """
    chosen = list(agents)
    with store.write() as db:
        db.execute(_TABLE)
        before = {row[0] for row in db.execute("SELECT agent FROM own_agents")} if store.outbox.enabled else set[str]()
        db.execute("DELETE FROM own_agents")
        store.set_aside.erase(("agent",))
        written = store.set_aside.write_each(
            "agent", chosen, lambda some: insert_agents(store, map(asdict, some)), lambda agent: agent.name, asdict
        )
        if store.outbox.enabled:
            changed = before ^ {row[0] for row in db.execute("SELECT agent FROM own_agents")}
            store.outbox.agents(sorted({str(json.loads(agent)["name"]) for agent in changed}))
    names = {agent.name for agent, _ in written}
    return [agent.name for agent in chosen if agent.name not in names]


def insert_agents(store: Store, agents: Iterable[Mapping[str, Any]]) -> None:
    """Write down agents as plain JSON types, after those that are there, all or nothing."""
    with store.write() as db:
        db.execute(_TABLE)
        db.executemany("INSERT INTO own_agents (agent) VALUES (?)", [(json.dumps(agent),) for agent in agents])


def load_agents(store: Store) -> dict[str, Agent] | None:
    """Those added before by name, in the order they came; None where the file says nothing of agents.

    A damaged row is set aside alone.
    """
    if not store.read(_THERE):
        return None
    agents, damaged = dict[str, Agent](), list[tuple[int, Any, StoreError]]()
    for id, row in store.read("SELECT id, agent FROM own_agents ORDER BY id"):
        try:
            agents |= agents_of([(row,)])
        except StoreError as error:
            damaged.append((id, row, error))
    if damaged:
        with suppress(StoreError), store.write() as db:  # a file that takes nothing has them still the next time
            for id, row, problem in damaged:
                store.set_aside.add("agent", f"row {id}", problem, lambda row=row: {"row": str(row)})  # type: ignore[misc]
                db.execute("DELETE FROM own_agents WHERE id = ?", (id,))
    return agents


def agents_of(rows: Iterable[Sequence[str]]) -> dict[str, Agent]:
    """The agents of the table's rows, by name. Raises StoreError: a row is no agent."""
    try:
        agents = [agent_from(json.loads(text), f"added agent {i + 1}") for i, (text,) in enumerate(rows)]
    except (InputError, ValueError, AttributeError, TypeError, RecursionError) as error:
        raise StoreError(f"an agent in the state file is damaged: {error}", field="state", fix=REPAIR) from None
    return {agent.name: agent for agent in agents}
