"""ruvllm's own API: routing, agents, memory, sessions, feedback, patterns."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing, suppress
from dataclasses import asdict
from itertools import pairwise
from typing import Any

from msgspec import UNSET, convert, to_builtins
from msgspec.json import encode

from ruvllm import Decision, InputError, StoreError, Team, __version__
from ruvllm.learning.reliability import note
from ruvllm.memory.erasure import beginning_of, chosen, expired
from ruvllm.memory.exchange import around, described
from ruvllm.memory.found import Brought, Found, answerable
from ruvllm.memory.subgraph import Edge as Link
from ruvllm.memory.validity import Lifetime
from ruvllm.query.responses import Constraints, Response, Session, rlm_settings
from ruvllm.query.sessions import new_id
from ruvllm.rlm.answers import Answered, Delta, Planned, RlmAnswer, RlmEvent
from ruvllm.state.record import AGENT, Memory, dated, heard
from ruvllm.state.transfer import UNFIT
from ruvllm_edge import schemas as s
from ruvllm_edge.auth import Key
from ruvllm_edge.chat import AUTO, allowed_models
from ruvllm_edge.edge import Edge
from ruvllm_edge.metrics import MEDIA
from ruvllm_edge.operations import Call, Operation, Reply, Stream
from ruvllm_edge.problems import CALLER, Problem, problem_of
from ruvllm_edge.savings import DaysQuery, SavingsReport, report
from ruvllm_edge.shared.hot import HotSet
from ruvllm_edge.shared.large import Policy


async def route(edge: Edge, call: Call) -> Decision | Reply:
    """The agent, tier and confidence for a task."""
    telemetry = edge.server.telemetry
    if telemetry is None:
        decided = await edge.route(call.body.text, call.body.top, call.body.team)
        edge.metrics.decision(decided)
        return decided if isinstance(decided, Decision) else Reply(decided.data)
    with telemetry.operation("route", "") as span:
        decision = await edge.llm.aroute(call.body.text, call.body.top, call.body.team)
        telemetry.routed(span, decision)
    edge.metrics.decision(decision)
    return decision


async def route_complex(edge: Edge, call: Call) -> Team:
    """The agents that take a compound task together."""
    return await edge.llm.aroute_complex(call.body.text)


async def query(edge: Edge, call: Call) -> Response | RlmAnswer | Stream:
    """An answer by the tier's backend, with what memory knows; a deep one is put together from those to its parts."""
    given = to_builtins(call.body)
    text, deep, session_id = given.pop("query"), given.pop("deep"), given.pop("session_id")
    given["agent_id"] = call.key.agent_of(given["agent_id"])
    if given.pop("stream"):
        if not deep:
            fix = 'give "deep": true with it; /v1/chat/completions streams other answers'
            raise Problem(422, "only a deep query is streamed here", field="stream", fix=fix)
        return await _streamed(edge, call.key, text, given | {"session_id": session_id})
    if deep:
        return await _deep(edge, call.key, text, given | {"session_id": session_id})
    for name in ("context", "settings"):
        if given.pop(name) is not None:
            raise Problem(422, f"{name} is for deep queries", field=name, fix='give "deep": true with it')
    session = None if session_id is None else _session_of(edge, call, session_id, "session").id
    models = allowed_models(edge, call.key)
    with edge.answering(given["force_model"] or AUTO) as span:
        constraints = Constraints(models=models, headers={**call.headers, **span.headers}, **given)
        response = await edge.llm.aquery(text, session=session, constraints=constraints)
        span.done(response)
    edge.answered(response, call.key.name)
    return response


async def _deep(edge: Edge, key: Key, text: str, given: dict[str, Any]) -> RlmAnswer:
    models = allowed_models(edge, key)
    settings, context = given.pop("settings") or {}, given.pop("context")
    settings |= rlm_settings(given)
    with edge.answering(AUTO) as span:
        answer = await edge.llm.queries.answer_deep(text, context=context, models=models, **settings)
        span.done_deep(answer, edge.answered_deep(answer, key.name))
    return answer


