"""What a conversation of an agent asks now, and which backend it is with."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any

from ruvllm import InputError
from ruvllm.encoders.cache import LruCache

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
        self._with = LruCache[bytes, str](most)

    @staticmethod
    def name(key: str, user: str, turns: Sequence[Mapping[str, Any]]) -> bytes:
        """Of a conversation: by whose key, which user (or session) it is, and its first words of a user."""
        first = next((turn.get("content") for turn in turns if turn.get("role") == "user"), "")
        return sha256(repr((key, user, first)).encode("utf-8", "replace")).digest()

    def get(self, name: bytes) -> str:
        """The backend's name, "" where there is none yet."""
        return self._with.get(name) or ""

    def put(self, name: bytes, backend: str) -> None:
        """Remember it."""
        self._with.put(name, backend)
