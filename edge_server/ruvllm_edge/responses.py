"""OpenAI's Responses API, which Codex speaks: translated to chat completions and back."""

from __future__ import annotations

import re
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from secrets import token_hex
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from ruvllm import StoreError
from ruvllm.query.responses import Delta, Response
from ruvllm_edge.chat import AUTO, answer, models, open_stream, routing_headers, unheeded
from ruvllm_edge.edge import Edge
from ruvllm_edge.openai import STYLE, ask_chat, extra_names
from ruvllm_edge.operations import Call, Operation, Reply, Stream
from ruvllm_edge.problems import Problem
from ruvllm_edge.responses_in import chat_request
from ruvllm_edge.responses_out import ResponseWriter
from ruvllm_edge.stored_responses import StoredResponse

_encode = msgspec.json.Encoder().encode
_OPENAIS = re.compile(r"gpt-|o\d|codex")
_NAMES = {"reasoning_effort": "reasoning.effort", "response_format": "text.format", "verbosity": "text.verbosity"}


class ResponsesBody(Struct):
    """A text or items that go on with a conversation; what has no counterpart in chat completions is refused."""

    input: str | list[dict[str, Any]] | None = None
    model: Annotated[str, Meta(min_length=1, max_length=300)] = "auto"
    instructions: str | None = None
    previous_response_id: str | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    max_output_tokens: Annotated[int, Meta(ge=1, le=1_000_000)] | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(gt=0, le=1)] | None = None
    text: dict[str, Any] | None = None
    reasoning: dict[str, Any] | None = None
    metadata: dict[str, str] | None = None
    store: bool | None = None
    stream: bool | None = None
    user: str | None = None


class ResponseAnswer(Struct):
    """A whole answer; it has the fields of the request, too."""

    id: str
    created_at: int
    model: str
    status: str
    output: list[dict[str, Any]]
    usage: dict[str, Any] | None
    error: dict[str, Any] | None = None
    object: str = "response"


class DeletedResponse(Struct):
    """It is forgotten."""

    id: str
    object: str = "response"
    deleted: bool = True


async def create(edge: Edge, call: Call) -> Any:
    """The next items of a conversation. Answers stay in the state file for `previous_response_id`.

    Unless `store` is false. An answer is its key's alone, and forgotten after `sessions.ttl`. Names of OpenAI's models
    are taken for "auto": the router chooses.
    """
    body: ResponsesBody = call.body
    earlier = _earlier(edge, call)
    given = [{"role": "user", "content": body.input}] if isinstance(body.input, str) else body.input or []
    new = [_item(edge, call, item, f"input[{i}]") for i, item in enumerate(given)]
    items = [*(earlier.items if earlier else ()), *new]
    if not items:
        raise Problem(400, "there is no input", field="input", fix="give a text, or items")
    request = chat_request(call.raw, items, len(items) - len(new))
    if body.model not in models(edge, call.key) and _OPENAIS.match(body.model):
        request.body["model"] = AUTO
    chat = request.body | {"stream_options": {"include_usage": True} if body.stream else None}
    ask = ask_chat(edge, call, chat)
    writer = ResponseWriter(_repeated(call.raw), request.tools)

    def headers(where: Any) -> dict[str, str]:
        writer.response["model"] = where.routing.model
        ignored = unheeded(edge, where, extra_names(ask), "openai")
        return routing_headers(where, request.ignored | {_NAMES.get(name, name) for name in ignored})

    def store() -> None:
        if body.store is not False and writer.response["status"] != "failed":
            try:
                edge.responses.put(call.key.name, writer.response, [*items, *writer.response["output"]])
            except StoreError as error:  # the answer is there, whatever becomes of this
                edge.llm.steps.failed("responses", error)

    if not body.stream:
        response = await answer(edge, ask)
        sent = headers(response)
        whole = writer.whole(response)
        store()
        return Reply(whole, sent)
    routed, events = await open_stream(edge, ask)
    sent = headers(routed)

    async def streamed(pieces: AsyncIterator[Delta | Response]) -> AsyncIterator[bytes]:
        for event in writer.begin():
            yield _event(event)
        async with aclosing(writer.events(pieces)) as written:
            async for event in written:
                if writer.done:
                    store()  # before its client can refer to it
                yield _event(event)

    return Stream(streamed(events), sent)


