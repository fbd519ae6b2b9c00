"""Learning together without sharing texts (rows F1-F5 of the feature list).

Agents send updates (`wire`): sums over groups of texts, and a low-rank adapter. From these a coordinator
fits the routing head that it would fit on the texts, so agents whose routes are disjoint, and whose own
softmaxes could not be compared, still make one model.

Topologies: in a star a hub aggregates and gives the model back. In a ring each learner hands on what its
neighbour told it, and in "peer" each tells some others at random (gossip): there every learner is its own
coordinator, no hub sees all, and those that heard the same updates compute the same model.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from ruvllm.errors import InputError
from ruvllm.learning.federated.coordinator import Accepted, FederatedCoordinator, FederatedStats
from ruvllm.learning.federated.ephemeral import EphemeralAgent
from ruvllm.learning.federated.groups import Privacy
from ruvllm.learning.federated.wire import SharedModel, Update

__all__ = [
    "Accepted",
    "EphemeralAgent",
    "FederatedCoordinator",
    "FederatedManager",
    "FederatedStats",
    "FederatedTopology",
    "Privacy",
    "Round",
    "SharedModel",
    "Update",
]

FederatedTopology = Literal["star", "ring", "peer"]
_TOPOLOGIES = ("star", "ring", "peer")


@dataclass(frozen=True, slots=True)
class Round:
    """What one round moved.

    Attributes:
        messages: sent from one place to another; models given back by a hub included.
        sent_bytes: of all messages together.
        learners: those whose model is new.
        complete: whether every learner has heard of every update so far.
    """

    number: int
    messages: int
    sent_bytes: int
    learners: int
    complete: bool


class FederatedManager:
    """Rounds over registered learners.

    Args:
        topology: "star", "ring" or "peer".
        fanout: to how many others a peer tells what it knows in a round.
        robust, quality: as for the coordinator.
    """

    def __init__(
        self,
        dim: int,
        topology: FederatedTopology = "star",
        *,
        fanout: int = 2,
        seed: int = 0,
        robust: str = "trimmed",
        quality: float = 0.4,
    ) -> None:
        if topology not in _TOPOLOGIES:
            raise InputError(f"no topology {topology!r}", field="topology", fix=f"use one of {', '.join(_TOPOLOGIES)}")
        if fanout < 1:
            raise InputError(f"fanout is {fanout}", field="fanout", fix="use 1 or more")
        self.dim, self.topology = dim, topology
        self.learners: dict[str, EphemeralAgent] = {}
        self.hub = self._coordinator(robust, quality)
        self._robust, self._quality = robust, quality
        self._nodes: dict[str, FederatedCoordinator] = {}
        self._heard: dict[str, dict[tuple[str, int], bytes]] = {}
        self._fanout, self._random, self._rounds = fanout, np.random.default_rng(seed), 0

    def _coordinator(self, robust: str, quality: float) -> FederatedCoordinator:
        return FederatedCoordinator(self.dim, robust=robust, quality=quality, every=1 << 30)

    def register(self, learner: EphemeralAgent) -> None:
        """Let it take part from the next round on. Raises InputError: its name is taken, or it is of another width."""
        if learner.agent_id in self.learners:
            message = f"a learner {learner.agent_id!r} is registered"
            raise InputError(message, field="learner", fix="give each its own id")
        if learner.dim != self.dim:
            message = f"a learner of {learner.dim} dimensions, not {self.dim}"
            raise InputError(message, field="learner", fix="use one encoder on all agents")
        self.learners[learner.agent_id] = learner
        self._nodes[learner.agent_id] = self._coordinator(self._robust, self._quality)
        self._heard[learner.agent_id] = {}

    def coordinator(self, agent_id: str = "") -> FederatedCoordinator:
        """The hub of a star, a learner's own otherwise. Raises InputError: no such learner."""
        if self.topology == "star":
            return self.hub
        if agent_id not in self._nodes:
            raise InputError(f"no learner {agent_id!r}", field="agent_id", fix="register it first")
        return self._nodes[agent_id]

    def run_round(self) -> Round:
        """Every learner exports; what is sent, where, and how far, is the topology's.

        A ring hands everything once around; peers may need several rounds until all have heard of all. Both keep
        the updates, since a learner that comes late asks for all of them.
        """
        if not self.learners:
            raise InputError("no learner is registered", field="learners", fix="register some first")
        self._rounds += 1
        exports = {name: learner.export_state() for name, learner in self.learners.items()}
        if self.topology == "star":
            return self._star(exports)
        for name, export in exports.items():
            self._heard[name][name, export.serial] = export.to_bytes()
        names, messages, moved = list(self.learners), 0, 0
        for _ in range(len(names) - 1 if self.topology == "ring" else 1):
            before = {name: dict(self._heard[name]) for name in names}
            for place, name in enumerate(names):
                for other in self._listeners(names, place):
                    size = self._tell(before[name], other)
                    messages, moved = messages + (size > 0), moved + size
        return self._settled(messages, moved)

    def _listeners(self, names: list[str], place: int) -> list[str]:
        """Whom a learner tells what the others have not heard of, all at the same time: its neighbour, or some."""
        others = names[place + 1 :] + names[:place]
        if self.topology == "ring":
            return others[:1]
        return [others[i] for i in self._random.permutation(len(others))[: self._fanout].tolist()]

    def _star(self, exports: dict[str, Update]) -> Round:
        sent = [export.to_bytes() for export in exports.values()]
        for data in sent:
            self.hub.aggregate(data)
        self.hub.consolidate()
        back = self.hub.model().to_bytes()
        for learner in self.learners.values():
            learner.adopt(SharedModel.from_bytes(back))
        moved = sum(map(len, sent)) + len(back) * len(self.learners)
        return Round(self._rounds, 2 * len(sent), moved, len(self.learners), complete=True)

    def _tell(self, held: dict[tuple[str, int], bytes], other: str) -> int:
        """Bytes sent: the updates that `other` lacks."""
        heard = self._heard[other]
        missing = {key: data for key, data in held.items() if key not in heard}
        heard.update(missing)
        return sum(map(len, missing.values()))

    def _settled(self, messages: int, moved: int) -> Round:
        """Every learner makes its own model of what is new to it."""
        changed = 0
        for name, learner in self.learners.items():
            node = self._nodes[name]
            fresh = [node.aggregate(data) for data in self._heard[name].values()]
            if all(accepted.again for accepted in fresh):
                continue
            node.consolidate()
            learner.adopt(node.model())
            changed += 1
        every = {key for heard in self._heard.values() for key in heard}
        complete = all(len(heard) == len(every) for heard in self._heard.values())
        return Round(self._rounds, messages, moved, changed, complete)
