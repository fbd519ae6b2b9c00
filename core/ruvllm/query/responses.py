"""What goes into a query and what comes out. Frozen dataclasses, as in `types`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from ruvllm.errors import ConfigError, InputError
from ruvllm.hints import Options, snake_case
from ruvllm.inference.backend import Message, Usage
from ruvllm.memory.filters import visible_to
from ruvllm.memory.subgraph import AttentionSummary
from ruvllm.reprs import Shown, shortened
from ruvllm.types import Choice, Decision, Tier

# In the order in which a query passes them; `Response.latency` names each, and their sum as "total".
STAGES = ("embedding", "retrieval", "graph", "routing", "attention", "context", "generation", "learning")

_RANGES: dict[str, tuple[float, float]] = {
    "max_latency_ms": (0.1, 1e9),
    "max_cost": (0.0, 1e9),
    "max_tokens": (1, 1_000_000),
    "temperature": (0.0, 2.0),
    "top_p": (1e-6, 1.0),
    "force_context": (64, 10_000_000),
    "seed": (-(2**63), 2**63 - 1),
    "top_k": (0, 1_000_000),
    "min_p": (0.0, 1.0),
    "repeat_penalty": (1e-6, 10.0),
}


@dataclass(frozen=True, slots=True, repr=False)
class Constraints(Options):
    """What a caller insists on for one query (FEATURES.md O3); None leaves it to the router.

    Attributes:
        max_latency_ms: for the whole answer; a short one also narrows the search, and leaves out tiers that are
            expected to take longer.
        max_cost: US dollars; tiers that are expected to cost more are not asked.
        max_tokens: of the answer.
        temperature: 0 to 2.
        top_p: above 0, at most 1.
        force_model: the name of a configured backend or of its model, or a tier: "small", "large".
        force_context: tokens of prompt and answer together.
        stop: texts that end the answer and are left out of it.
        seed: of sampling, where the backend has one.
        extra: further fields of the request to an OpenAI-like server, as in `inference.backend.Params`.
        top_k: sample from this many tokens at most; 0 for all.
        min_p: sample from tokens of at least this share of the likeliest one's probability; of local models, and
            servers that know it.
        repeat_penalty: above 1 makes tokens that the answer has already less likely.
        api, headers: of a client whose request is passed on, as in `inference.backend.Params`.
        stay: name of the backend that the conversation is with. It is left for a stronger one when the question asks
            for that, for a weaker one where that is cheaper though it has nothing of the conversation cached.
        looping: whether tools are being called: then it is not left at all.
        models: names of the backends that may answer; all of them when None.
        adds: what is done with a client's own conversation beside passing it on, of `options.ADDS`.
        explain: also say where the answer comes from, as `Response.attention`.
        agent_id: the agent that asks: answered from its own memories and shared ones; what is kept is its own.

    >>> llm.query("when is staging reset?", constraints=Constraints(max_tokens=50)).agent
    '...'
    """

    max_latency_ms: float | None = None
    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    force_model: str | None = None
    force_context: int | None = None
    stop: tuple[str, ...] = ()
    seed: int | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)
    top_k: int | None = None
    min_p: float | None = None
    repeat_penalty: float | None = None
    api: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    stay: str = ""
    looping: bool = False
    max_cost: float | None = None
    models: tuple[str, ...] | None = None
    adds: tuple[str, ...] = ()
    explain: bool = False
    agent_id: str | None = None

    ERROR = InputError

    @classmethod
    def of(cls, given: Constraints | Mapping[str, Any] | None) -> Constraints:
        """What was given as such, as a mapping (camelCase is understood), or not at all.

        Raises:
            InputError: it is neither, or one is unknown or out of range.

        >>> Constraints.of({"maxTokens": 100}).max_tokens
        100
        """
        if given is None or isinstance(given, Mapping):
            return cls(**{snake_case(str(name)): value for name, value in (given or {}).items()})
        if not isinstance(given, Constraints):
            fix = "give Constraints(…), or a mapping of its fields"
            raise InputError(f"constraints is {shortened(given)}", field="constraints", fix=fix)
        return given

    def __post_init__(self) -> None:
        """Raises InputError: one is out of range."""
        self.check_ranges(_RANGES)
        if not isinstance(self.explain, bool):
            raise InputError(f"explain is {shortened(self.explain)}", field="explain", fix="use True or False")
        visible_to(self.agent_id)
        if not isinstance(self.extra, Mapping):
            raise InputError("extra is no mapping", field="extra", fix="give fields by name")
        if self.force_model is not None and not isinstance(self.force_model, str):
            raise InputError("force_model is no text", field="force_model", fix="give the name of a model")
        if not isinstance(self.stop, list | tuple) or not all(isinstance(one, str) and one for one in self.stop):
            raise InputError("stop holds no texts", field="stop", fix="give a tuple of texts that are not empty")
        if isinstance(self.seed, bool) or not isinstance(self.seed, int | None):
            raise InputError(f"seed is {shortened(self.seed)}", field="seed", fix="give a whole number")


@dataclass(frozen=True, slots=True, repr=False)
class Source(Shown):
    """A memory that an answer draws on.

    Attributes:
        score: cosine to the query, or what learnt attention made of it.
        hops: edges away from the nearest direct hit.
        passage: what was said before and after it with itself, as a model reads it; "" where nothing was.

    >>> _ = llm.memory.add("Staging is reset at noon.")
    >>> llm.query("when is staging reset?").sources[0].text
    'Staging is reset at noon.'
    """

    id: int
    text: str
    score: float
    kind: str = "Document"
    metadata: Mapping[str, Any] = field(default_factory=dict)
    hops: int = 0
    passage: str = ""


@dataclass(frozen=True, slots=True, repr=False)
class RoutingInfo(Shown):
    """Where a query went, and how it was sampled.

    Attributes:
        model: what the backend calls it.
        context_size: tokens that prompt and answer could have together.
        temperature, top_p: as asked for; None where that was left to the backend.
        learnt: whether the model router chose; else these are the configured values.
    """

    model: str
    context_size: int
    temperature: float | None
    top_p: float | None
    backend: str
    learnt: bool = False


@dataclass(frozen=True, slots=True, repr=False)
class Routed(Shown):
    """The first event of a stream: who takes the query, before a word is written.

    Attributes:
        routing: as planned; the response says which backend answered in the end.
        choice: how strong a model is asked, who decided that, why, and what it is expected to cost and take.
    """

    request_id: str
    session_id: str | None
    decision: Decision
    routing: RoutingInfo
    sources: tuple[Source, ...] = ()
    choice: Choice | None = None


@dataclass(frozen=True, slots=True, repr=False)
class Delta(Shown):
    """A piece of the answer, or of what the model says instead of one.

    Attributes:
        events: what the server sent, for a client whose request is passed on; the text may be empty then.
        whole: whether that is a whole answer, not a part of one.
    """

    text: str
    refusal: bool = False
    events: tuple[str, ...] = field(default=(), repr=False)
    whole: bool = False


@dataclass(frozen=True, slots=True, repr=False)
class Response(Shown):
    """The answer to one query (FEATURES.md O2).

    Attributes:
        request_id: what feedback about it refers to.
        confidence: of the answer, 0 to 1: its backend's own (of the extractive one, P(the sources hold the answer); of
            a model, the mean probability of its tokens); None where a backend tells none.
        agent: of `decision`, whose confidence says how sure that is.
        tier: of the backend that answered.
        sources: what of memory was given to the backend, best first.
        cost: US dollars.
        latency: microseconds of each of STAGES, and "total", which is their sum.
        finish_reason: as in `inference.backend.Completion`.
        decision: where the question was routed. Its agent has spoken only where `decision.action` is not "escalate".
        warnings: what of the question's surroundings the backend did not get, and who had to stand in for whom.
        choice: how strong a model was asked, who decided that, why, and what it was expected to cost and take.
        advice: what to do about a route that is not sure: confirm its agent, or know that none has spoken; "" where
            `decision.action` is "use".
        attention: which memories the query draws on, along which edges, where `Constraints.explain` asks for it and
            something was found.

    >>> _ = llm.memory.add("Staging is reset at noon.")
    >>> llm.query("when is staging reset?").text
    'Staging is reset at noon. ...'
    """

    request_id: str
    text: str
    confidence: float | None
    agent: str
    tier: Tier
    sources: tuple[Source, ...]
    routing: RoutingInfo
    usage: Usage
    cost: float
    latency: Mapping[str, float]
    decision: Decision
    session_id: str | None = None
    finish_reason: str = "stop"
    warnings: tuple[str, ...] = ()
    choice: Choice | None = None
    advice: str = ""
    attention: AttentionSummary | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types, the shape every host returns.

        >>> llm.query("when is staging reset?").to_dict()["request_id"]
        'req-...'
        """
        return asdict(self)


