"""What the bodies of agents are worth: prompts routed by the static encoder, with bodies and without.

The weights of fusion have seen none of these bodies. Of each agent there are some ten lines; one that a prompt repeats,
or that repeats a prompt, is left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from recipes.common import load, read_json, static
from recipes.encoder.sources import Source, same, sources
from ruvllm.agents.catalog import card, spoken_name
from ruvllm.routing.fusion import AgentVectors, RouterWeights, lexicon
from ruvllm.text.lexical import content, stems
from ruvllm.types import Agent

_PAIRS = ("agent_weak_pairs.json", "agent_weak_pairs_2.json", "agent_weak_pairs_2b.json")
_PROMPTS, _AGENTS, _LINES = 100, 150, 14  # of a collection, of an agent
_LEAST_PROMPTS, _LEAST_AGENTS, _LEAST_SHARE = 10, 8, 0.7  # share of agents with a body
_NOT = ("lobehub/lobe-chat-agents", "openclaw/skills", "sickn33/antigravity-awesome-skills")
_START = 150  # characters by which a description that was cut is known


def worth(data: Path) -> dict[str, float]:
    """Top-1 and top-3 without bodies and with them, as micro averages."""
    lines: dict[str, list[str]] = {}
    for raw in (read_json(data / name) for name in _PAIRS):
        for line, i in raw["pairs"]:
            lines.setdefault(same(raw["descriptions"][i])[:_START], []).append(line)
    weights = RouterWeights.from_arrays(load("router.npz"))
    ranks: dict[str, list[NDArray[np.int64]]] = {"bodies_without": [], "bodies_with": []}
    for name, source in sources(data).items():
        drawn = _drawn(source, lines) if name not in _NOT and source.fold != "tools" else None
        if drawn is None:
            continue
        agents, texts, labels = drawn
        bare = [replace(agent, body="") for agent in agents]
        ranks["bodies_without"].append(_ranks(bare, texts, labels, weights))
        ranks["bodies_with"].append(_ranks(agents, texts, labels, weights))
    found: dict[str, float] = {"bodies_collections": len(ranks["bodies_with"])}
    for name, parts in ranks.items():
        every = np.concatenate(parts)
        found |= {f"{name}_top{n}": round(float((every < n).mean()), 4) for n in (1, 3)}
    return found | {"bodies_prompts": len(every)}


def _drawn(source: Source, lines: dict[str, list[str]]) -> tuple[list[Agent], list[str], NDArray[np.int64]] | None:
    """(agents with bodies, prompts, numbers of the right agents); None where bodies or prompts are too few."""
    if len(source.prompts) < _LEAST_PROMPTS or len(source.agents) < _LEAST_AGENTS:
        return None
    rng = np.random.default_rng(0)
    prompts = [source.prompts[i] for i in rng.permutation(len(source.prompts))[:_PROMPTS]]
    asked = list(dict.fromkeys(key for _, key in prompts))
    others = [key for key in source.agents if key not in asked]
    keys = asked + [others[i] for i in rng.permutation(len(others))[: max(0, _AGENTS - len(asked))]]
    said = {same(text) for text, _ in source.prompts}
    agents = [_with_body(source.agents[key], lines, said) for key in keys]
    if np.mean([bool(agent.body) for agent in agents]) < _LEAST_SHARE:
        return None
    return agents, [text for text, _ in prompts], np.array([keys.index(key) for _, key in prompts])


def _with_body(agent: Agent, lines: dict[str, list[str]], said: set[str]) -> Agent:
    own = lines.get(same(card(agent))[:_START], [])
    kept = [line for line in own if not any(text in same(line) or same(line) in text for text in said)]
    return replace(agent, body="\n".join(kept[:_LINES]))


def _ranks(
    agents: Sequence[Agent], texts: Sequence[str], labels: NDArray[np.int64], weights: RouterWeights
) -> NDArray[np.int64]:
    """Of the right agents, from 0."""
    read, stage, index = static().encode_now, weights.stages["static"], lexicon(agents)
    cards, names = read([card(agent) for agent in agents]), read([spoken_name(agent.name) for agent in agents])
    vectors = AgentVectors(cards, names, weights.adapter)
    logits = stage.rows(read(texts), vectors, [index.scores(content(stems(text))) for text in texts])[:, -1]
    return np.asarray((logits > logits[np.arange(len(labels)), labels][:, None]).sum(1), np.int64)
