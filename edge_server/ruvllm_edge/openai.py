"""OpenAI's API: chat completions (streamed too), models."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import msgspec

from ruvllm.inference.backend import Message, Usage
from ruvllm.query.responses import Delta, PassedResponse, Response, Routed
from ruvllm_edge import openai_types as o
from ruvllm_edge.auth import Key
from ruvllm_edge.chat import AUTO, Ask, answer, models, of_key, open_stream, routing_headers, unheeded
from ruvllm_edge.conversations import Conversations, question_of
from ruvllm_edge.edge import Edge
from ruvllm_edge.operations import Call, Operation, Reply, Stream, Style
from ruvllm_edge.problems import Problem, problem_of

_ROLES = {"developer": "system", "tool": "user", "function": "user"}
_TYPES = {401: "authentication_error", 403: "permission_error", 404: "not_found_error", 429: "rate_limit_error"}
# Fields that are read here; a backend gets what they mean, and all others as they are.
_READ = frozenset({"model", "max_tokens", "temperature", "top_p", "stop", "seed"})
# Of the others, those that every backend heeds, where it samples at all.
_HONOURED = frozenset(
    {"messages", "max_completion_tokens", "stream", "stream_options", "top_k", "min_p", "repeat_penalty",
     "repetition_penalty"}
)  # fmt: skip
_encode = msgspec.json.Encoder().encode
_DONE = b"data: [DONE]\n\n"


def error_body(problem: Problem, _: str = "") -> o.ErrorBody:
    kind = _TYPES.get(problem.status, "invalid_request_error" if problem.status < 500 else "server_error")
    code = {401: "invalid_api_key", 404: "model_not_found", 429: "rate_limit_exceeded"}.get(problem.status)
    return o.ErrorBody(o.ErrorDetail(problem.message, kind, problem.field or None, problem.code or code, problem.fix))


STYLE = Style(b"application/json", error_body, o.ErrorBody, {422: 400})


async def chat(edge: Edge, call: Call) -> Any:
    """The next message of a conversation; `model: "auto"` lets the router choose who writes it."""
    body: o.ChatBody = call.body
    ask = ask_of(edge, call)
    if not body.stream:
        response = await answer(edge, ask)
        passed = response.body if isinstance(response, PassedResponse) else ""
        return Reply(passed.encode() if passed else _whole(response), headers_of(edge, response, ask))
    routed, events = await open_stream(edge, ask)
    usage = body.stream_options is not None and bool(body.stream_options.include_usage)
    return Stream(_streamed(routed, events, usage), headers_of(edge, routed, ask))


def headers_of(edge: Edge, where: Routed | Response, ask: Ask) -> dict[str, str]:
    """Where a chat completion went, and which of its fields had no meaning there."""
    return routing_headers(where, unheeded(edge, where, extra_names(ask), "openai"))


def extra_names(ask: Ask) -> set[str]:
    """Fields of a chat completion that some backends do not heed."""
    found = {name for name, value in ask.extra.items() if value not in (None, False) and (name, value) != ("n", 1)}
    return found - _HONOURED


def ask_chat(edge: Edge, call: Call, chat: dict[str, Any]) -> Ask:
    """What the request of another API asks, said as one of chat completions."""
    return ask_of(edge, replace(call, body=msgspec.convert(chat, o.ChatBody), raw=chat))


def ask_of(edge: Edge, call: Call) -> Ask:
    """What a request of chat completions asks. Raises Problem, InputError: it asks nothing, or nobody that there is."""
    body, raw = call.body, call.raw
    available = models(edge, call.key)
    if body.model not in available:
        fix = f"use {AUTO}, or one of GET /v1/models"
        raise Problem(404, f"there is no model {body.model[:100]!r}", field="model", fix=fix)
    stop = (body.stop,) if isinstance(body.stop, str) else tuple(body.stop or ())
    question, looping = question_of(raw["messages"])
    user = str(raw.get("prompt_cache_key") or raw.get("user") or "")
    return Ask(
        messages=tuple(map(_message, body.messages)),
        question=question,
        looping=looping,
        conversation=Conversations.name(call.key.name, user, raw["messages"]),
        headers=call.headers,
        **of_key(edge, call.key),
        model=body.model if body.model == AUTO else available[body.model],
        max_tokens=body.max_completion_tokens or body.max_tokens,
        temperature=body.temperature,
        top_p=body.top_p,
        stop=stop,
        seed=body.seed,
        extra={name: value for name, value in raw.items() if name not in _READ and value is not None}
        | {"messages": [_plain(turn) for turn in raw["messages"]], "stream": bool(body.stream)},
        top_k=body.top_k,
        min_p=body.min_p,
        repeat_penalty=body.repetition_penalty if body.repeat_penalty is None else body.repeat_penalty,
    )


def _plain(turn: dict[str, Any]) -> dict[str, Any]:
    """A message as it is sent on: "developer" is a word that few servers know."""
    return turn | {"role": "system"} if turn["role"] == "developer" else turn


def _message(turn: o.Turn) -> Message:
    """A message as text, for backends that know nothing else; `Params.essential` says where that is not enough."""
    if isinstance(turn.content, list):
        text = "\n".join(part.text or part.refusal or "" for part in turn.content)
    else:
        text = turn.content or ""
    if turn.tool_calls:  # as text, for backends that know no tools: what was done stays part of the conversation
        text = "\n".join((text, *(f"[called {_encode(call).decode()}]" for call in turn.tool_calls))).strip()
    return Message(_ROLES.get(turn.role, turn.role), text)


def token_usage(usage: Usage) -> o.TokenUsage:
    return o.TokenUsage(usage.prompt_tokens, usage.completion_tokens, usage.total_tokens)


def _whole(response: Response) -> o.Chat:
    refused = response.finish_reason == "refusal"
    said = o.Said(None, refusal=response.text) if refused else o.Said(response.text)
    choice = o.Choice(said, finish_reason(response))
    model = response.routing.model
    return o.Chat(f"chatcmpl-{response.request_id}", int(time.time()), model, [choice], token_usage(response.usage))


def finish_reason(response: Response) -> str:
    """As OpenAI has it, to whom a refusal is a field of its own."""
    return "stop" if response.finish_reason == "refusal" else response.finish_reason


async def _streamed(routed: Routed, events: AsyncIterator[Delta | Response], with_usage: bool) -> AsyncIterator[bytes]:
    """The events of a chat completion: the role, the text in pieces, why it ended, and the usage if asked for."""
    name, created, model = f"chatcmpl-{routed.request_id}", int(time.time()), routed.routing.model

    first, passed = True, False

    def event(*choices: o.ChunkChoice, usage: o.TokenUsage | None = None) -> bytes:
        return b"data: " + _encode(o.Chunk(name, created, model, list(choices), usage)) + b"\n\n"

    try:
        async for piece in events:
            if isinstance(piece, Delta) and piece.events and not piece.whole:
                passed = True
                for one in piece.events:
                    yield b"data: " + one.encode() + b"\n\n"
                continue
            if passed:
                continue
            if first:
                first = False
                yield event(o.ChunkChoice(o.StreamDelta("assistant", "")))
            if isinstance(piece, Delta):
                delta = o.StreamDelta(refusal=piece.text) if piece.refusal else o.StreamDelta(content=piece.text)
                yield event(o.ChunkChoice(delta))
                continue
            yield event(o.ChunkChoice(o.StreamDelta(), finish_reason(piece)))
            if with_usage:
                yield event(usage=token_usage(piece.usage))
    except Exception as error:
        yield b"data: " + _encode(error_body(problem_of(error))) + b"\n\n"
        return
    finally:
        await events.aclose()  # type: ignore[attr-defined]
    yield _DONE


async def list_models(edge: Edge, call: Call) -> o.Models:
    """Names that `model` may have."""
    found = _models(edge, call.key)
    return o.Models(found, found[0].id, found[-1].id)


async def one_model(edge: Edge, call: Call) -> o.Model:
    """One of them."""
    for model in _models(edge, call.key):
        if model.id == call.path["id"]:
            return model
    raise Problem(404, "there is no such model", field="id", fix="see GET /v1/models")


def _models(edge: Edge, key: Key) -> list[o.Model]:
    found = models(edge, key)
    if embeds(edge, key):
        found = {edge.llm.encoders.main.name: "ruvllm"} | found
    return [o.Model(name, owner, name) for name, owner in found.items()]


def embeds(edge: Edge, key: Key) -> bool:
    """Whether a key may have embeddings: its list of models names the encoder, or it has none."""
    names = {edge.llm.encoders.main.name, *edge.settings.embedding_names}
    return not key.models or any(name in names or name.startswith("text-embedding-") for name in key.models)


_CHAT = {"model": "auto", "messages": [{"role": "user", "content": "When do we deploy?"}]}
_SERVED = ("application/json", "text/event-stream")

OPERATIONS = (
    Operation("POST", "/v1/chat/completions", chat, "Go on with a conversation", o.ChatBody, answer=o.Chat,
              tag="openai", style=STYLE, passing=True, waits=True, most=8 << 20, example=_CHAT, media=_SERVED),
    Operation("GET", "/v1/models", list_models, "List the models", answer=o.Models, tag="openai", style=STYLE),
    Operation("GET", "/v1/models/{id:path}", one_model, "One model", answer=o.Model, tag="openai", style=STYLE),
)  # fmt: skip
