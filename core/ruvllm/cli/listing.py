"""What a client lists of skills and agents: which descriptions fit its budget, fire, and can be told from others."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from ruvllm.encoders.static import StaticEncoder
from ruvllm.inference.backend import estimate_tokens
from ruvllm.reprs import Shown
from ruvllm.routing.lint import LONG, Finding, lint_agents, triggers
from ruvllm.types import Agent

_SENTENCE = re.compile(r"(?<=[.!?])\s+(?=[A-Z0-9\"'`(])")
_SECTION = re.compile(r"(?im)^#{1,6}[ \t]+(?:when (?:to use|should)|use (?:when|this|cases)|triggers?)\b.*$")
_ITEM = re.compile(r"(?m)^[ \t]*(?:[-*•]|\d+[.)])[ \t]+(.+)$")
_NAMED, _EXAMPLES = 3, 3  # of similar agents and of examples that a suggestion names
_SHORTEST = 80  # characters that a suggestion gets, however many there are to list


@dataclass(frozen=True, slots=True, repr=False)
class Entry(Shown):
    """One line of the list.

    Attributes:
        tokens: about, of its line.
        fits: whether it is within the budget, those before it counted.
        problems: "too long", "no trigger", "confusable with …".
        suggestion: a description without these; "" where there is nothing to suggest.
    """

    agent: Agent
    tokens: int
    fits: bool
    problems: tuple[str, ...] = ()
    suggestion: str = ""


@dataclass(frozen=True, slots=True, repr=False)
class Listing(Shown):
    """All lines.

    Attributes:
        budget: tokens that the list may have.
        tokens: about, that it has.
    """

    entries: tuple[Entry, ...]
    budget: int
    tokens: int


def listing_of(agents: Sequence[Agent], static: StaticEncoder, budget: int, most: int = LONG) -> Listing:
    """What a client would list, in its order.

    Args:
        budget: tokens of the whole list.
        most: characters of one description.
    """
    near = _confusable(lint_agents(tuple(agents), static))
    described = {agent.name: agent for agent in agents}
    costs = [estimate_tokens(_line(agent.name, agent.description)) for agent in agents]
    total, over = sum(costs), sum(costs) > budget
    room = min(most, max(_SHORTEST, budget * 4 // max(len(agents), 1))) if over else most
    entries, used = list[Entry](), 0
    for agent, cost in zip(agents, costs, strict=True):
        used += cost
        problems = list[str]()
        if len(agent.description) > most:
            problems.append(f"too long ({len(agent.description)} of {most} characters)")
        if agent.kind != "command" and not triggers(agent.description):
            problems.append("no trigger: it does not say when to use it")
        others = [described[name] for name in near.get(agent.name, ())]
        problems += [f"confusable with {other.name}" for other in others]
        wrong = bool(problems) or (over and len(_line(agent.name, agent.description)) > room)
        suggestion = _suggested(agent, others, room) if wrong else ""
        suggestion = "" if suggestion == agent.description else suggestion
        entries.append(Entry(agent, cost, used <= budget, tuple(problems), suggestion))
    return Listing(tuple(entries), budget, total)


def _line(name: str, description: str) -> str:
    return f"- {name}: {description}\n"


def _confusable(findings: Sequence[Finding]) -> dict[str, list[str]]:
    out: dict[str, list[str]] = {}
    for finding in findings:
        if finding.kind in ("duplicate", "confusable"):
            a, b = finding.agents
            out.setdefault(a, []).append(b)
            out.setdefault(b, []).append(a)
    return {name: others[:_NAMED] for name, others in out.items()}


def _suggested(agent: Agent, others: Sequence[Agent], most: int) -> str:
    """Its first sentence, when to use it, what it is not for, and as much of the rest as there is room for."""
    sentences = [one for one in _SENTENCE.split(" ".join(agent.description.split())) if one]
    fires = [one for one in sentences[1:] if triggers(one)]
    first = sentences[:1]
    if not triggers(" ".join(sentences)) and (when := _when(agent)):
        fires = [when]
    excluded = [
        f"Not for what {other.name} does ({_words(other.description, 12)})." for other in others if other.description
    ]
    rest = [one for one in sentences[1:] if one not in fires]
    out = list[str]()
    for part in (*first, *fires, *excluded, *rest):
        if len(" ".join([*out, part])) <= most:
            out.append(part)
    if not out and sentences:
        out = [sentences[0][: most - 1].rsplit(" ", 1)[0] + "…"]
    return " ".join(out)


def _when(agent: Agent) -> str:
    """When to use it, as its body or its examples say; "" where nothing does."""
    section = _SECTION.search(agent.body)
    if section:
        body = re.split(r"(?m)^#{1,6}[ \t]", agent.body[section.end() :], maxsplit=1)[0]
        items = [_within(_words(one, 14)) for one in _ITEM.findall(body)[:_EXAMPLES]]
        said = ", or ".join(items) or _within(_words(body, 30))
        return f"Use when {said}." if said else ""
    lines = (line.strip(" -*#>") for line in agent.body.splitlines())
    line = next((line for line in lines if triggers(line) and len(line) < 300), "")
    if line:
        return line if line.endswith((".", "!", "?")) else f"{line}."
    if agent.examples:
        return f"Use for requests like {', '.join(repr(_words(one, 14)) for one in agent.examples[:_EXAMPLES])}."
    return ""


def _within(text: str) -> str:
    """As it stands within a sentence."""
    return text[:1].lower() + text[1:] if text[1:2].islower() else text


def _words(text: str, most: int) -> str:
    """The first words of a text, without what ends a sentence."""
    words = " ".join(text.replace("*", "").replace("`", "").split()).split(" ")
    return " ".join(words[:most]).rstrip(" .,;:!?") + ("…" if len(words) > most else "")
