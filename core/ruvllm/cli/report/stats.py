"""What transcripts add up to: where tokens and money went, and what routing would have changed, with intervals.

The estimator of savings. An ask that a large model did and that did not fail is priced once more with the same tokens
at a small model's prices, where routing gives it to one; with the chance p that the small model fails at it, its whole
cost as it was comes on top, as if it were then done again. p is what the task's words say (`sizing.tiers.difficulty`),
times the ratio of failures to p among the asks that small models did, where 20 of them have an outcome. Assumed are the
same tokens on both models, that a failure is noticed and costs nothing else, and sessions that are independent of each
other: intervals are from 1,000 resamples of whole sessions.
"""

from __future__ import annotations

import heapq
from array import array
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ruvllm import Decision
from ruvllm.cli.report.outcomes import cost_of
from ruvllm.cli.report.prices import Prices, Tokens
from ruvllm.cli.report.transcripts import Ask
from ruvllm.sizing.tiers import USE_ABOVE, difficulty
from ruvllm.types import Tier

_RESAMPLES, _SEED = 1_000, 7
_COLUMNS = ("cost", "less", "again", "small", "failed", "expected", "asks", "missing", "delegated", "wrong")
_ENOUGH = 20  # outcomes of small models, from which they count
_MOST_ROWS = 1_000  # agents, models and projects that are counted apart; what comes later is "other"
_EXAMPLES, _SHORT = 12, 100  # asks that are shown; characters of each
_OUT_OF_SCOPE = 0.5
_MOST_FAILING = 0.5  # chance of failing, up to which an ask is one for a small model


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value and the interval that holds it in 95 of 100 resamples."""

    value: float
    low: float
    high: float


@dataclass(slots=True)
class Row:
    """What an agent, a model or a project took, and what came of it."""

    asks: int = 0
    cost: float = 0.0
    tokens: Tokens = Tokens()  # noqa: RUF009
    good: int = 0
    bad: int = 0
    agreed: int = 0
    routed: Counter[str] = field(default_factory=Counter)

    def add(self, cost: float, tokens: Tokens, success: bool | None) -> None:
        """Count an ask."""
        self.asks += 1
        self.cost += cost
        self.tokens = self.tokens.plus(tokens)
        self.good += success is True
        self.bad += success is False


class Report:
    """Adds asks up; what it holds grows with sessions by 80 bytes each, and else not with what it reads.

    Args:
        prices: of models.
    """

    def __init__(self, prices: Prices) -> None:
        self._prices = prices
        self.models, self.agents = defaultdict[str, Row](Row), defaultdict[str, Row](Row)
        self.projects, self.days = defaultdict[str, Row](Row), defaultdict[str, Row](Row)
        self.signals, self.unpriced = Counter[str](), Counter[str]()
        self.asks = 0
        self.wrong, self.missing = Counter[tuple[str, str]](), Counter[str]()
        self._best: list[tuple[float, int, str, str, str, float]] = []
        self._session = dict[str, int]()
        self._sums = array("d")

    def add(self, ask: Ask, decision: Decision | None, installed: frozenset[str]) -> None:
        """Count an ask.

        Args:
            decision: where routing would have sent it; None where nothing can be routed.
            installed: agents that it could have been given to.
        """
        cost, (success, _, signal) = cost_of(ask, self._prices), ask.outcome()
        self.asks += 1
        self.signals[signal] += 1
        for model, tokens in ask.usage.items():
            price = self._prices.of(model)
            if price is None:
                self.unpriced[model or "(no name)"] += 1
            self._row(self.models, model or "(no name)").add(price.of(tokens) if price else 0.0, tokens, success)
        day = f"{datetime.fromtimestamp(ask.at, UTC):%Y-%m-%d}" if 0 < ask.at < 4e9 else "(no date)"
        for rows, key in ((self.projects, ask.project), (self.days, day)):
            self._row(rows, key).add(cost, ask.tokens, success)
        taker = self._row(self.agents, ask.agent)
        taker.add(cost, ask.tokens, success)
        sums = dict.fromkeys(_COLUMNS, 0.0) | {"cost": cost, "asks": 0.0 if ask.agent else 1.0}
        if ask.agent:
            sums["delegated"] = 1.0
        tier, fails = self._prices.tier(ask.model), difficulty(ask.text)
        if tier == Tier.SMALL and success is not None:
            sums |= {"small": 1.0, "failed": float(not success), "expected": fails}
        elif tier == Tier.LARGE and success is not False and decision is not None:
            self._resize(ask, decision, cost, fails, sums)
        if decision is not None:
            self._delegate(ask, decision, installed, taker, sums)
        self._count(ask.session, sums)

    @property
    def sessions(self) -> int:
        """How many there were."""
        return len(self._session)

    def estimates(self) -> dict[str, Estimate]:
        """In US dollars "cost" and "saved"; as shares "share" saved, delegations "missing" of asks, and "wrong"."""
        table = np.frombuffer(self._sums, np.float64).reshape(-1, len(_COLUMNS)) if self._sums else np.zeros((1, 10))
        rng = np.random.default_rng(_SEED)
        whole = _derived(table.sum(0))
        drawn = [_derived(rng.poisson(1.0, len(table)).astype(np.float64) @ table) for _ in range(_RESAMPLES)]
        found = {}
        for name, value in whole.items():
            low, high = np.percentile([one[name] for one in drawn], (2.5, 97.5)).tolist()
            found[name] = Estimate(value, min(low, value), max(high, value))
        return found

    def examples(self) -> list[tuple[str, str, str, float]]:
        """(ask, cut short; its model; the smaller one; US dollars saved) of those that would have saved most."""
        return [(text, model, small, saved) for saved, _, text, model, small, _ in sorted(self._best, reverse=True)]

    def to_dict(self) -> dict[str, Any]:
        """All of it as plain JSON types."""
        tables = {"models": self.models, "agents": self.agents, "projects": self.projects, "days": self.days}
        return {
            "sessions": self.sessions,
            "asks": self.asks,
            "estimates": {name: [one.value, one.low, one.high] for name, one in self.estimates().items()},
            **{name: {key: _plain(row) for key, row in rows.items()} for name, rows in tables.items()},
            "signals": dict(self.signals),
            "unpriced": dict(self.unpriced),
            "wrong": [{"agent": a, "better": b, "asks": n} for (a, b), n in self.wrong.most_common(50)],
            "missing": [{"agent": name, "asks": n} for name, n in self.missing.most_common(50)],
            "examples": [
                {"ask": text, "model": model, "smaller": small, "saved": saved}
                for text, model, small, saved in self.examples()
            ],
        }

    def _resize(self, ask: Ask, decision: Decision, cost: float, fails: float, sums: dict[str, float]) -> None:
        """What a small model would have cost, where it would have been asked."""
        smaller = self._prices.smaller.get(ask.client, "")
        price = self._prices.of(smaller)
        explicit = decision.choice is not None and decision.choice.by == "agent" and decision.tier == Tier.LARGE
        if price is None or explicit or decision.tier > Tier.SMALL or fails > _MOST_FAILING or not cost:
            return
        less = cost - price.of(ask.tokens)
        if less <= 0:
            return
        sums |= {"less": less, "again": fails * cost}
        short = " ".join(ask.text[: 2 * _SHORT].split())[:_SHORT]
        row = (less - fails * cost, self.asks, short, ask.model, smaller, fails)
        heapq.heappush(self._best, row)
        if len(self._best) > _EXAMPLES:
            heapq.heappop(self._best)

    def _delegate(
        self, ask: Ask, decision: Decision, installed: frozenset[str], taker: Row, sums: dict[str, float]
    ) -> None:
        """Whether it went, or would have gone, to whom routing is sure of."""
        sure = decision.confidence > USE_ABOVE and decision.out_of_scope < _OUT_OF_SCOPE
        best = decision.agent if sure and decision.agent in installed else ""
        taker.agreed += bool(best) and best == ask.agent
        if len(taker.routed) < _MOST_ROWS or best in taker.routed:
            taker.routed[best or "(unsure)"] += 1
        if best and ask.agent and best != ask.agent:
            sums["wrong"] = 1.0
            if len(self.wrong) < _MOST_ROWS or (ask.agent, best) in self.wrong:
                self.wrong[ask.agent, best] += 1
        elif best and not ask.agent and best not in ask.delegated:
            sums["missing"] = 1.0
            self.missing[best] += 1

    def _count(self, session: str, sums: dict[str, float]) -> None:
        place = self._session.setdefault(session, len(self._session)) * len(_COLUMNS)
        if place == len(self._sums):
            self._sums.extend([0.0] * len(_COLUMNS))
        for offset, name in enumerate(_COLUMNS):
            self._sums[place + offset] += sums[name]

    def _row(self, rows: defaultdict[str, Row], key: str) -> Row:
        return rows[key if key in rows or len(rows) < _MOST_ROWS else "(other)"]


def _derived(sums: NDArray[np.float64]) -> dict[str, float]:
    """What is estimated, of sums over sessions."""
    of = dict(zip(_COLUMNS, sums.tolist(), strict=True))
    ratio = of["failed"] / of["expected"] if of["small"] >= _ENOUGH and of["expected"] else 1.0
    saved = max(0.0, of["less"] - ratio * of["again"])
    return {
        "saved": saved,
        "cost": of["cost"],
        "share": saved / of["cost"] if of["cost"] else 0.0,
        "missing": of["missing"] / of["asks"] if of["asks"] else 0.0,
        "wrong": of["wrong"] / of["delegated"] if of["delegated"] else 0.0,
    }


def _plain(row: Row) -> dict[str, Any]:
    return {"asks": row.asks, "cost": row.cost, "tokens": row.tokens._asdict(), "good": row.good, "bad": row.bad,
            "agreed": row.agreed, "routed": dict(row.routed.most_common(10))}  # fmt: skip
