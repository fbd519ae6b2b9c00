"""The few of thousands of tools that a task needs: found by name, description and parameters."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ruvllm.agents.catalog import MAX_AGENTS
from ruvllm.agents.formats import tool_row
from ruvllm.agents.readers import read_row
from ruvllm.agents.sources import given_agents
from ruvllm.encoders.cache import LruCache
from ruvllm.encoders.protocol import Encoder, Pause, no_pause, run_now
from ruvllm.encoders.static import StaticEncoder
from ruvllm.errors import InputError
from ruvllm.inference.backend import estimate_tokens
from ruvllm.reprs import Shown
from ruvllm.routing.encoders import EncoderSet
from ruvllm.routing.reading import checked_text
from ruvllm.routing.service import RoutingService
from ruvllm.text.lexical import Bm25, content, spoken, stems
from ruvllm.types import Agent

# Chosen on Seal-Tools, ToolAlpaca, schema-guided dialogue, HINT3 curekart and two of APIBench; others were kept.
_NAME, _SAID, _PARAMETER = 2.0, 1.0, 0.5  # how often a word counts, by where it stands
_ALONE = (1.0, 3.0, 0.0)  # weights of words, static and contextual vectors, where there is no contextual encoder
_TOGETHER = (1.0, 2.0, 4.0)
_FEWEST, _MOST = 32, 64  # best ones that the contextual encoder reads as well
_SLICE = 4  # texts that it reads at a time, some 10 ms
_INDEXES = 8  # sets of tools that are ready at a time
_MOST_TOOLS = 5_000  # of one request
_LONG = 2_000  # characters of a description that are read


@dataclass(frozen=True, slots=True, repr=False)
class ToolHit(Shown):
    """A tool that a task may need.

    Attributes:
        score: 0 to about 1, of use to compare the hits of one search.
    """

    tool: Agent
    score: float


@dataclass(frozen=True, slots=True)
class ToolReference:
    """What Anthropic's API takes as the content of a tool search's `tool_result`."""

    tool_name: str
    type: str = "tool_reference"


@dataclass(frozen=True, slots=True)
class ToolRow:
    """A tool that a search found, for other programs."""

    name: str
    description: str
    score: float


@dataclass(frozen=True, slots=True, repr=False)
class ToolsFound(Shown):
    """What a search found, the best first.

    Attributes:
        tool_references: the same for Anthropic's API.
        tools: the definitions of the request that were found or are to stay, as they came and in their order; None
            where the catalog was searched.
        tokens: about how many all of the request's definitions take, and how many these.
    """

    hits: tuple[ToolRow, ...]
    tool_references: tuple[ToolReference, ...]
    tools: tuple[Mapping[str, Any], ...] | None = None
    tokens: tuple[int, int] | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types, the shape every host returns."""
        return asdict(self)


class ToolIndex:
    """A fixed set of tools, to be searched.

    Args:
        tools: names, descriptions, parameters' names as keywords and what is said of them as body.
        static: reads all of them when this is made, some 50 ms for a thousand.
        contextual: reads the best ones of each search; None where there is none.
    """

    def __init__(self, tools: Sequence[Agent], static: StaticEncoder, contextual: Encoder | None) -> None:
        self.tools, self._static, self._contextual = tuple(tools), static, contextual
        self._cards = [f"{' '.join(spoken(tool.name))}: {tool.description[:_LONG]}" for tool in self.tools]
        self._words = Bm25([_counts(tool) for tool in self.tools])
        self._rows = static.encode_now(self._cards) if self.tools else np.zeros((0, static.dim), np.float32)
        self._read: dict[int, NDArray[np.float32]] = {}  # what the contextual encoder has read, by place

    async def search(self, task: str, k: int, pause: Pause = no_pause) -> list[tuple[int, float]]:
        """(place, score) of the `k` best, best first."""
        if not self.tools:
            return []
        lexical = self._words.scores(content(stems(task)))
        lexical /= max(float(lexical.max()), 1e-6)
        likeness = self._rows @ self._static.encode_one(task)
        scores = _mixed(_ALONE, lexical, likeness)
        order = np.argsort(-scores, kind="stable")[: max(k, _FEWEST)]
        if self._contextual is not None:
            best, rest = order[:_MOST], order[_MOST:]
            vectors = await self._vectors(self._contextual, task, best, pause)
            scores[best] = _mixed(_TOGETHER, lexical[best], likeness[best], vectors[1:] @ vectors[0])
            order = np.concatenate([best[np.argsort(-scores[best], kind="stable")], rest])
        return [(int(i), float(scores[i])) for i in order[:k]]

    async def _vectors(
        self, encoder: Encoder, task: str, places: NDArray[np.intp], pause: Pause
    ) -> NDArray[np.float32]:
        """That of the task, then those of tools: float32 (1 + places, dim)."""
        new = [int(i) for i in places if int(i) not in self._read]
        for start in range(0, len(new), _SLICE):
            some = new[start : start + _SLICE]
            self._read |= dict(zip(some, await encoder.encode([self._cards[i] for i in some]), strict=True))
            await pause()
        return np.stack([(await encoder.encode([task]))[0], *(self._read[int(i)] for i in places)])


