"""The JSON of ruvllm's own API; what it shares with the core is the core's own types."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from ruvllm import Agent
from ruvllm.jobs import JobRun
from ruvllm.query.responses import Applied

Text = str  # the core itself says what is wrong with one, in the same words on every host
Name = Annotated[str, Meta(min_length=1, max_length=200)]
# One that cannot be used is a problem of its own, and stops no other: the core reads them.
_LIKE_AGENTS = {"items": {"$ref": "#/components/schemas/Agent"}}


class RouteBody(Struct, forbid_unknown_fields=True):
    """A task to be routed."""

    text: Text
    top: Annotated[int, Meta(ge=0, le=100, description="alternatives to name")] = 3
    team: Annotated[bool, Meta(description="whether an unsure decision names the agents that share the task")] = False


class TeamBody(Struct, forbid_unknown_fields=True):
    """A compound task."""

    text: Text


class DeepSettings(Struct, forbid_unknown_fields=True, omit_defaults=True):
    """Limits and habits of recursive answering, as those of Python's RlmConfig."""

    max_depth: Annotated[int, Meta(ge=0, le=32)] = 5
    max_sub_queries: Annotated[int, Meta(ge=2, le=64)] = 5
    token_budget: Annotated[int, Meta(ge=128, le=1_000_000)] = 4096
    top_k: Annotated[int, Meta(ge=1, le=100)] = 10
    reflections: Annotated[int, Meta(ge=0, le=8)] = 0
    min_quality: Annotated[float, Meta(ge=0, le=1)] = 0.7
    max_parallel: Annotated[int, Meta(ge=1, le=32)] = 8
    answer_tokens: Annotated[int, Meta(ge=16, le=100_000)] = 512


class QueryBody(Struct, forbid_unknown_fields=True):
    """A question, and what the caller insists on."""

    query: Text
    session_id: str | None = None
    max_latency_ms: float | None = None
    max_cost: Annotated[float | None, Meta(description="US dollars; no tier that costs more is asked")] = None
    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    force_model: str | None = None
    force_context: int | None = None
    seed: int | None = None
    top_k: int | None = None
    min_p: float | None = None
    repeat_penalty: float | None = None
    explain: Annotated[bool, Meta(description="also say which memories it draws on, as `attention`")] = False
    deep: Annotated[bool, Meta(description="take it apart, and answer its parts first: see RlmAnswer")] = False
    agent_id: (
        Annotated[Name, Meta(description="the agent that asks: it is answered from its own memories and shared ones")]
        | None
    ) = None
    stream: Annotated[bool, Meta(description="with deep: events planned, answered, delta, answer as they come")] = False
    context: Annotated[str | None, Meta(description="with deep: a text to answer from, of any length")] = None
    settings: Annotated[DeepSettings | None, Meta(description="with deep: how far it goes")] = None


class FeedbackBody(Struct, forbid_unknown_fields=True):
    """Either `text` and `agent`: this task belongs to this agent. Or `request_id`: how an answer was.

    With a request, `correction` is the better answer, and `agent` who is right for the question. With the id of a
    decision, `answer` is the right answer to its question, or {question: answer} for any of several.
    """

    text: str | None = None
    agent: str | None = None
    weight: Annotated[float, Meta(gt=0, le=10)] = 1.0
    request_id: str | None = None
    rating: Annotated[float, Meta(ge=1, le=5, description="1 bad, 5 good")] | None = None
    correction: str | None = None
    task_success: bool | None = None
    right: Annotated[bool, Meta(description="false: the text does not belong to the agent")] = True
    answer: Annotated[
        str | bool | int | dict[str, str | bool | int] | UnsetType, Meta(description="an option, yes or no, a level")
    ] = UNSET


class Learnt(Struct):
    """Feedback was taken in.

    `examples` says how many each question of a decision has now.
    """

    learnt: bool = True
    request: Applied | None = None
    examples: dict[str, int] | None = None


class AgentFile(Struct):
    """A file that holds agents: Claude Code's *.md, or .json, .toml, .yaml."""

    path: Annotated[str, Meta(min_length=1, max_length=1_000)]
    text: str


class AgentsChange(Struct, forbid_unknown_fields=True):
    """Agents to add, as they are or in files; one of a known name takes the other's place."""

    agents: Annotated[list[dict[str, Any]], Meta(max_length=10_000, extra_json_schema=_LIKE_AGENTS)] = []
    files: Annotated[list[AgentFile], Meta(max_length=10_000)] = []


class ProblemRow(Struct):
    """An agent file that was skipped, and how to mend it."""

    field: str
    message: str
    fix: str


class AgentsQuery(Struct):
    """How long the answer may wait for the agents to be fitted, in seconds, before it is 202: 20 for few, else 1.5."""

    wait: Annotated[float, Meta(ge=0, le=60)] | None = None


