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

from ruvllm.errors import InputError
from ruvllm.index.kmeans import assign, kmeans
from ruvllm.memory.graph import Edge
from ruvllm.memory.memory import MemoryStore
from ruvllm.memory.records import Memory
from ruvllm.text.lexical import content, stems

__all__ = ["Consolidated", "Consolidation", "consolidate"]

_PER_CLUSTER = 12  # members that a cluster has on average before it is tested
_ROUNDS = 4
_SAMPLE = 64  # members that tell how dense a cluster is
_KEYWORDS = 8
_PAGE = 512
_RELATED = 0.4  # cosine from which a memory may be filed under a concept that was made of others

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
    count = memory.records.counts().get(collection, 0)
    if count <= settings.most:
        return
    excess = count - int(settings.most * settings.down_to)
    ids = _least_valuable(memory, collection, min(count, 2 * excess))
    vectors = memory.records.vectors(ids)
    nearest = _clusters(vectors)
    left = list[int]()
    for cluster in np.unique(nearest).tolist():
        if excess <= 0:
            return
        rows = np.flatnonzero(nearest == cluster)
        if (
            len(rows) >= settings.min_cluster_size
            and _density(vectors[rows], settings.alike) >= settings.min_edge_density
        ):
            done = _abstract(memory, collection, ids[rows], vectors[rows])
            excess -= done.archived - done.concepts
            yield done
        else:
            left += rows.tolist()
    for start in range(0, len(left), _PAGE):
        if excess <= 0:
            return
        rows = np.array(sorted(left)[start : start + min(_PAGE, excess + 1)], np.intp)
        for done in _put_away(memory, collection, ids[rows], vectors[rows]):
            excess -= done.archived - done.concepts
            yield done


def _least_valuable(memory: MemoryStore, collection: str, most: int) -> Ids:
    """Ids, least valuable first: seldom used, long ago, of low quality. Concepts count for what they hold."""
    found = memory.store.read(
        "SELECT id FROM memories WHERE collection = ? AND NOT archived"
        " ORDER BY kind = 'Concept', quality * (1 + accesses), accessed, id LIMIT ?",
        (collection, most),
    )
    return np.array([row[0] for row in found], np.int64)


def _clusters(vectors: Vectors) -> NDArray[np.intp]:
    count = max(1, len(vectors) // _PER_CLUSTER)
    sample = vectors[:: max(1, len(vectors) // (8 * count))]
    return assign(vectors, kmeans(sample, min(count, len(sample)), rounds=_ROUNDS))


def _density(vectors: Vectors, alike: float) -> float:
    """Share of pairs (of a sample) whose cosine is at least `alike`."""
    some = vectors[:: max(1, len(vectors) // _SAMPLE)]
    pairs = len(some) * (len(some) - 1)
    return float(((some @ some.T) >= alike).sum() - len(some)) / pairs if pairs else 0.0


def _abstract(memory: MemoryStore, collection: str, ids: Ids, vectors: Vectors) -> Consolidated:
    """One concept for a cluster."""
    mean = vectors.mean(0)
    mean /= max(float(np.linalg.norm(mean)), 1e-12)
    members = memory.records.get(ids.tolist())
    medoid = members[int((vectors @ mean).argmax())]
    about = {"members": len(members), "keywords": _keywords(members)}
    quality = float(np.mean([member.quality for member in members]))
    concept = Memory(medoid.text, "Concept", collection, about, quality)
    _keep(memory, concept, mean, ids)
    return Consolidated(1, 1, len(ids), (len(ids) - 1) * vectors.shape[1] * 4)


def _put_away(memory: MemoryStore, collection: str, ids: Ids, vectors: Vectors) -> Iterator[Consolidated]:
    """Archive what is like nothing else: under the concept nearest to it, or under loose concepts of its own."""
    concepts = _concepts(memory, collection)
    filed = np.zeros(len(ids), bool)
    if len(concepts):
        cosines = vectors @ memory.records.vectors(concepts).T
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
    found = memory.store.read(
        "SELECT id FROM memories WHERE collection = ? AND NOT archived AND kind = 'Concept'", (collection,)
    )
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
