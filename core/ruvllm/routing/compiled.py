"""Scorers that were built before, so that a start need not learn them again."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from ruvllm.errors import REBUILD, ArtifactError
from ruvllm.routing.extend import places
from ruvllm.routing.fusion import RouterWeights
from ruvllm.routing.scorer import Basis, Scorer
from ruvllm.types import Agent

__all__ = ["Compiled"]


@dataclass(frozen=True, slots=True)
class Compiled:
    """The scorers of one set, by encoder name."""

    agents: tuple[Agent, ...]
    scorers: dict[str, Scorer]

    @classmethod
    def unpack(cls, agents: tuple[Agent, ...], arrays: Mapping[str, NDArray[Any]], weights: RouterWeights) -> Compiled:
        """From the arrays of `Router.pack` (or those of one encoder), which were made for `agents`.

        Raises:
            ArtifactError: an array is missing.
        """
        scorers = {}
        for name in dict.fromkeys(key.partition(".")[0] for key in arrays if "." in key):
            own = {key.partition(".")[2]: value for key, value in arrays.items() if key.startswith(f"{name}.")}
            try:
                scorers[name] = Scorer.from_arrays(own, weights.stages[name], weights.adapter)
            except KeyError as missing:
                field = f"the built-in agents' {name} arrays"
                raise ArtifactError(f"{field} lack {missing}", field=field, fix=REBUILD) from None
        return cls(agents, scorers)

    def bases(self, agents: Sequence[Agent], encoders: Collection[str]) -> dict[str, Basis]:
        """By encoder name, what to start from for these agents; nothing where they are too different.

        Args:
            encoders: those that the host has.
        """
        moves = places(agents, self.agents)
        if moves is None:
            return {}
        return {name: Basis(scorer, moves) for name, scorer in self.scorers.items() if name in encoders}
