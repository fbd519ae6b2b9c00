"""What is wrong with a set of agents: pairs that collide, empty or duplicated ones, and what to change."""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from ruvllm.agents.catalog import card, spoken_name
from ruvllm.reprs import Shown
from ruvllm.types import Agent

if TYPE_CHECKING:
    from ruvllm.encoders.static import StaticEncoder


_SAME_CARD = 0.97  # cosine of two descriptions that say the same
_NEAR_CARD = 0.9
_NEAR_EXAMPLE = 0.85
_SHORT_WORDS = 5
LONG = 1_024  # characters of a skill's description, as its format allows
_TRIGGER = re.compile(
    r"(?i)\b(?:use(?:d|ful)? (?:this|it|when|for|if|whenever|to|proactively|after|before)|when(?:ever)? (?:the )?"
    r"(?:user|you|someone|asked|a |an |working|writing|creating|building)|trigger|invoke|if the user|should be used|"
    r"must be used|asks? (?:for|to|about)|helps? (?:with|when)|for (?:tasks|requests|questions))"
)


@dataclass(frozen=True, slots=True, repr=False)
class Finding(Shown):
    """One thing to change.

    Attributes:
        kind: "empty", "short", "long", "trigger", "product", "duplicate" or "confusable".
        prompts: the examples that collide.
    """

    kind: str
    agents: tuple[str, ...]
    message: str
    fix: str
    prompts: tuple[str, ...] = ()


def lint_agents(agents: tuple[Agent, ...], static: StaticEncoder) -> list[Finding]:
    """Findings about a set of agents, the gravest kind first."""
    return [*_thin(agents), *_skills(agents), *_products(agents), *_pairs(agents, static)]


def _thin(agents: tuple[Agent, ...]) -> list[Finding]:
    out = []
    for agent in agents:
        words = len(agent.description.split())
        if not words and not agent.examples:
            fix = "say in a sentence or two which tasks it takes"
            out.append(Finding("empty", (agent.name,), "it has neither a description nor an example", fix))
        elif words < _SHORT_WORDS and len(agent.examples) < 3:
            fix = "describe the tasks it takes and what sets it apart, or add example tasks"
            out.append(Finding("short", (agent.name,), f"its description has only {words} words", fix))
    return out


def triggers(description: str) -> bool:
    """Whether a description says when what it describes is to be used."""
    return _TRIGGER.search(description) is not None


def _skills(agents: tuple[Agent, ...]) -> list[Finding]:
    """Skills are loaded for nothing but their descriptions."""
    out = []
    for agent in agents:
        if agent.kind == "skill" and len(agent.description) > LONG:
            why, fix = f"its description has {len(agent.description)} characters", f"keep it under {LONG}"
            out.append(Finding("long", (agent.name,), why, fix))
        if agent.kind == "skill" and agent.description and not triggers(agent.description):
            fix = 'add "Use when …"; `ruvllm skills budget --fix` suggests one'
            out.append(Finding("trigger", (agent.name,), "its description does not say when to use it", fix))
    return out


def _products(agents: tuple[Agent, ...]) -> list[Finding]:
    """Agents that share a name of two words, as those of a product do, and are candidates where it is not named."""
    groups: dict[str, list[str]] = defaultdict(list)
    for agent in agents:
        words = spoken_name(agent.name).lower().split()
        if len(words) > 2 and not agent.requires:
            groups[" ".join(words[:2])].append(agent.name)
    why = "their names begin alike ({}), and any task with a word of theirs may reach them"
    fix = 'if they are of a product, add `requires: ["{}"]`: candidates only for tasks that name it'
    found = [(product, names) for product, names in groups.items() if len(names) > 1]
    return [Finding("product", tuple(names), why.format(name), fix.format(name)) for name, names in found]


def _pairs(agents: tuple[Agent, ...], static: StaticEncoder) -> list[Finding]:
    cards = static.encode_now([card(agent) for agent in agents])
    alike = cards @ cards.T
    collisions = _collisions(agents, static)
    said: dict[str, list[int]] = defaultdict(list)
    for i, agent in enumerate(agents):
        said[agent.description.strip().lower()].append(i)
    same = {pair for text, group in said.items() if text for pair in combinations(group, 2)}
    near = {(int(i), int(j)) for i, j in np.argwhere(np.triu(alike >= _NEAR_CARD, 1))}
    out = []
    for i, j in sorted(near | same | collisions.keys()):
        a, b = agents[i], agents[j]
        cosine, prompts = float(alike[i, j]), tuple(collisions.get((i, j), ()))
        if (i, j) in same or cosine >= _SAME_CARD:
            fix = f"merge them, or say in each description what the other does not do; example tasks help {a.name} most"
            out.append(
                Finding("duplicate", (a.name, b.name), f"their descriptions say the same ({cosine:.2f})", fix, prompts)
            )
        else:
            why = f"their descriptions are close ({cosine:.2f})" if cosine >= _NEAR_CARD else "their examples collide"
            fix = "name in each description what only this agent does, and move the colliding examples to one of them"
            out.append(Finding("confusable", (a.name, b.name), why, fix, prompts))
    return sorted(out, key=lambda finding: (finding.kind != "duplicate", -len(finding.prompts), finding.agents))


def _collisions(agents: tuple[Agent, ...], static: StaticEncoder) -> dict[tuple[int, int], list[str]]:
    """Examples that lie nearer to another agent's example than to any of their own agent's."""
    texts = [text for agent in agents for text in agent.examples]
    if not texts:
        return {}
    owner = np.repeat(np.arange(len(agents)), [len(agent.examples) for agent in agents])
    vectors = static.encode_now(texts)
    out: dict[tuple[int, int], list[str]] = defaultdict(list)
    for i, text in enumerate(texts):
        cosines = vectors @ vectors[i]
        cosines[i] = -1
        nearest = int(cosines.argmax())
        if cosines[nearest] >= _NEAR_EXAMPLE and owner[nearest] != owner[i]:
            pair = (int(owner[i]), int(owner[nearest]))
            out[min(pair), max(pair)].append(f"{text}  ~  {texts[nearest]}")
    return out
