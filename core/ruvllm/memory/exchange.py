"""Memories as JSON lines, for people, other programs and other encoders: one object a line.

A memory: {"id", "text", "kind", "collection", "metadata", "quality"}, and "archived" where it is; an edge
between ids of the same file: {"source", "target", "kind", "weight"}; a hyperedge: {"members", "kind", "weight",
"metadata"}. Vectors are not written: they are made again on the way in.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict
from typing import Any

from ruvllm.errors import InputError
from ruvllm.memory.memory import MemoryStore
from ruvllm.memory.subgraph import EDGE_KINDS, Edge
from ruvllm.state.record import Memory, read_metadata, row_of

_PAGE = 1_000
_FIELDS = {"id", "text", "kind", "collection", "metadata", "quality"}
_EDGE = {"source", "target", "kind", "weight"}
_AROUND = 24  # memories shown around few
_BINDING = {"members", "kind", "weight", "metadata"}
_LONGEST = 8_000_000  # characters of a line
_FIX = "give JSON lines as an export writes them"


def export_lines(memory: MemoryStore, collection: str | None = None) -> Iterator[str]:
    """Every memory, archived ones too, of one collection or all, then the edges and hyperedges among them."""
    exported, after = set[int](), 0
    where, values = ("", ()) if collection is None else (" AND collection = ?", (collection,))
    while True:
        sql = f"SELECT id FROM memories WHERE id > ?{where} ORDER BY id LIMIT {_PAGE}"
        ids = [row[0] for row in memory.store.read(sql, (after, *values))]
        if not ids:
            break
        for one in memory.records.get(ids):
            row = {name: getattr(one, name) for name in _FIELDS} | {"metadata": dict(one.metadata)}
            yield _line(row | ({"archived": True} if one.archived else {}))
        exported.update(ids)
        after = ids[-1]
    for source, target, kind, weight in memory.store.read("SELECT source, target, kind, weight FROM edges"):
        if source in exported and target in exported:
            yield _line({"source": source, "target": target, "kind": kind, "weight": weight})
    for binding in memory.graph.bindings(sorted(exported), most=-1) if exported else ():
        if exported.issuperset(binding.members):
            about = {"kind": binding.kind, "weight": binding.weight, "metadata": dict(binding.metadata)}
            yield _line({"members": binding.members} | about)


def _line(row: dict[str, Any]) -> str:
    return json.dumps(row, ensure_ascii=False, sort_keys=True)


def import_lines(
    memory: MemoryStore,
    lines: Iterable[str],
    advance: Callable[[], None] = lambda: None,
    skip: Callable[[str, str], None] | None = None,
) -> tuple[int, int]:
    """Add what `export_lines` wrote, under new ids; returns how many memories, and how many edges of both kinds.

    Args:
        advance: called after each line.
        skip: is told of a line that is none, where it is and what is wrong, and the others are added.

    Raises:
        InputError: a line that is none, without `skip`; what stood before it is kept.
    """
    importing = _Import(memory)
    try:
        for number, line in enumerate(lines, 1):
            try:
                if line.strip():
                    importing.take(_parsed(line, number), number)
            except InputError as error:
                if skip is None:
                    raise
                skip(f"line {number}", error.message.removeprefix(f"line {number}").lstrip(": "))
            advance()
    finally:
        importing.keep()
    return importing.memories, importing.edges


def around(memory: MemoryStore, ids: Sequence[int], hops: int = 1) -> dict[str, list[dict[str, Any]]]:
    """What lies around some memories, as plain JSON types: "nodes", typed "edges" by id, and "hyperedges".

    Among the edges a hyperedge is a star around its member that is nearest to these memories.

    Args:
        hops: edges away, 0 to 8.

    Raises:
        InputError: an unknown id, or hops out of range.
    """
    memory.records.flush()  # how often they were found
    graph = memory.graph.expand(ids, hops, most=max(_AROUND, len(ids)))
    away = dict(zip(graph.ids.tolist(), graph.hops.tolist(), strict=True))
    nodes = [asdict(one) | {"hops": away[one.id]} for one in memory.records.get(list(away))]
    ends = (graph.ids[graph.sources].tolist(), graph.ids[graph.targets].tolist())
    rows = zip(*ends, graph.kinds.tolist(), graph.weights.tolist(), strict=True)
    edges = [{"source": a, "target": b, "kind": EDGE_KINDS[kind], "weight": weight} for a, b, kind, weight in rows]
    bindings = memory.graph.bindings(list(away)) if away else []
    return {"nodes": nodes, "edges": edges, "hyperedges": [asdict(one) for one in bindings]}


def described(memory: MemoryStore, memories: Sequence[Memory]) -> list[dict[str, Any]]:
    """Memories as plain JSON types, with from when until when they hold, how often they were said, why they ended."""
    lives = memory.validity.lifetimes(memories)
    return [asdict(one) | asdict(lives[one.id]) for one in memories]


async def measured(memory: MemoryStore, collection: str = "default") -> dict[str, Any]:
    """`MemoryStore.stats` with a collection's index opened, and how vectors are stored."""
    memory.nearest(await memory.vector("opened"), 1, collection=collection)  # one not asked yet says nothing
    (edges,) = memory.store.read("SELECT count(*) FROM edges")[0]
    size, vectors = memory.store.read("SELECT coalesce(sum(length(data)), 0), count(*) FROM vectors")[0]
    report = {"edges": edges, "vectors": vectors, "vector_bytes": size, "format": "f32", "dim": memory.encoder.dim}
    return memory.stats() | report


