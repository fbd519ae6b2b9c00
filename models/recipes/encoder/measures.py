"""How well prompts find their agents in collections that were left out: cosine alone, and with BM25."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from recipes.common import tokenizer
from recipes.encoder.sources import sources
from ruvllm.agents.catalog import card
from ruvllm.routing.fusion import lexicon
from ruvllm.text.lexical import content, stems

LEXICAL = 0.3  # of BM25's standard score, beside the cosine's

Floats = NDArray[np.float32]
Ids = Sequence[NDArray[np.int64]]


@dataclass(frozen=True, slots=True)
class Held:
    """A collection to be measured on.

    Attributes:
        bm25: (prompts, agents), standardised over the agents.
    """

    name: str
    prompts: list[NDArray[np.int64]]
    cards: list[NDArray[np.int64]]
    labels: NDArray[np.int64]
    bm25: Floats


@dataclass(frozen=True, slots=True)
class Score:
    """Micro averages over the prompts."""

    prompts: int
    top1: float
    top3: float
    reciprocal: float
    hybrid_top1: float
    hybrid_top3: float

    def line(self) -> str:
        return (
            f"cosine {self.top1:.3f}/{self.top3:.3f} (reciprocal rank {self.reciprocal:.3f}), "
            f"with BM25 {self.hybrid_top1:.3f}/{self.hybrid_top3:.3f}, n={self.prompts}"
        )


def _standard(scores: Floats) -> Floats:
    centred = scores - scores.mean(1, keepdims=True)
    return np.asarray(centred / (centred.std(1, keepdims=True) + 1e-3), np.float32)


def held_out(data: Path, folds: set[str]) -> list[Held]:
    """The collections of these folds."""
    words, out = tokenizer(), []
    for name, source in sources(data).items():
        if source.fold not in folds or not source.prompts:
            continue
        keys, agents, rows = list(source.agents), list(source.agents.values()), source.prompts
        index, place = lexicon(agents), {key: i for i, key in enumerate(keys)}
        out.append(
            Held(
                name,
                [np.array(words.encode(text, 256), np.int64) for text, _ in rows],
                [np.array(words.encode(card(agent), 256), np.int64) for agent in agents],
                np.array([place[key] for _, key in rows]),
                _standard(np.stack([index.scores(content(stems(text))) for text, _ in rows])),
            )
        )
    return out


def score(held: Sequence[Held], encode: Callable[[Ids], Floats]) -> Score:
    """By cosine over `encode`'s unit vectors."""
    flat = encode([ids for each in held for ids in (*each.prompts, *each.cards)])
    plain, hybrid, at = [], [], 0
    for each in held:
        prompts = flat[at : at + len(each.prompts)]
        cards = flat[at + len(prompts) : at + len(prompts) + len(each.cards)]
        at += len(prompts) + len(cards)
        cosines = prompts @ cards.T
        plain.append(_ranks(cosines, each.labels))
        hybrid.append(_ranks(_standard(cosines) + LEXICAL * each.bm25, each.labels))
    cosine, both = np.concatenate(plain), np.concatenate(hybrid)
    return Score(
        len(cosine),
        float((cosine < 1).mean()),
        float((cosine < 3).mean()),
        float((1 / (1 + cosine)).mean()),
        float((both < 1).mean()),
        float((both < 3).mean()),
    )


def _ranks(scores: Floats, labels: NDArray[np.int64]) -> NDArray[np.int64]:
    return (scores > scores[np.arange(len(scores)), labels][:, None]).sum(1)
