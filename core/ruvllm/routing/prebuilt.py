"""Scorers that were built before, so that a start need not learn them again."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from numpy.typing import NDArray

from ruvllm.agents.catalog import builtin_agents, builtin_digest
from ruvllm.artifacts.host import Host, load_npz
from ruvllm.encoders.families import Family
from ruvllm.errors import REBUILD, ArtifactError
from ruvllm.lazy_dataclass import dataclass
from ruvllm.routing.extend import places
from ruvllm.routing.fusion import RouterWeights
from ruvllm.routing.scorer import Basis, Scorer
from ruvllm.types import Agent


@dataclass(frozen=True, slots=True)
class PrebuiltScorers:
    """The scorers of one set of agents, by encoder name."""

    agents: tuple[Agent, ...]
    scorers: dict[str, Scorer]

    @classmethod
    def unpack(
        cls, agents: tuple[Agent, ...], arrays: Mapping[str, NDArray[Any]], weights: RouterWeights
    ) -> PrebuiltScorers:
        """From arrays that models/recipes/builtin.py made for `agents`. Raises ArtifactError: an array is missing."""
        scorers = {}
        for name in dict.fromkeys(key.partition(".")[0] for key in arrays if "." in key):
            part = {key.partition(".")[2]: value for key, value in arrays.items() if key.startswith(f"{name}.")}
            try:
                scorers[name] = Scorer.from_arrays(part, weights.stages[name], weights.adapter)
            except KeyError as missing:
                field = f"the built-in agents' {name} arrays"
                raise ArtifactError(f"{field} lack {missing}", field=field, fix=REBUILD) from None
        return cls(agents, scorers)

    def bases(self, agents: Sequence[Agent], encoders: Collection[str], few: bool = True) -> dict[str, Basis]:
        """By encoder name, what to start from for these agents; nothing where they are too different.

        Args:
            encoders: those that the host has.
            few: whether many new agents are too different.
        """
        moves = places(agents, self.agents, few)
        if moves is None:
            return {}
        return {name: Basis(scorer, moves) for name, scorer in self.scorers.items() if name in encoders}


class RouterArtifacts:
    """What was trained for routing and comes with ruvllm, each part read once."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self._weights: dict[str, RouterWeights] = {}
        self._builtin: dict[tuple[str, ...], PrebuiltScorers] = {}
        self.encoder_sets: dict[str, Any] = {}  # of `routing.encoders`, which is above this module

    def weights(self, family: Family) -> RouterWeights:
        """The router's weights for a family of encoders. Raises ArtifactError: they are missing or damaged."""
        if family.name not in self._weights:
            name = family.artifact("router.npz")
            self._weights[family.name] = RouterWeights.from_arrays(load_npz(self.host.artifact(name), name), name)
        return self._weights[family.name]

    def scorers(
        self, agents: Sequence[Agent], artifacts: Sequence[str], weights: RouterWeights
    ) -> PrebuiltScorers | None:
        """The built-in agents' scorers, where `agents` are those or little else, and the artifacts are of today's.

        Args:
            artifacts: names of those to read.
        """
        if places(agents, builtin_agents()) is None:
            return None
        if (key := tuple(artifacts)) not in self._builtin:
            found: dict[str, NDArray[Any]] = {}
            for name in artifacts:
                arrays = load_npz(self.host.artifact(name), name)
                if str(arrays.pop("digest", None)) != builtin_digest():
                    return None
                found |= arrays
            self._builtin[key] = PrebuiltScorers.unpack(builtin_agents(), found, weights)
        shared = self._builtin[key]
        return PrebuiltScorers(shared.agents, {name: one.copy() for name, one in shared.scorers.items()})
