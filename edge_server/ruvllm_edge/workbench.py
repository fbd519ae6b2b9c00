"""What runs beside routing, for who looks into it: memories, sub-queries, feedback and patterns, named LLM backends."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct, convert, to_builtins

from ruvllm import Decision
from ruvllm.jobs import JobRun
from ruvllm.learning.reliability import reliability as measured_reliability
from ruvllm.memory.exchange import described, measured
from ruvllm.memory.filters import visible_to
from ruvllm.rlm.decompose import decomposed
from ruvllm.sizing.selector import BackendProfile
from ruvllm_edge import schemas as s
from ruvllm_edge.edge import Edge
from ruvllm_edge.native import memory_id
from ruvllm_edge.operations import Call, Operation
from ruvllm_edge.problems import Problem

_Unit = Annotated[float, Meta(ge=0, le=1)]
_Positive = Annotated[float, Meta(ge=0, le=1e9)]


class MemoriesQuery(Struct):
    """How many, of which collection."""

    limit: Annotated[int, Meta(ge=1, le=1_000)] = 200
    collection: s.Name = "default"


class MemoryRows(Struct):
    """Memories, the newest first."""

    memories: list[s.MemoryRow]


class EdgeBody(Struct, forbid_unknown_fields=True):
    """A typed edge to make; of one that is there, the weight to set."""

    source: int
    target: int
    kind: Literal["Cites", "Follows", "SameTopic", "AgentStep", "Derived", "Contains"]
    weight: _Unit = 1.0


class CollectionQuery(Struct):
    """Whose index is opened."""

    collection: s.Name = "default"


class IndexStats(Struct):
    """How a collection is searched."""

    kind: str
    size: int
    recall: float = 1.0


class MemoryStats(Struct):
    """How many memories there are, how they are searched, and how their vectors are stored."""

    space: str
    collections: dict[str, int]
    tiers: dict[str, dict[str, s.TierStats]]
    indexes: dict[str, IndexStats]
    edges: int
    vectors: int
    vector_bytes: int
    format: str
    dim: int


class PartBody(Struct, forbid_unknown_fields=True):
    """A query to take apart."""

    query: s.Text


class PlanPart(Struct):
    """A sub-query: places of those whose answers it needs, and who would take it."""

    text: str
    after: list[int]
    decision: Decision


class PlanRow(Struct):
    """The sub-queries of a query; `split` is false for one that is best answered whole, and is its only part."""

    query: str
    join: Literal["parts", "compare"]
    split: bool
    parts: list[PlanPart]


class FeedbackQuery(Struct):
    """How many, the latest."""

    limit: Annotated[int, Meta(ge=1, le=1_000)] = 50


class FeedbackEntry(Struct):
    """Feedback that is learnt from; `right` false says that the text does not belong to the agent."""

    id: int
    text: str
    agent: str
    right: bool
    rating: float | None
    created: float


class FeedbackEntries(Struct):
    """The newest first, and how many there are in all."""

    feedback: list[FeedbackEntry]
    total: int


class ReliabilityBin(Struct, rename={"from_": "from"}):
    """Decisions of about the same confidence: how many, its mean, and the share that was right."""

    from_: float
    to: float
    count: int
    confidence: float
    right: float


class Reliability(Struct):
    """Decisions that feedback spoke of; `ece` is the expected calibration error."""

    decisions: int
    right: int
    ece: float | None
    bins: list[ReliabilityBin]


class LintFinding(Struct):
    """One thing to change about the agents; `prompts` are the examples that collide."""

    kind: str
    agents: list[str]
    message: str
    fix: str
    prompts: list[str]


class JobsBody(Struct, forbid_unknown_fields=True):
    """How many seconds each job may take."""

    budget: Annotated[float, Meta(gt=0, le=30)] = 0.05


class Backend(Struct, forbid_unknown_fields=True):
    """An LLM: dollars and milliseconds of an answer, and its mean quality."""

    name: s.Name
    cost: _Positive
    latency: Annotated[float, Meta(gt=0, le=1e9)] = 1_000.0
    quality: _Unit = 0.8


class BackendsBody(Struct, forbid_unknown_fields=True):
    """LLMs to choose among, within a mean budget of dollars a prompt."""

    backends: Annotated[list[Backend], Meta(max_length=256)]
    budget: _Positive | None = None


class SelectBody(Struct, forbid_unknown_fields=True):
    """A prompt, and what its LLM may cost, take and has to reach."""

    prompt: s.Text
    max_cost: _Positive | None = None
    max_latency: _Positive | None = None
    min_quality: _Unit | None = None


class BackendChoice(Struct):
    """The LLM for a prompt; quality, cost and latency as expected."""

    choice_id: str
    backend: str
    quality: float
    cost: float
    latency: float
    value: float
    alternatives: list[str]


class OutcomeBody(Struct, forbid_unknown_fields=True):
    """What came of a choice."""

    choice_id: str
    success: bool = True
    quality: _Unit | None = None
    cost: _Positive | None = None
    latency: _Positive | None = None


async def memories(edge: Edge, call: Call) -> MemoryRows:
    """The latest of a collection; of an agent's key its own and shared ones."""
    memory = edge.llm.memory
    seen = memory.records.matching(call.query.collection, visible_to(call.key.agent or None))
    ids = seen[-call.query.limit :][::-1].tolist()
    return MemoryRows(convert(described(memory, memory.records.get(ids)), list[s.MemoryRow]))


async def link(edge: Edge, call: Call) -> None:
    """Make a typed edge, or set the weight of one that is there."""
    b: EdgeBody = call.body
    ends = memory_id(edge, call, b.source), memory_id(edge, call, b.target)
    edge.llm.memory.graph.link(*ends, b.kind, b.weight)


