"""One encoder's view of one agent set: zero-shot logits, the head that its examples taught, calibration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import astuple, replace

import numpy as np
from numpy.typing import NDArray

from ruvllm.agents.catalog import card, spoken_name
from ruvllm.encoders.protocol import Encoder, Pause, Vectors, no_pause
from ruvllm.lazy_dataclass import dataclass
from ruvllm.routing.calibration import Calibration
from ruvllm.routing.extend import Places, moved_prior
from ruvllm.routing.fusion import Adapter, AgentVectors, Stage
from ruvllm.routing.head import Design, Examples, Head, Neighbours, Prior
from ruvllm.routing.teaching import Fitted, teach
from ruvllm.text.lexical import Bm25, HashedTfidf, content, stems
from ruvllm.types import Agent

_ALL = np.float32(1)
_SLICE = 4  # texts read at a time, which takes a contextual encoder some 20 ms


@dataclass(slots=True)
class TaskView:
    """One task as the scorers see it.

    Attributes:
        words: the text's stems.
        bm25: float32 (agents,).
        candidates: numbers of the agents that it may go to; any when None.
        shared: float32 (agents,), what others' feedback adds to every scorer's logits; None where nothing was pulled.
    """

    words: list[str]
    bm25: NDArray[np.float32]
    candidates: NDArray[np.intp] | None = None
    shared: NDArray[np.float32] | None = None


@dataclass(slots=True)
class Scored:
    """What a scorer says of one task.

    Attributes:
        rows: float32 (FEATURES + 1, agents): raw features, and last the logits.
        zero: float32 (agents,), the zero-shot logits.
        zero_weight: how far they count in the logits.
        closeness: cosine to the nearest agent's mean example; 0 where there are too few examples.
        nobody: the logit of "no agent", where a prior gives it.
    """

    rows: NDArray[np.float32]
    zero: NDArray[np.float32]
    zero_weight: np.float32
    closeness: float = 0.0
    nobody: float | None = None

    @property
    def logits(self) -> NDArray[np.float32]:
        """float32 (agents,)."""
        logits: NDArray[np.float32] = self.rows[-1]
        return logits

    def added(self, logits: NDArray[np.float32]) -> Scored:
        """The same with more in the logits, (agents,)."""
        rows = self.rows.copy()
        rows[-1] += logits
        return replace(self, rows=rows)

    def parts(self, agent: int) -> list[float]:
        """An agent's raw features, and what was added to its zero-shot logit."""
        *features, logit = self.rows[:, agent].tolist()
        return [*features, logit - float(self.zero[agent] * self.zero_weight)]


@dataclass(frozen=True, slots=True)
class Basis:
    """A scorer built before, to start from.

    Attributes:
        scorer: of the set before.
        moves: where today's agents stood in it.
    """

    scorer: Scorer
    moves: Places


