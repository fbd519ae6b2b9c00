"""Which backends answer for a tier, in which order (FEATURES.md R15)."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from ruvllm.errors import ConfigError
from ruvllm.inference.backend import Backend
from ruvllm.inference.breaker import CircuitBreaker
from ruvllm.inference.extractive import Extractive
from ruvllm.inference.ladder import Judge, Ladder, Step
from ruvllm.inference.passages import Passage
from ruvllm.types import Tier

__all__ = ["ACCEPT_ABOVE", "LOCAL_BELOW", "Tiers"]

LOCAL_BELOW = 0.5  # complexity
ACCEPT_ABOVE = 0.7  # confidence


class Tiers:
    """The backends of the tiers, with a circuit breaker each.

    A task of low complexity goes to the small, local backend, and on to the large one if the answer is not sure
    enough. A backend that fails is replaced by the next stronger one that there is, then by the next weaker.

    Args:
        backends: at least one; one backend may serve several tiers.
        judge: how good an answer is, instead of the confidence that backends report; with neither, every answer of a
            backend that does not fail is accepted.
        accept: confidence above which a weaker tier's answer is taken.
        local_below: complexity.
        breaker: makes the breaker of a backend from its name.
        clock: seconds, monotonic.

    Raises:
        ConfigError: there is no backend.
    """

    def __init__(
        self,
        backends: Mapping[Tier, Backend],
        *,
        judge: Judge | None = None,
        accept: float = ACCEPT_ABOVE,
        local_below: float = LOCAL_BELOW,
        breaker: Callable[[str], CircuitBreaker] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if not backends:
            raise ConfigError("there is no backend", field="backends", fix="give one for a tier at least")
        self.backends = {tier: backends[tier] for tier in sorted(backends)}
        self._judge, self._accept, self._local_below, self._clock = judge, accept, local_below, clock
        make = breaker or partial(CircuitBreaker, clock=clock)
        self._orders = {tier: self._order(tier) for tier in Tier}
        # A backend of two tiers that is down is down for both.
        self._breakers = {id(backend): make(backend.name) for backend in self.backends.values()}

    def tier_of(self, complexity: float) -> Tier:
        """Small and local, or large: for a caller whose router names no tier."""
        return Tier.SMALL if complexity < self._local_below else Tier.LARGE

    def at(self, tier: Tier, passages: Sequence[Passage] = (), last_resort: Backend | None = None) -> Ladder:
        """What answers for a tier: a backend that falls back.

        Args:
            passages: for a backend that answers from them; without any it looks for its own.
            last_resort: asked where all others are dead.
        """
        order = self.order(tier)
        steps = []
        for i, one in enumerate(order):
            backend = self.backends[one]
            breaker = self._breakers[id(backend)]
            if passages and isinstance(backend, Extractive):
                backend = backend.over(passages)
            # Only what a stronger one could do better is worth a second answer.
            stronger = any(later > one for later in order[i + 1 :])
            steps.append(Step(backend, breaker, judged=stronger))
        if last_resort is not None:
            steps.append(Step(last_resort, CircuitBreaker(last_resort.name), last_resort=True))
        return Ladder(steps, accept=self._accept, judge=self._judge, clock=self._clock)

    def alone(self, tier: Tier) -> Ladder:
        """The backend of a tier that has one, without another to fall back on, but left alone while it is down."""
        backend = self.backends[tier]
        steps = [Step(backend, self._breakers[id(backend)])]
        return Ladder(steps, accept=self._accept, judge=None, clock=self._clock)

    def order(self, tier: Tier) -> list[Tier]:
        """The tiers that there is a backend for: this one, the stronger ones, then the weaker, the nearest first."""
        return self._orders[tier]

    def _order(self, tier: Tier) -> list[Tier]:
        return sorted(self.backends, key=lambda one: (one < tier, abs(one - tier)))

    def states(self) -> dict[str, str]:
        """Each backend's circuit by the backend's name: "closed", "open" or "half-open"."""
        return {backend.name: self._breakers[id(backend)].state for backend in self.backends.values()}

    async def healthy(self) -> dict[str, bool]:
        """Which backends, by name, have a chance to answer now."""
        distinct = {id(backend): backend for backend in self.backends.values()}
        return {backend.name: await backend.healthy() for backend in distinct.values()}

    def unavailable(self) -> list[str]:
        """Names of the backends that could not answer when they were last asked."""
        return [backend.name for backend in self.backends.values() if self._breakers[id(backend)].failing]

    async def close(self) -> None:
        """Let the backends go."""
        for backend in {id(backend): backend for backend in self.backends.values()}.values():
            await backend.close()
