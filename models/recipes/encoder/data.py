"""What the encoder learns from, split by collection: nothing of a left-out collection is in any part.

Three kinds of (task, agent) rows: lines of agents' bodies with the card they belong to, real
prompts among the agents of their own collection, and the built-in catalog's examples.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from recipes.common import read_json, tokenizer
from recipes.encoder.augment import augment
from recipes.material import BIG, REST
from ruvllm.agents.catalog import builtin_agents, card
from ruvllm.types import Agent

__all__ = ["Corpus", "Rows", "Texts", "collections_of", "fold_of", "read_corpus"]

_MIN_WORDS = 4  # shorter lines of an agent's body say nothing
_LINE_TOKENS, _CARD_TOKENS = 40, 56
_VERSIONS = 3  # augmented ones of each prompt and each example
_LINES_SAID_OTHERWISE = 0.15


class Texts:
    """Distinct texts and their token ids.

    Attributes:
        ids: token ids by text number.
    """

    def __init__(self) -> None:
        self._words = tokenizer()
        self._numbers: dict[tuple[str, int], int] = {}
        self.ids: list[NDArray[np.int64]] = []

    def add(self, text: str, max_tokens: int) -> int:
        """Its number."""
        key = (text, max_tokens)
        if key not in self._numbers:
            self._numbers[key] = len(self.ids)
            self.ids.append(np.array(self._words.encode(text, max_tokens), np.int64))
        return self._numbers[key]


@dataclass(frozen=True, slots=True)
class Rows:
    """Tasks and the agents they belong to.

    Attributes:
        tasks: text numbers of each row's wordings, the first as written.
        cards: int64 (rows,): the right card's number among `Corpus.cards`.
    """

    tasks: list[tuple[int, ...]]
    cards: NDArray[np.int64]


def _none() -> Rows:
    return Rows([], np.zeros(0, np.int64))


@dataclass(slots=True)
class Corpus:
    """All rows of some collections.

    Attributes:
        cards: text number of each card.
        home: the collections each card belongs to ("" for one that nobody claims).
        weak, catalog: rows.
        prompts: rows by collection.
        among: collection -> card numbers of its agents.
    """

    texts: Texts
    cards: list[int] = field(default_factory=list)
    home: list[set[str]] = field(default_factory=list)
    weak: Rows = field(default_factory=_none)
    catalog: Rows = field(default_factory=_none)
    prompts: dict[str, Rows] = field(default_factory=dict)
    among: dict[str, list[int]] = field(default_factory=dict)
    numbers: dict[str, int] = field(default_factory=dict)

    def card(self, text: str, home: str) -> int:
        """The number of the card `text`, a new one if need be."""
        number = self.numbers.setdefault(text, len(self.cards))
        if number == len(self.cards):
            self.cards.append(self.texts.add(text, _CARD_TOKENS))
            self.home.append(set())
        self.home[number].add(home)
        if home and number not in self.among.setdefault(home, []):
            self.among[home].append(number)
        return number


def collections_of(data: Path) -> dict[str, list[tuple[str, str]]]:
    """Collection -> its (prompt, agent key) rows."""
    out: dict[str, list[tuple[str, str]]] = {}
    for row in read_json(data / "agent_prompts.json")["prompts"]:
        out.setdefault(row["agent"].partition("::")[0], []).append((row["prompt"], row["agent"]))
    return dict(sorted(out.items()))


def fold_of(name: str, rows: Sequence[object]) -> str:
    """As the router's material has it: a collection of ten prompts is a fold of its own."""
    return name if len(rows) >= BIG else REST


def _same(text: str) -> str:
    return " ".join(text.lower().split())


