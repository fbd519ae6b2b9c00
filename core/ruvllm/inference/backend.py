"""What the rest of ruvllm asks of a backend, a thing that writes an answer: an LLM or what stands in for one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, fields
from math import ceil
from typing import Any, Protocol

from ruvllm.errors import BackendError, InputError
from ruvllm.reprs import Shown
from ruvllm.text.surrogates import well_formed

TRACE = frozenset({"traceparent", "tracestate"})  # headers that go with a request to whichever server gets it
ROLES = ("system", "user", "assistant")
_BYTES_PER_TOKEN = 4  # of English under the usual byte-pair vocabularies; what a budget needs, not a bill
_PER_MESSAGE = 4  # role and separators of a chat template
# Fields of a request without which the answer is another one; a backend that lacks them must not pretend.
_ESSENTIAL = (
    "tools", "functions", "response_format", "grammar", "json_schema", "structured_outputs", "logprobs", "modalities",
    "audio", "mcp_servers", "container", "output_config", "output_format",
)  # fmt: skip
_FREE = (None, "auto", "none", {"type": "auto"}, {"type": "none"})  # choices of tools that need none
# Parts of messages that can be read as text, or left out.
_TEXTUAL = frozenset({"text", "refusal", "tool_use", "tool_result", "thinking", "redacted_thinking"})


@dataclass(frozen=True, slots=True, repr=False)
class Message(Shown):
    """One turn of a conversation; `role` is one of ROLES."""

    role: str
    content: str

    def __post_init__(self) -> None:
        if self.role not in ROLES:
            raise InputError(f"{self.role!r} is no role", field="role", fix=f"use one of {', '.join(ROLES)}")


@dataclass(frozen=True, slots=True, repr=False)
class Params(Shown):
    """How to generate (FEATURES.md I12); None, where nobody said, leaves it to the backend.

    Attributes:
        max_tokens: of the answer, at most.
        temperature: 0 for the likeliest token each time.
        top_p: sample from the likeliest tokens of this probability together.
        top_k: sample from this many tokens at most; 0 for all.
        repeat_penalty: above 1 makes tokens that the answer has already less likely.
        stop: texts that end the answer and are left out of it.
        seed: None lets the backend choose.
        timeout: seconds for the whole answer with all attempts at it; None leaves it to the backend.
        min_p: sample from tokens of at least this share of the likeliest one's probability; of local models.
        extra: further fields of the request as the caller has them, in the words of `api`: `messages` there is sent
            instead of the messages as ruvllm reads them, and `max_completion_tokens` says under which name
            `max_tokens` goes.
        api: "openai" or "anthropic" for a request of such a client, who gets `Chunk.events`; "" for ruvllm's own.
        headers: that go with it to a server; those of TRACE to one of another API too.
    """

    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    repeat_penalty: float | None = None
    stop: tuple[str, ...] = ()
    seed: int | None = None
    timeout: float | None = None
    min_p: float | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)
    api: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        # Each comparison is written so that NaN fails it.
        for name, right, fix in (
            ("max_tokens", self.max_tokens is None or self.max_tokens >= 1, "1 or more"),
            ("temperature", self.temperature is None or 0 <= self.temperature <= 2, "0 to 2"),
            ("top_p", self.top_p is None or 0 < self.top_p <= 1, "above 0, at most 1"),
            ("top_k", self.top_k is None or self.top_k >= 0, "0 (all tokens) or more"),
            ("repeat_penalty", self.repeat_penalty is None or 0 < self.repeat_penalty <= 10, "above 0, at most 10"),
            ("min_p", self.min_p is None or 0 <= self.min_p <= 1, "0 to 1"),
            ("timeout", self.timeout is None or self.timeout > 0, "seconds above 0"),
        ):
            if not right:
                raise InputError(f"{name} is {getattr(self, name)}", field=name, fix=f"give {fix}, or None")
        if isinstance(self.stop, str) or not all(self.stop):
            raise InputError("stop holds no texts", field="stop", fix="give a tuple of texts that are not empty")

    @property
    def essential(self) -> str:
        """The first of the extra fields that a backend must honour or refuse; "" for none."""
        unused = {"tools": "tool_choice", "functions": "function_call"}
        for name, value in self.extra.items():
            plain = (isinstance(value, Mapping) and value.get("type") == "text") or value == ["text"]
            if name in unused and self.extra.get(unused[name]) in ("none", {"type": "none"}):
                continue
            if (name == "n" and value not in (None, 1)) or (name == "tool_choice" and value not in _FREE):
                return name
            if value and not plain and (name in _ESSENTIAL or name.startswith("guided_")):
                return name
        return _beyond_text(self.extra.get("messages"))


def _beyond_text(messages: Any) -> str:
    """The place of the first part that is no text, "" without one."""
    for i, turn in enumerate(messages if isinstance(messages, list) else ()):
        content = turn.get("content") if isinstance(turn, Mapping) else None
        for j, part in enumerate(content if isinstance(content, list) else ()):
            if isinstance(part, Mapping) and part.get("type") not in _TEXTUAL:
                return f"messages[{i}].content[{j}]"
    return ""


@dataclass(frozen=True, slots=True)
class LocalParams:
    """What a model on this machine takes where the caller said nothing; as in `Params`."""

    max_tokens: int = 512
    temperature: float = 0.7
    top_p: float = 0.9
    top_k: int = 50
    repeat_penalty: float = 1.0
    min_p: float = 0.0

    @classmethod
    def of(cls, params: Params) -> LocalParams:
        """What was said, else the defaults."""
        said = {one.name: getattr(params, one.name) for one in fields(cls)}
        return cls(**{name: value for name, value in said.items() if value is not None})


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens read and written; `estimated` when the backend did not say and ruvllm counted bytes.

    Attributes:
        cached_tokens: of those read, which the backend had read before.
    """

    prompt_tokens: int = 0
    completion_tokens: int = 0
    estimated: bool = False
    cached_tokens: int = 0

    @property
    def total_tokens(self) -> int:
        """Both together."""
        return self.prompt_tokens + self.completion_tokens


