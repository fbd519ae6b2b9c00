"""What the encoder learns from, split by collection: nothing of a left-out collection is in any part.

Three kinds of (task, agent) rows: lines of agents' bodies with the card they belong to, real
prompts among the agents or tools of their own collection, and the built-in catalog's examples with
tasks of our own grammar, the same object under one act after another.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from recipes.common import read_json, tokenizer
from recipes.encoder.augment import augment
from recipes.encoder.sources import Source, folds, same, sources
from recipes.tasks import contrasts
from ruvllm.agents.catalog import builtin_agents, card

_MIN_WORDS = 4  # shorter lines of an agent's body say nothing
_LINE_TOKENS, _CARD_TOKENS = 24, 36
_SAID_OTHERWISE = 0.4  # share of prompts and examples that have an augmented version, too
_LINES_SAID_OTHERWISE = 0.15
_HOMES = 0.6  # share of collections whose bodies' lines are used: more are never drawn
_CARDS, _LINES = 40, 3  # of a collection, of a card
_OBJECTS = 150  # of the grammar
_AGENTS = 60  # of a collection, beside those that a prompt is for
_PAIRS = ("agent_weak_pairs.json", "agent_weak_pairs_2.json", "agent_weak_pairs_2b.json")


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
        contrasts: rows of one object each, an act a row.
        prompts: rows by collection.
        weights: of a collection's prompts.
        among: collection -> card numbers of its agents.
    """

    texts: Texts
    cards: list[int] = field(default_factory=list)
    home: list[set[str]] = field(default_factory=list)
    weak: Rows = field(default_factory=_none)
    catalog: Rows = field(default_factory=_none)
    contrasts: list[Rows] = field(default_factory=list)
    weights: dict[str, float] = field(default_factory=dict)
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


def read_corpus(data: Path, without: Iterable[str] = (), seed: int = 0, texts: Texts | None = None) -> Corpus:
    """Everything but the folds `without`, and what is held out of every run.

    A line that another collection shares with a left-out prompt, and a description that it shares
    with a left-out agent, are left out too.

    Args:
        without: folds by name, or groups of them: see `recipes.encoder.sources`.
        texts: to number the texts in, when several splits share them.
    """
    everything = sources(data)
    out = folds(everything, without)
    barred = {name: source for name, source in everything.items() if source.fold in out}
    left = [source.agents[key] for source in barred.values() for key in source.agents]
    told = {same(agent.description) for agent in left if agent.description.strip()}
    prompted = {same(text) for source in barred.values() for text, _ in source.prompts}
    corpus = Corpus(texts or Texts())
    known: dict[str, str] = {}
    for name, source in everything.items():
        if name not in barred:
            _source(corpus, name, source, told, prompted, seed)
            known = {_start(card(agent)): name for agent in source.agents.values()} | known
    closed = _Closed(told, {agent.name for agent in left}, prompted)
    _weak(corpus, data, known, closed, seed)
    _catalog(corpus, seed)
    return corpus


@dataclass(frozen=True, slots=True)
class _Closed:
    """What of the left-out collections another part might repeat."""

    descriptions: set[str]
    names: set[str]
    prompts: set[str]


def _start(text: str) -> str:
    """By which a card is known that was cut."""
    return same(text)[:150]


def _dice(seed: int, text: str) -> random.Random:
    """Of a text's own: it is said the same way whatever else is left out."""
    return random.Random(f"{seed} {text}")


def _wordings(corpus: Corpus, text: str, seed: int) -> tuple[int, ...]:
    rng = _dice(seed, text)
    said = [text, augment(text, rng)] if rng.random() < _SAID_OTHERWISE else [text]
    return tuple(corpus.texts.add(each, _LINE_TOKENS) for each in said)


def _source(corpus: Corpus, name: str, source: Source, told: set[str], prompted: set[str], seed: int) -> None:
    wanted = {key for _, key in source.prompts}
    others = sorted(source.agents.keys() - wanted, key=lambda key: _dice(seed, key).random())
    numbers = {
        key: corpus.card(card(agent), name)
        for key, agent in source.agents.items()
        if key in wanted.union(others[:_AGENTS]) and same(agent.description) not in told
    }
    asked = [(text, key) for text, key in source.prompts if key in numbers and same(text) not in prompted]
    if asked:
        tasks = [_wordings(corpus, text, seed) for text, _ in asked]
        corpus.prompts[name] = Rows(tasks, np.array([numbers[key] for _, key in asked]))
        corpus.weights[name] = source.weight


def _weak(corpus: Corpus, data: Path, known: dict[str, str], closed: _Closed, seed: int) -> None:
    """Lines of some of the collections; which ones hangs on nothing that is left out."""
    lines: dict[str, dict[str, list[str]]] = {}  # collection -> card -> lines
    for raw in (read_json(data / name) for name in _PAIRS if (data / name).exists()):
        homes = [_home(text, known, closed) for text in raw["descriptions"]]
        for line, i in raw["pairs"]:
            home = homes[i]
            if home is not None and len(line.split()) >= _MIN_WORDS and same(line) not in closed.prompts:
                lines.setdefault(home, {}).setdefault(raw["descriptions"][i], []).append(line)
    tasks, numbers = [], []
    for home in sorted(lines):
        if _dice(seed, home).random() > _HOMES:
            continue
        for text in sorted(lines[home], key=lambda text: _dice(seed, text).random())[:_CARDS]:
            for line in sorted(set(lines[home][text]), key=lambda line: _dice(seed, line).random())[:_LINES]:
                rng = _dice(seed, line)
                said = augment(line, rng) if rng.random() < _LINES_SAID_OTHERWISE else line
                tasks.append((corpus.texts.add(said, _LINE_TOKENS),))
                numbers.append(corpus.card(text, home))
    corpus.weak = Rows(tasks, np.array(numbers, np.int64))


def _home(text: str, known: dict[str, str], closed: _Closed) -> str | None:
    """The collection that a card is of; None for nobody's: one with the name of a left-out agent may be that agent."""
    name, _, description = text.partition(": ")
    if same(description) in closed.descriptions or (name in closed.names and _start(text) not in known):
        return None
    return known.get(_start(text))


def _catalog(corpus: Corpus, seed: int) -> None:
    numbers = {agent.name: corpus.card(card(agent), "builtin") for agent in builtin_agents()}
    rows = [(text, numbers[agent.name]) for agent in builtin_agents() for text in agent.examples]
    corpus.catalog = Rows([_wordings(corpus, text, seed) for text, _ in rows], np.array([n for _, n in rows]))
    for pairs in contrasts(_OBJECTS, seed=seed):
        tasks = [(corpus.texts.add(text, _LINE_TOKENS),) for text, _ in pairs]
        corpus.contrasts.append(Rows(tasks, np.array([numbers[name] for _, name in pairs])))
