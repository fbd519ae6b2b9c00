"""What examples teach: a multinomial logistic head on top of the zero-shot logits.

The head learns the residual that the zero-shot scores leave, on the text's vector and its hashed
TF-IDF, so an agent with two examples moves a little and one with a hundred a lot.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ruvllm.encoders.protocol import Vectors
from ruvllm.text.lexical import HashedTfidf

__all__ = ["Examples", "Head", "folds_of", "held_out_logits", "minimise"]

LEXICAL_WEIGHT = 0.5  # of the TF-IDF part beside the unit vector
_LEXICAL = np.float32(LEXICAL_WEIGHT)
STRENGTH = 25.0  # inverse L2 penalty
WIDTH = 2048  # buckets of the hashed TF-IDF
_STEP = 12.0  # the most that instant updates may move along one example in all, per unit of weight
_MARGIN = 2.0  # in logits, by which the right agent shall lead
_MOST_RIVALS = 10
FOLDS, _MANY = 5, 5_000

Words = Sequence[str]
Loss = Callable[[NDArray[np.float32]], tuple[float, NDArray[np.float32]]]


@dataclass(frozen=True, slots=True)
class Examples:
    """Texts whose agent is known.

    Attributes:
        vectors: float32 (n, dim).
        words: the stems of each text.
        labels: int64 (n,) agent numbers.
        offsets: float32 (n, agents), the zero-shot logits of each text.
        weights: float32 (n,), how much each counts.
    """

    vectors: Vectors
    words: list[list[str]]
    labels: NDArray[np.int64]
    offsets: NDArray[np.float32]
    weights: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.labels)

    def rows(self, keep: NDArray[np.bool_]) -> Examples:
        """The examples where `keep` (n,) is true."""
        words = [words for words, kept in zip(self.words, keep, strict=True) if kept]
        return Examples(self.vectors[keep], words, self.labels[keep], self.offsets[keep], self.weights[keep])

    def scaled(self, share: float) -> Examples:
        """The same with offsets times `share`."""
        return replace(self, offsets=self.offsets * np.float32(share))


class Head:
    """Per-agent linear scores of (vector, hashed TF-IDF), without an intercept.

    An intercept would say "this agent is taught, and so it is likely": two examples of one agent among many
    without would draw every task to it.

    Args:
        weights: float32 (dim + width, agents).
        tfidf: the hashed features, with the idf of the training texts.
    """

    def __init__(self, weights: NDArray[np.float32], tfidf: HashedTfidf) -> None:
        self.weights, self.tfidf = weights, tfidf
        self.dim = len(weights) - tfidf.width

    @classmethod
    def fit(cls, examples: Examples, tolerance: float = 1e-4, width: int = WIDTH) -> Head:
        """Minimise weighted cross entropy of offsets + head, plus an L2 penalty."""
        tfidf = HashedTfidf.fit(examples.words, width)
        lexical = tfidf.dense(examples.words) * np.float32(LEXICAL_WEIGHT)
        x = np.hstack([examples.vectors, lexical])
        agents = examples.offsets.shape[1]
        taught = np.zeros(agents, np.bool_)
        taught[examples.labels] = True
        rows = np.arange(len(examples))
        columns = np.flatnonzero(taught)
        place = np.cumsum(taught) - 1
        labels, weight = place[examples.labels], examples.weights[:, None]
        offsets = examples.offsets[:, columns]
        # Agents without an example keep their zero-shot logit and stand in the sum as rivals.
        rivals = np.exp(examples.offsets[:, ~taught]).sum(1, keepdims=True)

        def loss(flat: NDArray[np.float32]) -> tuple[float, NDArray[np.float32]]:
            w = flat.reshape(x.shape[1], len(columns))
            logits = x @ w + offsets
            top = np.maximum(logits.max(1, keepdims=True), 0)
            powers = np.exp(logits - top)
            total = powers.sum(1, keepdims=True) + rivals * np.exp(-top)
            losses = (np.log(total) + top)[:, 0] - logits[rows, labels]
            error = powers / total
            error[rows, labels] -= 1
            gradient = x.T @ (error * weight)
            penalty = w / np.float32(STRENGTH)
            value = float(losses @ examples.weights) + float(np.vdot(w, penalty)) / 2
            return value, (gradient + penalty).ravel()

        flat = minimise(loss, np.zeros(x.shape[1] * len(columns), np.float32), tolerance)
        weights = np.zeros((x.shape[1], agents), np.float32)
        weights[:, columns] = flat.reshape(x.shape[1], -1)
        return cls(weights, tfidf)

    @classmethod
    def blank(cls, dim: int, agents: int) -> Head:
        """A head that has learnt nothing yet."""
        tfidf = HashedTfidf({}, WIDTH)
        return cls(np.zeros((dim + tfidf.width, agents), np.float32), tfidf)

    def logits(self, vector: NDArray[np.float32], words: Words) -> NDArray[np.float32]:
        """float32 (agents,) to add to the zero-shot logits of one text."""
        out = vector @ self.weights[: self.dim]
        buckets, values = self.tfidf.sparse(words)
        if len(buckets):
            out += (values * _LEXICAL) @ self.weights[buckets + self.dim]
        return out

    def learn(self, vector: Vectors, words: Words, offsets: Vectors, label: int, weight: float = 1.0) -> None:
        """Move at once so that a text like this one goes to `label` (PA-I, Crammer et al. 2006).

        Args:
            vector: (dim,) of the text.
            offsets: (agents,) its zero-shot logits.
            weight: how far it may move the scores; 1 settles a usual doubt, 0 does nothing.
        """
        self.tfidf.admit(words)
        buckets, values = self.tfidf.sparse(words)
        values = values * np.float32(LEXICAL_WEIGHT)
        size = 2 * max(float(vector @ vector + values @ values), 1e-6)
        budget = _STEP * weight
        for _ in range(_MOST_RIVALS):
            rivals = offsets + self.logits(vector, words)
            own = float(rivals[label])
            rivals[label] = -np.inf
            rival = int(rivals.argmax())
            step = min(budget, (_MARGIN - own + float(rivals[rival])) / size)
            if not step > 0:
                return
            budget -= step
            for agent, move in ((label, np.float32(step)), (rival, np.float32(-step))):
                self.weights[: self.dim, agent] += move * vector
                np.add.at(self.weights[:, agent], self.dim + buckets, move * values)


def folds_of(n: int, seed: int = 0) -> NDArray[np.int64]:
    """Which of the five folds each of n examples belongs to."""
    return np.random.default_rng(seed).permutation(n) % FOLDS


def held_out_logits(examples: Examples, rounds: int = FOLDS) -> tuple[NDArray[np.float32], NDArray[np.intp]]:
    """Logits of examples by a head that did not see them: ((m, agents), (m,) which examples).

    Args:
        rounds: how many of the five folds to hold out in turn; of very many examples one fifth is enough.
    """
    fold = folds_of(len(examples))
    taken = list(range(1 if len(examples) > _MANY else rounds))
    rows = np.flatnonzero(np.isin(fold, taken))
    heads = [Head.fit(examples.rows(fold != k), tolerance=5e-4) for k in taken]
    logits = [
        examples.offsets[i] + heads[fold[i]].logits(examples.vectors[i], examples.words[i]) for i in rows.tolist()
    ]
    return np.stack(logits), rows


def minimise(
    loss: Loss, start: NDArray[np.float32], tolerance: float = 1e-4, most: int = 150, memory: int = 8
) -> NDArray[np.float32]:
    """L-BFGS with backtracking (Nocedal & Wright 2006, algorithm 7.4), in numpy alone.

    scipy's would do, but costs a browser 9 MB before the first feedback can be learnt.

    Args:
        loss: (n,) -> (value, gradient (n,)).
        tolerance: stop when a step lowers the value by less than this share of it.
    """
    x: NDArray[np.float32] = start
    value, gradient = loss(start)
    first = float(np.linalg.norm(gradient))
    history: list[tuple[NDArray[Any], NDArray[Any], float]] = []
    for _ in range(most):
        if np.linalg.norm(gradient) <= 1e-3 * first:
            break
        direction = _two_loop(gradient, history)
        slope = float(np.vdot(gradient, direction))
        length = 1.0
        while True:
            new = np.asarray(x - np.float32(length) * direction, np.float32)
            new_value, new_gradient = loss(new)
            if new_value <= value - 1e-4 * length * slope or length < 1e-6:
                break
            length /= 2
        step, change = new - x, new_gradient - gradient
        curvature = float(np.vdot(step, change))
        if curvature > 1e-10 * float(np.vdot(change, change)):
            history = [*history[1 - memory :], (step, change, 1 / curvature)]
        gain = value - new_value
        x, value, gradient = new, new_value, new_gradient
        if gain < tolerance * max(abs(value), 1e-9):
            break
    return x


def _two_loop(gradient: NDArray[Any], history: list[tuple[NDArray[Any], NDArray[Any], float]]) -> NDArray[Any]:
    q = gradient.copy()
    alphas = []
    for step, change, rho in reversed(history):
        alphas.append(np.float32(rho * float(np.vdot(step, q))))
        q -= alphas[-1] * change
    if history:
        step, change, _ = history[-1]
        q *= np.float32(float(np.vdot(step, change)) / float(np.vdot(change, change)))
    else:
        q /= np.float32(max(float(np.linalg.norm(gradient)), 1e-12))
    for (step, change, rho), alpha in zip(history, reversed(alphas), strict=True):
        q += step * (alpha - np.float32(rho * float(np.vdot(change, q))))
    return q