async def _streamed(edge: Edge, key: Key, text: str, given: dict[str, Any]) -> Stream:
    """Whatever fails before the first event is raised here: it can still have a status."""
    settings, context = given.pop("settings") or {}, given.pop("context")
    events = edge.llm.queries.stream_deep(text, allowed_models(edge, key), context, **settings, **rlm_settings(given))
    return Stream(_encoded(edge, key, await anext(events), events))


async def _encoded(
    edge: Edge, key: Key, event: RlmEvent | None, events: AsyncGenerator[RlmEvent, None]
) -> AsyncIterator[bytes]:
    async with aclosing(events):
        span = edge.answering(AUTO, stream=True)
        try:
            while event is not None:
                if isinstance(event, RlmAnswer):
                    span.done_deep(event, edge.answered_deep(event, key.name))
                yield _event(_EVENTS[type(event)], event)
                event = await anext(events, None)
        except Exception as error:
            span.failed(error)
            yield _event("error", problem_of(error).body(CALLER.get().request_id))


def _event(name: str, data: Any) -> bytes:
    return f"event: {name}\ndata: ".encode() + encode(data) + b"\n\n"


async def savings(edge: Edge, call: Call) -> SavingsReport:
    """What answers cost, and would have at the largest model's prices; an administrator sees all keys' answers."""
    days = call.query.days
    rows = edge.savings.since(days, None if call.key.admin or not edge.keys else call.key.name)
    return report(rows, days, edge.largest[0])


async def feedback(edge: Edge, call: Call) -> s.Learnt:
    """Whose a task was, or how an answer or a decision was."""
    body: s.FeedbackBody = call.body
    if body.answer is not UNSET:
        return s.Learnt(examples=await edge.llm.afeedback_decision(str(body.request_id), body.answer))
    if body.request_id is not None:
        applied = await edge.llm.afeedback_request(
            body.request_id,
            rating=body.rating,
            correction=body.correction,
            task_success=body.task_success,
            agent=body.agent,
        )
        if body.rating is not None:
            edge.metrics.quality.observe((body.rating - 1) / 4)
        return s.Learnt(request=applied)
    for field in ("text", "agent"):
        if getattr(body, field) is None:
            fix = "give text and agent (a task is this agent's), or request_id and rating (how an answer was)"
            raise Problem(422, f"{field} is missing", field=field, fix=fix)
    text, agent = str(body.text), str(body.agent)
    if body.right and any(one.name == agent for one in edge.llm.agents):
        note(edge.llm.store, text, await edge.llm.aroute(text), agent)
    await edge.llm.afeedback(text, agent, body.weight, body.right)
    return s.Learnt()


async def new_session(edge: Edge, call: Call) -> s.SessionMade:
    """A conversation that queries with the same key can name."""
    body: s.SessionBody = call.body or s.SessionBody()
    history = to_builtins(body.history)
    return s.SessionMade(edge.llm.new_session(body.metadata, new_id(_prefix(call)), history).id)


async def session(edge: Edge, call: Call) -> Session:
    """A conversation as it stands."""
    return _session_of(edge, call, call.path["id"], "id")


async def end_session(edge: Edge, call: Call) -> None:
    """Forget a conversation."""
    edge.llm.end_session(_session_of(edge, call, call.path["id"], "id").id)


def _session_of(edge: Edge, call: Call, id: str, field: str) -> Session:
    """A session of the caller's. Raises Problem: there is none; another key's is none, too."""
    if not edge.keys or id.startswith(f"{_prefix(call)}-"):
        with suppress(InputError):
            return edge.llm.session(id)
    fix = "begin one with POST /v1/sessions; sessions end when they are not used"
    raise Problem(404, "there is no such session", field=field, fix=fix, name="InputError")


def _prefix(call: Call) -> str:
    return f"sess-{call.key.tag}" if call.key.tag else "sess"


async def agents(edge: Edge, _: Call) -> s.Agents:
    """All agents routed among, and how far those are that will be."""
    return s.Agents(list(edge.llm.agents), edge.agents.progress)


