"""Routing, decisions and memory as tools, agents as resources: the Model Context Protocol over any transport."""

from __future__ import annotations

import asyncio
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Annotated, Any
from urllib.parse import quote, unquote
from weakref import WeakSet

from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.exceptions import ResourceNotFoundError, ToolError
from mcp.server.subscriptions import InMemorySubscriptionBus, ResourcesListChanged
from mcp.shared.exceptions import MCPError
from mcp_types import (
    INVALID_PARAMS,
    CallToolResult,
    ListResourcesResult,
    Resource,
    ResourceLink,
    TextContent,
)
from pydantic import BaseModel, ValidationError

from ruvllm import Agent, InputError, RuvLLM, RuvllmError, __version__
from ruvllm.cli.options import least_score
from ruvllm.errors import unknown
from ruvllm.state.record import dated
from ruvllm.text.surrogates import well_formed_json

_ABOUT = (
    "Names the best agent for a developer's task with a calibrated confidence, decides typed questions, remembers "
    "texts by meaning, and learns at once from feedback. No text leaves it for another service."
)
_MOST_AGENTS = 200  # in one answer
_PAGE = 50  # resources in one answer
_LOOK = 0.5  # seconds between two looks whether the agents are others
_URI = "ruvllm://agents/"
_MARKDOWN = "text/markdown"


class AgentRows(BaseModel):
    """Agents, and what to give as `cursor` for the next ones; null at the end."""

    result: list[dict[str, Any]]
    next_cursor: str | None = None


class McpServer(MCPServer[Any]):
    """A server that says in words what is wrong with a call.

    Args:
        llm: whose agents, memory and lessons they are.
        check: gives the agent that a request (None over stdio) is of, "" for none; raises RuvllmError when its caller
            may not do what a role may: "use" reads, "teach" also changes something.
    """

    def __init__(self, llm: RuvLLM, check: Callable[[Any, str], str] = lambda _request, _role: "") -> None:
        bus = InMemorySubscriptionBus()
        super().__init__(
            "ruvllm", instructions=_ABOUT, version=__version__, log_level="WARNING", lifespan=self._watched,
            subscriptions=bus, middleware=[self._served],
        )  # fmt: skip
        self._llm, self._bus, self._check = llm, bus, check
        self._connections = WeakSet[Any]()  # of protocol revisions whose clients are told without asking for it
        tools = _Tools(llm)
        for tool in (
            tools.route, tools.decide, tools.agents, tools.search_tools, tools.remember, tools.recall, tools.feedback
        ):  # fmt: skip
            self.add_tool(tool)
        self.resource(f"{_URI}{{name}}", name="agent", description="An agent's file", mime_type=_MARKDOWN)(self._read)

    async def call_tool(self, name: str, arguments: dict[str, Any], context: Any = None) -> Any:
        """The result of a tool. Raises ToolError: what is wrong with the call, in words."""
        schemas = {tool.name: tool.input_schema for tool in await self.list_tools()}
        try:
            given = _checked(name, arguments, schemas)
            agent = self._check(_request(context), "teach" if name in ("remember", "feedback") else "use")
            if agent and name in ("remember", "recall") and given.setdefault("agent_id", agent) != agent:
                fix = "leave it out"
                raise InputError(f"this is the memory of the agent {agent}", field="agent_id", fix=fix)
            return await super().call_tool(name, given, context)
        except RuvllmError as error:
            raise ToolError(str(error)) from None
        except ToolError as error:
            cause = error.__cause__
            if isinstance(cause, ValidationError):
                wrong = (f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in cause.errors())
                raise ToolError(f"{name}: {'; '.join(wrong)}"[:600]) from None
            if isinstance(cause, RuvllmError):
                raise ToolError(str(cause)) from None
            raise

    async def _served(self, ctx: Any, call_next: Any) -> Any:
        """Every request: agents are listed in pages, and whoever shook hands hears when they are others."""
        if ctx.method == "resources/list":
            return self._listed((ctx.params or {}).get("cursor"))
        if ctx.method == "tools/list" and (ctx.params or {}).get("cursor"):
            raise MCPError(INVALID_PARAMS, "there is no further page of tools")
        result = await call_next(ctx)
        if ctx.method == "initialize" and isinstance(result, dict):
            result.get("capabilities", {}).setdefault("resources", {})["listChanged"] = True
            self._connections.add(ctx.session._connection)  # a session is one request's
        return result

    def _listed(self, cursor: str | None) -> ListResourcesResult:
        agents = self._llm.agents
        try:
            rows, following = _page(agents, cursor, _PAGE)
        except InputError as error:
            raise MCPError(INVALID_PARAMS, str(error)) from None
        resources = [
            Resource(uri=uri_of(one), name=one.name, description=one.description, mime_type=_MARKDOWN) for one in rows
        ]
        return ListResourcesResult(resources=resources, next_cursor=following)

    async def _read(self, name: str) -> str:
        """An agent: what it is told where that is known, else what it is for."""
        found = next((one for one in self._llm.agents if one.name == unquote(name)), None)
        if found is None:
            raise ResourceNotFoundError(f"no agent is called {unquote(name)[:100]!r}")
        examples = "\n".join(f"- {text}" for text in found.examples)
        return found.body or f"# {found.name}\n\n{found.description}\n\nTasks it takes:\n\n{examples}\n"

    @asynccontextmanager
    async def _watched(self, _: MCPServer[Any]) -> AsyncIterator[None]:
        watching = asyncio.ensure_future(self._watch())
        try:
            yield
        finally:
            watching.cancel()

    async def _watch(self) -> None:
        """Tell clients when there are other agents."""
        before = [(one.name, one.description) for one in self._llm.agents]
        while True:
            await asyncio.sleep(_LOOK)
            now = [(one.name, one.description) for one in self._llm.agents]
            if now != before:
                before = now
                await self._bus.publish(ResourcesListChanged())
                for connection in list(self._connections):
                    await connection.send_resource_list_changed()


