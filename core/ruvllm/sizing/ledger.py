"""What backends cost, how long they take and how good they were: kept for choices, and for a dashboard."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ruvllm.errors import InputError
from ruvllm.sizing.fastgrnn import FastGrnn, ModelSize
from ruvllm.sizing.fastgrnn.replay import Outcome, Replay
from ruvllm.sizing.tiers import Limits


class SizeOutcomes:
    """Puts prompts and outcomes where the model router's training finds them."""

    def __init__(self, network: FastGrnn, replay: Replay) -> None:
        self._network, self._replay = network, replay

    def turn(self, vector: NDArray[np.floating], text: str) -> int:
        """Keep a prompt, its vector (dim,); returns what to give its outcome by."""
        return self._replay.add(self._network.inputs(np.asarray(vector, np.float32), text))

    def observe(self, turn: int, size: ModelSize, quality: float, cost: float) -> bool:
        """How well a model of this size answered; False where the prompt has fallen out."""
        return self._replay.label(turn, Outcome(size, quality, cost))


def sizes_by_cost(costs: Sequence[float]) -> list[ModelSize]:
    """What each backend counts as where nobody says: spread over the sizes, the dearest is the largest."""
    ranked = sorted(range(len(costs)), key=lambda i: costs[i])
    steps = max(len(costs) - 1, 1)
    return [ModelSize(round(ranked.index(i) / steps * max(ModelSize))) for i in range(len(costs))]


_PRIOR = 5.0  # answers that a stated cost or latency is worth
_SLOWEST = 200.0  # answers that a mean of them goes back: prices and loads change
_LISTS, _COUNTS = ("cost", "latency", "quality", "calls"), ("prompts", "answers", "every")
_SUMS = {"spent": "spent", "most_expensive": "dearest"}  # as they are stored
_Point = tuple[int, float, float, float, tuple[float | None, ...]]
_EVERY, _POINTS = 50, 200  # answers to a point of the curve, and points kept


class Ledger:
    """Running means of each backend, and totals.

    Attributes:
        cost: float64 (backends,), US dollars of an answer.
        latency: float64 (backends,), milliseconds.
        prompts, answers: that were chosen for, and whose outcome was told.
        spent, most_expensive: US dollars in all, and what the most expensive backend would have taken.
        curve: (answers, spent, dearest, mean quality since the last point, the same of each backend).
    """

    def __init__(self, names: Sequence[str], costs: Sequence[float], latencies: Sequence[float]) -> None:
        self.names = tuple(names)
        self.cost, self.latency = np.array(costs, np.float64), np.array(latencies, np.float64)
        self.quality, self.calls = np.zeros(len(names)), np.zeros(len(names), np.int64)
        self.prompts, self.answers = 0, 0
        self.spent = self.most_expensive = 0.0
        self.curve: list[_Point] = []
        self.every = _EVERY
        self._recent: list[tuple[int, float]] = []

    def add(self, backend: int, quality: float, cost: float | None, latency: float | None) -> None:
        """An answer."""
        self.calls[backend] += 1
        self.answers += 1
        rate = 1 / min(self.calls[backend] + _PRIOR, _SLOWEST)
        if cost is not None:
            self.cost[backend] += rate * (cost - self.cost[backend])
        if latency is not None:
            self.latency[backend] += rate * (latency - self.latency[backend])
        self.quality[backend] += (quality - self.quality[backend]) / min(int(self.calls[backend]), _SLOWEST)
        paid = float(self.cost[backend]) if cost is None else cost
        self.spent += paid
        # The dearest backend's answer would not have been cheaper than this one.
        self.most_expensive += max(float(self.cost.max()), paid)
        self._recent.append((backend, quality))
        if len(self._recent) >= self.every:
            self._point()

    def _point(self) -> None:
        of = [[quality for backend, quality in self._recent if backend == i] for i in range(len(self.names))]
        each = tuple(_mean(qualities) for qualities in of)
        mean = float(np.mean([quality for _, quality in self._recent]))
        self.curve.append((self.answers, self.spent, self.most_expensive, mean, each))
        self._recent = []
        if len(self.curve) >= _POINTS:  # every other one tells the same story
            self.curve = [_merged(*pair) for pair in zip(self.curve[::2], self.curve[1::2], strict=True)]
            self.every *= 2

    def state(self) -> dict[str, Any]:
        """Everything, as plain JSON types."""
        lists = {name: getattr(self, name).tolist() for name in _LISTS}
        sums = {stored: getattr(self, name) for name, stored in _SUMS.items()}
        return lists | {name: getattr(self, name) for name in _COUNTS} | sums | {"curve": self.curve}

    def restored(self, state: dict[str, Any]) -> None:
        """Go on from what `state` gave. Raises KeyError, TypeError or ValueError: it is not that."""
        lists = {name: np.array(state[name], np.float64) for name in _LISTS}
        numbers: dict[str, float] = {name: int(state[name]) for name in _COUNTS}
        numbers |= {name: float(state[stored]) for name, stored in _SUMS.items()}
        curve = [_point_of(point) for point in state["curve"]]
        points = [value for *totals, each in curve for value in (*totals, *(one for one in each if one is not None))]
        values = np.concatenate([*lists.values(), np.array([*numbers.values(), *points], np.float64)])
        lengths = {*map(len, lists.values()), *(len(point[4]) for point in curve)}
        if lengths != {len(self.names)} or not (values >= 0).all() or numbers["every"] < 1:
            raise ValueError("its totals are no such numbers")
        for name, value in (lists | numbers).items():
            setattr(self, name, value)
        self.calls, self.curve, self._recent = self.calls.astype(np.int64), curve, []

    def stats(self) -> dict[str, Any]:
        """Plain JSON types, of a shape that dashboards rely on; fields may be added, and none changes its meaning.

        Returns:
            prompts, answers: chosen for, and told the outcome of.
            spent, always_dearest: US dollars in all; savings: the share of the latter that was not spent.
            quality: mean of all answers, None before the first.
            backends: for each, in the order given: name, calls, share of the calls, cost (US dollars of an answer)
                and latency (milliseconds) as learnt, quality (mean of late; None before the first).
            curve: up to 200 points in time: answers, spent, always_dearest so far; quality, the mean since the last
                point, and backends, the same of each (None where it was not asked).
        """
        rows = zip(self.names, self.calls, self.cost, self.latency, self.quality, strict=True)
        return {
            "prompts": self.prompts,
            "answers": self.answers,
            "spent": self.spent,
            "always_dearest": self.most_expensive,
            "savings": 1 - self.spent / self.most_expensive if self.most_expensive else 0.0,
            "quality": float(self.quality @ self.calls / self.answers) if self.answers else None,
            "backends": [
                {
                    "name": name,
                    "calls": int(calls),
                    "share": int(calls) / self.answers if self.answers else 0.0,
                    "cost": float(cost),
                    "latency": float(latency),
                    "quality": float(quality) if calls else None,
                }
                for name, calls, cost, latency, quality in rows
            ],
            "curve": [
                {
                    "answers": answers,
                    "spent": spent,
                    "always_dearest": most_expensive,
                    "quality": quality,
                    "backends": list(each),
                }
                for answers, spent, most_expensive, quality, each in self.curve
            ],
        }


