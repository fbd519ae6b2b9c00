"""What an endpoint is: a handler with the types of what goes in and out, from which the API document is made too."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from starlette.types import ASGIApp

from ruvllm.inference.backend import TRACE
from ruvllm_edge.auth import Key
from ruvllm_edge.problems import Problem, ProblemBody

if TYPE_CHECKING:
    from ruvllm_edge.edge import Edge


JSON = b"application/json"
EVENTS = b"text/event-stream; charset=utf-8"
LINES = b"application/x-ndjson"  # one JSON value a line
PASSED = frozenset({"anthropic-beta", "anthropic-version", "openai-beta", *TRACE})  # headers that go on to a server


@dataclass(frozen=True, slots=True)
class Style:
    """How errors look to the clients of one API.

    Attributes:
        media: their content type.
        body: makes what is encoded of a problem.
        schema: the type of it.
    """

    media: bytes
    body: Callable[[Problem, str], Any]
    schema: Any
    statuses: Mapping[int, int] = field(default_factory=dict)  # where this API has other ones


PROBLEMS = Style(b"application/problem+json", Problem.body, ProblemBody)


@dataclass(slots=True)
class Call:
    """One request that was let in."""

    body: Any
    query: Any
    path: dict[str, str]
    key: Key
    request_id: str
    raw: Any = None  # the body with all of its fields, where the operation is passing
    headers: dict[str, str] = field(default_factory=dict)  # of PASSED that came, where it is; else those of TRACE


@dataclass(slots=True)
class Reply:
    """A value with headers of its own, or bytes of another media type."""

    value: Any
    headers: dict[str, str] = field(default_factory=dict)
    status: int = 0  # 0: the operation's
    media: bytes = JSON


@dataclass(slots=True)
class Stream:
    """Server-sent events, each item one whole event or a comment, or LINES, each item one of them."""

    events: AsyncIterator[bytes]
    headers: dict[str, str] = field(default_factory=dict)
    media: bytes = EVENTS


@dataclass(slots=True)
class Served:
    """An ASGI application that answers the request itself."""

    app: ASGIApp


Handler = Callable[["Edge", Call], Awaitable[Any]]


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of one path.

    Attributes:
        path: with parameters in braces; `{id:path}` may hold slashes.
        body: type of the request's JSON, `bytes` for anything else, None for no body.
        optional: whether the body may be missing.
        query: a Struct of the query's parameters.
        answer: type of the answer's JSON, `bytes` for anything else; None for none (204).
        tag: the part of the API document.
        style: of its errors.
        public: whether it needs no key.
        passing: whether fields of the body that its type does not know have a meaning too.
        waits: whether it waits for a backend: then it has a time limit and ends when the client leaves.
        most: bytes of the body; 0 for the server's setting named `limit`.
        later: whether it may be answered with 202 before it is done.
        example: a body, for the document.
        media: what the answer may be.
        answer_503: type of what is answered instead of a problem while the server is not ready.
    """

    method: str
    path: str
    handler: Handler
    summary: str
    body: Any = None
    optional: bool = False
    query: Any = None
    answer: Any = None
    tag: str = "ruvllm"
    style: Style = PROBLEMS
    public: bool = False
    passing: bool = False
    waits: bool = False
    most: int = 0
    limit: str = "max_body"
    status: int = 200
    later: bool = False
    example: Any = None
    media: tuple[str, ...] = ("application/json",)
    answer_503: Any = None

    @property
    def plain_path(self) -> str:
        """As documents and metrics write it."""
        return self.path.replace(":path}", "}").replace(":int}", "}")
