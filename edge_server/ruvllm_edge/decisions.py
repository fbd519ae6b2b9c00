"""Typed decisions as two APIs have them: TypeSafe's System One, and OpenAI's Decisions."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

from msgspec import UNSET, Meta, Struct

from ruvllm import InputError
from ruvllm.inference.backend import estimate_tokens
from ruvllm.routing.questions import NOT_SERVED, Answer, Answers, text_of
from ruvllm_edge.edge import Edge
from ruvllm_edge.openai import STYLE
from ruvllm_edge.operations import Call, Operation, Reply, Style
from ruvllm_edge.problems import Problem

_MOST_BODY = 4 << 20
_LOW, _MOST_CHOICES, _MOST_LEVELS = 2, 255, 10  # of OpenAI's; System One's own limits are the core's
_IMAGES = "this model reads text: say in words what the image shows, or ask a model that sees images"


class Invalid(Struct, omit_defaults=True):
    """One value that cannot be used."""

    loc: list[str | int]
    msg: str
    type: str


class Refused(Struct, omit_defaults=True):
    """The same in ruvllm's words."""

    message: str
    name: str = ""
    field: str = ""
    fix: str = ""


class InvalidBody(Struct):
    """An error as System One has it, and as ruvllm has it beside that."""

    detail: list[Invalid]
    error: Refused


def _invalid(problem: Problem, _: str = "") -> InvalidBody:
    kind = problem.code or {401: "authentication_error", 429: "rate_limit_error"}.get(problem.status, "value_error")
    said = f"{problem.message}: {problem.fix}" if problem.fix else problem.message
    detail = [Invalid(["body", *filter(None, problem.field.split("."))], said, kind)]
    return InvalidBody(detail, Refused(problem.message, problem.name, problem.field, problem.fix))


SYSTEM_ONE = Style(b"application/json", _invalid, InvalidBody)


class SystemOneBody(Struct, forbid_unknown_fields=True):
    """A state, and questions about it by names of the caller's."""

    model: Annotated[str, Meta(min_length=1, description="any name; the answer says which model it was")]
    state: str | dict[str, Any] | list[Any]
    questions: Annotated[
        dict[str, Any], Meta(description='{"type": "choice", "noul" or "score", "instructions": …, "criteria": …}')
    ]
    assets: Annotated[Any, Meta(description="images: they are refused")] = UNSET


class Used(Struct):
    """About how many tokens were read; none are written."""

    input_tokens: int
    output_tokens: int = 0


class SystemOneAnswer(Struct):
    """The answers by the questions' names; feedback takes the id."""

    id: str
    model: str
    answers: dict[str, dict[str, Any]]
    usage: Used


class DecisionsBody(Struct, forbid_unknown_fields=True):
    """Text or messages, and questions about it in order."""

    model: Annotated[str, Meta(min_length=1, description="any name; the answer says which model it was")]
    input: str | list[dict[str, Any]]
    questions: Annotated[
        list[dict[str, Any]],
        Meta(min_length=1, max_length=400, description='{"type": "predicate", "choice" or "score", …}'),
    ]
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    prompt_cache_options: dict[str, Any] | None = None


class InputDetails(Struct):
    """None is cached."""

    cached_tokens: int = 0
    cache_write_tokens: int = 0


class OutputDetails(Struct):
    """None is thought."""

    reasoning_tokens: int = 0


class TokensUsed(Struct):
    """About how many tokens were read; none are written."""

    input_tokens: int
    input_tokens_details: InputDetails
    output_tokens: int
    output_tokens_details: OutputDetails
    total_tokens: int


class Decided(Struct):
    """The answers in the order of the questions; feedback takes the id, and questions without a name by number."""

    id: str
    model: str
    answers: list[dict[str, Any]]
    usage: TokensUsed


async def system_one(edge: Edge, call: Call) -> Reply:
    """Typed answers with probabilities to named questions about one state."""
    body: SystemOneBody = call.body
    if body.assets is not UNSET:
        raise Problem(400, "assets are images", field="assets", fix=_IMAGES, code=NOT_SERVED)
    answers = await _decided(edge, body.state, body.questions)
    tokens = estimate_tokens(json.dumps([body.state, body.questions], ensure_ascii=False))
    plain = answers.to_dict()
    value = SystemOneAnswer(plain["id"], plain["model"], plain["answers"], Used(tokens))
    return Reply(value, {"x-typesafe-request-id": call.request_id})