async def put_agents(edge: Edge, call: Call) -> Reply:
    """Add agents. 200: they are routed to. 202: they are acknowledged and being fitted, see GET /v1/agents."""
    return _changed(await edge.agents.add(call.body, call.query.wait))


async def delete_agent(edge: Edge, call: Call) -> Reply:
    """Take an added agent away; a built-in one that it had replaced is there again."""
    return _changed(await edge.agents.remove(call.path["name"], call.query.wait))


async def delete_agents(edge: Edge, call: Call) -> Reply:
    """Take all added agents away."""
    return _changed(await edge.agents.reset(call.query.wait))


def _changed(change: s.AgentsChanged) -> Reply:
    return Reply(change, status=200 if change.fitting is UNSET else 202)


async def take_state(edge: Edge, _: Call) -> Reply:
    """All that is kept, as a SQLite file that opens on every host."""
    most = _transfer(edge)
    data = edge.llm.dump()
    if len(data) > most:
        fix = "raise RUVLLM_MAX_STATE, or copy the file on the server"
        raise Problem(413, f"the state has {len(data)} bytes", field="state", fix=fix)
    return Reply(data, {"cache-control": "no-store"}, media=_BYTES)


async def put_state(edge: Edge, call: Call) -> None:
    """Put a state file in the place of all that is kept; it is whole and in use when this returns."""
    _transfer(edge)
    try:
        await edge.restore(call.body)
    except StoreError as error:
        if error.fix != UNFIT:
            raise
        raise Problem(422, error.message, field=error.field, fix=error.fix, name="StoreError") from None


def _transfer(edge: Edge) -> int:
    """Bytes that a state may have. Raises Problem: clients may have none."""
    if not edge.settings.max_state:
        fix = "set RUVLLM_MAX_STATE on the server to the bytes that a state file may have"
        raise Problem(403, "this server does not let clients take or replace its state", field="state", fix=fix)
    return edge.settings.max_state


async def add_memory(edge: Edge, call: Call) -> s.Memories:
    """Remember texts: all of them or none, on disk when this returns."""
    rows: list[s.MemoryBody] = call.body.memories
    new = [Memory(row.text, row.kind, row.collection, _about(call, row), row.quality) for row in rows]
    vectors = await edge.embed([heard(one.text, one.metadata) for one in new])
    ids = edge.llm.memory.add_encoded(new, vectors)
    if call.body.chain:
        edge.llm.memory.graph.link_all([Link(b, a, "Follows") for a, b in pairwise(ids)])
    return s.Memories(ids)


async def search_memory(edge: Edge, call: Call) -> s.MemoryHits:
    """Memories like a text."""
    b: s.MemorySearch = call.body
    options: dict[str, Any] = {"collection": b.collection, "filter": b.filter, "hops": b.hops}
    options |= {"search": b.search, "at": b.at, "recency": b.recency, "window": b.window}
    brought = list[Brought]()
    options |= {"agent_id": call.key.agent_of(b.agent_id), "brought": brought}
    with edge.traced("retrieval", b.collection or "", {"gen_ai.data_source.id": b.collection or "memory"}):
        groups = await edge.llm.memory.asearch_sessions(b.query, b.k, **options) if b.sessions else []
        found = [one for group in groups for one in group.found]
        found = found if b.sessions else await edge.llm.memory.asearch(b.query, b.k, **options)
    lives = edge.llm.memory.validity.lifetimes([part.memory for one in found for part in (one, *one.passage)])
    sessions = [s.MemorySession(one.session, one.score, [hit.memory.id for hit in one.found]) for one in groups]
    hits = [_hit(one, lives) for one in found]
    how = brought[0] if brought else ""
    return s.MemoryHits(hits, round(answerable(found), 4), sessions, UNSET if how == "" else how)


_GIVEN = ("observed_at", "valid_from", "valid_to", "expires", "speaker")


