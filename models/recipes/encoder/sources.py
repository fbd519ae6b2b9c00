"""Collections of agents and tools with the prompts that name one of them, and the folds they are left out in."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from zlib import crc32

from recipes.common import read_json
from recipes.material import BIG, GROUPS, REST
from ruvllm.types import Agent

# Folds that no run learns from: what an encoder is judged by.
HELD: Mapping[str, tuple[str, ...]] = {
    "agents": (
        *("HeshamFS/materials-simulation-skills", "dotnet/skills", "akin-ozer/cc-devops-skills", "ClawBio/ClawBio"),
        "wshobson/agents",
    ),
    "tools": (
        *("AI-Agent-Hub/MCPToolBenchPP", "home-assistant/intents", "tangqiaoyu/ToolAlpaca", "leon-ai/leon"),
        "ShishirPatil/gorilla#APIBench-tensorflow",
    ),
}
_MODEL_WRITTEN = {"lobehub/lobe-chat-agents": 0.15}  # overlapping assistants and prompts: less weight


@dataclass(frozen=True, slots=True)
class Source:
    """A collection.

    Attributes:
        agents: by key: the candidates of its prompts.
        prompts: (prompt, key of the right agent).
        fold: the name it is left out by: of HELD, of GROUPS, or "more a" to "more d".
        weight: of its prompts.
    """

    agents: dict[str, Agent]
    prompts: list[tuple[str, str]]
    fold: str
    weight: float = 1.0


def same(text: str) -> str:
    """`text` with what does not tell two texts apart made alike."""
    return " ".join(text.lower().split())


def folds(everything: Mapping[str, Source], without: Iterable[str]) -> set[str]:
    """The folds of HELD and those of `without`: folds, or the letters of groups."""
    out = set(HELD)
    for name in without:
        out |= {*GROUPS[name], f"more {name}"} if name in GROUPS else {name}
    unknown = out - {source.fold for source in everything.values()} - set(HELD) - {f"more {name}" for name in GROUPS}
    if unknown:
        raise SystemExit(f"there is no fold {sorted(unknown)[0]!r}: see `python -m recipes.encoder folds`")
    return out


def sources(data: Path) -> dict[str, Source]:
    """By name. Of the three files, agent_prompts.json has to be there.

    A collection with ten prompts or more in agent_prompts.json is a fold of its own and the smaller ones are the
    fold "the rest", as the router's material has it; the others are spread over the groups by their owner.
    """
    raw = read_json(data / "agent_prompts.json")
    agents = _agents(raw["agents"])
    found: dict[str, Source] = {}
    prompts: dict[str, list[tuple[str, str]]] = {}
    for row in raw["prompts"]:
        prompts.setdefault(row["agent"].partition("::")[0], []).append((row["prompt"], row["agent"]))
    members: dict[str, dict[str, Agent]] = {}
    for key, agent in agents.items():
        members.setdefault(key.partition("::")[0], {})[key] = agent
    for name, own in sorted(members.items()):
        rows = prompts.get(name, [])
        fold = _held(name) or (name if len(rows) >= BIG else REST if rows else _spread(name))
        found[name] = Source(own, rows, fold)
    if (data / "agent_prompts_2.json").exists():
        _more(found, agents, read_json(data / "agent_prompts_2.json"))
    if (data / "tool_queries.json").exists():
        _tools(found, read_json(data / "tool_queries.json"))
    return found


def _agents(raw: dict[str, dict[str, str]]) -> dict[str, Agent]:
    return {key: Agent(row["name"], row["description"]) for key, row in raw.items() if row["name"].strip()}


def _held(name: str) -> str | None:
    return next((fold for fold, names in HELD.items() if name in names), None)


def _spread(name: str) -> str:
    return f"more {list(GROUPS)[crc32(name.partition('/')[0].encode()) % len(GROUPS)]}"


def _more(found: dict[str, Source], agents: dict[str, Agent], raw: dict) -> None:
    agents = agents | _agents(raw["agents"])
    prompts: dict[str, list[tuple[str, str]]] = {}
    for row in raw["prompts"]:
        if row["prompt"].strip():
            prompts.setdefault(row["collection"], []).append((row["prompt"], row["agent"]))
    for name, keys in raw["collections"].items():
        own = {key: agents[key] for key in keys if key in agents}
        rows = [(text, key) for text, key in prompts.get(name, []) if key in own]
        before = found.get(name, Source({}, [], _held(name) or _spread(name)))
        found[name] = Source(
            before.agents | own, before.prompts + rows, before.fold, _MODEL_WRITTEN.get(name, before.weight)
        )


def _tools(found: dict[str, Source], raw: dict) -> None:
    members: dict[str, dict[str, Agent]] = {}
    for key, agent in _agents(raw["tools"]).items():
        members.setdefault(key.rpartition("::")[0], {})[key] = agent
    for name, own in members.items():
        rows = [(row["prompt"], row["agent"]) for row in raw["prompts"] if row["agent"] in own]
        found[name] = Source(own, rows, _held(name) or _spread(name.replace("#", "/")[::-1]))
