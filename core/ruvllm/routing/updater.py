"""How a router's scorers come to know what it was told: built when first asked for, and never behind."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ruvllm.encoders.protocol import Encoder, Pause, Vectors, no_pause
from ruvllm.lazy_dataclass import dataclass
from ruvllm.routing.calibration import Calibration, softmax
from ruvllm.routing.fusion import RouterWeights
from ruvllm.routing.head import MOST, Design, Examples, Neighbours
from ruvllm.routing.reading import Reader
from ruvllm.routing.scorer import Basis, Scored, Scorer, TaskView
from ruvllm.routing.teaching import Fitted, Fold, best_prior_weight, centroids_of, closeness_of, enough, folds_of
from ruvllm.text.lexical import Bm25, content, stems
from ruvllm.types import Agent, Feedback

_NEIGHBOURS = 10
_ENOUGH = 100  # texts below which neighbours are too far to contradict
_ALONE = 0.15  # a label with less of the neighbours' vote than this share of another's …
_SHARED = 0.5  # … which has at least this share of all, is doubted
_DOUBTED = np.float32(0.05)
_CELLS, _POOL = 1 << 18, 8_192  # cosines at a time, and texts that the nearest are looked for among


async def trusted(
    vectors: NDArray[np.float32], labels: NDArray[np.int64], agents: int, *, first: int = 0, pause: Pause = no_pause
) -> NDArray[np.float32]:
    """How much labelled texts should count: float32 (n - first,), 1 or nearly nothing.

    Args:
        vectors: float32 (n, dim), unit rows.
        labels: int64 (n,), each below `agents`.
        first: the texts before this one are neighbours only. Of very many texts some are, evenly spread.
        pause: awaited between slices of the work.
    """
    n = len(vectors)
    out = np.ones(n - first, np.float32)
    pool = np.linspace(0, max(n - 1, 0), min(n, _POOL)).astype(np.int64)
    around, around_labels, step = vectors[pool], labels[pool], max(1, _CELLS // max(len(pool), 1))
    for start in range(first, n if n >= _ENOUGH else first, step):
        stop = min(start + step, n)
        cosines = vectors[start:stop] @ around.T
        rows, true_labels = np.arange(stop - start), labels[start:stop]
        within = np.flatnonzero((pool >= start) & (pool < stop))
        cosines[pool[within] - start, within] = -1
        near = np.argpartition(-cosines, _NEIGHBOURS, axis=1)[:, :_NEIGHBOURS]
        weights = np.maximum(np.take_along_axis(cosines, near, 1), 0) ** 4  # the nearest say most
        cells = (rows[:, None] * np.int64(agents) + around_labels[near]).ravel()
        votes = np.bincount(cells, weights.ravel(), len(rows) * agents).reshape(len(rows), agents)
        agreeing = votes[rows, true_labels]
        votes[rows, true_labels] = 0
        other = votes.max(1)
        doubted = (agreeing < _ALONE * other) & (other > _SHARED * weights.sum(1))
        out[start - first : stop - first][doubted] = _DOUBTED
        await pause()
    return out


_RECENT = 512  # decisions that tell how well it is calibrated
_TELLING = 200  # of them, from which they tell more than examples held out long ago
_TELLING_FEW = 3  # examples that stand for all until these are fitted
_GROWN = 2  # times as many examples, from which the share is chosen again
_SHARES = (1.0, 0.4, 0.15, 0.05, 0.0)
_CHOOSING = 10_000  # examples that are enough to choose the share by
_LOOSE = 5e-4
_SLICE = 4  # lessons read at a time, which takes a contextual encoder some 20 ms
_AT_ONCE = 8  # lessons taken at a time
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
        head, words = scorer.fitted.head, lesson.view.words
        offsets = scored.logits - head.logits(lesson.vector, words)
        move = head.learn if lesson.right else head.avoid
        move(lesson.vector, words, offsets, lesson.label, weight)

    async def review(
        self, scorer: Scorer, examples: Examples, lessons: Sequence[Lesson], pause: Pause = no_pause
    ) -> Fitted:
        """What the scorer should know of its agents' examples and all lessons together.

        Args:
            examples: the agents' own.
            pause: awaited between steps; lessons taken meanwhile have to be taken once more by the result.
        """
        every = await _joined(scorer, examples, [lesson for lesson in lessons if lesson.right], pause)
        before = scorer.fitted
        if not len(every):
            return before
        if before.calibration is not None and not self._chosen:
            self._chosen = len(examples)  # its share and calibration came with these
        fitted = await self._refitted(before, every, pause)
        self._recent.clear()
        mended = Scorer(scorer.vectors, fitted, scorer.stage)
        for lesson in lessons:
            if not lesson.right:
                self.take(mended, lesson)
        return fitted

    async def _refitted(self, before: Fitted, every: Examples, pause: Pause) -> Fitted:
        fitted = before
        choose = before.prior is None and enough(every)  # a prior knows the examples: they would flatter it
        if choose and (before.calibration is None or len(every) >= _GROWN * self._chosen):
            fitted = await self._chosen_again(before, every, pause)
            self._chosen = len(every)
        elif len(self._recent) >= _TELLING:
            logits, closeness, labels = (np.array(column) for column in zip(*self._recent, strict=True))
            calibration = await Calibration.measure(logits, labels, closeness.astype(np.float32), pause)
            fitted = replace(before, calibration=calibration)
        design = await Design.read(every, pause, before.head.tfidf.width)
        head = await design.fit(pause, float(fitted.prior_weight), _LOOSE, start=fitted.head.weights)
        near = fitted.neighbours
        if near is not None and near.weight and len(every) <= MOST:
            near = _neighbours(every, near.weight)
        centroids = centroids_of(every) if fitted.calibration else fitted.centroids
        return replace(fitted, head=head, neighbours=near, centroids=centroids)

    async def _chosen_again(self, before: Fitted, every: Examples, pause: Pause) -> Fitted:
        """The share, the neighbours' weight and the calibration that one fifth, held out, likes best.

        Of very many examples some choose the share, and of those held out some calibrate.
        """
        fold = folds_of(len(every))
        shares = [prior_weight for prior_weight in _SHARES if prior_weight <= float(before.prior_weight) + 1e-6]
        some = np.arange(len(every)) % (len(every) // _CHOOSING + 1) == 0
        out = await Fold.read(every.rows(some), fold[some] == 0, pause)
        held = np.flatnonzero((fold == 0) & some)
        prior_weight, logits = await best_prior_weight([out], every.labels[held], shares, pause)
        if not some.all():
            rest = (fold == 0) & ~some  # heads are taught by all, and measured by those held out among some
            out = await Fold.read(every.rows(~rest), fold[~rest] == 0, pause, out.head)
            logits = await out.logits(prior_weight, pause)
        near = None
        if self._neighbours and len(every) <= MOST:
            near, logits = _neighbours(every, 1.0).weighed(logits, held, fold)
        calibration = await Calibration.measure(logits, every.labels[held], closeness_of(every, held), pause)
        head, weight = out.head or before.head, np.float32(prior_weight)
        return replace(before, head=head, prior_weight=weight, neighbours=near, calibration=calibration)


def _brief(agent: Agent) -> str:
    return " ".join([agent.description, *agent.examples[:_TELLING_FEW]])


def _contradicts(scorer: Scorer, scored: Scored, label: int) -> bool:
    """Whether the scorer was sure of another agent."""
    calibration = scorer.fitted.calibration
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
            zero.append(scorer.untaught(lesson.vector[None], [lesson.view])[0].logits)
            if i % _SLICE == 0:
                await pause()
        count, agents = len(examples), examples.offsets.shape[1]
        examples = Examples(
            np.concatenate([examples.vectors, np.stack([lesson.vector for lesson in lessons])]),
            examples.words + [lesson.view.words for lesson in lessons],
            np.concatenate([examples.labels, np.array([lesson.label for lesson in lessons], np.int64)]),
            np.concatenate([examples.offsets, np.stack(zero)]),
            np.concatenate([examples.weights, np.array([lesson.weight for lesson in lessons], np.float32)]),
        )
        examples.weights[count:] *= await trusted(examples.vectors, examples.labels, agents, first=count, pause=pause)
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


class Learner:
    """The scorers of a set of agents, one for each encoder, and the feedback that they take in.

    Args:
        encoders: by name; not how to ask the router for one: the two would keep each other in memory.
        bases: by encoder name, what was built before for nearly these agents.
        seen: by encoder name, how much of the feedback to come is in there already.
        built: is given a scorer that was built from nothing, and gives the one to use.
        reader: of feedback, as tasks are read.
    """

    def __init__(
        self,
        agents: Sequence[Agent],
        lexicon: Bm25,
        weights: RouterWeights,
        encoders: Mapping[str, Encoder],
        bases: Mapping[str, Basis],
        seen: Mapping[str, int] | None = None,
        built: Callable[[str, Scorer], Scorer] | None = None,
        reader: Reader | None = None,
    ) -> None:
        self._built, self._reader = built, reader
        self.agents, self._lexicon, self._weights = agents, lexicon, weights
        self._encoders, self._bases = encoders, bases
        self._number = {agent.name: i for i, agent in enumerate(agents)}
        self.scorers = {name: basis.scorer for name, basis in bases.items() if basis.moves.identity}
        self.records: list[Feedback] = []
        self.anew = False  # a scorer was built from nothing
        # scorer name -> how much of `records` it has taken in
        self._seen = {name: count for name, count in (seen or {}).items() if name in self.scorers}
        self._lessons: dict[str, Lessons] = {}
        self._examples: dict[str, Examples] = {}

    async def scorer(self, name: str, pause: Pause = no_pause) -> Scorer:
        """The scorer of an encoder, built when first asked for, with all feedback taken in."""
        if name not in self.scorers:
            stage, adapter = self._weights.stages[name], self._weights.adapter
            built = await Scorer.build(
                self.agents,
                self._lexicon,
                self._encoders[name],
                stage,
                adapter,
                basis=self._bases.get(name),
                pause=pause,
            )
            if name not in self._bases:
                self.anew = True
                built = built if self._built is None else self._built(name, built)
            self.scorers.setdefault(name, built)  # another task may have been faster, and have learnt already
        await self._catch_up(name, pause)
        return self.scorers[name]

    def quick(self, name: str) -> bool:
        """Whether the scorer of an encoder is there, or needs little beside what was built before."""
        return name in self.scorers or name in self._bases

    async def begin(self, name: str, basis: Basis | None, pause: Pause) -> None:
        """Score by texts alone, an agent's examples among them, and by what `basis` has of agents before."""
        brief = [replace(agent, description=_brief(agent), examples=()) for agent in self.agents]
        stage, adapter = self._weights.stages[name], self._weights.adapter
        encoder = self._encoders[name]
        self.scorers[name] = await Scorer.build(brief, self._lexicon, encoder, stage, adapter, basis=basis, pause=pause)

    def ready(self, name: str) -> Scorer | None:
        """The scorer of an encoder, where it is there and has taken in all feedback."""
        return self.scorers.get(name) if self._seen.get(name, 0) == len(self.records) else None

    async def catch_up(self) -> None:
        """Let every scorer there is take in what it has not seen."""
        for name in list(self.scorers):
            await self._catch_up(name)

    def defer(self) -> None:
        """Leave feedback to the next review, but for the latest, by which it measures how sure answers may be."""
        late = max(0, len(self.records) - _RECENT)
        self._seen = {name: max(self._seen.get(name, 0), late) for name in self._encoders}

    async def review(self, pause: Pause = no_pause) -> None:
        """Fit what was learnt once more, from all examples and feedback; `pause` is awaited between slices of it.

        What is told meanwhile is taken in by the old and the new.
        """
        for name in list(self.scorers):
            scorer = await self.scorer(name)
            if name not in self._examples:
                encoder = self._encoders[name]
                self._examples[name] = await scorer.examples(self.agents, self._lexicon, encoder, pause)
            count = len(self.records)
            lessons = await self._as_lessons(name, _latest(self.records), pause)
            fitted = await self._lessons_of(name).review(scorer, self._examples[name], lessons, pause)
            scorer.fitted, self._seen[name] = fitted, count
            await self._catch_up(name)

    @property
    def learnt(self) -> dict[str, tuple[Scorer, int]]:
        """Every scorer there is, with how much of `records` it has taken in."""
        return {name: (scorer, self._seen.get(name, 0)) for name, scorer in self.scorers.items()}

    def view(self, text: str) -> TaskView:
        """A text's words and lexical scores."""
        words = stems(text)
        return TaskView(words, self._lexicon.scores(content(words)))

    async def _catch_up(self, name: str, pause: Pause = no_pause) -> None:
        seen = self._seen.get(name, 0)
        if seen == len(self.records):
            return
        end = self._seen[name] = len(self.records)  # before it waits: nobody else shall take in the same
        for start in range(seen, end, _AT_ONCE):
            try:
                lessons = await self._as_lessons(name, self.records[start : min(start + _AT_ONCE, end)], pause)
            except BaseException:
                self._seen[name] = min(start, self._seen[name])
                raise
            for lesson in lessons:
                self._lessons_of(name).take(self.scorers[name], lesson)

    async def _as_lessons(self, name: str, records: Sequence[Feedback], pause: Pause = no_pause) -> list[Lesson]:
        """Feedback as the scorer of an encoder sees it."""
        lessons = list[Lesson]()
        for first in range(0, len(records), _SLICE):
            some = records[first : first + _SLICE]
            texts = [f.text if self._reader is None else self._reader.read(f.text).text for f in some]
            vectors = await self._encoders[name].encode(texts)
            lessons += [
                Lesson(vector, self.view(text), self._number[f.agent], f.weight, f.right)
                for f, text, vector in zip(some, texts, vectors, strict=True)
            ]
            await pause()
        return lessons

    def _lessons_of(self, name: str) -> Lessons:
        return self._lessons.setdefault(name, Lessons(neighbours=name != "static"))


def _latest(records: Sequence[Feedback]) -> list[Feedback]:
    """The last word on each text: the agent it belongs to, and those it was found not to belong to since."""
    right: dict[str, Feedback] = {}
    wrong: dict[tuple[str, str], Feedback] = {}
    for feedback in records:
        text, agent = feedback.text, feedback.agent
        if feedback.right:
            right[text] = feedback
            wrong.pop((text, agent), None)
        else:
            wrong[text, agent] = feedback
            if text in right and right[text].agent == agent:
                del right[text]
    return [*right.values(), *wrong.values()]
