"""The choice of a model's strength, as it is asked for everywhere, and what it learns from outcomes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from ruvllm.encoders.protocol import Encoder
from ruvllm.sizing.fastgrnn import ModelSize
from ruvllm.sizing.ledger import SizeOutcomes
from ruvllm.sizing.selector import BackendProfile, LLMOrchestrator
from ruvllm.sizing.tiers import CATALOG, Advice, Features, Limits, TierProfile, choose
from ruvllm.state.names import BACKENDS, BACKENDS_UNREAD, SERVED, SpaceScopedStore
from ruvllm.types import Choice, Tier

_QUALITY = {Tier.BOOSTER: 0.5, Tier.SMALL: 0.75, Tier.LARGE: 0.85}  # of answers, before any is rated
_LATEST = 0.1  # weight of the latest answer in what one is expected to take


Array = NDArray[Any]


class Fresh(NamedTuple):
    """Outcomes of one backend that have not travelled.

    Attributes:
        source: whose, with the list that it is in; total: outcomes of it in all.
        model: that answers, by the name that other installations may have for it too.
        vectors: (n, shared_width(dim)); qualities: (n,).
    """

    source: str
    total: int
    model: str
    vectors: Array
    qualities: Array


class Experience(Protocol):
    """Outcomes of similar prompts, such as `Learners`."""

    def model_outcomes(self, vector: NDArray[np.float32]) -> Mapping[str, tuple[float, float]]:
        """How many outcomes there are of each model for prompts like it, and their mean quality; none where none is."""
        ...

    async def observe_model(self, vector: NDArray[np.float32], model: str, quality: float) -> None:
        """How good a model's answer to a prompt (dim,) was, 0 to 1."""
        ...


