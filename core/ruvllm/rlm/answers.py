"""What recursive answering is set to, says on the way, and returns. Frozen dataclasses."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from ruvllm.hints import Options
from ruvllm.inference.backend import Usage
from ruvllm.inference.passages import Passage
from ruvllm.memory.found import Found
from ruvllm.reprs import Shown
from ruvllm.rlm.plan import Plan
from ruvllm.types import Choice

if TYPE_CHECKING:
    from ruvllm.memory.memory import MemoryStore


class Remembers(Protocol):
    """A memory to look things up in, such as `MemoryStore`."""

    def asearch(self, query: str, k: int = 10) -> Awaitable[Sequence[Found]]:
        """The k memories nearest to a text, best first."""
        ...


class VisibleTo:
    """What an agent may look up of a memory: its own, and what is shared."""

    def __init__(self, memory: MemoryStore, agent_id: str) -> None:
        self._memory, self._agent_id = memory, agent_id

    async def asearch(self, query: str, k: int = 10) -> Sequence[Found]:
        """The k memories nearest to a text, best first."""
        return await self._memory.asearch(query, k, agent_id=self._agent_id)


@dataclass(frozen=True, slots=True, repr=False)
class RlmConfig(Options):
    """Limits and habits (FEATURES.md E8).

    Attributes:
        max_depth: levels of sub-queries below the query.
        max_sub_queries: of one query; more are taken as groups, a level deeper.
        token_budget: of all prompts and answers of one query together.
        deadline: seconds for a query, None for no end.
        max_parallel: sub-queries asked at a time.
        cache, ttl: answers kept, and for how many seconds; 0 keeps none.
        top_k: memories or passages looked up for each sub-query.
        reflections: times that an answer may be written again when its sources do not bear it out.
        min_quality: 0 to 1, of an answer that is not written again.
        answer_tokens: of one answer, at most.
    """

    max_depth: int = 5
    max_sub_queries: int = 5
    token_budget: int = 4096
    deadline: float | None = None
    max_parallel: int = 8
    cache: int = 256
    ttl: float = 300.0
    top_k: int = 10
    reflections: int = 0
    min_quality: float = 0.7
    answer_tokens: int = 512
    temperature: float = 0.2

    def __post_init__(self) -> None:
        """Raises ConfigError: a value is out of range."""
        self.check_ranges(RANGES)


RANGES: dict[str, tuple[float, float]] = {
    "max_depth": (0, 32),
    "max_sub_queries": (2, 64),
    "token_budget": (128, 10_000_000),
    "deadline": (0.001, 86_400.0),
    "max_parallel": (1, 256),
    "cache": (0, 1_000_000),
    "ttl": (0.0, 1e9),
    "top_k": (1, 100),
    "reflections": (0, 8),
    "min_quality": (0.0, 1.0),
    "answer_tokens": (16, 100_000),
    "temperature": (0.0, 2.0),
}


@dataclass(frozen=True, slots=True, repr=False)
class Finding(Shown):
    """The answer to one sub-query.

    Attributes:
        text: "" if there is none; [n] names a source.
        sources: by their number, from 1.
        depth: 0 for the query itself.
        missing: why there is no answer: "not found", "budget", "deadline", or a backend's error; "" if there is one.
    """

    query: str
    text: str = ""
    sources: tuple[Passage, ...] = ()
    depth: int = 0
    missing: str = ""


@dataclass(frozen=True, slots=True, repr=False)
class Planned(Shown):
    """A query was taken apart."""

    plan: Plan
    depth: int


@dataclass(frozen=True, slots=True, repr=False)
class Answered(Shown):
    """A sub-query has its answer, or has none."""

    finding: Finding


@dataclass(frozen=True, slots=True, repr=False)
class Delta(Shown):
    """A piece of the answer as it is written; `restart` says that what was written before is taken back."""

    text: str
    restart: bool = False


@dataclass(frozen=True, slots=True, repr=False)
class RlmAnswer(Shown):
    """The answer to a query.

    Attributes:
        text: with [n] for source n.
        quality: 0 to 1: the share of the sub-queries that are answered, times how far the sources bear the
            answer out; 0 where there are none to bear it out.
        grounding: 0 to 1, how far the sources bear it out, or what was read where none is cited; None without either.
        sources: by their number, from 1.
        findings: the sub-queries and their answers, in order.
        depth: of the deepest sub-query.
        calls: of the backend.
        reflections: times that the answer was written again.
        choice: how strong a model was asked; None where the caller named the backend, or no model writes.
    """

    query: str
    text: str
    quality: float
    grounding: float | None
    sources: tuple[Passage, ...]
    findings: tuple[Finding, ...]
    unanswered: tuple[str, ...]
    usage: Usage
    depth: int = 0
    calls: int = 0
    reflections: int = 0
    cached: bool = False
    choice: Choice | None = None


RlmEvent = Planned | Answered | Delta | RlmAnswer
