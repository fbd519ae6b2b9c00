"""Until when memories hold: what was superseded, by what and why, and what a question about a time makes of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from functools import lru_cache
from time import time

from ruvllm.errors import InputError, StoreError
from ruvllm.reprs import Shown
from ruvllm.state.names import DOUBTS
from ruvllm.state.record import AGENT, OBSERVED, SPEAKER, VALID_FROM, VALID_TO, Memory
from ruvllm.state.store import Store, Unchanged
from ruvllm.text.dates import Span, dates_in, first_date, speaks_of_the_past
from ruvllm.text.statements import Statement, replaces, sentences, statement_of
from ruvllm.text.terms import terms

_BRIEF = 2_000  # characters of a query that is read for dates whatever is in it
_DAY = 86_400.0
_SURE = 0.8  # from which a memory is closed
_LONGEST = 4_000  # characters of a memory that is read for statements
_MOST_DOUBTS = 200
_COMPOSED = ("QAPair", "Concept")  # kinds that say more than one thing
_EPOCH = date(1970, 1, 1).toordinal()
_CLOSED = (
    "SELECT id, until, successor, reason, confidence, created FROM closed WHERE id IN (SELECT value FROM json_each(?))"
)


@dataclass(frozen=True, slots=True, repr=False)
class Closed(Shown):
    """A memory that holds no longer.

    Attributes:
        id: of the memory.
        until: seconds since 1970, UTC.
        successor: the memory that holds instead; None where there is none.
        reason: in plain words.
        confidence: 0 to 1, that it is so.
        created: when that was found out, seconds since 1970, UTC.
    """

    id: int
    until: float
    successor: int | None
    reason: str
    confidence: float
    created: float


@dataclass(frozen=True, slots=True, repr=False)
class Lifetime(Shown):
    """From when to when a memory holds.

    Attributes:
        since, until: seconds since 1970, UTC; `until` is None for what holds with no end.
        closed: by what it ended and why; None where nothing says that it ended.
        said: how often it was said.
    """

    since: float
    until: float | None = None
    closed: Closed | None = None
    said: int = 1


@dataclass(frozen=True, slots=True)
class Moment:
    """The time that a search is about.

    Attributes:
        span: days that the query names; None for now.
        past: whether it asks for what held before.
        strict: what was not known by then counts as little as what holds no longer.
    """

    span: Span | None = None
    past: bool = False
    strict: bool = False

    def holds(self, until: float) -> bool:
        """Whether what held until then may be meant."""
        return self.past or until > (time() if self.span is None else _seconds(self.span.first))

    def begun(self, since: float) -> bool:
        """Whether what holds from then on may be meant."""
        return self.past or since < (time() if self.span is None else _seconds(self.span.last) + _DAY)


def moment_of(query: str, at: object = None, now: date | None = None) -> Moment:
    """The time that a query is about.

    Args:
        at: a date to search as of; the query's own dates, or now, when None.
        now: what "yesterday" counts from; today when None.

    Raises:
        InputError: `at` is no date.
    """
    today = now or date.today()
    if at is not None:
        span = first_date(at, today)
        if span is None:
            raise InputError(f"at is {at!r}"[:80], field="at", fix='give a date such as "2023-05-08" or "March 2023"')
        return Moment(span, strict=True)
    return (_remembered if len(query) < _BRIEF else _moment)(query, today)


def _moment(query: str, today: date) -> Moment:
    spans = dates_in(query, today) if any(letter.isdigit() for letter in query) or len(query) < _BRIEF else []
    return Moment(spans[0] if spans else None, speaks_of_the_past(query))


_remembered = lru_cache(maxsize=64)(_moment)  # one query asks several times


def _stated(memory: Memory) -> list[Statement]:
    """What a memory states, sentence by sentence."""
    speaker = memory.metadata.get(SPEAKER)
    named = speaker if isinstance(speaker, str) else ""
    if len(memory.text) > _LONGEST:
        return []
    return [one for one in (statement_of(part, named) for part in sentences(memory.text)) if one is not None]


def _same(one: Memory, other: Memory) -> bool:
    """Whether two memories have the same terms, or state the same alone."""
    if terms(one.text) == terms(other.text) and one.metadata.get(SPEAKER) == other.metadata.get(SPEAKER):
        return True
    said, again = _stated(one), _stated(other)
    if len(said) != 1 or len(again) != 1 or said[0].subject != again[0].subject or said[0].negated != again[0].negated:
        return False
    shared = [
        name for name in said[0].attributes & again[0].attributes if name[0] not in "~" and name not in ("is", "any")
    ]
    return bool(shared) and said[0].value == again[0].value


def _fits(old: Memory, new: Memory) -> bool:
    """Whether one can be superseded by the other: one statement, said before it, by the same agent."""
    same = old.metadata.get(AGENT) == new.metadata.get(AGENT)
    return (
        same
        and old.id != new.id
        and _since(old) <= _since(new)
        and len(_stated(old)) == 1 == len(list(sentences(old.text)))
    )


def _since(memory: Memory) -> float:
    """When a memory began to hold, as far as it says so: seconds since 1970."""
    span = first_date(memory.metadata.get(VALID_FROM)) or first_date(memory.metadata.get(OBSERVED))
    return _seconds(span.first) if span else memory.created


def _ending(memory: Memory) -> Closed | None:
    """Until when a memory holds, as far as it says so itself."""
    span = first_date(memory.metadata.get(VALID_TO))
    return None if span is None else Closed(memory.id, _seconds(span.first), None, "it was given so", 1.0, time())


def _seconds(day: date) -> float:
    return (day.toordinal() - _EPOCH) * _DAY


class Validity:
    """Which memories of a store hold no longer.

    Args:
        store: the state file.
        reads: whether new statements end what older ones say.
        asks: whether pairs of which words alone do not tell are noted, for a model to read.
    """

    def __init__(self, store: Store, reads: bool = True, asks: bool = False) -> None:
        self._store, self.reads, self.asks = store, reads, asks
        self._read = Unchanged[int, Closed](store)

    def supersede(self, new: Sequence[Memory], older: Callable[[Memory], Sequence[Memory]]) -> list[Closed]:
        """Close what new memories say is no longer so; returns what was closed.

        Args:
            new: with their ids, by rising time.
            older: memories of the same words, that one of these may supersede.
        """
        doubts = list[tuple[int, int]]()
        found = {one.id: end for one in new if (end := _ending(one)) is not None}
        for one in new if self.reads else ():
            stated = [said for said in _stated(one) if said.single]
            others = older(one) if stated else ()
            ended = self.closed([other.id for other in others])
            for other in others:
                over = other.id in found or (other.id in ended and ended[other.id].until <= _since(one))
                (held,) = _stated(other) if not over and _fits(other, one) else (None,)
                if held is None:
                    continue
                sure, reason = max((replaces(held, said) for said in stated), default=(0.0, ""))
                if 0 < sure < _SURE and self.asks:
                    doubts.append((other.id, one.id))
                if sure >= _SURE:
                    found[other.id] = Closed(other.id, _since(one), one.id, reason, sure, time())
        if found:
            self.close(found.values())
        if doubts:
            latest = dict.fromkeys([*self.doubts(), *doubts])
            self._store.put(DOUBTS, json.dumps(list(latest)[-_MOST_DOUBTS:]).encode())
        return list(found.values())

    def doubts(self) -> list[tuple[int, int]]:
        """Pairs of an older and a newer memory of which words alone do not tell whether the one ends the other."""
        try:
            return [(int(old), int(new)) for old, new in json.loads(self._store.load(DOUBTS) or b"[]")]
        except (StoreError, ValueError, TypeError, RecursionError):
            return []  # nothing but a question hangs on them

    def settle(self, old: int, new: Memory | None, ends: bool, reason: str) -> None:
        """Answer one of the doubts: close the older memory, for a reason, or let both hold.

        Args:
            new: the newer one; None where one of the two is not there any more.
        """
        with self._store.write():
            left = [pair for pair in self.doubts() if pair[0] != old or (new is not None and pair[1] != new.id)]
            self._store.put(DOUBTS, json.dumps(left).encode())
            if ends and new is not None and not self.closed([old]):
                self.close([Closed(old, _since(new), new.id, reason, _SURE, time())])

    def closed(self, ids: Iterable[int]) -> dict[int, Closed]:
        """Those of these memories that hold no longer."""
        found = self._read.get(
            ids, lambda new: [(row[0], Closed(*row)) for row in self._store.read(_CLOSED, (str(new),))]
        )
        return {i: rows[0] for i, rows in found.items() if rows}

    def close(self, rows: Iterable[Closed]) -> None:
        """Write down that memories hold no longer; raises StoreError when it cannot be."""
        found = [(one.id, one.until, one.successor, one.reason, one.confidence, one.created) for one in rows]
        with self._store.write() as db:
            db.executemany("INSERT OR REPLACE INTO closed VALUES (?, ?, ?, ?, ?, ?)", found)

    def reopen(self, ids: Iterable[int]) -> int:
        """Let memories hold again, whatever superseded them; returns how many were closed."""
        with self._store.write() as db:
            sql = "DELETE FROM closed WHERE id IN (SELECT value FROM json_each(?))"
            return db.execute(sql, (json.dumps(list(ids)),)).rowcount

    def said_before(self, new: Memory, older: Iterable[Memory]) -> int | None:
        """Which of some memories says the same for the same agent, counted once more; None where none does."""
        for one in older:
            alike = one.metadata.get(AGENT) == new.metadata.get(AGENT) and one.kind not in _COMPOSED and _same(one, new)
            if alike and not self.closed([one.id]):
                sql = (
                    "INSERT INTO seen VALUES (?1, 2, ?2) ON CONFLICT (id) DO UPDATE SET count = count + 1, latest = ?2"
                )
                with self._store.write() as db:
                    db.execute(sql, (one.id, time()))
                return one.id
        return None

    def counts(self, ids: Iterable[int]) -> dict[int, int]:
        """How often each of these memories was said; 1 for those that nothing repeated."""
        chosen = list(ids)
        sql = "SELECT id, count FROM seen WHERE id IN (SELECT value FROM json_each(?))"
        return dict.fromkeys(chosen, 1) | dict(self._store.read(sql, (json.dumps(chosen),)))

    def lifetimes(self, memories: Sequence[Memory]) -> dict[int, Lifetime]:
        """Of each of these memories, by id."""
        ids = [one.id for one in memories]
        closed, said = self.closed(ids), self.counts(ids)
        return {
            one.id: Lifetime(_since(one), end.until if (end := closed.get(one.id)) else None, end, said[one.id])
            for one in memories
        }

    def holding(self, memories: Sequence[Memory], moment: Moment) -> list[Memory]:
        """Those of these memories that hold at a moment, where what superseded them, or they, are among them too."""
        closed = self.closed([one.id for one in memories])
        there = {one.id for one in memories}
        pairs = [(i, end) for i, end in closed.items() if end.successor is None or end.successor in there]
        gone = {i for i, end in pairs if not moment.holds(end.until)}
        asks = moment.past or moment.span is not None
        later = {end.successor for i, end in pairs if i not in gone and asks}
        for one in memories:  # what held then speaks against what came later
            begun = one.id in closed if moment.past else moment.begun(_since(one))
            if (one.id in later or (VALID_FROM in one.metadata and not moment.past)) and not begun:
                gone.add(one.id)
        return [one for one in memories if one.id not in gone]

    def history(self, id: int, most: int = 100) -> list[int]:
        """A memory with all that it superseded and that superseded it: ids, the oldest first."""
        found, waiting = dict[int, None](), [id]
        while waiting and len(found) < most:
            at = waiting.pop()
            if at in found:
                continue
            found[at] = None
            sql = "SELECT id FROM closed WHERE successor = ?1 UNION SELECT successor FROM closed WHERE id = ?1"
            waiting += [row[0] for row in self._store.read(sql, (at,)) if row[0] is not None]
        return sorted(found)
