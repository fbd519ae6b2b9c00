"""What lies around the memories that a search hit, and which of it answers best."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import groupby

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ruvllm.encoders.protocol import Pause
from ruvllm.errors import InputError, StoreError
from ruvllm.index import AutoIndex
from ruvllm.index.rows import floats
from ruvllm.memory.attention import GraphAttention
from ruvllm.memory.attention.training import saved_attention
from ruvllm.memory.filters import Filter
from ruvllm.memory.graph import Graph
from ruvllm.memory.records import Records
from ruvllm.memory.subgraph import Subgraph
from ruvllm.reprs import Shown
from ruvllm.state.names import ATTENTION, REPRESENTATIONS, name_in
from ruvllm.state.packing import Spec, pack, unpack

_AROUND = 256  # memories that hops may lead to
_FARTHER = 0.9  # what a cosine counts for, an edge away
_HEARD = 0.3  # part of a representation that its neighbours have
_MOST, _BYTES = 20_000, 40_000_000  # representations, and bytes that they may have
_SLICE, _FAN_OUT = 64, 17  # representations made between two pauses, and memories looked at for each
_JOINED = """
SELECT id, collection FROM memories JOIN vectors USING (id) WHERE space = ? AND NOT archived AND id IN (
    SELECT source FROM edges UNION SELECT target FROM edges UNION SELECT memory FROM hyperedge_members
) ORDER BY collection, id DESC LIMIT ?
"""


@dataclass(frozen=True, slots=True, repr=False)
class Neighbourhood(Shown):
    """Memories and what joins them.

    Attributes:
        graph: n memories, those it grew from first.
        vectors: float32 (n, dim), unit rows.
    """

    graph: Subgraph
    vectors: NDArray[np.float32]

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
        self._informed_as = name_in(space, REPRESENTATIONS)
        self._index: AutoIndex | None = None  # of what memories say together with their neighbours
        self._digest: str | None = None
        self._informed_digest: str | None = None
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
        near = self.informed(vector, k, collection, filter)
        through = near.keys() - set(seeds)  # found for what their neighbours say
        seeds = [*seeds, *through]
        part = self.around(seeds, hops, collection=collection, filter=filter, most=max(_AROUND, len(seeds)))
        ids, away, cosines = part.graph.ids.tolist(), part.graph.hops.tolist(), part.cosines(vector).tolist()
        scores = self.scores(vector, part)
        if self.attention() is None:
            scores = np.maximum(scores, [near.get(i, -1.0) for i in ids])
        order = np.argsort(-scores, kind="stable")[:k].tolist()
        return {ids[i]: (cosines[i], away[i] or int(ids[i] in through)) for i in order}

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

    async def update(self, pause: Pause) -> int:
        """Store of the newest memories that edges join what they and their neighbours say together; returns how many.

        Each hears from its neighbours by what was learnt of that; untrained, by the weights of the edges.

        Args:
            pause: awaited between slices of the work; where it raises, nothing has changed.
        """
        joined = self._records.store.read(_JOINED, (self._space, min(_MOST, _BYTES // (4 * self._dim))))
        ids, rows = [np.empty(0, np.int64)], [np.empty((0, self._dim), np.float32)]
        for collection, group in groupby(joined, lambda row: str(row[1])):
            members = [i for i, _ in group]
            for start in range(0, len(members), _SLICE):
                seeds = members[start : start + _SLICE]
                part = self.around(seeds, 1, collection=collection, most=_SLICE * _FAN_OUT)
                seen = part.graph.hops == 0
                ids.append(part.graph.ids[seen])
                rows.append(self._informed(part)[seen])
                await pause()
        data = pack({"ids": np.concatenate(ids), "rows": np.concatenate(rows)}, REPRESENTATIONS)
        if sha256(data).hexdigest() != self._records.store.digest(self._informed_as):
            self._records.store.save(self._informed_as, lambda: data)
        return len(joined)

    def informed(self, vector: NDArray[np.float32], k: int, collection: str, filter: Filter | None) -> dict[int, float]:
        """Of k memories that are nearest to float32 (dim,) with their neighbours' words the cosines, by id.

        Raises:
            StoreError: what was stored of them is damaged.
        """
        digest = self._records.store.digest(self._informed_as)
        if digest != self._informed_digest:
            data = self._records.store.load(self._informed_as)
            specs = {"ids": Spec(("n",), "int64"), "rows": Spec(("n", self._dim))}
            arrays = None if data is None else unpack(data, REPRESENTATIONS, specs)
            self._index = AutoIndex(self._dim)
            if arrays is not None:
                self._index.add(arrays["ids"], arrays["rows"])
            self._informed_digest = digest
        if self._index is None or not len(self._index) or not vector.any():
            return {}
        hits = self._index.search(vector, k)
        fitting = self._fitting(hits.ids, collection, filter)
        return {i: score for i, score in zip(hits.ids.tolist(), hits.scores.tolist(), strict=True) if i in fitting}

    def _informed(self, part: Neighbourhood) -> NDArray[np.float32]:
        """float32 (n, dim), unit rows: the memories of a neighbourhood once they have heard from each other."""
        attention, graph, x = self.attention(), part.graph, part.vectors
        if attention is not None:
            return np.asarray(attention.message_pass(graph, x), np.float32)
        heard, weight = np.zeros_like(x), np.full((len(x), 1), 1e-12, np.float32)
        for here, there in ((graph.sources, graph.targets), (graph.targets, graph.sources)):
            np.add.at(heard, here, graph.weights[:, None] * x[there])
            np.add.at(weight, here, graph.weights[:, None])
        out = (1 - _HEARD) * x + _HEARD * np.where(weight > 1e-6, heard / weight, x)
        return np.asarray(out / np.maximum(np.linalg.norm(out, axis=1, keepdims=True), 1e-12), np.float32)

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
