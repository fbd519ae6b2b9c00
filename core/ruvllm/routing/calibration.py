"""Probabilities that keep their word: temperature scaling, ECE, AUROC, energy."""

from __future__ import annotations

import math
from math import exp, log, log1p, sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ruvllm.encoders.protocol import Pause, no_pause
from ruvllm.lazy_dataclass import dataclass

CONFIDENCE_FEATURES = (
    *("top_logit", "margin", "second_margin", "entropy", "log_agents", "adapted", "bm25", "agreement"),
    *("bm25_lead", "spread"),
)
SCOPE_FEATURES = ("adapted", "card", "name", "bm25", "log_agents")

_ADAPTED, _CARD, _NAME, _BM25 = range(4)
_FEW = 256  # agents up to which a whole sort is the fastest


def confidence_row(logits: NDArray[np.float32], features: NDArray[np.float32]) -> NDArray[np.float32]:
    """CONFIDENCE_FEATURES of one decision.

    Args:
        logits: (agents,).
        features: (FEATURES, agents), raw.
    """
    return np.array(Peaks(np.vstack([features, logits])[None]).confidence(0), np.float32)


class Peaks:
    """What stands out of the scores of n tasks, each as if it were alone.

    Args:
        rows: float32 (n, FEATURES + 1, agents), raw features, and last the logits.

    Attributes:
        below: float32 (n, agents), the logits less the highest of their row.
        powers: e to the `below`.
        highest: of each task, by words and by logits, up to three scores, rising.
        firsts: of each task, the best agent's number by each row.
    """

    def __init__(self, rows: NDArray[np.float32]) -> None:
        count = rows.shape[2]
        if count <= _FEW:
            rising = rows[:, _BM25:].copy()
            rising.sort()
        else:
            rising = np.partition(rows[:, _BM25:], (count - 3, count - 2, count - 1), axis=2)
        self._rows, self._ones = rows, np.ones(count, np.float32)
        self.below: NDArray[np.float32] = rows[:, -1] - rising[:, 1, -1:]
        self.powers: NDArray[np.float32] = np.exp(self.below)
        self.highest, self.firsts = rising[:, :, -3:].tolist(), rows.argmax(2).tolist()

    def total(self, task: int) -> float:
        """The sum of a task's powers."""
        return float(self.powers[task].dot(self._ones))

    def confidence(self, task: int) -> list[float]:
        """CONFIDENCE_FEATURES of a task."""
        row, powers, count, total = self._rows[task], self.powers[task], len(self._ones), self.total(task)
        (first, _, _, first_by_words, top), (by_words, by_logits) = self.firsts[task], self.highest[task]
        closest, _, _, words, _ = row[:, top].tolist()
        margin, lead = (by_logits[-1] - by_logits[-2], words - by_words[-2]) if count > 1 else (0.0, 0.0)
        second = by_logits[-2] - by_logits[-3] if count > 2 else 0.0
        agreement, adapted = int(first == top) + int(first_by_words == top), row[_ADAPTED]
        surety = log((1 + 1e-6 * total) / (total - 1 + 1e-6 * total))
        mean = float(adapted.dot(self._ones)) / count
        spread = sqrt(max(float(adapted.dot(adapted)) / count - mean**2, 0.0))
        entropy = log(total) - float(powers.dot(self.below[task])) / total
        return [surety, margin, second, entropy, log(count), closest, log1p(max(words, 0.0)), agreement, lead, spread]


def scope_row(features: NDArray[np.float32]) -> NDArray[np.float32]:
    """SCOPE_FEATURES of one text: how close it comes to any agent at all."""
    best = features.max(1)
    return np.array(
        [best[_ADAPTED], best[_CARD], best[_NAME], log1p(max(float(best[_BM25]), 0.0)), log(features.shape[1])],
        np.float32,
    )


def logistic(row: NDArray[np.float32], weights: NDArray[np.float32]) -> float:
    """σ(row · weights[:-1] + weights[-1])."""
    return sigmoid(float(row @ weights[:-1] + weights[-1]))


def sigmoid(score: float) -> float:
    """σ, safe from overflow."""
    return 1 / (1 + exp(-min(max(score, -30.0), 30.0)))


Floats = NDArray[np.floating[Any]]

_LAPSES = (0.0, 0.005, 0.01, 0.02, 0.03, 0.05, 0.08)