def _about(call: Call, row: s.MemoryBody) -> dict[str, Any]:
    """A memory's metadata with what its other fields say."""
    given = {name: getattr(row, name) for name in _GIVEN}
    mine = call.key.agent_of(row.agent_id or row.metadata.get("agent_id"))
    return dated(row.metadata, **given, agent_id=mine)


async def timeline(edge: Edge, call: Call) -> s.Timeline:
    """What superseded a memory and what it superseded."""
    memory = edge.llm.memory
    found = memory.records.get(memory.validity.history(memory_id(edge, call, call.path["id"])))
    return s.Timeline(convert(described(memory, found), list[s.MemoryRow]))


async def reopen(edge: Edge, call: Call) -> s.Reopened:
    """Let a memory hold again, whatever superseded it."""
    return s.Reopened(edge.llm.memory.validity.reopen([memory_id(edge, call, call.path["id"])]) > 0)


async def forget_memory(edge: Edge, call: Call) -> None:
    """Remove a memory for good, with its edges."""
    id = memory_id(edge, call, call.path["id"])
    if call.query.erase:
        await edge.llm.services.aerase([id])
    else:
        edge.llm.memory.forget([id])


async def forget_memories(edge: Edge, call: Call) -> s.Forgotten:
    """Remove memories for good, by their ids or by a policy; of an agent's key its own alone."""
    b: s.ForgetBody = call.body
    llm, wanted = edge.llm, {*b.ids}
    wanted |= {*(expired(llm.store) if b.expired else ())}
    if b.filter is not None or b.collection is not None or b.before is not None:
        wanted |= {*chosen(llm.store, b.filter, collection=b.collection, before=b.before)}
    elif not b.ids and not b.expired:
        fix = "give ids, a filter, a collection, a date or expired"
        raise InputError("nothing says what to forget", field="ids", fix=fix)
    if call.key.agent:
        wanted = {one.id for one in llm.memory.records.get(sorted(wanted)) if one.metadata.get(AGENT) == call.key.agent}
    ids = sorted(wanted)
    gone = await llm.services.aerase(ids) if b.erase else llm.memory.forget(ids)
    hot = llm.memory.elsewhere
    if not isinstance(hot, HotSet) or not (b.expired or b.filter or b.collection or b.before):
        return s.Forgotten(gone)
    before = None if b.before is None else beginning_of(b.before)
    policy = Policy(b.filter, b.collection, before, b.expired, call.key.agent or "")
    more, how = await hot.forget(policy, b.erase)
    return s.Forgotten(gone + more, how or UNSET)


def memory_id(edge: Edge, call: Call, given: str | int) -> int:
    """Of a memory that there is, and that is not another agent's. Raises Problem: 404."""
    id = int(given)
    found = edge.llm.memory.get([id]) if 0 <= id < 1 << 63 else []
    if not found or not call.key.sees(found[0]):
        raise Problem(404, f"there is no memory {str(id)[:40]}", field="id", fix="POST /v1/memory/search shows ids")
    return id


async def bind_memories(edge: Edge, call: Call) -> s.HyperedgeMade:
    """Join memories that belong together; what is rated afterwards moves the weight."""
    b: s.HyperedgeBody = call.body
    return s.HyperedgeMade(edge.llm.memory.graph.bind(b.members, b.kind, b.weight, b.metadata))


async def unbind_memories(edge: Edge, call: Call) -> None:
    """Take a hyperedge away, never its members."""
    id = call.path["id"]
    if not id.isdecimal() or len(id) > _DIGITS or not edge.llm.memory.graph.unbind(int(id)):
        raise Problem(404, f"there is no hyperedge {id[:40]!r}", field="id", fix="GET /v1/memory/graph shows them")


async def memory_graph(edge: Edge, call: Call) -> s.MemoryGraph:
    """What lies around some memories: typed edges and hyperedges, and what they lead to."""
    ids = [int(one) for one in call.query.ids.split(",")]
    graph = convert(around(edge.llm.memory, ids, call.query.hops), s.MemoryGraph)
    if not call.key.agent:
        return graph
    seen = {one.id for one in graph.nodes if one.metadata.get(AGENT) in (None, call.key.agent)}
    graph.nodes = [one for one in graph.nodes if one.id in seen]
    graph.edges = [one for one in graph.edges if {one.source, one.target} <= seen]
    graph.hyperedges = [one for one in graph.hyperedges if seen.issuperset(one.members)]
    return graph


