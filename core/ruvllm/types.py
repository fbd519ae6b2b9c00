"""The nouns that cross rooms. Frozen dataclasses, no behaviour beyond their own data."""

from __future__ import annotations

from dataclasses import asdict, field
from enum import IntEnum
from typing import TYPE_CHECKING, Any

from ruvllm.lazy_dataclass import dataclass
from ruvllm.reprs import Shown, one_line


class Tier(IntEnum):
    """How strong a model a task needs.

    >>> llm.route("write unit tests for the parser").tier
    <Tier.SMALL: 2>
    """

    BOOSTER = 1  # no LLM at all: an edit a program can do
    SMALL = 2  # a small, cheap LLM
    LARGE = 3  # a large LLM


class Action:
    """What to do with a decision, by its confidence (FEATURES.md R9).

    >>> llm.route("write unit tests for the parser").action == Action.USE
    True
    """

    USE = "use"  # confidence > 0.9
    CONFIRM = "confirm"  # 0.7 to 0.9: let a person confirm
    ESCALATE = "escalate"  # < 0.7: ask a stronger model or a person


@dataclass(frozen=True, slots=True, repr=False)
class Agent(Shown):
    """A specialised agent that tasks can be routed to.

    `examples` are tasks that belong to this agent. `tier` (or `model`, e.g. "haiku", "sonnet", "opus") names the
    model tier of all its tasks; with neither, what was learnt and the task decide (`sizing.tiers.choose`). Of a
    built-in agent it is a suggestion. One with `requires` is a candidate only for tasks that hold all words of one of
    these entries, as an agent of a product is only where the product is named.

    `kind` is "agent", "skill", "command" or "tool"; `scope` says who put it there: "project", "user", "plugin", or ""
    for whoever runs this. `body` is what it is told, or what a tool's parameters are.

    >>> Agent("barista", "Makes coffee.", examples=("froth the milk",))
    Agent(name='barista', description='Makes coffee.', examples=('froth the milk'))
    """

    name: str
    description: str = ""
    category: str = "custom"
    keywords: tuple[str, ...] = ()
    examples: tuple[str, ...] = ()
    tier: Tier | None = None
    model: str | None = None
    tools: tuple[str, ...] = ()
    source: str = ""  # the file it was read from, "" when built in or made in code
    requires: tuple[str, ...] = ()
    kind: str = "agent"
    scope: str = ""
    body: str = ""


@dataclass(frozen=True, slots=True, repr=False)
class Candidate(Shown):
    """One agent with the calibrated probability that it is the right one.

    >>> llm.route("add tests", top=2).alternatives[0]
    Candidate(agent=..., confidence=...)
    """

    agent: str
    confidence: float


@dataclass(frozen=True, slots=True, repr=False)
class Evidence(Shown):
    """Why a decision came out as it did.

    >>> "tests" in llm.route("write unit tests for the parser").evidence.keywords
    True
    """

    keywords: tuple[str, ...] = ()  # words of the task that match the agent's own
    examples: tuple[tuple[str, float], ...] = ()  # (the agent's nearest examples, cosine)
    scores: dict[str, float] = field(default_factory=dict)  # feature name -> value for the chosen agent


@dataclass(frozen=True, slots=True, repr=False)
class Choice(Shown):
    """How strong a model a task gets, and who says so (FEATURES.md R10).

    Attributes:
        by: who decided: "request", "limits", "session", "agent", "edit", "outcomes", "sizes", "difficulty",
            "escalation" or "default", as `sizing.tiers.choose` puts them in order.
        why: in words.
        cost: US dollars that an answer of this tier is expected to take.
        latency_ms: milliseconds that it is expected to take.
        backend: that answers; "" where none is configured.
        others: the other tiers that the limits allow.

    >>> llm.route("write unit tests for the parser").choice.by
    'default'
    """

    tier: Tier
    by: str
    why: str
    cost: float
    latency_ms: float
    backend: str = ""
    others: tuple[Tier, ...] = ()