async def decisions(edge: Edge, call: Call) -> Decided:
    """Typed answers with probabilities to questions about a text or a conversation."""
    body: DecisionsBody = call.body
    state = body.input if isinstance(body.input, str) else "\n".join(_said(body.input))
    read = [_question(one, f"questions[{i}]") for i, one in enumerate(body.questions)]
    names = [str(one.get("name") or i) for i, one in enumerate(body.questions)]
    if len(set(names)) < len(names):
        raise Problem(422, "two questions have one name", field="questions", fix="name each of them differently")
    answers = await _decided(edge, state, {name: question for name, (question, _) in zip(names, read, strict=True)})
    out = [
        {"name": given.get("name"), **_answer(answers[name], values)}
        for given, name, (_, values) in zip(body.questions, names, read, strict=True)
    ]
    tokens = estimate_tokens(state) + estimate_tokens(json.dumps(body.questions, ensure_ascii=False))
    return Decided(answers.id, answers.model, out, TokensUsed(tokens, InputDetails(), 0, OutputDetails(), tokens))


async def _decided(edge: Edge, state: Any, questions: Mapping[str, Any]) -> Answers:
    try:
        return await edge.llm.adecide(state, questions)
    except InputError as error:
        if error.code != NOT_SERVED:
            raise
        raise Problem(400, error.message, field=error.field, fix=error.fix, code=error.code) from None


def _question(given: Mapping[str, Any], field: str) -> tuple[dict[str, Any], list[Any]]:
    """A question of OpenAI's as one of System One's, with the values that its options stand for."""
    kind = given.get("type")
    needed = {"predicate": (), "choice": ("choices",), "score": ("levels",)}
    if kind == "box":
        raise Problem(400, "box questions are not answered", field=f"{field}.type", fix=_IMAGES, code=NOT_SERVED)
    if kind not in needed:
        fix = "use predicate, choice or score"
        raise Problem(422, f"{field}.type is {kind!r}"[:160], field=f"{field}.type", fix=fix)
    for name in ("instructions", *needed[kind]):
        if not given.get(name):
            raise Problem(422, f"{field}.{name} is missing", field=f"{field}.{name}", fix="see /docs for what it takes")
    if strange := given.keys() - {"type", "name", "instructions", *needed[kind]}:
        name = min(strange)
        raise Problem(422, f"{field} has {name[:40]!r}", field=f"{field}.{name[:40]}", fix="leave it out")
    if not isinstance(given.get("name"), str | None):
        raise Problem(422, f"{field}.name is no text", field=f"{field}.name", fix="give text, or leave it out")
    out: dict[str, Any] = {"instructions": "\n".join(_parts(given["instructions"], f"{field}.instructions"))}
    if kind == "predicate":
        return out | {"type": "noul"}, []
    word, most = ("value", _MOST_CHOICES) if kind == "choice" else ("label", _MOST_LEVELS)
    rows, where = given[needed[kind][0]], f"{field}.{needed[kind][0]}"
    if not isinstance(rows, list) or not _LOW <= len(rows) <= most:
        raise Problem(422, f"{where} are too few or too many", field=where, fix=f"give {_LOW} to {most}")
    values, criteria, seen = list[Any](), dict[str, str](), set[tuple[type, str | bool]]()
    for i, row in enumerate(rows):
        value = row.get(word) if isinstance(row, dict) else None
        if not isinstance(value, str | bool) or value == "" or (kind == "score" and not isinstance(value, str)):
            raise Problem(422, f"{where}[{i}].{word} is missing", field=f"{where}[{i}].{word}", fix="give a text")
        if (type(value), value) in seen:
            raise Problem(422, f"{where}[{i}] is there twice", field=f"{where}[{i}].{word}", fix="name each once")
        values.append(value)
        seen.add((type(value), value))
        name = value if isinstance(value, str) else json.dumps(value)
        criteria[f"{name} (boolean)" if name in criteria else name] = row.get("description") or ""
    if len(criteria) < len(values):
        raise Problem(422, f"{where} cannot be plain from each other", field=where, fix="name them differently")
    if kind == "choice":
        return out | {"type": "choice", "criteria": criteria}, values
    levels = [f"{label}: {text}" if text else label for label, text in criteria.items()]
    return out | {"type": "score", "criteria": levels}, values


