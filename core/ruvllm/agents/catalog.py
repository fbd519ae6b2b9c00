"""The built-in agents, and how a mapping becomes an Agent."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from functools import cache
from hashlib import sha256
from importlib import resources
from itertools import islice
from pathlib import Path
from typing import Any

from ruvllm.errors import InputError
from ruvllm.reprs import shortened
from ruvllm.types import Agent, Tier

__all__ = [
    "Agents",
    "agent_from",
    "as_agents",
    "builtin_agents",
    "builtin_digest",
    "card",
    "parse_toml_agents",
    "spoken_name",
    "unique",
]

MAX_AGENTS = 10_000
_MAX_TEXT = 20_000
_MAX_EXAMPLES = 2_000
_GIVE = 'give Agent("name", "what it does"), mappings with a `name`, or the path of a folder or a file'
_MODEL_TIERS = {"haiku": Tier.SMALL, "sonnet": Tier.LARGE, "opus": Tier.LARGE}


Agents = str | Path | Agent | Mapping[str, Any] | Iterable[Agent | Mapping[str, Any]]  # a path, or agents from code


def as_agents(given: object) -> list[Agent]:
    """Agents as code gives them: one or several, each an Agent or a mapping with its fields, which are checked.

    Raises:
        InputError: something else is among them, or a field is unusable.
    """
    given = [given] if isinstance(given, Agent | Mapping) else given
    if isinstance(given, str | bytes) or not isinstance(given, Iterable):
        raise InputError(f"agents is {shortened(given)}", field="agents", fix=_GIVE)
    return [_as_agent(one, f"agents[{number}]") for number, one in enumerate(islice(given, MAX_AGENTS + 1))]


def _as_agent(one: object, where: str) -> Agent:
    if isinstance(one, Agent):
        one = {name: getattr(one, name) for name in Agent.__dataclass_fields__}
    if not isinstance(one, Mapping):
        raise InputError(f"{where} is {shortened(one)}", field="agents", fix=_GIVE)
    return agent_from(one, where)


def agent_from(data: Mapping[str, Any], where: str = "agent") -> Agent:
    """An Agent from loose data, every field checked.

    Args:
        data: `name` and any of description, category, keywords, examples, tier, model, tools;
            other keys are ignored. Lists may also be one comma-separated string (tools, keywords).
        where: what to call it in an error.

    Raises:
        InputError: a field is missing, too long or of the wrong type.
    """
    name = _text(data, "name", where).strip()
    if not name:
        raise InputError(f"{where} has no name", field="name", fix="give it a `name`")
    if len(name) > 200:
        raise InputError(f"{where}: the name is {len(name)} characters long", field="name", fix="keep it under 200")
    model = _text(data, "model", where).strip().lower() or None
    return Agent(
        name=name,
        description=_text(data, "description", where).strip(),
        category=_text(data, "category", where).strip() or "custom",
        keywords=_texts(data, "keywords", where),
        examples=_texts(data, "examples", where),
        tier=_tier(data.get("tier"), model, where),
        model=model,
        tools=_texts(data, "tools", where),
        source=_text(data, "source", where),
    )


def _text(data: Mapping[str, Any], field: str, where: str) -> str:
    value = data.get(field)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise InputError(f"{where}: `{field}` is a {type(value).__name__}", field=field, fix="make it a string")
    if len(value) > _MAX_TEXT:
        raise InputError(
            f"{where}: `{field}` has {len(value)} characters", field=field, fix=f"keep it under {_MAX_TEXT}"
        )
    return value


def _texts(data: Mapping[str, Any], field: str, where: str) -> tuple[str, ...]:
    value = data.get(field)
    if value is None:
        return ()
    if isinstance(value, str):
        value = value.split(",")
    if not isinstance(value, list | tuple) or not all(isinstance(item, str) for item in value):
        raise InputError(f"{where}: `{field}` is not a list of strings", field=field, fix="write a list of strings")
    if len(value) > _MAX_EXAMPLES:
        raise InputError(f"{where}: {len(value)} {field}", field=field, fix=f"keep at most {_MAX_EXAMPLES}")
    return tuple(dict.fromkeys(item.strip()[:_MAX_TEXT] for item in value if item.strip()))


def _tier(value: Any, model: str | None, where: str) -> Tier | None:
    """The tier as given, or that of a Claude model name (FEATURES.md R10)."""
    if value is None:
        return next((tier for key, tier in _MODEL_TIERS.items() if model and key in model), None)
    if isinstance(value, bool) or value not in (1, 2, 3):
        raise InputError(f"{where}: tier is {value!r}", field="tier", fix="use 1 (booster), 2 (small) or 3 (large)")
    return Tier(value)


def unique(agents: Iterable[Agent]) -> tuple[Agent, ...]:
    """The agents as a set that can be routed to.

    Raises:
        InputError: none, too many, or two of one name.
    """
    out: dict[str, Agent] = {}
    for agent in agents:
        if agent.name in out:
            raise InputError(f"two agents are called {agent.name!r}", field="name", fix="rename or drop one of them")
        out[agent.name] = agent
    if not out:
        raise InputError("there is no agent to route to", field="agents", fix="give at least one agent")
    if len(out) > MAX_AGENTS:
        raise InputError(f"{len(out)} agents", field="agents", fix=f"route among at most {MAX_AGENTS}")
    return tuple(out.values())


def spoken_name(name: str) -> str:
    """ "cicd-engineer" as words: "cicd engineer"."""
    return " ".join(name.replace("-", " ").replace("_", " ").replace("/", " ").split())


def card(agent: Agent) -> str:
    """What an encoder reads of an agent."""
    return f"{agent.name}: {agent.description}" if agent.description else spoken_name(agent.name)


def parse_toml_agents(text: str) -> list[dict[str, Any]]:
    """The tables of a `[[agent]]` file."""
    rows = tomllib.loads(text).get("agent", [])
    return rows if isinstance(rows, list) else []


@cache
def _builtin_texts() -> tuple[tuple[str, str], ...]:
    folder = resources.files("ruvllm.agents") / "builtin"
    files = sorted((entry for entry in folder.iterdir() if entry.name.endswith(".toml")), key=lambda entry: entry.name)
    return tuple((file.name, file.read_text("utf-8")) for file in files)


@cache
def builtin_agents() -> tuple[Agent, ...]:
    """The built-in catalog, from builtin/*.toml."""
    return unique(agent_from(row, file) for file, text in _builtin_texts() for row in parse_toml_agents(text))


@cache
def builtin_digest() -> str:
    """SHA-256 of the catalog's files: compiled artifacts name the one they were made from."""
    return sha256("\0".join(part for pair in _builtin_texts() for part in pair).encode()).hexdigest()
