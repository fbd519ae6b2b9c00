"""Errors as RFC 9457 problems, in the words of ruvllm's own errors: the field at fault, and the fix."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from difflib import get_close_matches
from http import HTTPStatus
from math import ceil
from typing import Any

import msgspec

from ruvllm import AgentFileError, ConfigError, InputError, RuvllmError, StoreError
from ruvllm_edge.logs import event

_WHERE = re.compile(r" - at `\$\.?(.*)`$")
_BACKEND = {"timeout": 504, "unavailable": 503, "rate_limited": 429, "bad_response": 502, "refused": 502}

# What other keys than an administrator's are told of a backend: neither its address nor its own words.
_SUMMARIES = {
    "timeout": "the model took too long",
    "unavailable": "no model can be reached",
    "rate_limited": "the model has too much to do",
    "bad_response": "the model gave no usable answer",
    "refused": "the model refused the request",
}
_REQUEST_FIELDS = frozenset({"messages", "max_latency_ms"})  # fields of the request: ruvllm's own words about it
_REQUEST_FAULTS = frozenset({400, 413, 422})  # a backend's status for what is wrong with the request
_SEE_LOG = "see the server's log for this request_id, or ask with an administrator's key"


@dataclass(frozen=True, slots=True)
class Caller:
    """Who is to be answered, and whether nothing need be held back."""

    request_id: str = ""
    admin: bool = False


CALLER: ContextVar[Caller] = ContextVar("caller", default=Caller())  # noqa: B039 - it is frozen


class ProblemBody(msgspec.Struct, rename={"kind": "type"}, omit_defaults=True):
    """What went wrong (RFC 9457, application/problem+json)."""

    title: str
    status: int
    detail: str
    message: str  # the detail under the name that ruvllm's errors have for it
    kind: str = "about:blank"
    field: str = ""
    fix: str = ""
    request_id: str = ""
    name: str = ""  # of the core's error, as it is called on every host


class Problem(Exception):  # noqa: N818 - the word of RFC 9457
    """An answer other than the one that was asked for.

    Args:
        status: of HTTP.
        message: what went wrong, in one sentence.
        field: where.
        fix: what the caller can do about it.
        name: of the core's error that it comes from.
        code: what went wrong in a word for programs.
        headers: to be sent with it.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        field: str = "",
        fix: str = "",
        headers: Mapping[str, str] | None = None,
        name: str = "",
        code: str = "",
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.field, self.fix, self.name = status, message, field, fix, name
        self.code = code
        self.headers = dict(headers or {})

    def body(self, request_id: str = "") -> Any:
        """As it is sent to clients of ruvllm's own API."""
        title = HTTPStatus(self.status).phrase
        return ProblemBody(
            title, self.status, self.message, self.message, "about:blank", self.field, self.fix, request_id, self.name
        )


def unsupported(name: str, why: str, fix: str = "leave it out") -> Problem:
    """A field of another API that nothing here can heed."""
    return Problem(400, f"{name} {why}", field=name, fix=fix, code="unsupported_parameter")


def problem_of(error: Exception) -> Problem:
    """The answer to an error; nothing of one that was not foreseen is told. What is held back is logged."""
    if isinstance(error, Problem):
        return error
    if isinstance(error, msgspec.DecodeError):
        return unreadable(error)
    if isinstance(error, RuvllmError):
        status, headers = _status(error)
        message, field, fix = _disclosed(error, status)
        return Problem(
            status, message, field=field, fix=fix, headers=headers, name=type(error).__name__, code=error.code
        )
    if isinstance(error, TimeoutError):
        return Problem(504, "the answer took too long", fix="ask for fewer tokens, or try again")
    return Problem(500, "something went wrong in the server", fix="see its log for this request_id")


def _disclosed(error: RuvllmError, status: int) -> tuple[str, str, str]:
    """(message, field, fix) for who asked: addresses, paths and others' words are an administrator's."""
    caller, kind = CALLER.get(), getattr(error, "kind", "")
    about_request = error.field in _REQUEST_FIELDS or getattr(error, "status", 0) in _REQUEST_FAULTS
    if status < 500 and not kind:
        return error.message, error.field, error.fix
    event(logging.WARNING, "failed", request=caller.request_id, problem=str(error)[:300], kind=kind)
    if caller.admin or about_request:
        return error.message, error.field, error.fix
    if kind:
        return _SUMMARIES[kind], "", _SEE_LOG
    what = "the server's state" if isinstance(error, StoreError) else "something in the server"
    return f"{what} cannot be used", "", _SEE_LOG


def _status(error: RuvllmError) -> tuple[int, dict[str, str]]:
    kind = getattr(error, "kind", None)
    if status := getattr(error, "status", 0):  # the same request will fail again: it is no 5xx, which clients retry
        return status, {}
    if kind in _BACKEND:
        wait = getattr(error, "retry_after", None)
        return _BACKEND[kind], {} if wait is None else {"retry-after": str(ceil(wait))}
    if isinstance(error, StoreError):
        return 503, {"retry-after": "1"}
    if isinstance(error, InputError | AgentFileError | ConfigError):
        return 422, {}
    return 500, {}


def unreadable(error: msgspec.DecodeError, names: Iterable[str] = ()) -> Problem:
    """Of a body that is no JSON (400), or not of the right shape (422).

    Args:
        names: of the fields that it may have.
    """
    text = str(error)
    if not isinstance(error, msgspec.ValidationError):
        return Problem(400, f"the body is no JSON: {text}", field="body", fix="send UTF-8 JSON")
    where = _WHERE.search(text)
    field = where[1] if where else ""
    message = _WHERE.sub("", text)
    missing = re.search(r"missing required field `(.+?)`", message)
    if missing:
        field = f"{field}.{missing[1]}".lstrip(".")
    fix = "see /docs for what it takes"
    if strange := re.search(r"unknown field `(.+?)`", message):
        field, near = f"{field}.{strange[1]}".lstrip("."), get_close_matches(strange[1], [*names], 1)
        fix = f"did you mean {near[0]}? {fix}" if near else f"leave it out; {fix}"
        message = "there is no such field"
    return Problem(422, f"{field or 'body'}: {message}", field=field or "body", fix=fix)


def too_many(message: str, seconds: float, field: str = "", status: int = 429, code: str = "") -> Problem:
    """Come again later."""
    wait = max(1, ceil(seconds))
    headers = {"retry-after": str(wait)}
    return Problem(status, message, field=field, fix=f"try again in {wait} s", headers=headers, code=code)
