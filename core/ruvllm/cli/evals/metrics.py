"""What an evaluation measures, as pure functions of what was answered."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ruvllm.errors import InputError
from ruvllm.routing.calibration import ece

SURE = 0.9
Floats = NDArray[np.floating[Any]]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Answer:
    """One prompt, as routed.

    Attributes:
        rank: of the right agent, from 1.
        raw: the confidence before calibration, where it was asked for.
        micros: None when the answer came from the cache, which must not flatter the timing.
    """

    right: str
    chosen: str
    confidence: float
    rank: int
    micros: float | None
    raw: float = 0.0

    @property
    def correct(self) -> bool:
        """Whether the right agent was named."""
        return self.right == self.chosen


@dataclass(frozen=True, slots=True)
class IntentRun:
    """One seed's answers.

    Attributes:
        inside, outside: out_of_scope of the test prompts, and of those that no label fits.
    """

    answers: tuple[Answer, ...]
    inside: tuple[float, ...]
    outside: tuple[float, ...]


def score_agents(answers: Sequence[Answer]) -> dict[str, Any]:
    """How well agents were told apart in at least one answer, as `ruvllm eval agents --json` prints it."""
    ranks = np.array([answer.rank for answer in answers])
    confidences, correct = _reliability(answers)
    sure = confidences >= SURE
    return {
        "n": len(answers),
        "top1": _rounded((ranks <= 1).mean()),
        "top3": _rounded((ranks <= 3).mean()),
        "top5": _rounded((ranks <= 5).mean()),
        "mrr": _rounded((1 / ranks).mean()),
        "ece": _rounded(ece(confidences, correct)),
        f"coverage_at_{SURE}": _rounded(sure.mean()),
        f"precision_at_{SURE}": _rounded(correct[sure].mean()) if sure.any() else None,
        "p50_us": percentile([answer.micros for answer in answers], 50),
        "p95_us": percentile([answer.micros for answer in answers], 95),
    }


def score_intents(runs: Sequence[IntentRun], shots: int) -> dict[str, Any]:
    """How well intents were told apart, as means over the runs of at least one seed."""
    aurocs = [_auroc_inside(run) for run in runs if run.outside]
    return {
        "n": len(runs[0].answers),
        "shots": shots,
        "seeds": len(runs),
        "accuracy": _mean([float(_reliability(run.answers)[1].mean()) for run in runs]),
        "oos_auroc": _mean(aurocs) if aurocs else None,
        "ece": _mean([ece(np.array([a.raw for a in run.answers]), _reliability(run.answers)[1]) for run in runs]),
        "ece_calibrated": _mean([ece(*_reliability(run.answers)) for run in runs]),
        "p50_us": percentile([answer.micros for run in runs for answer in run.answers], 50),
    }


def confused(answers: Sequence[Answer], count: int = 10) -> list[tuple[str, str, int]]:
    """(right, chosen, how often) of the commonest mistakes, most frequent first."""
    pairs = Counter((answer.right, answer.chosen) for answer in answers if not answer.correct)
    ordered = sorted(pairs.items(), key=lambda item: (-item[1], item[0]))
    return [(right, chosen, times) for (right, chosen), times in ordered[:count]]


def percentile(micros: Sequence[float | None], percent: float) -> float | None:
    """Of those that were measured, to a tenth."""
    measured = [value for value in micros if value is not None]
    return round(float(np.percentile(measured, percent)), 1) if measured else None


def _auroc_inside(run: IntentRun) -> float:
    """P(a prompt that some label fits looks more in scope than one that none fits)."""
    return auroc(1 - np.array(run.outside), 1 - np.array(run.inside))


def _reliability(answers: Sequence[Answer]) -> tuple[Any, Any]:
    confidences = np.array([answer.confidence for answer in answers], np.float64)
    return confidences, np.array([answer.correct for answer in answers], np.float64)


def _mean(values: Sequence[float]) -> float:
    return _rounded(sum(values) / len(values))


def _rounded(value: Any) -> float:
    return round(float(value), 4)


@dataclass(frozen=True, slots=True)
class TierScores:
    """A ranking of prompts, those for the strong LLM first, as the RouteLLM paper measures it (Ong et al. 2024).

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
