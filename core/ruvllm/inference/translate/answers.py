"""Answers of OpenAI's chat completions as Anthropic's messages API gives them, and the other way round.

Each is translated whole, or event by event as it is written.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

_STOPS = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use", "content_filter": "refusal"}
_REASONS = {"max_tokens": "length", "model_context_window_exceeded": "length", "tool_use": "tool_calls",
            "refusal": "content_filter"}  # fmt: skip


def _count(usage: Mapping[str, Any], name: str) -> int:
    value = usage.get(name)
    return value if isinstance(value, int) else 0


def _anthropic_usage(usage: Mapping[str, Any]) -> dict[str, Any]:
    cached = _count(usage.get("prompt_tokens_details") or {}, "cached_tokens")
    return {
        "input_tokens": max(_count(usage, "prompt_tokens") - cached, 0),
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": cached,
        "output_tokens": _count(usage, "completion_tokens"),
    }


def _openai_usage(usage: Mapping[str, Any]) -> dict[str, Any]:
    cached = _count(usage, "cache_read_input_tokens")
    prompt = _count(usage, "input_tokens") + cached + _count(usage, "cache_creation_input_tokens")
    answer = _count(usage, "output_tokens")
    return {
        "prompt_tokens": prompt,
        "completion_tokens": answer,
        "total_tokens": prompt + answer,
        "prompt_tokens_details": {"cached_tokens": cached},
    }


@dataclass(slots=True)
class ToAnthropic:
    """An answer of chat completions, whole or in events, as Anthropic's API gives it.

    Args:
        request_id: names the message where the server names none.
        tokens: of the prompt, about: Anthropic's first event tells them, OpenAI's last one.
    """

    request_id: str
    tokens: int = 0
    _index: int = -1  # of the block that is being written
    _kind: str = ""  # of it: "", "text", "thinking" or "tool_use"
    _call: Any = None  # the number of the call that is being written
    _begun: bool = False
    _reason: str | None = None
    _usage: dict[str, Any] = field(default_factory=dict)

    def whole(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """A message from a chat completion."""
        choice = (body.get("choices") or [{}])[0]
        said = choice.get("message") or {}
        blocks = list[dict[str, Any]]()
        if thought := said.get("reasoning_content") or said.get("reasoning"):
            blocks.append({"type": "thinking", "thinking": thought, "signature": ""})
        if text := said.get("content") or said.get("refusal"):
            blocks.append({"type": "text", "text": text})
        for call in said.get("tool_calls") or ():
            function = call.get("function") or {}
            given = _arguments(function.get("arguments"))
            blocks.append({"type": "tool_use", "id": call.get("id"), "name": function.get("name"), "input": given})
        message = self._message(body) | {"content": blocks, "usage": _anthropic_usage(body.get("usage") or {})}
        message["stop_reason"] = "refusal" if said.get("refusal") else _stop(choice.get("finish_reason") or "stop")
        return message

    def feed(self, event: Mapping[str, Any]) -> list[dict[str, Any]]:
        """The events that one chunk of a chat completion stands for."""
        out = list[dict[str, Any]]()
        if not self._begun:
            self._begun = True
            read = {"input_tokens": self.tokens, "output_tokens": 0}
            out.append({"type": "message_start", "message": self._message(event) | {"content": [], "usage": read}})
        if isinstance(usage := event.get("usage"), Mapping):
            self._usage = _anthropic_usage(usage)
        for choice in event.get("choices") or ():
            if choice.get("index"):
                continue
            delta = choice.get("delta") or {}
            thought = delta.get("reasoning_content") or delta.get("reasoning")
            out += self._piece("thinking", thought, {"thinking": ""}, "thinking_delta", "thinking")
            out += self._piece("text", delta.get("content") or delta.get("refusal"), {"text": ""}, "text_delta", "text")
            for call in delta.get("tool_calls") or ():
                out += self._called(call)
            if delta.get("refusal"):
                self._reason = "refusal"
            elif (reason := choice.get("finish_reason")) and self._reason is None:
                self._reason = _stop(reason)
        return out

    def close(self) -> list[dict[str, Any]]:
        """The last events."""
        out = self._end()
        delta = {"stop_reason": self._reason or "end_turn", "stop_sequence": None}
        usage = self._usage or {"input_tokens": self.tokens, "output_tokens": 0}
        return [*out, {"type": "message_delta", "delta": delta, "usage": usage}, {"type": "message_stop"}]

    def _message(self, body: Mapping[str, Any]) -> dict[str, Any]:
        name = body.get("id") or self.request_id
        return {
            "id": f"msg_{str(name).removeprefix('chatcmpl-')}",
            "type": "message",
            "role": "assistant",
            "model": body.get("model") or "",
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
        }

    def _piece(self, kind: str, text: Any, empty: dict[str, Any], delta: str, name: str) -> list[dict[str, Any]]:
        if not isinstance(text, str) or not text:
            return []
        out = self._block(kind, {"type": kind, **empty} | ({"signature": ""} if kind == "thinking" else {}))
        return [*out, self._delta({"type": delta, name: text})]

    def _called(self, call: Mapping[str, Any]) -> list[dict[str, Any]]:
        function = call.get("function") or {}
        out = list[dict[str, Any]]()
        if self._kind != "tool_use" or call.get("index") != self._call:
            self._call = call.get("index")
            name = call.get("id") or f"toolu_{self.request_id}_{self._index + 1}"
            block: dict[str, Any] = {"type": "tool_use", "id": name, "name": function.get("name"), "input": {}}
            out = self._block("tool_use", block, fresh=True)
        if piece := function.get("arguments"):
            out.append(self._delta({"type": "input_json_delta", "partial_json": piece}))
        return out

    def _block(self, kind: str, block: dict[str, Any], fresh: bool = False) -> list[dict[str, Any]]:
        if self._kind == kind and not fresh:
            return []
        out = self._end()
        self._index, self._kind = self._index + 1, kind
        return [*out, {"type": "content_block_start", "index": self._index, "content_block": block}]

    def _delta(self, delta: dict[str, Any]) -> dict[str, Any]:
        return {"type": "content_block_delta", "index": self._index, "delta": delta}

    def _end(self) -> list[dict[str, Any]]:
        if not self._kind:
            return []
        self._kind = ""
        return [{"type": "content_block_stop", "index": self._index}]


def _stop(reason: str) -> str:
    return _STOPS.get(reason, "refusal" if reason in ("refusal", "safety") else "end_turn")


def _arguments(text: Any) -> Any:
    try:
        given = json.loads(text or "{}")
    except (ValueError, RecursionError, TypeError):
        return {"arguments": text}
    return given if isinstance(given, dict) else {"arguments": given}


@dataclass(slots=True)
class ToOpenAi:
    """An answer of Anthropic's API, whole or in events, as chat completions give it."""

    created: int = 0
    _name: str = ""
    _model: str = ""
    _calls: int = -1
    _usage: dict[str, Any] = field(default_factory=dict)

    def whole(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """A chat completion from a message."""
        said: dict[str, Any] = {"role": "assistant", "content": None}
        texts, thoughts, calls = list[str](), list[str](), list[dict[str, Any]]()
        for block in body.get("content") or ():
            if block.get("type") == "text":
                texts.append(block.get("text") or "")
            elif block.get("type") == "thinking":
                thoughts.append(block.get("thinking") or "")
            elif block.get("type") == "tool_use":
                function = {"name": block.get("name"), "arguments": json.dumps(block.get("input") or {})}
                calls.append({"id": block.get("id"), "type": "function", "function": function})
        said["content"] = "".join(texts) or (None if calls else "")
        said |= {"reasoning_content": "".join(thoughts)} if thoughts else {}
        said |= {"tool_calls": calls} if calls else {}
        reason = _REASONS.get(body.get("stop_reason") or "", "stop")
        choice = {"index": 0, "message": said, "finish_reason": reason, "logprobs": None}
        self._name, self._model = str(body.get("id") or ""), str(body.get("model") or "")
        return self._object("chat.completion", choice) | {"usage": _openai_usage(body.get("usage") or {})}

    def feed(self, event: Mapping[str, Any]) -> list[dict[str, Any]]:
        """The chunks that one of Anthropic's events stands for."""
        kind = event.get("type")
        if kind == "message_start":
            message = event.get("message") or {}
            self._name, self._model = str(message.get("id") or ""), str(message.get("model") or "")
            self._usage = dict(message.get("usage") or {})
            return [self._chunk({"role": "assistant", "content": ""})]
        if kind == "content_block_start":
            block = event.get("content_block") or {}
            if block.get("type") == "tool_use":
                self._calls += 1
                function = {"name": block.get("name"), "arguments": ""}
                return [self._call({"id": block.get("id"), "type": "function", "function": function})]
            return [self._chunk({"content": block["text"]})] if block.get("text") else []
        if kind == "content_block_delta":
            delta = event.get("delta") or {}
            if delta.get("type") == "text_delta":
                return [self._chunk({"content": delta.get("text") or ""})]
            if delta.get("type") == "thinking_delta":
                return [self._chunk({"reasoning_content": delta.get("thinking") or ""})]
            if delta.get("type") == "input_json_delta":
                return [self._call({"function": {"arguments": delta.get("partial_json") or ""}})]
        if kind == "message_delta":
            reason = (event.get("delta") or {}).get("stop_reason")
            counts = {name: value for name, value in (event.get("usage") or {}).items() if value is not None}
            self._usage |= counts  # the counts that the last event tells are of the whole answer
            last = self._chunk({}, _REASONS.get(reason or "", "stop"))
            return [last, self._object("chat.completion.chunk") | {"usage": _openai_usage(self._usage)}]
        return []

    def _call(self, call: dict[str, Any]) -> dict[str, Any]:
        return self._chunk({"tool_calls": [{"index": self._calls, **call}]})

    def _chunk(self, delta: dict[str, Any], reason: str | None = None) -> dict[str, Any]:
        choice = {"index": 0, "delta": delta, "finish_reason": reason, "logprobs": None}
        return self._object("chat.completion.chunk", choice)

    def _object(self, kind: str, *choices: dict[str, Any]) -> dict[str, Any]:
        name = f"chatcmpl-{self._name.removeprefix('msg_')}"
        return {"id": name, "object": kind, "created": self.created, "model": self._model, "choices": list(choices)}