def read_corpus(data: Path, without: Iterable[str] = (), seed: int = 0, texts: Texts | None = None) -> Corpus:
    """Everything but the folds `without`, by name ("the rest" is that of all small collections).

    A line that another collection shares with a left-out prompt, and a description that it shares
    with a left-out agent, are left out too.

    Args:
        texts: to number the texts in, when several splits share them.
    """
    raw, asked, out = read_json(data / "agent_prompts.json"), collections_of(data), set(without)
    unknown = out - {fold_of(name, rows) for name, rows in asked.items()}
    if unknown:
        raise SystemExit(f"there is no fold {sorted(unknown)[0]!r}: see `python -m recipes.encoder folds`")
    barred = {name for name, rows in asked.items() if fold_of(name, rows) in out}
    agents = {key: value for key, value in raw["agents"].items() if value["name"].strip()}
    left = [value for key, value in agents.items() if key.partition("::")[0] in barred]
    told = {_same(value["description"]) for value in left if value["description"].strip()}
    prompted = {_same(text) for name in barred for text, _ in asked[name]}
    corpus = Corpus(texts or Texts())
    for key, value in agents.items():
        home = key.partition("::")[0]
        if home not in barred and _same(value["description"]) not in told:
            corpus.card(_card(value), home)
    _prompts(corpus, {n: rows for n, rows in asked.items() if n not in barred}, agents, seed)
    closed = _Closed(told, {value["name"] for value in left}, prompted)
    _weak(corpus, read_json(data / "agent_weak_pairs.json"), closed, seed)
    _catalog(corpus, seed)
    return corpus


@dataclass(frozen=True, slots=True)
class _Closed:
    """What of the left-out collections another part might repeat."""

    descriptions: set[str]
    names: set[str]
    prompts: set[str]


def _card(agent: dict[str, str]) -> str:
    return card(Agent(agent["name"], agent["description"]))


def _dice(seed: int, text: str) -> random.Random:
    """Of a text's own: it is said the same way whatever else is left out."""
    return random.Random(f"{seed} {text}")


def _wordings(corpus: Corpus, text: str, seed: int, versions: int) -> tuple[int, ...]:
    rng = _dice(seed, text)
    said = [text, *(augment(text, rng) for _ in range(versions))]
    return tuple(corpus.texts.add(each, _LINE_TOKENS) for each in said)


def _prompts(
    corpus: Corpus, asked: dict[str, list[tuple[str, str]]], agents: dict[str, dict[str, str]], seed: int
) -> None:
    for name, rows in asked.items():
        known = [(text, corpus.numbers.get(_card(agents[key]))) for text, key in rows]
        pairs = [(_wordings(corpus, text, seed, _VERSIONS), number) for text, number in known if number is not None]
        if pairs:
            corpus.prompts[name] = Rows([task for task, _ in pairs], np.array([number for _, number in pairs]))


def _weak(corpus: Corpus, raw: dict[str, list], closed: _Closed, seed: int) -> None:
    texts: list[str] = raw["descriptions"]
    cards: list[int | None] = []
    for text in texts:
        name, _, description = text.partition(": ")
        known = corpus.numbers.get(text)
        # Nobody claims some descriptions: one with the name of a left-out agent may be that agent's.
        barred = _same(description) in closed.descriptions or (known is None and name in closed.names)
        cards.append(None if barred else corpus.card(text, "") if known is None else known)
    tasks, numbers = [], []
    for line, i in raw["pairs"]:
        number = cards[i]
        if number is not None and len(line.split()) >= _MIN_WORDS and _same(line) not in closed.prompts:
            rng = _dice(seed, line)
            said = augment(line, rng) if rng.random() < _LINES_SAID_OTHERWISE else line
            tasks.append((corpus.texts.add(said, _LINE_TOKENS),))
            numbers.append(number)
    corpus.weak = Rows(tasks, np.array(numbers))


def _catalog(corpus: Corpus, seed: int) -> None:
    tasks, numbers = [], []
    for agent in builtin_agents():
        number = corpus.card(card(agent), "builtin")
        for text in agent.examples:
            tasks.append(_wordings(corpus, text, seed, 1))
            numbers.append(number)
    corpus.catalog = Rows(tasks, np.array(numbers))
