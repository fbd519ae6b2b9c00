"""What `ruvllm bench memory` promises, row by row, and how a measured row is told to the process that prints it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ruvllm_bench.memory.curves import Point, Rival, interpolated


@dataclass(frozen=True, slots=True)
class Row:
    """One measure.

    Attributes:
        value: None where it could not be measured.
        bar: what the value must not exceed (or fall below, with `at_least`); None promises nothing.
        recall: measured together with the value.
        least_recall: that it must reach for the value to count.
        note: how it was measured.
    """

    key: str
    label: str
    value: float | None
    unit: str
    bar: float | None = None
    at_least: bool = False
    recall: float | None = None
    least_recall: float = 0.0
    note: str = ""

    @property
    def met(self) -> bool | None:
        """None where there is no promise or no value."""
        if self.value is None or self.bar is None:
            return None
        within = self.value >= self.bar if self.at_least else self.value <= self.bar
        return within and (self.recall is None or round(self.recall, 4) >= self.least_recall)

    @property
    def mark(self) -> str:
        """For the table."""
        if self.bar is None:
            return ""
        return {None: "not measured", True: "pass", False: "short"}[self.met]


@dataclass(frozen=True, slots=True)
class Curve:
    """Points of one index at one size, for the picture."""

    name: str
    size: int
    points: tuple[Point, ...]


def against(key: str, found: Point, rivals: Sequence[Rival], bar: float | None) -> list[Row]:
    """How many times as long as each compiled library at the same recall; a promise is about hnswlib."""
    rows = []
    for rival in rivals:
        theirs = interpolated(rival.curve, found.recall)
        ratio = None if theirs is None else found.p50_ms / theirs
        note = "" if theirs is None else f"{theirs:.3f} ms at recall {found.recall:.4f}"
        promised = bar if rival.name == "hnswlib" else None
        rows.append(Row(f"{key}_{rival.name}", f"… over {rival.name}", ratio, "x", promised, note=note))
    return rows


def tell(item: Row | Curve) -> None:
    """One line for the process that asked."""
    print(json.dumps({type(item).__name__: asdict(item)}), flush=True)


def read(line: str) -> Row | Curve | None:
    """A told line; None for anything else."""
    try:
        told = json.loads(line)
    except ValueError:
        return None
    if not isinstance(told, dict):
        return None
    if "Row" in told:
        return Row(**told["Row"])
    return _curve(told["Curve"]) if "Curve" in told else None


def _curve(told: dict[str, Any]) -> Curve:
    return Curve(told["name"], told["size"], tuple(Point(**one) for one in told["points"]))
