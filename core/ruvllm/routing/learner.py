"""How a router's scorers come to know what it was told: built when first asked for, and never behind."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from ruvllm.encoders.protocol import Encoder, Pause, no_pause
from ruvllm.routing.head import Examples
from ruvllm.routing.lessons import Lesson, Lessons
from ruvllm.routing.scorer import Basis, Scorer, TaskView
from ruvllm.routing.weights import RouterWeights
from ruvllm.text.lexical import Bm25, content, stems
from ruvllm.types import Agent, Feedback

__all__ = ["Learner"]

_SLICE = 64  # texts encoded at a time


class Learner:
    """The scorers of a set of agents, one for each encoder, and the feedback that they take in.

    Args:
        agents: the set.
        lexicon: their words.
        weights: trained weights.
        encoders: by name; not how to ask the router for one: the two would keep each other in memory.
        bases: by encoder name, what was built before for nearly these agents.
        seen: by encoder name, how much of the feedback to come is in there already.
        built: is given a scorer that was built from nothing, and gives the one to use.
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
    ) -> None:
        self._built = built
        self.agents, self._lexicon, self._weights = agents, lexicon, weights
        self._encoders, self._bases = encoders, bases
        self._number = {agent.name: i for i, agent in enumerate(agents)}
        self.scorers = {name: basis.scorer for name, basis in bases.items() if basis.moves.identity}
        self.told: list[Feedback] = []
        # scorer name -> how much of `told` it has taken in
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
            if self._built is not None and name not in self._bases:
                built = self._built(name, built)
            self.scorers.setdefault(name, built)  # another task may have been faster, and have learnt already
        await self._catch_up(name)
        return self.scorers[name]

    async def catch_up(self) -> None:
        """Let every scorer there is take in what it has not seen."""
        for name in list(self.scorers):
            await self._catch_up(name)

    async def review(self, pause: Pause = no_pause) -> None:
        """Fit what was learnt once more, from all examples and feedback.

        Args:
            pause: awaited between slices of the work; what is told meanwhile is taken in by the old and the new.
        """
        for name in list(self.scorers):
            scorer = await self.scorer(name)
            if name not in self._examples:
                encoder = self._encoders[name]
                self._examples[name] = await scorer.examples(self.agents, self._lexicon, encoder, pause)
            count = len(self.told)
            lessons = await self._as_lessons(name, _latest(self.told), pause)
            taught = await self._lessons_of(name).review(scorer, self._examples[name], lessons, pause)
            scorer.taught, self._seen[name] = taught, count
            await self._catch_up(name)

    @property
    def learnt(self) -> dict[str, tuple[Scorer, int]]:
        """Every scorer there is, with how much of `told` it has taken in."""
        return {name: (scorer, self._seen.get(name, 0)) for name, scorer in self.scorers.items()}

    def view(self, text: str) -> TaskView:
        """A text's words and lexical scores."""
        words = stems(text)
        return TaskView(words, self._lexicon.scores(content(words)))

    async def _catch_up(self, name: str) -> None:
        seen = self._seen.get(name, 0)
        if seen == len(self.told):
            return
        self._seen[name] = len(self.told)  # before it waits: nobody else shall take in the same
        try:
            lessons = await self._as_lessons(name, self.told[seen:])
        except BaseException:
            self._seen[name] = min(seen, self._seen[name])
            raise
        for lesson in lessons:
            self._lessons_of(name).take(self.scorers[name], lesson)

    async def _as_lessons(self, name: str, told: Sequence[Feedback], pause: Pause = no_pause) -> list[Lesson]:
        """Feedback as the scorer of an encoder sees it."""
        lessons = list[Lesson]()
        for first in range(0, len(told), _SLICE):
            some = told[first : first + _SLICE]
            vectors = await self._encoders[name].encode([feedback.text for feedback in some])
            lessons += [
                Lesson(vector, self.view(f.text), self._number[f.agent], f.weight, f.right)
                for f, vector in zip(some, vectors, strict=True)
            ]
            await pause()
        return lessons

    def _lessons_of(self, name: str) -> Lessons:
        return self._lessons.setdefault(name, Lessons(neighbours=name != "static"))


def _latest(told: Sequence[Feedback]) -> list[Feedback]:
    """The last word on each text: the agent it belongs to, and those it was found not to belong to since."""
    right: dict[str, Feedback] = {}
    wrong: dict[tuple[str, str], Feedback] = {}
    for feedback in told:
        text, agent = feedback.text, feedback.agent
        if feedback.right:
            right[text] = feedback
            wrong.pop((text, agent), None)
        else:
            wrong[text, agent] = feedback
            if text in right and right[text].agent == agent:
                del right[text]
    return [*right.values(), *wrong.values()]
