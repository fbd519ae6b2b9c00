"""Conversations in progress: their history, and what they did to the model router's hidden state.

They are the user's own words in the user's own state file: written behind the answers, taken up again by the next
process, gone from the file when they end. `sessions.keep = false` leaves them out of it.
"""

from __future__ import annotations

import json
import os
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from itertools import islice
from typing import Any, cast

from ruvllm.errors import InputError
from ruvllm.inference.backend import Message
from ruvllm.memory.conversations import Conversations, SessionRow, StoredSession
from ruvllm.options import SessionsConfig
from ruvllm.query.responses import Session
from ruvllm.reprs import shortened
from ruvllm.sizing.fastgrnn.session import RouterSession
from ruvllm.state.record import read_metadata
from ruvllm.state.store import Store
from ruvllm.text.surrogates import well_formed, well_formed_json

_TURNS = 50  # questions with their answers that a session keeps
_CHARACTERS = 1_000_000  # that they may have; the latest turn stays in any case
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
        size: characters of its history.
        unwritten: latest turns that are not in the state file.
        changed: where its id goes when there is something to be written; None keeps nothing.
    """

    id: str
    state: RouterSession
    metadata: Mapping[str, Any] = field(default_factory=dict)
    history: list[Message] = field(default_factory=list)
    created: float = 0.0
    accessed: float = 0.0
    last: int | None = None
    size: int = 0
    unwritten: list[tuple[str, str]] = field(default_factory=list)
    changed: set[str] | None = None

    def add(self, question: str, answer: str) -> None:
        """Take in a turn; the oldest leave when there are too many."""
        self.history += (Message("user", question), Message("assistant", answer))
        self.size += len(question) + len(answer)
        while len(self.history) > 2 * _TURNS or (self.size > _CHARACTERS and len(self.history) > 2):
            self.size -= sum(len(message.content) for message in self.history[:2])
            del self.history[:2]
        if self.changed is not None:
            self.unwritten.append((question, answer))
            del self.unwritten[: -len(self.history) // 2]
            self.changed.add(self.id)

    def remember(self, memory: int) -> None:
        """Its last turn is this memory now."""
        self.last = memory
        if self.changed is not None:
            self.changed.add(self.id)

    def snapshot(self) -> Session:
        """As it stands."""
        return Session(self.id, tuple(self.history), self.metadata, self.created, self.accessed)

    def stored(self) -> StoredSession:
        """What the state file has to learn of it."""
        turns, count = tuple(self.unwritten), len(self.history) // 2
        hidden = self.state.hidden
        return StoredSession(
            self.id, self.metadata, self.created, self.accessed, hidden, self.last, self.size, turns, count
        )


class Sessions:
    """The sessions used last, each until nobody has used it for a while.

    Args:
        start: makes the model router's view of a new session.
        ttl: seconds without use after which a session ends.
        most: sessions at a time; the one unused for longest leaves beyond it.
        characters: of all histories together, with the same consequence.
        conversations: the state file's sessions, which go on; None keeps none.

    Raises:
        StoreError: those of the state file cannot be read.
    """

    def __init__(
        self,
        start: Callable[[], RouterSession],
        ttl: float = 3_600.0,
        most: int = 10_000,
        clock: Callable[[], float] = time.time,
        *,
        characters: int = 50_000_000,
        conversations: Conversations | None = None,
    ) -> None:
        self._start, self._ttl, self._most, self._clock = start, ttl, most, clock
        self._characters, self._conversations = characters, conversations
        rows = conversations.rows() if conversations is not None else ()
        # Those of earlier processes that nobody has used in this one; they are older than all of `_awake`.
        self._asleep: OrderedDict[str, SessionRow] = OrderedDict((row.id, row) for row in rows)
        self._awake: OrderedDict[str, Conversation] = OrderedDict()
        self._size = sum(row.size for row in rows)
        self._changed, self._gone = set[str](), set[str]()
        self._make_room()

    def __len__(self) -> int:
        self._expire()
        return len(self._awake) + len(self._asleep)

    def new(
        self,
        metadata: Mapping[str, Any] | None = None,
        id: str | None = None,
        history: Sequence[Message | Mapping[str, Any]] = (),
    ) -> Conversation:
        """Begin a session.

        Args:
            id: a name of the caller's own; a random one when None.
            history: what was said before, here or elsewhere: questions of the "user", each with the "assistant"'s
                answer, as messages or mappings with `role` and `content`.

        Raises:
            InputError: the id is taken, or unusable, metadata is no JSON object, or the history no such messages.
        """
        turns = _turns(history)
        self._expire()
        name = new_id("sess") if id is None else id
        if not isinstance(name, str) or not 0 < len(name) <= _LONGEST_ID or not name.isprintable():
            fix = f"give 1 to {_LONGEST_ID} printable characters"
            raise InputError("the session's id is unusable", field="session", fix=fix)
        if name in self._awake or name in self._asleep:
            raise InputError(f"there is a session {name!r} already", field="session", fix="use it, or another id")
        about, size = _checked(metadata)
        now = self._clock()
        made = Conversation(name, self._start(), about, created=now, accessed=now, size=size)
        self._wake(made)
        for question, answer in turns:
            made.add(question, answer)
        self._size += made.size
        self._make_room()
        return made

    def get(self, id: str) -> Conversation:
        """A session, now the one used last.

        Raises:
            InputError: there is none of this id, or it has ended.
            StoreError: it cannot be read from the state file.
        """
        self._expire()
        found = self._awake.get(id) or self._awakened(id)
        if found is None:
            fix = "begin one with new_session; sessions end when they are not used"
            raise InputError(f"there is no session {str(id)[:_LONGEST_ID]!r}", field="session", fix=fix)
        found.accessed = self._clock()
        self._awake.move_to_end(id)
        if self._conversations is not None:
            self._changed.add(id)
        return found

    def add(self, session: Conversation, state: RouterSession, question: str, answer: str) -> None:
        """Take in a turn, and what it did to the model router's view; of a session that has ended, nothing."""
        if self._awake.get(session.id) is not session:
            return
        before, session.state = session.size, state
        session.add(question, answer)
        self._size += session.size - before
        self._make_room()

    def forget(self, texts: Sequence[str]) -> None:
        """Take turns that repeat one of these texts out of the sessions at hand; see `erase` for the file."""
        for one in self._awake.values():
            turns = list(zip(one.history[::2], one.history[1::2], strict=True))
            stay = [pair for pair in turns if not any(text in part.content for text in texts for part in pair)]
            gone = sum(len(part.content) for pair in turns if pair not in stay for part in pair)
            one.history = [part for pair in stay for part in pair]
            one.unwritten = [pair for pair in one.unwritten if not any(text in part for text in texts for part in pair)]
            one.size -= gone
            self._size -= gone

    def end(self, id: str) -> bool:
        """Forget a session, in the state file too; whether there was one.

        Raises:
            StoreError: the file cannot be written; `flush` tries again.
        """
        if not self._drop(id):
            return False
        if self._conversations is not None:
            self._conversations.write((), self._gone)
            self._gone.clear()
        return True

    def flush(self, most: int | None = None) -> None:
        """Write what changed, of so many sessions at most, and remove those that have ended.

        Raises:
            StoreError: it cannot be written; it goes on waiting.
        """
        self._expire()
        if self._conversations is None or not (self._changed or self._gone):
            return
        chosen = list(islice(self._changed, most))
        sessions = [self._awake[id] for id in chosen if id in self._awake]
        self._conversations.write([one.stored() for one in sessions], self._gone)
        for one in sessions:
            one.unwritten.clear()
        self._changed.difference_update(chosen)
        self._gone.clear()

    def _wake(self, session: Conversation) -> None:
        if self._conversations is not None:
            session.changed = self._changed
            self._changed.add(session.id)
        self._awake[session.id] = session

    def _awakened(self, id: str) -> Conversation | None:
        """One of an earlier process; None when there is none of this id, or another process has ended it."""
        if self._conversations is None or not isinstance(id, str) or id not in self._asleep:
            return None
        stored = self._conversations.read(id)
        self._size -= self._asleep.pop(id).size
        if stored is None:
            return None
        state = self._start()
        with suppress(InputError):  # of a network of another width: then it begins anew
            state.hidden = stored.hidden
        session = Conversation(id, state, stored.metadata, [], stored.created, stored.accessed, stored.last)
        for question, answer in stored.turns:
            session.add(question, answer)
        session.size += len(json.dumps(dict(stored.metadata)))
        self._size += session.size
        self._wake(session)
        return session

    def _drop(self, id: str) -> bool:
        dropped = self._awake.pop(id, None) or self._asleep.pop(id, None)
        if dropped is None:
            return False
        self._size -= dropped.size
        self._changed.discard(id)
        if self._conversations is not None:
            self._gone.add(id)
        return True

    def _expire(self) -> None:
        """Only the front can be over its time: every use moves a session to the back."""
        limit = self._clock() - self._ttl
        while (oldest := self._oldest) is not None and oldest.accessed <= limit:
            self._drop(oldest.id)

    def _make_room(self) -> None:
        while (count := len(self._asleep) + len(self._awake)) > self._most or (
            self._size > self._characters and count > 1
        ):
            assert self._oldest is not None
            self._drop(self._oldest.id)

    @property
    def _oldest(self) -> SessionRow | Conversation | None:
        return next(iter(self._asleep.values()), None) or next(iter(self._awake.values()), None)


