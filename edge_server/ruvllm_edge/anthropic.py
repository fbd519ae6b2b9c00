"""Anthropic's messages API."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from typing import Any

import msgspec

from ruvllm.inference.backend import Message, estimate_tokens, estimate_usage
from ruvllm.query.responses import Delta, PassedResponse, Response, Routed
from ruvllm_edge import anthropic_types as a
from ruvllm_edge.chat import AUTO, Ask, answer, models, of_key, open_stream, routing_headers, unheeded
from ruvllm_edge.conversations import Conversations, question_of
from ruvllm_edge.edge import Edge
from ruvllm_edge.operations import Call, Operation, Reply, Stream, Style
from ruvllm_edge.problems import Problem, problem_of

_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
}
_REASONS = {"length": "max_tokens", "content_filter": "refusal", "refusal": "refusal"}
_encode = msgspec.json.Encoder().encode


def _error(problem: Problem, request_id: str = "") -> a.AnthropicError:
    kind = _TYPES.get(problem.status, "invalid_request_error" if problem.status < 500 else "api_error")
    message = problem.message
    if problem.code == "context_length_exceeded" and "prompt is too long" not in message:
        message = f"prompt is too long: {message}"  # by which clients know that they have to shorten it
    detail = a.AnthropicErrorDetail(kind, message, problem.field, problem.fix)
    return a.AnthropicError(detail, request_id=request_id)


STYLE = Style(b"application/json", _error, a.AnthropicError, {422: 400})


async def messages(edge: Edge, call: Call) -> Any:
    """The next message of a conversation. Names of Claude models are taken for "auto": the router chooses."""
    body: a.MessagesBody = call.body
    ask = _ask(edge, call)
    unread = {name for name, value in call.raw.items() if value is not None} - {*body.__struct_fields__}
    unread |= {"tools"} if body.tools else set()
    if not body.stream:
        response = await answer(edge, ask)
        passed = response.body if isinstance(response, PassedResponse) else ""
        headers = routing_headers(response, unheeded(edge, response, unread, "anthropic"))
        return Reply(passed.encode() if passed else _whole(response), headers)
    routed, events = await open_stream(edge, ask)
    tokens = estimate_usage(ask.messages, "").prompt_tokens
    return Stream(
        _streamed(routed, events, tokens), routing_headers(routed, unheeded(edge, routed, unread, "anthropic"))
    )


async def count_tokens(_: Edge, call: Call) -> a.TokenCount:
    """About how many tokens a conversation has."""
    return a.TokenCount(sum(estimate_tokens(one.content) for one in _messages(call.body)))


def _ask(edge: Edge, call: Call) -> Ask:
    body, raw = call.body, call.raw
    available, model = models(edge, call.key), body.model
    if model not in available and not model.startswith("claude"):
        fix = f"use {AUTO}, a Claude model's name, or one of GET /v1/models"
        raise Problem(404, f"there is no model {model[:100]!r}", field="model", fix=fix)
    question, looping = question_of(raw["messages"])
    user = (raw.get("metadata") or {}).get("user_id") if isinstance(raw.get("metadata"), dict) else ""
    return Ask(
        messages=tuple(_messages(body)),
        question=question,
        looping=looping,
        conversation=Conversations.name(call.key.name, str(user or ""), raw["messages"]),
        api="anthropic",
        headers=call.headers,
        **of_key(edge, call.key),
        extra={name: value for name, value in raw.items() if name != "model" and value is not None}
        | {"stream": bool(body.stream)},
        model=available.get(model, AUTO) if model != AUTO else AUTO,
        max_tokens=body.max_tokens,
        temperature=body.temperature,
        top_p=body.top_p,
        stop=tuple(body.stop_sequences or ()),
    )


def _messages(body: a.MessagesBody | a.CountBody) -> list[Message]:
    out = [Message("system", text)] if (text := _text(body.system or "", "system")) else []
    return out + [Message(one.role, _text(one.content, f"messages[{i}]")) for i, one in enumerate(body.messages)]


def _text(content: str | Sequence[a.Block], where: str) -> str:
    if isinstance(content, str):
        return content
    return "\n".join(_block(block, f"{where}.content[{j}]") for j, block in enumerate(content)).strip()


def _block(block: a.Block, where: str) -> str:
    """A part as text, for backends that know no tools: what was done stays part of the conversation."""
    if block.type == "text" and block.text is not None:
        return block.text
    if block.type == "tool_use":
        return f"[called {block.name}: {_encode(block.input).decode()}]"
    if block.type == "tool_result":
        return f"[{'error' if block.is_error else 'result'}: {_result(block.content)}]"
    if block.type in ("thinking", "redacted_thinking"):
        return ""
    return ""  # an image and the like: `Params.essential` says where it is needed


def _result(content: Any) -> str:
    """What a tool gave: its texts as they are, anything else as JSON without the data of images and the like."""
    if content is None or isinstance(content, str):
        return content or ""
    if not isinstance(content, list):
        return _encode(content).decode()
    return "\n".join(_of_result(part) for part in content)


def _of_result(part: Any) -> str:
    kind = part.get("type") if isinstance(part, dict) else None
    if kind == "text" and isinstance(part.get("text"), str):
        return str(part["text"])
    return f"({kind})" if isinstance(kind, str) and "source" in part else _encode(part).decode()


def _whole(response: Response) -> a.MessageAnswer:
    usage = a.AnthropicUsage(response.usage.prompt_tokens, response.usage.completion_tokens)
    reason = _REASONS.get(response.finish_reason, "end_turn")
    name, text = f"msg_{response.request_id}", [a.TextBlock(response.text)]
    return a.MessageAnswer(name, response.routing.model, text, usage, reason)


def _event(kind: str, **data: Any) -> bytes:
    return b"event: " + kind.encode() + b"\ndata: " + _encode({"type": kind, **data}) + b"\n\n"


async def _streamed(routed: Routed, events: AsyncIterator[Delta | Response], tokens: int) -> AsyncIterator[bytes]:
    """message_start, one block of text in pieces, message_delta with why it ended, message_stop."""
    empty = a.MessageAnswer(f"msg_{routed.request_id}", routed.routing.model, [], a.AnthropicUsage(tokens, 0))
    first, passed = True, False
    try:
        async for piece in events:
            if isinstance(piece, Delta) and piece.events and not piece.whole:
                passed = True
                for one in piece.events:
                    yield _passed(one)
                continue
            if passed:
                continue
            if first:
                first = False
                yield _event("message_start", message=empty)
                yield _event("content_block_start", index=0, content_block=a.TextBlock(""))
                yield _event("ping")
            if isinstance(piece, Delta):
                delta = {"type": "text_delta", "text": piece.text}
                yield _event("content_block_delta", index=0, delta=delta)
                continue
            yield _event("content_block_stop", index=0)
            reason = _REASONS.get(piece.finish_reason, "end_turn")
            usage = a.AnthropicUsage(piece.usage.prompt_tokens, piece.usage.completion_tokens)
            yield _event("message_delta", delta={"stop_reason": reason, "stop_sequence": None}, usage=usage)
    except Exception as error:
        yield _event("error", error=_error(problem_of(error)).error)
        return
    finally:
        await events.aclose()  # type: ignore[attr-defined]
    if not passed:
        yield _event("message_stop")


def _passed(data: str) -> bytes:
    """A server's event, under the name that its type is."""
    value = json.loads(data)
    flat = data if "\n" not in data else json.dumps(value)
    return b"event: %s\ndata: %s\n\n" % (str(value.get("type")).encode(), flat.encode())


_EXAMPLE = {"model": "auto", "max_tokens": 256, "messages": [{"role": "user", "content": "When do we deploy?"}]}

OPERATIONS = (
    Operation("POST", "/v1/messages", messages, "Go on with a conversation", a.MessagesBody, answer=a.MessageAnswer,
              tag="anthropic", style=STYLE, passing=True, waits=True, most=8 << 20, example=_EXAMPLE,
              media=("application/json", "text/event-stream")),
    Operation("POST", "/v1/messages/count_tokens", count_tokens, "Count tokens", a.CountBody, answer=a.TokenCount,
              tag="anthropic", style=STYLE, most=8 << 20),
)  # fmt: skip
