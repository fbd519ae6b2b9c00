"""The chat completions protocol of OpenAI, which most servers of LLMs speak: requests out, answers in."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import exp
from typing import Any, Literal

from ruvllm.errors import BackendError, ConfigError
from ruvllm.inference.backend import Message, Params, Usage
from ruvllm.text.surrogates import Joiner, well_formed

_HIDDEN = "[key]"
_TELLING = 8  # characters of a key that nobody should see
_ADDRESS = re.compile(r"\w+://[^\s'\"<>)\]]+|\b\d{1,3}(?:\.\d{1,3}){3}(?::\d+)?\b|\blocalhost:\d+\b")
_KEY = re.compile(r"\bBearer\s+\S+|\b(?:sk|pk|rk|gsk|xai|hf)[-_][\w*.-]{6,}|\bAIza[\w*-]{6,}", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class KeyFromEnvironment:
    """The name of the variable that holds a key, never the key itself.

    Args:
        variable: "" for a backend that wants no key.

    Raises:
        ConfigError: the variable is not set, or what it holds cannot be sent in a header.
    """

    variable: str

    def __post_init__(self) -> None:
        self.read()

    def read(self, environment: Mapping[str, str] = os.environ) -> str:
        """The key as it is now, so that a new one needs no restart; "" without a variable."""
        if not self.variable:
            return ""
        key = environment.get(self.variable, "").strip()
        if not key:
            message = f"the environment variable {self.variable} is not set"
            raise ConfigError(message, field="api_key_env", fix="set it to the backend's API key")
        if not key.isascii() or not key.isprintable() or " " in key:
            message = f"the environment variable {self.variable} holds no API key: blanks or odd characters are in it"
            raise ConfigError(message, field="api_key_env", fix="set it to the key alone")
        return key

    def headers(self, api: str = "openai") -> dict[str, str]:
        """What authorises a request to a server of this API."""
        key = self.read()
        if api == "anthropic":
            return {"anthropic-version": "2023-06-01"} | ({"x-api-key": key} if key else {})
        return {"Authorization": f"Bearer {key}"} if key else {}

    def hide(self, error: BackendError) -> BackendError:
        """The error without the key, in case a server repeated it."""
        key = os.environ.get(self.variable, "").strip() if self.variable else ""
        # An excerpt may have cut the key off, so its beginnings are looked for too.
        for length in range(len(key), min(_TELLING, len(key)) - 1, -1):
            if length and key[:length] in str(error):
                error.message = error.message.replace(key[:length], _HIDDEN)
                error.args = (str(error).replace(key[:length], _HIDDEN),)
        return error


def cleaned(text: str) -> str:
    """What a backend says, without the addresses and the keys in it: it goes to clients."""
    return _KEY.sub(_HIDDEN, _ADDRESS.sub("[address]", text))


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
    problem = body.get("error", body) if isinstance(body, dict) else body
    said, code = _said(body), _word(problem, "code")
    about = f"the backend answered {status}" + (f": {said}" if said else "")
    too_long = status >= 400 and _TOO_LONG.search(f"{code} {_word(problem, 'type')} {said}") is not None
    if too_long and status != 429:  # 500 of older servers, 413 of others
        fix = "shorten the conversation, or use a backend with a larger context"
        overflow = "context_length_exceeded"
        return BackendError(about, kind="refused", field="messages", fix=fix, code=overflow, status=400)
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
        fix, field = "change the request, or choose another backend", _word(problem, "param") or "backend"
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


def _word(problem: Any, name: str) -> str:
    """A field of an error that is a name for programs."""
    value = problem.get(name) if isinstance(problem, dict) else None
    return value if isinstance(value, str) and re.fullmatch(r"[\w.\[\]-]{1,64}", value, re.ASCII) else ""


MOST_EVENT = 4 << 20  # bytes that an event may have before its sender counts as broken
_BOM = b"\xef\xbb\xbf"


class EventReader:
    """The data of each event, as the HTML standard reads them: comments, ids and event names are left out.

    Pieces may end anywhere, inside a character too. Bytes that are no UTF-8 become U+FFFD.
    """

    def __init__(self) -> None:
        self._rest = b""  # of a line that has no end yet
        self._lines: list[bytes] = []  # of the event that has no end yet
        self._size = 0
        self._began = False

    def feed(self, piece: bytes) -> list[str]:
        """The events that this piece ends. Raises ValueError: an event of more than MOST_EVENT bytes."""
        data = self._rest + piece
        if not self._began:
            if len(data) < len(_BOM) and _BOM.startswith(data):
                self._rest = data
                return []
            self._began, data = True, data.removeprefix(_BOM)
        # A \r at the end may be half of \r\n: it waits for what follows.
        cut = max(data.rfind(b"\n"), data.rfind(b"\r", 0, len(data) - 1)) + 1
        self._rest = data[cut:]
        events = [event for line in data[:cut].splitlines() if (event := self._line(line)) is not None]
        if self._size + len(self._rest) > MOST_EVENT:
            raise ValueError(f"an event of more than {MOST_EVENT} bytes")
        return events

    def close(self) -> list[str]:
        """The event that the stream ended in without a blank line, if there is one."""
        # The standard drops it; servers that close right after their last line are common.
        rest, self._rest = self._rest, b""
        found = [self._line(line) for line in (*rest.splitlines(), b"")]
        return [event for event in found if event is not None]

    def _line(self, line: bytes) -> str | None:
        if line.startswith(b"data"):
            name, _, value = line.partition(b":")
            if name == b"data":
                self._lines.append(value.removeprefix(b" "))
                self._size += len(value)
        elif not line and self._lines:
            event = b"\n".join(self._lines).decode("utf-8", "replace")
            self._lines, self._size = [], 0
            return event
        return None


Dialect = Literal["openai", "llama.cpp", "vllm"]
# What the protocol itself lacks; the cloud refuses fields that it does not know.
DIALECTS: Mapping[Dialect, Mapping[str, str]] = {
    "openai": {},
    "llama.cpp": {"top_k": "top_k", "min_p": "min_p", "repeat_penalty": "repeat_penalty"},
    "vllm": {"top_k": "top_k", "min_p": "min_p", "repeat_penalty": "repetition_penalty"},
}


def request_body(
    model: str, messages: Sequence[Message], params: Params, dialect: Dialect, extra: Mapping[str, Any]
) -> dict[str, Any]:
    """A request, of a stream unless a client wants it whole, as JSON types: nothing that nobody asked for.

    `extra` fields come last; one that is None leaves a field out.
    """
    request = params.extra
    limit = "max_completion_tokens" if request.get("max_completion_tokens") is not None else "max_tokens"
    options = request.get("stream_options")
    fields: dict[str, Any] = {
        "model": model,
        "messages": request.get("messages") or [{"role": one.role, "content": one.content} for one in messages],
        limit: params.max_tokens,
        "temperature": params.temperature,
        "top_p": params.top_p,
        "stop": list(params.stop) or None,
        "seed": params.seed,
        "stream": bool(request.get("stream", True)) if params.api else True,
        "stream_options": {**(options if isinstance(options, Mapping) else {}), "include_usage": True},
    }
    if not fields["stream"]:
        del fields["stream_options"]
    fields |= {theirs: getattr(params, ours) for ours, theirs in DIALECTS[dialect].items()}
    if dialect == "vllm" and params.top_k == 0:
        fields["top_k"] = -1  # its own "all tokens"
    body = {**request, **{field: value for field, value in fields.items() if value is not None}, **extra}
    return {field: value for field, value in body.items() if value is not None}


@dataclass(slots=True)
class ChatReader:
    """Reads the events of one answer.

    Attributes:
        model: as the server names it.
        finish_reason: as in `Completion`, once the server said so.
        done: nothing follows.
        refused: the text is what the model says instead of an answer.
        called: there is a call of a tool, or a thought that is no part of the text.
    """

    text: str = ""
    model: str = ""
    finish_reason: str | None = None
    usage: Usage | None = None
    done: bool = False
    refused: bool = False
    called: bool = False
    _tools: bool = False
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
        return "".join(self._object(value) for value in objects(data))

    def _object(self, value: Any) -> str:
        if not isinstance(value, dict):
            raise garbled(value)
        if value.get("error"):
            raise failure(status_of(value["error"]), value)
        if value.get("object") == "error":  # of vLLM, whose errors have no envelope
            raise failure(status_of(value), value)
        self.model = well_formed(_text(value.get("model"))) or self.model
        self.usage = _usage(value.get("usage")) or self.usage
        choices = value.get("choices")
        if choices is None:  # a last event with the usage alone, or a server's own kind of event
            if self.usage is None and "object" not in value:
                raise garbled(value)
            return ""
        if not isinstance(choices, list) or not all(isinstance(choice, dict) for choice in choices):
            raise garbled(value)
        # Of several answers ruvllm reads the first; the others would be mixed into it.
        return "".join(self._choice(choice) for choice in choices if not choice.get("index"))

    def _choice(self, choice: dict[str, Any]) -> str:
        # A server that does not stream answers with a message; old ones know only `text`.
        said = choice.get("delta") or choice.get("message")
        if not isinstance(said, dict):
            said = {}
        self._tools = self._tools or bool(said.get("tool_calls") or said.get("function_call"))
        self.called = self._tools or self.called or bool(said.get("reasoning_content") or said.get("reasoning"))
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
        if self._tools or theirs in ("tool_calls", "function_call"):
            return "tool_calls"
        return "refusal" if self.refused else "stop"

    def _count(self, logprobs: Any) -> None:
        tokens = logprobs.get("content") if isinstance(logprobs, dict) else None
        for token in tokens if isinstance(tokens, list) else ():
            value = token.get("logprob") if isinstance(token, dict) else None
            if isinstance(value, int | float) and value <= 0:
                self._logprobs += value
                self._tokens += 1


def objects(data: str) -> list[Any]:
    """The JSON of an event: one value, or one per line from servers that leave out the blank lines."""
    try:
        return [json.loads(data)]
    except (ValueError, RecursionError):
        lines = [line for line in data.splitlines() if line.strip() not in ("", "[DONE]")]
        try:
            return [json.loads(line) for line in lines]
        except (ValueError, RecursionError):
            raise garbled(data) from None


def garbled(value: Any) -> BackendError:
    """The error of an answer that is none of this protocol."""
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
    details = value.get("prompt_tokens_details")
    cached = details.get("cached_tokens") if isinstance(details, dict) else 0
    cached = cached if isinstance(cached, int) and 0 <= cached <= counts[0] else 0
    return Usage(counts[0], counts[1], cached_tokens=cached)
