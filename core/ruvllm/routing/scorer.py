"""One encoder's view of one agent set: zero-shot logits, the head that its examples taught, calibration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ruvllm.agents.catalog import card, spoken_name
from ruvllm.encoders.protocol import Encoder, Vectors
from ruvllm.routing.calibration import fit_temperature, log_sum_exp
from ruvllm.routing.fusion import Adapter, AgentVectors, Stage
from ruvllm.routing.head import Examples, Head, held_out_logits
from ruvllm.text.lexical import Bm25, HashedTfidf, content, stems
from ruvllm.types import Agent

__all__ = ["Calibration", "Scorer", "TaskView"]

_ENOUGH_EXAMPLES = 3.0  # mean examples an agent, from which held-out examples calibrate better than margins


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
class Calibration:
    """Measured on examples held out from the head: softmax temperature, and where in-scope energy lies."""

    temperature: float
    energy_mean: float
    energy_std: float

    @classmethod
    def measure(cls, logits: NDArray[np.float32], labels: NDArray[np.int64]) -> Calibration:
        """From logits (n, agents) of texts that belong to `labels` (n,)."""
        temperature = fit_temperature(logits, labels)
        energy = log_sum_exp(logits)
        return cls(temperature, float(energy.mean()), max(float(energy.std()), 1e-3))


class Scorer:
    """Scores tasks for every agent of a set from one encoder's vectors.

    Attributes:
        held_out: (logits of examples by a head that did not see them, labels), to calibrate on; None where the
            examples are too few, and then the margins must tell how sure to be (see `Router`).
        calibration: what was measured on them.
    """

    def __init__(self, vectors: AgentVectors, head: Head, stage: Stage, adapter: Adapter) -> None:
        self.vectors, self.head, self.stage, self.adapter = vectors, head, stage, adapter
        self.held_out: tuple[NDArray[np.float32], NDArray[np.int64]] | None = None
        self.calibration: Calibration | None = None

    @classmethod
    async def build(
        cls, agents: Sequence[Agent], lexicon: Bm25, encoder: Encoder, stage: Stage, adapter: Adapter
    ) -> Scorer:
        """Encode the agents, fit the head on their examples, calibrate it on held-out ones."""
        cards = await encoder.encode([card(agent) for agent in agents])
        names = await encoder.encode([spoken_name(agent.name) for agent in agents])
        vectors = AgentVectors(cards, names, adapter.cards(cards))
        scorer = cls(vectors, Head.blank(encoder.dim, len(agents)), stage, adapter)
        texts = [text for agent in agents for text in agent.examples]
        if not texts:
            return scorer
        labels = np.repeat(np.arange(len(agents), dtype=np.int64), [len(agent.examples) for agent in agents])
        words = [stems(text) for text in texts]
        encoded = await encoder.encode(texts)
        offsets = np.stack(
            [
                scorer.zero_shot(vector, lexicon.scores(content(found)))[1]
                for vector, found in zip(encoded, words, strict=True)
            ]
        )
        examples = Examples(encoded, words, labels, offsets, np.ones(len(texts), np.float32))
        scorer.head = Head.fit(examples)
        if len(texts) >= _ENOUGH_EXAMPLES * len(agents):
            logits, filled = held_out_logits(examples)
            scorer.held_out = logits[filled], labels[filled]
            scorer.calibration = Calibration.measure(*scorer.held_out)
        return scorer

    def zero_shot(
        self, vector: NDArray[np.float32], bm25: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """(features (FEATURES, agents), logits (agents,)) without the head."""
        features = self.stage.features(vector, self.vectors, self.adapter, bm25)
        return features, self.stage.logits(features)

    def score(
        self, vector: NDArray[np.float32], view: TaskView
    ) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
        """(features, zero-shot logits, logits with the head)."""
        features, zero = self.zero_shot(vector, view.bm25)
        return features, zero, zero + self.head.logits(vector, view.words)

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        """Everything built, as arrays: what `from_arrays` takes."""
        idf = self.head.tfidf.idf
        c = self.calibration
        return {
            "cards": self.vectors.cards.astype(np.float16),
            "names": self.vectors.names.astype(np.float16),
            "head": self.head.weights.astype(np.float16),
            "terms": np.array(list(idf), np.uint32),
            "idf": np.array(list(idf.values()), np.float32),
            "width": np.array(self.head.tfidf.width, np.int64),
            "calibration": np.array([c.temperature, c.energy_mean, c.energy_std] if c else [], np.float64),
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[np.generic]], stage: Stage, adapter: Adapter) -> Scorer:
        """A scorer that was built before."""
        cards: Vectors = arrays["cards"].astype(np.float32)
        idf = dict(zip(arrays["terms"].tolist(), arrays["idf"].tolist(), strict=True))
        head = Head(arrays["head"].astype(np.float32), HashedTfidf(idf, int(arrays["width"].item())))
        vectors = AgentVectors(cards, arrays["names"].astype(np.float32), adapter.cards(cards))
        scorer = cls(vectors, head, stage, adapter)
        calibration = [float(value) for value in arrays["calibration"]]
        scorer.calibration = Calibration(*calibration) if calibration else None
        return scorer