@dataclass(frozen=True, slots=True)
class PassedResponse(Response):
    """The answer to a client whose request was passed on.

    Attributes:
        body: what the server sent, JSON text in the words of the client's API; "" where a backend wrote text alone.
    """

    body: str = ""


Event = Routed | Delta | Response


@dataclass(frozen=True, slots=True, repr=False)
class Session(Shown):
    """A conversation as it stands.

    Attributes:
        history: what was asked and answered, oldest first.
        created, accessed: seconds since 1970.

    >>> session = llm.new_session({"user": "ada"})
    >>> _ = llm.query("when is staging reset?", session=session)
    >>> len(llm.session(session).history)
    2
    """

    id: str
    history: tuple[Message, ...] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict)
    created: float = 0.0
    accessed: float = 0.0


@dataclass(frozen=True, slots=True, repr=False)
class Applied(Shown):
    """What feedback about a request changed.

    Attributes:
        agent: "confirmed", "corrected", "rejected", or "" where nothing was said about it: a rating is of the answer.
        memories: whose quality moved.
        edges: whose weight moved.
        remembered: id of the question and answer (the better one, after a correction) in memory, if they are there.
        trajectory: whether it taught patterns.
        model_choice: whether the model router will learn from it.
    """

    agent: str = ""
    memories: int = 0
    edges: int = 0
    remembered: int | None = None
    trajectory: bool = False
    model_choice: bool = False


