"""From a task's text to a Decision: features, fusion, calibration, cascade."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from math import inf, log
from time import perf_counter
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from ruvllm.agents.catalog import unique
from ruvllm.encoders.cache import MOST_TEXT, LruCache
from ruvllm.encoders.protocol import Encoder, Pause, Vectors, no_pause
from ruvllm.encoders.static import StaticEncoder
from ruvllm.errors import EncoderError, InputError, unknown
from ruvllm.options import CHOICES
from ruvllm.routing.calibration import softmax
from ruvllm.routing.evidence import Explainer, Outcome, Reasons, Times, Votes, outcomes_of, restrained
from ruvllm.routing.fusion import RouterWeights, words_of
from ruvllm.routing.head import Head
from ruvllm.routing.prebuilt import PrebuiltScorers
from ruvllm.routing.reading import LONG, Reader, asks, checked_text, passages
from ruvllm.routing.recollection import Recollected, Recollection, latest
from ruvllm.routing.scorer import Scored, Scorer, TaskView
from ruvllm.routing.updater import Learner
from ruvllm.sizing.edits import edit_of
from ruvllm.sizing.tiers import CONFIRM_FROM, USE_ABOVE, action_for, tier_by
from ruvllm.text.lexical import content
from ruvllm.types import Agent, Decision, Feedback, Tier

if TYPE_CHECKING:
    from ruvllm.sizing.trained import TrainedTiers


MODES = CHOICES["encoder"]

_SETTLED = 0.98  # a static answer as sure as this stands: lower is faster, and a little less accurate
_FEW = 2  # words that say something, below which a task names no object
_BLOCK = 64  # tasks that are decided at once
_ENDS = 4  # passages at the ends of a long text
_ASKS, _IN_SCOPE = 0.25, 0.2  # how much an order or a question counts in it, and the log odds of being a task at all

Array = NDArray[np.float32]


class SharedModel(Protocol):
    """What others' feedback taught about routes, by the static encoder's vectors."""

    async def fit(self, agents: Sequence[str], local: Callable[[Array], Array], pause: Pause = no_pause) -> Head:
        """What it adds to the logits that `local` gives a unit vector, a column for each agent."""
        ...


class Router:
    """Routes tasks among a fixed set of agents.

    Args:
        agents: the set; make a new router for another one.
        static: the encoder every decision starts from.
        contextual: the encoder asked when the first answer is unsure; None where there is none.
        weights: trained weights, for these encoders.
        mode: "cascade" (static first, the other when unsure), or the name of the one that is asked alone.
        prebuilt: scorers that were built before, for these agents or nearly these.
        seen: by encoder name, how much of the feedback to come the prebuilt ones have learnt already.
        cache_size: whole decisions remembered.
        tiers: what names the tier of a task whose agent has none; its words do when None.
        built: is given each scorer that was built from nothing, and gives the one to use.
        shared: what others' feedback taught; see `use_shared`.
        votes: of outcomes of similar tasks, a feature beside the scorer's own; None where nobody votes.
        near_duplicates: whether a confirmed task answers for what is nearly the same.

    Attributes:
        shared: the same, None where nothing was pulled, or there is nothing to add it to.
        noted: of what it was given by `note_stored`, the id of the last, and how much it was.
    """

    def __init__(
        self,
        agents: Iterable[Agent],
        static: StaticEncoder,
        contextual: Encoder | None,
        weights: RouterWeights,
        *,
        mode: str = "cascade",
        prebuilt: PrebuiltScorers | None = None,
        seen: Mapping[str, int] | None = None,
        cache_size: int = 10_000,
        tiers: TrainedTiers | None = None,
        built: Callable[[str, Scorer], Scorer] | None = None,
        shared: SharedModel | None = None,
        votes: Votes | None = None,
        near_duplicates: bool = True,
    ) -> None:
        others = () if contextual is None else (contextual,)
        self._encoders: dict[str, Encoder] = {one.name: one for one in (static, *others)}
        if mode not in ("cascade", *self._encoders):
            fix = f"use one of cascade, {', '.join(self._encoders)}; pip install 'ruvllm[onnx]' for others"
            raise EncoderError(f"this router has no encoder {mode!r}", field="encoder", fix=fix)
        if tiers is not None:
            tiers.check(self._encoders)
        self.agents, self._tiers = unique(agents), tiers
        self.mode, self.weights = mode, weights
        self._static, self._contextual = static, contextual
        self._number = {agent.name: i for i, agent in enumerate(self.agents)}
        self._lexicon, self._requirements = words_of(self.agents)
        bases = prebuilt.bases(self.agents, tuple(self._encoders)) if prebuilt else {}
        self._reader = Reader(self.agents, static.tokenizer)
        self._learner = Learner(self.agents, self._lexicon, weights, self._encoders, bases, seen, built, self._reader)
        self._recollection = Recollection(static.dim, weights.recollection) if near_duplicates else None
        self._recalled = 0  # how much of what the learner was told it has taken in
        self._cache: LruCache[tuple[str, int], Decision] = LruCache(cache_size)
        self._changes, self.noted = 0, (0, 0)  # changes of what tasks are decided by
        self.shared = shared if self._static.name in weights.stages else None
        self._shared_head: Head | None = None  # fitted when first needed
        self._votes, self._voted = votes, 0
        self._explain = Explainer(self.agents, self._lexicon, static)

    async def route(self, text: str, top: int = 3) -> Decision:
        """The agent for a task.

        Args:
            top: how many alternatives to name beside the chosen agent.

        Raises:
            InputError: the text is empty or far too large, or `top` is no count.
        """
        return self.cached(text, top) or await self.decide(text, top)

    async def decide(self, text: str, top: int = 3) -> Decision:
        """The same of a task that is not `cached`."""
        return (await self._decide([checked_text(text)], top))[0]

    async def route_many(self, texts: Sequence[str], top: int = 3) -> list[Decision]:
        """The same as `route` gives of each, in half the time: what adds up is worked out for many at once.

        Their `timings_us` are each one's share of what they took together.

        Raises:
            InputError: as `route`; all are looked at before the first is routed.
        """
        if isinstance(texts, str | bytes) or not isinstance(texts, Sequence):
            raise InputError(f"texts is {texts!r}"[:120], field="texts", fix="give a list of tasks")
        found: dict[str, Decision] = {}
        every = [checked_text(text, f"texts[{i}]") for i, text in enumerate(texts)]
        fresh = [text for text in dict.fromkeys(every) if self.cached(text, top) is None]
        for first in range(0, len(fresh), _BLOCK):
            block = fresh[first : first + _BLOCK]
            found |= zip(block, await self._decide(block, top), strict=True)
        return [found.pop(text) if text in found else await self.route(text, top) for text in every]

    def cached(self, text: object, top: object) -> Decision | None:
        """The same task's decision, where nothing that it rests on has changed."""
        if not isinstance(top, int) or top < 0:
            raise InputError(f"top is {top!r}"[:80], field="top", fix="use 0 or more")
        if self._votes is not None and self._votes.version != self._voted:
            self._voted = self._votes.version
            self._changed()
        cached = self._cache.get((text, top)) if isinstance(text, str) else None
        if cached is not None and not cached.cached:
            cached = cached.again()
            self._cache.put((str(text), top), cached)
        return cached

    async def _decide(self, texts: Sequence[str], top: int) -> list[Decision]:
        """Who takes each of some tasks: the static encoder says, and where it is unsure the contextual one."""
        changes, began = self._changes, perf_counter()
        marks, read = [("", began)], self._reader.read
        readings = [read(text if len(text) <= LONG else await self._passage(text)) for text in texts]
        terms = [content(reading.words) for reading in readings]
        marks.append(("read", perf_counter()))
        if len(texts) == 1:
            vectors = self._static.encode_one(readings[0].text, readings[0].ids)[None]
        else:
            every_ids = [reading.ids for reading in readings]
            vectors = self._static.encode_block([reading.text for reading in readings], every_ids)
        every = [  # of the tasks as they were given
            vectors[i] if readings[i].text is text else self._static.encode_one(text) for i, text in enumerate(texts)
        ]
        marks.append(("encode_static", perf_counter()))
        recollected = list(map(self._recollect, every))
        marks.append(("recall", perf_counter()))
        words, allowed = [reading.words for reading in readings], self._requirements.candidates
        views = [
            TaskView(each, self._lexicon.scores(some), allowed(each)) for each, some in zip(words, terms, strict=True)
        ]
        if self.shared is not None:
            for i, view in enumerate(views):
                view.shared = await self._shared_logits(self.shared, vectors[i], view.words)
        marks.append(("lexical", perf_counter()))
        outcomes: list[Outcome | None] = [None] * len(texts)
        if self._static_first:
            outcomes[:] = await self._outcomes("static", vectors, views)
        marks.append(("score", perf_counter()))
        unsure: Sequence[int] = ()
        more = marks
        if (second := self._second) is not None:
            unsure = tuple([i for i, one in enumerate(outcomes) if not self._settled(one, recollected[i])])
        if second is not None and unsure:
            vectors = await second.encode([readings[i].text for i in unsure])
            more = [*marks, (f"encode_{second.name}", perf_counter())]
            firsts = [outcomes[i] for i in unsure]
            answers = await self._outcomes(second.name, vectors, [views[i] for i in unsure], firsts)
            for i, answer in zip(unsure, answers, strict=True):
                outcomes[i] = answer
            more.append((f"score_{second.name}", perf_counter()))
        found: list[Decision] = []
        times = Times(marks, len(texts))
        slow = times if more is marks else Times(more, len(texts))
        for i, text in enumerate(texts):
            outcome, reading, near, shared = outcomes[i], readings[i], recollected[i], views[i].shared
            assert outcome is not None
            vague = len(terms[i]) < _FEW and outcome.scored.nobody is not None  # "there is an error"
            if outcome.confidence > (most := min(reading.most, USE_ABOVE) if vague else reading.most):
                outcome = outcome.decided(outcome.top, most, outcome.out_of_scope)
            if near is not None:
                outcome = _borne_out(outcome, near)
                near = near if near.agent == outcome.top else None
            agent, confidence = self.agents[outcome.top], round(outcome.confidence, 4)
            said = None if shared is None else float(shared[outcome.top])
            trained = None if self._tiers is None or edit_of(text) else await self.trained_tier(text, every[i])
            took = slow if i in unsure else times
            one = Decision.on_demand(
                Reasons(self._explain, text, reading, outcome, agent, top, said, near, trained, took),
                agent=agent.name,
                confidence=confidence,
                action=action_for(confidence),
                out_of_scope=round(outcome.out_of_scope, 4),
                encoder=outcome.stage,
                cached=False,
                team=(),
            )
            if changes == self._changes and len(text) <= MOST_TEXT:
                self._cache.put((text, top), one)
            found.append(one)
        marks.append(("decide", perf_counter()))
        if more is not marks:
            more.append(marks[-1])
        return found

    async def learn(self, feedback: Feedback) -> None:
        """Take in at once that a text belongs to an agent, or that it does not; the next similar task shows it.

        Raises:
            InputError: the agent is not of this set, or the text cannot be routed.
        """
        self.note(feedback)
        await self._learner.catch_up()

    def note(self, feedback: Feedback) -> None:
        """Queue feedback for each scorer to take in before it next scores. Raises InputError: as `learn`."""
        self.check(feedback)
        self._learner.records.append(feedback)
        self._changed()

    def note_stored(self, feedback: Sequence[Feedback], last: int) -> None:
        """`note` what was stored up to this id, which was looked at when it came; what is of other agents is left."""
        self._learner.records += [one for one in feedback if one.agent in self._number]
        self.noted = last, self.noted[1] + len(feedback)
        self._changed()

    def defer(self) -> None:
        """Leave what was noted and not yet taken in, but for the latest, to a review that comes at once."""
        self._learner.defer()

    def check(self, feedback: Feedback) -> None:
        """Raise InputError unless the feedback could be learnt."""
        checked_text(feedback.text)
        if not isinstance(feedback.agent, str) or feedback.agent not in self._number:
            raise unknown("agent", feedback.agent, self._number)

    async def review(self, pause: Pause = no_pause) -> None:
        """Fit what was learnt once more, from all examples and feedback; `pause` is awaited between slices of it.

        Tasks go on being routed meanwhile.
        """
        self.defer()  # what is fitted now need not be taken in one by one before
        await self.warm(pause)
        await self._learner.review(pause)
        await self.use_shared(self.shared, pause)

    async def use_shared(self, model: SharedModel | None, pause: Pause = no_pause) -> None:
        """Decide with what others' feedback taught from now on; None for what was learnt here alone.

        It adds to every encoder's scores what these do not know, and never makes a decision one to be used unasked.
        """
        model = model if self._static.name in self.weights.stages else None
        fitted = None if model is None else await self._fitted(model, pause)
        self.shared, self._shared_head = model, fitted
        self._changed()

    def agent(self, name: str) -> Agent | None:
        """One of its agents."""
        number = self._number.get(name)
        return None if number is None else self.agents[number]

    @property
    def learnt(self) -> dict[str, tuple[Scorer, int]]:
        """By encoder name, the scorers there are, with how much of the feedback each has taken in."""
        return self._learner.learnt

    async def trained_tier(self, text: str, static: Array | None = None) -> Tier | None:
        """What a trained difficulty says of a task; None without one."""
        worth = await self.trained_worth(text, static)
        return None if worth is None else tier_by(worth)

    async def trained_worth(self, text: str, static: Array | None = None) -> float | None:
        """`TrainedTiers.worth` of a task; None without a trained difficulty."""
        if self._tiers is None:
            return None
        if self._contextual is None or self._tiers.difficulty.encoder == "static":
            return self._tiers.worth(text, self._static.encode_one(text) if static is None else static)
        return self._tiers.worth(text, (await self._contextual.encode([text]))[0])

    async def raw_confidence(self, text: str) -> float:
        """The top softmax probability before any calibration, to compare calibrations with."""
        view = self._learner.view(checked_text(text))
        encoder = self._second or self._static
        vector = (await encoder.encode([text]))[0]
        return float(softmax((await self.scorer(encoder.name)).score(vector, view).logits).max())

    @property
    def stats(self) -> dict[str, int]:
        """Counts of the decision cache, of feedback, and of confirmed tasks that near-duplicates are answered from."""
        remembered = 0 if self._recollection is None else len(self._recollection)
        return {
            "cache_hits": self._cache.hits,
            "cache_misses": self._cache.misses,
            "feedback": len(self._learner.records),
            "remembered": remembered,
        }

    async def warm(self, pause: Pause = no_pause) -> None:
        """Build all that a route would have to wait for, `pause` awaited between slices of the work."""
        self._reader.warm()
        if self._static_first:
            await self.scorer("static", pause)
        if self._second is not None:
            await self.scorer(self._second.name, pause)
        if self.shared is not None and self._shared_head is None:
            await self.use_shared(self.shared, pause)

    @property
    def anew(self) -> bool:
        """Whether a scorer was built from nothing, which takes long where there are many agents."""
        return self._learner.anew

    async def begin(self, before: PrebuiltScorers | None, pause: Pause = no_pause) -> bool:
        """Decide before the agents are fitted: by their texts, and by what `before` knows of those among them.

        Another router has to take over when that is done. Returns False where little has to be fitted.
        """
        name = self._static.name
        if self._learner.quick(name):
            return False
        bases = {} if before is None else before.bases(self.agents, (name,), few=False)
        await self._learner.begin(name, bases.get(name), pause)
        self._reader.warm()
        return True

    async def scorer(self, name: str, pause: Pause = no_pause) -> Scorer:
        """The scorer of an encoder, built when first asked for, with all feedback taken in."""
        return await self._learner.scorer(name, pause)

    @property
    def _static_first(self) -> bool:
        return self.mode in ("cascade", self._static.name)

    @property
    def _second(self) -> Encoder | None:
        """The contextual encoder, where it is to be asked at all."""
        return None if self.mode == self._static.name else self._contextual

    async def _shared_logits(self, model: SharedModel, static: Array, words: list[str]) -> Array:
        if self._shared_head is None:
            self._shared_head = await self._fitted(model)
        return self._shared_head.logits(static, words)

    async def _fitted(self, model: SharedModel, pause: Pause = no_pause) -> Head:
        scorer = await self.scorer(self._static.name, pause)
        wordless = TaskView([], np.zeros(len(self.agents), np.float32))
        names = [agent.name for agent in self.agents]
        return await model.fit(names, lambda vector: scorer.score(vector, wordless).logits, pause)

    async def _passage(self, text: str) -> str:
        """The sentence of a long text that most clearly asks for something."""
        scorer = await self.scorer("static")
        best, most, surest = text, -inf, 0.0
        for number, part in enumerate(passages(text)):
            read = self._reader.read(part).text
            view = self._learner.view(read)
            candidates = self._requirements.candidates(view.words)
            scored = scorer.score(self._static.encode_one(read), view)
            (outcome,) = outcomes_of("static", [scored], scorer.fitted, self.weights, [candidates])
            sure = outcome.confidence + (_ASKS if asks(read) else 0)
            outside = min(max(outcome.out_of_scope, 1e-4), 1 - 1e-4)
            clear = sure + _IN_SCOPE * log(1 / outside - 1)
            surest = max(surest, sure)
            if clear > most:
                best, most = part, clear
            if number == _ENDS - 1 and surest >= CONFIRM_FROM:  # people ask first or last
                break
        return best

    def _recollect(self, static: Array) -> Recollected | None:
        """What memory answers to a static vector; what was told is taken in first."""
        if self._recollection is None:
            return None
        records = self._learner.records
        if len(records) > self._recalled:
            news, self._recalled = latest(records[self._recalled :]), len(records)
            vectors = self._static.encode_now([feedback.text for feedback in news])
            self._recollection.add(news, [self._number[feedback.agent] for feedback in news], vectors)
        return self._recollection.find(static)

    def _changed(self) -> None:
        self._changes += 1
        self._cache.clear()

    def _settled(self, outcome: Outcome | None, recollected: Recollected | None) -> bool:
        """Whether the static answer stands: it is sure, and examples have shown what its sureness is worth.

        It stands as well where memory answers for it, as it does for a task that was confirmed. On agents without
        examples the static encoder's 0.9 holds in 87 % only (manifest.json, router.npz).
        """
        if outcome is None:
            return False
        if recollected is not None and recollected.confidence >= _SETTLED:
            return True
        fitted = self._learner.scorers["static"].fitted
        return outcome.confidence >= _SETTLED and (fitted.calibration is not None or fitted.prior is not None)

    async def _outcomes(
        self, name: str, vectors: Vectors, views: Sequence[TaskView], firsts: Sequence[Outcome | None] = ()
    ) -> list[Outcome]:
        """What an encoder says of tasks by its vectors (n, dim), after what the static one said first."""
        scorer = self._learner.ready(name) or await self.scorer(name)
        scored, fitted = scorer.score_many(vectors, views), scorer.fitted
        if self._votes is not None and self._votes.version and name == self._votes.encoder:
            for i, one in enumerate(scored):
                self._add_votes(one, self._votes.votes(vectors[i]))
        candidates = [view.candidates for view in views]
        local = outcomes_of(name, scored, fitted, self.weights, candidates, firsts)
        shared = [view.shared for view in views if view.shared is not None]
        if not shared:
            return local
        scored = [one.added(more) for one, more in zip(scored, shared, strict=True)]
        return list(map(restrained, outcomes_of(name, scored, fitted, self.weights, candidates, firsts), local))

    def _add_votes(self, scored: Scored, votes: Mapping[str, float]) -> None:
        for agent, vote in votes.items():
            if (number := self._number.get(agent)) is not None:
                scored.rows[-1, number] += vote


def _borne_out(outcome: Outcome, found: Recollected) -> Outcome:
    """What the scorers say, together with what was confirmed of tasks like it."""
    first = found.agent == outcome.top
    if not first and not found.answers:
        return outcome
    confidence = found.joined(float(outcome.probabilities[found.agent]), first)
    return outcome.decided(found.agent, confidence, 0.0 if found.answers else outcome.out_of_scope)
