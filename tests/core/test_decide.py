"""Typed decisions: what is asked, what is answered, and what feedback teaches."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ruvllm import InputError, RuvLLM
from ruvllm.encoders.protocol import run_now
from ruvllm.routing import decide as module
from ruvllm.routing.questions import NOT_SERVED, Answer, read_questions, state_text
from ruvllm.state.names import DECISIONS, question_name

TEAM = {
    "type": "choice",
    "instructions": "Which team?",
    "criteria": {"billing": "Payments, invoices, refunds", "bakery": "Bread, cakes and ovens", "garden": "Plants"},
}
URGENT = {"type": "noul", "instructions": "Is it urgent?"}
ANGER = {"type": "score", "instructions": "How angry is the writer?", "criteria": ["calm", "annoyed", "furious"]}
ALL = {"team": TEAM, "urgent": URGENT, "anger": ANGER}
STATE = "The oven burnt all the bread again."


@pytest.fixture
def llm() -> RuvLLM:
    return RuvLLM(encoder="static")


def test_each_type_has_its_own_answer(llm: RuvLLM):
    out = llm.decide(STATE, ALL).to_dict()
    team, urgent, anger = (out["answers"][name] for name in ("team", "urgent", "anger"))
    assert (out["model"], list(out["answers"])) == ("static", ["team", "urgent", "anger"])
    assert (team["type"], team["choice"], list(team["probabilities"])) == ("choice", "bakery", list(TEAM["criteria"]))
    assert urgent.keys() == {"type", "noul"}
    assert 0 <= urgent["noul"] <= 1
    assert anger["legend"] == {"0": "calm", "1": "annoyed", "2": "furious"}
    for answer in (team, anger):
        assert sum(answer["probabilities"].values()) == pytest.approx(1, abs=1e-3)
        assert 0 <= answer["confidence"] <= 1
    mean = sum(int(level) * chance for level, chance in anger["probabilities"].items())
    assert anger["score"] == pytest.approx(mean, abs=1e-3)


def test_many_questions_read_the_state_once(llm: RuvLLM, monkeypatch: pytest.MonkeyPatch):
    llm.decide("warm up", ALL)
    read = list[list[str]]()
    encode = type(llm.decisions._encoder).encode

    async def counted(self: Any, texts: list[str]) -> Any:
        read.append(list(texts))
        return await encode(self, texts)

    monkeypatch.setattr(type(llm.decisions._encoder), "encode", counted)
    llm.decide(STATE, ALL)
    assert read == [[STATE]]


def test_confidence_is_nothing_for_an_even_distribution_and_one_for_a_sure_one():
    team, anger = read_questions({"team": TEAM, "anger": ANGER}).values()
    for question in (team, anger):
        assert Answer.of(question, np.full(3, 1 / 3, np.float32)).confidence == pytest.approx(0, abs=1e-3)
        assert Answer.of(question, np.array([0, 0, 1], np.float32)).confidence == 1
    assert Answer.of(team, np.array([0.6, 0.2, 0.2], np.float32)).confidence == pytest.approx(0.4, abs=1e-3)
    one = read_questions({"one": {"type": "choice", "criteria": {"only": None}}})["one"]
    assert Answer.of(one, np.ones(1, np.float32)).confidence == 1


def test_the_order_of_options_changes_no_answer(llm: RuvLLM):
    turned = TEAM | {"criteria": dict(reversed(TEAM["criteria"].items()))}
    first, second = (llm.decide(STATE, {"team": one})["team"] for one in (TEAM, turned))
    assert list(second.probabilities) == list(turned["criteria"])
    assert first.probabilities == second.probabilities
    assert read_questions({"a": TEAM})["a"].key == read_questions({"b": turned})["b"].key
    other = TEAM | {"instructions": "Who?"}
    assert read_questions({"a": TEAM})["a"].key != read_questions({"a": other})["a"].key


@pytest.mark.parametrize("encoder", ["static"])
def test_feedback_teaches_at_once_and_only_this_question(llm: RuvLLM, encoder: str):
    before = llm.decide(STATE, ALL)
    counts = llm.feedback_decision(before.id, {"team": "garden", "urgent": True, "anger": 2})
    assert counts == {"team": 1, "urgent": 1, "anger": 1}
    after = llm.decide(STATE, ALL)
    assert after["team"].value == "garden"
    assert after["urgent"].value > max(0.5, before["urgent"].value)
    assert after["anger"].value > before["anger"].value
    other = {"who": TEAM | {"instructions": "Who takes it?"}}
    assert llm.decide(STATE, other)["who"].value == "bakery"


def test_one_question_needs_no_name(llm: RuvLLM):
    id = llm.decide(STATE, {"urgent": URGENT}).id
    assert llm.feedback_decision(id, False) == {"urgent": 1}
    assert llm.feedback_decision(id, True) == {"urgent": 1}  # the last word on a state counts
    assert llm.decide(STATE, {"urgent": URGENT})["urgent"].value > 0.5


def test_what_was_taught_outlives_the_process(tmp_path: Path):
    state = tmp_path / "state.db"
    with RuvLLM(encoder="static", state=state) as llm:
        id = llm.decide(STATE, ALL).id
        llm.feedback_decision(id, {"team": "garden"})
    with RuvLLM(encoder="static", state=state) as llm:
        assert llm.decide(STATE, {"anything": TEAM})["anything"].value == "garden"
        assert llm.feedback_decision(id, {"team": "billing"}) == {"team": 1}  # the decision of the other process
        assert llm.decide(STATE, {"team": TEAM})["team"].value == "billing"


def test_two_processes_teach_one_question(tmp_path: Path):
    state = tmp_path / "state.db"
    with RuvLLM(encoder="static", state=state) as one, RuvLLM(encoder="static", state=state) as two:
        ids = [llm.decide(text, {"team": TEAM}).id for llm, text in ((one, STATE), (two, "prune the roses"))]
        assert one.feedback_decision(ids[0], "billing") == {"team": 1}
        assert two.feedback_decision(ids[1], "garden") == {"team": 2}
        assert two.decide(STATE, {"team": TEAM})["team"].value == "billing"


def test_damage_costs_no_more_than_what_was_taught(tmp_path: Path):
    state = tmp_path / "state.db"
    key = read_questions({"team": TEAM})["team"].key
    with RuvLLM(encoder="static", state=state) as llm:
        llm.feedback_decision(llm.decide(STATE, {"team": TEAM}).id, "garden")
        llm.store.put(question_name(key), b"no npz")
        llm.store.put(DECISIONS, b"[[]]")
    with RuvLLM(encoder="static", state=state) as llm:
        assert llm.decide(STATE, {"team": TEAM})["team"].value == "bakery"


def test_a_restored_state_decides_as_the_one_it_came_from(llm: RuvLLM):
    llm.feedback_decision(llm.decide(STATE, {"team": TEAM}).id, "garden")
    with RuvLLM(encoder="static") as other:
        assert other.decide(STATE, {"team": TEAM})["team"].value == "bakery"
        other.restore(llm.dump())
        assert other.decide(STATE, {"team": TEAM})["team"].value == "garden"


def test_examples_are_fitted_together_behind_the_answers(llm: RuvLLM, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "_SOON", 0)
    for text, team in (("bake a cake", "bakery"), ("send the invoice", "billing"), ("sow carrots", "garden")):
        for more in ("", " today", " tomorrow", " for me"):
            llm.feedback_decision(llm.decide(text + more, {"team": TEAM}).id, team)
    assert llm.services.decides
    runs = {run.name: run.outcome for run in llm.run_jobs(60, force=True)}
    assert runs["decisions"] == "fitted 1 questions"
    assert not llm.services.decides
    assert llm.decide("bake a pie", {"team": TEAM})["team"].value == "bakery"


def test_examples_and_questions_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "_EACH", 1)
    monkeypatch.setattr(module, "_FEWEST", 4)
    monkeypatch.setattr(module, "_MOST_QUESTIONS", 3)
    monkeypatch.setattr(module, "_MOST_LOGGED", 5_000)
    with RuvLLM(encoder="static", state=tmp_path / "state.db") as llm:
        for i in range(7):
            count = llm.feedback_decision(llm.decide(f"water plant {i}", {"team": TEAM}).id, "garden")
        assert count == {"team": 4}
        for i in range(6):
            question = URGENT | {"instructions": f"Is it number {i}?"}
            llm.feedback_decision(llm.decide(STATE, {"it": question}).id, True)
        names = {
            name.split("/")[1] for (name,) in llm.store.read("SELECT name FROM learnt WHERE name LIKE 'decision/%'")
        }
        assert len(names) == 3
        first = llm.decide(STATE, {"it": URGENT}).id
        for i in range(200):
            llm.decide(f"{STATE} {i}", {"it": URGENT})
        with pytest.raises(InputError, match="is remembered"):
            llm.feedback_decision(first, True)


def test_a_state_may_be_json(llm: RuvLLM):
    assert state_text({"subject": "Bread", "from": {"first_name": "Jo"}, "n": 3, "none": None}) == (
        "subject: Bread\nfirst name: Jo\nn: 3"
    )
    assert state_text([{"role": "user", "content": "Hi"}]) == "user\nHi"
    same = [llm.decide(state, {"team": TEAM})["team"].probabilities for state in (STATE, {"text": STATE}, [STATE])]
    assert same[0] == same[1] == same[2]


@pytest.mark.parametrize(
    ("state", "questions", "field"),
    [
        ("", {"a": URGENT}, "state"),
        (3, {"a": URGENT}, "state"),
        ({"a": float}, {"a": URGENT}, "state"),
        ("x" * 65_537, {"a": URGENT}, "state"),
        ("é" * 32_769, {"a": URGENT}, "state"),
        (STATE, {}, "questions"),
        (STATE, [URGENT], "questions"),
        (STATE, {"a": "Is it urgent?"}, "questions.a"),
        (STATE, {"a": {"type": "maybe"}}, "questions.a.type"),
        (STATE, {"a": {"type": "noul"}}, "questions.a.instructions"),
        (STATE, {"a": URGENT | {"instruction": "x"}}, "questions.a.instruction"),
        (STATE, {"a": URGENT | {"instructions": 3}}, "questions.a.instructions"),
        (STATE, {"a": URGENT | {"criteria": {"maybe": "x"}}}, "questions.a.criteria"),
        (STATE, {"a": {"type": "choice", "criteria": {}}}, "questions.a.criteria"),
        (STATE, {"a": {"type": "choice", "criteria": ["x"]}}, "questions.a.criteria"),
        (STATE, {"a": {"type": "choice", "criteria": {" ": "x"}}}, "questions.a.criteria"),
        (STATE, {"a": {"type": "choice", "criteria": {str(i): None for i in range(256)}}}, "questions.a.criteria"),
        (STATE, {"a": {"type": "score", "criteria": []}}, "questions.a.criteria"),
        (STATE, {"a": {"type": "score", "criteria": ["low", ""]}}, "questions.a.criteria[1]"),
        (STATE, {"a": {"type": "score", "criteria": list("abcdefghijk")}}, "questions.a.criteria"),
        (STATE, {str(i): URGENT for i in range(401)}, "questions"),
    ],
)
def test_what_cannot_be_used_is_named(llm: RuvLLM, state: Any, questions: Any, field: str):
    with pytest.raises(InputError) as raised:
        llm.decide(state, questions)
    assert raised.value.field == field
    assert raised.value.fix


def test_what_is_at_the_limit_is_answered(llm: RuvLLM):
    many = {"type": "choice", "criteria": {f"option {i}": None for i in range(255)}}
    answer = llm.decide("x" * 65_536, {"a": many})["a"]
    assert len(answer.probabilities) == 255
    assert llm.decide(STATE, {"a": {"type": "score", "criteria": ["only"]}})["a"].value == 0
    deep: Any = STATE
    for _ in range(60):
        deep = [deep]
    with pytest.raises(InputError, match="deeply"):
        llm.decide(deep, {"a": URGENT})


def test_boxes_are_not_answered(llm: RuvLLM):
    with pytest.raises(InputError, match="box") as raised:
        llm.decide(STATE, {"where": {"type": "box", "instructions": "the cat"}})
    assert raised.value.code == NOT_SERVED


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        ({"team": "bakry"}, "did you mean bakery"),
        ({"urgent": "yes"}, "say true or false"),
        ({"anger": 3}, "0 to 2"),
        ({"anger": True}, "0 to 2"),
        ({"teams": "bakery"}, "use team, urgent, anger"),
        ({}, "give {question: answer}"),
        ("bakery", "give {question: answer}"),
    ],
)
def test_an_answer_that_is_none_teaches_nothing(llm: RuvLLM, answer: Any, problem: str):
    id = llm.decide(STATE, ALL).id
    with pytest.raises(InputError) as raised:
        llm.feedback_decision(id, answer)
    assert raised.value.field == "answer"
    assert problem in raised.value.fix
    assert llm.store.read("SELECT count(*) FROM learnt WHERE name LIKE 'decision/%'") == [(0,)]


def test_a_decision_that_nobody_remembers_is_named(llm: RuvLLM):
    for id in ("dec-0", "", None, 3):
        with pytest.raises(InputError) as raised:
            llm.feedback_decision(id, True)  # type: ignore[arg-type]
        assert raised.value.field == "request_id"


def test_where_sessions_are_not_stored_states_are_not_either(tmp_path: Path):
    with RuvLLM(encoder="static", state=tmp_path / "s.db", config={"sessions": {"keep": False}}) as llm:
        llm.decide("a secret recipe", {"team": TEAM})
    with RuvLLM(encoder="static", state=tmp_path / "s.db") as llm:
        assert llm.store.load(DECISIONS) is None


def test_a_negation_and_criteria_say_what_yes_means():
    plain, told = read_questions(
        {
            "a": URGENT,
            "b": URGENT | {"criteria": {"true": "Help is needed now", "false": "It can wait"}},
        }
    ).values()
    assert plain.meanings() == [("true", "it urgent"), ("false", "not it urgent")]
    assert told.meanings() == [("true", "Help is needed now"), ("false", "It can wait")]


def test_questions_survive_being_written_down():
    for name, question in read_questions(ALL).items():
        again = read_questions(json.loads(json.dumps({name: question.to_dict()})))[name]
        assert again.key == question.key


def test_fitting_keeps_what_is_learnt_meanwhile(llm: RuvLLM):
    id = llm.decide(STATE, {"team": TEAM}).id
    llm.feedback_decision(id, "garden")
    service = llm.decisions
    built = next(iter(service._built.values()))
    late = list[bool]()

    async def pause() -> None:
        if not late:
            late.append(True)
            vector = (await service._encoder.encode(["a late cake"]))[0]
            built.learn(("a late cake", "billing", vector))

    run_now(built.fit(False, pause))
    assert late
    assert llm.decide("a late cake", {"team": TEAM})["team"].value == "billing"
