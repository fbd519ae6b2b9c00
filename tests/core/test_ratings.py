"""What was said of searches is kept, moves quality and edges, and teaches the ranking."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from ruvllm import InputError, StoreError
from ruvllm.encoders.protocol import run_now, unit_rows
from ruvllm.memory import ratings
from ruvllm.memory.attention import GraphAttention
from ruvllm.memory.attention.training import Trained, save_attention
from ruvllm.memory.memory import MemoryStore
from ruvllm.memory.subgraph import Edge
from ruvllm.state.names import name_in
from ruvllm.state.record import Memory
from ruvllm.state.store import Store

DIM = 16


class Given:
    """An encoder of texts that are told with their vectors only."""

    name = "given"

    def __init__(self, dim: int = DIM) -> None:
        self.dim = dim

    async def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        raise AssertionError("nothing has to be encoded here")


@pytest.fixture
def memory() -> MemoryStore:
    return MemoryStore(Given(), Store())


def vectors(count: int, seed: int = 0) -> NDArray[np.float32]:
    return unit_rows(np.random.default_rng(seed).standard_normal((count, DIM)))


def put(memory: MemoryStore, told: NDArray[np.float32], **about: Any) -> list[int]:
    return memory.add_encoded([Memory(f"text {i}", **about) for i in range(len(told))], told)


def weight(memory: MemoryStore, source: int, target: int, kind: str = "Cites") -> float:
    found = memory.store.read(
        "SELECT weight FROM edges WHERE source = ? AND target = ? AND kind = ?", (source, target, kind)
    )
    return float(found[0][0])


def qualities(memory: MemoryStore, ids: list[int]) -> list[float]:
    return [round(one.quality, 6) for one in memory.records.get(ids)]


def test_quality_moves_by_a_fifth_and_stays_within_its_bounds(memory: MemoryStore):
    told = vectors(3)
    ids = put(memory, told, quality=0.5)
    memory.rate(told[0], [ids[0]], [ids[1]])
    assert qualities(memory, ids) == [0.7, 0.3, 0.5]
    for _ in range(3):
        memory.rate(told[0], [ids[0]], [ids[1]])
    assert qualities(memory, ids) == [1.0, 0.0, 0.5]


def test_rate_query_id_1_other_0_is_graded(memory: MemoryStore):
    told = vectors(4)
    ids = put(memory, told, quality=0.5)
    memory.rate(told[0], {ids[0]: 1.0, ids[1]: 0.0, ids[2]: 0.75})
    assert qualities(memory, ids) == [0.7, 0.3, 0.6, 0.5]
    ((relevance,),) = memory.store.read("SELECT relevance FROM ratings")
    assert json.loads(relevance) == {str(ids[0]): 1.0, str(ids[1]): 0.0, str(ids[2]): 0.75}
    memory.rate(told[0], {ids[0]: 0.5}, [ids[3]])
    assert qualities(memory, ids) == [0.7, 0.3, 0.6, 0.3]


@pytest.mark.parametrize("helped", [-0.1, 1.1, float("nan"), True, "1", None])
def test_a_grade_is_from_0_to_1(memory: MemoryStore, helped: Any):
    told = vectors(2)
    ids = put(memory, told, quality=0.5)
    for rated in ({ids[0]: 1.0, ids[1]: helped}, {ids[0]: helped}):
        with pytest.raises(InputError) as caught:
            memory.rate(told[0], rated)
        assert caught.value.field == "ids"
    assert qualities(memory, ids) == [0.5, 0.5]


def test_edges_that_led_to_a_memory_move_with_it_along_the_whole_way(
    memory: MemoryStore, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("ruvllm.memory.memory._RATED", 1)
    told = vectors(5)
    hit, middle, end, bad, apart = put(memory, told, quality=0.5)
    memory.graph.link_all(
        [
            Edge(hit, middle, "Cites", 0.5),
            Edge(end, middle, "Cites", 0.5),  # followed against its direction
            Edge(hit, bad, "Cites", 0.5),
            Edge(hit, bad, "SameTopic", 0.4),  # the lighter of two
            Edge(apart, end, "Cites", 0.5),
        ]
    )
    memory.rate(told[0], [end], [bad])
    assert weight(memory, hit, middle) == pytest.approx(0.7)
    assert weight(memory, end, middle) == pytest.approx(0.7)
    assert weight(memory, hit, bad) == pytest.approx(0.3)
    assert weight(memory, hit, bad, "SameTopic") == pytest.approx(0.4)
    assert weight(memory, apart, end) == pytest.approx(0.5)
    memory.rate(told[0], [hit])  # a direct hit needed no edge
    assert weight(memory, hit, middle) == pytest.approx(0.7)


def test_a_hyperedge_that_led_there_moves(memory: MemoryStore, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("ruvllm.memory.memory._RATED", 1)
    told = vectors(4)
    hit, other, third, far = put(memory, told, quality=0.5)
    led = memory.graph.bind([hit, other, third], weight=0.5)
    elsewhere = memory.graph.bind([other, far], weight=0.5)
    memory.rate(told[0], [other])
    assert qualities(memory, [hit, other]) == [0.5, 0.7]
    weights = {one.id: round(one.weight, 6) for one in memory.graph.bindings([other])}
    assert weights == {led: 0.7, elsewhere: 0.5}
    for _ in range(6):
        memory.rate(told[0], unhelpful=[third])
    assert {one.id: one.weight for one in memory.graph.bindings([third])} == {led: 0.0}
    memory.rate(told[0], [hit])  # a direct hit needed none
    assert {one.id: one.weight for one in memory.graph.bindings([hit])} == {led: 0.0}


def test_ratings_are_kept_up_to_a_bound(memory: MemoryStore, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(ratings, "_MOST", 5)
    told = vectors(9)
    ids = put(memory, told)
    for i in range(8):
        memory.rate(told[i], [ids[i]])
    assert len(memory.ratings) == 5
    kept = [row[0] for row in memory.store.read("SELECT query FROM ratings ORDER BY id")]
    assert kept == [row.tobytes() for row in told[3:8]]


def test_where_nothing_helped_there_is_nothing_to_learn_to_rank(memory: MemoryStore):
    told = vectors(2)
    ids = put(memory, told)
    memory.rate(told[0], unhelpful=ids)
    assert len(memory.ratings) == 0
    assert qualities(memory, ids) == [0.8, 0.8]


@pytest.mark.parametrize(
    ("helpful", "unhelpful"), [([], []), ([1], [1]), ([99], []), ([1], [99]), ([0], []), (["1"], [])]
)
def test_a_rating_that_cannot_be_taken_in_changes_nothing(helpful: Any, unhelpful: Any, memory: MemoryStore):
    told = vectors(2)
    ids = put(memory, told, quality=0.5)
    with pytest.raises(InputError) as caught:
        memory.rate(told[0], helpful, unhelpful)
    assert caught.value.field == "ids"
    assert qualities(memory, ids) == [0.5, 0.5]
    assert len(memory.ratings) == 0


# A world in which what answers lies an edge away from what resembles: half of it is cited by the right hits.

_TOPICS, _HITS, _ANSWERS = 60, 4, 3


def world(memory: MemoryStore, seed: int = 0) -> list[tuple[NDArray[np.float32], list[int], list[int]]]:
    """Of each topic: a query, ids of memories that answer it, and of some that do not."""
    random, out = np.random.default_rng(seed), []
    for topic in unit_rows(random.standard_normal((_TOPICS, DIM))):
        noise = unit_rows(random.standard_normal((_HITS + 2 * _ANSWERS, DIM)))
        near, far = unit_rows(topic + 0.8 * noise[:_HITS]), unit_rows(0.35 * topic + noise[_HITS:])
        hits, answers = put(memory, near), put(memory, far)
        memory.graph.link_all(Edge(hit, answer, "Cites", 0.9) for hit in hits for answer in answers[:_ANSWERS])
        memory.graph.link_all(Edge(hit, answer, "SameTopic", 0.9) for hit in hits for answer in answers[_ANSWERS:])
        out.append((topic, answers[:_ANSWERS], answers[_ANSWERS:] + hits))
    return out


def rated(memory: MemoryStore, topics: list[tuple[NDArray[np.float32], list[int], list[int]]]) -> None:
    with memory.store.write():
        for query, good, bad in topics:
            memory.ratings.keep(query, dict.fromkeys(good, 1.0) | dict.fromkeys(bad, 0.0))


def answered(memory: MemoryStore, topics: list[tuple[NDArray[np.float32], list[int], list[int]]]) -> float:
    """Share of the answers among the first of what a search with hops returns."""
    found = [{one.memory.id for one in memory.search(query, 6, hops=1)} for query, _, _ in topics]
    return float(np.mean([len(ids & set(good)) / _ANSWERS for ids, (_, good, _) in zip(found, topics, strict=True)]))


def review(memory: MemoryStore, **options: Any) -> Trained | None:
    return run_now(memory.review(**options))


def test_a_review_learns_to_rank_and_searches_with_hops_follow(memory: MemoryStore):
    topics = world(memory)
    rated(memory, topics)
    asked = world(memory, 1)[:20]
    before, plain = answered(memory, asked), [one.memory.id for one in memory.search(asked[0][0], 5)]
    turns = list[int]()

    async def turn() -> None:
        turns.append(1)

    trained = review(memory, pause=turn, epochs=12)
    assert trained is not None
    assert trained.accepted
    assert trained.after > trained.before
    assert len(turns) > _TOPICS
    assert answered(memory, asked) > before + 0.2
    assert [one.memory.id for one in memory.search(asked[0][0], 5)] == plain  # without hops it is the cosine
    other = MemoryStore(Given(), memory.store)
    assert answered(other, asked) == answered(memory, asked)
    assert review(memory) is None  # nothing new to judge it by


def test_few_ratings_teach_nothing_yet(memory: MemoryStore):
    topics = world(memory)
    rated(memory, topics[: ratings.ENOUGH - 1])
    assert review(memory) is None
    assert memory.store.digest(name_in(memory.space, "attention")) is None


def test_what_is_learnt_from_noise_is_not_kept(memory: MemoryStore):
    random, told = np.random.default_rng(3), vectors(80)
    ids = put(memory, told)
    memory.graph.link_all(Edge(ids[i], ids[i + 1], "Follows", 0.5) for i in range(79))
    with memory.store.write():
        for query in vectors(60, 7):
            good, bad = random.choice(ids, 2, replace=False).tolist()
            memory.ratings.keep(query, {good: 1.0, bad: 0.0})
    trained = review(memory, epochs=4)
    assert trained is not None
    assert not trained.accepted
    assert memory.store.digest(name_in(memory.space, "attention")) is None
    assert review(memory) is None


def test_memories_that_are_gone_are_no_examples(memory: MemoryStore):
    topics = world(memory)
    rated(memory, topics)
    for _, good, _ in topics[: _TOPICS - ratings.ENOUGH + 1]:
        memory.forget(good)
    assert review(memory) is None
    assert answered(memory, topics[-5:]) >= 0


def test_a_layer_of_another_width_is_neither_used_nor_replaced(memory: MemoryStore):
    topics = world(memory)
    before = answered(memory, topics[:5])
    save_attention(memory.store, GraphAttention(8), name_in(memory.space, "attention"))
    digest = memory.store.digest(name_in(memory.space, "attention"))
    assert answered(memory, topics[:5]) == before
    rated(memory, topics)
    assert review(memory) is None
    assert memory.store.digest(name_in(memory.space, "attention")) == digest


def test_a_damaged_layer_is_an_error_and_not_a_worse_ranking(memory: MemoryStore):
    (query,) = vectors(1)
    put(memory, vectors(3))
    memory.store.put(name_in(memory.space, "attention"), b"no weights")
    with pytest.raises(StoreError, match="damaged"):
        memory.search(query, hops=1)
    assert len(memory.search(query)) == 3