def _answer(answer: Answer, values: list[Any]) -> dict[str, Any]:
    """As OpenAI has it."""
    chances = list(answer.probabilities.values())
    if answer.type == "noul":
        return {"type": "predicate", "probability": answer.value}
    if answer.type == "choice":
        best = values[chances.index(max(chances))]
        probabilities = [{"value": v, "probability": p} for v, p in zip(values, chances, strict=True)]
        return {
            "type": "choice", "choice": best, "confidence": answer.confidence, "probabilities": probabilities,
        }  # fmt: skip
    probabilities = [
        {"value": i, "label": label, "probability": p} for i, (label, p) in enumerate(zip(values, chances, strict=True))
    ]
    return {
        "type": "score", "score": answer.value, "confidence": answer.confidence, "probabilities": probabilities,
    }  # fmt: skip


def _said(items: list[dict[str, Any]]) -> Iterator[str]:
    """What messages, calls and their outputs say, as lines."""
    for i, item in enumerate(items):
        field, kind = f"input[{i}]", item.get("type", "message")
        if kind == "message":
            yield from _parts(item.get("content"), f"{field}.content")
        elif kind in ("function_call", "custom_tool_call"):
            said = item.get("arguments" if kind == "function_call" else "input")
            yield f"{text_of(item.get('name'), f'{field}.name')}: {text_of(said, field)}"
        elif kind in ("function_call_output", "custom_tool_call_output"):
            yield from _parts(item.get("output"), f"{field}.output")
        else:
            fix = "use messages, function_call, custom_tool_call and their outputs"
            raise Problem(422, f"{field}.type is {kind!r}"[:160], field=f"{field}.type", fix=fix)


def _parts(given: Any, field: str) -> Iterator[str]:
    """The text of parts. Raises Problem: one is an image, or something unknown."""
    if isinstance(given, str):
        yield given
        return
    if not isinstance(given, list):
        raise Problem(422, f"{field} is missing", field=field, fix="give text, or a list of parts")
    for i, part in enumerate(given):
        where, kind = f"{field}[{i}]", part.get("type") if isinstance(part, dict) else None
        if kind in ("input_text", "output_text"):
            yield text_of(part.get("text"), f"{where}.text", _MOST_BODY)
        elif kind == "input_json":
            yield text_of(part.get("data"), f"{where}.data", _MOST_BODY)
        elif kind == "refusal":
            yield text_of(part.get("refusal"), f"{where}.refusal")
        elif kind == "input_image":
            raise Problem(400, f"{where} is an image", field=where, fix=_IMAGES, code=NOT_SERVED)
        else:
            fix = "use input_text, input_json, output_text or refusal"
            raise Problem(422, f"{where}.type is {kind!r}"[:160], field=f"{where}.type", fix=fix)


_TEAM = {"billing": "Payments, invoices, refunds", "technical": "Bugs and outages"}
_STATE = {
    "model": "auto",
    "state": "I was charged twice, please help today!",
    "questions": {
        "urgent": {"type": "noul", "instructions": "Is it urgent?"},
        "team": {"type": "choice", "instructions": "Which team?", "criteria": _TEAM},
    },
}
_EVIDENCE = {
    "model": "auto",
    "input": "I was charged twice, please help today!",
    "questions": [
        {"type": "predicate", "name": "urgent", "instructions": "It is urgent."},
        {"type": "choice", "name": "team", "instructions": "Which team?",
         "choices": [{"value": value, "description": text} for value, text in _TEAM.items()]},
    ],
}  # fmt: skip

OPERATIONS = (
    Operation("POST", "/v1/systemone", system_one, "Decide about a state", SystemOneBody, answer=SystemOneAnswer,
              tag="decisions", style=SYSTEM_ONE, most=_MOST_BODY, example=_STATE),
    Operation("POST", "/v1/decisions", decisions, "Decide about an input", DecisionsBody, answer=Decided,
              tag="decisions", style=STYLE, most=_MOST_BODY, example=_EVIDENCE),
)  # fmt: skip
