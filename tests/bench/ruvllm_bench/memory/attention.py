"""What training does for retrieval: nDCG@10 before and after, on a task that needs the graph.

Half of what answers a query does not resemble it. It is cited by what does, mostly; equally many edges of
the other kinds, and the same kind of edge the other way round, lead to what resembles but does not answer.
A layer has to learn from relevance alone which edges tell something, and in which direction.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from ruvllm.encoders.protocol import run_now
from ruvllm.memory.attention import GraphAttention
from ruvllm.memory.attention.training import Example, mean_ndcg, train_attention
from ruvllm.memory.subgraph import EDGE_KINDS, Subgraph

_NODES, _NEAR, _FAR, _DECOYS = 64, 4, 4, 16
_RIGHT = 0.8  # share of informative edges that lead where they should
_NOISE = 96  # edges at random
_REPEATS = 50


@dataclass(frozen=True, slots=True)
class AttentionGain:
    """One measurement, on queries that took no part in training.

    Attributes:
        cosine: mean nDCG@10 of the untrained layer, which is that of the cosine.
        even: of the cosine once each memory is averaged with its neighbours, whatever the edge.
        trained: of the trained layer.
        kept: whether training itself would have kept it.
        rank_us: median time to rank 64 memories with the trained layer.
        seconds: that training took.
    """

    dim: int
    queries: int
    cosine: float
    even: float
    trained: float
    kept: bool
    rank_us: float
    seconds: float

    def __str__(self) -> str:
        return (
            f"graph attention, {self.dim} wide, {self.queries} held-out queries: nDCG@10 {self.cosine:.3f} before, "
            f"{self.trained:.3f} after training ({self.seconds:.0f} s); neighbours averaged alike {self.even:.3f}; "
            f"{self.rank_us:.0f} µs to rank {_NODES} memories"
        )


def make_examples(count: int, dim: int, seed: int = 0) -> list[Example]:
    """Queries with 64 memories each; see the module."""
    random = np.random.default_rng(seed)
    return [_example(random, dim) for _ in range(count)]


def measure_attention(dim: int = 256, *, taught: int = 160, asked: int = 200, seed: int = 0) -> AttentionGain:
    """Train on some queries, ask others."""
    examples, test = make_examples(taught, dim, seed), make_examples(asked, dim, seed + 1)
    plain, even = GraphAttention(dim), GraphAttention(dim)
    even.weights["gates"][0] = 1
    start = perf_counter()
    trained = run_now(train_attention(plain, examples, seed=seed))
    seconds = perf_counter() - start
    times = []
    for example in (test * _REPEATS)[:_REPEATS]:
        begin = perf_counter()
        trained.attention.rank(example.query, example.vectors, example.graph)
        times.append(perf_counter() - begin)
    before, averaged, after = (mean_ndcg(layer, test) for layer in (plain, even, trained.attention))
    return AttentionGain(dim, asked, before, averaged, after, trained.accepted, 1e6 * median(times), seconds)


def _example(random: np.random.Generator, dim: int) -> Example:
    def like(centre: NDArray[np.float64], cosine: float, count: int) -> NDArray[np.float64]:
        noise = _unit(random.normal(size=(count, dim)))
        return _unit(cosine * centre + np.sqrt(1 - cosine**2) * noise)

    query = _unit(random.normal(size=(1, dim)))
    near, far = like(query, 0.5, _NEAR), like(query, 0.15, _FAR)
    decoys = like(query, 0.45, _DECOYS)
    rest = like(query, 0.15, _NODES - _NEAR - _FAR - _DECOYS)
    place = random.permutation(_NODES)
    near_at, far_at, decoy_at = np.split(place[: _NEAR + _FAR + _DECOYS], [_NEAR, _NEAR + _FAR])
    rest_at = place[_NEAR + _FAR + _DECOYS :]
    vectors = np.empty((_NODES, dim), np.float32)
    for at, rows in ((near_at, near), (far_at, far), (decoy_at, decoys), (rest_at, rest)):
        vectors[at] = rows
    relevance = np.zeros(_NODES, np.float32)
    relevance[near_at], relevance[far_at] = 1, 1
    edges = _edges(random, near_at, far_at, decoy_at, rest_at)
    sources, targets, kinds = edges[edges[:, 0] != edges[:, 1]].T
    weights = random.uniform(0.3, 1, len(kinds)).astype(np.float32)
    ids = np.arange(1, _NODES + 1, dtype=np.int64)
    graph = Subgraph(ids, np.zeros(_NODES, np.int64), sources, targets, kinds, weights)
    return Example(query[0].astype(np.float32), vectors, graph, relevance)


def _edges(
    random: np.random.Generator,
    near: NDArray[np.int64],
    far: NDArray[np.int64],
    decoys: NDArray[np.int64],
    rest: NDArray[np.int64],
) -> NDArray[np.int64]:
    """(m, 3): source, target, place in EDGE_KINDS."""
    cites, topic = EDGE_KINDS.index("Cites"), EDGE_KINDS.index("SameTopic")
    rows = list[tuple[int, int, int]]()
    for source in near:
        for target in random.choice(far, 2, replace=False):
            wrong = random.random() > _RIGHT
            rows.append((source, random.choice(rest) if wrong else target, cites))
    for decoy in decoys:  # what resembles is cited by, and shares a topic with, what does not answer
        rows.append((random.choice(rest), decoy, cites))
        rows.append((decoy, random.choice(rest), topic))
    noise = zip(*random.integers(0, _NODES, (2, _NOISE)), random.integers(1, len(EDGE_KINDS), _NOISE), strict=True)
    return np.array([*rows, *noise], np.int64)


def _unit(x: NDArray[np.float64]) -> NDArray[np.float64]:
    out: NDArray[np.float64] = x / np.sqrt((x * x).sum(axis=1, keepdims=True))
    return out
