"""Which backend writes an answer, and with which settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from ruvllm.errors import ConfigError, InputError
from ruvllm.inference.backend import Backend, Params
from ruvllm.inference.echo import Echo
from ruvllm.inference.extractive import Extractive
from ruvllm.inference.passages import Passage
from ruvllm.options import InferenceConfig
from ruvllm.responses import Constraints, RoutingInfo, Source
from ruvllm.routing.fastgrnn import Choice, ModelSize
from ruvllm.types import Tier

__all__ = ["Plan", "Writers"]

_LEAST_TOP_P = 0.05  # below it nothing but the likeliest token is left


@dataclass(frozen=True, slots=True)
class Plan:
    """How a query is to be answered.

    Attributes:
        tier: of the backend.
        local: it answers at once, from the sources it is given.
        model: whether a model answers; else there is nothing to remember or to learn about sizes.
        context: tokens of prompt and answer: wished for, and at most.
        size: of the model, for the model router to learn from.
    """

    backend: Backend
    tier: Tier
    local: bool
    model: bool
    params: Params
    context: tuple[int, int]
    info: RoutingInfo
    size: ModelSize | None


class Writers:
    """The backends by tier.

    Args:
        backends: at least one; a tier without one takes the next larger that has, else the next smaller.
        config: settings where neither the caller nor the model router has any.

    Raises:
        ConfigError: there is no backend.
    """

    def __init__(self, backends: Mapping[Tier, Backend], config: InferenceConfig) -> None:
        if not backends:
            raise ConfigError("there is no backend", field="backends", fix="give one, or leave `backends` out")
        self.backends, self._config = dict(backends), config

    def plan(self, tier: Tier, pinned: bool, choice: Choice | None, constraints: Constraints) -> Plan:
        """For a query.

        Args:
            tier: the router's.
            pinned: whether the agent insists on it.
            choice: the model router's, None where there is none.

        Raises:
            InputError: `force_model` names no backend.
        """
        sure = choice if choice is not None and choice.sure else None
        if sure is not None and not pinned:
            tier = Tier.LARGE if sure.size >= ModelSize.MEDIUM else Tier.SMALL
        used, backend = self._named(constraints.force_model) if constraints.force_model else self._nearest(tier)
        config = self._config
        temperature = _first(constraints.temperature, sure.temperature if sure else None, config.temperature)
        top_p = _first(constraints.top_p, max(sure.top_p, _LEAST_TOP_P) if sure else None, config.top_p)
        most = min(backend.context, constraints.force_context or backend.context)
        wished = min(most, constraints.force_context or (sure.context if sure else config.context))
        params = Params(
            max_tokens=constraints.max_tokens or config.max_tokens,
            temperature=temperature,
            top_p=top_p,
            top_k=config.top_k,
            repeat_penalty=config.repeat_penalty,
            stop=constraints.stop,
            seed=constraints.seed,
        )
        info = RoutingInfo(backend.model, wished, temperature, top_p, backend.name, sure is not None)
        own = not isinstance(backend, Extractive | Echo)
        return Plan(backend, used, is_local(backend), own, params, (wished, most), info, _size(used, choice))

    @property
    def local(self) -> bool:
        """Whether no backend ever waits."""
        return all(map(is_local, self.backends.values()))

    async def close(self) -> None:
        """Let the backends go."""
        for backend in {id(backend): backend for backend in self.backends.values()}.values():
            await backend.close()

    @staticmethod
    def over(plan: Plan, sources: Sequence[Source]) -> Plan:
        """The plan, once it is known what was found: who answers without a model answers from that."""
        if not isinstance(plan.backend, Extractive):
            return plan
        passages = [Passage(source.text, source.id, source.score, _label(source)) for source in sources]
        return replace(plan, backend=plan.backend.over(passages))

    def _nearest(self, tier: Tier) -> tuple[Tier, Backend]:
        order = sorted(self.backends, key=lambda other: (other < tier, abs(other - tier)))
        return order[0], self.backends[order[0]]

    def _named(self, name: str) -> tuple[Tier, Backend]:
        for tier, backend in self.backends.items():
            if name in (backend.model, backend.name):
                return tier, backend
        known = sorted({backend.model for backend in self.backends.values()})
        raise InputError(f"no model {name!r}"[:100], field="force_model", fix=f"use {', '.join(known)}")


def is_local(backend: Backend) -> bool:
    """Whether it answers at once, in this process and without a model."""
    return isinstance(backend, Extractive)


def _label(source: Source) -> str:
    """What its metadata call its origin."""
    return next((str(source.metadata[key]) for key in ("source", "title", "path") if key in source.metadata), "")


def _first(*values: float | None) -> float:
    """The first that is given."""
    return next(value for value in values if value is not None)


def _size(tier: Tier, choice: Choice | None) -> ModelSize | None:
    """What the model router calls a backend of a tier: its own choice where that is one of the tier's sizes."""
    if tier == Tier.BOOSTER:
        return None
    sizes = (ModelSize.MEDIUM, ModelSize.LARGE) if tier == Tier.LARGE else (ModelSize.TINY, ModelSize.SMALL)
    return choice.size if choice is not None and choice.size in sizes else sizes[1]
