"""How well queries are taken apart, and how often the passages found in a long document hold the answer."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import median
from time import perf_counter, perf_counter_ns
from typing import Any
from zlib import crc32

from ruvllm.encoders.protocol import Encoder
from ruvllm.rlm.document import CHARS_PER_PAGE, Document
from ruvllm.rlm.plan import Decomposer
from ruvllm.rlm.reading import extracted

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


_DEPTHS = (1, 3, 10)


async def measure_document(
    text: str, questions: Sequence[tuple[str, Sequence[str]]], encoder: Encoder
) -> dict[str, float]:
    """Scores over (question, accepted answers).

    Returns:
        n, pages and passages; "index_s", seconds to cut up and index the text; "top1", "top3" and "top10", the share of
        the questions whose answer stands in one of so many passages; "said", that whose extractive answer, of three
        sentences at most, holds it; "find_ms", the median time to find the passages; "answer_s", of the slowest
        question, found and answered.
    """
    began = perf_counter()
    document = await Document.read(text, encoder)
    indexed = perf_counter() - began
    ranks, said, found_s, answered_s = list[int](), 0, list[float](), list[float]()
    for question, answers in questions:
        began = perf_counter()
        passages = await document.find(question, _DEPTHS[-1])
        found_s.append(perf_counter() - began)
        answer = await extracted(question, passages, encoder, 0)
        answered_s.append(perf_counter() - began)
        wanted = [_flat(each) for each in answers]
        holds = [any(each in _flat(passage.text) for each in wanted) for passage in passages]
        ranks.append(holds.index(True) if any(holds) else len(holds))
        said += any(each in _flat(answer.text) for each in wanted)
    return {
        "n": len(ranks),
        "pages": -(-len(text) // CHARS_PER_PAGE),
        "passages": len(document),
        "index_s": indexed,
        **{f"top{depth}": sum(rank < depth for rank in ranks) / len(ranks) for depth in _DEPTHS},
        "said": said / len(ranks),
        "find_ms": median(found_s) * 1e3,
        "answer_s": max(answered_s),
    }


def _flat(text: str) -> str:
    return " ".join(text.split()).lower()
