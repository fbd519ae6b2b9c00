"""Which backend writes an answer, and with which settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ruvllm.errors import InputError
from ruvllm.inference.backend import Backend, Completion, Params, Usage, check_extra
from ruvllm.inference.echo import Echo
from ruvllm.inference.endpoint import Price
from ruvllm.inference.extractive import Extractive
from ruvllm.inference.passages import Passage
from ruvllm.inference.tiers import Tiers
from ruvllm.options import InferenceConfig
from ruvllm.query.responses import Constraints, RoutingInfo, Source
from ruvllm.sizing.fastgrnn import Choice, ModelSize
from ruvllm.types import Tier

__all__ = ["Plan", "Writers", "size_of", "writes"]

_LEAST_TOP_P = 0.05  # below it nothing but the likeliest token is left
_USUAL_ANSWER = 500  # tokens of a turn, where it is to be said what it will cost


@dataclass(frozen=True, slots=True)
class Plan:
    """How a query is to be answered.

    Attributes:
        backend: asked first, and without another after it where it was forced.
        tier: of the backend.
        context: tokens of prompt and answer: wished for, and at most.
        learnt: tokens of context that the model router finds enough; None where it is not asked.
    """

    backend: Backend
    tier: Tier
    forced: bool
    params: Params
    context: tuple[int, int]
    info: RoutingInfo
    learnt: int | None = None

    @property
    def local(self) -> bool:
        """Whether the backend answers from nothing but the sources it is given."""
        return isinstance(self.backend, Extractive)


class Writers:
    """The backends by tier, each replaced by another one when it fails.

    Args:
        tiers: at least one; a tier without a backend takes the next stronger that has, else the next weaker.
        config: settings where neither the caller nor the model router has any.
        memory: answers from sources where every backend is dead; None where nothing shall.
    """

    def __init__(self, tiers: Tiers, config: InferenceConfig, memory: Extractive | None = None) -> None:
        self.tiers, self._config, self._memory = tiers, config, memory

    @property
    def backends(self) -> Mapping[Tier, Backend]:
        """Those there are."""
        return self.tiers.backends

    def plan(
        self,
        tier: Tier,
        pinned: bool,
        choice: Choice | None,
        constraints: Constraints,
        passing: bool = False,
        tokens: int = 0,
    ) -> Plan:
        """For a query.

        Args:
            tier: the router's.
            pinned: whether the agent insists on it.
            choice: the model router's, None where there is none.
            passing: a conversation is passed on: to a server behind a URL goes only what its caller said.
            tokens: of that conversation, about.

        Raises:
            InputError: `force_model` names no backend.
        """
        sure = choice if choice is not None and choice.sure else None
        if sure is not None and not pinned:
            tier = Tier.LARGE if sure.size >= ModelSize.MEDIUM else Tier.SMALL
        forced = constraints.force_model is not None
        used = self._named(constraints.force_model) if constraints.force_model else self.tiers.order(tier)[0]
        if constraints.stay and not forced:
            used = self._settled(used, constraints, tokens)
        backend = self.backends[used]
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
        return Plan(backend, used, forced, params, (wished, most), info, learnt)

    @property
    def local(self) -> bool:
        """Whether no backend ever waits."""
        return all(isinstance(backend, Extractive) for backend in self.backends.values())

    def over(self, plan: Plan, sources: Sequence[Source], whole: bool) -> Backend:
        """What to ask, once it is known what was found: who answers without a model answers from that.

        Args:
            whole: the conversation is sent as the caller has it; then memory does not answer for dead backends.
        """
        if plan.forced and not isinstance(plan.backend, Extractive):
            return self.tiers.alone(plan.tier)
        passages = [Passage(source.text, source.id, source.score, _label(source)) for source in sources]
        if isinstance(plan.backend, Extractive) and (plan.forced or self.local):
            check_extra(plan.params, plan.backend)
            return plan.backend.over(passages)
        spare = None if whole or self._memory is None or self._remembering else self._memory.over(passages)
        return self.tiers.at(plan.tier, passages, spare)

    @property
    def _remembering(self) -> bool:
        """Whether a tier's backend answers from memory anyway."""
        return any(isinstance(backend, Extractive) for backend in self.backends.values())

    def author(self, plan: Plan, completion: Completion) -> tuple[Tier, Backend]:
        """Who gave an answer, and for which tier."""
        named = ((tier, backend) for tier, backend in self.backends.items() if backend.name == completion.backend)
        if self._memory is not None and completion.model == self._memory.model and not self._remembering:
            return Tier.BOOSTER, self._memory
        return next(named, (plan.tier, plan.backend))

    def _settled(self, wanted: Tier, constraints: Constraints, tokens: int) -> Tier:
        """The tier for a conversation's next turn, given the one its question asks for (see `Constraints.stay`)."""
        now = next((tier for tier, one in self.backends.items() if one.name == constraints.stay), None)
        if now is None or tokens > self.backends[now].context:
            return wanted
        if constraints.looping:
            return now
        if wanted >= now:
            return wanted
        answer = constraints.max_tokens or _USUAL_ANSWER
        stays = _price(self.backends[now]).of(Usage(tokens, min(answer, _USUAL_ANSWER), cached_tokens=tokens))
        leaves = _price(self.backends[wanted]).of(Usage(tokens, min(answer, _USUAL_ANSWER)))
        return wanted if leaves < stays else now

    def _named(self, name: str) -> Tier:
        found = (tier for tier, backend in self.backends.items() if name in (backend.model, backend.name))
        if (tier := next(found, None)) is not None:
            return tier
        known = sorted({backend.model for backend in self.backends.values()})
        raise InputError(f"no model {name!r}"[:100], field="force_model", fix=f"use {', '.join(known)}")


def writes(backend: Backend) -> bool:
    """Whether it is a model: what others say is not worth remembering, nor says it anything about models."""
    return not isinstance(backend, Extractive | Echo)


def size_of(tier: Tier, choice: Choice | None) -> ModelSize | None:
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
    """The first that is given."""
    return next((value for value in values if value is not None), None)