def uri_of(agent: Agent) -> str:
    """Of an agent as a resource."""
    return _URI + quote(agent.name, safe="")


def _request(context: Any) -> Any:
    """The HTTP request that a tool is called by; None over stdio, and within a process."""
    try:
        return context.request_context.request
    except (AttributeError, ValueError):
        return None


def _page(rows: Sequence[Any], cursor: str | None, most: int) -> tuple[Sequence[Any], str | None]:
    """(rows of a page, the next page's cursor). Raises InputError: none gave out such a cursor."""
    try:
        start = int(urlsafe_b64decode(cursor)) if cursor else 0
        if not 0 <= start <= len(rows):
            raise ValueError
    except (ValueError, TypeError):
        raise InputError("no page has this cursor", field="cursor", fix="give one that an answer had") from None
    end = start + most
    return rows[start:end], urlsafe_b64encode(b"%d" % end).decode() if end < len(rows) else None


def _checked(name: str, arguments: dict[str, Any], schemas: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """What was given; models often send null or "" for what they do not give.

    Raises:
        InputError: a tool or an argument that there is not, or one that is missing.
    """
    if name not in schemas:
        raise unknown("tool", name, schemas)
    names, required = schemas[name]["properties"], schemas[name].get("required", ())
    given = {
        key: value for key, value in well_formed_json(arguments).items() if key in required or value not in (None, "")
    }
    for key in given:
        if key not in names:
            raise unknown("argument", key, names)
    for key in required:
        if given.get(key) is None:
            raise InputError(f"{name} was given no {key}", field=key, fix=f"give {' and '.join(required)}")
    return given


class _Tools:
    """What a client can call. A mistake that has a fix reaches the model in words, so that it can try again."""

    def __init__(self, llm: RuvLLM) -> None:
        self._llm = llm

    async def route(self, task: str, alternatives: int = 3) -> dict[str, Any]:
        """The agent that should take a task, with calibrated confidence, model tier, evidence and alternatives.

        action "use" means that it is sure, "confirm" ask a person, "escalate" ask a stronger model or a person.
        """
        found = (await self._llm.aroute(task, max(0, min(alternatives, 20)))).to_dict()
        return {key: value for key, value in found.items() if key not in ("timings_us", "cached")}

    async def decide(self, state: Any, questions: dict[str, Any]) -> dict[str, Any]:
        """Typed answers with probabilities to named questions about a state, a text or JSON; nothing is generated.

        A question is {"type": "choice", "instructions": "Which team?", "criteria": {"billing": "Payments", "other":
        null}}, {"type": "noul", "instructions": "Is it urgent?"} (yes or no), or {"type": "score", "instructions": "How
        angry?", "criteria": ["calm", "annoyed", "furious"]}. The answer's id is what feedback takes as `decision`.
        """
        return (await self._llm.adecide(state, questions)).to_dict()

    async def agents(self, query: str = "", limit: int = 50, cursor: str = "") -> Annotated[CallToolResult, AgentRows]:
        """The agents that tasks are routed among: name, description and model tier (null: by the task's difficulty).

        With a query only those whose name, description or keywords hold all of its words, as links to their files.
        next_cursor, where there is one, gives the next of them as `cursor`.
        """
        words = query.casefold().split()
        found = [one for one in self._llm.agents if all(word in _said(one) for word in words)]
        page, following = _page(found, cursor, max(1, min(limit, _MOST_AGENTS)))
        rows = [{"name": one.name, "description": one.description, "tier": one.tier and int(one.tier)} for one in page]
        made = AgentRows(result=rows, next_cursor=following)
        text = TextContent(type="text", text=made.model_dump_json(exclude_none=True))
        links = [
            ResourceLink(type="resource_link", uri=uri_of(one), name=one.name, description=one.description,
                         mime_type=_MARKDOWN)
            for one in page
        ]  # fmt: skip
        return CallToolResult(content=[*links] if words and links else [text], structured_content=made.model_dump())

    async def search_tools(self, task: str, most: int = 5, tools: list[dict[str, Any]] | None = None) -> dict[str, Any]:
        """The tools that a task may need, best first: of those that are in the catalog, or of the definitions given.

        Definitions are as OpenAI, Anthropic or MCP write them. tool_references is what a tool search of Anthropic's
        API answers with; tools are the definitions that were found.
        """
        return (await self._llm.tools.found(task, max(1, min(most, 50)), tools)).to_dict()

    async def remember(
        self,
        text: str,
        metadata: dict[str, Any] | None = None,
        collection: str = "default",
        agent_id: str = "",
        observed_at: str = "",
        valid_from: str = "",
        valid_to: str = "",
    ) -> int:
        """Keep a fact, decision or answer for later; returns its id. It stays in the state file, across sessions.

        What is there already is counted. agent_id: your name, where only you shall recall it. The dates ("2025-03-01",
        "March 2025") say when it was said, from when it holds, and from when it holds no longer.
        """
        given = {"observed_at": observed_at, "valid_from": valid_from, "valid_to": valid_to, "agent_id": agent_id}
        about = dated(metadata or {}, **{name: value for name, value in given.items() if value})
        return (await self._llm.memory.aremember(text, metadata=about, collection=collection))[0]

    async def recall(
        self,
        query: str,
        most: int = 5,
        collection: str = "default",
        min_score: float | None = None,
        agent_id: str = "",
        at: str = "",
    ) -> list[dict[str, Any]]:
        """What was remembered that means something similar, best first, with its score.

        What is less alike than min_score is left out; without it, what is no more alike than any two texts are.
        agent_id: your name, for what you remembered for yourself and what is shared. at: as of a date.
        """
        memory = self._llm.memory
        options: dict[str, Any] = {"collection": collection, "agent_id": agent_id or None, "at": at or None}
        found = await memory.asearch(query, max(1, min(most, 50)), **options)
        counts = memory.records.counts()
        if not found and counts and collection not in counts:
            raise unknown("collection", collection, counts)
        least = least_score(self._llm) if min_score is None else min_score
        return [
            {
                "id": one.memory.id,
                "text": one.memory.text,
                "score": round(one.score, 4),
                "kind": one.memory.kind,
                "metadata": well_formed_json(dict(one.memory.metadata)),
            }
            for one in found
            if one.score >= least
        ]

    async def feedback(
        self, task: str = "", agent: str = "", right: bool = True, decision: str = "", answer: Any = None
    ) -> str:
        """Teach that a task belongs to an agent, or with right = false that it does not; similar tasks follow.

        With `decision`, the id of an answer of decide, and `answer`, how it should have been answered (of several
        questions {name: answer}), teach its questions instead.
        """
        if decision:
            learnt = await self._llm.afeedback_decision(decision, answer)
            return f"learnt: {', '.join(f'{name} ({count} examples)' for name, count in learnt.items())}"
        for name, value in (("task", task), ("agent", agent)):
            if not value:
                fix = "give task and agent, or decision and answer"
                raise InputError(f"feedback was given no {name}", field=name, fix=fix)
        await self._llm.afeedback(task, agent, right=right)
        return f"learnt: {'' if right else 'not '}{agent}"


def _said(agent: Agent) -> str:
    return " ".join((agent.name, agent.description, *agent.keywords)).casefold()
