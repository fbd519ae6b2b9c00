"""What examples teach: a multinomial logistic head on top of the zero-shot logits.

The head learns the residual that the zero-shot scores leave, on the text's vector and its hashed
TF-IDF, so an agent with two examples moves a little and one with a hundred a lot.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ruvllm.encoders.protocol import Pause, Vectors, no_pause, run_now
from ruvllm.lazy_dataclass import dataclass
from ruvllm.routing.calibration import fit_temperature
from ruvllm.text.lexical import HashedTfidf, term_counts

Loss = Callable[[NDArray[np.float32]], tuple[float, NDArray[np.float32]]]
_Part = Callable[[NDArray[np.float32], NDArray[np.float32]], float]  # adds its gradient to the second, gives its value


def minimise(loss: Loss, start: NDArray[np.float32], tolerance: float = 1e-4) -> NDArray[np.float32]:
    """Where `descend` ends, by a loss (n,) -> (value, gradient (n,))."""

    def added(point: NDArray[np.float32], gradient: NDArray[np.float32]) -> float:
        value, gradient[:] = loss(point)
        return value

    return run_now(_minimised([added], start, tolerance, no_pause))


async def _minimised(
    parts: Sequence[_Part], start: NDArray[np.float32], tolerance: float, pause: Pause
) -> NDArray[np.float32]:
    """The same by the sum of a loss's parts, `pause` awaited before each."""
    search = descend(start, tolerance)
    point = next(search)
    while True:
        value, gradient = 0.0, np.zeros_like(point)
        for part in parts:
            await pause()
            value += part(point, gradient)
        await pause()
        try:
            point = search.send((value, gradient))
        except StopIteration as ended:
            found: NDArray[np.float32] = ended.value
            return found


def descend(
    start: NDArray[np.float32], tolerance: float = 1e-4, most: int = 150, memory: int = 8
) -> Generator[NDArray[np.float32], tuple[float, NDArray[np.float32]], NDArray[np.float32]]:
    """L-BFGS with backtracking (Nocedal & Wright 2006, algorithm 7.4); returns the best point.

    Args:
        tolerance: stop when a step lowers the value by less than this share of it.

    Yields:
        Points (n,), the start first; the loss there, (value, gradient (n,)), is to be sent.
    """
    x: NDArray[np.float32] = start
    value, gradient = yield start
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
            new_value, new_gradient = yield new
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


_BLOCK = 64  # examples between two pauses: less than a millisecond
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
        labelled = counts > 0
        out = np.log(sums / np.maximum(counts, 1) + 1e-12)
        out[~labelled] = out[labelled].mean()
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
        tried = {factor * unit: held_out + np.float32(factor * unit) * scores for factor in _SHARES}
        best = min(tried, key=lambda weight: fit_temperature(tried[weight], self.labels[rows])[1])
        return replace(self, weight=best), tried[best]


LEXICAL_WEIGHT = 0.5  # of the TF-IDF part beside the unit vector
STRENGTH = 25.0  # inverse L2 penalty
# Where there are few examples each has to say more (measured on collections that no weight had seen).
_FEW, _BOLD = 2.4, 120.0  # examples an agent, and the inverse penalty below that
WIDTH = 2048  # buckets of the hashed TF-IDF
_STEP = 6.0  # the most that instant updates may move along one example in all, per unit of weight
_MARGIN = 2.0  # in logits, by which the right agent shall lead
_MOST_RIVALS = 10

