"""Scores from the nearest examples, for what a linear head cannot bend to (kNN-LM, Khandelwal et al. 2020)."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ruvllm.encoders.protocol import Vectors
from ruvllm.routing.calibration import fit_temperature

__all__ = ["MOST", "Neighbours"]

_SHARPNESS = np.float32(20)
_SHARES = (0.0, 0.3, 0.6)  # of the spread of the head's logits
MOST = 12_000  # examples; more cost over a millisecond a task, and a head that has seen them all needs no neighbours


@dataclass(frozen=True, slots=True)
class Neighbours:
    """Log mean exp of the scaled cosines to each agent's examples.

    Attributes:
        vectors: float32 (n, dim), sorted by label.
        labels: int64 (n,), ascending.
        agents: how many there are; one without an example gets the mean score.
        weight: of the scores beside the head's logits.
    """

    vectors: Vectors
    labels: NDArray[np.int64]
    agents: int
    weight: float = 1.0

    def scores(self, vector: NDArray[np.float32]) -> NDArray[np.float32]:
        """float32 (agents,), times the weight."""
        return self._scores(self.vectors @ vector, self.labels)

    def _scores(self, cosines: NDArray[np.float32], labels: NDArray[np.int64]) -> NDArray[np.float32]:
        sums = np.bincount(labels, np.exp(_SHARPNESS * (cosines - 1)), self.agents)
        counts = np.bincount(labels, minlength=self.agents)
        known = counts > 0
        out = np.log(sums / np.maximum(counts, 1) + 1e-12)
        out[~known] = out[known].mean()
        return np.asarray(out * self.weight, np.float32)

    def weighed(
        self, held_out: NDArray[np.float32], rows: NDArray[np.intp], fold: NDArray[np.int64]
    ) -> tuple[Neighbours, NDArray[np.float32]]:
        """Choose the weight that held-out examples like best; 0 when they do better without.

        Args:
            held_out: (m, agents) logits of the examples `rows`, which their head did not see.
            rows: (m,) example numbers.
            fold: (n,) an example is scored by those of other folds.

        Returns:
            (the same with that weight, `held_out` with its scores added).
        """
        found = []
        for i in rows.tolist():
            others = fold != fold[i]
            found.append(self._scores(self.vectors[others] @ self.vectors[i], self.labels[others]))
        scores = np.stack(found)
        unit = float(held_out.std() / max(float(scores.std()), 1e-6))
        tried = {share * unit: held_out + np.float32(share * unit) * scores for share in _SHARES}
        best = min(tried, key=lambda weight: fit_temperature(tried[weight], self.labels[rows])[1])
        return replace(self, weight=best), tried[best]
