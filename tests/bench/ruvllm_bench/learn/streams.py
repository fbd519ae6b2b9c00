"""What learning is worth, measured as it happens: every text is routed before its answer is told."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from ruvllm import Agent, RuvLLM
from ruvllm.cli.evals.sets import Collection, IntentSet
from ruvllm.encoders.protocol import run_now
from ruvllm.learning.ewc import EwcPlusPlus
from ruvllm.routing.calibration import ece, softmax
from ruvllm.types import Feedback

_WINDOW = 1_000  # last decisions that count
_FIRST = 150  # decisions that tell where it began
_REVIEW = 250  # feedbacks between two reviews (Loop B)

Advance = Callable[[], None]
Row = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Stream:
    """One pass over texts, each routed and then told.

    Attributes:
        right: whether each decision was right.
        confidence: of each.
    """

    right: list[bool] = field(default_factory=list)
    confidence: list[float] = field(default_factory=list)

    @property
    def first(self) -> float:
        """Accuracy where it began."""
        return float(np.mean(self.right[:_FIRST]))

    @property
    def last(self) -> float:
        """Accuracy over the last decisions."""
        return float(np.mean(self.right[-_WINDOW:]))

    @property
    def ece(self) -> float:
        """Of the last decisions."""
        return ece(np.array(self.confidence[-_WINDOW:]), np.array(self.right[-_WINDOW:]))


def stream(
    rows: Sequence[Row],
    encoder: str,
    *,
    length: int = 5_000,
    told: str = "full",
    wrong: float = 0.0,
    seed: int = 0,
    advance: Advance = lambda: None,
) -> Stream:
    """Agents with one example each meet the rest of their texts, in random order.

    Args:
        rows: (text, label).
        length: texts of the stream.
        told: "full" (the right agent) or "bandit" (only whether the chosen one is right).
        wrong: share of feedback that names an agent drawn at random.
        advance: called after each text.
    """
    random = np.random.default_rng(seed)
    agents, rest = _seeded(rows, random)
    rest = rest[:length]
    names = [agent.name for agent in agents]
    out = Stream()
    with RuvLLM(agents, encoder=encoder) as llm:
        for number, (text, label) in enumerate(rest, 1):
            decision = llm.route(text)
            out.right.append(decision.agent == label)
            out.confidence.append(decision.confidence)
            said = names[random.integers(len(names))] if random.random() < wrong else label
            if told == "bandit":
                feedback = Feedback(text, decision.agent, right=decision.agent == said)
            else:
                feedback = Feedback(text, said)
            run_now(llm.routing.router.learn(feedback))
            if number % _REVIEW == 0:
                run_now(llm.routing.router.review())
            advance()
    return out


def review_seconds(data: IntentSet, encoder: str, feedbacks: int = 1_000) -> float:
    """How long the background review of so many new feedbacks takes, one example an agent known before."""
    agents, rest = _seeded(
        [(text, label) for label, own in data.train.items() for text in own], np.random.default_rng(0)
    )
    with RuvLLM(agents, encoder=encoder) as llm:
        for text, label in rest[:feedbacks]:
            llm.routing.router.note(Feedback(text, label))
        run_now(llm.routing.router.warm())  # each is learnt at once
        began = perf_counter()
        run_now(llm.routing.router.review())
        return perf_counter() - began


def _seeded(rows: Sequence[Row], random: np.random.Generator) -> tuple[list[Agent], list[Row]]:
    """An agent for each label, its first text as the example; the other texts."""
    seeds: dict[str, str] = {}
    rest = []
    for i in random.permutation(len(rows)).tolist():
        text, label = rows[i]
        if label in seeds:
            rest.append((text, label))
        else:
            seeds[label] = text
    return [Agent(label, examples=(text,)) for label, text in sorted(seeds.items())], rest


@dataclass(frozen=True, slots=True)
class Few:
    """Top-1 before and after a few feedbacks.

    Attributes:
        texts: on which it was measured.
    """

    before: float
    after: float
    texts: int


def few_feedbacks(
    collections: Sequence[Collection], encoder: str, each: int = 2, *, advance: Advance = lambda: None
) -> Few:
    """Zero-shot against `each` feedbacks an agent, on the prompts of agents that have more than these.

    Args:
        advance: called after each collection.
    """
    before, after = list[bool](), list[bool]()
    for collection in collections:
        taught, asked = list[Feedback](), list[tuple[str, str]]()
        seen: dict[str, int] = {}
        for prompt in collection.prompts:
            count = seen[prompt.agent] = seen.get(prompt.agent, 0) + 1
            if count <= each:
                taught.append(Feedback(prompt.text, prompt.agent))
            else:
                asked.append((prompt.text, prompt.agent))
        if asked:
            with RuvLLM(collection.agents, encoder=encoder) as llm:
                before += [llm.route(text).agent == agent for text, agent in asked]
                for feedback in taught:
                    run_now(llm.routing.router.learn(feedback))
                run_now(llm.routing.router.review())
                after += [llm.route(text).agent == agent for text, agent in asked]
        advance()
    return Few(float(np.mean(before)), float(np.mean(after)), len(before))


@dataclass(frozen=True, slots=True)
class Forgotten:
    """Accuracy on the first group of intents.

    Attributes:
        fresh: just after it was taught, before its rivals were.
        end: after all the others were taught.
        together: by a learner that was taught all groups at once, where that was measured.
    """

    fresh: float
    end: float
    together: float | None = None

    @property
    def lost(self) -> float:
        """Points."""
        return 100 * (self.fresh - self.end)


def forgetting(data: IntentSet, encoder: str, *, groups: int = 5, advance: Advance = lambda: None) -> Forgotten:
    """Groups of intents told one after the other, with a review after each (replay of everything told)."""
    parts = _parts(data, groups)
    asked = [prompt for prompt in data.test if prompt.agent in parts[0]]
    agents = [Agent(label) for part in parts for label in part]

    def taught(llm: RuvLLM, labels: Sequence[str]) -> float:
        for label in labels:
            for text in data.train[label]:
                llm.routing.router.note(Feedback(text, label))
        run_now(llm.routing.router.review())
        return float(np.mean([llm.route(prompt.text).agent == prompt.agent for prompt in asked]))

    accuracy = list[float]()
    with RuvLLM(agents, encoder=encoder) as llm:
        for part in parts:
            accuracy.append(taught(llm, part))
            advance()
    with RuvLLM(agents, encoder=encoder) as llm:
        together = taught(llm, [label for part in parts for label in part])
    return Forgotten(accuracy[0], accuracy[-1], together)


def forgetting_without_replay(data: IntentSet, *, ewc: bool, groups: int = 5) -> Forgotten:
    """The same for a plain softmax head on static vectors that sees each group's texts only while it is taught.

    Args:
        ewc: hold it back by EWC++.
    """
    encoder = RuvLLM(encoder="static").encoders.static
    parts = _parts(data, groups)
    labels = [label for part in parts for label in part]
    number = {label: i for i, label in enumerate(labels)}
    head = _Softmax(encoder.dim, len(labels), ewc)
    test = [prompt for prompt in data.test if prompt.agent in parts[0]]
    asked = encoder.encode_now([prompt.text for prompt in test])
    right = np.array([number[prompt.agent] for prompt in test])
    accuracy = list[float]()
    for part in parts:
        texts = [(text, number[label]) for label in part for text in data.train[label]]
        head.teach(encoder.encode_now([text for text, _ in texts]), np.array([label for _, label in texts]))
        accuracy.append(float(((asked @ head.weights).argmax(1) == right).mean()))
    return Forgotten(accuracy[0], accuracy[-1])


def _parts(data: IntentSet, groups: int) -> list[list[str]]:
    order = np.random.default_rng(0).permutation(sorted(data.train))
    return [part.tolist() for part in np.array_split(order, groups)]


class _Softmax:
    """A linear softmax head taught by stochastic gradient descent."""

    _EPOCHS, _BATCH, _RATE = 12, 32, 4.0

    def __init__(self, dim: int, classes: int, ewc: bool) -> None:
        self.weights = np.zeros((dim, classes), np.float32)
        self._ewc = EwcPlusPlus(self.weights.size) if ewc else None
        self._random = np.random.default_rng(0)

    def teach(self, vectors: NDArray[np.float32], labels: NDArray[np.int64]) -> None:
        """One task; EWC++ takes it as done at its end."""
        for _ in range(self._EPOCHS):
            order = self._random.permutation(len(labels))
            for start in range(0, len(order), self._BATCH):
                rows = order[start : start + self._BATCH]
                error = softmax(vectors[rows] @ self.weights)
                error[np.arange(len(rows)), labels[rows]] -= 1
                gradient = np.asarray(vectors[rows].T @ error / len(rows), np.float32)
                if self._ewc is not None:
                    self._ewc.observe(gradient.ravel(), self.weights.ravel())
                self.weights -= np.float32(self._RATE) * gradient
                if self._ewc is not None:
                    self._ewc.pull(self.weights.ravel(), self._RATE)  # in place
        if self._ewc is not None:
            self._ewc.consolidate(self.weights.ravel())
