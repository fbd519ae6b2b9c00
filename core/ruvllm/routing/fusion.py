"""Zero-shot scores: how well a text fits agents that nothing was trained on.

Four views of (text, agent), each standardised over the agents of the set so that the trained
weights carry over to sets of any size: cosine of the adapted vectors, of text and card, of text
and name, and BM25 on the agent's words.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from math import sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ruvllm.agents.catalog import builtin_words, spoken_name
from ruvllm.encoders.protocol import Vectors, unit_rows
from ruvllm.errors import REBUILD, ArtifactError
from ruvllm.lazy_dataclass import dataclass
from ruvllm.routing.calibration import CONFIDENCE_FEATURES, SCOPE_FEATURES
from ruvllm.text.lexical import Bm25, Memo, content, stems
from ruvllm.types import Agent

_ADAPTER = ("query_down", "query_up", "card_down", "card_up")
_CONFIDENCE, _SCOPE = "confidence_", "scope_"  # and the name of an encoder, whose own name is that of its fusion


@dataclass(frozen=True, slots=True)
class RouterWeights:
    """Adapters, fusion, confidence and scope weights (models/recipes/router.py trains them).

    Attributes:
        stages: by encoder name.
        confidence: by encoder name, float32 (CONFIDENCE_FEATURES + 1,).
        scopes: P(out of scope) by encoder name, for agents without examples, (SCOPE_FEATURES + 1,).
        familiarity: P(out of scope) from `Calibration.familiarity`, for agents with examples, (2,).
        recollection: P(same agent) from the cosine to a confirmed task, static encoder, (2,).
    """

    adapter: Adapter
    stages: Mapping[str, Stage]
    confidence: Mapping[str, NDArray[np.float32]]
    scopes: Mapping[str, NDArray[np.float32]]
    familiarity: NDArray[np.float32]
    recollection: NDArray[np.float32]

    def with_encoder(self, name: str, dim: int, like: str) -> RouterWeights:
        """For another encoder, with the weights of one: they are over standardised scores, whatever gave them.

        The adapters are of the shared space, and change nothing in another one.

        Args:
            like: the name of the one whose weights it takes.
        """
        none = np.zeros((dim, 1), np.float32), np.zeros((1, dim), np.float32)
        return replace(
            self,
            adapter=Adapter(*none, *none),
            stages={name: self.stages[like]},
            confidence={name: self.confidence[like]},
            scopes={name: self.scopes[like]},
        )

    def only(self, strategy: str) -> RouterWeights:
        """Of which "keywords" (BM25) or "embedding" (the three cosines) alone says who takes a task."""
        heard = np.array([(feature == "bm25") == (strategy == "keywords") for feature in FEATURES], np.float32)
        return replace(self, stages={name: Stage(stage.weights * heard) for name, stage in self.stages.items()})

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]], name: str = "router.npz") -> RouterWeights:
        """Raises ArtifactError when an array is missing, not float32, or of another shape."""
        encoders = [key.removeprefix(_CONFIDENCE) for key in arrays if key.startswith(_CONFIDENCE)]
        sizes = {"familiarity": 2, "recollection": 2}
        for encoder in encoders:
            sizes |= {encoder: len(FEATURES), _CONFIDENCE + encoder: len(CONFIDENCE_FEATURES) + 1}
            sizes |= {_SCOPE + encoder: len(SCOPE_FEATURES) + 1}
        for key in (*_ADAPTER, *sizes):
            value, ndim = arrays.get(key), 2 if key in _ADAPTER else 1
            if value is None or value.dtype != np.float32 or value.ndim != ndim or not np.isfinite(value).all():
                raise ArtifactError(f"{name}: array {key!r} is missing or malformed", field=key, fix=REBUILD)
        for key, size in sizes.items():
            if len(arrays[key]) != size:
                raise ArtifactError(
                    f"{name}: {key!r} has {len(arrays[key])} weights, not {size}", field=key, fix=REBUILD
                )
        return cls(
            adapter=Adapter(*(np.ascontiguousarray(arrays[key]) for key in _ADAPTER)),
            stages={key: Stage(arrays[key]) for key in encoders},
            confidence={key: arrays[_CONFIDENCE + key] for key in encoders},
            scopes={key: arrays[_SCOPE + key] for key in encoders},
            familiarity=arrays["familiarity"],
            recollection=arrays["recollection"],
        )


FEATURES = ("adapted", "card", "name", "bm25")
# What a word counts beside one of the description. Bodies are worth 1.4 points of top-1 at 0.35; a vector for each of
# their lines 0.8 more, but 30 us a task.
_NAME_COUNT, _KEYWORD_COUNT, _BODY_COUNT, _NOT_FOR_COUNT = 3.0, 2.0, 0.35, -0.5
_BODY_CHARS, _LINES, _LINE_CHARS = 20_000, 16, 160  # that are read of a body
_WHEN = re.compile(
    r"(?i)\b(?:use|trigger|invoke|activate|call)s?\b.{0,30}\b(?:when|for|if|to)\b|\bwhen to\b|\bnot for\b"
)
_FEW = 256  # agents, up to which vectors are multiplied one by one
_MOST_SETS = 1_000  # of agents that a task's words make candidates, which are remembered
_ITEM = re.compile(r"#|[-*+] |\d+[.)] ")
_NOT_FOR = re.compile(
    r"(?i)\b(?:(?:do not|don't|never|not) (?:use|invoke|trigger|call|activate)\b.{0,30}?\b(?:for|when|if|to|on|with|in)"
    r"|not (?:intended |meant |suitable )?(?:for|when|if)|does not (?:cover|handle))\b[^.;\n]*"
)


@dataclass(frozen=True, slots=True)
class Adapter:
    """A low-rank residual map on each side (Hu et al. 2021), trained with InfoNCE on (task, agent) pairs.

    Attributes:
        query_down, card_down: float32 (dim, rank).
        query_up, card_up: float32 (rank, dim).
    """

    query_down: NDArray[np.float32]
    query_up: NDArray[np.float32]
    card_down: NDArray[np.float32]
    card_up: NDArray[np.float32]

    def cards(self, vectors: Vectors) -> Vectors:
        """(n, dim) to (n, dim), unit rows."""
        return unit_rows(vectors + (vectors @ self.card_down) @ self.card_up)


class AgentVectors:
    """The agents of a set under one encoder, ready to be scored.

    Attributes:
        cards, names: float32 (agents, dim), unit rows.
    """

    def __init__(self, cards: Vectors, names: Vectors, adapter: Adapter) -> None:
        down, up, n = adapter.query_down, adapter.query_up, len(cards)
        adapted = adapter.cards(cards)
        # (v + v down up) . a is v . (a + a up' down'), so that one product gives every cosine; what v down and v up'
        # add tells how long v + v down up is.
        self._all = np.concatenate([adapted + (adapted @ up.T) @ down.T, cards, names, down.T, up])
        self.cards, self.names = self._all[n : 2 * n], self._all[2 * n : 3 * n]
        one = np.eye(len(up), dtype=np.float32)
        self._length = np.block([[up @ up.T, one], [one, 0 * one]])

    def cosines(self, vectors: Vectors) -> NDArray[np.float32]:
        """Of n texts with the adapted cards, the cards and the names, each as if it were alone; and room for more.

        A product of many vectors rounds otherwise than one of each: among more than 256 agents the seventh digit may
        be another one, and texts take a fraction of the time.

        Returns:
            float32 (n, len(FEATURES) + 1, agents), of which the first three rows are filled.
        """
        agents, width = len(self.cards), len(self._all)
        out = np.empty((len(vectors), max((len(FEATURES) + 1) * agents, width)), np.float32)
        several = len(vectors) > 1 and agents > _FEW
        if several:
            out[:, :width] = vectors @ self._all.T
        for vector, row in zip(vectors, out, strict=True):
            if not several:
                self._all.dot(vector, row[:width])
            more = row[3 * agents : width]
            row[:agents] *= 1 / sqrt(max(1 + float(more.dot(self._length).dot(more)), 1e-12))
        return out[:, : (len(FEATURES) + 1) * agents].reshape(len(vectors), len(FEATURES) + 1, agents)


@dataclass(frozen=True, slots=True)
class Stage:
    """The trained weights of one encoder's zero-shot scores.

    Attributes:
        weights: float32 (len(FEATURES),).
    """

    weights: NDArray[np.float32]

    def rows(self, vectors: Vectors, agents: AgentVectors, bm25: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
        """Raw features of n texts and their logits, each as if it were alone: (n, len(FEATURES) + 1, agents).

        Args:
            vectors: float32 (n, dim) of the texts.
            bm25: float32 (agents,) of each.
        """
        out = agents.cosines(vectors)
        for row, words in zip(out, bm25, strict=True):
            row[3] = words
        out[:, -1] = self.logits(out[:, :-1])
        return out

    def logits(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """(..., agents) from (..., len(FEATURES), agents)."""
        centred, spread = _centred(features)
        logits: NDArray[np.float32] = np.matmul((self.weights / spread)[..., None, :], centred)[..., 0, :]
        return logits


def standardise(features: NDArray[np.float32]) -> NDArray[np.float32]:
    """Each feature to zero mean and unit variance over the agents (last axis)."""
    centred, spread = _centred(features)
    centred /= spread[..., None]
    return centred


def _centred(features: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """(each feature less its mean over the agents, how far each spreads)."""
    mean = _averager(features.shape[-1])
    centred: NDArray[np.float32] = features - features.dot(mean)[..., None]
    spread: NDArray[np.float32] = np.sqrt((centred * centred).dot(mean))
    spread += np.float32(1e-3)
    return centred, spread


@lru_cache(maxsize=8)
def _averager(size: int) -> NDArray[np.float32]:
    return np.full(size, 1 / size, np.float32)


def lexicon(agents: Sequence[Agent]) -> Bm25:
    """BM25 over names, keywords, descriptions and the telling lines of bodies; what an agent is not for counts less."""
    return Bm25([words for words, _ in _words_of_all(agents)])


@lru_cache(maxsize=2)
def words_of(agents: tuple[Agent, ...]) -> tuple[Bm25, Requirements]:
    """(`lexicon`, `Requirements`) of a set, once for all of its routers."""
    documents = _words_of_all(agents)
    return Bm25([words for words, _ in documents]), Requirements([entries for _, entries in documents])


def _words_of_all(agents: Sequence[Agent]) -> list[tuple[dict[str, float], list[list[str]]]]:
    ready = builtin_words()
    return [ready.get(agent) or words_of_agent(agent) for agent in agents]


def words_of_agent(agent: Agent) -> tuple[dict[str, float], list[list[str]]]:
    """(how much each stem counts in what it says, the stems of each entry of `requires`)."""
    words: dict[str, float] = {}
    body = telling_lines(agent.body) if agent.body else ""
    for text, count in (
        (_NOT_FOR.sub(" ", agent.description), 1.0),
        (spoken_name(agent.name), _NAME_COUNT),
        (" ".join(agent.keywords), _KEYWORD_COUNT),
        (_NOT_FOR.sub(" ", body), _BODY_COUNT),
        (" ".join(_NOT_FOR.findall(f"{agent.description}\n{body}")), _NOT_FOR_COUNT),
    ):
        found = Counter(stems(text))
        for word in content(found):
            words[word] = words.get(word, 0.0) + count * found[word]
    return words, list(map(stems, agent.requires))


def telling_lines(body: str) -> str:
    """Of a Markdown text the lines that say when it applies, its headings and its lists, before others; no code."""
    lines, code = list[str](), False
    for line in body[:_BODY_CHARS].splitlines():
        fence = line.lstrip().startswith(("```", "~~~"))
        code ^= fence
        if not code and not fence and re.search(r"\w", line):
            lines.append(line.strip()[:_LINE_CHARS])
    lines.sort(key=lambda line: 0 if _WHEN.search(line) else 1 if _ITEM.match(line) else 2)
    return "\n".join(lines[:_LINES])


class Requirements:
    """Which agents a task's words make candidates: those without `requires`, and those of which an entry is met.

    Args:
        required: of each agent the stems of each entry.
    """

    def __init__(self, required: Sequence[Sequence[Sequence[str]]]) -> None:
        self._open = np.array([not entries for entries in required])
        entries = [(frozenset(words), i) for i, entries in enumerate(required) for words in entries]
        often = Counter(word for words, _ in entries for word in words)
        # By the rarest word of each, and by the next rarest, or the same where it is the only one.
        self._entries: dict[str, dict[str, list[tuple[frozenset[str], int]]]] = {}
        for words, i in entries:
            if words:
                rare = sorted(words, key=lambda word: (often[word], word))
                self._entries.setdefault(rare[0], {}).setdefault(rare[:2][-1], []).append((words, i))
        self._words = frozenset(often)
        self._found, self._sets = Memo(self._met, _MOST_SETS), Memo(self._numbers, _MOST_SETS)

    def candidates(self, words: Sequence[str]) -> NDArray[np.intp] | None:
        """Numbers of the agents that a task of these stems may go to; None where it may go to any."""
        return self._found[self._words.intersection(words)] if self._entries else None

    def _met(self, here: frozenset[str]) -> NDArray[np.intp] | None:
        """The same, by those of a task's words that an entry has."""
        by_next = [self._entries[word] for word in here if word in self._entries]
        some = [entry for each in by_next for word in here & each.keys() for entry in each[word]]
        return self._sets[frozenset([agent for needed, agent in some if needed <= here])]

    def _numbers(self, met: frozenset[int]) -> NDArray[np.intp] | None:
        """The same, by the agents of which an entry is met."""
        found = self._open.copy()
        found[list(met)] = True
        return None if found.all() or not found.any() else np.flatnonzero(found)
