"""How strong a model a task gets, who may say so and in which order (`choose`), and what to do by a confidence."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import field
from functools import cache
from math import exp, inf, log1p
from typing import TYPE_CHECKING, NamedTuple

from ruvllm.agents.catalog import builtin_agents
from ruvllm.errors import InputError
from ruvllm.lazy_dataclass import dataclass
from ruvllm.options import TIERS
from ruvllm.reprs import Shown
from ruvllm.text.cues import Cues, words_of
from ruvllm.types import Action, Agent, Choice, Tier

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ruvllm.sizing.fastgrnn import SizeChoice


USE_ABOVE, CONFIRM_FROM = 0.9, 0.7  # FEATURES.md R9

# Words that open design space or risk, words of small, local edits, and what joins clauses.
DIFFICULTY_CUES = (
    (
        *(r"architect\w*", r"design\w*", "distributed", r"scal\w+", r"migrat\w+", r"concurren\w+", "security"),
        *("threat", "consensus", "trade-?offs?", "strategy", "from scratch", "end-to-end", "entire", "whole"),
        *("complex", "prove", "optimi[sz]e", "deadlock", "race condition", "microservices?", "compliance"),
        *("roadmap", "refactor the"),
    ),
    (
        *("typo", "rename", "comment", "format", "bump", "log line", r"console\.log", "sort", "spelling"),
        *("one-?liner", "regex", "import", "label", "colou?r", "button", "simple", "quick", "small", "minor", "tiny"),
    ),
    ("and", "then", "with", "while", "after", "including"),
)
_CUES = Cues(*DIFFICULTY_CUES)


def difficulty(text: str) -> float:
    """A first estimate of P(a small LLM fails), from words and length alone; `Difficulty` learns it from outcomes."""
    low = text.lower()
    return difficulty_of(low, _CUES.counts(low, words_of(low)))


def difficulty_of(low: str, counts: Sequence[int]) -> float:
    """The same of a text in lower case whose DIFFICULTY_CUES are counted already."""
    hard, easy, joins = counts
    score = -1.4 + 1.1 * hard - 1.0 * easy
    score += 0.35 * (low.count(",") + low.count(";") + joins) + 0.25 * log1p(len(low.split()) / 20)
    return 1 / (1 + exp(-max(min(score, 30.0), -30.0)))


def action_for(confidence: float) -> str:
    """Use, confirm or escalate."""
    if confidence > USE_ABOVE:
        return Action.USE
    return Action.CONFIRM if confidence >= CONFIRM_FROM else Action.ESCALATE


def tier_by(worth: float, extra: float = 1.0) -> Tier:
    """LARGE where its worth is more than what it costs more, in the same unit."""
    return Tier.LARGE if worth > extra else Tier.SMALL


def unsure(confidence: float) -> str:
    """Why one tier more is to be asked, by what routing is sure of; "" where nothing calls for it."""
    return "" if confidence >= CONFIRM_FROM else f"routing is unsure ({confidence:.2f})"


_LARGE_FROM, _SMALL_TO = 0.5, 0.15  # P(a small LLM fails) from and up to which a task's words decide
_SHORT = 4  # words that say no more than to go on, where none of them is a cue
_BRIEF, _LONG = 10_000, 25_000  # tokens of a conversation below which it does not move down, above which hardly up
_OPEN_FROM = 0.25  # the same from which nothing is plain: a text without any cue has less
_MOST_TEXT = 20_000  # characters that difficulty is read from


@dataclass(frozen=True, slots=True, repr=False)
class TierProfile(Shown):
    """What answers for a tier, and what an answer is expected to take.

    Attributes:
        cost: US dollars.
        latency: milliseconds to the whole answer.
        backend: its name; "" where none is configured.
        model: what the backend calls it.
        context: tokens that prompt and answer may have together.
    """

    tier: Tier
    cost: float
    latency: float
    backend: str = ""
    model: str = ""
    context: float = inf


# What each tier costs and takes where nothing has been measured (FEATURES.md R10).
CATALOG = (
    TierProfile(Tier.BOOSTER, 0.0, 1.0),
    TierProfile(Tier.SMALL, 0.0002, 500.0),
    TierProfile(Tier.LARGE, 0.015, 3_000.0),
)


@dataclass(frozen=True, slots=True)
class Limits:
    """Of one prompt; None for no limit.

    Attributes:
        cost: US dollars, at most.
        latency: milliseconds, at most.
        quality: expected, at least; only outcomes say what to expect of a backend, so that tiers have none.
        models: names of the backends that may answer; all of them when None.
    """

    cost: float | None = None
    latency: float | None = None
    quality: float | None = None
    models: tuple[str, ...] | None = None


@dataclass(slots=True)
class Features:
    """What a choice is made by.

    Attributes:
        agent: who takes it; None where routing is too unsure for its agent to have a say.
        edit: what a program does of it, "" where it takes a model.
        trained: what a trained difficulty says; None without one.
        weighed: whether it has weighed what of the conversation is cached where.
        vector: float32 (dim,), of the text; None where outcomes shall not be compared.
        size: what the session's network says; None without one.
        tokens: that have to fit into the backend's context.
        unsure: why one tier more is to be asked, "" where routing is sure enough.
        request: a tier, a backend or a model that the caller insists on.
        stay: the backend that the conversation is with; "" for none.
        looping: whether tools are being called, in the middle of which it is not left.
        dearer: whether leaving one backend for another costs more than it saves, by their names.
        passing: whether a client's own conversation is passed on, in which no agent of ours speaks.
        room: tokens that the context should have left beside `tokens`, where some backend's has.
    """

    text: str
    agent: Agent | None = None
    edit: str = ""
    trained: Tier | None = None
    weighed: bool = False
    vector: NDArray[np.float32] | None = field(default=None, repr=False)
    size: SizeChoice | None = None
    tokens: int = 0
    unsure: str = ""
    request: str = ""
    stay: str = ""
    looping: bool = False
    dearer: Callable[[str, str], bool] | None = None
    passing: bool = False
    room: int = 0


class Advice(NamedTuple):
    """A tier, who says so (as `Choice.by`), and why."""

    tier: Tier
    by: str
    why: str


Voice = Callable[[Features, Sequence[TierProfile]], Advice | None]  # of what was learnt; None where it is not sure


def choose(
    features: Features,
    limits: Limits | None = None,
    profiles: Sequence[TierProfile] = CATALOG,
    voices: Iterable[Voice] = (),
) -> Choice:
    """The one order of precedence. Who comes first decides:

    1. "request": the caller named a tier, a backend or a model. No limit holds against it.
    2. "limits": what costs too much, takes too long or reads too little is out, whoever is for it below. When none is
       fast enough the fastest is left, and when none reads enough all are: their backends say so themselves.
    3. "session": a conversation stays with its backend while tools are called, and where its user only says to go on;
       it moves up when a question asks for that by 4 to 8, a long one only for what is plainly hard, and down, unless
       it is short, where that is cheaper, though the other has nothing of it cached. A trained difficulty weighs the
       length and what is cached itself.
    4. "agent": the tier or model that an agent's own file names. The built-in agents only suggest one, see 8.
    5. "edit": a program does it.
    6. "outcomes", "sizes": what was learnt, the `voices` in their order, each where it is sure.
    7. "difficulty": trained, or else the task's words where they are plain.
    8. "default": what the catalog suggests for the agent; the small tier where it suggests none.

    Where routing is unsure, what was not learnt, a task's words and the default, is raised by a tier ("escalation"):
    outcomes of such prompts know better than a doubt about the agent. In a client's own conversation, where the agent
    does not matter, it is raised only where the task's words leave its difficulty open. A tier without a backend takes
    the next stronger that has one, else the next weaker.

    Args:
        profiles: at least one, in the order of their tiers.
        voices: of what was learnt.

    Raises:
        InputError: the request names nothing there is, or every backend costs more than the limit.
    """
    if limits is not None and limits.models is not None:
        profiles = [one for one in profiles if one.backend in limits.models]
        if not profiles:
            raise InputError("no model is allowed here", field="models", fix="allow one that is configured")
    if features.request:
        found = _named(features.request, profiles)
        return _choice(found, "request", f"{features.request} was asked for", ())
    within = profiles if limits is None and not features.tokens else _within(features, limits, profiles)
    wish = _of_agent(features.agent, within) or _of_edit(features)
    wish = wish or next((advice for voice in voices if (advice := voice(features, within)) is not None), None)
    if wish is None:
        wish = _of_task(features)
        if features.unsure and features.trained is None and wish.tier < Tier.LARGE and not _plain(features):
            wish = _raised(wish, features.unsure, profiles)
    held = next((one for one in within if one.backend == features.stay), None) if features.stay else None
    if held is not None and (why := _unchanged(features)):
        return _choice(held, "session", why, _others(held, within))
    if wish.by == "edit":
        return _choice(CATALOG[0], wish.by, wish.why, tuple(one.tier for one in within))
    found = _nearest(wish.tier, within)
    if held is not None and (why := _not_worth(features, held, found)):
        return _choice(held, "session", why, _others(held, within))
    if within is not profiles and found is not (wanted := _nearest(wish.tier, profiles)):
        wish = Advice(found.tier, "limits", f"{wanted.backend or _word(wanted.tier)} is over a limit ({wish.why})")
    elif found.tier != wish.tier:
        wish = wish._replace(why=f"{wish.why}; {found.backend} is the nearest that there is to {_word(wish.tier)}")
    return _choice(found, wish.by, wish.why, _others(found, within))


def _others(found: TierProfile, within: Sequence[TierProfile]) -> tuple[Tier, ...]:
    return tuple([one.tier for one in within if one is not found])


def _choice(profile: TierProfile, by: str, why: str, others: tuple[Tier, ...]) -> Choice:
    return Choice(profile.tier, by, why, profile.cost, profile.latency, profile.backend, others)


def _named(name: str, profiles: Sequence[TierProfile]) -> TierProfile:
    for one in profiles:
        if name in (one.backend, one.model):
            return one
    if name in TIERS:
        return _nearest(Tier(TIERS.index(name) + 1), profiles)
    names = sorted({one.model or one.backend for one in profiles} - {""}) or TIERS
    raise InputError(f"no model {name!r}"[:100], field="force_model", fix=f"use {', '.join(names)}")


def _unchanged(features: Features) -> str:
    """Why nothing new is asked of the backend that a conversation is with; "" where something is."""
    if features.looping:
        return "tools are being called"
    low = features.text.lower()
    if len(words := words_of(low)) <= _SHORT and not any(_CUES.counts(low, words)[:2]):
        return "nothing is asked but to go on"
    return ""


def _not_worth(features: Features, held: TierProfile, found: TierProfile) -> str:
    """Why a conversation is not moved, though another tier would do; "" where it is."""
    if features.weighed:
        return ""
    if found.tier > held.tier and features.tokens > _LONG and difficulty(features.text[:_MOST_TEXT]) < _LARGE_FROM:
        return f"so long a conversation is read anew by {found.backend} only for what is plainly hard"
    if found.tier < held.tier and features.dearer is not None:
        if features.tokens < _BRIEF:
            return "so short a conversation costs little wherever it is"
        if features.dearer(held.backend, found.backend):
            return f"to leave {held.backend} costs more than it saves"
    return ""


def _within(features: Features, limits: Limits | None, profiles: Sequence[TierProfile]) -> Sequence[TierProfile]:
    tokens, room = features.tokens, features.room
    out: Sequence[TierProfile] = [one for one in profiles if tokens + room <= one.context]
    out = out or [one for one in profiles if tokens <= one.context] or profiles
    if limits is not None and limits.cost is not None:
        cheap = [one for one in out if one.cost <= limits.cost]
        if not cheap:
            least = min(out, key=lambda one: one.cost)
            message = f"no backend costs so little: {least.backend or _word(least.tier)} takes ${least.cost:.4g}"
            raise InputError(message, field="max_cost", fix=f"allow more than ${limits.cost:.4g}, or add a backend")
        out = cheap
    if limits is not None and limits.latency is not None:
        out = [one for one in out if one.latency <= limits.latency] or [min(out, key=lambda one: one.latency)]
    return out


def _nearest(tier: Tier, profiles: Sequence[TierProfile]) -> TierProfile:
    for one in profiles:
        if one.tier == tier:
            return one
    return min(profiles, key=lambda one: (one.tier < tier, abs(one.tier - tier)))


class TaskRouter:
    """A local model or one in the cloud, by how complex a prompt is (FEATURES.md R15).

    Args:
        profiles: of the small, local tier and of the large one.

    >>> TaskRouter().analyze_complexity("rename a label") < 0.5
    True
    """

    def __init__(self, profiles: Sequence[TierProfile] = CATALOG) -> None:
        self.profiles = profiles

    def analyze_complexity(self, prompt: str) -> float:
        """0 to 1: P(a small LLM fails), by the prompt's words; from 0.5 the large tier is asked.

        >>> TaskRouter().analyze_complexity("design a distributed lock from scratch") > 0.5
        True
        """
        return difficulty(prompt[:_MOST_TEXT])

    def route(self, prompt: str, limits: Limits | None = None) -> Choice:
        """The tier for a prompt that no agent takes. Raises InputError: as `choose`.

        >>> TaskRouter().route("rename a label").tier.name
        'SMALL'
        """
        return choose(Features(prompt), limits, self.profiles)


@cache
def _suggestions() -> dict[str, Agent]:
    return {agent.name: agent for agent in builtin_agents()}


def _of_agent(agent: Agent | None, profiles: Sequence[TierProfile]) -> Advice | None:
    if agent is None or (suggested := _suggestions().get(agent.name)) is agent or suggested == agent:
        return None
    if agent.model:
        for one in profiles:
            if agent.model in (one.model.lower(), one.backend.lower()):
                return Advice(one.tier, "agent", f"{agent.name} names the model {agent.model}")
    return None if agent.tier is None else Advice(agent.tier, "agent", f"{agent.name} names the tier {agent.tier:d}")


def _of_edit(features: Features) -> Advice | None:
    return Advice(Tier.BOOSTER, "edit", features.edit) if features.edit else None


def _of_task(features: Features) -> Advice:
    if features.trained is not None:
        return Advice(features.trained, "difficulty", "of such prompts, as trained on outcomes")
    fails = difficulty(features.text[:_MOST_TEXT])
    if fails >= _LARGE_FROM or fails <= _SMALL_TO:
        tier = Tier.LARGE if fails >= _LARGE_FROM else Tier.SMALL
        return Advice(tier, "difficulty", f"by its words a small model fails with {fails:.2f}")
    agent = features.agent
    if agent is None or agent.tier is None:
        return Advice(Tier.SMALL, "default", "nothing says that it takes a large model")
    return Advice(max(agent.tier, Tier.SMALL), "default", f"the catalog suggests it for {agent.name}")


def _plain(features: Features) -> bool:
    """Whether a task's words leave nothing open, in a conversation where it does not matter which agent takes it."""
    return features.passing and difficulty(features.text[:_MOST_TEXT]) < _OPEN_FROM


def _raised(wish: Advice, unsure: str, profiles: Sequence[TierProfile]) -> Advice:
    """A tier more, where something else answers for it."""
    higher = Tier(wish.tier + 1)
    if _nearest(higher, profiles) is _nearest(wish.tier, profiles):
        return wish._replace(why=f"{wish.why}; {unsure}, and there is no stronger one")
    return Advice(higher, "escalation", f"{unsure}: {_word(higher)} in the place of {_word(wish.tier)}")


def _word(tier: Tier) -> str:
    return f"the {TIERS[tier - 1]} tier"