class ModelChooser:
    """Chooses by the one order of precedence (`tiers.choose`), and learns from outcomes.

    It asks two voices of what was learnt: outcomes of the configured backends (`LLMOrchestrator.preferred`), and the
    network of sizes, whose word is in the features. Beside them it holds the orchestrator of backends that somebody
    named, whose outcomes count for the configured ones where their names are the same.

    Args:
        store: the part of the state file for its vectors.
        experience: outcomes of similar prompts by model, which are called like their backends or are those of
            the profiles; None where nobody remembers any.

    Attributes:
        profiles: what answers for each tier, with cost and latency as measured.
        orchestrator: of named backends; None before `make`.
    """

    def __init__(self, encoder: Encoder, store: SpaceScopedStore, experience: Experience | None = None) -> None:
        self._encoder, self._store, self._experience, self._learning = encoder, store, experience, True
        self.profiles: Sequence[TierProfile] = CATALOG
        self.orchestrator: LLMOrchestrator | None = None
        self._served: LLMOrchestrator | None = None  # of the configured backends
        self._loaded = False
        self._saved = dict[str, int]()  # answers that each had when it was saved
        self._pulled: Sequence[tuple[str, Array, float]] = ()

    def serve(self, profiles: Sequence[TierProfile], learning: bool) -> None:
        """Choose among these from now on.

        Args:
            profiles: of the configured backends, at least one, in the order of their tiers.
            learning: whether outcomes of them shall change anything.
        """
        if [one.backend for one in profiles] != [one.backend for one in self.profiles]:
            self._served, self._loaded = None, False
        self.profiles, self._learning = profiles, learning

    def choose(self, features: Features, limits: Limits | None = None) -> Choice:
        """The tier for a task. Raises InputError: as `tiers.choose`."""
        self._learnt()
        return choose(features, limits, self.profiles, (self._of_outcomes, _of_sizes))

    def measure(self, tier: Tier, cost: float, latency: float) -> None:
        """What an answer of a tier's backend took: US dollars and milliseconds."""
        self._learnt()
        self.profiles = [
            replace(
                one,
                cost=one.cost + (cost - one.cost) * _LATEST,
                latency=one.latency + (latency - one.latency) * _LATEST,
            )
            if one.tier == tier
            else one
            for one in self.profiles
        ]

    def observe(self, backend: str, text: str, vector: NDArray[np.float32], quality: float) -> bool:
        """How good an answer of a configured backend was, 0 to 1; whether it is learnt from.

        Args:
            backend: its name, or its model's.
            text, vector: the prompt, and float32 (dim,) of it.
        """
        learnt = self._learnt(make=True)
        name = next((one.backend for one in self.profiles if backend in (one.backend, one.model)), backend)
        if learnt is None or name not in learnt.names:
            return False
        number = learnt.names.index(name)
        learnt.bandit.learn(number, learnt.inputs(text, vector), quality)
        learnt.ledger.add(number, quality, None, None)
        return True

    def make(
        self,
        backends: Sequence[BackendProfile],
        budget: float | None,
        sizes: SizeOutcomes | None = None,
        **settings: Any,
    ) -> LLMOrchestrator:
        """An orchestrator of named backends, with what an earlier one of the same backends learnt.

        What cannot be read is set aside in the file, and learnt anew.

        Args:
            sizes: takes the same outcomes to the network of sizes.

        Raises:
            InputError: as `LLMOrchestrator`.
        """
        if self._experience is not None:
            settings |= {"similar": self._experience.model_outcomes, "observe": self._experience.observe_model}
        made = LLMOrchestrator(backends, self._encoder, budget=budget, sizes=sizes, **settings)
        self.save()
        self._resume(made, BACKENDS)
        self._give(made)
        self.orchestrator = made
        return made

    def since(self, counts: Mapping[str, int]) -> list[Fresh]:
        """What outcomes taught, but for so many of each backend, by the names that `Fresh.source` says."""
        found = []
        models = {one.backend: one.model for one in self.profiles if one.model}
        for name in (BACKENDS, SERVED):
            if (learnt := self._stored(name)) is None:
                continue
            for arm, backend in enumerate(learnt.names):
                source, total = f"{name}/{backend}", int(learnt.bandit.outcomes[arm])
                before = counts.get(source, 0)
                vectors, qualities = learnt.bandit.since(arm, before if before <= total else 0)
                found.append(Fresh(source, total, models.get(backend, backend), vectors, qualities))
        return found

    def pull(self, groups: Sequence[tuple[str, Array, float]]) -> list[str]:
        """Choose by others' outcomes as well, in the place of those pulled before; names of the models here.

        Args:
            groups: a model's name, or a backend's, and what `LLMOrchestrator.pull` takes of it.
        """
        self._pulled = groups
        self._learnt()
        for _, one in self._held():
            self._give(one)
        here = {name for one in self.profiles for name in (one.backend, one.model)}
        return sorted({name for name, _, _ in groups} & here.union(*(one.names for _, one in self._held())))

    def _give(self, made: LLMOrchestrator) -> None:
        if len(self._pulled) or made.bandit.pulled.any():
            named = {one.model: one.backend for one in self.profiles if one.model}
            groups = [(m if m in made.names else named.get(m, m), mean, count) for m, mean, count in self._pulled]
            made.pull(groups)

    def _stored(self, name: str) -> LLMOrchestrator | None:
        """What was learnt under a name, of whatever backends; None where nothing that can be read was."""
        held = dict(self._held()).get(name)
        if held is not None or (data := self._store.load(name)) is None:
            return held
        names = LLMOrchestrator.names_in(data)
        made = LLMOrchestrator([BackendProfile(one, 1.0) for one in names], self._encoder) if len(names) > 1 else None
        return made if made is not None and made.resume(data) else None

    @property
    def changed(self) -> bool:
        """Whether it has learnt something since it was saved."""
        return any(one.ledger.answers != self._saved.get(name, 0) for name, one in self._held())

    def save(self) -> None:
        """Store what was learnt since the last time. Raises StoreError: the file takes nothing."""
        for name, one in self._held():
            if one.ledger.answers != self._saved.get(name, 0):
                if name == SERVED:
                    took = {row.backend: row for row in self.profiles}
                    one.ledger.cost[:] = [took[named].cost for named in one.names]
                    one.ledger.latency[:] = [took[named].latency for named in one.names]
                self._store.save(name, one.to_bytes)
                self._saved[name] = one.ledger.answers

    def stats(self) -> dict[str, Any]:
        """The tiers as measured; and of named backends the orchestrator's dashboard as `selection`."""
        tiers = [
            {"tier": one.tier, "backend": one.backend, "cost": one.cost, "latency_ms": one.latency}
            for one in self.profiles
        ]
        return {"tiers": tiers} | ({} if self.orchestrator is None else {"selection": self.orchestrator.stats()})

    def _held(self) -> list[tuple[str, LLMOrchestrator]]:
        both = ((BACKENDS, self.orchestrator), (SERVED, self._served))
        return [(name, one) for name, one in both if one is not None]

    def _resume(self, made: LLMOrchestrator, name: str) -> bool:
        stored = self._store.load(name)
        same = stored is not None and LLMOrchestrator.names_in(stored) in ([], made.names)
        if stored is not None and same and not made.resume(stored):
            self._store.put(BACKENDS_UNREAD, stored)
        self._saved[name] = made.ledger.answers
        return same

    def _learnt(self, make: bool = False) -> LLMOrchestrator | None:
        """What was learnt of the configured backends; None where there is nothing, or nothing to choose among."""
        if self.orchestrator is not None and {one.backend for one in self.profiles} <= {*self.orchestrator.names}:
            return self.orchestrator
        if self._served is None and self._learning and (make or self._pulled or not self._loaded):
            named = {one.backend: one for one in self.profiles if one.backend}
            stored = None if self._loaded else self._store.load(SERVED)
            self._loaded = True
            if len(named) > 1 and (make or stored is not None or self._pulled):
                rows = [BackendProfile(n, one.cost, one.latency, _QUALITY[one.tier]) for n, one in named.items()]
                self._served = made = LLMOrchestrator(rows, self._encoder, similar=self._of_backends)
                resumed = self._resume(made, SERVED)
                self._give(made)
                if resumed:
                    pairs = zip(made.ledger.cost.tolist(), made.ledger.latency.tolist(), strict=True)
                    took = dict(zip(made.names, pairs, strict=True))
                    self.profiles = [
                        replace(one, cost=took[one.backend][0], latency=took[one.backend][1]) if one.backend else one
                        for one in self.profiles
                    ]
        return self._served

    def _of_backends(self, vector: NDArray[np.float32]) -> dict[str, tuple[float, float]]:
        """Outcomes of similar prompts by the names of backends, whatever their models are called."""
        found = {} if self._experience is None else self._experience.model_outcomes(vector)
        named = {one.model: one.backend for one in self.profiles if one.model}
        return {named.get(name, name): outcomes for name, outcomes in found.items()}

    def _of_outcomes(self, features: Features, profiles: Sequence[TierProfile]) -> Advice | None:
        learnt = self._learnt()
        if learnt is None or features.vector is None:
            return None
        tiers = {one.backend: one for one in profiles if one.backend in learnt.names}
        costs = [one.cost for one in tiers.values()]
        if not any(costs):  # nobody said what they cost: they rise by tier
            costs = [next(row.cost for row in CATALOG if row.tier == one.tier) for one in tiers.values()]
        found = learnt.preferred(learnt.inputs(features.text, features.vector), list(tiers), costs)
        if found is None:
            return None
        name, quality, lead = found
        why = f"by outcomes of such prompts {name} does {quality:.2f}, {lead:.2f} more than the next for its cost"
        return Advice(tiers[name].tier, "outcomes", why)


def _of_sizes(features: Features, _: Sequence[TierProfile]) -> Advice | None:
    size = features.size
    if size is None or not size.sure:
        return None
    tier = Tier.LARGE if size.size >= ModelSize.MEDIUM else Tier.SMALL
    return Advice(tier, "sizes", f"by the conversation so far {size.size.label} do, with {size.confidence:.2f}")
