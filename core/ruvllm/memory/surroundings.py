"""What lies around the memories that a search hit, and which of it answers best."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ruvllm.errors import InputError, StoreError
from ruvllm.index.rows import floats
from ruvllm.memory.attention import GraphAttention
from ruvllm.memory.attention.training import saved_attention
from ruvllm.memory.filters import Filter
from ruvllm.memory.graph import Graph
from ruvllm.memory.records import Records
from ruvllm.memory.subgraph import Subgraph
from ruvllm.reprs import one_line
from ruvllm.state.names import ATTENTION, name_in

__all__ = ["Neighbourhood", "Surroundings", "directed"]

_AROUND = 256  # memories that hops may lead to
_FARTHER = 0.9  # what a cosine counts for, an edge away


@dataclass(frozen=True, slots=True)
class Neighbourhood:
    """Memories and what joins them.

    Attributes:
        graph: n memories, those it grew from first.
        vectors: float32 (n, dim), unit rows.
    """

    graph: Subgraph
    vectors: NDArray[np.float32]

    __repr__ = one_line

    def cosines(self, vector: NDArray[np.float32]) -> NDArray[np.float32]:
        """float32 (n,), to a vector (dim,)."""
        out: NDArray[np.float32] = self.vectors @ (vector / np.float32(max(float(np.linalg.norm(vector)), 1e-12)))
        return out


class Surroundings:
    """Grows and ranks neighbourhoods.

    Args:
        records, graph: of the store.
        space, dim: of the vectors; memories of another space are passed through, not returned.
    """

    def __init__(self, records: Records, graph: Graph, space: str, dim: int) -> None:
        self._records, self._graph, self._space, self._dim = records, graph, space, dim
        self._stored_as = name_in(space, ATTENTION)
        self._digest: str | None = None
        self._attention: GraphAttention | None = None

    def best(
        self,
        vector: NDArray[np.float32],
        seeds: Sequence[int],
        hops: int,
        k: int,
        *,
        collection: str,
        filter: Filter | None = None,
    ) -> dict[int, tuple[float, int]]:
        """Of the seeds and what lies around them the k that answer a vector (dim,) best, best first.

        Returns:
            id -> (cosine, edges away).

        Raises:
            InputError, StoreError: as `around`.
        """
        part = self.around(seeds, hops, collection=collection, filter=filter, most=_AROUND)
        ids, away, cosines = part.graph.ids.tolist(), part.graph.hops.tolist(), part.cosines(vector).tolist()
        order = np.argsort(-self.scores(vector, part), kind="stable")[:k].tolist()
        return {ids[i]: (cosines[i], away[i]) for i in order}

    def around(
        self, seeds: Sequence[int], hops: int, *, collection: str, filter: Filter | None = None, most: int
    ) -> Neighbourhood:
        """What lies up to so many edges from memories, with those of the seeds that are still there.

        Args:
            collection, filter: what may be returned, archived memories too; others are only ways to it.
            most: memories in all, seeds included.

        Raises:
            InputError: hops out of range, or a filter that cannot be understood.
            StoreError: a vector is damaged.
        """
        there = self._fitting(np.array(seeds, np.int64), collection, filter)
        alive = [i for i in seeds if i in there]  # another process may have removed one since it was found
        graph = self._graph.expand(alive, hops, most=max(most, len(alive)))
        fitting = self._fitting(graph.ids, collection, filter)
        graph = graph.only(np.array([i in fitting for i in graph.ids.tolist()], bool))
        vectors = self._records.vectors(graph.ids)
        if vectors.shape[1] != self._dim and len(graph):
            message = f"vectors of {self._space} are {vectors.shape[1]} wide, not {self._dim}"
            raise StoreError(message, field="state", fix="give each encoder a space of its own")
        vectors = vectors.reshape(len(graph), self._dim)
        lengths = np.sqrt(np.einsum("ij,ij->i", vectors, vectors))[:, None]
        return Neighbourhood(graph, np.asarray(vectors / np.maximum(lengths, np.float32(1e-12)), np.float32))

    def scores(self, vector: NDArray[np.float32], part: Neighbourhood) -> NDArray[np.floating]:
        """How well each memory of a neighbourhood answers a vector (dim,): what was learnt of that, or the cosine.

        Untrained, an edge away counts for a tenth less.
        """
        attention = self.attention()
        if attention is not None and len(part.graph):
            return attention.rank(vector, part.vectors, part.graph)
        out: NDArray[np.floating] = part.cosines(vector) * _FARTHER**part.graph.hops
        return out

    def attention(self) -> GraphAttention | None:
        """The layer in the state file, as it is there now; None while there is none for this width."""
        digest = self._records.store.digest(self._stored_as)
        if digest != self._digest:
            self._attention, self._digest = (
                saved_attention(self._records.store, self._dim, name=self._stored_as),
                digest,
            )
        return self._attention

    def _fitting(self, ids: NDArray[np.int64], collection: str, filter: Filter | None) -> set[int]:
        return set(self._records.fitting(ids, collection, self._space, filter or {}))


def directed(vectors: ArrayLike, shape: tuple[int, ...], field: str = "vectors") -> NDArray[np.float32]:
    """Vectors as float32, each finite and with a direction.

    Raises:
        InputError: they are of another shape, or one is not finite or zero.
    """
    array = floats(vectors, field)
    if array.shape != shape:
        raise InputError(f"{field} of shape {array.shape}", field=field, fix=f"give float32 {shape}")
    squares = np.einsum("...i,...i->...", array, array)
    if not ((squares > 0) & np.isfinite(squares)).all():
        fix = "leave out what has no direction, NaN and infinity"
        raise InputError("a vector is zero or not finite", field=field, fix=fix)
    return array
