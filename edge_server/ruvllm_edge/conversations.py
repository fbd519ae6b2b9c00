"""What a conversation of an agent asks now, and which backend it is with."""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from time import monotonic
from typing import Any, NamedTuple

from ruvllm import InputError

__all__ = ["Conversations", "StoredResponse", "StoredResponses", "question_of"]

# What agents' programs put around what their user said.
_HARNESS = re.compile(
    r"<(system-reminder|environment_context|user_instructions|local-command-stdout|command-name|command-message"
    r"|INSTRUCTIONS|turn_aborted|user_shell_command|subagent_notification|recommended_plugins)>"
    r".*?</\1>",
    re.DOTALL,
)
_PASTED = re.compile(r"```.*?```", re.DOTALL)
_READ = ("text", "input_text", "tool_result")
_LONG = 4_000  # characters of a question; of a longer one the beginning and the end are read


def question_of(turns: Sequence[Mapping[str, Any]]) -> tuple[str, bool]:
    """(what the user said last, whether tools have answered since).

    What tools gave, what a program put around the user's words and long blocks of code are left out of it.

    Args:
        turns: messages of either API as JSON types.

    Raises:
        InputError: the user said nothing.
    """
    looping, seen = False, ""
    for turn in reversed(turns):
        if turn.get("role") != "user":
            looping = looping or turn.get("role") in ("tool", "function")
            continue
        content = turn.get("content")
        parts = [{"type": "text", "text": content}] if isinstance(content, str) else content or ()
        texts = [str(part.get("text") or "") for part in parts if part.get("type") in ("text", "input_text")]
        said = _HARNESS.sub("", "\n".join(texts)).strip()
        if said:
            return _shortened(said), looping
        looping = looping or any(part.get("type") == "tool_result" for part in parts)
        others = (str(part.get("type")) for part in parts if part.get("type") not in _READ)
        seen = seen or next((f"[{kind}]"[:40] for kind in others), "")
    if seen and not looping:
        return seen, False
    raise InputError("no message is by the user", field="messages", fix='add one with the role "user"')


def _shortened(text: str) -> str:
    if len(text) > _LONG:
        text = _PASTED.sub("", text).strip() or text
    return text if len(text) <= _LONG else f"{text[: _LONG // 2]}\n{text[-_LONG // 2 :]}"


class Conversations:
    """Which backend a conversation is with, so that it stays where its beginning is cached.

    Args:
        most: of them; the ones used longest ago are forgotten.
    """

    def __init__(self, most: int = 10_000) -> None:
        self._most = most
        self._with: OrderedDict[bytes, str] = OrderedDict()

    @staticmethod
    def name(key: str, user: str, turns: Sequence[Mapping[str, Any]]) -> bytes:
        """Of a conversation: by whose key, which user (or session) it is, and its first words of a user."""
        first = next((turn.get("content") for turn in turns if turn.get("role") == "user"), "")
        return sha256(repr((key, user, first)).encode("utf-8", "replace")).digest()

    def get(self, name: bytes) -> str:
        """The backend's name, "" where there is none yet."""
        return self._with.get(name, "")

    def put(self, name: bytes, backend: str) -> None:
        """Remember it."""
        self._with[name] = backend
        self._with.move_to_end(name)
        if len(self._with) > self._most:
            self._with.popitem(last=False)


class StoredResponse(NamedTuple):
    """An answer of the Responses API that a later request may go on from.

    Attributes:
        owner: the key it belongs to, "" where none is needed.
        response: as its client got it.
        items: of the conversation up to and with it.
        size: bytes of them, about.
        until: by the clock.
    """

    owner: str
    response: Mapping[str, Any]
    items: Sequence[Mapping[str, Any]]
    size: int
    until: float


class StoredResponses:
    """Answers in memory, for a time; the oldest are forgotten where they become too many.

    Args:
        ttl: seconds.
        most: of them.
        most_bytes: of all their conversations.
        clock: seconds, monotonic.
    """

    def __init__(self, ttl: float, most: int, most_bytes: int, clock: Callable[[], float] = monotonic) -> None:
        self._ttl, self._most, self._most_bytes, self._clock = ttl, most, most_bytes, clock
        self._by_id: OrderedDict[str, StoredResponse] = OrderedDict()
        self._of_item: dict[str, str] = {}  # the answer that an item is of, by its id
        self._size = 0

    def put(self, owner: str, response: Mapping[str, Any], items: Sequence[Mapping[str, Any]], size: int) -> None:
        """Store an answer."""
        self._by_id[response["id"]] = StoredResponse(owner, response, items, size, self._clock() + self._ttl)
        self._of_item |= {item["id"]: response["id"] for item in response["output"]}
        self._size += size
        while self._by_id:
            name, oldest = next(iter(self._by_id.items()))
            if len(self._by_id) <= self._most and self._size <= self._most_bytes and oldest.until > self._clock():
                break
            self._drop(name)

    def get(self, owner: str, name: str) -> StoredResponse | None:
        """An answer of this owner's; None where there is none, or no more."""
        found = self._by_id.get(name)
        if found is not None and found.until <= self._clock():
            self._drop(name)
            return None
        return found if found is not None and found.owner == owner else None

    def item(self, owner: str, name: str) -> Mapping[str, Any] | None:
        """An item of an answer of this owner's; None where there is none, or no more."""
        found = self.get(owner, self._of_item.get(name, ""))
        return None if found is None else next(item for item in found.response["output"] if item["id"] == name)

    def delete(self, owner: str, name: str) -> bool:
        """Forget one; whether it was there."""
        there = self.get(owner, name) is not None
        if there:
            self._drop(name)
        return there

    def _drop(self, name: str) -> None:
        found = self._by_id.pop(name)
        self._size -= found.size
        for item in found.response["output"]:
            self._of_item.pop(item["id"], None)
