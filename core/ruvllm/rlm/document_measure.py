"""How often the passages found in a long document hold the answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import median
from time import perf_counter
from typing import Any

from ruvllm.encoders.protocol import Encoder
from ruvllm.rlm.document import CHARS_PER_PAGE, Document
from ruvllm.rlm.reading import extracted

__all__ = ["DocumentScores", "measure_document"]

_DEPTHS = (1, 3, 10)


@dataclass(frozen=True, slots=True)
class DocumentScores:
    """Over n questions.

    Attributes:
        index_s: seconds to cut up and index the text.
        top1, top3, top10: share of the questions whose answer stands in one of so many passages.
        said: share whose extractive answer, of three sentences at most, holds it.
        find_ms: median time to find the passages.
        answer_s: slowest question, found and answered.
    """

    n: int
    pages: int
    passages: int
    index_s: float
    top1: float
    top3: float
    top10: float
    said: float
    find_ms: float
    answer_s: float

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return asdict(self)


async def measure_document(
    text: str, questions: Sequence[tuple[str, Sequence[str]]], encoder: Encoder
) -> DocumentScores:
    """Scores over (question, accepted answers)."""
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
    top1, top3, top10 = (sum(rank < depth for rank in ranks) / len(ranks) for depth in _DEPTHS)
    return DocumentScores(
        len(ranks),
        -(-len(text) // CHARS_PER_PAGE),
        len(document),
        indexed,
        top1,
        top3,
        top10,
        said / len(ranks),
        median(found_s) * 1e3,
        max(answered_s),
    )


def _flat(text: str) -> str:
    return " ".join(text.split()).lower()
