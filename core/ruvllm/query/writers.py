"""Which backend writes an answer, and with which settings."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass

from ruvllm.inference.backend import Backend, Chunk, Completion, Message, Params, Streaming, Usage, check_extra
from ruvllm.inference.echo import Echo
from ruvllm.inference.endpoint import Price
from ruvllm.inference.extractive import Extractive
from ruvllm.inference.passages import Passage
from ruvllm.inference.tiers import Tiers
from ruvllm.options import InferenceConfig
from ruvllm.query.responses import Constraints, RoutingInfo, Source
from ruvllm.query.retrieval import Retrieved
from ruvllm.sizing.fastgrnn import ModelSize, SizeChoice
from ruvllm.sizing.tiers import CATALOG, TierProfile
from ruvllm.types import Choice, Tier

_TYPICAL = Usage(500, 250)  # tokens of a prompt and its answer, that prices are compared for
_AHEAD = 3  # requests that a question takes where tools are called, before a conversation may move again
_USUAL = 10_000  # tokens of a conversation for which a trained difficulty's prices hold as they are
_LEAST_TOP_P = 0.05  # below it nothing but the likeliest token is left


@dataclass(frozen=True, slots=True)
class Plan:
    """How a query is to be answered.

    Attributes:
        backend: asked first, and without another after it where the caller insists on it.
        context: tokens of prompt and answer: wished for, and at most.
        learnt: tokens of context that the model router finds enough; None where it is not asked.
    """

    backend: Backend
    choice: Choice
    params: Params
    context: tuple[int, int]
    info: RoutingInfo
    learnt: int | None = None

    @property
    def tier(self) -> Tier:
        """Of the backend."""
        return self.choice.tier

    @property
    def forced(self) -> bool:
        """Whether the caller insists on it."""
        return self.choice.by == "request"

    @property
    def local(self) -> bool:
        """Whether the backend answers from nothing but the sources it is given."""
        return isinstance(self.backend, Extractive)


class Editor(Streaming):
    """A backend that gives what a program has made of the code in a prompt: no model, and $0."""

    def __init__(self, text: str) -> None:
        self.name, self.model, self.context, self._text = "edit", "edit", 1_000_000_000, text

    async def stream(self, messages: Sequence[Message], params: Params) -> AsyncGenerator[Chunk, None]:
        """It in one piece."""
        yield Chunk(self._text, "stop", Usage(), confidence=1.0)


class Writers:
    """The backends by tier, each replaced by another one when it fails.

    Args:
        tiers: at least one; a tier without a backend takes the next stronger that has, else the next weaker.
        memory: answers from sources where every backend is dead; None where nothing shall.
    """

    def __init__(self, tiers: Tiers, config: InferenceConfig, memory: Extractive | None = None) -> None:
        self.tiers, self._config, self._memory = tiers, config, memory

    @property
    def backends(self) -> Mapping[Tier, Backend]:
        """Those there are."""
        return self.tiers.backends

    def profiles(self) -> list[TierProfile]:
        """What answers for each tier, and what an answer takes as far as anybody stated it.

        A backend whose price is not configured counts as free; one on this machine without a model takes a moment.
        """
        rows = []
        for tier, backend in self.backends.items():
            endpoint = getattr(backend, "endpoint", None)
            cost = endpoint.price.of(_TYPICAL) if endpoint is not None else 0.0
            latency = CATALOG[tier - 1].latency if writes(backend) else 1.0
            rows.append(TierProfile(tier, cost, latency, backend.name, backend.model, backend.context))
        return rows

    def plan(
        self,
        choice: Choice,
        size: SizeChoice | None,
        constraints: Constraints,
        *,
        passing: bool = False,
        editor: Editor | None = None,
    ) -> Plan:
        """For a query.

        Args:
            size: the network's, of context and sampling; None where there is none.
            passing: a conversation is passed on: to a server behind a URL goes only what its caller said.
            editor: answers in the place of the tier's backend.
        """
        sure = size if size is not None and size.sure else None
        backend = editor or self.backends[choice.tier]
        most = min(backend.context, constraints.force_context or backend.context)
        wished = min(most, constraints.force_context or self._config.context)
        learnt = min(most, sure.context) if sure and not constraints.force_context else None
        chosen, config = sure is not None, self._config
        if passing and getattr(backend, "passes", False):
            sure, config = None, InferenceConfig()
        temperature = _first(constraints.temperature, sure.temperature if sure else None, config.temperature)
        top_p = _first(constraints.top_p, max(sure.top_p, _LEAST_TOP_P) if sure else None, config.top_p)
        params = Params(
            max_tokens=constraints.max_tokens or config.max_tokens,
            temperature=temperature,
            top_p=top_p,
            top_k=config.top_k if constraints.top_k is None else constraints.top_k,
            repeat_penalty=_first(constraints.repeat_penalty, config.repeat_penalty),
            stop=constraints.stop,
            seed=constraints.seed,
            min_p=constraints.min_p,
            extra=constraints.extra,
            api=constraints.api,
            headers=constraints.headers,
        )
        info = RoutingInfo(backend.model, learnt or wished, temperature, top_p, backend.name, chosen)
        return Plan(backend, choice, params, (wished, most), info, learnt)

    @property
    def local(self) -> bool:
        """Whether no backend ever waits."""
        return all(isinstance(backend, Extractive) for backend in self.backends.values())

    def over(self, plan: Plan, sources: Sequence[Source], found: Retrieved, whole: bool) -> Backend:
        """What to ask, once it is known what was found: who answers without a model answers from that.

        Args:
            whole: the conversation is sent as the caller has it; then memory does not answer for dead backends.
        """
        if isinstance(plan.backend, Editor):
            return plan.backend
        if plan.forced and not isinstance(plan.backend, Extractive):
            return self.tiers.alone(plan.tier)
        likeness = found.likeness()
        passages = [
            Passage(one.text, one.id, likeness.get(one.id, one.score), _label(one), found.odds) for one in sources
        ]
        if isinstance(plan.backend, Extractive) and (plan.forced or self.local):
            check_extra(plan.params, plan.backend)
            return plan.backend.over(passages)
        spare = None if whole or self._memory is None or self.remember else self._memory.over(passages)
        return self.tiers.at(plan.tier, passages, spare, plan.choice.others)

    @property
    def remember(self) -> bool:
        """Whether a tier's backend answers from memory anyway."""
        return any(isinstance(backend, Extractive) for backend in self.backends.values())

    def author(self, plan: Plan, completion: Completion) -> tuple[Tier, Backend]:
        """Who gave an answer, and for which tier."""
        named = ((tier, backend) for tier, backend in self.backends.items() if backend.name == completion.backend)
        if self._memory is not None and completion.model == self._memory.model and not self.remember:
            return Tier.BOOSTER, self._memory
        return next(named, (plan.tier, plan.backend))

    def dearer(self, constraints: Constraints, tokens: int) -> Callable[[str, str], bool]:
        """Whether leaving one backend for another, by their names, costs more than it saves in the requests ahead.

        Args:
            tokens: of the conversation, which the first has cached, and the other has to read.
        """
        answer = min(constraints.max_tokens or _TYPICAL.completion_tokens, _TYPICAL.completion_tokens)
        prices = {one.name: _price(one) for one in self.backends.values()}

        def compare(now: str, other: str) -> bool:
            read = Usage(tokens, answer, cached_tokens=tokens)
            goes = prices[other].of(Usage(tokens, answer)) + (_AHEAD - 1) * prices[other].of(read)
            return goes >= _AHEAD * prices[now].of(read)

        return compare

    def extra(self, constraints: Constraints, tokens: int) -> float | None:
        """What the large tier's next requests of a passed-on conversation cost more than the small one's.

        In units of what they would cost more of a conversation of usual length that neither has read. None for a
        conversation that is with nobody yet, or where the large tier costs no more.

        Args:
            tokens: of the conversation, which the backend that it is with has cached.
        """
        low, high = (self.tiers.backends[self.tiers.order(tier)[0]] for tier in (Tier.SMALL, Tier.LARGE))
        answer = min(constraints.max_tokens or _TYPICAL.completion_tokens, _TYPICAL.completion_tokens)

        def ahead(backend: Backend, tokens: int, answer: int, cached: bool = False) -> float:
            price = _price(backend)
            read = price.of(Usage(tokens, answer, cached_tokens=tokens))
            return (read if cached else price.of(Usage(tokens, answer))) + (_AHEAD - 1) * read

        said = _TYPICAL.completion_tokens
        usual = ahead(high, _USUAL, said) - ahead(low, _USUAL, said)
        if not constraints.stay or usual <= 0:
            return None
        costs = (ahead(one, tokens, answer, cached=one.name == constraints.stay) for one in (high, low))
        return (next(costs) - next(costs)) / usual


def writes(backend: Backend) -> bool:
    """Whether it is a model: what others say is not worth remembering, nor says it anything about models."""
    return not isinstance(backend, Extractive | Echo | Editor)


def size_of(tier: Tier, choice: SizeChoice | None) -> ModelSize | None:
    """What the model router calls a model of a tier: its own choice where that is one of the tier's sizes."""
    if tier == Tier.BOOSTER:
        return None
    sizes = (ModelSize.MEDIUM, ModelSize.LARGE) if tier == Tier.LARGE else (ModelSize.TINY, ModelSize.SMALL)
    return choice.size if choice is not None and choice.size in sizes else sizes[1]


def _price(backend: Backend) -> Price:
    price = getattr(backend, "price", None)
    return price if isinstance(price, Price) else Price()


def _label(source: Source) -> str:
    """What its metadata call its origin."""
    return next((str(source.metadata[key]) for key in ("source", "title", "path") if key in source.metadata), "")


def _first(*values: float | None) -> float | None:
    return next((value for value in values if value is not None), None)
