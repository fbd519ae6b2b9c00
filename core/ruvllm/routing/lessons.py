"""What feedback teaches one scorer: at once, and in the background once more from all that it was ever told.

An instant update moves the head just enough for the text at hand, and less where it contradicts a sure
answer. A review fits the head on examples and feedback together, starting from where it is: what one
update overdid is mended, nothing is forgotten, since everything is there (replay), and feedback that its
neighbours contradict counts little. How far to believe the zero-shot scores is chosen again as feedback
grows, and the calibration is taken of decisions that were made before their answer was known (progressive
validation, Blum, Kalai & Langford 1999).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ruvllm.encoders.protocol import Pause, Vectors, no_pause
from ruvllm.routing.calibration import Calibration, fit_temperature, softmax
from ruvllm.routing.head import Design, Examples
from ruvllm.routing.neighbours import MOST, Neighbours
from ruvllm.routing.scorer import Scored, Scorer, TaskView
from ruvllm.routing.teaching import Fold, Taught, centroids_of, enough, folds_of
from ruvllm.routing.trust import trusted

__all__ = ["Lesson", "Lessons"]

_RECENT = 512  # decisions that tell how well it is calibrated
_TELLING = 200  # of them, from which they tell more than examples held out long ago
_GROWN = 2  # times as many examples, from which the share is chosen again
_SHARES = (1.0, 0.4, 0.15, 0.05, 0.0)
_LOOSE = 5e-4
_SLICE = 64  # lessons scored at a time
_SURE, _CONTRADICTED = 0.8, 0.25  # an answer as sure as this is overturned by so much of an instant update


@dataclass(frozen=True, slots=True)
class Lesson:
    """Feedback as a scorer sees it.

    Attributes:
        vector: float32 (dim,) of the text.
        view: its words and lexical scores.
        label: the agent's number.
        weight: how far it may move the scores.
        right: whether the text belongs to that agent.
    """

    vector: Vectors
    view: TaskView
    label: int
    weight: float = 1.0
    right: bool = True


class Lessons:
    """Feedback's way into one scorer.

    Args:
        neighbours: whether scores from the nearest examples may be added; they cost time at every task.
    """

    def __init__(self, neighbours: bool) -> None:
        self._neighbours = neighbours
        self._chosen = 0  # examples when the share was chosen
        self._recent = deque[tuple[NDArray[np.float32], float, int]](maxlen=_RECENT)

    def take(self, scorer: Scorer, lesson: Lesson) -> None:
        """Learn one at once."""
        scored = scorer.score(lesson.vector, lesson.view)
        weight = lesson.weight * (_CONTRADICTED if lesson.right and _contradicts(scorer, scored, lesson.label) else 1)
        if lesson.right:
            self._recent.append((scored.logits, scored.closeness, lesson.label))
        head, words = scorer.taught.head, lesson.view.words
        offsets = scored.logits - head.logits(lesson.vector, words)
        move = head.learn if lesson.right else head.avoid
        move(lesson.vector, words, offsets, lesson.label, weight)

    async def review(
        self, scorer: Scorer, examples: Examples, lessons: Sequence[Lesson], pause: Pause = no_pause
    ) -> Taught:
        """What the scorer should know of its agents' examples and all lessons together.

        Args:
            examples: the agents' own.
            pause: awaited between steps; lessons taken meanwhile have to be taken once more by the result.
        """
        every = await _joined(scorer, examples, [lesson for lesson in lessons if lesson.right], pause)
        before = scorer.taught
        if not len(every):
            return before
        if before.calibration is not None and not self._chosen:
            self._chosen = len(examples)  # its share and calibration came with these
        taught = await self._refitted(before, every, pause)
        self._recent.clear()
        mended = Scorer(scorer.vectors, taught, scorer.stage, scorer.adapter)
        for lesson in lessons:
            if not lesson.right:
                self.take(mended, lesson)
        return taught

    async def _refitted(self, before: Taught, every: Examples, pause: Pause) -> Taught:
        taught = before
        if enough(every) and (before.calibration is None or len(every) >= _GROWN * self._chosen):
            taught = await self._chosen_again(before, every, pause)
            self._chosen = len(every)
        elif len(self._recent) >= _TELLING:
            logits, closeness, labels = (np.array(column) for column in zip(*self._recent, strict=True))
            taught = replace(before, calibration=Calibration.measure(logits, labels, closeness.astype(np.float32)))
        design = Design(every, before.head.tfidf.width)
        head = await design.fit(pause, float(taught.share), _LOOSE, start=before.head.weights)
        near = taught.neighbours
        if near is not None and near.weight and len(every) <= MOST:
            near = _neighbours(every, near.weight)
        centroids = centroids_of(every)[0] if taught.calibration else taught.centroids
        return replace(taught, head=head, neighbours=near, centroids=centroids)

    async def _chosen_again(self, before: Taught, every: Examples, pause: Pause) -> Taught:
        """The share, the neighbours' weight and the calibration that one fifth, held out, likes best."""
        fold = folds_of(len(every))
        out, held = Fold(every, fold == 0), np.flatnonzero(fold == 0)
        share, logits = await _best_share(out, every.labels[held], float(before.share), pause)
        near = None
        if self._neighbours and len(every) <= MOST:
            near, logits = _neighbours(every, 1.0).weighed(logits, held, fold)
        closeness = centroids_of(every)[1][held]
        calibration = Calibration.measure(logits, every.labels[held], closeness)
        return replace(before, share=np.float32(share), neighbours=near, calibration=calibration)