def softmax(logits: Floats) -> NDArray[np.float32]:
    """Along the last axis."""
    powers = np.exp(logits - logits.max(-1, keepdims=True))
    return np.asarray(powers / powers.sum(-1, keepdims=True), np.float32)


def log_sum_exp(logits: Floats) -> Floats:
    """Along the last axis: the (negative) free energy of Liu et al. 2020."""
    top = logits.max(-1, keepdims=True)
    out: Floats = np.log(np.exp(logits - top).sum(-1)) + top[..., 0]
    return out


def energy(logits: NDArray[np.float32]) -> float:
    """`log_sum_exp` of one row, quickly."""
    top = float(logits.max())
    return top + math.log(float(np.exp(logits - np.float32(top)).sum()))


def fit_temperature(logits: Floats, labels: NDArray[np.integer[Any]], lapse: float = 0.0) -> tuple[float, float]:
    """(T, its mean negative log likelihood) of the best softmax(logits / T) (Guo et al. 2017).

    Args:
        logits: (n, classes), from a model that did not see these rows.
        labels: (n,) class numbers.
        lapse: share of decisions that are uniformly at random.
    """
    below = logits - logits.max(1, keepdims=True)
    true = below[np.arange(len(labels)), labels].astype(np.float64)

    def loss(log_t: float) -> float:
        coldness = 1 / np.exp(log_t)
        chosen = np.exp(true * coldness) / np.exp(below * below.dtype.type(coldness)).sum(1)
        return float(-np.log(np.maximum((1 - lapse) * chosen + lapse / logits.shape[1], 1e-12)).mean())

    low, high = np.log(0.05), np.log(8.0)
    ratio = (np.sqrt(5) - 1) / 2
    a, b = high - ratio * (high - low), low + ratio * (high - low)
    at_a, at_b = loss(a), loss(b)
    for _ in range(20):  # golden section: the loss is unimodal in log T
        if at_a < at_b:
            high, b, at_b = b, a, at_a
            a = high - ratio * (high - low)
            at_a = loss(a)
        else:
            low, a, at_a = a, b, at_b
            b = low + ratio * (high - low)
            at_b = loss(b)
    middle = float((low + high) / 2)
    return float(np.exp(middle)), loss(middle)


async def fit_calibration(
    logits: Floats, labels: NDArray[np.integer[Any]], pause: Pause = no_pause
) -> tuple[float, float]:
    """(temperature, lapse): a lapse lets a model that is sure be wrong at times, as held-out rows show it to be."""
    fits = dict[float, tuple[float, float]]()
    for lapse in _LAPSES:
        fits[lapse] = fit_temperature(logits, labels, lapse)
        await pause()
    lapse = min(fits, key=lambda lapse: fits[lapse][1])
    return fits[lapse][0], lapse


def ece(confidence: Floats, correct: NDArray[Any], bins: int = 15) -> float:
    """Expected calibration error over equal-width bins (Naeini et al. 2015)."""
    confidence, correct = np.asarray(confidence, np.float64), np.asarray(correct, np.float64)
    if not len(confidence):
        return 0.0
    which = np.minimum((confidence * bins).astype(np.int64), bins - 1)
    gaps = np.bincount(which, weights=confidence - correct, minlength=bins)
    return float(np.abs(gaps).sum() / len(confidence))


@dataclass(frozen=True, slots=True)
class Calibration:
    """Measured on examples held out from the head: temperature and lapse, and how familiar texts look."""

    temperature: float
    lapse: float
    energy_mean: float
    energy_std: float
    closeness_mean: float
    closeness_std: float

    @classmethod
    async def measure(
        cls,
        logits: NDArray[np.float32],
        labels: NDArray[np.int64],
        closeness: NDArray[np.float32],
        pause: Pause = no_pause,
    ) -> Calibration:
        """From logits (n, agents) of texts that belong to `labels` (n,), and their closeness (m,)."""
        spread = [(float(x.mean()), max(float(x.std()), 1e-3)) for x in (log_sum_exp(logits), closeness)]
        return cls(*await fit_calibration(logits, labels, pause), *spread[0], *spread[1])

    def familiarity(self, energy: float, closeness: float) -> float:
        """Energy (`log_sum_exp`) and closeness together, in standard deviations from where in-scope texts lie.

        Closeness counts more: a head is sure of its words in any text, while no example is near an off-topic one.
        """
        away = (energy - self.energy_mean) / self.energy_std
        return away + 1.5 * (closeness - self.closeness_mean) / self.closeness_std