class Scorer:
    """Scores tasks for every agent of a set from one encoder's vectors."""

    def __init__(self, vectors: AgentVectors, fitted: Fitted, stage: Stage) -> None:
        self.vectors, self.fitted, self.stage = vectors, fitted, stage

    def copy(self) -> Scorer:
        """One that learns by itself, from where this one is; all that does not change is the same."""
        return Scorer(self.vectors, replace(self.fitted, head=self.fitted.head.copy()), self.stage)

    @classmethod
    async def build(
        cls,
        agents: Sequence[Agent],
        lexicon: Bm25,
        encoder: Encoder,
        stage: Stage,
        adapter: Adapter,
        *,
        basis: Basis | None = None,
        pause: Pause = no_pause,
    ) -> Scorer:
        """Encode the agents, fit the head on their examples, calibrate it on held-out ones.

        Neighbours cost the static encoder too much of its speed: they are for the slower ones.

        Args:
            basis: of nearly the same agents; then only what is new is learnt.
            pause: awaited between slices of the work.
        """
        fresh = agents if basis is None else [agents[i] for i in basis.moves.fresh]
        cards = await _encoded(encoder, [card(agent) for agent in fresh], pause)
        names = await _encoded(encoder, [spoken_name(agent.name) for agent in fresh], pause)
        if basis is not None:
            before = basis.scorer.vectors
            cards, names = basis.moves.rows(before.cards, cards), basis.moves.rows(before.names, names)
        prior = moved_prior(basis.scorer.fitted.prior, basis.moves) if basis is not None else None
        blank = Fitted.uncalibrated(Head.blank(encoder.dim, len(agents)), prior)
        scorer = cls(AgentVectors(cards, names, adapter), blank, stage)
        # What the agents before bring is in the prior.
        telling = agents if prior is None else [replace(a, examples=a.examples if a in fresh else ()) for a in agents]
        if any(agent.examples for agent in telling):
            examples = await scorer.examples(telling, lexicon, encoder, pause)
            if prior is None:
                scorer.fitted = await teach(examples, neighbours=encoder.name != "static", pause=pause)
            else:
                scorer.fitted = replace(blank, head=await (await Design.read(examples, pause)).fit(pause))
        return scorer

    async def examples(self, agents: Sequence[Agent], lexicon: Bm25, encoder: Encoder, pause: Pause) -> Examples:
        """Every agent's examples with their zero-shot logits."""
        texts = [text for agent in agents for text in agent.examples]
        labels = np.repeat(np.arange(len(agents), dtype=np.int64), [len(agent.examples) for agent in agents])
        vectors, words = await _encoded(encoder, texts, pause), list(map(stems, texts))
        zero = np.zeros((len(texts), len(agents)), np.float32)
        for first in range(0, len(texts), _SLICE):
            some = slice(first, first + _SLICE)
            views = [TaskView(each, lexicon.scores(content(each))) for each in words[some]]
            zero[some] = [scored.logits for scored in self.untaught(vectors[some], views)]
            await pause()
        return Examples(vectors, words, labels, zero, np.ones(len(texts), np.float32))

    def untaught(self, vectors: Vectors, views: Sequence[TaskView]) -> list[Scored]:
        """What is known of n tasks without the examples: zero-shot logits, and those of a prior.

        Args:
            vectors: float32 (n, dim); each task is scored as if it were alone.
        """
        prior = self.fitted.prior
        rows = self.stage.rows(vectors, self.vectors, [view.bm25 for view in views])
        found: list[Scored] = []
        for i, view in enumerate(views):
            row = rows[i]
            zero = row[-1].copy()
            if prior is None:
                found.append(Scored(row, zero, _ALL))
                continue
            logits = prior.joined(prior.head.logits(vectors[i], view.words), zero)
            row[-1] = logits[:-1]
            found.append(Scored(row, zero, prior.zero_weight, 0.0, float(logits[-1])))
        return found

    def score(self, vector: NDArray[np.float32], view: TaskView) -> Scored:
        """All that is known of one task."""
        return self.score_many(vector[None], [view])[0]

    def score_many(self, vectors: Vectors, views: Sequence[TaskView]) -> list[Scored]:
        """The same of n tasks, vectors (n, dim), each as if it were alone."""
        found, fitted = self.untaught(vectors, views), self.fitted
        if fitted.prior_weight != 1 or not fitted.head.empty or fitted.neighbours is not None or len(fitted.centroids):
            for i, scored in enumerate(found):
                self._add_learnt(scored, vectors[i], views[i])
        return found

    def _add_learnt(self, scored: Scored, vector: NDArray[np.float32], view: TaskView) -> None:
        logits, fitted = scored.rows[-1], self.fitted
        if fitted.prior_weight != 1:
            logits *= fitted.prior_weight
            scored.zero_weight = scored.zero_weight * fitted.prior_weight
        if not fitted.head.empty:
            logits += fitted.head.logits(vector, view.words)
        if fitted.neighbours is not None:
            logits += fitted.neighbours.scores(vector)
        if len(fitted.centroids):
            scored.closeness = float(fitted.centroids.dot(vector).max())

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        """Everything built but for a prior, as arrays: what `from_arrays` takes."""
        fitted = self.fitted
        head, near, calibration = fitted.head, fitted.neighbours, fitted.calibration
        return {
            "cards": self.vectors.cards.astype(np.float16),
            "names": self.vectors.names.astype(np.float16),
            "head": head.weights.astype(np.float16),
            "terms": np.array(list(head.tfidf.idf), np.uint32),
            "idf": np.array(list(head.tfidf.idf.values()), np.float32),
            "share": np.array(fitted.prior_weight, np.float32),
            "width": np.array(head.tfidf.width, np.int64),
            "centroids": fitted.centroids.astype(np.float16),
            "near": (near.vectors if near else np.zeros((0, head.dim))).astype(np.float16),
            "near_labels": near.labels if near else np.zeros(0, np.int64),
            "near_weight": np.array(near.weight if near else 0.0, np.float64),
            "calibration": np.array(astuple(calibration) if calibration else [], np.float64),
        }

    @classmethod
    def from_arrays(
        cls, arrays: Mapping[str, NDArray[np.generic]], stage: Stage, adapter: Adapter, prior: Prior | None = None
    ) -> Scorer:
        """A scorer that was built before.

        Args:
            prior: what it was built upon, which `arrays` leaves out.
        """
        cards: Vectors = arrays["cards"].astype(np.float32)
        prior = prior or Prior.from_arrays(arrays)
        if "head" not in arrays and prior is not None:  # nothing was learnt on top of it yet
            blank = Fitted.uncalibrated(Head.blank(cards.shape[1], len(cards)), prior)
            return cls(AgentVectors(cards, arrays["names"].astype(np.float32), adapter), blank, stage)
        tfidf = HashedTfidf.from_arrays(arrays["terms"], arrays["idf"], int(arrays["width"].item()))
        head = Head(arrays["head"].astype(np.float32), tfidf)
        neighbours = None
        if len(arrays["near"]):
            near, labels = arrays["near"].astype(np.float32), arrays["near_labels"].astype(np.int64)
            neighbours = Neighbours(near, labels, len(cards), float(arrays["near_weight"].item()))
        measured = [float(value) for value in arrays["calibration"]]
        fitted = Fitted(
            head,
            np.float32(arrays["share"].item()),
            neighbours,
            arrays["centroids"].astype(np.float32),
            Calibration(*measured) if measured else None,
            prior,
        )
        return cls(AgentVectors(cards, arrays["names"].astype(np.float32), adapter), fitted, stage)


async def _encoded(encoder: Encoder, texts: Sequence[str], pause: Pause) -> Vectors:
    """float32 (len(texts), dim), a slice at a time."""
    rows = np.zeros((len(texts), encoder.dim), np.float32)
    for first in range(0, len(texts), _SLICE):
        some = slice(first, first + _SLICE)
        rows[some] = await encoder.encode(texts[some])
        await pause()
    return rows