def open_sessions(start: Callable[[], RouterSession], config: SessionsConfig, store: Store) -> Sessions:
    """The sessions of a state file, or, where they are not to be kept, new ones.

    Raises:
        StoreError: the file cannot be read, or those that are not to be kept any more not be removed.
    """
    conversations = None if store.path == ":memory:" else Conversations(store)
    if conversations is not None and not config.keep:
        conversations.clear()
        conversations = None
    return Sessions(start, config.ttl, config.most, characters=config.characters, conversations=conversations)


def _turns(history: object) -> list[tuple[str, str]]:
    """Questions with their answers. Raises InputError: they are no such messages."""
    try:
        rows = [asdict(one) if isinstance(one, Message) else one for one in cast(Sequence[Any], history)]
        said = [(one["role"], well_formed(one["content"])) for one in rows]
        if [role for role, _ in said] != ["user", "assistant"] * (len(said) // 2):
            raise ValueError
    except (TypeError, KeyError, ValueError, AttributeError):
        fix = 'give messages in turn: {"role": "user", "content": …}, {"role": "assistant", "content": …}'
        raise InputError("the history is unusable", field="history", fix=fix) from None
    texts = [text for _, text in said]
    return list(zip(texts[::2], texts[1::2], strict=True))


def _checked(metadata: Mapping[str, Any] | None) -> tuple[dict[str, Any], int]:
    """(metadata, the characters they have as JSON). Raises InputError: they cannot be written as such."""
    if not isinstance(metadata, Mapping | None):
        fix = "give an object; a name goes into `id`"
        raise InputError(f"metadata is {shortened(metadata)}", field="metadata", fix=fix)
    about = dict(metadata or {})
    try:
        text = json.dumps(about)
        read_metadata(text)  # what cannot be read again
        return well_formed_json(about), len(text)
    except (TypeError, ValueError, RecursionError) as error:
        fix = "give an object of texts, numbers, lists and the like"
        raise InputError(f"metadata is no JSON: {error}"[:200], field="metadata", fix=fix) from None
