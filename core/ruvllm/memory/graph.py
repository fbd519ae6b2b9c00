"""The graph over the memories: typed edges, hyperedges, and what lies around a set of hits."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from operator import index
from typing import Any

from ruvllm.errors import InputError
from ruvllm.memory.subgraph import EDGE_KINDS, Binding, Edge, EdgeKey, Neighbour, Subgraph
from ruvllm.state.store import Store, Unchanged
from ruvllm.text.surrogates import well_formed


class Expansion:
    """A subgraph in the making.

    Args:
        seeds: ids it grows from.
        fan_out: members of one hyperedge that are joined.
        most: memories in all.
    """

    def __init__(self, seeds: list[int], fan_out: int, most: int) -> None:
        self._fan_out, self._most, self._hop = fan_out, most, 0
        self._hops = dict.fromkeys(seeds, 0)
        self._strength = dict.fromkeys(seeds, 1.0)  # the best product of weights along a path that led there
        self._next = dict[int, float]()
        self._edges = dict[tuple[int, int, str], float]()
        self._stars = list[Edge]()
        self._bindings = set[int]()

    def see(self, edges: Iterable[tuple[int, int, str, float, int]]) -> None:
        """The edges (node, other, kind, weight, outgoing) of memories reached by the last hop."""
        for node, other, kind, weight, outgoing in edges:
            self._edges[(node, other, kind) if outgoing else (other, node, kind)] = weight
            self._reach(node, other, weight)

    def see_binding(self, binding: int, kind: str, weight: float, members: str) -> None:
        """A hyperedge (members as JSON) of a memory reached by the last hop.

        It becomes a star around its first member in the subgraph: a large one then costs its size, not
        its square, and all members are two steps apart at most.
        """
        if binding in self._bindings:
            return
        self._bindings.add(binding)
        inside, outside = list[int](), list[int]()
        for member in sorted(json.loads(members)):
            (inside if member in self._hops else outside).append(member)
        hub, *inside = sorted(inside, key=lambda member: (self._hops[member], -self._strength[member], member))
        for member in (inside + outside)[: self._fan_out]:
            self._stars.append(Edge(hub, member, kind, weight))
            self._reach(hub, member, weight)

    def advance(self) -> list[int]:
        """Take in what was reached, the strongest first; returns it."""
        room = self._most - len(self._hops)
        taken = sorted(self._next, key=lambda i: (-self._next[i], i))[:room]
        self._hop += 1
        for i in taken:
            self._hops[i], self._strength[i] = self._hop, self._next[i]
        self._next = {}
        return taken

    @property
    def hops(self) -> dict[int, int]:
        """What was taken in -> how many edges away from the seeds."""
        return self._hops

    def edges(self) -> list[tuple[int, int, str, float]]:
        """Source, target, kind and weight of the edges that were seen among it."""
        hops, edges = self._hops, self._edges
        inside = sorted(key for key in edges if key[0] in hops and key[1] in hops)
        return [*((*key, edges[key]) for key in inside), *(star for star in self._stars if star[1] in hops)]

    def subgraph(self) -> Subgraph:
        """All of it as arrays."""
        return Subgraph.of(list(self._hops), self.edges(), list(self._hops.values()))

    def _reach(self, node: int, other: int, weight: float) -> None:
        if other not in self._hops:
            strength = self._strength[node] * weight
            self._next[other] = max(strength, self._next.get(other, 0.0))


_MOST_MEMBERS = 1_000
_MOST_HOPS = 8
_MOST_BESIDE = 8  # edges of a memory, of which one is followed
_OUTGOING = """
SELECT source AS node, target AS other, kind, weight, 1 AS outgoing
    FROM json_each(?1) AS asked JOIN edges ON source = asked.value {0}
"""
_BOTH_WAYS = f"""{_OUTGOING} UNION ALL
SELECT target, source, kind, weight, 0 FROM json_each(?1) AS asked JOIN edges ON target = asked.value {{0}}
"""
_OF_KINDS = "WHERE kind IN (SELECT value FROM json_each(?2))"
_ALL_KINDS, _KIND_SET = json.dumps(EDGE_KINDS), frozenset(EDGE_KINDS)
# Without a filter it takes half the time.
_OF_ALL_KINDS, _OF_SOME_KINDS = (
    {sql: f"{sql.format(kinds)} LIMIT ?3" for sql in (_OUTGOING, _BOTH_WAYS)} for kinds in ("", _OF_KINDS)
)
_BESIDE = """
SELECT source, target, weight FROM json_each(?1) AS asked JOIN edges ON source = asked.value WHERE kind = ?2
UNION ALL
SELECT target, source, weight FROM json_each(?1) AS asked JOIN edges ON target = asked.value WHERE kind = ?2 LIMIT ?3
"""
_HEAVIEST = """
SELECT node, other, kind, weight, outgoing FROM (
    SELECT *, row_number() OVER (PARTITION BY node ORDER BY weight DESC, other, kind, outgoing DESC) AS place FROM ({})
) WHERE place <= ?3 ORDER BY node, place
"""
# One of these ids that is no memory, and whether there is any hyperedge at all.
_GONE_AND_BOUND = """
SELECT (SELECT value FROM json_each(?) WHERE value NOT IN (SELECT id FROM memories) LIMIT 1),
    EXISTS (SELECT 1 FROM hyperedges)