class _OnDemand:
    """Fields that are worked out when they are first read: `_later` has a method of the name of each."""

    __slots__ = ("_later",)

    if not TYPE_CHECKING:  # for a type checker all fields are there

        def __getattr__(self, name: str) -> Any:
            later = object.__getattribute__(self, "_later") if name in self.__dataclass_fields__ else None
            if not hasattr(later, name):
                raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
            value = getattr(later, name)()
            object.__setattr__(self, name, value)
            return value


@dataclass(frozen=True, slots=True)
class Decision(_OnDemand):
    """The answer to one task. What hardly anybody reads of it is worked out when somebody does.

    >>> decision = llm.route("write unit tests for the parser")
    >>> decision.agent, decision.confidence > 0.9
    ('tester', True)
    """

    agent: str
    confidence: float  # calibrated P(agent is right), 0..1
    tier: Tier
    action: str  # one of Action's values
    out_of_scope: float  # calibrated P(no agent fits), 0..1
    alternatives: tuple[Candidate, ...]  # the next best, best first
    encoder: str  # which one decided: "static", "ruvltra", "minilm" or the name of one's own
    evidence: Evidence
    timings_us: dict[str, float]  # stage -> microseconds
    cached: bool = False
    choice: Choice | None = None  # where `tier` comes from
    team: tuple[str, ...] = ()  # who takes an unsure task together, where `route` was to look for that

    __repr__ = one_line

    @classmethod
    def on_demand(cls, later: object, **fields: Any) -> Decision:
        """With these fields; each of the others is what the method of its name gives, when it is first read.

        >>> class Later:
        ...     def tier(self):
        ...         return Tier.SMALL
        >>> Decision.on_demand(Later(), agent="tester").tier.name
        'SMALL'
        """
        decision, put = object.__new__(cls), object.__setattr__
        for name, value in fields.items():
            put(decision, name, value)
        put(decision, "_later", later)
        return decision

    def again(self) -> Decision:
        """The same, as it is given to who asks once more.

        >>> llm.route("write unit tests for the parser").again().cached
        True
        """
        later = getattr(self, "_later", None)
        given = {name: getattr(self, name) for name in self.__dataclass_fields__ if not hasattr(later, name)}
        return Decision.on_demand(later, **given | {"cached": True})

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types, the shape every host returns.

        >>> llm.route("write unit tests for the parser").to_dict()["agent"]
        'tester'
        """
        evidence, choice = self.evidence, self.choice
        return {name: getattr(self, name) for name in self.__dataclass_fields__} | {
            "alternatives": tuple([{"agent": one.agent, "confidence": one.confidence} for one in self.alternatives]),
            "evidence": {name: getattr(evidence, name) for name in evidence.__dataclass_fields__},
            "choice": choice and {name: getattr(choice, name) for name in choice.__dataclass_fields__},
        }


@dataclass(frozen=True, slots=True, repr=False)
class TeamMember(Shown):
    """One part of a compound task and the agent that takes it.

    >>> llm.route_complex("Add authentication to the API").members[0].agent
    'backend-dev'
    """

    agent: str
    role: str
    task: str  # the part of the text this member answers
    confidence: float


@dataclass(frozen=True, slots=True, repr=False)
class Team(Shown):
    """The agents that take a compound task together, in working order.

    >>> [one.role for one in llm.route_complex("Add authentication to the API").members]
    ['api', 'auth']
    """

    members: tuple[TeamMember, ...]
    tier: Tier

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types, the shape every host returns.

        >>> llm.route_complex("Add authentication to the API").to_dict()["members"][0]["agent"]
        'backend-dev'
        """
        return asdict(self)


@dataclass(frozen=True, slots=True, repr=False)
class Feedback(Shown):
    """What a person said about a decision: this text belongs to this agent, or does not.

    >>> Feedback("froth the milk", "coder", right=False)
    Feedback(text='froth the milk', agent='coder', right=False)
    """

    text: str
    agent: str
    weight: float = 1.0
    right: bool = True  # False: it does not belong to this agent, and nobody said to which
