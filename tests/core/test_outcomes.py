"""Feedback about a request reaches the router, memory, edges, patterns and the choice of model sizes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from scripted import Scripted

from ruvllm import Agent, RuvLLM, Tier
from ruvllm.config import Config
from ruvllm.encoders.protocol import run_now
from ruvllm.errors import InputError
from ruvllm.query.writers import Writers
from ruvllm.responses import Constraints, Response
from ruvllm.routing.fastgrnn import Choice, ModelSize
from ruvllm.types import Feedback

FACTS = ("Sourdough proofs overnight in the fridge.", "The fridge is set to four degrees.")
QUESTION = "how long does the sourdough proof in the fridge?"


@pytest.fixture
def llm(static_llm: RuvLLM, kitchen: list[Agent]) -> RuvLLM:
    """Knows two linked FACTS; three agents; one backend."""
    made = RuvLLM(kitchen, encoder="static", like=static_llm, backends={Tier.LARGE: Scripted("Twelve hours.")})
    ids = made.memory.add(FACTS)
    made.memory.graph.link(ids[0], ids[1], "SameTopic", 0.5)
    return made


def ask(llm: RuvLLM, text: str = QUESTION, **more: Any) -> Response:
    return run_now(llm.aquery(text, **more))


def qualities(llm: RuvLLM) -> list[float]:
    return [round(memory.quality, 3) for memory in llm.memory.records.get([1, 2])]


def weight(llm: RuvLLM) -> float:
    return next(round(near.weight, 3) for near in llm.memory.graph.neighbours([1]) if near.other == 2)


def test_a_good_rating_reaches_everything(llm: RuvLLM):
    llm.memory.records.rate({1: -0.5, 2: -0.5})
    response = ask(llm)
    applied = llm.feedback_request(response.request_id, 5)
    assert applied.agent == "confirmed"
    assert (applied.memories, applied.edges) == (2, 1)
    assert (qualities(llm), weight(llm)) == ([0.7, 0.7], 0.7)
    assert applied.trajectory
    assert llm._pipeline.learners.engine.get_stats().trajectories == 1
    assert applied.model_choice
    assert len(llm._pipeline.learners.replay.labelled) == 1
    assert llm.store.feedback() == [Feedback(QUESTION, response.agent)]
    (pair,) = llm.memory.records.get([applied.remembered or 0])
    assert (pair.kind, pair.quality, pair.text) == ("QAPair", 1.0, f"Q: {QUESTION}\nA: Twelve hours.")
    cited = {near.other for near in llm.memory.graph.neighbours([pair.id]) if near.kind == "Cites"}
    assert cited == {1, 2}


def test_a_bad_rating_rejects(llm: RuvLLM):
    response = ask(llm)
    applied = llm.feedback_request(response.request_id, 1)
    assert (applied.agent, applied.remembered) == ("rejected", None)
    assert (qualities(llm), weight(llm)) == ([0.8, 0.8], 0.3)
    assert llm.store.feedback() == [Feedback(QUESTION, response.agent, right=False)]
    assert llm.route(QUESTION).agent != response.agent or llm.route(QUESTION).confidence < response.confidence


def test_a_later_rating_takes_the_place_of_the_former(llm: RuvLLM):
    response = ask(llm)
    llm.feedback_request(response.request_id, 1)
    llm.feedback_request(response.request_id, 2)
    assert (qualities(llm), weight(llm)) == ([0.9, 0.9], 0.4)
    llm.feedback_request(response.request_id, 2)
    assert (qualities(llm), weight(llm)) == ([0.9, 0.9], 0.4)
    assert llm._pipeline.learners.engine.get_stats().trajectories == 1


def test_a_correction_teaches_the_other_agent(llm: RuvLLM):
    text = "which espresso grinder suits the morning shift?"
    response = ask(llm, text)
    applied = llm.feedback_request(response.request_id, correction="gardener")
    assert applied.agent == "corrected"
    assert (applied.memories, applied.trajectory) == (0, False)
    assert llm.route(text).agent == "gardener"
    assert llm.feedback_request(response.request_id, correction=response.agent).agent == "confirmed"


@pytest.mark.parametrize(
    ("told", "agent"),
    [
        ({"rating": 4}, "confirmed"),
        ({"rating": 3}, ""),
        ({"rating": 2}, "rejected"),
        ({"task_success": True}, "confirmed"),
        ({"task_success": False}, "rejected"),
        ({"rating": 3, "task_success": True}, "confirmed"),
        ({"rating": 5, "task_success": False}, ""),
        ({"rating": 1, "task_success": True}, ""),
        ({"rating": 1, "task_success": False}, "rejected"),
    ],
)
def test_what_is_said_about_the_agent(llm: RuvLLM, told: dict[str, Any], agent: str):
    assert llm.feedback_request(ask(llm).request_id, **told).agent == agent
    assert len(llm.store.feedback()) == bool(agent)


@pytest.mark.parametrize(
    ("told", "field"),
    [
        ({}, "rating"),
        ({"rating": 0}, "rating"),
        ({"rating": 5.5}, "rating"),
        ({"rating": float("nan")}, "rating"),
        ({"rating": "5"}, "rating"),
        ({"rating": True}, "rating"),
        ({"rating": 5, "correction": "nobody"}, "agent"),
        ({"rating": 5, "task_success": "yes"}, "task_success"),
    ],
)
def test_unusable_feedback_changes_nothing(llm: RuvLLM, told: dict[str, Any], field: str):
    response = ask(llm)
    with pytest.raises(InputError) as caught:
        llm.feedback_request(response.request_id, **told)
    assert caught.value.field == field
    assert (qualities(llm), weight(llm), llm.store.feedback()) == ([1, 1], 0.5, [])
    assert llm._pipeline.learners.engine.get_stats().trajectories == 0


def test_feedback_needs_a_request_that_is_remembered(llm: RuvLLM):
    with pytest.raises(InputError) as caught:
        llm.feedback_request("req-unknown", 5)
    assert caught.value.field == "request_id"


def test_sources_that_are_gone_do_not_matter(llm: RuvLLM):
    response = ask(llm)
    llm.memory.forget([1])
    applied = llm.feedback_request(response.request_id, 5)
    assert (applied.memories, applied.edges) == (1, 0)
    assert applied.remembered is not None


def test_a_text_without_a_known_word_can_be_rated(llm: RuvLLM):
    response = ask(llm, "\N{COMBINING ACUTE ACCENT}")
    applied = llm.feedback_request(response.request_id, 5)
    assert (applied.agent, applied.trajectory, applied.remembered) == ("confirmed", False, None)


def test_follow_ups_are_linked_in_memory(llm: RuvLLM):
    session = llm.new_session().id
    ids = []
    for text in (QUESTION, "and at which temperature?"):
        response = ask(llm, text, session=session)
        ids.append(llm.feedback_request(response.request_id, 5).remembered)
    edges = llm.memory.graph.neighbours([ids[1] or 0], ["Follows"])
    assert [(edge.other, edge.outgoing) for edge in edges] == [(ids[0], True)]


def test_what_is_learnt_outlives_the_process(static_llm: RuvLLM, kitchen: list[Agent], tmp_path: Path):
    def opened() -> RuvLLM:
        backends = {Tier.LARGE: Scripted("Twelve hours.")}
        return RuvLLM(kitchen, encoder="static", like=static_llm, state=tmp_path / "state.db", backends=backends)

    with opened() as llm:
        before = ask(llm)
        llm.feedback_request(before.request_id, 5)
    with opened() as llm:
        after = ask(llm)
        assert after.confidence > before.confidence
        assert [source.kind for source in after.sources] == ["QAPair"]
        learners = llm._pipeline.learners
        assert learners.engine.get_stats().trajectories == 1
        assert len(learners.replay.labelled) == 1


def test_patterns_come_of_what_worked(llm: RuvLLM):
    for i in range(8):
        response = ask(llm, f"bake a loaf of bread in oven {i}")
        llm.feedback_request(response.request_id, 5, task_success=True)
    assert llm.get_patterns() == []
    llm._pipeline.learners.engine.force_learn()
    assert {pattern.route for pattern in llm.get_patterns(5)} == {"baker"}


def choice(size: ModelSize, sure: bool) -> Choice:
    return Choice(size, 1_024, 0.3, 0.6, 0.9, sure, (0.1, 0.5, 0.8, 0.9))


@pytest.mark.parametrize(
    ("size", "sure", "pinned", "backend"),
    [
        (ModelSize.TINY, True, False, "small"),
        (ModelSize.SMALL, True, False, "small"),
        (ModelSize.MEDIUM, True, False, "scripted"),
        (ModelSize.LARGE, True, False, "scripted"),
        (ModelSize.TINY, False, False, "scripted"),  # unsure: the tier that the router named
        (ModelSize.TINY, True, True, "scripted"),  # the agent insists on it
    ],
)
def test_a_sure_choice_of_size_decides(static_llm: RuvLLM, size: ModelSize, sure: bool, pinned: bool, backend: str):
    backends = {Tier.SMALL: Scripted(name="small"), Tier.LARGE: Scripted()}
    llm = RuvLLM(encoder="static", like=static_llm, backends=backends, config=Config())
    writers: Writers = llm._pipeline.writers
    plan = writers.plan(Tier.LARGE, pinned, choice(size, sure), Constraints())
    assert plan.info.backend == backend
    assert plan.info.learnt == sure
    expected = (0.3, 0.6, 1_024) if sure else (None, None, 4_096)
    assert (plan.info.temperature, plan.info.top_p, plan.info.context_size) == expected
    told = writers.plan(Tier.LARGE, pinned, choice(size, sure), Constraints(temperature=1.5, force_context=512))
    assert (told.params.temperature, told.info.context_size) == (1.5, 512)
