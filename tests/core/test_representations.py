"""What memories say together with their neighbours in the graph: made in the background, found by searches."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from ruvllm import RuvLLM
from ruvllm.encoders.protocol import no_pause, run_now
from ruvllm.errors import StoreError
from ruvllm.memory.attention import GraphAttention
from ruvllm.memory.attention.training import save_attention
from ruvllm.memory.memory import MemoryStore
from ruvllm.options import MemoryConfig
from ruvllm.query.retrieval import Retriever
from ruvllm.state.record import Memory
from ruvllm.state.store import Store

DIM = 16


class Given:
    """An encoder whose vectors come from elsewhere."""

    name, dim = "given", DIM

    async def encode(self, texts: list[str]) -> NDArray[np.float32]:
        raise AssertionError("nothing has to be encoded here")


def axis(*places: int) -> NDArray[np.float32]:
    """A unit vector between some axes."""
    out = np.zeros(DIM, np.float32)
    out[list(places)] = 1
    return out / np.float32(np.linalg.norm(out))


@pytest.fixture
def memory() -> MemoryStore:
    """Memory 2 says nothing of axis 0, and both of its neighbours do; 3 to 11 say a little of it."""
    store = MemoryStore(Given(), Store())
    rows = [axis(0, 1), axis(2), *(axis(0, *range(4, 16)) for _ in range(9)), axis(0, 3)]
    ids = store.add_encoded([Memory(f"memory {i}") for i in range(len(rows))], np.stack(rows))
    store.graph.link(ids[0], ids[1], "Follows")
    store.graph.link(ids[1], ids[-1], "Follows", 0.5)
    return store


def update(memory: MemoryStore) -> int:
    return run_now(memory.surroundings.update(no_pause))


def found(memory: MemoryStore, k: int, hops: int = 1) -> list[tuple[int, float, int]]:
    return [(one.memory.id, round(one.score, 5), one.hops) for one in memory.search(axis(0), k, hops=hops)]


def informed(memory: MemoryStore, **more: Any) -> dict[int, float]:
    return memory.surroundings.informed(axis(0), 5, more.get("collection", "default"), more.get("filter"))


def test_a_memory_hears_from_its_neighbours_by_the_weight_of_their_edges(memory: MemoryStore):
    assert informed(memory) == {}
    assert update(memory) == 3
    heard = informed(memory)
    assert set(heard) == {1, 2, 12}
    expected = 0.7 * axis(2) + 0.3 * (axis(0, 1) + 0.5 * axis(0, 3)) / 1.5
    assert heard[2] == pytest.approx(expected[0] / np.linalg.norm(expected), abs=1e-5)


def test_searches_along_edges_rank_it_by_that_and_others_do_not_change(memory: MemoryStore):
    plain, before = found(memory, 12, hops=0), found(memory, 12)
    assert before[-1][0] == 2
    update(memory)
    assert found(memory, 12, hops=0) == plain
    after = found(memory, 12)
    assert sorted(after) == sorted(before)  # the score stays the cosine, however a memory was found
    assert [i for i, _, _ in after[:3]] == [1, 12, 2]


def test_answers_draw_on_it(memory: MemoryStore):
    retriever = Retriever(memory, MemoryConfig(k=3, relevance=0.2))
    assert 2 not in retriever.nearest(axis(0)).scores
    update(memory)
    scores = retriever.nearest(axis(0)).scores
    assert 0.2 < scores[2] < scores[1]
    assert list(scores.values()) == sorted(scores.values(), reverse=True)
    assert 2 not in Retriever(memory, MemoryConfig(k=3, relevance=0.2, hops=0)).nearest(axis(0)).scores


def test_what_is_gone_or_elsewhere_is_not_found(memory: MemoryStore):
    update(memory)
    memory.forget([2])
    assert set(informed(memory)) == {1, 12}
    assert informed(memory, collection="another") == {}
    assert informed(memory, filter={"team": "web"}) == {}
    assert memory.surroundings.informed(np.zeros(DIM, np.float32), 5, "default", None) == {}
    assert update(memory) == 0  # no edge is left
    assert informed(memory) == {}


def test_what_was_learnt_of_edges_is_used(memory: MemoryStore):
    layer = GraphAttention(DIM)
    layer.weights["gates"][:] = 0.6
    save_attention(memory.store, layer, "attention@given-16")
    update(memory)
    part = memory.surroundings.around([1, 2, 12], 1, collection="default", most=10)
    expected = layer.message_pass(part.graph, part.vectors) @ axis(0)
    heard = informed(memory)
    assert [heard[i] for i in part.graph.ids.tolist()] == pytest.approx(expected.tolist(), abs=1e-5)


def test_a_pause_that_stops_it_changes_nothing(memory: MemoryStore):
    async def stop() -> None:
        raise TimeoutError

    with pytest.raises(TimeoutError):
        run_now(memory.surroundings.update(stop))
    assert informed(memory) == {}


def test_damage_is_named(memory: MemoryStore):
    update(memory)
    memory.store.put("representations@given-16", b"PK\x03\x04 damaged")
    with pytest.raises(StoreError):
        found(memory, 3)


def test_it_is_background_work(static_llm: RuvLLM):
    llm = RuvLLM(encoder="static", like=static_llm)
    assert "graph" not in llm.jobs.due()
    ids = llm.memory.add(["The staging database is reset every Monday.", "Backups run at night."])
    assert "graph" not in llm.jobs.due()
    llm.memory.graph.bind(ids)
    assert "graph" in llm.jobs.due()
    runs = {run.name: run for run in llm.run_jobs(5.0)}
    assert runs["graph"].outcome == "2 memories heard from their neighbours"
    assert "graph" not in llm.jobs.due()