Words = Sequence[str]


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
        words = [words for words, stays in zip(self.words, keep, strict=True) if stays]
        return Examples(self.vectors[keep], words, self.labels[keep], self.offsets[keep], self.weights[keep])


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
        self.dim, self.empty = len(weights) - tfidf.width, not weights.any()

    @classmethod
    def fit(cls, examples: Examples) -> Head:
        """The head of least loss, from nothing."""
        return run_now(run_now(Design.read(examples, no_pause)).fit(no_pause))

    @classmethod
    def blank(cls, dim: int, agents: int) -> Head:
        """A head that has learnt nothing yet, and takes no memory until it does."""
        tfidf = HashedTfidf({}, WIDTH)
        return cls(np.broadcast_to(np.float32(0), (dim + tfidf.width, agents)), tfidf)

    def copy(self) -> Head:
        """One that learns by itself."""
        return Head(self.weights if self.empty else self.weights.copy(), HashedTfidf(self.tfidf.idf, self.tfidf.width))

    def logits(self, vector: NDArray[np.float32], words: Words) -> NDArray[np.float32]:
        """float32 (agents,) to add to the zero-shot logits of one text."""
        if self.empty:
            return np.zeros(self.weights.shape[1], np.float32)
        out: NDArray[np.float32] = vector.dot(self.weights[: self.dim])
        buckets, values = self.tfidf.sparse(words, self.dim, LEXICAL_WEIGHT)
        if len(buckets):
            out += values.dot(self.weights.take(buckets, 0))
        return out

    def learn(self, vector: Vectors, words: Words, offsets: Vectors, label: int, weight: float = 1.0) -> None:
        """Move at once so that a text like this one goes to `label` (PA-I, Crammer et al. 2006).

        Args:
            vector: (dim,) of the text.
            offsets: (agents,) its zero-shot logits.
            weight: how far it may move the scores; 1 settles a usual doubt, 0 does nothing.
        """
        buckets, values = self._admitted(words)
        size = 2 * max(float(vector @ vector + values @ values), 1e-6)
        budget = _STEP * weight
        for _ in range(_MOST_RIVALS):
            rivals = offsets + self.logits(vector, words)
            current = float(rivals[label])
            rivals[label] = -np.inf
            rival = int(rivals.argmax())
            step = min(budget, (_MARGIN - current + float(rivals[rival])) / size)
            if not step > 0:
                return
            budget -= step
            for agent, move in ((label, np.float32(step)), (rival, np.float32(-step))):
                self.weights[: self.dim, agent] += move * vector
                np.add.at(self.weights[:, agent], buckets, move * values)

    def _admitted(self, words: Words) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
        if self.empty:
            self.weights, self.empty = np.array(self.weights), False
        self.tfidf.admit(words)
        return self.tfidf.sparse(words, self.dim, LEXICAL_WEIGHT)

    def avoid(self, vector: Vectors, words: Words, offsets: Vectors, label: int, weight: float = 1.0) -> None:
        """Move at once so that a text like this one does not go to `label`, wherever else it may belong.

        Args:
            vector, offsets, weight: as for `learn`.
        """
        if len(offsets) < 2:
            return
        buckets, values = self._admitted(words)
        logits = offsets + self.logits(vector, words)
        current = float(logits[label])
        logits[label] = -np.inf
        lead = (_MARGIN + current - float(logits.max())) / max(float(vector @ vector + values @ values), 1e-6)
        step = np.float32(min(_STEP * weight, lead))
        if step > 0:
            self.weights[: self.dim, label] -= step * vector
            np.add.at(self.weights[:, label], buckets, -step * values)


@dataclass(frozen=True, slots=True)
class Prior:
    """What was learnt of a set from more than its agents' examples, once; examples and feedback are learnt on top.

    Attributes:
        head: fixed; one column an agent, and a last one: of texts that none of them should take.
        zero_weight: how far the zero-shot logits are believed beside it.
        confidence: float32 (2, CONFIDENCE_FEATURES + 2), P(the first agent is right), for this encoder alone and
            together with the static one; the last feature is the score of "nobody" over that of all agents.
        scope: float32 (2, 2), slope and intercept of P(out of scope) from that score, likewise.
        fresh: numbers of agents that came later: of their tasks it knows nothing.
    """

    head: Head
    zero_weight: np.float32
    confidence: NDArray[np.float32]
    scope: NDArray[np.float32]
    fresh: frozenset[int] = frozenset()

    def joined(self, out: NDArray[np.float32], zero: NDArray[np.float32]) -> NDArray[np.float32]:
        """The logits that the head gives a text, (agents + 1,), with its zero-shot ones, (agents,), added to them."""
        out[:-1] += zero * self.zero_weight
        if not self.fresh:
            return out
        for agent in self.fresh:
            out[agent] = zero[agent]
        if (best := int(zero.argmax())) in self.fresh and out[-1] > 0:
            out[best] += out[-1]  # nobody's among those it knows
        return out

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[np.generic]]) -> Prior | None:
        """As models/recipes/builtin.py writes it; None where there is none among them."""
        if "prior" not in arrays:
            return None
        weights = arrays["prior"].astype(np.float32) * arrays["prior_scale"].astype(np.float32)
        terms = np.cumsum(arrays["prior_terms"], dtype=np.uint32)  # each is stored as what it is above the one before
        head = Head(weights, HashedTfidf.from_arrays(terms, arrays["prior_idf"], WIDTH))
        confidence, scope = (arrays[f"prior_{name}"].astype(np.float32) for name in ("confidence", "scope"))
        return cls(head, np.float32(arrays["prior_zero_weight"].item()), confidence, scope)


_Block = tuple[NDArray[np.float32], NDArray[np.intp]]


def blocks_of(examples: Examples) -> list[slice]:
    """Slices of them that are worked on at a time."""
    return [slice(start, start + _BLOCK) for start in range(0, len(examples), _BLOCK)]


