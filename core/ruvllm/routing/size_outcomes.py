"""Outcomes of backends, for the model router (`fastgrnn`) to learn from: a prompt, the size that answered, how well."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ruvllm.routing.fastgrnn import FastGrnn, ModelSize
from ruvllm.routing.fastgrnn_replay import Outcome, Replay

__all__ = ["SizeOutcomes", "sizes_by_cost"]


class SizeOutcomes:
    """Puts prompts and outcomes where the model router's training finds them.

    Args:
        network: whose inputs a prompt is turned into.
        replay: the turns that it is trained on.
    """

    def __init__(self, network: FastGrnn, replay: Replay) -> None:
        self._network, self._replay = network, replay

    def turn(self, vector: NDArray[np.floating], text: str) -> int:
        """Keep a prompt, its vector (dim,); returns what to give its outcome by."""
        return self._replay.add(self._network.inputs(np.asarray(vector, np.float32), text))

    def told(self, turn: int, size: ModelSize, quality: float, cost: float) -> bool:
        """How well a model of this size answered; False where the prompt has fallen out."""
        return self._replay.label(turn, Outcome(size, quality, cost))


def sizes_by_cost(costs: Sequence[float]) -> list[ModelSize]:
    """What each backend counts as where nobody says: spread over the sizes, the dearest is the largest."""
    ranked = sorted(range(len(costs)), key=lambda i: costs[i])
    steps = max(len(costs) - 1, 1)
    return [ModelSize(round(ranked.index(i) / steps * max(ModelSize))) for i in range(len(costs))]
