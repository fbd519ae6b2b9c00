"""Complex queries taken apart by rules, in microseconds (FEATURES.md E7)."""

from __future__ import annotations

import re
from dataclasses import replace
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
    parts = _linked(_sentences(query))[:MOST_PARTS]
    return Plan(query, parts, join) if len(parts) > 1 else Plan(query)


def _sentences(query: str) -> list[list[list[Piece]]]:
    """Of a query: the clauses of each, and of a clause the requests that it holds."""
    items = [("", item) for item in list_items(query)]
    out = []
    for told, sentence in items or requests(query):
        groups = [_spread(piece) for piece in clauses(sentence)]
        if told:
            alone = len(groups) == len(groups[0]) == 1
            groups[0][0] = replace(groups[0][0], text=f"{told} {sentence if alone else groups[0][0].text}")
        groups = [[piece for piece in group if piece.text] for group in groups]
        out.append(list(filter(None, groups)))
    return out


def _spread(piece: Piece) -> list[Piece]:
    text = piece.text.strip(" ,;:.?!")
    found = compared(text) or distributed(text)
    return [Piece(each, piece.follows) for each in found] or [Piece(text, piece.follows)]


def _linked(sentences: list[list[list[Piece]]]) -> tuple[SubQuery, ...]:
    """What each part needs: a step the whole stage before it, "how do I fix it" the clause before it, "its y" x."""
    out: list[SubQuery] = []
    stage: tuple[int, ...] = ()  # the clauses of a sentence since its latest step
    clause: tuple[int, ...] = ()
    for groups in sentences:
        for number, group in enumerate(groups):
            start, refers = len(out), [_refers(piece.text) for piece in group]
            for piece, back in zip(group, refers, strict=True):
                needs = set(stage) if piece.follows else set[int]()
                if back:
                    needs.update(clause if refers[0] else (len(out) - 1,))
                out.append(SubQuery(piece.text, tuple(sorted(needs))))
            clause = tuple(range(start, len(out)))
            stage = clause if group[0].follows or number == 0 else stage + clause
    return tuple(out)


def _refers(text: str) -> bool:
    return not lexicon().back.isdisjoint(_WORD.findall(text.lower()))
