"""Loop C: what is old and much alike becomes a concept, so that memory keeps within its bound.

Clusters of similar memories get a Concept node: its text is the member that says most of what the others
say, its vector their mean, with Contains edges to all members. The members leave the index but stay in the
file, reachable by id and through their concept. What resembles nothing else goes only when the bound
demands it, least valuable first, and then under the concept nearest to it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ruvllm.encoders.protocol import unit_rows
from ruvllm.errors import InputError
from ruvllm.index.kmeans import assign, kmeans
from ruvllm.memory.memory import MemoryStore
from ruvllm.memory.subgraph import Edge
from ruvllm.state.record import Memory
from ruvllm.text.lexical import content, stems

_PER_CLUSTER = 12  # members that a cluster has on average before it is tested
_ROUNDS = 4
_SAMPLE = 64  # members that tell how dense a cluster is
_KEYWORDS = 8
_PAGE = 512
_TINY = 1e-6
_RELATED = 0.4  # cosine from which a memory may be filed under a concept that was made of others
_INDEXED = "FROM memories JOIN vectors USING (id) WHERE collection = ? AND NOT archived AND space = ?"

Vectors = NDArray[np.float32]
Ids = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Consolidation:
    """When and how memories become concepts.

    Attributes:
        most: memories of a collection in the index; what is over `most` starts the work.
        down_to: share of `most` that it goes down to, so that not every new memory starts it again.
        min_cluster_size: fewer similar memories make no concept.
        min_edge_density: share of a cluster's pairs that have to be alike.
        alike: cosine from which two memories are.
    """

    most: int = 50_000
    down_to: float = 0.8
    min_cluster_size: int = 3
    min_edge_density: float = 0.5
    alike: float = 0.6

    def __post_init__(self) -> None:
        for name, low, high in (
            ("most", 16, 10**9),
            ("down_to", 0.1, 1.0),
            ("min_cluster_size", 2, 10**6),
            ("min_edge_density", 0.0, 1.0),
            ("alike", 0.0, 1.0),
        ):
            value = getattr(self, name)
            if not low <= value <= high:
                raise InputError(f"{name} is {value}", field=name, fix=f"use {low} to {high}")


@dataclass(frozen=True, slots=True)
class Consolidated:
    """What one run did.

    Attributes:
        clusters: groups that were looked at.
        concepts: nodes made.
        archived: memories taken out of the index.
        bytes_saved: of vectors in memory.
    """

    clusters: int = 0
    concepts: int = 0
    archived: int = 0
    bytes_saved: int = 0

    def __add__(self, other: Consolidated) -> Consolidated:
        return Consolidated(
            self.clusters + other.clusters,
            self.concepts + other.concepts,
            self.archived + other.archived,
            self.bytes_saved + other.bytes_saved,
        )


def consolidate(
    memory: MemoryStore, collection: str = "default", settings: Consolidation = Consolidation()
) -> Iterator[Consolidated]:
    """Bring a collection under its bound, a little at a time; yields what each step did.

    Every step is whole: whoever stops between two leaves a memory that is sound.

    Raises:
        StoreError: the file cannot be read or written.
    """
    count = _count(memory, collection)
    if count <= settings.most:
        return
    excess = count - int(settings.most * settings.down_to)
    ids = _least_valuable(memory, collection, min(count, 2 * excess))
    vectors = unit_rows(memory.records.vectors(ids))
    nearest = _clusters(vectors)
    left = list[int]()
    for cluster in np.unique(nearest).tolist():
        if excess <= 0:
            return
        rows = np.flatnonzero(nearest == cluster)
        like = rows[vectors[rows] @ _middle(vectors[rows]) >= settings.alike]  # strays are no part of it
        if (
            len(like) >= settings.min_cluster_size
            and _density(vectors[like], settings.alike) >= settings.min_edge_density
        ):
            done = _abstract(memory, collection, ids[like], vectors[like])
            excess -= done.archived - done.concepts
            left += np.setdiff1d(rows, like).tolist()
            yield done
        else:
            left += rows.tolist()
            yield Consolidated(clusters=1)
    for start in range(0, len(left), _PAGE):
        if excess <= 0:
            return
        rows = np.array(sorted(left)[start : start + min(_PAGE, excess + 1)], np.intp)
        for done in _put_away(memory, collection, ids[rows], vectors[rows]):
            excess -= done.archived - done.concepts
            yield done


def _count(memory: MemoryStore, collection: str) -> int:
    """How many memories of a collection are in the index: of this encoder's space, and not archived."""
    sql = f"SELECT count(*) {_INDEXED}"
    return int(memory.store.read(sql, (collection, memory.space))[0][0])


