"""Complex queries taken apart by rules, in microseconds (FEATURES.md E7)."""

from __future__ import annotations

import re
from functools import lru_cache

from ruvllm.rlm.clauses import Piece, clauses, list_items, requests
from ruvllm.rlm.comparison import compared
from ruvllm.rlm.coordination import distributed
from ruvllm.rlm.lexicon import lexicon
from ruvllm.rlm.plan import Join, Plan, SubQuery, checked_query

__all__ = ["RuleDecomposer"]

MOST_PARTS = 32  # of one query
_LONGEST = 4_000  # characters; what is longer is told, not asked
# Without one of these there is nothing to split.
_JOINT = re.compile(
    r"[;\n&]|[?!.]\s*\S|\b(?:and|plus|then|vs|versus|or|otherwise|else|followed)\b|\bcompar|\bdiffer|\bdistinguish|separates"
    r"|\bbefore\b|\bafter|\b(?:1|a)[.)]|\bstep \d|, (?:what|how|who|why|where|when)\b|,.*,",
    re.IGNORECASE,
)
_WORD = re.compile(r"[a-z']+")


class RuleDecomposer:
    """Splits several questions, orders and steps, comparisons, and one request over several things.

    Names, quotes, code and fixed pairs of words stay whole. A sub-query keeps the words of the query; one that refers
    to the one before it ("how do I fix it") is marked as needing its answer.
    """

    def tokens(self, query: str) -> int:
        """None."""
        return 0

    async def decompose(self, query: str) -> Plan:
        """The plan for a query. Raises InputError: it is empty or too long."""
        return self.plan(query)

    def plan(self, query: str) -> Plan:
        """The same at once."""
        return _plan(checked_query(query))


@lru_cache(maxsize=1_000)
def _plan(query: str) -> Plan:
    if len(query) > _LONGEST or not _JOINT.search(query):
        return Plan(query)
    join: Join = "compare" if compared(query.strip(" ?.!")) else "parts"
    pieces = _pieces(query)
    if len(pieces) < 2:
        return Plan(query)
    return Plan(query, _linked(pieces[:MOST_PARTS]), join)


def _pieces(query: str) -> list[Piece]:
    items = list_items(query)
    sentences = items or requests(query)
    out: list[Piece] = []
    for sentence in sentences:
        for piece in clauses(sentence):
            out += _spread(piece)
    return [piece for piece in out if piece.text]


def _spread(piece: Piece) -> list[Piece]:
    text = piece.text.strip(" ,;:.?!")
    found = compared(text) or distributed(text)
    return [Piece(each, piece.follows) for each in found] or [Piece(text, piece.follows)]


def _linked(pieces: list[Piece]) -> tuple[SubQuery, ...]:
    """A step needs the one before it, and so does what refers back."""
    back = lexicon().back
    return tuple(
        SubQuery(piece.text, (place - 1,) if place and (piece.follows or _refers(piece.text, back)) else ())
        for place, piece in enumerate(pieces)
    )


def _refers(text: str, back: frozenset[str]) -> bool:
    return not back.isdisjoint(_WORD.findall(text.lower()))
