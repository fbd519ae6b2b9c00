"""Hard negatives: the agents of the same collection that are most like an agent, by their vectors."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from recipes.encoder.data import Corpus

ALIKE = 0.93  # cards closer than that are one agent twice: neither is the other's negative
_EACH = 8

Floats = NDArray[np.float32]


def mine(corpus: Corpus, cards: Floats) -> list[NDArray[np.int64]]:
    """Card -> up to eight card numbers, most alike first.

    Args:
        cards: (cards, dim) unit rows.
    """
    found: list[dict[int, float]] = [{} for _ in corpus.cards]
    for members in corpus.among.values():
        if len(members) < 2:
            continue
        numbers = np.array(members)
        near = cards[numbers] @ cards[numbers].T
        np.fill_diagonal(near, -1)
        near[near > ALIKE] = -1
        for row, number in enumerate(members):
            for column in np.argsort(-near[row], kind="stable")[:_EACH]:
                if near[row, column] > 0:
                    found[number][int(numbers[column])] = float(near[row, column])
    ranked = [sorted(row, key=lambda other: -row[other])[:_EACH] for row in found]
    return [np.array(row, np.int64) for row in ranked]