class Design:
    """Examples as features, ready for one head after another.

    Attributes:
        tfidf: the hashed features, with the idf of these examples.
        blocks: of 64 examples each: (float32 (64, used) features, int64 (used,) which ones), the others being 0.
            Examples of one agent stand together and share their words, so that few are used.
    """

    def __init__(self, examples: Examples, tfidf: HashedTfidf) -> None:
        self.examples, self.tfidf = examples, tfidf
        self.blocks: list[_Block] = []

    @classmethod
    async def read(cls, examples: Examples, pause: Pause, width: int = WIDTH) -> Design:
        """Read all features; `pause` is awaited between blocks of examples."""
        counts = Counter[int]()
        for rows in blocks_of(examples):
            counts.update(term_counts(examples.words[rows]))
            await pause()
        made = cls(examples, HashedTfidf.of_counts(counts, len(examples), width))
        for rows in blocks_of(examples):
            made.blocks.append(made._block(examples, rows))
            await pause()
        return made

    async def logits(self, examples: Examples, head: NDArray[np.float32], pause: Pause) -> NDArray[np.float32]:
        """What weights (dim + width, agents) give any examples: float32 (n, agents)."""
        out = np.zeros((len(examples), head.shape[1]), np.float32)
        for rows in blocks_of(examples):
            x, used = self._block(examples, rows)
            out[rows] = x @ head[used]
            await pause()
        return out

    def _block(self, examples: Examples, rows: slice) -> _Block:
        vectors = examples.vectors[rows]
        dim = vectors.shape[1]
        x = np.zeros((len(vectors), dim + self.tfidf.width), np.float32)
        x[:, :dim] = vectors
        self.fill(x[:, dim:], examples.words, rows)
        used = np.flatnonzero(x.any(0))
        return x[:, used], used

    def fill(self, out: NDArray[np.float32], words: Sequence[Words], rows: slice) -> None:
        """Add the features of some texts' words to (rows, width)."""
        self.tfidf.fill(out, words[rows], LEXICAL_WEIGHT)

    async def fit(
        self, pause: Pause, prior_weight: float = 1.0, tolerance: float = 1e-4, start: NDArray[np.float32] | None = None
    ) -> Head:
        """Minimise weighted cross entropy of offsets + head, plus an L2 penalty.

        Args:
            pause: awaited between steps.
            prior_weight: what the offsets are multiplied by.
            start: float32 (dim + width, agents), weights close to the result.
        """
        width, agents = self.examples.vectors.shape[1] + self.tfidf.width, self.examples.offsets.shape[1]
        columns = np.unique(self.examples.labels)
        weights = np.zeros((width, agents), np.float32)
        flat = (weights if start is None else start)[:, columns].ravel()
        flat = await _minimised(self._losses(prior_weight, columns), flat, tolerance, pause)
        weights[:, columns] = flat.reshape(-1, len(columns))
        return Head(weights, self.tfidf)

    def _losses(self, prior_weight: float, columns: NDArray[np.int64]) -> list[_Part]:
        """Of the flattened weights of `columns`, the agents that have examples: for each block, and the penalty."""
        counts, n = self.examples.weights, len(self.examples)
        strength = np.float32(_BOLD if n < _FEW * self.examples.offsets.shape[1] else STRENGTH)
        labels = np.searchsorted(columns, self.examples.labels)
        zero = self.examples.offsets * np.float32(prior_weight)
        offsets = zero[:, columns]
        # Agents without an example keep their zero-shot logit and stand in the sum as rivals.
        rivals = np.exp(np.delete(zero, columns, axis=1)).sum(1, keepdims=True)

        def loss(flat: NDArray[np.float32], gradient: NDArray[np.float32], number: int) -> float:
            block, (here, used) = slice(_BLOCK * number, _BLOCK * (number + 1)), self.blocks[number]
            true_labels, rows = labels[block], np.arange(len(here))
            logits = here @ flat.reshape(-1, len(columns)).take(used, 0) + offsets[block]
            top = np.maximum(logits.max(1, keepdims=True), 0)
            powers = np.exp(logits - top)
            total = powers.sum(1, keepdims=True) + rivals[block] * np.exp(-top)
            losses = (np.log(total) + top)[:, 0] - logits[rows, true_labels]
            error = powers / total
            error[rows, true_labels] -= 1
            error *= counts[block, None]
            gradient.reshape(-1, len(columns))[used] += here.T @ error
            return float(losses @ counts[block])

        def penalty(flat: NDArray[np.float32], gradient: NDArray[np.float32]) -> float:
            scaled = flat / strength
            gradient += scaled
            return float(np.vdot(flat, scaled)) / 2

        return [penalty, *(partial(loss, number=number) for number in range(len(self.blocks)))]
