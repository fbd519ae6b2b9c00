"""What a page does beyond routing: memory, answers, sub-queries, the choice of LLM backends, what feedback taught.

Each method takes keyword arguments from JSON and gives plain JSON types, in the words of the server's API where
that has the same. Nothing here is imported before a page first asks for it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import asdict
from itertools import pairwise
from secrets import token_hex
from typing import Any

from ruvllm_web.arguments import checked

from ruvllm import Constraints, InputError, RuvLLM
from ruvllm.learning.reliability import reliability
from ruvllm.memory import erasure
from ruvllm.memory.exchange import around, described, measured
from ruvllm.memory.found import Found, answerable
from ruvllm.memory.subgraph import Edge
from ruvllm.rlm.answers import RlmAnswer, RlmEvent
from ruvllm.rlm.decompose import decomposed
from ruvllm.rlm.plan import checked_query
from ruvllm.sizing.named import NamedBackends
from ruvllm.sizing.selector import BackendProfile
from ruvllm.state.record import Memory, dated

_GIVEN = ("observed_at", "valid_from", "valid_to", "expires", "speaker", "agent_id")
_OPEN = 256  # choices and answers that may still be judged
METHODS = frozenset({
    "add_memory", "backend_stats", "bind_memories", "decompose", "deep_event", "end_deep", "end_session",
    "feedback_list", "forget_memory", "learn_patterns", "link_memory", "lint", "memories", "memory_graph",
    "memory_stats", "memory_timeline", "new_session", "patterns", "query", "query_deep", "rate", "record_outcome",
    "reliability", "reopen_memory", "save_backends", "search_memory", "select", "session", "set_backends",
    "unbind_memories",
})  # fmt: skip


class Workbench:
    """Works on whichever RuvLLM answers at the moment.

    Args:
        now: gives it.
    """

    def __init__(self, now: Callable[[], RuvLLM]) -> None:
        self._current = now
        self._backends = NamedBackends(now)
        self._queries: OrderedDict[str, str] = OrderedDict()  # request id to query
        self._deep: OrderedDict[str, AsyncGenerator[RlmEvent, None]] = OrderedDict()

    def forget(self) -> None:
        """The state file was replaced: what was read of it holds no more."""
        self._backends.forget()
        self._queries.clear()

    def reread(self) -> None:
        """The state file is newer now: choices and answers that wait to be judged stay."""
        self._backends.reread()

    async def query(
        self,
        query: str,
        max_tokens: int | None = None,
        explain: bool = False,
        agent_id: str | None = None,
        session_id: str | None = None,
    ) -> dict[str, Any]:
        """The answer to a question, from memory; `explain` adds what it draws on, as `attention`."""
        constraints = Constraints(max_tokens=max_tokens, explain=explain, agent_id=agent_id)
        response = await self._now.aquery(query, session=session_id, constraints=constraints)
        _keep(self._queries, response.request_id, query)
        return response.to_dict()

    async def new_session(
        self, metadata: dict[str, Any] | None = None, history: list[dict[str, Any]] | None = None
    ) -> str:
        """Begin a conversation, after what was said before; its id."""
        return self._now.new_session(metadata, history=history or ()).id

    async def session(self, id: str) -> dict[str, Any]:
        """A conversation as it stands."""
        return asdict(self._now.session(id))

    async def end_session(self, id: str) -> bool:
        """Forget a conversation; whether there was one."""
        return self._now.end_session(id)

    async def query_deep(self, query: str, context: str | None = None, settings: dict[str, Any] | None = None) -> str:
        """Begin to answer a complex query; the id that `deep_event` takes."""
        checked_query(query)
        events = self._now.queries.stream_deep(query, context=context, **settings or {})
        _keep(self._deep, id := token_hex(8), events)
        return id

    async def deep_event(self, id: str) -> dict[str, Any]:
        """What is heard next of a complex query: of type planned, answered or delta, and at last its answer."""
        if id not in self._deep:
            raise InputError("no such query is being answered", field="id", fix="ask it again")
        try:
            event = await anext(self._deep[id])
        except BaseException:
            del self._deep[id]
            raise
        if not isinstance(event, RlmAnswer):
            return {"type": type(event).__name__.lower()} | asdict(event)
        await self._deep.pop(id).aclose()
        return {"type": "answer", "answer": asdict(event)}

    async def end_deep(self, id: str) -> None:
        """Give up a query that nobody waits for."""
        if id in self._deep:
            await self._deep.pop(id).aclose()

    async def rate(
        self,
        request_id: str,
        rating: float | None = None,
        correction: str | None = None,
        task_success: bool | None = None,
        agent: str | None = None,
    ) -> dict[str, Any]:
        """How an answer was, 1 to 5, the better one, or who is right for the question; what that changed."""
        said: Any = {"rating": rating, "correction": correction, "task_success": task_success, "agent": agent}
        try:
            return asdict(await self._now.afeedback_request(request_id, **said))
        except InputError as error:
            query = self._queries.pop(request_id, None)
            if error.field != "request_id" or query is None:
                raise
        # Another router has taken over since (RuvLTRA has come): it answers the same, and learns of that.
        again = await self._now.aquery(query)
        return asdict(await self._now.afeedback_request(again.request_id, **said))

    async def decompose(self, query: str) -> dict[str, Any]:
        """The sub-queries of a query, the places of those that each needs, and who would take it."""
        return await decomposed(query, self._now.aroute)

    async def add_memory(self, memories: list[dict[str, Any]], chain: bool = False) -> dict[str, Any]:
        """Remember texts; `chain` makes each follow the one before it."""
        ids = await self._now.memory.aadd([_memory(row, place) for place, row in enumerate(memories)])
        if chain:
            self._now.memory.graph.link_all([Edge(b, a, "Follows") for a, b in pairwise(ids)])
        return {"ids": ids}

    async def search_memory(
        self,
        query: str,
        k: int = 10,
        collection: str = "default",
        filter: dict[str, Any] | None = None,
        hops: int = 0,
        search: str | None = None,
        at: str | None = None,
        recency: float | None = None,
        agent_id: str | None = None,
        window: int = 0,
    ) -> dict[str, Any]:
        """Memories like a text: what each score is the sum of, when each holds, and what stands around it."""
        options: dict[str, Any] = {"collection": collection, "filter": filter, "hops": hops, "search": search}
        options |= {"at": at, "recency": recency, "agent_id": agent_id, "window": window}
        found = await self._now.memory.asearch(query, k, **options)
        return {"memories": self._hits(found), "answerable": answerable(found)}

    async def memories(self, limit: int = 200, collection: str = "default") -> dict[str, Any]:
        """The latest of a collection, newest first."""
        records = self._now.memory.records
        newest = records.matching(collection)[-limit:][::-1].tolist() if limit > 0 else []
        return {"memories": self._rows(records.get(newest))}

    async def memory_timeline(self, id: int) -> dict[str, Any]:
        """A memory with what superseded it and what it superseded, the oldest first, and why each ended."""
        return {"memories": self._rows(self._now.memory.records.get(self._now.memory.validity.history(id)))}

    async def reopen_memory(self, ids: list[int]) -> dict[str, Any]:
        """Let memories hold again, whatever superseded them."""
        return {"reopened": self._now.memory.validity.reopen(ids)}

    def _hits(self, found: Sequence[Found]) -> list[dict[str, Any]]:
        rows = zip(self._rows([one.memory for one in found]), found, strict=True)
        return [row | _score(one) | {"passage": self._hits(one.passage)} for row, one in rows]

    def _rows(self, memories: Sequence[Memory]) -> list[dict[str, Any]]:
        return described(self._now.memory, memories)

    async def memory_graph(self, ids: list[int], hops: int = 1) -> dict[str, Any]:
        """What lies around some memories: nodes, typed edges by id, and hyperedges."""
        return around(self._now.memory, ids, hops)

    async def bind_memories(
        self, members: list[int], kind: str = "SameTopic", weight: float = 1.0, metadata: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """Make a hyperedge: memories that belong together."""
        return {"id": self._now.memory.graph.bind(members, kind, weight, metadata)}

    async def unbind_memories(self, id: int) -> bool:
        """Take a hyperedge away, never its members; whether it was there."""
        return self._now.memory.graph.unbind(id)

    async def link_memory(self, source: int, target: int, kind: str, weight: float = 1.0) -> None:
        """Make a typed edge, or set the weight of one that is there."""
        self._now.memory.graph.link(source, target, kind, weight)

    async def forget_memory(
        self,
        ids: list[int] | None = None,
        filter: dict[str, Any] | None = None,
        collection: str | None = None,
        before: str | None = None,
        expired: bool = False,
        erase: bool = False,
    ) -> dict[str, Any]:
        """Remove memories for good: these, what has expired, and what fulfils all else; `erase` leaves no byte."""
        store, wanted = self._now.store, {*(ids or ())}
        wanted |= {*(erasure.expired(store) if expired else ())}
        if filter or collection is not None or before is not None or not (ids is not None or expired):
            wanted |= {*erasure.chosen(store, filter, collection=collection, before=before)}
        remove = self._now.services.aerase if erase else self._forget
        return {"forgotten": await remove(sorted(wanted))}

    async def _forget(self, ids: list[int]) -> int:
        return self._now.memory.forget(ids)

    async def memory_stats(self, collection: str = "default") -> dict[str, Any]:
        """How many there are, how they are searched, and in which format their vectors are kept."""
        return await measured(self._now.memory, collection)

    async def patterns(self, limit: int = 20) -> dict[str, Any]:
        """What has worked for which kind of task, the most valuable first."""
        return {"patterns": [_pattern(one) for one in self._now.get_patterns(limit)]}

    async def learn_patterns(self) -> dict[str, Any]:
        """Distil patterns of all that was rated, now."""
        self._now.learning.engine.force_learn()
        self._now.learning.engine.flush()
        return await self.patterns()

    async def reliability(self) -> dict[str, Any]:
        """How often decisions of each confidence were right, of those that feedback told of."""
        return reliability(self._now.store)

    async def feedback_list(self, limit: int = 50) -> dict[str, Any]:
        """The latest feedback with the ids that an undo takes, newest first."""
        stored = self._now.store.feedback_rows()
        rows = [
            {"id": one.id, "created": one.created, "rating": one.rating}
            | {"text": one.feedback.text, "agent": one.feedback.agent, "right": one.feedback.right}
            for one in stored[-limit:][::-1]
        ]
        return {"feedback": rows, "total": len(stored)}

    async def set_backends(self, backends: list[dict[str, Any]], budget: float | None = None) -> dict[str, Any]:
        """Choose among these from now on; what was learnt of others is dropped."""
        profiles = [BackendProfile(**checked(BackendProfile, row, f"backends[{i}].")) for i, row in enumerate(backends)]
        return self._backends.set(profiles, budget)

    async def select(
        self,
        prompt: str,
        max_cost: float | None = None,
        max_latency: float | None = None,
        min_quality: float | None = None,
    ) -> dict[str, Any]:
        """The backend for a prompt, and the id under which its outcome is told."""
        return await self._backends.select(prompt, max_cost, max_latency, min_quality)

    async def record_outcome(
        self,
        choice_id: str,
        success: bool = True,
        quality: float | None = None,
        cost: float | None = None,
        latency: float | None = None,
    ) -> dict[str, Any]:
        """What came of a choice; the stats after it."""
        return await self._backends.record(choice_id, success, quality, cost, latency)

    async def backend_stats(self) -> dict[str, Any]:
        """Spend, savings and quality over time, each backend as it was stated and as it proved to be."""
        return self._backends.stats()

    async def save_backends(self) -> dict[str, Any]:
        """Write what was learnt of backends into the state file."""
        return self._backends.save()

    async def lint(self) -> list[dict[str, Any]]:
        """What to change about the agents: confusable, duplicated, empty ones."""
        return [asdict(one) for one in self._now.lint()]

    @property
    def _now(self) -> RuvLLM:
        return self._current()


def _keep(entries: OrderedDict[str, Any], name: str, value: Any) -> None:
    """Add the latest, let the oldest go."""
    entries[name] = value
    while len(entries) > _OPEN:
        entries.popitem(last=False)


def _memory(row: dict[str, Any], place: int) -> Memory:
    """A memory of an object, which may have dates and whose it is beside its fields."""
    given = {name: row[name] for name in _GIVEN if row.get(name) is not None}
    one = checked(Memory, {name: value for name, value in row.items() if name not in _GIVEN}, f"memories[{place}].")
    return Memory(**one | {"metadata": dated(one.get("metadata", {}), **checked(_given, given))})


def _given(
    observed_at: str = "", valid_from: str = "", valid_to: str = "", expires: str = "", speaker: str = "",
    agent_id: str = "",
) -> None:  # fmt: skip
    """What is said of a memory beside its fields."""


def _pattern(pattern: Any) -> dict[str, Any]:
    names = ("id", "pattern_type", "route", "cluster_size", "avg_quality", "access_count", "contexts", "actions")
    return {name: getattr(pattern, name) for name in names}


def _score(one: Found) -> dict[str, Any]:
    return {"score": one.score, "hops": one.hops, "why": None if one.why is None else asdict(one.why)}
