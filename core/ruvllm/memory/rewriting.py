"""What was set aside, written again: by hand, once the reason is gone or has been mended."""

from __future__ import annotations

import json
from base64 import b64decode
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from ruvllm.agents.catalog import agent_from
from ruvllm.memory.conversations import Conversations, session_from
from ruvllm.memory.graph import Graph
from ruvllm.memory.ratings import insert_rating
from ruvllm.memory.records import Records
from ruvllm.memory.subgraph import Edge, EdgeKey
from ruvllm.state.agents import insert_agents
from ruvllm.state.record import LITTLE, Memory
from ruvllm.state.schema import GUESTS
from ruvllm.state.set_aside import SetAsideRow
from ruvllm.state.store import Store
from ruvllm.text.surrogates import well_formed_json
from ruvllm.types import Feedback

_CITED = "Cites"


def write_again(store: Store, ids: Collection[int] | None = None) -> tuple[list[int], list[int]]:
    """Write what was set aside where it belongs, each by itself.

    Args:
        ids: of rows that are set aside; all when None.

    Returns:
        (ids that were written, ids that still cannot be, whose rows have the new reason). A text with half a
        character is written with U+FFFD in its place.

    Raises:
        StoreError: the file takes nothing.
    """
    done, left = list[int](), list[int]()
    for row in store.set_aside.rows():
        if ids is None or row.id in ids:
            (done if row.size and _written(store, row) else left).append(row.id)
    return done, left


def _written(store: Store, row: SetAsideRow) -> bool:
    ((payload,),) = store.read("SELECT payload FROM set_aside WHERE id = ?", (row.id,))
    try:
        with store.write():
            _WRITERS[row.kind](store, well_formed_json(json.loads(payload)))
            store.set_aside.drop([row.id])
    except Exception as error:
        store.set_aside.refuse(row, error)
        return False
    return True


def _memory(store: Store, of: Mapping[str, Any]) -> None:
    about = {name: of[name] for name in ("text", "kind", "collection", "metadata", "quality")}
    records = Records(store)
    (made,) = records.add([Memory(**about)], _vector(of)[None], of["space"])
    cited = [(Edge(made, source, _CITED, of["weight"])) for source in sorted(records.present(of["cites"]))]
    if cited:
        Graph(store).link_all(cited)


def _federated(store: Store, of: Mapping[str, Any]) -> None:
    with store.write() as db:
        db.execute(GUESTS["federated_updates"].replace("TABLE", "TABLE IF NOT EXISTS", 1))
        db.execute("INSERT INTO federated_updates (data) VALUES (?)", (b64decode(of["data"]),))


def _turn(store: Store, of: Mapping[str, Any]) -> None:
    one, there = session_from(of), Conversations(store)
    if not store.read("SELECT 1 FROM sessions WHERE id = ?", (one.id,)):
        there.put([one])
    there.put_turns([one])


def _edge(key: Any) -> EdgeKey | int:
    """An edge's key, or a hyperedge's id, as JSON gives them."""
    return key if isinstance(key, int) else (int(key[0]), int(key[1]), str(key[2]))


def _vector(of: Mapping[str, Any]) -> Any:
    return np.frombuffer(b64decode(of["vector"]), LITTLE)


_WRITERS: dict[str, Callable[[Store, Mapping[str, Any]], object]] = {
    "memory": _memory,
    "edge": lambda store, of: Graph(store).link(**of),
    "weight": lambda store, of: Graph(store).strengthen({_edge(of["edge"]): of["change"]}),
    "quality": lambda store, of: Records(store).rate({of["id"]: of["change"]}),
    "accesses": lambda store, of: Records(store).count_accesses([(of["id"], of["count"])]),
    "rating": lambda store, of: insert_rating(store, of["space"], _vector(of), of["relevance"]),
    "session": lambda store, of: Conversations(store).put([session_from(of)]),
    "turn": _turn,
    "feedback": lambda store, of: store.add_feedback(Feedback(**of)),
    "learnt": lambda store, of: store.put(of["name"], b64decode(of["data"])),
    "agent": lambda store, of: insert_agents(store, [asdict(agent_from(of))]),
    "federated": _federated,
}