def _hit(one: Found, lives: Mapping[int, Lifetime]) -> s.MemoryHit:
    memory, why = one.memory, None if one.why is None else s.MemoryWhy(**asdict(one.why))
    more = (memory.kind, memory.collection, dict(memory.metadata), memory.quality, one.hops, why)
    life, passage = lives[memory.id], [_hit(other, lives) for other in one.passage]
    return s.MemoryHit(memory.id, memory.text, one.score, *more, life.since, life.until, life.said, passage)


async def patterns(edge: Edge, call: Call) -> s.Patterns:
    """What was learnt of many tasks, the most used first."""
    return s.Patterns(
        [convert(one, s.PatternRow, from_attributes=True) for one in edge.llm.get_patterns(call.query.limit)]
    )


async def stats(edge: Edge, call: Call) -> dict[str, Any]:
    """What it holds and has done; where its state lies is told to administrators."""
    stats = edge.llm.stats() | {"own_agents": len(edge.agents.added), "write_back": edge.llm.config.memory.write_back}
    node = edge.server.node
    if node is not None and edge.name in node:
        stats["shared"] = node.stats(edge)
    return stats if call.key.admin else {name: value for name, value in stats.items() if name != "state"}


async def health(_: Edge, __: Call) -> s.Health:
    """Whether the process answers."""
    return s.Health("ok", __version__)


async def ready(edge: Edge, _: Call) -> Any:
    """Whether requests should be sent here: 503 while it warms up or ends."""
    if not edge.ready:
        return Reply(s.Ready(ready=False), status=503)
    dead = edge.llm.services.unavailable
    if edge.server.node is not None and not edge.server.node.up:
        dead.append("shared log")
    return s.Ready(True, len(edge.llm.agents), edge.llm.encoders.mode, "degraded" if dead else "ok", dead)


async def metrics(edge: Edge, call: Call) -> Reply:
    """Counters for Prometheus; where there are several spaces, all of them for an administrator of the default one."""
    edge.server.spaces.default.gauge()
    return Reply(edge.metrics.text(edge.server.gauge(call.key)), media=MEDIA)


_DIGITS = 18  # of an id
_BYTES = b"application/octet-stream"
_EVENTS = {Planned: "planned", Answered: "answered", Delta: "delta", RlmAnswer: "answer"}
_TASK = {"text": "fix the memory leak in the cache module"}
_FEEDBACK = {"text": "polish the copper kettle", "agent": "reviewer"}
_AGENT = {"name": "baker", "description": "Bakes bread and cakes.", "examples": ["bake a sourdough loaf"]}
_MEMORY = {"memories": [{"text": "Deploys happen on Tuesdays.", "kind": "Fact", "metadata": {"team": "web"}}]}


def _feedback(path: str) -> Operation:
    return Operation(
        "POST", path, feedback, "Teach it", s.FeedbackBody, answer=s.Learnt, tag="learning", example=_FEEDBACK
    )


def _query(path: str) -> Operation:
    body = {"query": "When do we deploy?"}
    return Operation(
        "POST", path, query, "Answer a question", s.QueryBody, answer=Response | RlmAnswer, tag="answers", waits=True,
        example=body, media=("application/json", "text/event-stream"),
    )  # fmt: skip


def _session(path: str) -> Operation:
    return Operation(
        "POST", path, new_session, "Begin a session", s.SessionBody, True, answer=s.SessionMade, tag="answers",
        example={"metadata": {"user": "ada"}},
    )  # fmt: skip


