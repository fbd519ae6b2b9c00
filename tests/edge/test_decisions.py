"""Typed decisions over HTTP: OpenAI's client, and the shapes of System One."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import openai
import pytest
from conftest import Running, serving
from openai import OpenAI

from ruvllm import RuvLLM

INPUT = "The oven burnt all the bread again."
TEAM = [
    {"value": "billing", "description": "Payments, invoices, refunds"},
    {"value": "bakery", "description": "Bread, cakes and ovens"},
]
QUESTIONS = [
    {"type": "predicate", "name": "urgent", "instructions": "It is urgent."},
    {"type": "choice", "name": "team", "instructions": "Which team?", "choices": TEAM},
    {"type": "choice", "instructions": "Refund?", "choices": [{"value": True}, {"value": False}, {"value": "later"}]},
    {"type": "score", "name": "anger", "instructions": "How angry?", "levels": [{"label": "calm"}, {"label": "angry"}]},
]
NATIVE = {
    "urgent": {"type": "noul", "instructions": "It is urgent."},
    "team": {"type": "choice", "instructions": "Which team?", "criteria": {"billing": "Payments", "bakery": "Bread"}},
    "anger": {"type": "score", "instructions": "How angry?", "criteria": ["calm", {"label": "angry"}]},
}


@pytest.fixture(scope="module")
def client(edge: Running) -> OpenAI:
    return OpenAI(base_url=f"{edge.url}/v1", api_key="none needed", max_retries=0)


def test_openais_client_reads_every_answer(client: OpenAI):
    decision = client.decisions.create(model="gpt-6-luna", input=INPUT, questions=QUESTIONS)  # type: ignore[arg-type]
    urgent, team, refund, anger = decision.answers
    assert [one.name for one in decision.answers] == ["urgent", "team", None, "anger"]
    assert [one.type for one in decision.answers] == ["predicate", "choice", "choice", "score"]
    assert 0 <= urgent.probability <= 1
    assert team.choice == "bakery"
    assert [one.value for one in team.probabilities] == ["billing", "bakery"]
    assert sum(one.probability for one in team.probabilities) == pytest.approx(1, abs=1e-3)
    assert [one.value for one in refund.probabilities] == [True, False, "later"]
    assert refund.choice in (True, False, "later")
    assert [(one.value, one.label) for one in anger.probabilities] == [(0, "calm"), (1, "angry")]
    assert 0 <= anger.score <= 1
    assert decision.model == "static"
    assert decision.usage.input_tokens == decision.usage.total_tokens > 0


def test_a_conversation_is_evidence_too(client: OpenAI):
    messages = [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": [{"type": "input_text", "text": INPUT}, {"type": "input_json", "data": {"n": 1}}]},
        {"type": "function_call", "call_id": "c", "name": "oven", "arguments": '{"heat": 300}'},
        {"type": "function_call_output", "call_id": "c", "output": "burnt"},
        {"role": "assistant", "content": [{"type": "output_text", "text": "Sorry."}]},
    ]
    asked: Any = {"model": "auto", "input": messages, "questions": QUESTIONS[1:2]}
    assert client.decisions.create(**asked).answers[0].choice == "bakery"


def test_feedback_by_id_teaches_the_question_at_once(edge: Running, client: OpenAI):
    question = [QUESTIONS[1] | {"instructions": "Who takes it?"}]
    asked: Any = {"model": "auto", "input": INPUT, "questions": question}
    raw = client.decisions.with_raw_response.create(**asked)
    taught = edge.post("/v1/feedback", {"request_id": raw.http_response.json()["id"], "answer": "billing"})
    assert taught.json() == {"learnt": True, "request": None, "examples": {"team": 1}}
    assert client.decisions.create(**asked).answers[0].choice == "billing"
    bad = edge.post("/v1/feedback", {"request_id": raw.http_response.json()["id"], "answer": {"team": "bakry"}})
    assert (bad.status_code, bad.json()["field"]) == (422, "answer")
    assert "did you mean bakery" in bad.json()["fix"]


def test_a_boolean_choice_is_taught_by_its_value(edge: Running):
    asked = {"model": "auto", "input": INPUT, "questions": QUESTIONS[2:3]}
    answer = edge.post("/v1/decisions", asked).json()
    wrong = answer["answers"][0]["choice"] is not True
    assert edge.post("/v1/feedback", {"request_id": answer["id"], "answer": wrong}).json()["examples"] == {"0": 1}
    assert edge.post("/v1/decisions", asked).json()["answers"][0]["choice"] is wrong


def test_system_one_answers_by_name(edge: Running):
    body = {"model": "jev-latest", "state": {"message": INPUT}, "questions": NATIVE}
    answer = edge.post("/v1/systemone", body)
    assert answer.status_code == 200
    assert answer.headers["x-typesafe-request-id"].startswith("req-")
    out = answer.json()
    assert out.keys() == {"id", "model", "answers", "usage"}
    assert out["answers"]["team"]["choice"] == "bakery"
    assert out["answers"]["anger"]["legend"] == {"0": "calm", "1": {"label": "angry"}}
    assert out["answers"]["urgent"].keys() == {"type", "noul"}
    assert out["usage"]["input_tokens"] > 0
    taught = edge.post("/v1/feedback", {"request_id": out["id"], "answer": {"team": "billing", "urgent": True}})
    assert taught.json()["examples"] == {"team": 1, "urgent": 1}
    assert edge.post("/v1/systemone", body).json()["answers"]["team"]["choice"] == "billing"


def test_what_feedback_taught_is_there_after_a_restart(tmp_path: Path):
    body = {"model": "auto", "state": INPUT, "questions": {"team": NATIVE["team"]}}
    with serving(RuvLLM(encoder="static", state=tmp_path / "s.db")) as edge:
        ids = [edge.post("/v1/systemone", body).json()["id"] for _ in range(2)]
        edge.post("/v1/feedback", {"request_id": ids[0], "answer": "billing"})
    with serving(RuvLLM(encoder="static", state=tmp_path / "s.db")) as edge:
        assert edge.post("/v1/systemone", body).json()["answers"]["team"]["choice"] == "billing"
        again = edge.post("/v1/feedback", {"request_id": ids[1], "answer": "bakery"})
        assert again.json()["examples"] == {"team": 1}


IMAGE = {"type": "input_image", "image_url": "data:image/png;base64,AAAA"}


@pytest.mark.parametrize(
    ("change", "status", "param"),
    [
        ({"input": [{"role": "user", "content": [IMAGE]}]}, 400, "input[0].content[0]"),
        ({"questions": [QUESTIONS[0] | {"instructions": [IMAGE]}]}, 400, "questions[0].instructions[0]"),
        ({"questions": [{"type": "box", "instructions": "the cat"}]}, 400, "questions[0].type"),
        ({"questions": [{"type": "predicate"}]}, 400, "questions[0].instructions"),
        ({"questions": []}, 400, "questions"),
        ({"questions": [QUESTIONS[1] | {"choices": TEAM[:1]}]}, 400, "questions[0].choices"),
        ({"questions": [QUESTIONS[1] | {"choices": TEAM[:1] * 2}]}, 400, "questions[0].choices[1].value"),
        (
            {"questions": [QUESTIONS[1] | {"choices": [{"value": str(i)} for i in range(256)]}]},
            400,
            "questions[0].choices",
        ),
        (
            {"questions": [QUESTIONS[3] | {"levels": [{"label": str(i)} for i in range(11)]}]},
            400,
            "questions[0].levels",
        ),
        ({"questions": [QUESTIONS[0] | {"criteria": {}}]}, 400, "questions[0].criteria"),
        ({"questions": [QUESTIONS[0], QUESTIONS[0]]}, 400, "questions"),
        ({"questions": [QUESTIONS[0] | {"name": 3}]}, 400, "questions[0].name"),
        ({"input": [{"type": "item_reference", "id": "x"}]}, 400, "input[0].type"),
        ({"input": [{"role": "user"}]}, 400, "input[0].content"),
        ({"input": "x" * 65_537}, 400, "state"),
        ({"temperature": 1}, 400, "temperature"),
        ({"input": None}, 400, "input"),
    ],
)
def test_openais_client_is_told_what_is_wrong(client: OpenAI, change: dict[str, Any], status: int, param: str):
    body = {"model": "auto", "input": INPUT, "questions": QUESTIONS} | change
    with pytest.raises(openai.APIStatusError) as raised:
        client.post("/decisions", body=body, cast_to=object)
    assert (raised.value.status_code, raised.value.body["param"]) == (status, param)  # type: ignore[index]
    assert raised.value.body["message"]  # type: ignore[index]


@pytest.mark.parametrize(
    ("change", "status", "loc"),
    [
        ({"assets": {"cat": {"type": "image", "format": "png", "data_base64": "AAAA"}}}, 400, ["assets"]),
        ({"questions": {"where": {"type": "box", "instructions": "the cat"}}}, 400, ["questions", "where", "type"]),
        ({"questions": {}}, 422, ["questions"]),
        ({"questions": {"a": {"type": "noul"}}}, 422, ["questions", "a", "instructions"]),
        ({"questions": {"a": NATIVE["team"] | {"criteria": {}}}}, 422, ["questions", "a", "criteria"]),
        ({"state": "x" * 65_537}, 422, ["state"]),
        ({"state": 3}, 422, ["state"]),
        ({"temperature": 1}, 422, ["temperature"]),
    ],
)
def test_system_one_says_where_the_trouble_is(edge: Running, change: dict[str, Any], status: int, loc: list[str]):
    body = {"model": "auto", "state": INPUT, "questions": NATIVE} | change
    answer = edge.post("/v1/systemone", body)
    assert answer.status_code == status
    detail = answer.json()["detail"][0]
    assert detail["loc"] == ["body", *loc]
    assert detail["msg"]
    assert answer.json()["error"]["field"] == ".".join(loc)


def test_typesafes_client_reads_answers_and_errors(edge: Running):
    sdk = pytest.importorskip("typesafe_sdk")
    with sdk.TypeSafeClient(api_key="none-needed", base_url=str(edge.url)) as client:
        questions = {
            "urgent": sdk.Noul(instructions="Is it urgent?"),
            "team": sdk.Choice(instructions="Which team?", criteria={"billing": "Payments", "bakery": "Bread"}),
            "anger": sdk.Score(instructions="How angry?", criteria=["calm", "angry"]),
        }
        answers = client.system_one(state={"message": INPUT}, questions=questions)
        assert answers.choices["team"].choice == "bakery"
        assert 0 <= answers.nouls["urgent"].noul <= 1
        assert 0 <= answers.scores["anger"].score <= 1
        with pytest.raises(sdk.TypeSafeUnprocessableEntityError, match="state"):
            client.system_one(state="", questions=questions)
