"""How often queries fall into the right sub-queries."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import median
from time import perf_counter_ns
from typing import Any
from zlib import crc32

from ruvllm.rlm.plan import Decomposer

__all__ = ["HALVES", "DecomposeScores", "Labelled", "half_of", "measure_decomposition", "same_parts"]

HALVES = ("dev", "test")
# What adds nothing to a sub-query: articles, and an opening that only says that something is asked.
_BARE = re.compile(r"\b(?:a|an|the)\b|[^\w\s%+#&*=<>@$/']|(?<!\w)'|'(?!\w)", re.IGNORECASE)
_OPENING = re.compile(
    r"^(?:please )?(?:tell me(?: about)? )?(?:what(?:'s|s)? (?:is |are |was |were )|what's )?", re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class Labelled:
    """A query with its sub-queries; none if it must stay whole."""

    query: str
    parts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class DecomposeScores:
    """Over n queries.

    Attributes:
        exact: share whose sub-queries are the expected ones, each and in order; those to be left whole count too.
        exact_split: the same among those to be split.
        decision: share where splitting or not was right.
        p50_us: median time of a query, the first time it is seen.
        wrong: (query, expected, got) of those that are not exact.
    """

    n: int
    exact: float
    exact_split: float
    decision: float
    p50_us: float
    wrong: tuple[tuple[str, tuple[str, ...], tuple[str, ...]], ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The numbers."""
        return {name: value for name, value in asdict(self).items() if name != "wrong"}


def half_of(query: str) -> str:
    """Which half a query belongs to, by its hash: rules are tuned on "dev" and judged on "test"."""
    return HALVES[crc32(query.encode()) & 1]


def same_parts(one: Sequence[str], other: Sequence[str]) -> bool:
    """Whether two splits are the same but for case, punctuation, articles and a leading "what is" or "tell me"."""
    return [_bared(text) for text in one] == [_bared(text) for text in other]


def _bared(text: str) -> str:
    bare = " ".join(_BARE.sub(" ", text).lower().split())
    return _OPENING.sub("", bare, count=1) or bare


async def measure_decomposition(rows: Sequence[Labelled], decomposer: Decomposer) -> DecomposeScores:
    """Scores over labelled queries, at least one."""
    times, wrong, decided, split_right = list[int](), [], 0, 0
    for row in rows:
        began = perf_counter_ns()
        got = (await decomposer.decompose(row.query)).texts
        times.append(perf_counter_ns() - began)
        decided += bool(got) == bool(row.parts)
        if not same_parts(got, row.parts):
            wrong.append((row.query, row.parts, tuple(got)))
        elif row.parts:
            split_right += 1
    splits = sum(bool(row.parts) for row in rows)
    return DecomposeScores(
        len(rows),
        1 - len(wrong) / len(rows),
        split_right / splits if splits else 1.0,
        decided / len(rows),
        median(times) / 1000,
        tuple(wrong),
    )
