"""Errors as RFC 9457 problems, in the words of ruvllm's own errors: the field at fault, and the fix."""

from __future__ import annotations

import re
from collections.abc import Mapping
from http import HTTPStatus
from math import ceil
from typing import Any

import msgspec

from ruvllm import AgentFileError, ConfigError, InputError, RuvllmError, StoreError

__all__ = ["Problem", "ProblemBody", "problem_of", "too_many", "unreadable"]

_WHERE = re.compile(r" - at `\$\.?(.*)`$")
_BACKEND = {"timeout": 504, "unavailable": 503, "rate_limited": 429, "bad_response": 502, "refused": 502}


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


def problem_of(error: Exception) -> Problem:
    """The answer to an error; nothing of one that was not foreseen is told."""
    if isinstance(error, Problem):
        return error
    if isinstance(error, msgspec.DecodeError):
        return unreadable(error)
    if isinstance(error, RuvllmError):
        status, headers = _status(error)
        name, code = type(error).__name__, error.code
        return Problem(status, error.message, field=error.field, fix=error.fix, headers=headers, name=name, code=code)
    if isinstance(error, TimeoutError):
        return Problem(504, "the answer took too long", fix="ask for fewer tokens, or try again")
    return Problem(500, "something went wrong in the server", fix="see its log for this request_id")


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


def unreadable(error: msgspec.DecodeError) -> Problem:
    """Of a body that is no JSON (400), or not of the right shape (422)."""
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
    return Problem(422, f"{field or 'body'}: {message}", field=field or "body", fix=fix)


def too_many(message: str, seconds: float, field: str = "", status: int = 429) -> Problem:
    """Come again later."""
    wait = max(1, ceil(seconds))
    return Problem(status, message, field=field, fix=f"try again in {wait} s", headers={"retry-after": str(wait)})
