"""What a backend's error means: its kind, and what clients may know of it."""

from __future__ import annotations

import re
from typing import Any

from ruvllm.errors import BackendError
from ruvllm.inference.secrets import cleaned
from ruvllm.text.surrogates import well_formed

__all__ = ["failure", "status_of"]

_EXCERPT = 200
# How servers say that a prompt is too long: OpenAI, vLLM, DeepSeek and OpenRouter; Anthropic; llama.cpp; Ollama;
# SGLang; LM Studio; TGI; Gemini; xAI; Groq and Cerebras; Mistral; Bedrock; Copilot.
_TOO_LONG = re.compile(
    r"context_(?:length|window)_exceeded|exceed_context_size|maximum (?:context|model|prompt) length"
    r"|prompt (?:is )?too long|exceeds? (?:the )?(?:\w+ )?context (?:size|length|window|limit)"
    r"|(?:longer|greater) than the (?:model'?s )?(?:maximum )?context length|context length of only"
    r"|`?inputs`? (?:tokens \+|must have less than)|input token count.*exceeds|token count of \d+ exceeds"
    r"|reduce the length of the messages|input is too long for requested model",
    re.IGNORECASE,
)
# What the status would have been of an error that comes in a stream, by words in its code or type.
_WORDS = (
    ("rate_limit", 429),
    ("quota", 429),
    ("too_many", 429),
    ("overloaded", 503),
    ("invalid_request", 400),
    ("badrequest", 400),
    ("authentication", 401),
    ("invalid_api_key", 401),
    ("permission", 403),
    ("not_found", 404),
    ("too_large", 413),
)


def failure(status: int, body: Any, retry_after: float | None = None) -> BackendError:
    """The error that a response of this HTTP status stands for; `body` is what it says, as JSON types or text.

    The message holds what the backend said, without addresses and keys.
    """
    told = body.get("error", body) if isinstance(body, dict) else body
    said, code = _said(body), _word(told, "code")
    about = f"the backend answered {status}" + (f": {said}" if said else "")
    too_long = status >= 400 and _TOO_LONG.search(f"{code} {_word(told, 'type')} {said}") is not None
    if too_long and status != 429:  # 500 of older servers, 413 of others
        fix = "shorten the conversation, or use a backend with a larger context"
        known = "context_length_exceeded"
        return BackendError(about, kind="refused", field="messages", fix=fix, code=known, status=400)
    if status == 429:
        fix = "send fewer requests, or wait"
        return BackendError(about, kind="rate_limited", retry_after=retry_after, fix=fix, code=code)
    if status == 408 or status >= 500:
        return BackendError(about, kind="unavailable", retry_after=retry_after, fix="see the backend's own log")
    if status in (401, 403):
        fix = "check the API key in the environment"
        return BackendError(about, kind="refused", field="api_key_env", fix=fix, code=code, status=status)
    if status == 404:
        fix = "check url (it ends in /v1) and model"
        return BackendError(about, kind="refused", field="url", fix=fix, code=code, status=status)
    if 400 <= status < 500:
        fix, field = "change the request, or choose another backend", _word(told, "param") or "backend"
        return BackendError(about, kind="refused", field=field, fix=fix, code=code, status=status)
    return BackendError(about, kind="bad_response", field="url", fix="check that url leads to the API itself")


def status_of(error: Any) -> int:
    """What the status would have been of an error that comes in a stream."""
    if not isinstance(error, dict):
        return 500
    for code in (error.get("code"), error.get("status")):
        if isinstance(code, str) and re.fullmatch(r"[45]\d\d", code):
            code = int(code)
        if isinstance(code, int) and 400 <= code < 600:
            return code
    words = f"{error.get('code')} {error.get('type')}".lower()
    return next((status for word, status in _WORDS if word in words), 500)


def _said(body: Any) -> str:
    """The message in an error's body, whatever its shape."""
    for _ in range(3):
        if isinstance(body, dict):
            body = body.get("error") or body.get("message") or body.get("detail") or ""
    return cleaned(" ".join(well_formed(str(body)).split()))[:_EXCERPT]


def _word(told: Any, name: str) -> str:
    """A field of an error that is a name for programs."""
    value = told.get(name) if isinstance(told, dict) else None
    return value if isinstance(value, str) and re.fullmatch(r"[\w.\[\]-]{1,64}", value, re.ASCII) else ""
