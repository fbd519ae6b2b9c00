"""An answer on its way through: read for what ruvllm has to know, and passed on in its client's words."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from ruvllm.errors import BackendError
from ruvllm.inference.backend import Message, Params
from ruvllm.inference.chat_wire import ChatReader, Dialect, failure, garbled, objects, request_body, status_of
from ruvllm.inference.translate.answers import ToAnthropic, ToOpenAi
from ruvllm.inference.translate.requests import to_anthropic, to_openai

_HALF = re.compile(r"\\u[dD][89a-fA-F]")  # half a character, which the next event may complete
_USAGE_ALONE = re.compile(r'"choices"\s*:\s*\[\s*\]')
_REASON = re.compile(r'"finish_reason"\s*:\s*"(?!(?:stop|length|tool_calls|function_call|content_filter)")')
# What a message of the wrong shape leads to, where its parts are taken out.
MISSHAPEN = (AttributeError, TypeError, KeyError, IndexError, ValueError, RecursionError)


class Piece(NamedTuple):
    """What a server said at once: its text, and what the client gets of it (see `Chunk`)."""

    text: str
    events: tuple[str, ...] = ()
    whole: bool = False


def body_for(
    api: str, model: str, messages: Sequence[Message], params: Params, dialect: Dialect, extra: Mapping[str, Any]
) -> dict[str, Any]:
    """The JSON of a request to a server of an API, from a client of the same one, of the other, or of ruvllm's own.

    Args:
        api: of the server, one of APIS.
        extra: fields that come last; None leaves a field out.

    Raises:
        BackendError: the client's request has what the server's API has not.
    """
    stream = bool(params.extra.get("stream", True)) if params.api else True
    if params.api == api == "anthropic":
        body = {**params.extra, "model": model, "stream": stream, **extra}
        return {name: value for name, value in body.items() if value is not None}
    try:
        if params.api == "anthropic":
            params = replace(params, extra=to_openai(params.extra))
        if api == "openai":
            return request_body(model, messages, params, dialect, extra)
        body = to_anthropic(request_body(model, messages, params, dialect, {})) | {"model": model, "stream": stream}
        return {name: value for name, value in (body | dict(extra)).items() if value is not None}
    except MISSHAPEN as bad:
        message = f"the messages are not as their API has them ({type(bad).__name__})"
        fix = "see the documentation of that API"
        raise BackendError(message, kind="refused", field="messages", fix=fix, status=400) from None


@dataclass(slots=True)
class Relay:
    """Reads one answer.

    Args:
        api: of the server, one of APIS.
        client: API of who gets it, "" for nobody but ruvllm.
        usage: whether the client wants the event of the usage alone.
        tokens: of the prompt, about.
    """

    api: str = "openai"
    client: str = ""
    usage: bool = False
    tokens: int = 0
    reader: ChatReader = field(default_factory=ChatReader)
    _halves: bool = False
    _ours: ToOpenAi = field(default_factory=ToOpenAi)
    _theirs: ToAnthropic = field(init=False)

    def __post_init__(self) -> None:
        self._theirs = ToAnthropic("answer", self.tokens)

    def read(self, data: str) -> Piece:
        """The data of one event, or a whole answer.

        Raises:
            BackendError: an error that the server reports, or data that its API does not know.
        """
        try:
            return self._anthropic(data) if self.api == "anthropic" else self._openai(data)
        except MISSHAPEN:
            raise garbled(data) from None

    def close(self) -> tuple[str, ...]:
        """The client's last events, when the server's are all there."""
        mine = self.client == "anthropic" and self.api != "anthropic"
        return tuple(map(json.dumps, self._theirs.close())) if mine else ()

    def _openai(self, data: str) -> Piece:
        text = self.reader.read(data)
        if not self.client or data.strip() == "[DONE]":
            return Piece(text)
        found = objects(data)
        whole = any("message" in choice for value in found for choice in value.get("choices") or ())
        self._halves = self._halves or _HALF.search(data) is not None
        if self.client == "anthropic":
            found = [self._mended(value, text) for value in found]
            events = [self._theirs.whole(value) for value in found] if whole else []
            events = events or [event for value in found for event in self._theirs.feed(value)]
            return Piece(text, tuple(map(json.dumps, events)), whole)
        if len(found) == 1 and not (self._halves or _REASON.search(data) or "\n" in data):
            return Piece(text, () if self._unwanted(data) else (data,), whole)
        events = [self._mended(value, text) for value in found]
        return Piece(text, tuple(event for event in map(json.dumps, events) if not self._unwanted(event)), whole)

    def _unwanted(self, data: str) -> bool:
        return not self.usage and _USAGE_ALONE.search(data) is not None

    def _mended(self, value: dict[str, Any], text: str) -> dict[str, Any]:
        """With whole characters, and one of OpenAI's words for why it ended."""
        for choice in value.get("choices") or ():
            place = "message" if "message" in choice else "delta"
            said = choice.get(place) or {}
            if self._halves and not choice.get("index") and (text or "content" in said):
                choice[place] = said | {"content": text}
            if choice.get("finish_reason") and _REASON.search(json.dumps(choice)):
                choice["finish_reason"] = {"refusal": "stop"}.get(
                    self.reader.finish_reason or "", self.reader.finish_reason
                )
        return value

    def _anthropic(self, data: str) -> Piece:
        value = json.loads(data)
        kind = value.get("type")
        if kind == "error":
            raise failure(status_of(value.get("error")), value)
        if kind == "message":
            body = self._ours.whole(value)
            text = self.reader.read(json.dumps(body))
            return Piece(text, (data if self.client == "anthropic" else json.dumps(body),), True)
        chunks = self._ours.feed(value)
        text = "".join(self.reader.read(json.dumps(chunk)) for chunk in chunks)
        if kind == "message_stop":
            self.reader.read("[DONE]")
        if self.client == "anthropic":
            return Piece(text, (data,))
        events = tuple(event for event in map(json.dumps, chunks) if not self._unwanted(event))
        return Piece(text, events if self.client else ())
