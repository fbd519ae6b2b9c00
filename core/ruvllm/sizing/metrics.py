"""How good a choice between a weak and a strong LLM is, as the RouteLLM paper measures it (Ong et al. 2024)."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ruvllm.errors import InputError

__all__ = ["TierScores", "auroc", "recovered", "tier_scores"]

Floats = NDArray[np.floating[Any]]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class TierScores:
    """A ranking of prompts, those for the strong LLM first.

    Attributes:
        auroc: P(a prompt that only the strong LLM gets right ranks above another).
        apgr: average performance gap recovered: the share of the way from the weak to the strong LLM's
            accuracy, averaged over all shares of prompts given to the strong one; 0.5 for a random ranking.
        cpt50, cpt80: the least share of prompts for the strong LLM that recovers 50 % or 80 % of the gap.
    """

    auroc: float
    apgr: float
    cpt50: float
    cpt80: float

    def to_dict(self) -> dict[str, float]:
        """Plain JSON types."""
        return asdict(self)


def recovered(scores: Floats, weak: Bools, strong: Bools) -> tuple[Floats, Floats]:
    """(shares of calls to the strong LLM, performance gap recovered): the curve's corners, from (0, 0) to (1, 1).

    Prompts of equal score are taken together, so that a corner stands for any order among them.

    Args:
        scores: (n,), higher for prompts that should go to the strong LLM.
        weak, strong: (n,) whether each LLM was right.

    Raises:
        InputError: there is no gap, since the strong LLM is no better.
    """
    gap = int(strong.sum()) - int(weak.sum())
    if gap <= 0:
        fix = "swap them, or leave these rows to the cheaper one"
        raise InputError("the strong LLM is right no more often than the weak one", field="strong", fix=fix)
    order = np.argsort(-scores, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(scores[order])) + 1, len(scores))
    gained = np.cumsum(strong[order].astype(np.int64) - weak[order])
    shares = np.append(0.0, ends / len(scores))
    return shares, np.append(0.0, gained[ends - 1] / gap)


def tier_scores(scores: Floats, weak: Bools, strong: Bools) -> TierScores:
    """APGR, CPT and AUROC of one ranking; as for `recovered`."""
    shares, gained = recovered(scores, weak, strong)
    area = float((np.diff(shares) * (gained[1:] + gained[:-1]) / 2).sum())
    needed = strong & ~weak
    return TierScores(
        auroc(scores[~needed], scores[needed]), area, _calls(shares, gained, 0.5), _calls(shares, gained, 0.8)
    )


def _calls(shares: Floats, gained: Floats, target: float) -> float:
    """The least share of calls at which the curve reaches the target."""
    after = int(np.argmax(gained >= target))  # the last corner, (1, 1), does at the latest
    rise = gained[after] - gained[after - 1]
    part = (target - gained[after - 1]) / rise
    return float(shares[after - 1] + part * (shares[after] - shares[after - 1]))


def auroc(negative: NDArray[np.floating], positive: NDArray[np.floating]) -> float:
    """P(a positive scores above a negative), ties counted half (Mann-Whitney U)."""
    scores = np.concatenate([negative, positive]).astype(np.float64)
    _, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    n, m = len(negative), len(positive)
    return float((ranks[n:].sum() - m * (m + 1) / 2) / (n * m)) if n and m else float("nan")
