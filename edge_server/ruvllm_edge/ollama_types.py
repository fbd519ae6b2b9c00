"""The JSON of Ollama's API, as far as it is served."""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta, Struct


class OllamaError(Struct):
    """What went wrong."""

    error: str


class OllamaAsking(Struct):
    """What a chat and a prompt have in common."""

    model: Annotated[str, Meta(min_length=1, max_length=300)]
    stream: bool | None = None
    format: str | dict[str, Any] | None = None
    options: dict[str, Any] | None = None
    think: bool | str | None = None
    keep_alive: float | str | None = None
    logprobs: bool | None = None


class OllamaChat(OllamaAsking, kw_only=True):
    """A conversation to go on with; without messages the answer is empty."""

    messages: Annotated[list[dict[str, Any]], Meta(max_length=10_000)] = []
    tools: list[dict[str, Any]] | None = None


class OllamaGenerate(OllamaAsking, kw_only=True):
    """A prompt to be answered; without one the answer is empty."""

    prompt: str = ""
    system: str | None = None
    images: list[str] | None = None
    suffix: str | None = None
    template: str | None = None
    context: list[int] | None = None
    raw: bool | None = None


class OllamaAnswer(Struct):
    """A whole answer: `message` of a chat, `response` to a prompt."""

    model: str
    created_at: str
    done: bool
    done_reason: str
    message: dict[str, Any] | None = None
    response: str | None = None


class OllamaEmbed(Struct):
    """Texts to be placed in the space that tasks and memories share."""

    model: str
    input: str | Annotated[list[str], Meta(max_length=2_048)]
    dimensions: Annotated[int, Meta(ge=1)] | None = None


class OllamaEmbeddings(Struct):
    """A unit vector for each text."""

    model: str
    embeddings: list[list[float]]
    total_duration: int
    prompt_eval_count: int
    load_duration: int = 0


class OllamaModel(Struct):
    """A name that `model` may have."""

    name: str
    model: str
    digest: str
    details: dict[str, Any]
    modified_at: str = "1970-01-01T00:00:00Z"
    size: int = 0


class OllamaTags(Struct):
    """All of them."""

    models: list[OllamaModel]


class OllamaVersion(Struct):
    """Of this server."""

    version: str
