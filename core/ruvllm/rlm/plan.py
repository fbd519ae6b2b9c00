"""What a complex query falls into, and what takes it apart."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

from ruvllm.errors import InputError
from ruvllm.inference.backend import Usage
from ruvllm.reprs import Shown

MAX_CHARS = 20_000  # of a query; anything longer is a document
Join = Literal["parts", "compare"]


_FREE = Usage()


@dataclass(frozen=True, slots=True, repr=False)
class SubQuery(Shown):
    """A query that can be answered by itself, or once those before it are.

    Attributes:
        after: places of the sub-queries whose answers it needs.
    """

    text: str
    after: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, repr=False)
class Plan(Shown):
    """A query and its sub-queries: an acyclic graph, since none needs a later one.

    Attributes:
        parts: empty for a query that is best answered whole.
        join: what becomes of the answers: "parts" stand one after another, "compare" sets them side by side.
        usage: tokens that the plan cost.
    """

    query: str
    parts: tuple[SubQuery, ...] = ()
    join: Join = "parts"
    usage: Usage = _FREE

    def __post_init__(self) -> None:
        """Raises InputError: a sub-query needs one that does not come before it."""
        for place, part in enumerate(self.parts):
            if any(not 0 <= earlier < place for earlier in part.after):
                message = f"sub-query {place} needs {part.after}"
                raise InputError(message, field="after", fix="let it name places before its own")

    @property
    def texts(self) -> list[str]:
        """Of the parts."""
        return [part.text for part in self.parts]


class Decomposer(Protocol):
    """Takes queries apart."""

    def tokens(self, query: str) -> int:
        """That a plan costs, at most; 0 without an LLM."""
        ...

    async def decompose(self, query: str) -> Plan:
        """The plan for a query. Raises InputError: it is empty or too long."""
        ...


def checked_query(query: str) -> str:
    """The query, without what stands around it. Raises InputError: it is empty, too long or no text."""
    if not isinstance(query, str) or not query.strip():
        raise InputError("the query is empty", field="query", fix="ask something")
    if len(query) > MAX_CHARS:
        message = f"the query has {len(query)} characters"
        raise InputError(message, field="query", fix=f"keep it under {MAX_CHARS}, and give the rest as `context`")
    return query.strip()


def key_of(text: str) -> str:
    """What two ways to write the same query have in common: case, spaces and the mark at the end do not count."""
    return " ".join(text.casefold().split()).rstrip(" .?!,;:") or text


def without_circles(plan: Plan, above: frozenset[str]) -> Plan:
    """Without parts that are the query itself or one that led to it; no parts if fewer than two are left."""
    closed = above | {key_of(plan.query)}
    remaining = [place for place, part in enumerate(plan.parts) if key_of(part.text) not in closed]
    if len(remaining) == len(plan.parts):
        return plan
    if len(remaining) < 2:
        return Plan(plan.query)
    new = {old: place for place, old in enumerate(remaining)}
    parts = [
        SubQuery(plan.parts[old].text, tuple(new[before] for before in plan.parts[old].after if before in new))
        for old in remaining
    ]
    return Plan(plan.query, tuple(parts), plan.join)
