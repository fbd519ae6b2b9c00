"""What a training step sees: drawn from the seed and the step's number alone, so that resuming changes nothing."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recipes.encoder.data import Corpus, Rows
from recipes.encoder.negatives import ALIKE

_SEEDS = 10  # weak cards a step, as many of their hard negatives, and a line of each
_PROMPTS, _OTHERS = 24, 16  # real prompts a step, and agents that none of them is for
_FROM_ONE = 12  # of the prompts, at most, are of one collection
_EXAMPLES = 10  # catalog agents a step, an example each
_AS_WRITTEN = 0.6  # share of tasks that are not augmented

Numbers = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Batch:
    """Tasks routed among cards.

    Attributes:
        tasks: text numbers.
        cards: card numbers, each once.
        right: each task's place in `cards`.
        alike: bool (cards, cards): pairs that are no negatives of each other.
        weight: of its loss.
    """

    kind: str
    tasks: Numbers
    cards: Numbers
    right: Numbers
    alike: NDArray[np.bool_]
    weight: float


class Batches:
    """Over a corpus.

    Args:
        cards: (cards, dim) unit rows that tell which cards are alike.
        negatives: of each card.
    """

    def __init__(self, corpus: Corpus, cards: NDArray[np.float32], negatives: list[Numbers], seed: int) -> None:
        self._cards, self._negatives, self._seed = cards, negatives, seed
        self._weak, self._catalog, self._prompts = corpus.weak, corpus.catalog, list(corpus.prompts.items())
        self._contrasts = corpus.contrasts
        self._among = {name: np.array(members) for name, members in corpus.among.items()}
        self._lines = _by_card(corpus.weak)
        self._examples = _by_card(corpus.catalog)
        self._weak_share = _share([len(self._lines[card]) for card in self._lines])
        self._prompt_share = _share([len(rows.cards) * corpus.weights[name] ** 2 for name, rows in self._prompts])

    def at(self, step: int) -> list[Batch]:
        """Those of a step."""
        rng = np.random.default_rng((self._seed, step))
        batches = [self._of_weak(rng), self._of_prompts(rng)]
        return [*batches, self._of_contrasts(rng) if step % 2 else self._of_catalog(rng)]

    def _of_weak(self, rng: np.random.Generator) -> Batch:
        known = list(self._lines)
        most = min(_SEEDS, len(known))
        chosen = {known[i] for i in rng.choice(len(known), most, replace=False, p=self._weak_share)}
        for card in sorted(chosen):
            near = [other for other in self._negatives[card].tolist() if other in self._lines]
            if near:
                chosen.add(near[rng.integers(len(near))])
        cards = np.array(sorted(chosen))
        rows = [rng.choice(self._lines[card]) for card in cards]
        return self._batch("lines", self._weak, np.array(rows), cards, 1.0, rng)

    def _of_prompts(self, rng: np.random.Generator) -> Batch:
        """Of collections drawn until there are enough prompts, each with other agents of its own."""
        chosen: list[tuple[Rows, Numbers]] = []
        right, others = np.zeros(0, np.int64), np.zeros(0, np.int64)
        room = _PROMPTS
        while room:
            name, rows = self._prompts[rng.choice(len(self._prompts), p=self._prompt_share)]
            drawn = rng.choice(len(rows.cards), min(_FROM_ONE, room, len(rows.cards)), replace=False)
            room -= len(drawn)
            chosen.append((rows, drawn))
            own = np.unique(rows.cards[drawn])
            near = np.concatenate([self._negatives[card] for card in own])
            more = np.setdiff1d(near if rng.random() < 0.7 else self._among[name], own)
            most = round(_OTHERS * len(drawn) / _PROMPTS)
            others = np.union1d(others, rng.choice(more, min(most, len(more)), replace=False))
            right = np.union1d(right, own)
        cards = np.union1d(right, others)
        tasks = [_wording(rows.tasks[row], rng) for rows, drawn in chosen for row in drawn]
        labels = np.concatenate([rows.cards[drawn] for rows, drawn in chosen])
        return self._made("prompts", tasks, labels, cards, 1.0)

    def _of_contrasts(self, rng: np.random.Generator) -> Batch:
        """One object under every act."""
        rows = self._contrasts[rng.integers(len(self._contrasts))]
        return self._batch("contrasts", rows, np.arange(len(rows.cards)), np.unique(rows.cards), 0.4, rng)

    def _of_catalog(self, rng: np.random.Generator) -> Batch:
        known = list(self._examples)
        first = known[rng.integers(len(known))]
        near = [int(card) for card in self._negatives[first]]
        rest = rng.permutation([card for card in known if card != first and card not in near])
        cards = np.array(sorted([first, *near, *rest[: _EXAMPLES - 1 - len(near)].tolist()]))
        rows = [rng.choice(self._examples[card]) for card in cards]
        return self._batch("catalog", self._catalog, np.array(rows), cards, 0.4, rng)

    def _batch(
        self, kind: str, rows: Rows, chosen: Numbers, cards: Numbers, weight: float, rng: np.random.Generator
    ) -> Batch:
        return self._made(kind, [_wording(rows.tasks[row], rng) for row in chosen], rows.cards[chosen], cards, weight)

    def _made(self, kind: str, tasks: list[int], right: Numbers, cards: Numbers, weight: float) -> Batch:
        alike = self._cards[cards] @ self._cards[cards].T > ALIKE
        return Batch(kind, np.array(tasks), cards, np.searchsorted(cards, right), alike, weight)


def _wording(wordings: tuple[int, ...], rng: np.random.Generator) -> int:
    if len(wordings) == 1 or rng.random() < _AS_WRITTEN:
        return wordings[0]
    return wordings[1 + rng.integers(len(wordings) - 1)]


def _by_card(rows: Rows) -> dict[int, Numbers]:
    order = np.argsort(rows.cards, kind="stable")
    cards, starts = np.unique(rows.cards[order], return_index=True)
    return dict(zip(cards.tolist(), np.split(order, starts[1:]), strict=True))


def _share(sizes: list[int]) -> NDArray[np.float64]:
    roots = np.sqrt(sizes)
    return roots / roots.sum()