@dataclass(frozen=True, slots=True, repr=False)
class Completion(Shown):
    """A whole answer.

    Attributes:
        finish_reason: "stop", "length", "tool_calls" (the caller has to call tools and say what they gave),
            "content_filter" (the backend's filter ended it), or "refusal" (the model declined, and the text is what
            it says instead).
        cost: in US dollars.
        confidence: 0 to 1, the backend's own; 0 says that it cannot answer, None that it does not know.
        backend: the name of the one that wrote it, "" for the one that was asked.
        dropped: messages, the oldest, that it did not read because they did not fit.
        body: the whole answer as JSON text in the words of `Params.api`, "" where the backend passes none on.
    """

    text: str
    model: str
    usage: Usage
    finish_reason: str = "stop"
    cost: float = 0.0
    confidence: float | None = None
    backend: str = ""
    dropped: int = 0
    body: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True, repr=False)
class Chunk(Shown):
    """A piece of an answer; the last one has `finish_reason`, `usage` and `cost`, and may have no text.

    Attributes:
        confidence: of the answer so far, as in `Completion`; so is `dropped`, of the last one.
        model, backend: who writes, "" for the one that was asked.
        refusal: whether the text is what the model says instead of an answer.
        events: what the server sent, each as JSON text in the words of `Params.api`, for its client as it is.
        whole: whether that is a whole answer, not a part of one.
        called: whether tools have been called, or something thought: there is an answer, though it may have no text.
    """

    text: str
    finish_reason: str | None = None
    usage: Usage | None = None
    confidence: float | None = None
    cost: float = 0.0
    model: str = ""
    backend: str = ""
    refusal: bool = False
    dropped: int = 0
    events: tuple[str, ...] = field(default=(), repr=False)
    whole: bool = False
    called: bool = False


class Backend(Protocol):
    """Writes answers. Every failure to do so is a BackendError.

    One with an attribute `passes` that is true honours the `extra` fields of its Params, and its chunks have `events`.
    """

    name: str
    model: str
    context: int  # tokens that prompt and answer may have together

    async def generate(self, messages: Sequence[Message], params: Params) -> Completion:
        """The whole answer."""
        ...

    def stream(self, messages: Sequence[Message], params: Params) -> AsyncIterator[Chunk]:
        """The answer as it is written. What came before a BackendError stays the caller's."""
        ...

    async def healthy(self) -> bool:
        """Whether a request has a chance now; never raises."""
        ...

    async def close(self) -> None:
        """Let connections and memory go."""
        ...


def estimate_tokens(text: str) -> int:
    """About how many tokens a text has: a quarter of its UTF-8 bytes, rounded up."""
    size = len(text) if text.isascii() else len(text.encode("utf-8", "replace"))
    return ceil(size / _BYTES_PER_TOKEN)


def estimate_usage(messages: Sequence[Message], answer: str) -> Usage:
    """Usage by the length of the texts, and marked so."""
    prompt = sum(estimate_tokens(message.content) + _PER_MESSAGE for message in messages)
    return Usage(prompt, estimate_tokens(answer), estimated=True)


def last_question(messages: Sequence[Message]) -> str:
    """The content of the user's last message. Raises InputError: there is none."""
    for message in reversed(messages):
        if message.role == "user":
            return message.content
    raise InputError("no message is by the user", field="messages", fix="add a message of role 'user'")


def check_extra(params: Params, backend: Backend) -> None:
    """Raises BackendError: a field of the request that makes another answer, and that this backend does not know."""
    if (name := params.essential) and not getattr(backend, "passes", False):
        message, fix = f"{backend.name} knows no {name}", "leave it out, or name a model behind an OpenAI-like server"
        raise BackendError(message, kind="refused", field=name, fix=fix, code="unsupported_parameter", status=400)


def too_long(tokens: int, name: str, room: int) -> BackendError:
    """The error of a prompt of more tokens than a backend reads, under the code that clients know it by."""
    message = f"the prompt has about {tokens} tokens, {name} reads {room}"
    fix = "shorten it, or use a backend with a larger context"
    return BackendError(message, kind="refused", field="messages", fix=fix, code="context_length_exceeded", status=400)


class Streaming(ABC):
    """A backend whose whole answer is what it streams, which is always there, and has nothing to let go."""

    model: str

    @abstractmethod
    def stream(self, messages: Sequence[Message], params: Params) -> AsyncGenerator[Chunk, None]:
        """The answer as it is written; see `Backend.stream`."""

    async def generate(self, messages: Sequence[Message], params: Params) -> Completion:
        """The whole answer. Raises as `stream`."""
        async with aclosing(self.stream(messages, params)) as chunks:
            return await gather(chunks, self.model)

    async def healthy(self) -> bool:
        """Always."""
        return True

    async def close(self) -> None:  # noqa: B027 - most have nothing
        """There is nothing to let go."""


async def gather(chunks: AsyncIterator[Chunk], model: str) -> Completion:
    """The whole answer of a stream."""
    parts: list[str] = []
    end, body = Chunk("", "stop", Usage()), ""
    async for end in chunks:
        parts.append(end.text)
        body = end.events[0] if end.whole else body
    return Completion(
        well_formed("".join(parts)),
        end.model or model,
        end.usage or Usage(),
        end.finish_reason or "stop",
        end.cost,
        end.confidence,
        end.backend,
        end.dropped,
        body,
    )