def _least_valuable(memory: MemoryStore, collection: str, most: int) -> Ids:
    """Ids, least valuable first: seldom used, long ago, of low quality. Concepts count for what they hold."""
    found = memory.store.read(
        f"SELECT id {_INDEXED} ORDER BY kind = 'Concept', quality * (1 + accesses), accessed, id LIMIT ?",
        (collection, memory.space, most),
    )
    return np.array([row[0] for row in found], np.int64)


def _clusters(vectors: Vectors) -> NDArray[np.intp]:
    count = max(1, len(vectors) // _PER_CLUSTER)
    sample = vectors[:: max(1, len(vectors) // (8 * count))]
    return assign(vectors, kmeans(sample, min(count, len(sample)), rounds=_ROUNDS, plus_plus=True))


def _density(vectors: Vectors, alike: float) -> float:
    """Share of pairs (of a sample) whose cosine is at least `alike`."""
    some = vectors[:: max(1, len(vectors) // _SAMPLE)]
    pairs = len(some) * (len(some) - 1)
    return float(((some @ some.T) >= alike).sum() - len(some)) / pairs if pairs else 0.0


def _abstract(memory: MemoryStore, collection: str, ids: Ids, vectors: Vectors) -> Consolidated:
    """One concept for a cluster, or for what another process has left of it."""
    there = np.isin(ids, list(memory.records.present(ids.tolist())))  # another process may have removed some
    ids, vectors = ids[there], vectors[there]
    if len(ids) < 2:
        return Consolidated(clusters=1)
    members, mean = memory.records.get(ids.tolist()), _middle(vectors)
    medoid = members[int((vectors @ mean).argmax())]
    about = {"members": len(members), "keywords": _keywords(members)}
    quality = float(np.mean([member.quality for member in members]))
    concept = Memory(medoid.text, "Concept", collection, about, quality)
    _keep(memory, concept, mean, ids)
    return Consolidated(1, 1, len(ids), (len(ids) - 1) * vectors.shape[1] * 4)


def _middle(vectors: Vectors) -> Vectors:
    """The direction of the mean of unit vectors (n, dim): float32 (dim,)."""
    mean: Vectors = vectors.mean(0)
    length = float(np.linalg.norm(mean))
    return mean / np.float32(length) if length > _TINY else vectors[0]  # what points every way has none


def _put_away(memory: MemoryStore, collection: str, ids: Ids, vectors: Vectors) -> Iterator[Consolidated]:
    """Archive what is like nothing else: under the concept nearest to it, or under loose concepts of its own."""
    there = np.isin(ids, list(memory.records.present(ids.tolist())))  # another process may have removed some
    ids, vectors = ids[there], vectors[there]
    concepts = _concepts(memory, collection)
    filed = np.zeros(len(ids), bool)
    if len(concepts):
        cosines = vectors @ unit_rows(memory.records.vectors(concepts)).T
        nearest = cosines.argmax(1)
        best = cosines[np.arange(len(ids)), nearest]
        filed = (best >= _RELATED) & ~np.isin(ids, concepts)
        ends = zip(concepts[nearest[filed]].tolist(), ids[filed].tolist(), best[filed].tolist(), strict=True)
        memory.graph.link_all(Edge(concept, one, "Contains", min(1.0, weight)) for concept, one, weight in ends)
        memory.archive(ids[filed].tolist())
        yield Consolidated(archived=int(filed.sum()), bytes_saved=int(filed.sum()) * vectors.shape[1] * 4)
    rest = np.flatnonzero(~filed)
    if len(rest) < 2:
        return
    groups = _clusters(vectors[rest])
    for group in np.unique(groups).tolist():
        rows = rest[groups == group]
        if len(rows) > 1:
            yield _abstract(memory, collection, ids[rows], vectors[rows])


def _concepts(memory: MemoryStore, collection: str) -> Ids:
    found = memory.store.read(f"SELECT id {_INDEXED} AND kind = 'Concept'", (collection, memory.space))
    return np.array([row[0] for row in found], np.int64)


def _keep(memory: MemoryStore, concept: Memory, vector: Vectors, members: Ids) -> None:
    """The concept first, then its edges, then the members go: an interruption leaves nothing out of reach."""
    (made,) = memory.add_encoded([concept], vector[None])
    memory.graph.link_all(Edge(made, member, "Contains", 1.0) for member in members.tolist())
    memory.archive(members.tolist())


def _keywords(members: list[Memory]) -> list[str]:
    """The stems that most members share."""
    counts = Counter(word for member in members for word in set(content(stems(member.text))))
    return [word for word, count in counts.most_common(_KEYWORDS) if count > 1]
