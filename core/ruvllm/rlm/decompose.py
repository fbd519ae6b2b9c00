"""Complex queries taken apart by rules, in microseconds (FEATURES.md E7)."""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import lru_cache
from typing import Any

from ruvllm.errors import BackendError, InputError
from ruvllm.inference.backend import Backend, Message, Params, estimate_usage
from ruvllm.rlm.clauses import Piece, clauses, list_items, requests
from ruvllm.rlm.coordination import distributed
from ruvllm.rlm.lexicon import lexicon
from ruvllm.rlm.plan import Decomposer, Join, Plan, SubQuery, checked_query
from ruvllm.types import Decision

_THING = r"(?:(?!\b(?:and|or|vs)\b)[^,?.!;:])+?"
_VIEW = r"(?P<view> (?:for|in|on|as|with|under|when|at|regarding|considering|by) .+)?"


def _pattern(text: str) -> re.Pattern[str]:
    text = text.replace("THING", _THING).replace(" VIEW", _VIEW)
    return re.compile(rf"(?:{text})[?.! ]*", re.IGNORECASE)


_VS = _pattern(r"(?P<a>[^,?.!;:]+?),? (?:vs\.?|versus|v\.) (?P<b>[^,?.!;:]+?) VIEW(?P<tail>)")
_FORMS = (
    _pattern(
        r"(?:please )?(?:compare(?: and contrast)?|contrast) (?P<of>(?:the )?[\w ,-]{2,60}? of )?"
        r"(?P<a>THING)(?:,? (?:and|with|to|against|or) )(?P<b>THING) VIEW"
    ),
    _pattern(r"(?:please )?(?:compare|contrast) (?P<list>[^,?.!;:]+(?:, (?!and )[^,?.!;:]+)+?,? and THING) VIEW"),
    _pattern(
        r"(?:(?:what(?:'s| is| are)|explain|describe) )?(?:the )?(?:main |key |biggest )?(?:similarities and )?"
        r"(?:differences?|distinction) between (?P<a>THING) and (?P<b>THING) VIEW"
    ),
    _pattern(
        r"how (?:does|do|is|are) (?P<a>THING) (?:compared?|differ|different) (?:to|with|from|than) (?P<b>THING) VIEW"
    ),
    _pattern(r"how do (?P<a>\w+) and (?P<b>\w+) (?P<noun>\w+) compare VIEW"),
    _pattern(r"what (?:distinguishes|differentiates|separates) (?P<a>THING) from (?P<b>THING) VIEW"),
    _pattern(
        r"(?:what(?:'s|s| is| was)|wh(?:ich|o)(?: \w+)? (?:is|are|was)) (?:the )?(?:best|more \w+|\w+er)"
        r" VIEW, ?(?P<a>THING) or (?P<b>THING)"
    ),
    _pattern(r"which (?:one )?should (?:i|we) \w+(?: first)? VIEW, ?(?P<a>THING) or (?P<b>THING)"),
    _pattern(r"should (?:i|we) (?:choose|use|pick|buy|get|go with|take|prefer) (?P<a>THING) or (?P<b>THING) VIEW"),
)
_SPLIT = re.compile(r",? and |, ", re.IGNORECASE)
_SIGNALS = ("compar", "contrast", "differ", "vs", "versus", " or ", "disti", "separates", " v. ")
_GERUND = re.compile(r"\w+ing\b", re.IGNORECASE)  # "leasing and buying a car"
_RANGES = re.compile(r"\bin (?:temperature|price|time|age|height|size|number)s? between\b", re.IGNORECASE)


def compared(text: str) -> list[str]:
    """What is compared, each with the point of view; empty if nothing is."""
    lower = text.lower()
    if not any(signal in lower for signal in _SIGNALS) or _RANGES.search(text):
        return []
    if match := _VS.fullmatch(text):
        return _versus(match)
    for form in _FORMS:
        if match := form.fullmatch(text):
            return _sides(match.groupdict())
    return []