class Fitting(Struct):
    """Agents that are acknowledged and not yet routed among. It is over when `GET /v1/agents` has it no more."""

    agents: int
    seconds: float
    steps: int
    done: Annotated[float, Meta(ge=0, lt=1, description="about how much of it")]
    problem: str = ""


class AgentsChanged(Struct):
    """How many agents there are, those that are being fitted included."""

    agents: int
    problems: list[ProblemRow] = []
    kept: bool = False
    fitting: Fitting | UnsetType = UNSET


class Agents(Struct):
    """All agents routed among."""

    agents: list[Agent]
    fitting: Fitting | UnsetType = UNSET


class MemoryBody(Struct, forbid_unknown_fields=True):
    """A text to remember."""

    text: Annotated[str, Meta(min_length=1, max_length=1_000_000)]
    kind: str = "Document"
    collection: Name = "default"
    metadata: dict[str, Any] = {}
    quality: Annotated[float, Meta(ge=0, le=1)] = 1.0
    observed_at: Annotated[str, Meta(max_length=100, description="a date: when it was said")] | None = None
    valid_from: Annotated[str, Meta(max_length=100, description="a date: from when it holds")] | None = None
    valid_to: Annotated[str, Meta(max_length=100, description="a date: from when it holds no longer")] | None = None
    expires: Annotated[str, Meta(max_length=100, description="a date: when it is forgotten")] | None = None
    speaker: Name | None = None
    agent_id: Annotated[Name, Meta(description="whose knowledge it is; everybody's without")] | None = None


class MemoryAdd(Struct, forbid_unknown_fields=True):
    """Texts to remember."""

    memories: Annotated[list[MemoryBody], Meta(min_length=1, max_length=1_000)]
    chain: Annotated[bool, Meta(description="each follows the one before it")] = False


class Memories(Struct):
    """Their ids."""

    ids: list[int]


class MemorySearch(Struct, forbid_unknown_fields=True):
    """What to look for."""

    query: Annotated[str, Meta(min_length=1, max_length=100_000)]
    k: Annotated[int, Meta(ge=1, le=1_000)] = 10
    collection: Name = "default"
    filter: dict[str, Any] | None = None
    hops: Annotated[int, Meta(ge=0, le=4)] = 0
    search: Literal["hybrid", "vectors", "words"] | None = None
    at: Annotated[str, Meta(max_length=100)] | None = None
    recency: Annotated[float, Meta(ge=0, le=1)] | None = None
    agent_id: Annotated[Name, Meta(description="find what is this agent's and what is shared")] | None = None
    window: Annotated[int, Meta(ge=0, le=8)] = 0
    sessions: Annotated[bool, Meta(description="k is of sessions, by `session` among the metadata")] = False


class ForgetBody(Struct, forbid_unknown_fields=True):
    """Which memories to forget: `ids`, those that have expired, and those that fulfil all else that is given."""

    ids: Annotated[list[int], Meta(max_length=10_000)] = []
    filter: dict[str, Any] | None = None
    collection: Name | None = None
    before: Annotated[str, Meta(max_length=100, description="a date; those remembered before it")] | None = None
    expired: bool = False
    erase: Annotated[bool, Meta(description="leave no byte of them in the file, which is written anew")] = False


class Forgotten(Struct):
    """How many there were.

    `elsewhere` is there where collections are too large for the server: whether the shared database was searched, too,
    or was unreachable, and what the server holds itself is all.
    """

    forgotten: int
    elsewhere: Literal["searched", "meaning", "late", "unreachable"] | UnsetType = UNSET


class ForgetQuery(Struct):
    """How thoroughly."""

    erase: Annotated[bool, Meta(description="leave no byte of it in the file, which is written anew")] = False


class ClosedMemory(Struct):
    """Until when a memory held, and which other one says so."""

    until: float
    successor: int | None
    reason: str
    confidence: float


class MemoryRow(Struct):
    """A memory, and from when until when it holds; times are in seconds since 1970, `until` null for no end."""

    id: int
    text: str
    kind: str
    collection: str
    metadata: dict[str, Any]
    quality: float
    created: float
    accessed: float
    accesses: Annotated[int, Meta(description="how often a search returned it")]
    archived: bool
    since: float
    until: float | None
    closed: ClosedMemory | None
    said: Annotated[int, Meta(description="how often it was said")]


class Timeline(Struct):
    """What superseded a memory and what it superseded, the oldest first."""

    memories: list[MemoryRow]


class Reopened(Struct):
    """Whether it was closed before."""

    reopened: bool


class HyperedgeBody(Struct, forbid_unknown_fields=True):
    """Memories that belong together, all with all."""

    members: Annotated[list[int], Meta(min_length=2, max_length=1_000)]
    kind: Name = "SameTopic"
    weight: Annotated[float, Meta(ge=0, le=1)] = 1.0
    metadata: dict[str, Any] = {}


class HyperedgeMade(Struct):
    """Its id."""

    id: int