class _Import:
    """Lines on their way into a memory, some at a time."""

    def __init__(self, memory: MemoryStore) -> None:
        self._memory = memory
        self.memories = self.edges = 0
        self._new_ids: dict[int, int] = {}  # id in the file -> id in the memory
        self._waiting: list[tuple[int | None, Memory]] = []
        self._links: list[Edge] = []

    def take(self, row: dict[str, Any], number: int) -> None:
        """One line; nothing of it is kept when it cannot be."""
        try:
            if "text" in row:
                self._take_memory(row)
            else:
                self._keep_memories()
                (self._take_binding if "members" in row else self._take_edge)(row)
        except InputError as error:
            message = f"line {number}: {error.message}"
            raise InputError(message[:300], field=f"line {number}", fix=error.fix) from None

    def keep(self) -> None:
        """Write down what waits."""
        self._keep_memories()
        if self._links:
            links, self._links = self._links, []
            self._memory.graph.link_all(links)
            self.edges += len(links)

    def _keep_memories(self) -> None:
        waiting, self._waiting = self._waiting, []
        ids = self._memory.add([one for _, one in waiting])
        archived = [i for i, (_, one) in zip(ids, waiting, strict=True) if one.archived]
        if archived:
            self._memory.archive(archived)
        self._new_ids |= {old: i for i, (old, _) in zip(ids, waiting, strict=True) if old is not None}
        self.memories += len(ids)

    def _take_memory(self, row: dict[str, Any]) -> None:
        old = row.pop("id", None)
        if not isinstance(old, int | None) or not isinstance(row.get("metadata", {}), dict):
            raise InputError("metadata must be an object, id a number", fix=_FIX)
        if not isinstance(row.get("archived", False), bool):
            raise InputError("archived must be true or false", fix=_FIX)
        one = Memory(**row)
        row_of(one)
        self._waiting.append((old, one))
        if len(self._waiting) >= _PAGE:
            self._keep_memories()

    def _take_edge(self, row: dict[str, Any]) -> None:
        source, target = self._renumbered([row["source"], row["target"]])
        edge = Edge(source, target, row["kind"], _number(row["weight"]))
        self._memory.graph.check_edge(edge)
        self._links.append(edge)
        if len(self._links) >= _PAGE:
            self.keep()

    def _take_binding(self, row: dict[str, Any]) -> None:
        members = row["members"]
        if not isinstance(members, list) or not isinstance(row["metadata"], dict):
            raise InputError("members must be a list, metadata an object", fix=_FIX)
        self._memory.graph.bind(self._renumbered(members), row["kind"], _number(row["weight"]), row["metadata"])
        self.edges += 1

    def _renumbered(self, ids: list[Any]) -> list[int]:
        try:
            return [self._new_ids[i] for i in ids]
        except (KeyError, TypeError):
            fix = "edges follow the memories that they join"
            raise InputError("an edge between unknown memories", fix=fix) from None


def _parsed(line: str, number: int) -> dict[str, Any]:
    try:
        if len(line) > _LONGEST:
            raise ValueError("it is too long")
        row = read_metadata(line, inside=1)
        if not (set(row) - {"archived"} <= _FIELDS and "text" in row) and set(row) not in (_EDGE, _BINDING):
            raise ValueError(f"it is no object of {', '.join(sorted(_FIELDS))} (or of {', '.join(sorted(_EDGE))})")
    except (ValueError, RecursionError) as error:
        raise InputError(f"line {number} cannot be read: {error}"[:300], field=f"line {number}", fix=_FIX) from None
    return row


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise InputError(f"a weight is {value!r}"[:80], fix="use a number from 0 to 1")
    return float(value)
