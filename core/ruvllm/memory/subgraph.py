"""Edges between memories, and the part of the graph around some of them, as arrays."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ruvllm.errors import InputError
from ruvllm.reprs import Shown

EDGE_KINDS = ("Cites", "Follows", "SameTopic", "AgentStep", "Derived", "Contains")  # FEATURES.md M3
EdgeKey = tuple[int, int, str]  # source, target, kind
_PLACES = {kind: place for place, kind in enumerate(EDGE_KINDS)}


class Edge(NamedTuple):
    """A typed edge.

    Attributes:
        source, target: ids of memories.
        kind: one of EDGE_KINDS.
        weight: 0 to 1, how much it proved to be worth.
    """

    source: int
    target: int
    kind: str
    weight: float = 1.0


class Neighbour(NamedTuple):
    """An edge as one of its ends sees it.

    Attributes:
        node: the end that was asked about.
        other: the end it leads to.
        outgoing: node is its source.
    """

    node: int
    other: int
    kind: str
    weight: float
    outgoing: bool


@dataclass(frozen=True, slots=True, repr=False)
class Binding(Shown):
    """A hyperedge: memories that belong together, all with all.

    Attributes:
        members: their ids, rising.
        kind: one of EDGE_KINDS.
        id: given by the store.
    """

    members: tuple[int, ...]
    kind: str
    weight: float = 1.0
    metadata: Mapping[str, Any] = field(default_factory=dict)
    id: int = 0


@dataclass(frozen=True, slots=True, repr=False)
class Subgraph(Shown):
    """Memories and the edges between them; rows number the memories.

    Attributes:
        ids: int64 (n,), those it grew from first.
        hops: int64 (n,), how many edges away from these.
        sources, targets: int64 (m,), rows.
        kinds: int64 (m,), places in EDGE_KINDS.
        weights: float32 (m,), 0 to 1.
    """

    ids: NDArray[np.int64]
    hops: NDArray[np.int64]
    sources: NDArray[np.int64]
    targets: NDArray[np.int64]
    kinds: NDArray[np.int64]
    weights: NDArray[np.float32]

    def __post_init__(self) -> None:
        n = len(self.ids)
        if not len(self.sources) == len(self.targets) == len(self.kinds) == len(self.weights):
            raise InputError("the arrays of edges differ in length", field="graph", fix="give a row for each edge")
        if not (_below(self.sources, n) and _below(self.targets, n)):
            raise InputError("an edge leads out of the subgraph", field="graph", fix=f"use rows below {n}")
        if not _below(self.kinds, len(EDGE_KINDS)):
            raise InputError("an edge kind is unknown", field="graph", fix=f"use places below {len(EDGE_KINDS)}")

    def __len__(self) -> int:
        return len(self.ids)

    @classmethod
    def of(
        cls, ids: Sequence[int], edges: Iterable[tuple[int, int, str, float]] = (), hops: Sequence[int] | None = None
    ) -> Subgraph:
        """From edges (see `Edge`) by id; those that lead elsewhere are left out.

        Raises:
            InputError: an edge of an unknown kind.
        """
        row = {i: place for place, i in enumerate(ids)}
        sources, targets, kinds, weights = list[int](), list[int](), list[int](), list[float]()
        for source, target, kind, weight in edges:
            if source in row and target in row:
                sources.append(row[source])
                targets.append(row[target])
                kinds.append(_place(kind))
                weights.append(weight)
        return cls(
            np.array(ids, np.int64),
            np.zeros(len(ids), np.int64) if hops is None else np.array(hops, np.int64),
            np.array(sources, np.int64),
            np.array(targets, np.int64),
            np.array(kinds, np.int64),
            np.array(weights, np.float32),
        )

    def only(self, keep: NDArray[np.bool_]) -> Subgraph:
        """The memories where keep (n,) is true, in the same order, and the edges among them."""
        rows = np.cumsum(keep) - 1
        inside = keep[self.sources] & keep[self.targets]
        sources, targets = (rows[ends[inside]].astype(np.int64) for ends in (self.sources, self.targets))
        return Subgraph(self.ids[keep], self.hops[keep], sources, targets, self.kinds[inside], self.weights[inside])


@dataclass(frozen=True, slots=True, repr=False)
class AttentionSummary(Shown):
    """Where an answer comes from.

    Attributes:
        ranked: (id of a memory, its share of the answer), largest first; the shares sum to 1.
        entropy: of the shares, in nats; 0 when one memory gives all.
        mean: share of a memory.
        gini: 0 when all give alike, towards 1 when few give all.
        influence: what came along edges of each kind, and from the memories "Self"; sums to 1.
    """

    ranked: tuple[tuple[int, float], ...]
    entropy: float
    mean: float
    gini: float
    influence: Mapping[str, float]


def _place(kind: str) -> int:
    place = _PLACES.get(kind)
    if place is None:
        raise InputError(f"kind is {kind!r}", field="kind", fix=f"use one of {', '.join(EDGE_KINDS)}")
    return place


def _below(rows: NDArray[np.int64], end: int) -> bool:
    """Whether all are from 0 to end - 1: as unsigned, a negative number is a huge one."""
    return not len(rows) or int(rows.astype(np.uint64).max()) < end