_CALLED = {"max_tokens": "answer_tokens", "temperature": "temperature", "max_latency_ms": "deadline"}


def rlm_settings(constraints: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of recursive answering that a query's constraints ask for, and `agent_id`.

    Args:
        constraints: fields of `Constraints`, and "session_id"; None (or False) leaves one to the settings.

    Raises:
        InputError: it has no such setting, or none of such a value.
    """
    given = {name: value for name, value in constraints.items() if value is not None and value is not False}
    if unfit := [name for name in given if name not in _CALLED and name != "agent_id"]:
        fix = "leave it out, or ask without deep"
        raise InputError(f"{unfit[0]} cannot be set for the parts of a query", field=unfit[0], fix=fix)
    from ruvllm.rlm.answers import RANGES, RlmConfig

    Constraints(**given)
    agent = {"agent_id": given.pop("agent_id")} if "agent_id" in given else {}
    limits = {_CALLED[name]: value for name, value in given.items()}
    if "deadline" in limits:
        least, most = RANGES["deadline"]
        limits["deadline"] = min(max(limits["deadline"] / 1_000, least), most)
    try:
        RlmConfig(**limits)
    except ConfigError as error:
        (name,) = (name for name in given if _CALLED[name] == error.field)
        raise InputError(f"{name} is {given[name]!r}", field=name, fix=error.fix) from None
    return limits | agent
