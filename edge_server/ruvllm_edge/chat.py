"""From a conversation to the backend that goes on with it: what the OpenAI and Anthropic APIs have in common."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

from ruvllm import Tier
from ruvllm.encoders.protocol import pause
from ruvllm.inference.backend import Message, estimate_usage
from ruvllm.inference.translate.requests import UNHEEDED
from ruvllm.options import TIERS
from ruvllm.query.responses import Constraints, Delta, Event, Response, Routed
from ruvllm.routing.tools import used_tools
from ruvllm_edge.auth import Key
from ruvllm_edge.edge import Edge
from ruvllm_edge.telemetry import Answering

AUTO = "auto"


@dataclass(frozen=True, slots=True)
class Ask:
    """A conversation to go on with.

    Attributes:
        messages: they are sent as they are.
        question: what is routed, see `conversations.question_of`.
        model: AUTO, a tier, or the name of a backend or of its model.
        extra: the request's fields, for a server that gets them as they are.
        api: whose words these are, "openai" or "anthropic".
        headers: that go with them.
        conversation: names it, as long as its first turns are the same.
        looping: whether its last turn says what tools gave, and nobody asks anything new.
        key: name of the caller's, "" where none is needed.
        tools: how many of its tools are passed on; all of them when 0.
        models, adds, agent_id: as in `Constraints`.
    """

    messages: tuple[Message, ...]
    question: str
    model: str = AUTO
    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    stop: tuple[str, ...] = ()
    seed: int | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)
    top_k: int | None = None
    min_p: float | None = None
    repeat_penalty: float | None = None
    api: str = "openai"
    headers: Mapping[str, str] = field(default_factory=dict)
    conversation: bytes = b""
    looping: bool = False
    key: str = ""
    tools: int = 0
    models: tuple[str, ...] | None = None
    agent_id: str | None = None
    adds: tuple[str, ...] = ()

    def constraints(self, stay: str, trace: Mapping[str, str]) -> Constraints:
        """In the router's words.

        Args:
            stay: the backend that the conversation is with, "" for none.
            trace: headers of the trace that this is part of.
        """
        return Constraints(
            max_tokens=self.max_tokens,
            temperature=self.temperature,
            top_p=self.top_p,
            force_model=None if self.model == AUTO else self.model,
            stop=self.stop,
            seed=self.seed,
            extra=self.extra,
            top_k=self.top_k,
            min_p=self.min_p,
            repeat_penalty=self.repeat_penalty,
            api=self.api,
            headers={**self.headers, **trace},
            stay=stay,
            looping=self.looping,
            models=self.models,
            agent_id=self.agent_id,
            adds=self.adds,
        )


def models(edge: Edge, key: Key) -> dict[str, str]:
    """Names that `model` may have in a key's requests, and whose they are."""
    allowed, found = allowed_models(edge, key), dict(_names(edge))
    return {AUTO: "ruvllm"} | {name: one for name, one in found.items() if allowed is None or one in allowed}


def allowed_models(edge: Edge, key: Key) -> tuple[str, ...] | None:
    """The backends that may answer a key, by their names; None for all of them."""
    if not key.models:
        return None
    return tuple({backend for name, backend in _names(edge) if name in key.models})


def _names(edge: Edge) -> Iterator[tuple[str, str]]:
    for tier, backend in edge.llm.backends.items():
        for name in (TIERS[tier - 1], backend.name, backend.model):
            yield name, backend.name


async def answer(edge: Edge, ask: Ask) -> Response:
    """The whole answer. Raises BackendError: no backend gave one."""
    ask = await _trimmed(edge, ask)
    with edge.answering(ask.model) as span:
        constraints = ask.constraints(_with(edge, ask), span.headers)
        response = await edge.llm.aquery(ask.question, constraints=constraints, messages=ask.messages)
        span.done(response)
    _count(edge, ask, response)
    return response


async def _trimmed(edge: Edge, ask: Ask) -> Ask:
    """With the tools that its question needs, those that its conversation has called, and those that it insists on."""
    tools = ask.extra.get("tools")
    if not ask.tools or not isinstance(tools, list) or len(tools) <= ask.tools:
        return ask
    service = edge.llm.tools
    await asyncio.to_thread(service.prepare, tools)
    chosen = await service.select(tools, ask.question, ask.tools, used_tools(ask.extra), pause)
    edge.metrics.tools_left_out.inc(len(tools) - len(chosen))
    return replace(ask, extra={**ask.extra, "tools": chosen})


