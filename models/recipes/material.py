"""The router's training material: agents, prompts and weak pairs, split by collection, never at random."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from recipes.adapters import Group, Pairs
from recipes.common import encode, load, read_json, static
from ruvllm.agents.catalog import builtin_agents, card, spoken_name
from ruvllm.encoders.families import RUVLTRA, Family
from ruvllm.encoders.protocol import unit_rows
from ruvllm.encoders.static import StaticEncoder
from ruvllm.routing.fusion import lexicon
from ruvllm.text.lexical import Bm25, content, stems
from ruvllm.types import Agent

BIG = 10  # prompts, from which a collection is a fold of its own
REST = "the rest"  # the fold of all smaller collections
CONTEXTUAL = "contextual"  # the encoder of a `Material` that is not the static one, whichever it is
# Folds that an encoder is trained without together: one for each fold would take days.
GROUPS: Mapping[str, tuple[str, ...]] = {
    "a": ("contains-studio/agents", "davila7/claude-code-templates", "pedroid999/test-claude-code-agents"),
    "b": ("lokki007/claude-agents", "edspencer/claude-agents"),
    "c": ("virtexvirtuoso/claude-code-agents", "ersinkoc/claude-code-subagents", "chintanmehta21/claude-agents"),
    "d": (
        "servesys-labs/claude-agents",
        "vijaythecoder/awesome-claude-agents",
        "kentin0-fiz0l/claude-agents",
        "resolve109/claude-agents",
        REST,
    ),
}
_MIN_WORDS = 4  # shorter lines of an agent's body say nothing

Floats = NDArray[np.float32]
Encode = Callable[[list[str]], Floats]  # texts to unit rows (n, dim)


@dataclass(frozen=True, slots=True)
class Collection:
    """One repository of agents, with the prompts that name one of them.

    Attributes:
        vectors: encoder name -> (prompts, cards, names) vectors.
        bm25: float32 (prompts, agents).
        lexicon: that gave it.
    """

    name: str
    fold: str
    agents: list[Agent]
    texts: list[str]
    labels: NDArray[np.int64]
    vectors: dict[str, tuple[Floats, Floats, Floats]]
    bm25: Floats
    lexicon: Bm25

    def group(self) -> Group:
        """Under the contextual encoder, for the adapters."""
        prompts, cards, _ = self.vectors[CONTEXTUAL]
        return Group(self.name, prompts, cards, self.labels)


class Material:
    """All of it, encoded.

    Args:
        data: folder with agent_prompts.json and agent_weak_pairs.json.
        contextual: the encoder that the adapters are for.
        static: the table that shares its space, if one does.
        lines: at most so many weak pairs, any of them.
    """

    def __init__(
        self, data: Path, contextual: Encode, static: StaticEncoder | None = None, lines: int | None = None
    ) -> None:
        self.encoders: dict[str, Encode] = {} if static is None else {"static": static.encode_now}
        self.encoders[CONTEXTUAL] = contextual
        raw = read_json(data / "agent_prompts.json")
        agents = {
            key: Agent(value["name"], value["description"])
            for key, value in raw["agents"].items()
            if value["name"].strip()
        }
        by_collection: dict[str, list[tuple[str, str]]] = {}
        for row in raw["prompts"]:
            by_collection.setdefault(row["agent"].partition("::")[0], []).append((row["prompt"], row["agent"]))
        self.collections = [
            self._collection(name, rows, {key: agent for key, agent in agents.items() if key.startswith(f"{name}::")})
            for name, rows in sorted(by_collection.items())
        ]
        self.folds = sorted({collection.fold for collection in self.collections})
        self.catalog = self._catalog()
        self._load_pairs(read_json(data / "agent_weak_pairs.json"), agents, lines)

    def pairs(self, without: set[str]) -> Pairs:
        """Weak pairs of which nothing belongs to the folds `without`."""
        barred = {card(agent) for c in self.collections if c.fold in without for agent in c.agents}
        names = {c.name for c in self.collections if c.fold in without}
        open_ = np.array([text not in barred and not (self._owners[text] & names) for text in self._descriptions])
        keep = open_[self._labels]
        return Pairs(self._lines[keep], self._cards, self._labels[keep])

    def groups(self, without: set[str]) -> list[Group]:
        """The collections of the other folds."""
        return [c.group() for c in self.collections if c.fold not in without]

    def _collection(self, name: str, rows: list[tuple[str, str]], agents: dict[str, Agent]) -> Collection:
        number = {key: i for i, key in enumerate(agents)}
        texts = [text for text, _ in rows]
        labels = np.array([number[key] for _, key in rows], np.int64)
        chosen = list(agents.values())
        cards, names = [card(agent) for agent in chosen], [spoken_name(agent.name) for agent in chosen]
        index = lexicon(chosen)
        vectors = {name: (encode(texts), encode(cards), encode(names)) for name, encode in self.encoders.items()}
        bm25 = np.stack([index.scores(content(stems(text))) for text in texts])
        return Collection(name, name if len(rows) >= BIG else REST, chosen, texts, labels, vectors, bm25, index)

    def _catalog(self) -> Group:
        agents = builtin_agents()
        texts = [text for agent in agents for text in agent.examples]
        labels = np.repeat(np.arange(len(agents), dtype=np.int64), [len(agent.examples) for agent in agents])
        contextual = self.encoders[CONTEXTUAL]
        return Group("builtin", contextual(texts), contextual([card(agent) for agent in agents]), labels)

    def _load_pairs(self, raw: dict[str, list], agents: dict[str, Agent], most: int | None) -> None:
        self._descriptions: list[str] = raw["descriptions"]
        self._owners: dict[str, set[str]] = {text: set() for text in self._descriptions}
        for key, agent in agents.items():
            self._owners.get(f"{agent.name}: {agent.description}", set()).add(key.partition("::")[0])
        rows = [(line, i) for line, i in raw["pairs"] if len(line.split()) >= _MIN_WORDS]
        if most is not None:
            rows = [rows[i] for i in np.sort(np.random.default_rng(0).permutation(len(rows))[:most])]
        self._lines = self.encoders[CONTEXTUAL]([line for line, _ in rows])
        self._labels = np.array([i for _, i in rows], np.int64)
        self._cards = self.encoders[CONTEXTUAL](self._descriptions)


def shipped(data: Path, family: Family) -> Material:
    """Under the shipped encoders of a family."""
    projection = load(family.artifact("space.npz"))["projection"]

    def contextual(texts: list[str]) -> Floats:
        return unit_rows(encode(texts, family=family).astype(np.float32) @ projection)

    return Material(data, contextual, static() if family is RUVLTRA else None)
