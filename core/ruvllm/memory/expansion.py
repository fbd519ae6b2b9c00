"""Growing a subgraph hop by hop: bounded, safe against cycles, the same every time."""

from __future__ import annotations

import json
from collections.abc import Iterable

from ruvllm.memory.subgraph import Edge, Subgraph

__all__ = ["Expansion"]


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
        hops, known = self._hops, self._edges
        inside = sorted(key for key in known if key[0] in hops and key[1] in hops)
        return [*((*key, known[key]) for key in inside), *(star for star in self._stars if star[1] in hops)]

    def subgraph(self) -> Subgraph:
        """All of it as arrays."""
        return Subgraph.of(list(self._hops), self.edges(), list(self._hops.values()))

    def _reach(self, node: int, other: int, weight: float) -> None:
        if other not in self._hops:
            strength = self._strength[node] * weight
            self._next[other] = max(strength, self._next.get(other, 0.0))
