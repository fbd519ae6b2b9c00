"""The JSON of OpenAI's API, as far as it is served."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType


class Part(Struct):
    """A part of a message; what was said or refused is read, anything else goes to servers that know it."""

    type: str
    text: str | None = None
    refusal: str | None = None


class Turn(Struct):
    """One message."""

    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str | list[Part] | None = None
    tool_calls: list[dict[str, Any]] | None = None


class StreamOptions(Struct):
    """What a stream tells beside the text."""

    include_usage: bool | None = None


class ChatBody(Struct):
    """A conversation to go on with."""

    messages: Annotated[list[Turn], Meta(min_length=1, max_length=10_000)]
    model: Annotated[str, Meta(min_length=1, max_length=300)] = "auto"
    max_tokens: Annotated[int, Meta(ge=1, le=1_000_000)] | None = None
    max_completion_tokens: Annotated[int, Meta(ge=1, le=1_000_000)] | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(gt=0, le=1)] | None = None
    stop: str | Annotated[list[str], Meta(max_length=16)] | None = None
    seed: Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)] | None = None
    top_k: Annotated[int, Meta(ge=0, le=1_000_000)] | None = None
    min_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    repeat_penalty: Annotated[float, Meta(gt=0, le=10)] | None = None
    repetition_penalty: Annotated[float, Meta(gt=0, le=10)] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    n: Annotated[int, Meta(ge=1, le=128)] | None = None
    logprobs: bool | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: Any = None
    functions: list[dict[str, Any]] | None = None
    function_call: Any = None
    modalities: list[str] | None = None
    response_format: dict[str, Any] | None = None


class Said(Struct):
    """What was answered, or said instead."""

    content: str | None
    role: str = "assistant"
    refusal: str | None = None


class Choice(Struct):
    """The one answer."""

    message: Said
    finish_reason: str
    index: int = 0
    logprobs: None = None


class TokenUsage(Struct):
    """Tokens."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class Chat(Struct):
    """A whole answer."""

    id: str
    created: int
    model: str
    choices: list[Choice]
    usage: TokenUsage
    object: str = "chat.completion"


class StreamDelta(Struct, omit_defaults=True):
    """A piece of what is answered."""

    role: str | None = None
    content: str | None = None
    refusal: str | None = None


class ChunkChoice(Struct):
    """A piece of the one answer."""

    delta: StreamDelta
    finish_reason: str | None = None
    index: int = 0
    logprobs: None = None


class Chunk(Struct):
    """A piece of an answer."""

    id: str
    created: int
    model: str
    choices: list[ChunkChoice]
    usage: TokenUsage | None = None
    object: str = "chat.completion.chunk"


class CompletionBody(Struct):
    """One prompt or several, each of which is answered."""

    prompt: str | Annotated[list[str | int | list[int]], Meta(min_length=1, max_length=64)]
    model: Annotated[str, Meta(min_length=1, max_length=300)] = "auto"
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    n: Annotated[int, Meta(ge=1, le=128)] | None = None
    best_of: Annotated[int, Meta(ge=0, le=128)] | None = None
    echo: bool | None = None
    logprobs: Annotated[int, Meta(ge=0, le=128)] | None = None
    suffix: str | None = None


class CompletionChoice(Struct):
    """An answer to one prompt, or a piece of it."""

    text: str
    index: int
    finish_reason: str | None = None
    logprobs: None = None


class TextCompletion(Struct):
    """The answers, or a piece of one."""

    id: str
    created: int
    model: str
    choices: list[CompletionChoice]
    usage: TokenUsage | None = None
    object: str = "text_completion"


class EmbeddingBody(Struct):
    """Texts to be placed in the space that tasks and memories share."""

    input: str | Annotated[list[str | int | list[int]], Meta(max_length=2_048)]
    model: str = "auto"
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: Annotated[int, Meta(ge=1)] | None = None


class Embedding(Struct):
    """A unit vector: numbers, or little-endian float32 in base64; `truncated` where only the beginning was read."""

    index: int
    embedding: list[float] | str
    object: str = "embedding"
    truncated: bool | UnsetType = UNSET


class EmbeddingUsage(Struct):
    """Tokens, about."""

    prompt_tokens: int
    total_tokens: int


class Embeddings(Struct):
    """One for each text."""

    data: list[Embedding]
    model: str
    usage: EmbeddingUsage
    object: str = "list"


class Model(Struct):
    """A name that `model` may have, in OpenAI's words and in Anthropic's: both ask at this path."""

    id: str
    owned_by: str
    display_name: str
    created: int = 0
    created_at: str = "1970-01-01T00:00:00Z"
    object: str = "model"
    type: str = "model"


class Models(Struct):
    """All of them."""

    data: list[Model]
    first_id: str
    last_id: str
    has_more: bool = False
    object: str = "list"


class ErrorDetail(Struct):
    """What went wrong."""

    message: str
    type: str
    param: str | None = None
    code: str | None = None
    fix: str = ""


class ErrorBody(Struct):
    """An error as OpenAI's clients read it."""

    error: ErrorDetail
