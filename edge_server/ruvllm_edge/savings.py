"""What answers cost, and what they would have cost if the largest model had written them all."""

from __future__ import annotations

import json
import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, date, datetime, timedelta
from functools import reduce
from time import monotonic
from typing import Annotated, Any, NamedTuple

from msgspec import Meta, Struct

from ruvllm import StoreError
from ruvllm.inference.backend import Usage
from ruvllm.inference.endpoint import Price
from ruvllm.query.responses import Response
from ruvllm.state.names import SAVINGS
from ruvllm.state.store import Store
from ruvllm_edge.logs import event

DAYS = 400  # that are remembered
_MOST = 20_000  # rows; the oldest days go
_EVERY = 60.0  # seconds between two writes of the counts
_Key = tuple[str, str, str]  # day, agent, key


class Row(NamedTuple):
    """Of one day, agent and key: answers, tokens, and US dollars as spent and at the largest model's prices."""

    answers: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost: float = 0.0
    large_cost: float = 0.0

    def plus(self, other: Row) -> Row:
        """Both together."""
        return Row(
            self.answers + other.answers,
            self.prompt_tokens + other.prompt_tokens,
            self.completion_tokens + other.completion_tokens,
            self.cost + other.cost,
            self.large_cost + other.large_cost,
        )


class DayCounts(ABC):
    """Rows by day, in memory, written to the state file once a minute and at the end.

    Args:
        store: the state file.
        today: the date, in UTC.
        clock: seconds, monotonic.
    """

    name = ""  # in the state file

    def __init__(
        self,
        store: Store,
        today: Callable[[], date] = lambda: datetime.now(UTC).date(),
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._store, self._today, self._clock = store, today, clock
        self._saved, self._changed = clock(), False
        try:
            self._take(json.loads(store.load(self.name) or b"[]"))
        except (StoreError, ValueError, TypeError) as error:
            problem = str(error)[:300]
            event(logging.ERROR, f"the counts of {self.name} cannot be read; they begin anew", problem=problem)
            self._take([])

    @abstractmethod
    def _take(self, rows: list[list[Any]]) -> None:
        """Begin with the rows that were written."""

    @abstractmethod
    def _made(self) -> list[list[Any]]:
        """The rows to write."""

    def first_of(self, days: int) -> str:
        """The first of so many days with today."""
        return (self._today() - timedelta(days - 1)).isoformat()

    def save(self, now: bool = False) -> None:
        """Write what has changed, if it is time or `now`. Raises StoreError: nothing can be written."""
        if self._changed and (now or self._clock() - self._saved >= _EVERY):
            self._store.save(self.name, lambda: json.dumps(self._made()).encode())
            self._saved, self._changed = self._clock(), False


class Savings(DayCounts):
    """What answers cost, by day, agent and key."""

    name = SAVINGS

    def _take(self, rows: list[list[Any]]) -> None:
        self._day, self._spent = "", dict[str, float]()  # of today, by key
        self._rows = {(day, agent, key): Row(*rest) for day, agent, key, *rest in rows}

    def _made(self) -> list[list[Any]]:
        return [[*name, *row] for name, row in self._rows.items()]

    def add(self, response: Response, key: str, large: Price) -> None:
        """Count an answer.

        Args:
            key: name of whose it is, "" where none is needed.
            large: prices of the largest model, which would have read and written the same tokens.
        """
        self.add_usage(response.decision.agent, key, response.usage, response.cost, large)

    def add_usage(self, agent: str, key: str, usage: Usage, cost: float, large: Price) -> None:
        """Count an answer by what is known of it, as `add`."""
        spent, day = self.spent(key), self._today().isoformat()
        name = (day, agent, key)
        if name not in self._rows:
            self._forget()
        row = Row(1, usage.prompt_tokens, usage.completion_tokens, cost, large.of(usage))
        self._rows[name] = self._rows.get(name, Row()).plus(row)
        self._spent[key], self._changed = spent + cost, True

    def spent(self, key: str) -> float:
        """US dollars of a key today."""
        today = self._today().isoformat()
        if today != self._day:
            self._day, self._spent = today, {}
            for (day, _, name), row in self._rows.items():
                if day == today:
                    self._spent[name] = self._spent.get(name, 0.0) + row.cost
        return self._spent.get(key, 0.0)

    def _forget(self) -> None:
        first = self.first_of(DAYS + 1)
        days = sorted(day for day, _, _ in self._rows)
        first = max(first, days[len(days) - _MOST] if len(days) >= _MOST else "")
        self._rows = {name: row for name, row in self._rows.items() if name[0] >= first}

    def since(self, days: int, key: str | None) -> dict[_Key, Row]:
        """The rows of so many days with today, of one key or (None) of all, by (day, agent, key)."""
        first = self.first_of(days)
        return {name: row for name, row in self._rows.items() if name[0] >= first and key in (None, name[2])}


class DaysQuery(Struct):
    """How far back."""

    days: Annotated[int, Meta(ge=1, le=DAYS)] = 30


class Sums(Struct):
    """Answers, tokens and US dollars: spent, at the largest model's prices, and the difference; `name` of the group."""

    name: str
    answers: int
    prompt_tokens: int
    completion_tokens: int
    cost: float
    large_cost: float
    saved: float


class SavingsReport(Struct):
    """All together, and by day, agent and key; `large` is the model with which it is compared."""

    days: int
    large: str
    total: Sums
    by_day: list[Sums]
    by_agent: list[Sums]
    by_key: list[Sums]


def report(rows: Mapping[_Key, Row], days: int, large: str) -> SavingsReport:
    """Sums of the rows; the groups are in the order of their names."""
    by_day, by_agent, by_key = (_groups((name[place], row) for name, row in rows.items()) for place in range(3))
    total = reduce(Row.plus, rows.values(), Row())
    return SavingsReport(days, large, _sums("total", total), by_day, by_agent, by_key)


def _groups(rows: Iterable[tuple[str, Row]]) -> list[Sums]:
    found = dict[str, Row]()
    for name, row in rows:
        found[name] = found.get(name, Row()).plus(row)
    return [_sums(name, row) for name, row in sorted(found.items())]


def _sums(name: str, row: Row) -> Sums:
    return Sums(name, *row, saved=row.large_cost - row.cost)