OPERATIONS = (
    Operation("POST", "/v1/route", route, "Route a task", s.RouteBody, answer=Decision, tag="routing", example=_TASK),
    Operation("POST", "/v1/route/complex", route_complex, "Make a team for a compound task", s.TeamBody, answer=Team,
              tag="routing", example={"text": "build a shop with login, tests and a deployment"}),
    _query("/query"),
    _query("/v1/query"),
    _feedback("/feedback"),
    _feedback("/v1/feedback"),
    _session("/session"),
    _session("/v1/sessions"),
    Operation("GET", "/v1/sessions/{id}", session, "A session with its history", answer=Session, tag="answers"),
    Operation("DELETE", "/v1/sessions/{id}", end_session, "End a session", tag="answers", status=204),
    Operation("GET", "/v1/agents", agents, "List the agents", answer=s.Agents, tag="routing"),
    Operation("PUT", "/v1/agents", put_agents, "Add agents", s.AgentsChange, query=s.AgentsQuery,
              answer=s.AgentsChanged, tag="routing", most=8 << 20, later=True, example={"agents": [_AGENT]}),
    Operation("DELETE", "/v1/agents", delete_agents, "Take all added agents away", query=s.AgentsQuery,
              answer=s.AgentsChanged, tag="routing", later=True),
    Operation("DELETE", "/v1/agents/{name:path}", delete_agent, "Take an added agent away", query=s.AgentsQuery,
              answer=s.AgentsChanged, tag="routing", later=True),
    Operation("POST", "/v1/memory", add_memory, "Remember", s.MemoryAdd, answer=s.Memories, tag="memory",
              most=8 << 20, example=_MEMORY),
    Operation("POST", "/v1/memory/search", search_memory, "Recall", s.MemorySearch, answer=s.MemoryHits, tag="memory",
              example={"query": "release day", "k": 3}),
    Operation("GET", "/v1/memory/graph", memory_graph, "What lies around memories", query=s.GraphQuery,
              answer=s.MemoryGraph, tag="memory"),
    Operation("GET", "/v1/memory/{id:int}/timeline", timeline, "What superseded what", answer=s.Timeline, tag="memory"),
    Operation("POST", "/v1/memory/{id:int}/reopen", reopen, "Undo a supersession", answer=s.Reopened, tag="memory"),
    Operation("DELETE", "/v1/memory/{id:int}", forget_memory, "Forget a memory", query=s.ForgetQuery, tag="memory",
              status=204),
    Operation("POST", "/v1/memory/forget", forget_memories, "Forget by a policy", s.ForgetBody, answer=s.Forgotten,
              tag="memory", example={"filter": {"team": "nobody"}, "before": "2020-01-01"}),
    Operation("POST", "/v1/memory/hyperedges", bind_memories, "Join memories that belong together", s.HyperedgeBody,
              answer=s.HyperedgeMade, tag="memory", example={"members": [1, 2, 3], "kind": "SameTopic"}),
    Operation("DELETE", "/v1/memory/hyperedges/{id}", unbind_memories, "Take a hyperedge away", tag="memory",
              status=204),
    Operation("GET", "/v1/savings", savings, "What was spent and saved", query=DaysQuery, answer=SavingsReport),
    Operation("GET", "/v1/patterns", patterns, "What was learnt", query=s.PatternsQuery, answer=s.Patterns,
              tag="learning"),
    Operation("GET", "/v1/state", take_state, "Take all that is kept", answer=bytes, tag="server",
              media=("application/octet-stream",)),
    Operation("PUT", "/v1/state", put_state, "Put another state in its place", bytes, tag="server",
              limit="max_state"),
    Operation("GET", "/stats", stats, "What it holds and has done", answer=s.Stats, tag="server"),
    Operation("GET", "/v1/stats", stats, "What it holds and has done", answer=s.Stats, tag="server"),
    Operation("GET", "/health", health, "Is it alive?", answer=s.Health, tag="server", public=True),
    Operation("GET", "/v1/health", health, "Is it alive?", answer=s.Health, tag="server", public=True),
    Operation("GET", "/ready", ready, "Can it take requests?", answer=s.Ready, tag="server", public=True,
              answer_503=s.Ready),
    Operation("GET", "/metrics", metrics, "Counters for Prometheus", answer=bytes, tag="server",
              media=("text/plain",)),
)  # fmt: skip