def _sides(found: dict[str, str | None]) -> list[str]:
    view, of = found.get("view") or "", found.get("of") or ""
    noun = f" {found['noun']}" if found.get("noun") else ""
    listed = found.get("list")
    things = _SPLIT.split(listed) if listed else [(found["a"] or "").strip(), (found["b"] or "").strip()]
    if not lexicon().bare.isdisjoint(thing.lower() for thing in things):
        return []
    if _GERUND.fullmatch(things[0]) and (object := _GERUND.match(things[-1])):
        things = [*(f"{thing}{things[-1][object.end() :]}" for thing in things[:-1]), things[-1]]
    if not of:
        return [f"{thing}{noun}{view}" for thing in things]
    aspects = _SPLIT.split(of.strip().removesuffix(" of"))
    return [f"{aspect} of {thing}{view}" for aspect in aspects for thing in things]


def _versus(match: re.Match[str]) -> list[str]:
    """What only the right side ends with belongs to both: "a 5 vs b 8 camera" compares the cameras."""
    left, right, view = match["a"].strip(), match["b"].strip(), match["view"] or ""
    shared = right.split()[len(left.split()) :]
    tail = f" {' '.join(shared)}" if shared and len(left.split()) > 1 else ""
    right = right.removesuffix(tail) if tail else right
    return [f"{left}{tail}{view}", f"{right}{tail}{view}"]


_TASK = """Split the user's query into the smallest set of sub-queries that can each be answered alone.
Keep names, quotes, code and fixed pairs of words whole. If the query is about one thing, return an empty list.
Write each sub-query so that it makes sense by itself. "after" lists the places (from 0) of the sub-queries whose
answers it needs. "join" is "compare" if the query compares things, else "parts". Do not answer the query.
Reply with JSON alone:
{"join": "parts", "parts": [{"text": "...", "after": []}]}"""
_ANSWER = 400  # tokens
_OBJECT = re.compile(r"\{.*\}", re.DOTALL)


async def decomposed(query: str, route: Callable[[str, int], Awaitable[Decision]]) -> dict[str, Any]:
    """The sub-queries of a query as plain JSON types: the places of those that each needs, and who would take it.

    "split" is false for a query that is best answered whole; it is its only part then.

    Args:
        route: decides on a text, naming so many alternatives.

    Raises:
        InputError: an unusable query.
    """
    plan = RuleDecomposer().plan(query)
    rows = []
    for part in plan.parts or (SubQuery(plan.query),):
        decision = await route(part.text, 2)
        rows.append({"text": part.text, "after": list(part.after), "decision": decision.to_dict()})
    return {"query": plan.query, "join": plan.join, "split": bool(plan.parts), "parts": rows}


class LlmDecomposer:
    """Asks a backend, and falls back on another decomposer when it cannot answer in form.

    Args:
        fallback: rules, if None.
    """

    def __init__(self, backend: Backend, *, most: int = 8, fallback: Decomposer | None = None) -> None:
        self._backend, self._most, self._fallback = backend, most, fallback or RuleDecomposer()

    def tokens(self, query: str) -> int:
        """That a plan costs, at most."""
        return estimate_usage(_messages(query), "").prompt_tokens + _ANSWER

    async def decompose(self, query: str) -> Plan:
        """The plan for a query. Raises InputError: it is empty or too long."""
        query = checked_query(query)
        try:
            said = await self._backend.generate(_messages(query), Params(max_tokens=_ANSWER, temperature=0.0))
        except BackendError:
            return await self._fallback.decompose(query)
        plan = self._read(query, said.text)
        if plan is None:
            plan = await self._fallback.decompose(query)
        return Plan(plan.query, plan.parts, plan.join, said.usage)

    def _read(self, query: str, text: str) -> Plan | None:
        """What the backend says, None where it is not in form."""
        found = _OBJECT.search(text)
        try:
            data: Any = json.loads(found[0]) if found else None
            parts = tuple(_part(row) for row in data["parts"])[: self._most]
            join: Join = "compare" if data.get("join") == "compare" else "parts"
            return Plan(query, parts if len(parts) > 1 else (), join)
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError, InputError):
            return None


def _part(row: Any) -> SubQuery:
    text = checked_query(row["text"])
    return SubQuery(text, tuple(sorted({int(place) for place in row.get("after") or ()})))


def _messages(query: str) -> list[Message]:
    return [Message("system", _TASK), Message("user", query)]


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
    for background, sentence in items or requests(query):
        groups = [_spread(piece) for piece in clauses(sentence)]
        if background:
            alone = len(groups) == len(groups[0]) == 1
            groups[0][0] = replace(groups[0][0], text=f"{background} {sentence if alone else groups[0][0].text}")
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