class GraphQuery(Struct):
    """Around which memories, and how far."""

    ids: Annotated[str, Meta(pattern=r"^[0-9]{1,19}(,[0-9]{1,19}){0,99}$", description="ids, with commas between them")]
    hops: Annotated[int, Meta(ge=0, le=4)] = 1


class MemoryEdge(Struct):
    """A typed edge."""

    source: int
    target: int
    kind: str
    weight: float


class Hyperedge(Struct):
    """Memories that belong together; its weight moves with ratings."""

    id: int
    members: list[int]
    kind: str
    weight: float
    metadata: dict[str, Any]


class MemoryNode(Struct):
    """A memory, and how many edges away it is."""

    id: int
    text: str
    kind: str
    collection: str
    metadata: dict[str, Any]
    quality: float
    hops: int


class MemoryGraph(Struct):
    """What lies around some memories; among the edges a hyperedge is a star around one of its members."""

    nodes: list[MemoryNode]
    edges: list[MemoryEdge]
    hyperedges: list[Hyperedge]


class MemoryWhy(Struct):
    """What a memory's score is the sum of."""

    cosine: float
    words: float
    speaker: float
    neighbour: float
    time: float
    graph: float


class MemoryHit(Struct):
    """A memory, its score, what that is the sum of where words were searched, and its passage where one was wanted."""

    id: int
    text: str
    score: float
    kind: str
    collection: str
    metadata: dict[str, Any]
    quality: float
    hops: int = 0
    why: MemoryWhy | None = None
    since: Annotated[float, Meta(description="when it began to hold, in seconds since 1970")] = 0.0
    until: Annotated[float | None, Meta(description="when it ended; null where it has not")] = None
    said: Annotated[int, Meta(description="how often it was said")] = 1
    passage: list[MemoryHit] = []


class MemorySession(Struct):
    """A conversation, and which of the hits are of it."""

    session: str
    score: float
    memories: list[int]


class MemoryHits(Struct):
    """The best ones first, the chance that an answer is among them, and their sessions where these are sought.

    `elsewhere` is there where the collection is too large for the server: whether the shared database was searched for
    the rest of it (by "meaning" alone where words are not indexed), or was late or unreachable, and what the server
    holds itself is all.
    """

    memories: list[MemoryHit]
    answerable: float = 0.0
    sessions: list[MemorySession] = []
    elsewhere: Literal["searched", "meaning", "late", "unreachable"] | UnsetType = UNSET


class Turn(Struct, forbid_unknown_fields=True):
    """Something that was said."""

    role: Literal["user", "assistant"]
    content: str


class SessionBody(Struct, forbid_unknown_fields=True):
    """What to note about a session, and what was said before: each question with its answer."""

    metadata: dict[str, Any] = {}
    history: Annotated[list[Turn], Meta(max_length=100)] = []


class SessionMade(Struct):
    """A session that can be named in queries."""

    session_id: str


class PatternsQuery(Struct):
    """How many patterns."""

    limit: Annotated[int, Meta(ge=1, le=1_000)] = 20


class PatternRow(Struct):
    """A way of handling a kind of task that has worked."""

    id: int
    pattern_type: str
    route: str
    cluster_size: int
    avg_quality: float
    access_count: int
    created_at: float
    last_accessed: float
    contexts: list[str]
    actions: list[str]
    metadata: dict[str, Any]


class Patterns(Struct):
    """What was learnt of many tasks."""

    patterns: list[PatternRow]


class JobStatus(Struct):
    """A kind of background work; times are in seconds, and since 1970.

    The next run comes no sooner than `next`. `last` is the last whole run, `failure` the last failure since.
    """

    name: str
    interval: float
    due: bool
    next: float
    last: JobRun | None
    failure: JobRun | None


class TierStats(Struct):
    """Memories of a collection whose vectors are held in one way, and their bytes in memory."""

    count: int
    bytes: int


class SharedStats(Struct):
    """How a space stands among nodes: changes sent and applied since the start, and waiting; seconds since then."""

    sharing: Literal["texts", "vectors", "deltas"]
    up: bool
    problem: str
    sent: int
    applied: int
    waiting: int
    waiting_seconds: float
    lag_seconds: float


class Stats(Struct):
    """What it holds and has done, in more fields than these. `state` is told to administrators."""

    agents: int
    encoder: str
    set_aside: dict[str, int]
    failures: dict[str, int]
    jobs: list[JobStatus]
    own_agents: int
    write_back: bool
    memory_tiers: dict[str, dict[str, TierStats]] | UnsetType = UNSET
    shared: SharedStats | UnsetType = UNSET
    state: str | UnsetType = UNSET


class Health(Struct):
    """The process answers."""

    status: str
    version: str


class Ready(Struct):
    """Whether requests should be sent here now, and which backends are down: then memory or another one answers.

    "shared log" among them is the database that nodes share: what they write waits, and they answer as ever.
    """

    ready: bool
    agents: int | UnsetType = UNSET
    encoder: str | UnsetType = UNSET
    status: str | UnsetType = UNSET
    unavailable: list[str] | UnsetType = UNSET