def _with(edge: Edge, ask: Ask) -> str:
    """The backend that has read the beginning of a conversation; a first turn has none."""
    begun = any(message.role == "assistant" for message in ask.messages)
    return edge.conversations.get(ask.conversation) if begun else ""


def _count(edge: Edge, ask: Ask, response: Response) -> None:
    edge.answered(response, ask.key)
    edge.conversations.put(ask.conversation, response.routing.backend)


async def open_stream(edge: Edge, ask: Ask) -> tuple[Routed, AsyncIterator[Delta | Response]]:
    """Who answers, and the answer in pieces, its `Response` last.

    Whatever fails before the first piece is raised here: it can still have a status.
    """
    ask = await _trimmed(edge, ask)
    span = edge.answering(ask.model, stream=True)
    try:
        constraints = ask.constraints(_with(edge, ask), span.headers)
        events = edge.llm.aquery_stream(ask.question, constraints=constraints, messages=ask.messages)
        routed = await anext(events)
        assert isinstance(routed, Routed)
        first = await anext(events)
    except BaseException as error:
        span.failed(error)
        raise
    return routed, _rest(edge, ask, span, routed, first, events)


async def _rest(
    edge: Edge, ask: Ask, span: Answering, routed: Routed, event: Event | None, events: AsyncIterator[Event]
) -> AsyncIterator[Delta | Response]:
    said, counted = list[str](), False
    try:
        while event is not None:
            if isinstance(event, Response):
                _count(edge, ask, event)
                span.done(event)
                counted = True
            elif isinstance(event, Delta):
                said.append(event.text)
                span.chunk()
            if not isinstance(event, Routed):
                yield event
            event = await anext(events, None)
    except Exception as error:
        span.failed(error)
        raise
    finally:
        with suppress(Exception):
            await events.aclose()  # type: ignore[attr-defined]
        if not counted:
            usage = estimate_usage(ask.messages, "".join(said))
            edge.broken_off(routed.decision.agent, routed.routing.backend, ask.key, usage)
            span.broken_off(routed, usage)


def routing_headers(routing: Routed | Response, ignored: Collection[str] = ()) -> dict[str, str]:
    """Headers that say where a conversation went, and which fields of the request had no meaning there."""
    decision, choice = routing.decision, routing.choice
    tier = routing.tier if isinstance(routing, Response) else decision.tier if choice is None else choice.tier
    headers = {
        "x-ruvllm-request": routing.request_id,
        "x-ruvllm-agent": _ascii(decision.agent),
        "x-ruvllm-confidence": f"{decision.confidence:.4f}",
        "x-ruvllm-tier": Tier(tier).name.lower(),
        "x-ruvllm-action": decision.action,
        "x-ruvllm-backend": _ascii(routing.routing.backend),
        "x-ruvllm-model": _ascii(routing.routing.model),
        "x-ruvllm-cost": f"{routing.cost:.8f}" if isinstance(routing, Response) else "",
        "x-ruvllm-ignored": _ascii(", ".join(sorted(ignored))),
    }
    if choice is not None:
        headers |= {
            "x-ruvllm-decided-by": choice.by,
            "x-ruvllm-why": _ascii(choice.why),
            "x-ruvllm-expected-cost": f"{choice.cost:.6g}",
            "x-ruvllm-expected-ms": f"{choice.latency_ms:.0f}",
        }
    return {name: value for name, value in headers.items() if value}


def of_key(edge: Edge, key: Key) -> dict[str, Any]:
    """What a key's configuration says of its conversations, as fields of `Ask`."""
    return {
        "key": key.name,
        "tools": edge.settings.trim_tools if key.tools is None else int(key.tools),
        "models": allowed_models(edge, key),
        "adds": edge.settings.chat_adds if key.adds is None else key.adds,
        "agent_id": key.agent or None,
    }


def unheeded(edge: Edge, where: Routed | Response, names: Collection[str], api: str) -> set[str]:
    """Which of these fields of a request the backend that was chosen was not told."""
    named = (backend for backend in edge.llm.backends.values() if backend.name == where.routing.backend)
    backend = next(named, None)
    if not getattr(backend, "passes", False):
        return set(names)
    theirs = getattr(getattr(backend, "endpoint", None), "api", "openai")
    return set() if theirs == api else set(names) & UNHEEDED[api]


def _ascii(text: str) -> str:
    """For a header: one line, without what could end it."""
    flat = " ".join(text.split())
    return "".join(char if " " <= char <= "~" else "?" for char in flat)[:200]
