"""Feedback about a request reaches the router, memory, edges, patterns and the choice of model sizes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scripted import Scripted

from ruvllm import Agent, RuvLLM, Tier
from ruvllm.config import Config
from ruvllm.encoders.protocol import run_now
from ruvllm.errors import InputError
from ruvllm.inference.backend import Message
from ruvllm.query.requests import LoggedRequest, RequestLog
from ruvllm.query.responses import Constraints, Response
from ruvllm.query.writers import Writers
from ruvllm.sizing.fastgrnn import ModelSize, SizeChoice
from ruvllm.sizing.tiers import CONFIRM_FROM, Features
from ruvllm.state.store import Store

FACTS = ("Sourdough proofs overnight in the fridge.", "The fridge is set to four degrees.")
QUESTION = "how long does the sourdough proof in the fridge?"
SURE = "bake a loaf of sourdough bread in the oven"


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


def test_a_rating_moves_the_hyperedges_that_join_the_sources(llm: RuvLLM):
    other = llm.memory.add("Paint dries in a day.", collection="elsewhere")
    joined, away = llm.memory.graph.bind([1, 2], weight=0.5), llm.memory.graph.bind([1, *other], weight=0.5)

    def weights() -> dict[int, float]:
        return {one.id: round(one.weight, 3) for one in llm.memory.graph.bindings([1])}

    response = ask(llm)
    assert llm.feedback_request(response.request_id, 5).edges == 2
    assert weights() == {joined: 0.7, away: 0.5}
    llm.feedback_request(response.request_id, 1)
    assert weights() == {joined: 0.3, away: 0.5}


def test_an_answer_says_what_it_draws_on_where_that_is_asked_for(llm: RuvLLM):
    assert ask(llm).attention is None
    summary = ask(llm, constraints={"explain": True}).attention
    assert summary is not None
    assert {id for id, _ in summary.ranked} == {1, 2}
    assert summary.ranked[0][0] == 1
    assert sum(part for _, part in summary.ranked) == pytest.approx(1)
    assert 0 < summary.influence["SameTopic"] < summary.influence["Self"]
    assert ask(llm, "zyx wvut", constraints={"explain": True}).attention is None
    with pytest.raises(InputError, match="explain"):
        Constraints(explain="yes")  # type: ignore[arg-type]


def test_a_good_rating_reaches_everything(llm: RuvLLM):
    llm.memory.records.rate({1: -0.5, 2: -0.5})
    response = ask(llm)
    applied = llm.feedback_request(response.request_id, 5)
    assert applied.agent == ""
    assert (applied.memories, applied.edges) == (2, 1)
    assert (qualities(llm), weight(llm)) == ([0.7, 0.7], 0.7)
    assert applied.trajectory
    assert llm.learning.engine.get_stats().trajectories == 1
    assert applied.model_choice
    assert len(llm.learning.replay.labelled) == 1
    assert llm.store.feedback() == []
    (pair,) = llm.memory.records.get([applied.remembered or 0])
    assert (pair.kind, pair.quality, pair.text) == ("QAPair", 1.0, f"Q: {QUESTION}\nA: Twelve hours.")
    cited = {near.other for near in llm.memory.graph.neighbours([pair.id]) if near.kind == "Cites"}
    assert cited == {1, 2}


def test_a_bad_rating_lowers_what_led_there_and_not_the_agent(llm: RuvLLM):
    response = ask(llm)
    applied = llm.feedback_request(response.request_id, 1)
    assert applied.agent == ""
    assert (qualities(llm), weight(llm)) == ([0.8, 0.8], 0.3)
    assert llm.store.feedback() == []
    assert llm.route(QUESTION).confidence == response.decision.confidence


@pytest.mark.parametrize("rating", [1, 5])
def test_rating_hi_says_nothing_of_an_agent(static_llm: RuvLLM, rating: int):
    llm = RuvLLM(encoder="static", like=static_llm, backends={Tier.LARGE: Scripted("Hello.")})
    response = ask(llm, "Hi")
    for _ in range(3):
        llm.feedback_request(response.request_id, rating)
    again = llm.route("Hi")
    assert (again.agent, again.confidence) == (response.agent, response.decision.confidence)
    assert again.confidence < 0.5


def test_a_later_rating_takes_the_place_of_the_former(llm: RuvLLM):
    response = ask(llm)
    llm.feedback_request(response.request_id, 1)
    llm.feedback_request(response.request_id, 2)
    assert (qualities(llm), weight(llm)) == ([0.9, 0.9], 0.4)
    llm.feedback_request(response.request_id, 2)
    assert (qualities(llm), weight(llm)) == ([0.9, 0.9], 0.4)
    assert llm.learning.engine.get_stats().trajectories == 1


def test_an_agent_is_confirmed_or_corrected_by_its_name(llm: RuvLLM):
    text = "which espresso grinder suits the morning shift?"
    response = ask(llm, text)
    applied = llm.feedback_request(response.request_id, agent="gardener")
    assert applied.agent == "corrected"
    assert (applied.memories, applied.trajectory) == (0, False)
    assert llm.route(text).agent == "gardener"
    assert llm.feedback_request(response.request_id, agent=response.agent).agent == "confirmed"
    assert llm.feedback_request(response.request_id, 1, agent=response.agent).agent == "confirmed"


@pytest.mark.parametrize("text", ["Eighteen hours at four degrees.", "gardener"])
def test_a_correction_is_a_text_kept_as_the_better_answer(llm: RuvLLM, text: str):
    response = ask(llm)
    applied = llm.feedback_request(response.request_id, correction=f" {text} ")
    assert (applied.agent, llm.store.feedback(), applied.memories) == ("", [], 0)
    (pair,) = llm.memory.records.get([applied.remembered or 0])
    assert (pair.text, pair.quality, pair.metadata["model"]) == (f"Q: {QUESTION}\nA: {text}", 1.0, "")
    assert ask(llm).sources[0].id == pair.id


def test_a_better_answer_takes_the_place_of_the_one_that_was_remembered(llm: RuvLLM):
    response = ask(llm)
    first = llm.feedback_request(response.request_id, 5).remembered
    second = llm.feedback_request(response.request_id, 1, correction="Eighteen hours.").remembered
    third = llm.feedback_request(response.request_id, correction="Twenty hours.").remembered
    assert first is not None and second is not None and third is not None  # noqa: PT018
    pairs = {memory.id: memory for memory in llm.memory.records.get([first, second, third])}
    assert [pairs[i].archived for i in (first, second, third)] == [True, True, False]
    assert pairs[third].quality == 1.0
    # A later rating is of the answer that was given, not of the better one.
    assert llm.feedback_request(response.request_id, 2).remembered == third
    assert llm.memory.records.get([third])[0].quality == 1.0
    assert [found.memory.id for found in llm.memory.search(QUESTION) if found.memory.kind == "QAPair"] == [third]


def test_an_answer_that_waits_is_not_written_after_a_better_one_came(llm: RuvLLM):
    text = "bake a loaf of bread"
    response = ask(llm, text)
    assert llm.stats()["waiting"] == 1
    kept = llm.feedback_request(response.request_id, correction="Eighteen hours.").remembered
    llm.queries.save()
    assert [found.memory.id for found in llm.memory.search(text) if found.memory.kind == "QAPair"] == [kept]


@pytest.mark.parametrize(
    ("told", "agent"),
    [
        ({"rating": 5}, ""),
        ({"rating": 3}, ""),
        ({"rating": 1}, ""),
        ({"task_success": True}, "confirmed"),
        ({"task_success": False}, "rejected"),
        ({"rating": 3, "task_success": True}, "confirmed"),
        ({"rating": 5, "task_success": False}, ""),
        ({"rating": 1, "task_success": True}, ""),
        ({"rating": 1, "task_success": False}, "rejected"),
        ({"rating": 1, "task_success": False, "agent": "baker"}, "confirmed"),
        ({"task_success": True, "agent": "gardener"}, "corrected"),
    ],
)
def test_what_is_said_about_an_agent_that_was_used(llm: RuvLLM, told: dict[str, Any], agent: str):
    response = ask(llm, SURE)
    assert (response.agent, response.decision.confidence >= CONFIRM_FROM) == ("baker", True)
    assert llm.feedback_request(response.request_id, **told).agent == agent
    assert len(llm.store.feedback()) == bool(agent)


@pytest.mark.parametrize("told", [{"task_success": True}, {"task_success": False}, {"rating": 5, "task_success": True}])
def test_success_says_nothing_of_an_agent_that_nobody_was(llm: RuvLLM, told: dict[str, Any]):
    unsure = ask(llm)
    assert unsure.decision.confidence < CONFIRM_FROM
    plain = ask(llm, SURE, messages=[Message("user", SURE)])  # as the caller wants it, without a persona
    for response in (unsure, plain):
        assert llm.feedback_request(response.request_id, **told).agent == ""
    by_memory = RuvLLM(llm.agents, encoder="static", like=llm)
    by_memory.memory.add(FACTS)
    assert by_memory.feedback_request(by_memory.query(SURE).request_id, **told).agent == ""


@pytest.mark.parametrize(
    ("told", "field"),
    [
        ({}, "rating"),
        ({"rating": 0}, "rating"),
        ({"rating": 5.5}, "rating"),
        ({"rating": float("nan")}, "rating"),
        ({"rating": "5"}, "rating"),
        ({"rating": True}, "rating"),
        ({"rating": 5, "agent": "nobody"}, "agent"),
        ({"rating": 5, "agent": 3}, "agent"),
        ({"rating": 5, "correction": ""}, "correction"),
        ({"rating": 5, "correction": 3}, "correction"),
        ({"rating": 5, "correction": "x" * 100_001}, "correction"),
        ({"rating": 5, "task_success": "yes"}, "task_success"),
    ],
)
def test_unusable_feedback_changes_nothing(llm: RuvLLM, told: dict[str, Any], field: str):
    response = ask(llm)
    with pytest.raises(InputError) as caught:
        llm.feedback_request(response.request_id, **told)
    assert caught.value.field == field
    assert (qualities(llm), weight(llm), llm.store.feedback()) == ([1, 1], 0.5, [])
    assert llm.learning.engine.get_stats().trajectories == 0


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
    assert (applied.agent, applied.trajectory, applied.remembered) == ("", False, None)


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
        assert after.decision.confidence == before.decision.confidence
        assert [source.kind for source in after.sources] == ["QAPair"]
        learners = llm.learning
        assert learners.engine.get_stats().trajectories == 1
        assert len(learners.replay.labelled) == 1


def test_a_request_is_rated_in_a_later_process(static_llm: RuvLLM, kitchen: list[Agent], tmp_path: Path):
    state = tmp_path / "state.db"

    def opened(**config: Any) -> RuvLLM:
        backends = {Tier.LARGE: Scripted("Twelve hours.")}
        options = Config.from_dict(config)
        return RuvLLM(kitchen, encoder="static", like=static_llm, state=state, backends=backends, config=options)

    with opened(memory={"quality_threshold": 0.95}) as llm:
        ids = llm.memory.add(FACTS)
        llm.memory.graph.link(ids[0], ids[1], "SameTopic", 0.5)
        response = ask(llm)
    with opened() as llm:
        applied = llm.feedback_request(response.request_id, 1)
        assert (applied.memories, applied.edges, applied.trajectory, applied.model_choice) == (2, 1, True, True)
        assert (qualities(llm), weight(llm)) == ([0.8, 0.8], 0.3)
    with opened() as llm:  # what the former rating moved is known
        applied = llm.feedback_request(response.request_id, 5)
        assert (qualities(llm), weight(llm)) == ([1.0, 1.0], 0.7)
        assert (applied.trajectory, applied.remembered is not None) == (False, True)
        (pair,) = llm.memory.records.get([applied.remembered or 0])
        assert pair.text == f"Q: {QUESTION}\nA: Twelve hours."
        assert llm.feedback_request(response.request_id, agent="gardener").agent == "corrected"
    with opened(sessions={"keep": False}) as llm:  # questions and answers do not stay
        ask(llm)
        with pytest.raises(InputError):
            llm.feedback_request(response.request_id, 5)
    with opened() as llm:
        assert llm.store.load("requests") is None


def test_only_the_latest_requests_outlive_the_process(tmp_path: Path):
    store = Store(tmp_path / "state.db")
    logs = [RequestLog(store=store) for _ in range(2)]
    for i in range(130):
        logs[i % 2].add(LoggedRequest(f"req-{i}", "x" * 20_000, "baker", np.ones(4, np.float32), answer="y" * 20_000))
    for log in logs:
        log.save()
    later = RequestLog(store=store)
    for log in (*logs, later):
        assert log.get("req-129").request_id == "req-129"
    found = later.get("req-128")
    assert (len(found.text), found.answer, found.vector.shape, found.turn) == (10_000, "", (0,), -1)
    with pytest.raises(InputError):
        later.get("req-0")
    assert len(json.loads(store.load("requests") or b"")) == 100
    assert len(store.load("requests") or b"") < 1_500_000


@pytest.mark.parametrize(
    "change",
    [
        {"sources": [10**40]},
        {"tokens": float("inf")},
        {"quality": float("nan")},
        {"edges": [[1]]},
        {"size": 9},
        {"cost": "much"},
        {"memory": {}},
    ],
)
def test_requests_that_nobody_wrote_are_none(tmp_path: Path, change: dict[str, Any]):
    store = Store(tmp_path / "state.db")
    log = RequestLog(store=store)
    log.add(LoggedRequest("req-1", "hello", "baker", np.ones(4, np.float32)))
    log.save()
    (row,) = json.loads(store.load("requests") or b"")
    for damaged in (json.dumps([row | change]), json.dumps({"a": 1}), "no json"):
        store.put("requests", damaged.encode())
        with pytest.raises(InputError, match="remembered"):
            RequestLog(store=store).get("req-1")


def test_patterns_come_of_what_worked(llm: RuvLLM):
    for i in range(8):
        response = ask(llm, f"bake a loaf of bread in oven {i}")
        llm.feedback_request(response.request_id, 5, task_success=True)
    assert llm.get_patterns() == []
    llm.learning.engine.force_learn()
    assert {pattern.route for pattern in llm.get_patterns(5)} == {"baker"}


def choice(size: ModelSize, sure: bool) -> SizeChoice:
    return SizeChoice(size, 1_024, 0.3, 0.6, 0.9, sure, (0.1, 0.5, 0.8, 0.9))


@pytest.mark.parametrize(
    ("size", "sure", "agent", "backend"),
    [
        (ModelSize.TINY, True, None, "small"),
        (ModelSize.SMALL, True, None, "small"),
        (ModelSize.MEDIUM, True, None, "scripted"),
        (ModelSize.LARGE, True, None, "scripted"),
        (ModelSize.TINY, False, None, "scripted"),  # unsure: the tier that the task's words ask for
        (ModelSize.TINY, True, Agent("any", tier=Tier.LARGE), "scripted"),  # the agent insists on it
    ],
)
def test_a_sure_choice_of_size_decides(
    static_llm: RuvLLM, size: ModelSize, sure: bool, agent: Agent | None, backend: str
):
    backends = {Tier.SMALL: Scripted(name="small"), Tier.LARGE: Scripted()}
    llm = RuvLLM(encoder="static", like=static_llm, backends=backends, config=Config())
    writers: Writers = llm.queries.writers
    tier = llm.sizing.choose(Features("design a distributed consensus protocol", agent, size=choice(size, sure)))
    plan = writers.plan(tier, choice(size, sure), Constraints())
    assert plan.info.backend == backend
    assert plan.info.learnt == sure
    expected = (0.3, 0.6, 1_024) if sure else (None, None, 4_096)
    assert (plan.learnt, plan.context[0]) == (1_024 if sure else None, 4_096)
    assert (plan.info.temperature, plan.info.top_p, plan.info.context_size) == expected
    told = writers.plan(tier, choice(size, sure), Constraints(temperature=1.5, force_context=512))
    assert (told.params.temperature, told.info.context_size) == (1.5, 512)