def _mean(qualities: Sequence[float]) -> float | None:
    return float(np.mean(qualities)) if qualities else None


def _merged(first: _Point, later: _Point) -> _Point:
    pairs = zip(first[4], later[4], strict=True)
    each = tuple(_mean([one for one in pair if one is not None]) for pair in pairs)
    return (*later[:3], (first[3] + later[3]) / 2, each)


def _point_of(state: Sequence[Any]) -> _Point:
    """A point as `state` gave it. Raises TypeError or ValueError: it is none."""
    answers, spent, most_expensive, quality, each = state
    qualities = tuple(None if one is None else float(one) for one in each)
    return int(answers), float(spent), float(most_expensive), float(quality), qualities


def within_limits(
    limits: Limits, names: Sequence[str], cost: NDArray[Any], latency: NDArray[Any], quality: NDArray[Any]
) -> NDArray[np.intp]:
    """Places of the backends that keep all limits, of what each is expected to be (n,).

    Raises:
        InputError: none does (the nearest is named), or a limit is no number.
    """
    over = (
        _over("cost", cost, inf if limits.cost is None else limits.cost),
        _over("latency", latency, inf if limits.latency is None else limits.latency),
        _over("quality", -quality, inf if limits.quality is None else -limits.quality),
    )
    misses = np.sum(over, 0)
    within = np.flatnonzero(misses <= 0)
    if not len(within):
        best = int(misses.argmin())
        missed = " and ".join(_missed(limits, float(cost[best]), float(latency[best]), float(quality[best])))
        message = f"no backend matches: the nearest, {names[best]!r}, {missed}"
        raise InputError(message, field="requirements", fix="relax that limit, or add a backend")
    return within


def _missed(limits: Limits, cost: float, latency: float, quality: float) -> list[str]:
    missed = []
    if limits.cost is not None and cost > limits.cost:
        missed.append(f"costs ${cost:.4g} (max_cost {limits.cost:g})")
    if limits.latency is not None and latency > limits.latency:
        missed.append(f"takes {latency:.0f} ms (max_latency {limits.latency:g})")
    if limits.quality is not None and quality < limits.quality:
        missed.append(f"has an expected quality of {quality:.3f} (min_quality {limits.quality:g})")
    return missed


def _over(name: str, values: NDArray[Any], limit: float) -> NDArray[Any]:
    """How far each value is over a limit, as a share of it; 0 within."""
    if limit != limit:
        raise InputError(f"the limit on {name} is no number", field=name, fix="give a number, or leave it out")
    return np.maximum(values - limit, 0) / max(abs(limit), 1e-9) if limit < inf else np.zeros(len(values))