def _mixed(weights: Sequence[float], *scores: NDArray[np.float32]) -> NDArray[np.float32]:
    total = sum(weights[: len(scores)])
    parts = [np.float32(weight / total) * one for weight, one in zip(weights, scores, strict=False)]
    return np.asarray(np.sum(parts, axis=0), np.float32)


def _counts(tool: Agent) -> dict[str, float]:
    """Stems by how much they count."""
    found = dict[str, float]()
    for weight, words in (
        (_NAME, stems(tool.name)),
        (_SAID, stems(tool.description[:_LONG])),
        (_PARAMETER, stems(f"{' '.join(tool.keywords)} {tool.body}"[:_LONG])),
    ):
        for word in content(words) if weight == _NAME else words:
            found[word] = found.get(word, 0.0) + weight
    return found


class _Ready(NamedTuple):
    """An index, and the place among a request's definitions of each of its tools."""

    tools: ToolIndex
    places: tuple[int, ...]


class ToolService:
    """Searches the catalog's tools, others that are added, and those of a request.

    Args:
        routing: whose agents of the kind "tool" are searched too.
    """

    def __init__(self, encoders: EncoderSet, routing: RoutingService) -> None:
        self._encoders, self._routing = encoders, routing
        self._added: dict[str, Agent] = {}
        self._index: ToolIndex | None = None
        self._of: tuple[Agent, ...] = ()
        self._ready: LruCache[str, _Ready] = LruCache(_INDEXES)

    @property
    def all(self) -> tuple[Agent, ...]:
        """The tools that are searched where a search names none."""
        found = {one.name: one for one in self._routing.agents if one.kind == "tool"}
        return tuple((found | self._added).values())

    def add(self, tools: object) -> int:
        """Search among these too; one of a name that there is takes the other's place; returns how many there are.

        Args:
            tools: definitions as OpenAI, Anthropic or MCP write them, or whatever `RuvLLM` takes as agents.

        Raises:
            InputError, AgentFileError: they are none, or too many.
        """
        if (
            isinstance(tools, Sequence)
            and not isinstance(tools, str)
            and all(isinstance(one, Mapping) for one in tools)
        ):
            new = [_tool(one, f"tools[{i}]") for i, one in enumerate(tools)]
        else:
            new = given_agents(tools)[0]
        added = self._added | {tool.name: tool for tool in new}
        if len(added) > MAX_AGENTS:
            raise InputError(f"{len(added)} tools", field="tools", fix=f"search among at most {MAX_AGENTS}")
        self._added = added
        return len(self.all)

    def search(self, task: str, k: int = 5, tools: Sequence[Mapping[str, Any]] | None = None) -> list[ToolHit]:
        """The `k` tools for a task, best first.

        Args:
            tools: definitions to search instead of the catalog's.

        Raises:
            InputError: an unusable task, `k` or definition.
        """
        return run_now(self.asearch(task, k, tools))

    async def asearch(
        self, task: str, k: int = 5, tools: Sequence[Mapping[str, Any]] | None = None, pause: Pause = no_pause
    ) -> list[ToolHit]:
        """`search`, awaited."""
        if not isinstance(k, int) or isinstance(k, bool) or not 1 <= k <= MAX_AGENTS:
            raise InputError(f"k is {k!r}"[:80], field="k", fix=f"give 1 to {MAX_AGENTS}")
        task = checked_text(task, "task")
        if tools is None:
            now = self.all
            if self._index is None or now != self._of:
                self._index, self._of = ToolIndex(now, self._encoders.static, self._encoders.contextual), now
            index = self._index
        else:
            index = self.prepare(tools).tools
        return [ToolHit(index.tools[i], score) for i, score in await index.search(task, k, pause)]

    async def found(
        self,
        task: str,
        k: int = 5,
        tools: Sequence[Mapping[str, Any]] | None = None,
        keep: Collection[str] = (),
        pause: Pause = no_pause,
    ) -> ToolsFound:
        """`asearch` and `select` together, as hosts answer."""
        found = await self.asearch(task, k, tools, pause)
        rows = tuple(ToolRow(one.tool.name, one.tool.description, round(one.score, 4)) for one in found)
        references = tuple(ToolReference(one.name) for one in rows)
        if tools is None:
            return ToolsFound(rows, references)
        chosen = tuple(await self.select(tools, task, k, keep, pause))
        before, after = (estimate_tokens(json.dumps(some, default=repr)) for some in (tools, chosen))
        return ToolsFound(rows, references, chosen, (before, after))

    def prepare(self, tools: Sequence[Mapping[str, Any]]) -> _Ready:
        """Make the index of a request's tools, or find it: it takes 0.2 s for two thousand, once.

        Raises:
            InputError: too many.
        """
        if len(tools) > _MOST_TOOLS:
            raise InputError(f"{len(tools)} tools", field="tools", fix=f"send at most {_MOST_TOOLS}")
        digest = sha256(json.dumps(tools, default=repr).encode()).hexdigest()
        found = self._ready.get(digest)
        if found is None:
            read = [(i, agent) for i, one in enumerate(tools) for agent in read_row(_row(one), "tool")[0]]
            index = ToolIndex([agent for _, agent in read], self._encoders.static, self._encoders.contextual)
            found = _Ready(index, tuple(i for i, _ in read))
            self._ready.put(digest, found)
        return found

    async def select(
        self, tools: Sequence[Mapping[str, Any]], task: str, k: int, keep: Collection[str] = (), pause: Pause = no_pause
    ) -> list[Mapping[str, Any]]:
        """The definitions of the `k` tools for a task and of those in `keep`, as they are and in their order.

        One that is no function's (a server's own tool), or that marks where a prompt is cached, is always among them.
        """
        if len(tools) <= k:
            return list(tools)
        ready = self.prepare(tools)
        best = {ready.places[i] for i, _ in await ready.tools.search(checked_text(task, "task"), k, pause)}
        searched = dict(zip(ready.places, ready.tools.tools, strict=True))
        return [
            one
            for i, one in enumerate(tools)
            if i in best or i not in searched or searched[i].name in keep or "cache_control" in one
        ]


