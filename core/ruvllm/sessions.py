"""Conversations in progress: their history, and what they did to the model router's hidden state."""

from __future__ import annotations

import os
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ruvllm.errors import InputError
from ruvllm.inference.backend import Message
from ruvllm.responses import Session
from ruvllm.routing.fastgrnn_session import RouterSession

__all__ = ["Conversation", "Sessions", "new_id"]

_TURNS = 50  # questions with their answers that a session keeps
_LONGEST_ID = 200


def new_id(prefix: str) -> str:
    """An id that nobody can guess."""
    return f"{prefix}-{os.urandom(12).hex()}"


@dataclass(slots=True)
class Conversation:
    """A session while it goes on.

    Attributes:
        state: the model router's view of it.
        last: id of the memory that keeps its last question and answer.
    """

    id: str
    state: RouterSession
    metadata: Mapping[str, Any] = field(default_factory=dict)
    history: list[Message] = field(default_factory=list)
    created: float = 0.0
    accessed: float = 0.0
    last: int | None = None

    def add(self, question: str, answer: str) -> None:
        """Take in a turn; the oldest leaves when there are too many."""
        self.history += (Message("user", question), Message("assistant", answer))
        del self.history[: -2 * _TURNS]

    def snapshot(self) -> Session:
        """As it stands."""
        return Session(self.id, tuple(self.history), self.metadata, self.created, self.accessed)


class Sessions:
    """The sessions used last, each until nobody has used it for a while.

    Args:
        start: makes the model router's view of a new session.
        ttl: seconds without use after which a session ends.
        most: sessions at a time; the one unused for longest leaves beyond it.
        clock: seconds since 1970.
    """

    def __init__(
        self,
        start: Callable[[], RouterSession],
        ttl: float = 3_600.0,
        most: int = 10_000,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._start, self._ttl, self._most, self._clock = start, ttl, most, clock
        self._known: OrderedDict[str, Conversation] = OrderedDict()

    def __len__(self) -> int:
        self._expire()
        return len(self._known)

    def new(self, metadata: Mapping[str, Any] | None = None, id: str | None = None) -> Conversation:
        """Begin a session.

        Args:
            id: a name of the caller's own; a random one when None.

        Raises:
            InputError: the id is taken, or unusable.
        """
        self._expire()
        name = new_id("sess") if id is None else id
        if not isinstance(name, str) or not 0 < len(name) <= _LONGEST_ID or not name.isprintable():
            fix = f"give 1 to {_LONGEST_ID} printable characters"
            raise InputError("the session's id is unusable", field="session", fix=fix)
        if name in self._known:
            raise InputError(f"there is a session {name!r} already", field="session", fix="use it, or another id")
        now = self._clock()
        made = Conversation(name, self._start(), dict(metadata or {}), created=now, accessed=now)
        self._known[name] = made
        if len(self._known) > self._most:
            self._known.popitem(last=False)
        return made

    def get(self, id: str) -> Conversation:
        """A session, now the one used last.

        Raises:
            InputError: there is none of this id, or it has ended.
        """
        self._expire()
        found = self._known.get(id)
        if found is None:
            fix = "begin one with new_session; sessions end when they are not used"
            raise InputError(f"there is no session {str(id)[:_LONGEST_ID]!r}", field="session", fix=fix)
        found.accessed = self._clock()
        self._known.move_to_end(id)
        return found

    def end(self, id: str) -> bool:
        """Forget a session; whether there was one."""
        return self._known.pop(id, None) is not None

    def _expire(self) -> None:
        """Only the front can be over its time: every use moves a session to the back."""
        limit = self._clock() - self._ttl
        while self._known:
            oldest = next(iter(self._known.values()))
            if oldest.accessed > limit:
                return
            del self._known[oldest.id]
