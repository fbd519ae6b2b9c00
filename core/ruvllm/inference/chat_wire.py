"""The chat completions protocol of OpenAI, which most servers of LLMs speak: requests out, answers in."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import exp
from typing import Any, Literal

from ruvllm.errors import BackendError
from ruvllm.inference.backend import Message, Params, Usage

__all__ = ["DIALECTS", "ChatReader", "Dialect", "failure", "request_body"]

Dialect = Literal["openai", "llama.cpp", "vllm"]
# What the protocol itself lacks; the cloud refuses fields that it does not know.
DIALECTS: Mapping[Dialect, Mapping[str, str]] = {
    "openai": {},
    "llama.cpp": {"top_k": "top_k", "min_p": "min_p", "repeat_penalty": "repeat_penalty"},
    "vllm": {"top_k": "top_k", "min_p": "min_p", "repeat_penalty": "repetition_penalty"},
}
_EXCERPT = 200


def request_body(
    model: str, messages: Sequence[Message], params: Params, dialect: Dialect, extra: Mapping[str, Any]
) -> dict[str, Any]:
    """A streaming request as JSON types. `extra` fields come last; one that is None leaves a field out."""
    body: dict[str, Any] = {
        "model": model,
        "messages": [{"role": message.role, "content": message.content} for message in messages],
        "max_tokens": params.max_tokens,
        "temperature": params.temperature,
        "top_p": params.top_p,
        "stop": list(params.stop) or None,
        "seed": params.seed,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    body |= {theirs: getattr(params, ours) for ours, theirs in DIALECTS[dialect].items()}
    if not params.min_p:
        body.pop("min_p", None)
    if dialect == "vllm" and not params.top_k:
        body["top_k"] = -1  # its own "all tokens"
    body |= extra
    return {field: value for field, value in body.items() if value is not None}


@dataclass(slots=True)
class ChatReader:
    """Reads the events of one answer.

    Attributes:
        text: the answer so far.
        model: as the server names it.
        finish_reason: "stop" or "length" once the server said so.
        usage: once the server said it.
        done: nothing follows.
    """

    text: str = ""
    model: str = ""
    finish_reason: str | None = None
    usage: Usage | None = None
    done: bool = False
    _logprobs: float = 0.0
    _tokens: int = 0

    @property
    def complete(self) -> bool:
        """Whether the server has said that the answer is whole."""
        return self.done or self.finish_reason is not None

    @property
    def confidence(self) -> float | None:
        """The geometric mean of the tokens' probabilities, None from a server that sends none."""
        return exp(self._logprobs / self._tokens) if self._tokens else None

    def read(self, data: str) -> str:
        """The new text of an event's data.

        Raises:
            BackendError: an error that the server reports, or data that the protocol does not know.
        """
        if data.strip() == "[DONE]":
            self.done = True
            return ""
        return "".join(self._object(value) for value in _objects(data))

    def _object(self, value: Any) -> str:
        if not isinstance(value, dict):
            raise _garbled(value)
        if value.get("error"):
            raise failure(_status(value["error"]), value)
        self.model = _text(value.get("model")) or self.model
        self.usage = _usage(value.get("usage")) or self.usage
        choices = value.get("choices")
        if choices is None:  # a last event with the usage alone, or a server's own kind of event
            if self.usage is None and "object" not in value:
                raise _garbled(value)
            return ""
        # Only one answer was asked for; a second one would be mixed into it.
        mine = [c for c in choices if isinstance(c, dict) and not c.get("index")] if isinstance(choices, list) else None
        if mine is None or (choices and not mine):
            raise _garbled(value)
        return "".join(self._choice(choice) for choice in mine)

    def _choice(self, choice: dict[str, Any]) -> str:
        # A server that does not stream answers with a message; old ones know only `text`.
        said = choice.get("delta") or choice.get("message") or {}
        new = _text(said.get("content") if isinstance(said, dict) else None) or _text(choice.get("text"))
        self.text += new
        self._count(choice.get("logprobs"))
        reason = choice.get("finish_reason")
        if reason == "content_filter":
            message = "the backend's content filter stopped the answer"
            raise BackendError(message, kind="refused", fix="ask in other words, or another backend")
        if isinstance(reason, str) and reason:
            self.finish_reason = "length" if reason in ("length", "max_tokens") else "stop"
        return new

    def _count(self, logprobs: Any) -> None:
        tokens = logprobs.get("content") if isinstance(logprobs, dict) else None
        for token in tokens if isinstance(tokens, list) else ():
            value = token.get("logprob") if isinstance(token, dict) else None
            if isinstance(value, int | float) and value <= 0:
                self._logprobs += value
                self._tokens += 1


def failure(status: int, body: Any, retry_after: float | None = None) -> BackendError:
    """The error that a response of this HTTP status stands for; `body` is what it says, as JSON types or text."""
    said = _said(body)
    about = f"the backend answered {status}" + (f": {said}" if said else "")
    if status == 429:
        return BackendError(about, kind="rate_limited", retry_after=retry_after, fix="send fewer requests, or wait")
    if status == 408 or status >= 500:
        return BackendError(about, kind="unavailable", retry_after=retry_after, fix="see the backend's own log")
    if status in (401, 403):
        return BackendError(about, kind="refused", field="api_key_env", fix="check the API key in the environment")
    if status == 404:
        return BackendError(about, kind="refused", field="url", fix="check url (it ends in /v1) and model")
    if 400 <= status < 500:
        return BackendError(about, kind="refused", fix="change the request, or choose another backend")
    return BackendError(about, kind="bad_response", field="url", fix="check that url leads to the API itself")


def _objects(data: str) -> list[Any]:
    """The JSON of an event: one value, or one per line from servers that leave out the blank lines."""
    try:
        return [json.loads(data)]
    except (ValueError, RecursionError):
        lines = [line for line in data.splitlines() if line.strip() not in ("", "[DONE]")]
        try:
            return [json.loads(line) for line in lines]
        except (ValueError, RecursionError):
            raise _garbled(data) from None


def _garbled(value: Any) -> BackendError:
    excerpt = (value if isinstance(value, str) else repr(value))[:_EXCERPT]
    message = f"the backend sent what is no part of a chat completion: {excerpt!r}"
    return BackendError(message, kind="bad_response", field="url", fix="check that url leads to an OpenAI-like API")


def _said(body: Any) -> str:
    """The message in an error's body, whatever its shape."""
    for _ in range(3):
        if isinstance(body, dict):
            body = body.get("error") or body.get("message") or body.get("detail") or ""
    return " ".join(str(body).split())[:_EXCERPT]


def _status(error: Any) -> int:
    """What the status would have been of an error that comes in the stream."""
    code = error.get("code", error.get("status")) if isinstance(error, dict) else None
    if isinstance(code, int) and 400 <= code < 600:
        return code
    return 429 if isinstance(code, str) and "rate_limit" in code else 500


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _usage(value: Any) -> Usage | None:
    if not isinstance(value, dict):
        return None
    counts = [value.get("prompt_tokens"), value.get("completion_tokens", 0)]
    if any(not isinstance(n, int) or n < 0 for n in counts):
        return None
    return Usage(counts[0], counts[1])