"""
# By how many values they take: a change and the key of a hyperedge or of an edge.
_STRENGTHEN = {
    2: "UPDATE hyperedges SET weight = max(0, min(1, weight + ?)) WHERE id = ?",
    4: "UPDATE edges SET weight = max(0, min(1, weight + ?)) WHERE source = ? AND target = ? AND kind = ?",
}
_BINDINGS_OF = """
SELECT id, kind, weight, metadata, (SELECT json_group_array(memory) FROM hyperedge_members WHERE hyperedge = id)
FROM hyperedges WHERE id IN (
    SELECT hyperedge FROM json_each(?1) AS asked JOIN hyperedge_members ON memory = asked.value
) AND kind IN (SELECT value FROM json_each(?2)) ORDER BY weight DESC, id LIMIT ?3
"""


def delta_of(rating: float) -> float:
    """What a rating from 1 to 5 adds to the weight of the edges that led to an answer.

    Raises:
        InputError: it is out of range.
    """
    if not 1 <= rating <= 5:
        raise InputError(f"rating is {rating}", field="rating", fix="use 1 (bad) to 5 (good)")
    return (rating - 3) / 10


class Graph:
    """Typed edges between the memories of a store.

    Args:
        store: where memories and edges are kept; what is written is as durable as its other writes.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self._beside = Unchanged[tuple[int, str], tuple[int, int, float]](store)

    def link(self, source: int, target: int, kind: str, weight: float = 1.0) -> None:
        """Make an edge, or set the weight of one that is there; see `link_all`."""
        self.link_all([Edge(source, target, kind, weight)])

    def link_all(self, edges: Iterable[Edge]) -> None:
        """Make edges in one write, all or none.

        Raises:
            InputError: an unknown id or kind, a weight out of range, an edge from a memory to itself.
            StoreError: they cannot be kept.
        """
        rows = [(*_key(source, target, kind), _weight(weight)) for source, target, kind, weight in edges]
        self._check({end for row in rows for end in row[:2]})
        with self.store.write() as db:
            db.executemany(
                "INSERT INTO edges VALUES (?, ?, ?, ?)"
                " ON CONFLICT (source, target, kind) DO UPDATE SET weight = excluded.weight",
                rows,
            )

    def check_edge(self, edge: Edge) -> None:
        """Raise InputError where an edge could not be made of what is there."""
        _key(edge.source, edge.target, edge.kind)
        _weight(edge.weight)

    def unlink(self, source: int, target: int, kind: str) -> bool:
        """Remove an edge; whether it was there."""
        with self.store.write() as db:
            sql = "DELETE FROM edges WHERE source = ? AND target = ? AND kind = ?"
            return db.execute(sql, _key(source, target, kind)).rowcount > 0

    def strengthen(self, deltas: Mapping[EdgeKey, float] | Mapping[int, float] | Mapping[EdgeKey | int, float]) -> None:
        """Add to the weights of edges (source, target, kind) and of hyperedges by id, within 0 and 1; all or none.

        Raises:
            InputError: one is not there, or a delta is not a finite number.
        """
        rows = [
            (_finite(delta, "delta"), *((_id(key),) if isinstance(key, int) else _key(*key)))
            for key, delta in deltas.items()
        ]
        with self.store.write() as db, self.store.outbox.flag("adding"):
            for row in rows:
                if not db.execute(_STRENGTHEN[len(row)], row).rowcount:
                    raise InputError(f"there is no edge {row[1:]}", field="edge", fix="link or bind it first")

    def bind(
        self,
        members: Iterable[int],
        kind: str = "SameTopic",
        weight: float = 1.0,
        metadata: Mapping[str, Any] | None = None,
    ) -> int:
        """Make a hyperedge; returns its id.

        Args:
            members: 2 to 1,000 memories that belong together.
            metadata: what is known of it, as JSON.

        Raises:
            InputError: an unknown id or kind, a weight out of range, too few or too many members.
        """
        chosen = sorted({_id(member) for member in members})
        if not 2 <= len(chosen) <= _MOST_MEMBERS:
            fix = f"give 2 to {_MOST_MEMBERS:,} different memories"
            raise InputError(f"a hyperedge of {len(chosen)} memories", field="members", fix=fix)
        try:
            about = json.dumps(dict(metadata or {}), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        except (TypeError, ValueError, RecursionError) as error:
            fix = "give an object of text, finite numbers, booleans, lists and objects"
            raise InputError(f"it cannot be kept as JSON: {error}"[:200], field="metadata", fix=fix) from None
        self._check(set(chosen))
        row = (_kind(kind), _weight(weight), well_formed(about))
        with self.store.write() as db:
            made = db.execute("INSERT INTO hyperedges (kind, weight, metadata) VALUES (?, ?, ?)", row).lastrowid
            assert made is not None
            db.executemany("INSERT INTO hyperedge_members VALUES (?, ?)", [(made, member) for member in chosen])
        return made

    def unbind(self, binding: int) -> bool:
        """Remove a hyperedge, never its members; whether it was there."""
        with self.store.write() as db:
            return db.execute("DELETE FROM hyperedges WHERE id = ?", (_id(binding),)).rowcount > 0

    def bindings(self, ids: Sequence[int], kinds: Sequence[str] | None = None, most: int = 1_000) -> list[Binding]:
        """The hyperedges that hold at least one of these memories, with all their members, heaviest first.

        Args:
            kinds: of EDGE_KINDS, all when None.
            most: hyperedges in all.

        Raises:
            InputError: an unknown id or kind.
        """
        found = self.store.read(_BINDINGS_OF, (self._id_list(ids), _kinds(kinds), most))
        return [
            Binding(tuple(sorted(json.loads(members))), kind, weight, json.loads(metadata), i)
            for i, kind, weight, metadata, members in found
        ]

    def neighbours(self, ids: Sequence[int], kinds: Sequence[str] | None = None, most: int = 1_000) -> list[Neighbour]:
        """The edges at these memories, both ways, by id, heaviest first.

        Args:
            kinds: of EDGE_KINDS, all when None.
            most: edges of one memory.

        Raises:
            InputError: an unknown id or kind.
        """
        parameters = (self._id_list(ids), _kinds(kinds), most)
        found = self.store.read(_HEAVIEST.format(_BOTH_WAYS.format(_OF_KINDS)), parameters)
        return [Neighbour(node, other, kind, weight, bool(out)) for node, other, kind, weight, out in found]

    def beside(self, ids: Iterable[int], kind: str, most: int = 1_000) -> list[tuple[int, int, float]]:
        """(memory, other, weight) of edges of one kind at some memories, both ways, in no order; none need be there.

        Args:
            most: edges in all, of the memories that were not looked at since the file changed.
        """

        def read(new: list[tuple[int, str]]) -> list[tuple[tuple[int, str], tuple[int, int, float]]]:
            rows = self.store.read(_BESIDE, (_listed([i for i, _ in new]), kind, most))
            return [((row[0], kind), row) for row in rows]

        return [row for rows in self._beside.get(((i, kind) for i in ids), read).values() for row in rows]

    def windows(self, ids: Iterable[int], size: int, kind: str = "Follows") -> dict[int, list[int]]:
        """Each of some memories with up to so many before it and after it along edges of a kind, in that order.

        An edge leads from what comes later; of several the heaviest is followed. None of the memories need be there.
        """
        out = {i: [i] for i in ids}
        for _ in range(size):
            ends = sorted({end for line in out.values() for end in (line[0], line[-1])})
            sql, links = _HEAVIEST.format(_BOTH_WAYS.format(_OF_KINDS)), dict[tuple[int, int], int]()
            for node, other, _, _, outgoing in self.store.read(sql, (_listed(ends), _kinds([kind]), _MOST_BESIDE)):
                links.setdefault((node, outgoing), other)
            for line in out.values():
                before, after = links.get((line[0], 1)), links.get((line[-1], 0))
                if before is not None and before not in line:
                    line.insert(0, before)
                if after is not None and after not in line:
                    line.append(after)
        return out

    def expand(
        self,
        ids: Sequence[int],
        hops: int = 2,
        kinds: Sequence[str] | None = None,
        *,
        fan_out: int = 16,
        most: int = 256,
        among: bool = True,
    ) -> Subgraph:
        """What lies around some memories, as arrays; see `grow`."""
        return self.grow(ids, hops, kinds, fan_out=fan_out, most=most, among=among).subgraph()

    def grow(
        self,
        ids: Sequence[int],
        hops: int = 2,
        kinds: Sequence[str] | None = None,
        *,
        fan_out: int = 16,
        most: int = 256,
        among: bool = True,
    ) -> Expansion:
        """What lies around some memories: these first, then the nearest and best connected.

        A hop follows an edge either way, or leads to the other members of a hyperedge. The same call on
        the same graph gives the same rows in the same order.

        Args:
            hops: 0 to 8 edges away; 0 gives the edges among `ids`.
            kinds: of EDGE_KINDS, all when None.
            fan_out: edges of one memory that are followed, and members of one hyperedge; heaviest first.
            most: memories in all; those reached by the heaviest paths stay.
            among: look for the edges among those that the last hop reached, too.

        Raises:
            InputError: an unknown id or kind, or a bound that allows nothing.
        """
        if not isinstance(hops, int) or not 0 <= hops <= _MOST_HOPS:
            raise InputError(f"hops is {hops!r}"[:100], field="hops", fix=f"use 0 to {_MOST_HOPS}")
        if fan_out < 1:
            raise InputError(f"fan_out is {fan_out}", field="fan_out", fix="use at least 1")
        seeds = list(dict.fromkeys(_id(i) for i in ids))
        if most < len(seeds):
            raise InputError(f"most is {most}", field="most", fix=f"allow at least the {len(seeds)} ids given")
        gone, bound = self.store.read(_GONE_AND_BOUND, (_listed(seeds),))[0]
        if gone is not None:
            raise _unknown(gone)
        grown, frontier, chosen = Expansion(seeds, fan_out, most), seeds, _kinds(kinds)
        for hop in range(hops + 1):
            parameters = _listed(frontier), chosen
            # What points at the last hop's memories from within has been seen from its other end.
            grown.see(self._edges_of(_BOTH_WAYS if hop < hops else _OUTGOING, parameters, fan_out, len(frontier)))
            if bound:
                for i, kind, weight, _, members in self.store.read(
                    _BINDINGS_OF, (*parameters, fan_out * len(frontier))
                ):
                    grown.see_binding(i, kind, weight, members)
            frontier = grown.advance() if hop < hops else []
            if not frontier or (hop + 1 == hops and not among):
                break
        return grown

    def _edges_of(
        self, sql: str, parameters: tuple[str, str], most: int, nodes: int
    ) -> list[tuple[int, int, str, float, int]]:
        """The heaviest edges of each; ranked by SQLite only where some have many: that takes thrice the time."""
        limit, limited = nodes * most, _OF_ALL_KINDS if parameters[1] == _ALL_KINDS else _OF_SOME_KINDS
        rows = self.store.read(limited[sql], (*parameters, limit + 1))
        if len(rows) > most and (len(rows) > limit or max(Counter(row[0] for row in rows).values()) > most):
            return self.store.read(_HEAVIEST.format(sql.format(_OF_KINDS)), (*parameters, most))
        return [row for row in rows if row[2] in _KIND_SET]  # a damaged file may hold others

    def _id_list(self, ids: Sequence[int]) -> str:
        """Ids as JSON, once all of them are known to be there."""
        chosen = [_id(i) for i in ids]
        self._check(chosen)
        return _listed(chosen)

    def _check(self, ids: Iterable[int]) -> None:
        ((gone, _),) = self.store.read(_GONE_AND_BOUND, (_listed(sorted(ids)),))
        if gone is not None:
            raise _unknown(gone)


def _unknown(gone: int) -> InputError:
    return InputError(f"there is no memory {gone}", field="ids", fix="use ids of memories in this store")


def _listed(ids: list[int]) -> str:
    """As JSON, which of plain integers is what Python writes, three times as fast."""
    return str(ids)


def _id(value: int) -> int:
    try:
        number = index(value)
    except TypeError:
        number = 0
    if isinstance(value, bool) or not 0 < number < 2**63:
        raise InputError(f"{value!r} is no id"[:100], field="ids", fix="use ids of memories in this store")
    return number


def _key(source: int, target: int, kind: str) -> tuple[int, int, str]:
    ends = _id(source), _id(target)
    if ends[0] == ends[1]:
        raise InputError(f"memory {ends[0]} cannot be linked to itself", field="target", fix="give another memory")
    return *ends, _kind(kind)


def _kind(kind: str) -> str:
    if kind not in EDGE_KINDS:
        raise InputError(f"kind is {kind!r}"[:100], field="kind", fix=f"use one of {', '.join(EDGE_KINDS)}")
    return kind


def _kinds(kinds: Sequence[str] | None) -> str:
    if isinstance(kinds, str):
        raise InputError("kinds is a text", field="kinds", fix=f'give a list, such as ["{kinds}"]'[:100])
    return _ALL_KINDS if kinds is None else json.dumps([_kind(kind) for kind in kinds])


def _finite(value: float, field: str) -> float:
    number = float(value)
    if not math.isfinite(number):
        raise InputError(f"{field} is {number}", field=field, fix="use a finite number")
    return number


def _weight(weight: float) -> float:
    if not 0 <= _finite(weight, "weight") <= 1:
        raise InputError(f"weight is {weight}", field="weight", fix="use a number from 0 to 1")
    return float(weight)
