"""One encoder's view of one agent set: zero-shot logits, the head that its examples taught, calibration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass

import numpy as np
from numpy.typing import NDArray

from ruvllm.agents.catalog import card, spoken_name
from ruvllm.encoders.protocol import Encoder, Vectors, unit_rows
from ruvllm.routing.calibration import energy, fit_calibration, fit_temperature, log_sum_exp
from ruvllm.routing.fusion import Adapter, AgentVectors, Stage
from ruvllm.routing.head import Examples, Head, folds_of, held_out_logits
from ruvllm.routing.neighbours import MOST, Neighbours
from ruvllm.text.lexical import Bm25, HashedTfidf, content, stems
from ruvllm.types import Agent

__all__ = ["Calibration", "Scored", "Scorer", "TaskView"]

# From how many examples on (a mean of 3 an agent, and 30 in all) held-out ones calibrate better than margins do.
_ENOUGH_EACH, _ENOUGH_IN_ALL = 3, 30
# How far the zero-shot scores are believed beside a head that examples taught: full for agents well described,
# little where a name is all there is. Held-out examples choose.
_SHARES = (0.05, 0.15, 0.4, 1.0)


@dataclass(frozen=True, slots=True)
class TaskView:
    """One task as the scorers see it.

    Attributes:
        words: the text's stems.
        bm25: float32 (agents,).
    """

    words: list[str]
    bm25: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Scored:
    """What a scorer says of one task.

    Attributes:
        features: raw, float32 (FEATURES, agents).
        zero: float32 (agents,), the zero-shot part of the logits.
        logits: float32 (agents,).
        closeness: cosine to the nearest agent's mean example; 0 where there are too few examples.
    """

    features: NDArray[np.float32]
    zero: NDArray[np.float32]
    logits: NDArray[np.float32]
    closeness: float = 0.0


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
    def measure(
        cls, logits: NDArray[np.float32], labels: NDArray[np.int64], closeness: NDArray[np.float32]
    ) -> Calibration:
        """From logits (n, agents) of texts that belong to `labels` (n,), and their closeness (m,)."""
        spread = [(float(x.mean()), max(float(x.std()), 1e-3)) for x in (log_sum_exp(logits), closeness)]
        return cls(*fit_calibration(logits, labels), *spread[0], *spread[1])

    def familiarity(self, scored: Scored) -> float:
        """Energy and closeness together, in standard deviations from where in-scope texts lie.

        Closeness counts more: a head is sure of its words in any text, while no example is near an off-topic one.
        """
        away = (energy(scored.logits) - self.energy_mean) / self.energy_std
        return away + 1.5 * (scored.closeness - self.closeness_mean) / self.closeness_std


def _trial(examples: Examples) -> float:
    """Mean negative log likelihood of some held-out examples, at their best temperature."""
    logits, rows = held_out_logits(examples, rounds=2)
    return fit_temperature(logits, examples.labels[rows])[1]


def _centroids(examples: Examples) -> tuple[Vectors, NDArray[np.float32]]:
    """(the mean example of each agent that has any, closeness of each example to them, itself left out of its own)."""
    known, place = np.unique(examples.labels, return_inverse=True)
    sums = np.zeros((len(known), examples.vectors.shape[1]), np.float32)
    np.add.at(sums, place, examples.vectors)
    centroids = unit_rows(sums)
    cosines = examples.vectors @ centroids.T
    own = unit_rows(sums[place] - examples.vectors)
    cosines[np.arange(len(place)), place] = np.einsum("ij,ij->i", own, examples.vectors)
    return centroids, cosines.max(1)


class Scorer:
    """Scores tasks for every agent of a set from one encoder's vectors.

    Attributes:
        share: how far the zero-shot logits are believed beside the head.
        neighbours: scores from the nearest examples, where they help.
        centroids: float32 (taught agents, dim), unit rows; empty where the examples are too few to calibrate with.
        calibration: measured on held-out examples; None where they are too few, and then the margins must tell
            how sure to be (see `judge`).
    """

    def __init__(self, vectors: AgentVectors, head: Head, stage: Stage, adapter: Adapter) -> None:
        self.vectors, self.head, self.stage, self.adapter = vectors, head, stage, adapter
        self.share = np.float32(1)
        self.neighbours: Neighbours | None = None
        self.centroids = np.zeros((0, head.dim), np.float32)
        self.calibration: Calibration | None = None

    @classmethod
    async def build(
        cls, agents: Sequence[Agent], lexicon: Bm25, encoder: Encoder, stage: Stage, adapter: Adapter
    ) -> Scorer:
        """Encode the agents, fit the head on their examples, calibrate it on held-out ones.

        Neighbours cost the static encoder too much of its speed: they are for the slower ones.
        """
        cards = await encoder.encode([card(agent) for agent in agents])
        names = await encoder.encode([spoken_name(agent.name) for agent in agents])
        vectors = AgentVectors(cards, names, adapter)
        scorer = cls(vectors, Head.blank(encoder.dim, len(agents)), stage, adapter)
        texts = [text for agent in agents for text in agent.examples]
        if texts:
            labels = np.repeat(np.arange(len(agents), dtype=np.int64), [len(agent.examples) for agent in agents])
            neighbours = encoder.name != "static"
            scorer._teach(texts, await encoder.encode(texts), labels, lexicon, neighbours)
        return scorer

    def _teach(
        self, texts: list[str], vectors: Vectors, labels: NDArray[np.int64], lexicon: Bm25, neighbours: bool
    ) -> None:
        """Fit the head, choose the share of the zero-shot logits, calibrate."""
        words = [stems(text) for text in texts]
        bm25 = [lexicon.scores(content(found)) for found in words]
        zero = np.stack([self.zero_shot(vector, row)[1] for vector, row in zip(vectors, bm25, strict=True)])
        examples = Examples(vectors, words, labels, zero, np.ones(len(texts), np.float32))
        if len(texts) >= max(_ENOUGH_EACH * zero.shape[1], _ENOUGH_IN_ALL):
            self.share = np.float32(min(_SHARES, key=lambda share: _trial(examples.scaled(share))))
            examples = examples.scaled(float(self.share))
            self._calibrate(examples, neighbours)
        self.head = Head.fit(examples)

    def _calibrate(self, examples: Examples, neighbours: bool) -> None:
        logits, rows = held_out_logits(examples)
        if neighbours and len(examples) <= MOST:
            near = Neighbours(examples.vectors, examples.labels, logits.shape[1])
            near, logits = near.weighed(logits, rows, folds_of(len(examples)))
            self.neighbours = near if near.weight else None
        self.centroids, closeness = _centroids(examples)
        self.calibration = Calibration.measure(logits, examples.labels[rows], closeness)

    def zero_shot(
        self, vector: NDArray[np.float32], bm25: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """(features (FEATURES, agents), logits (agents,)) without the head."""
        features = self.stage.features(vector, self.vectors, self.adapter, bm25)
        return features, self.stage.logits(features)

    def score(self, vector: NDArray[np.float32], view: TaskView) -> Scored:
        """All that is known of one task."""
        features, zero = self.zero_shot(vector, view.bm25)
        zero = zero * self.share
        logits = zero + self.head.logits(vector, view.words)
        if self.neighbours is not None:
            logits += self.neighbours.scores(vector)
        closeness = float((self.centroids @ vector).max()) if len(self.centroids) else 0.0
        return Scored(features, zero, logits, closeness)

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        """Everything built, as arrays: what `from_arrays` takes."""
        idf = self.head.tfidf.idf
        c, near = self.calibration, self.neighbours
        return {
            "cards": self.vectors.cards.astype(np.float16),
            "names": self.vectors.names.astype(np.float16),
            "head": self.head.weights.astype(np.float16),
            "terms": np.array(list(idf), np.uint32),
            "idf": np.array(list(idf.values()), np.float32),
            "share": np.array(self.share, np.float32),
            "width": np.array(self.head.tfidf.width, np.int64),
            "centroids": self.centroids.astype(np.float16),
            "near": (near.vectors if near else np.zeros((0, self.head.dim))).astype(np.float16),
            "near_labels": near.labels if near else np.zeros(0, np.int64),
            "near_weight": np.array(near.weight if near else 0.0, np.float64),
            "calibration": np.array(astuple(c) if c else [], np.float64),
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[np.generic]], stage: Stage, adapter: Adapter) -> Scorer:
        """A scorer that was built before."""
        cards: Vectors = arrays["cards"].astype(np.float32)
        idf = dict(zip(arrays["terms"].tolist(), arrays["idf"].tolist(), strict=True))
        head = Head(arrays["head"].astype(np.float32), HashedTfidf(idf, int(arrays["width"].item())))
        vectors = AgentVectors(cards, arrays["names"].astype(np.float32), adapter)
        scorer = cls(vectors, head, stage, adapter)
        scorer.share = np.float32(arrays["share"].item())
        scorer.centroids = arrays["centroids"].astype(np.float32)
        if len(arrays["near"]):
            near, labels = arrays["near"].astype(np.float32), arrays["near_labels"].astype(np.int64)
            scorer.neighbours = Neighbours(near, labels, len(cards), float(arrays["near_weight"].item()))
        calibration = [float(value) for value in arrays["calibration"]]
        scorer.calibration = Calibration(*calibration) if calibration else None
        return scorer