def _event(event: Mapping[str, Any]) -> bytes:
    return b"event: %s\ndata: %s\n\n" % (event["type"].encode(), _encode(event))


def _earlier(edge: Edge, call: Call) -> StoredResponse | None:
    name = call.body.previous_response_id
    if not name:
        return None
    found = edge.responses.get(call.key.name, name)
    if found is None:
        message, fix = f"Previous response with id '{name[:100]}' not found.", "send the whole conversation as `input`"
        code = "previous_response_not_found"
        raise Problem(404, message, field="previous_response_id", fix=fix, code=code)
    return found


def _item(edge: Edge, call: Call, item: Mapping[str, Any], where: str) -> Mapping[str, Any]:
    """An item of the input, or the one of an earlier answer that it refers to."""
    name = item.get("id")
    if item.get("type") != "item_reference" and set(item) != {"id"}:
        return item
    found = edge.responses.item(call.key.name, name) if isinstance(name, str) else None
    if found is None:
        message, fix = f"Item with id '{str(name)[:100]}' not found.", "send the item itself"
        raise Problem(404, message, field=where, fix=fix, code="item_not_found")
    return found


def _repeated(raw: Mapping[str, Any]) -> dict[str, Any]:
    """What an answer says of its request."""
    # fmt: off
    plain: dict[str, Any] = {
        "background": False, "max_output_tokens": None, "metadata": {}, "parallel_tool_calls": True,
        "previous_response_id": None, "instructions": None, "store": True, "temperature": 1.0, "top_p": 1.0,
        "text": {"format": {"type": "text"}}, "tool_choice": "auto", "tools": [],
        "reasoning": {"effort": None, "summary": None}, "truncation": "disabled",
    }
    # fmt: on
    said = {name: raw[name] for name in plain if raw.get(name) is not None}
    made = {"id": f"resp_{token_hex(24)}", "object": "response", "created_at": int(time.time())}
    return made | plain | said | ({"user": raw["user"]} if raw.get("user") else {})


async def retrieve(edge: Edge, call: Call) -> Any:
    """An answer that was stored, of this key's."""
    return _stored(edge, call).response


async def delete(edge: Edge, call: Call) -> DeletedResponse:
    """Forget an answer; the conversation cannot go on from it any more."""
    _stored(edge, call)
    edge.responses.delete(call.key.name, call.path["id"])
    return DeletedResponse(call.path["id"])


def _stored(edge: Edge, call: Call) -> StoredResponse:
    found = edge.responses.get(call.key.name, call.path["id"])
    if found is None:
        message = f"Response with id '{call.path['id'][:100]}' not found."
        raise Problem(404, message, field="id", fix="it may be forgotten: answer anew", code="response_not_found")
    return found


_EXAMPLE = {"model": "auto", "input": "When do we deploy?"}
_SERVED = ("application/json", "text/event-stream")

OPERATIONS: Sequence[Operation] = (
    Operation("POST", "/v1/responses", create, "Go on with a conversation", ResponsesBody, answer=ResponseAnswer,
              tag="openai", style=STYLE, passing=True, waits=True, most=8 << 20, example=_EXAMPLE, media=_SERVED),
    Operation("GET", "/v1/responses/{id}", retrieve, "One answer", answer=ResponseAnswer, tag="openai", style=STYLE),
    Operation("DELETE", "/v1/responses/{id}", delete, "Forget an answer", answer=DeletedResponse, tag="openai",
              style=STYLE),
)  # fmt: skip