def used_tools(request: Mapping[str, Any]) -> set[str]:
    """Names of the tools that a request's conversation has called, and that its `tool_choice` or its tools ask for.

    Args:
        request: of OpenAI's chat completions or Anthropic's messages, as JSON types.
    """
    found = set[str]()
    waiting: list[Any] = [request.get("tool_choice")]
    for message in request.get("messages") or ():
        if isinstance(message, Mapping):
            waiting += message.get("tool_calls") or ()
            waiting.append(message.get("function_call"))
            parts = message.get("content")
            waiting += parts if isinstance(parts, list) else ()
    while waiting:
        one = waiting.pop()
        if isinstance(one, list):
            waiting += one
        elif isinstance(one, Mapping) and one.get("type") != "text":
            found |= {name for key in ("name", "tool_name") if isinstance(name := one.get(key), str)}
            waiting += [one.get("function"), one.get("content"), one.get("tools"), one.get("allowed_tools")]
    return found


def _row(tool: Any) -> Any:
    """A definition's fields; None for what is no function's."""
    if not isinstance(tool, Mapping) or tool.get("type", "function") not in ("function", "custom", None):
        return None
    return tool_row(tool)


def _tool(tool: Mapping[str, Any], where: str) -> Agent:
    found, problems = read_row({**tool_row(tool)}, where)
    if not found:
        raise InputError(problems[0].message, field=where, fix=problems[0].fix)
    return found[0]
