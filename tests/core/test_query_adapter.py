"""Queries of a collection are drawn to what answered earlier ones, by ratings and feedback, while that helps."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scripted import Scripted

from ruvllm import RuvLLM
from ruvllm.encoders.protocol import run_now, unit_rows
from ruvllm.learning.adaptive import AdaptiveEmbeddingService, TwoSpeed
from ruvllm.learning.lora import pairwise_loss
from ruvllm.state.names import ADAPTERS, name_in
from ruvllm.state.store import Store
from ruvllm.types import Tier

TALK = "talk"


def opened(static_llm: RuvLLM, state: Path | None = None, **options: object) -> RuvLLM:
    backends = {Tier.LARGE: Scripted("Bread rests for twelve hours in the cold.")}
    return RuvLLM(encoder="static", like=static_llm, state=state, config=options, backends=backends)


def taught(llm: RuvLLM, times: int = 20) -> list[int]:
    """Every question is answered by what resembles it less than its decoy does."""
    ids = []
    for n in range(times):
        answer, decoy = llm.memory.add(
            [f"the holiday {n} shop sells shoes", f"my holiday {n} on the beach was lovely"], collection=TALK
        )
        ids += [answer, decoy]
        llm.memory.rate(f"how was holiday {n}", [answer], [decoy], collection=TALK)
    return ids


def test_ratings_teach_the_collection_and_no_other(static_llm: RuvLLM):
    llm = opened(static_llm)
    ids = taught(llm)
    (stats,) = llm.learning.query_adapter.stats()
    assert (stats.domain, stats.gain > 0, stats.strength > 0) == (TALK, True, True)
    vector = llm.embed(["how was holiday 7"])[0]
    adapted = llm.memory.adapted(vector, TALK)
    answers, decoys = (llm.memory.records.vectors(np.array(ids[start::2])) for start in (0, 1))
    assert (answers @ adapted).mean() > (answers @ vector).mean()
    assert (decoys @ adapted).mean() < (decoys @ vector).mean()
    np.testing.assert_array_equal(llm.memory.adapted(vector, "default"), vector)


def test_a_query_is_looked_up_by_its_adapted_vector_and_remembered_by_its_own(static_llm: RuvLLM):
    llm = opened(static_llm, memory={"collection": TALK})
    taught(llm)
    response = run_now(llm.aquery("how was holiday 7"))
    assert response.sources
    asked = llm.queries.log.get(response.request_id)
    np.testing.assert_array_equal(asked.vector, llm.embed(["how was holiday 7"])[0])
    by_hand = llm.memory.adapted(asked.vector, TALK) @ llm.memory.records.vectors(np.array([response.sources[0].id]))[0]
    assert response.sources[0].score >= by_hand - 1e-3
    off = opened(static_llm, memory={"collection": TALK}, learning={"query_adapter": False})
    taught(off)
    assert off.learning.query_adapter is None
    assert off.memory.adapter is None
    np.testing.assert_array_equal(off.memory.adapted(asked.vector, TALK), asked.vector)


def test_an_answer_that_says_what_one_source_says_teaches(static_llm: RuvLLM):
    llm = opened(static_llm)
    llm.memory.add(["Bread rests for twelve hours in the cold.", "Ovens are made of steel.", "Rye is a grain."])
    for n in range(3):
        response = run_now(llm.aquery(f"how long does bread rest in the cold, recipe {n}?"))
        assert len(response.sources) >= 2
        llm.feedback_request(response.request_id, 5)
    (stats,) = llm.learning.query_adapter.stats()
    assert (stats.domain, stats.gain) == ("default", 0)
    tried = llm.learning.query_adapter._domains["default"].tried
    assert tried == 3
    response = run_now(llm.aquery("how long does bread rest in the cold, at last?"))
    llm.feedback_request(response.request_id, 1)  # nothing says which source would have answered
    assert llm.learning.query_adapter._domains["default"].tried == tried


def test_an_adapter_that_does_not_help_is_not_used():
    class Plain:
        name, dim = "plain", 16

        async def encode(self, texts):
            raise NotImplementedError

    service, random = AdaptiveEmbeddingService(Plain()), np.random.default_rng(0)
    rows = unit_rows(random.normal(size=(60, 16)))
    for n in range(40):  # what answers is what was nearest anyway
        others = np.delete(rows, n, axis=0)[:20]
        service.prefer(rows[n], rows[n], others, "d")
    assert service.stats()[0].updates == 0  # there is nothing to learn of it
    assert service.stats()[0].gain == 0
    service._domains["d"].gain = -0.1
    np.testing.assert_array_equal(service.adapt(rows[50], "d"), rows[50])
    far = -rows[0]
    before = service.stats()[0].updates
    service.prefer(rows[0], far, rows[:1], "d")  # far behind all others: more likely an error
    assert service.stats()[0].updates == before


def test_the_base_is_held_where_an_earlier_task_needs_it():
    random = np.random.default_rng(1)
    rows = unit_rows(random.normal(size=(6, 16)))
    moved = []
    for strength in (100.0, 15_000.0):
        learner = TwoSpeed(16, 2, 4, batch=8)
        for _ in range(64):
            learner.learn(rows[0], lambda y: pairwise_loss(y, rows[1:2], rows[2:3]))
        assert learner.ewc.stats.samples == 56  # the first batch chose the subspace
        learner.ewc.consolidate(learner.base.theta)
        learner.ewc.strength = strength
        for _ in range(64):
            learner.learn(rows[3], lambda y: pairwise_loss(y, rows[4:5], rows[5:6]))
        moved.append(float(np.abs(learner.base.theta - learner.ewc.anchor) @ learner.ewc.fisher))
    assert moved[1] < moved[0]


def test_it_outlives_the_process_and_damage_stops_no_search(static_llm: RuvLLM, tmp_path: Path):
    state = tmp_path / "state.db"
    with opened(static_llm, state) as llm:
        taught(llm, 40)
        vector = llm.embed(["how was holiday 7"])[0]
        adapted = llm.memory.adapted(vector, TALK)
        assert not np.array_equal(adapted, vector)
    with opened(static_llm, state) as llm:
        np.testing.assert_array_equal(llm.memory.adapted(vector, TALK), adapted)
        name = name_in(llm.encoders.space, ADAPTERS)
    store = Store(state)
    store.put(name, b"nothing")
    store.close()
    with opened(static_llm, state) as llm:
        assert llm.learning.query_adapter is None
        assert llm.memory.search("how was holiday 7", collection=TALK)


@pytest.mark.parametrize("name", ["x" * 65, "more"])
def test_collections_that_cannot_have_an_adapter_are_searched_as_they_are(static_llm: RuvLLM, name: str):
    llm = opened(static_llm)
    if name == "more":
        for n in range(64):
            llm.learning.query_adapter.learn(llm.embed(["one"])[0], 1.0, True, f"domain {n}")
    ids = llm.memory.add(["the sky is blue", "grass is green"], collection=name)
    llm.memory.rate("what colour is the sky", [ids[0]], collection=name)
    assert llm.memory.search("what colour is the sky", collection=name)