async def memory_stats(edge: Edge, call: Call) -> MemoryStats:
    """How many memories there are, how they are searched and stored."""
    return convert(await measured(edge.llm.memory, call.query.collection), MemoryStats)


async def decompose(edge: Edge, call: Call) -> dict[str, Any]:
    """The sub-queries of a query, and who would take each."""
    return await decomposed(call.body.query, edge.llm.aroute)


async def feedback_list(edge: Edge, call: Call) -> FeedbackEntries:
    """The latest feedback, with the ids that an undo takes."""
    stored = edge.llm.store.feedback_rows()
    rows = [
        FeedbackEntry(one.id, one.feedback.text, one.feedback.agent, one.feedback.right, one.rating, one.created)
        for one in stored[-call.query.limit :][::-1]
    ]
    return FeedbackEntries(rows, len(stored))


async def undo_feedback(edge: Edge, call: Call) -> None:
    """Take feedback back: learnt from no more."""
    id = int(call.path["id"])
    if id >= 1 << 63 or not await edge.llm.aundo_feedback(id):
        raise Problem(404, f"there is no feedback {str(id)[:40]}", field="id", fix="GET /v1/feedback shows ids")


async def learn_patterns(edge: Edge, _: Call) -> s.Patterns:
    """Distil patterns of all that was rated, now instead of in the background."""
    edge.llm.learning.engine.force_learn()
    edge.llm.learning.engine.flush()
    return s.Patterns([convert(one, s.PatternRow, from_attributes=True) for one in edge.llm.get_patterns(20)])


async def reliability(edge: Edge, _: Call) -> Reliability:
    """How often decisions of each confidence were right, of those that feedback spoke of."""
    return convert(measured_reliability(edge.llm.store), Reliability)


async def lint(edge: Edge, _: Call) -> list[LintFinding]:
    """What to change about the agents: confusable, duplicated, empty ones."""
    return convert([asdict(one) for one in edge.llm.lint()], list[LintFinding])


async def run_jobs(edge: Edge, call: Call) -> list[JobRun]:
    """Do what of the background work is due; nothing where the server is at it already."""
    return await edge.llm.arun_jobs(call.body.budget)


async def set_backends(edge: Edge, call: Call) -> dict[str, Any]:
    """Choose among these from now on; what was learnt of others is dropped."""
    b: BackendsBody = call.body
    return edge.named.set([BackendProfile(**to_builtins(one)) for one in b.backends], b.budget)


async def backend_stats(edge: Edge, _: Call) -> dict[str, Any]:
    """Spend, savings and quality over time, each as it was stated and as it proved to be."""
    return edge.named.stats()


async def select(edge: Edge, call: Call) -> dict[str, Any]:
    """The LLM for a prompt, and the id under which its outcome is told."""
    b: SelectBody = call.body
    return await edge.named.select(b.prompt, b.max_cost, b.max_latency, b.min_quality)


async def record_outcome(edge: Edge, call: Call) -> dict[str, Any]:
    """What came of a choice; the stats after it."""
    b: OutcomeBody = call.body
    stats = await edge.named.record(b.choice_id, b.success, b.quality, b.cost, b.latency)
    edge.llm.sizing.save()
    return stats


_LLMS = {"backends": [{"name": "small", "cost": 0.0001}, {"name": "large", "cost": 0.004, "quality": 0.9}]}

OPERATIONS = (
    Operation("GET", "/v1/memory", memories, "The latest memories", query=MemoriesQuery, answer=MemoryRows,
              tag="memory"),
    Operation("POST", "/v1/memory/edges", link, "Join two memories by a typed edge", EdgeBody, tag="memory",
              status=204, example={"source": 2, "target": 1, "kind": "Cites"}),
    Operation("GET", "/v1/memory/stats", memory_stats, "How memories are stored and searched", query=CollectionQuery,
              answer=MemoryStats, tag="memory"),
    Operation("POST", "/v1/query/plan", decompose, "Take a query apart", PartBody, answer=PlanRow, tag="answers",
              example={"query": "When is staging reset and who owns billing?"}),
    Operation("GET", "/v1/feedback", feedback_list, "The latest feedback", query=FeedbackQuery,
              answer=FeedbackEntries, tag="learning"),
    Operation("DELETE", "/v1/feedback/{id:int}", undo_feedback, "Take feedback back", tag="learning", status=204),
    Operation("POST", "/v1/patterns", learn_patterns, "Distil patterns now", answer=s.Patterns, tag="learning"),
    Operation("GET", "/v1/reliability", reliability, "How far confidences hold", answer=Reliability, tag="learning"),
    Operation("GET", "/v1/agents/lint", lint, "What to change about the agents", answer=list[LintFinding],
              tag="routing"),
    Operation("POST", "/v1/jobs", run_jobs, "Do background work that is due", JobsBody, answer=list[JobRun],
              tag="server", example={"budget": 0.05}),
    Operation("PUT", "/v1/backends", set_backends, "Name LLMs to choose among", BackendsBody, answer=dict[str, Any],
              tag="backends", example=_LLMS),
    Operation("GET", "/v1/backends", backend_stats, "What each LLM cost and how well it did", answer=dict[str, Any],
              tag="backends"),
    Operation("POST", "/v1/backends/select", select, "Choose an LLM for a prompt", SelectBody, answer=BackendChoice,
              tag="backends", example={"prompt": "summarise this page", "max_cost": 0.001}),
    Operation("POST", "/v1/backends/outcomes", record_outcome, "Say what came of a choice", OutcomeBody,
              answer=dict[str, Any], tag="backends"),
)  # fmt: skip