async def _best_share(
    fold: Fold, labels: NDArray[np.int64], start: float, pause: Pause
) -> tuple[float, NDArray[np.float32]]:
    """(the share that held-out examples like best, their logits under it): down from `start` until it gets worse."""
    best, share, kept = np.inf, start, np.zeros((0, 0), np.float32)
    for lower in (value for value in _SHARES if value <= start + 1e-6):
        logits = await fold.logits(lower, pause)
        loss = fit_temperature(logits, labels)[1]
        if loss >= best:
            break
        best, share, kept = loss, lower, logits
    return share, kept


def _contradicts(scorer: Scorer, scored: Scored, label: int) -> bool:
    """Whether the scorer was sure of another agent."""
    calibration = scorer.taught.calibration
    if calibration is None:
        return False
    probabilities = softmax(scored.logits / np.float32(calibration.temperature))
    top = int(probabilities.argmax())
    return top != label and float(probabilities[top]) >= _SURE


async def _joined(scorer: Scorer, examples: Examples, lessons: Sequence[Lesson], pause: Pause) -> Examples:
    """Examples and lessons as one, sorted by agent."""
    if lessons:
        zero = list[Vectors]()
        for i, lesson in enumerate(lessons):
            zero.append(scorer.zero_shot(lesson.vector, lesson.view.bm25)[1])
            if i % _SLICE == 0:
                await pause()
        own, agents = len(examples), examples.offsets.shape[1]
        examples = Examples(
            np.concatenate([examples.vectors, np.stack([lesson.vector for lesson in lessons])]),
            examples.words + [lesson.view.words for lesson in lessons],
            np.concatenate([examples.labels, np.array([lesson.label for lesson in lessons], np.int64)]),
            np.concatenate([examples.offsets, np.stack(zero)]),
            np.concatenate([examples.weights, np.array([lesson.weight for lesson in lessons], np.float32)]),
        )
        examples.weights[own:] *= await trusted(examples.vectors, examples.labels, agents, first=own, pause=pause)
    order = examples.labels.argsort(kind="stable")
    return Examples(
        examples.vectors[order],
        [examples.words[i] for i in order.tolist()],
        examples.labels[order],
        examples.offsets[order],
        examples.weights[order],
    )


def _neighbours(examples: Examples, weight: float) -> Neighbours:
    return Neighbours(examples.vectors, examples.labels, examples.offsets.shape[1], weight)
