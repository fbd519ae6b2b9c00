"""The JSON of Anthropic's messages API, as far as it is served."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct


class Block(Struct):
    """A part of a message: text, or a tool's call or result, which backends read as text."""

    type: str
    text: str | None = None
    name: str | None = None
    input: Any = None
    content: Any = None
    is_error: bool | None = None


class AnthropicTurn(Struct):
    """One message."""

    role: Literal["user", "assistant", "system"]  # of the last, newer clients put some between the others
    content: str | list[Block]


class CountBody(Struct):
    """A conversation whose tokens are to be counted."""

    messages: Annotated[list[AnthropicTurn], Meta(min_length=1, max_length=10_000)]
    model: Annotated[str, Meta(min_length=1, max_length=300)] = "auto"
    system: str | list[Block] | None = None


class MessagesBody(Struct):
    """A conversation to go on with."""

    messages: Annotated[list[AnthropicTurn], Meta(min_length=1, max_length=10_000)]
    max_tokens: Annotated[int, Meta(ge=1, le=1_000_000)]
    model: Annotated[str, Meta(min_length=1, max_length=300)] = "auto"
    system: str | list[Block] | None = None
    temperature: Annotated[float, Meta(ge=0, le=1)] | None = None
    top_p: Annotated[float, Meta(gt=0, le=1)] | None = None
    stop_sequences: Annotated[list[str], Meta(max_length=64)] | None = None
    stream: bool | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: dict[str, Any] | None = None


class TextBlock(Struct):
    """What was answered."""

    text: str
    type: str = "text"


class AnthropicUsage(Struct):
    """Tokens."""

    input_tokens: int
    output_tokens: int


class MessageAnswer(Struct):
    """An answer."""

    id: str
    model: str
    content: list[TextBlock]
    usage: AnthropicUsage
    stop_reason: str | None = None
    stop_sequence: str | None = None
    type: str = "message"
    role: str = "assistant"


class TokenCount(Struct):
    """How many, about."""

    input_tokens: int


class AnthropicErrorDetail(Struct):
    """What went wrong."""

    type: str
    message: str
    field: str = ""
    fix: str = ""


class AnthropicError(Struct):
    """An error as Anthropic's clients read it."""

    error: AnthropicErrorDetail
    type: str = "error"
    request_id: str = ""
