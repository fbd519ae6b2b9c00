"""OpenAI's completions of a text: each is an answer to a message of a user."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Sequence
from typing import Any

import msgspec

from ruvllm.inference.backend import Usage
from ruvllm.query.responses import Delta, Response, Routed
from ruvllm_edge import openai_types as o
from ruvllm_edge.chat import Ask, answer, open_stream
from ruvllm_edge.edge import Edge
from ruvllm_edge.openai import STYLE, ask_chat, error_body, finish_reason, headers_of, token_usage
from ruvllm_edge.operations import Call, Operation, Reply, Stream
from ruvllm_edge.problems import Problem, problem_of, unsupported

_encode = msgspec.json.Encoder().encode
# Fields that a chat has not, with the values that ask nothing.
_PLAIN: dict[str, tuple[Any, ...]] = {"n": (1,), "best_of": (0, 1), "echo": (False,), "logprobs": (), "suffix": ("",)}
_Opened = tuple[Routed, AsyncIterator[Delta | Response]]


async def complete(edge: Edge, call: Call) -> Any:
    """Answers to texts, one after the other."""
    asks = _asks(edge, call)
    name, created = f"cmpl-{call.request_id}", int(time.time())
    if call.body.stream:
        opened = await open_stream(edge, asks[0])
        options = call.body.stream_options
        empty = o.TextCompletion(name, created, opened[0].routing.model, [])
        with_usage = options is not None and bool(options.include_usage)
        return Stream(_streamed(edge, asks, opened, empty, with_usage), headers_of(edge, opened[0], asks[0]))
    found = [await answer(edge, ask) for ask in asks]
    choices = [o.CompletionChoice(one.text, i, finish_reason(one)) for i, one in enumerate(found)]
    usage = token_usage(_sum([one.usage for one in found]))
    made = o.TextCompletion(name, created, found[0].routing.model, choices, usage)
    return Reply(made, headers_of(edge, found[0], asks[0]))


def _asks(edge: Edge, call: Call) -> list[Ask]:
    body: o.CompletionBody = call.body
    for name, plain in _PLAIN.items():
        value = getattr(body, name)
        if value is not None and value not in plain:
            raise unsupported(name, "has no meaning for models that chat")
    prompts = [body.prompt] if isinstance(body.prompt, str) else [one for one in body.prompt if isinstance(one, str)]
    if not isinstance(body.prompt, str) and len(prompts) < len(body.prompt):
        raise Problem(400, "prompt has numbers of another model's tokens", field="prompt", fix="send texts")
    rest = {name: value for name, value in call.raw.items() if name not in ("prompt", *_PLAIN)}
    chats = [rest | {"messages": [{"role": "user", "content": prompt}]} for prompt in prompts]
    return [ask_chat(edge, call, chat) for chat in chats]


def _sum(usages: Sequence[Usage]) -> Usage:
    return Usage(sum(one.prompt_tokens for one in usages), sum(one.completion_tokens for one in usages))


async def _streamed(
    edge: Edge, asks: Sequence[Ask], opened: _Opened, empty: o.TextCompletion, with_usage: bool
) -> AsyncIterator[bytes]:
    """The answers in pieces, each with the number of its prompt."""
    usages = list[Usage]()

    def event(*choices: o.CompletionChoice, usage: o.TokenUsage | None = None) -> bytes:
        made = o.TextCompletion(empty.id, empty.created, empty.model, list(choices), usage)
        return b"data: " + _encode(made) + b"\n\n"

    try:
        for i, ask in enumerate(asks):
            _, pieces = opened if i == 0 else await open_stream(edge, ask)
            try:
                async for piece in pieces:
                    if isinstance(piece, Response):
                        usages.append(piece.usage)
                        yield event(o.CompletionChoice("", i, finish_reason(piece)))
                    elif piece.text:
                        yield event(o.CompletionChoice(piece.text, i))
            finally:
                await pieces.aclose()  # type: ignore[attr-defined]
        if with_usage:
            yield event(usage=token_usage(_sum(usages)))
    except Exception as error:
        yield b"data: " + _encode(error_body(problem_of(error))) + b"\n\n"
        return
    yield b"data: [DONE]\n\n"


_EXAMPLE = {"model": "auto", "prompt": "When do we deploy?"}

OPERATIONS = (
    Operation("POST", "/v1/completions", complete, "Answer texts", o.CompletionBody, answer=o.TextCompletion,
              tag="openai", style=STYLE, passing=True, waits=True, most=8 << 20, example=_EXAMPLE,
              media=("application/json", "text/event-stream")),
)  # fmt: skip
