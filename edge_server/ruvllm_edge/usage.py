"""How often each key of a space called, beside what its answers cost, by day."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from msgspec import Struct

from ruvllm.state.names import USAGE
from ruvllm_edge.auth import Key
from ruvllm_edge.savings import DAYS, DayCounts, Row, Savings


def seconds_left(now: datetime | None = None) -> float:
    """Of today, in UTC."""
    now = now or datetime.now(UTC)
    return (datetime(now.year, now.month, now.day, tzinfo=UTC) + timedelta(1) - now).total_seconds()


class Usage(DayCounts):
    """Requests by day and key, of one space."""

    name = USAGE

    def _take(self, rows: list[list[Any]]) -> None:
        self._requests, self._refused = Counter[tuple[str, str]](), Counter[tuple[str, str]]()
        for day, key, requests, refused in rows:
            self._requests[day, key], self._refused[day, key] = int(requests), int(refused)

    def _made(self) -> list[list[Any]]:
        first = self.first_of(DAYS + 1)
        return [[*name, count, self._refused[name]] for name, count in self._requests.items() if name[0] >= first]

    def add(self, key: str, refused: bool) -> None:
        """Count a request by the name of its key."""
        name = (self._today().isoformat(), key)
        self._requests[name] += 1
        self._refused[name] += refused
        self._changed = True

    def report(self, keys: Sequence[Key], savings: Savings, days: int) -> UsageReport:
        """What each of these keys did in so many days with today, and what is left of its budget.

        Args:
            savings: of the same space.
        """
        first = self.first_of(days)
        sums, requests, refused = {key.name: Row() for key in keys}, Counter[str](), Counter[str]()
        for (_, _, name), row in savings.since(days, None).items():
            if name in sums:
                sums[name] = sums[name].plus(row)
        for (day, name), count in self._requests.items():
            if day >= first:
                requests[name] += count
                refused[name] += self._refused[day, name]
        rows = []
        for key in keys:
            row, spent = sums[key.name], savings.spent(key.name)
            left = None if key.budget is None else max(0.0, key.budget - spent)
            answers = row.answers, row.prompt_tokens, row.completion_tokens, row.cost
            rows.append(KeyUsage(key.name, requests[key.name], refused[key.name], *answers, spent, key.budget, left))
        return UsageReport(days, round(seconds_left()), rows)


class KeyUsage(Struct):
    """Of one key: requests, those that were refused or failed, answers with tokens and US dollars; today's budget."""

    key: str
    requests: int
    refused: int
    answers: int
    prompt_tokens: int
    completion_tokens: int
    cost: float
    spent_today: float
    budget: float | None
    left_today: float | None


class UsageReport(Struct):
    """By key, in the order of the file of keys; `day_ends` seconds from now budgets begin anew."""

    days: int
    day_ends: int
    keys: list[KeyUsage]
