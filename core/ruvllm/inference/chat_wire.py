"""The chat completions protocol of OpenAI, which most servers of LLMs speak: requests out, answers in."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import exp
from typing import Any, Literal

from ruvllm.errors import BackendError
from ruvllm.inference.backend import Message, Params, Usage
from ruvllm.inference.refusals import failure, status_of
from ruvllm.text.surrogates import Joiner, well_formed

__all__ = ["DIALECTS", "ChatReader", "Dialect", "request_body"]

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
    """A streaming request as JSON types: nothing that nobody asked for.

    `extra` fields come last; one that is None leaves a field out.
    """
    asked = params.extra
    limit = "max_completion_tokens" if asked.get("max_completion_tokens") is not None else "max_tokens"
    options = asked.get("stream_options")
    known: dict[str, Any] = {
        "model": model,
        "messages": asked.get("messages") or [{"role": one.role, "content": one.content} for one in messages],
        limit: params.max_tokens,
        "temperature": params.temperature,
        "top_p": params.top_p,
        "stop": list(params.stop) or None,
        "seed": params.seed,
        "stream": True,
        "stream_options": {**(options if isinstance(options, Mapping) else {}), "include_usage": True},
    }
    known |= {theirs: getattr(params, ours) for ours, theirs in DIALECTS[dialect].items()}
    if dialect == "vllm" and params.top_k == 0:
        known["top_k"] = -1  # its own "all tokens"
    body = {**asked, **{field: value for field, value in known.items() if value is not None}, **extra}
    return {field: value for field, value in body.items() if value is not None}


@dataclass(slots=True)
class ChatReader:
    """Reads the events of one answer.

    Attributes:
        text: the answer so far.
        model: as the server names it.
        finish_reason: as in `Completion`, once the server said so.
        usage: once the server said it.
        done: nothing follows.
        refused: the text is what the model says instead of an answer.
    """

    text: str = ""
    model: str = ""
    finish_reason: str | None = None
    usage: Usage | None = None
    done: bool = False
    refused: bool = False
    _logprobs: float = 0.0
    _tokens: int = 0
    _joiner: Joiner = field(default_factory=Joiner)

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
            self.finish_reason = self.finish_reason or self._reason("stop")
            return self._add(self._joiner.close())
        return "".join(self._object(value) for value in _objects(data))

    def _object(self, value: Any) -> str:
        if not isinstance(value, dict):
            raise _garbled(value)
        if value.get("error"):
            raise failure(status_of(value["error"]), value)
        if value.get("object") == "error":  # of vLLM, whose errors have no envelope
            raise failure(status_of(value), value)
        self.model = well_formed(_text(value.get("model"))) or self.model
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
        said = choice.get("delta") or choice.get("message")
        if not isinstance(said, dict):
            said = {}
        declined = _text(said.get("refusal"))
        self.refused = self.refused or bool(declined)
        new = self._joiner.feed(_text(said.get("content")) + declined or _text(choice.get("text")))
        self._count(choice.get("logprobs"))
        reason = choice.get("finish_reason")
        if isinstance(reason, str) and reason:
            self.finish_reason = self._reason(reason.lower())
            new += self._joiner.close()
        return self._add(new)

    def _add(self, new: str) -> str:
        self.text += new
        return new

    def _reason(self, theirs: str) -> str:
        if theirs in ("length", "max_tokens"):
            return "length"
        if theirs.startswith("content_filter") or theirs in ("refusal", "safety"):
            return "content_filter"
        return "refusal" if self.refused else "stop"

    def _count(self, logprobs: Any) -> None:
        tokens = logprobs.get("content") if isinstance(logprobs, dict) else None
        for token in tokens if isinstance(tokens, list) else ():
            value = token.get("logprob") if isinstance(token, dict) else None
            if isinstance(value, int | float) and value <= 0:
                self._logprobs += value
                self._tokens += 1


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


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _usage(value: Any) -> Usage | None:
    if not isinstance(value, dict):
        return None
    counts = [value.get("prompt_tokens"), value.get("completion_tokens", 0)]
    if any(not isinstance(n, int) or n < 0 for n in counts):
        return None
    return Usage(counts[0], counts[1])
