"""What the rest of ruvllm asks of a backend, a thing that writes an answer: an LLM or what stands in for one."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Protocol

from ruvllm.errors import InputError
from ruvllm.reprs import one_line

__all__ = [
    "ROLES",
    "Backend",
    "Chunk",
    "Completion",
    "Message",
    "Params",
    "Usage",
    "estimate_tokens",
    "estimate_usage",
    "gather",
    "last",
]

ROLES = ("system", "user", "assistant")
_BYTES_PER_TOKEN = 4  # of English under the usual byte-pair vocabularies; what a budget needs, not a bill
_PER_MESSAGE = 4  # role and separators of a chat template


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation; `role` is one of ROLES."""

    role: str
    content: str

    __repr__ = one_line

    def __post_init__(self) -> None:
        if self.role not in ROLES:
            raise InputError(f"{self.role!r} is no role", field="role", fix=f"use one of {', '.join(ROLES)}")


@dataclass(frozen=True, slots=True)
class Params:
    """How to generate (FEATURES.md I12).

    Attributes:
        max_tokens: of the answer, at most.
        temperature: 0 for the likeliest token each time.
        top_p: sample from the likeliest tokens of this probability together.
        top_k: sample from this many tokens at most; 0 for all.
        repeat_penalty: above 1 makes tokens that were there less likely.
        stop: texts that end the answer and are left out of it.
        seed: None lets the backend choose.
        timeout: seconds for the whole answer with all attempts at it; None leaves it to the backend.
        min_p: sample from tokens of at least this share of the likeliest one's probability; of local models.
    """

    max_tokens: int = 512
    temperature: float = 0.7
    top_p: float = 0.9
    top_k: int = 50
    repeat_penalty: float = 1.1
    stop: tuple[str, ...] = ()
    seed: int | None = None
    timeout: float | None = None
    min_p: float = 0.0

    __repr__ = one_line

    def __post_init__(self) -> None:
        # Each comparison is written so that NaN fails it.
        checks = (
            ("max_tokens", self.max_tokens >= 1, "1 or more"),
            ("temperature", 0 <= self.temperature <= 2, "0 to 2"),
            ("top_p", 0 < self.top_p <= 1, "above 0, at most 1"),
            ("top_k", self.top_k >= 0, "0 (all tokens) or more"),
            ("repeat_penalty", 0 < self.repeat_penalty <= 10, "above 0, at most 10"),
            ("min_p", 0 <= self.min_p <= 1, "0 to 1"),
            ("timeout", self.timeout is None or self.timeout > 0, "seconds above 0, or None"),
        )
        for field, right, fix in checks:
            if not right:
                raise InputError(f"{field} is {getattr(self, field)}", field=field, fix=f"give {fix}")
        if isinstance(self.stop, str) or not all(self.stop):
            raise InputError("stop holds no texts", field="stop", fix="give a tuple of texts that are not empty")


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens read and written; `estimated` when the backend did not say and ruvllm counted bytes."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    estimated: bool = False

    @property
    def total_tokens(self) -> int:
        """Both together."""
        return self.prompt_tokens + self.completion_tokens


@dataclass(frozen=True, slots=True)
class Completion:
    """A whole answer.

    Attributes:
        finish_reason: "stop" or "length".
        cost: in US dollars.
        confidence: 0 to 1, the backend's own; 0 says that it cannot answer, None that it does not know.
        backend: the name of the one that wrote it, "" for the one that was asked.
    """

    text: str
    model: str
    usage: Usage
    finish_reason: str = "stop"
    cost: float = 0.0
    confidence: float | None = None
    backend: str = ""

    __repr__ = one_line


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of an answer; the last one has `finish_reason`, `usage` and `cost`, and may have no text.

    Attributes:
        confidence: of the answer so far, as in `Completion`.
        model, backend: who writes, "" for the one that was asked.
    """

    text: str
    finish_reason: str | None = None
    usage: Usage | None = None
    confidence: float | None = None
    cost: float = 0.0
    model: str = ""
    backend: str = ""

    __repr__ = one_line


class Backend(Protocol):
    """Writes answers. Every failure to do so is a BackendError."""

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


def last(messages: Sequence[Message], role: str = "user") -> str:
    """The content of the last message of a role.

    Raises:
        InputError: there is none.
    """
    for message in reversed(messages):
        if message.role == role:
            return message.content
    raise InputError(f"no message is by the {role}", field="messages", fix=f"add a message of role {role!r}")


async def gather(chunks: AsyncIterator[Chunk], model: str) -> Completion:
    """The whole answer of a stream."""
    parts: list[str] = []
    end = Chunk("", "stop", Usage())
    async for end in chunks:
        parts.append(end.text)
    return Completion(
        "".join(parts),
        end.model or model,
        end.usage or Usage(),
        end.finish_reason or "stop",
        end.cost,
        end.confidence,
        end.backend,
    )
