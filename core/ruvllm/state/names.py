"""What is stored in the state file under which name, and on which encoder's vectors it was learnt.

Names without a vector space hold for all encoders; the others are stored once for each space, through a
`SpaceScopedStore`, so that nothing learnt on one encoder's vectors is ever read under another's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

# Of all encoders.
DECISIONS = "decisions"  # the latest ones, to be given feedback by a later process: routing.decide
DOUBTS = "doubts"  # pairs of memories of which it is not sure that one ends the other: memory.validity
FEDERATED = "federated"  # the server's coordinator: learning.federated
FEDERATED_SENT = "federated-sent"  # what has travelled, and an update on its way: learning.federated.client
JOBS = "loops"  # when each job last ran: jobs
PROFILES = "selector-profiles"  # the page's list of backends: sizing.selector.BackendProfile
PULLED = "federated-pulled"  # learning.federated.wire.SharedModel of a coordinator; empty once it was undone
RELIABILITY = "reliability"  # the page's confidences and what came of them
REPLICA = "replica"  # of nodes that replicate each other: who this is, and how far the log was applied: state.outbox
REQUESTS = "requests"  # the latest answered ones, to be rated by a later process: query.requests
RESTORED = "restored"  # another value whenever another process put a whole state file in the place of this one
REVIEWED = "reviewed"  # id of the last feedback that a review of the router has seen
SAVINGS = "savings"  # of the server: what answers cost by day, agent and key
TRANSCRIPTS = "transcripts"  # digests of the asks of coding agents' sessions that were learnt from: cli.report
TIERS = "tiers"  # sizing.trained.TrainedTiers, which names its own encoder
USAGE = "usage"  # of the server: requests by day and key
UNSCOPED = frozenset(
    {DECISIONS, DOUBTS, FEDERATED, FEDERATED_SENT, JOBS, PROFILES, PULLED, RELIABILITY, REPLICA, REQUESTS, RESTORED,
     REVIEWED, SAVINGS, TIERS, TRANSCRIPTS, USAGE}
)  # fmt: skip

# Of one vector space each.
ADAPTERS = "adaptive"  # learning.adaptive, and its domains below it as adaptive/<domain>
ATTENTION = "attention"  # memory.attention
ATTENTION_REVIEWED = "attention-reviewed"  # id of the last rated search that a review has seen
BACKENDS = "orchestrator"  # sizing.selector.LLMOrchestrator, in the page and elsewhere
BACKENDS_UNREAD = "orchestrator-unread"  # one that could not be taken up again
EDITION = "edition"  # of the encoder that has read the memories, and how far: memory.reembed
FASTGRNN = "fastgrnn"  # sizing.fastgrnn
FASTGRNN_EWC = "fastgrnn-ewc"  # learning.ewc, of its weights
REPLAY = "replay"  # sizing.fastgrnn.replay
REPRESENTATIONS = "representations"  # of memories that edges join: memory.surroundings
SERVED = "orchestrator-served"  # the same, of the configured backends: sizing.chooser
SONA = "sona"  # learning.sona
SCOPED = frozenset(
    {ADAPTERS, ATTENTION, ATTENTION_REVIEWED, BACKENDS, BACKENDS_UNREAD, EDITION, FASTGRNN, FASTGRNN_EWC, REPLAY,
     REPRESENTATIONS, SERVED, SONA}
)  # fmt: skip

_FIRST = "minilm-"  # of the spaces that state files began with: what is learnt in them has plain names


class BlobStore(Protocol):
    """Stores bytes under names: a `Store`, or a part of one."""

    def put(self, name: str, data: bytes) -> None:
        """Store bytes under a name, in the place of what was there. Raises StoreError: it cannot be written."""
        ...

    def save(self, name: str, dump: Callable[[], bytes]) -> bool:
        """`put` what `dump` gives, or set it aside; whether it was written. Raises StoreError: nothing can be."""
        ...

    def load(self, name: str) -> bytes | None:
        """What was stored, None where there is nothing. Raises StoreError: it is damaged."""
        ...


def name_in(space: str, name: str) -> str:
    """What is called `name` in a space, as the state file calls it."""
    return name if space.startswith(_FIRST) else f"{name}@{space}"


def scorer_name(encoder: str) -> str:
    """Under which name the router's scorer of an encoder is stored."""
    return f"router-{encoder}"


def question_name(key: str) -> str:
    """Under which name the examples of a question are stored, whatever encoder; its scorers stand below it."""
    return f"decision/{key}"


class PrefixedStore:
    """The part of a store whose names begin alike.

    Args:
        prefix: of the names, e.g. "decision/12ab/".
    """

    def __init__(self, store: BlobStore, prefix: str) -> None:
        self._store, self._prefix = store, prefix

    def _name(self, name: str) -> str:
        return self._prefix + name

    def put(self, name: str, data: bytes) -> None:
        """As `Store.put`. Raises StoreError: it cannot be written."""
        self._store.put(self._name(name), data)

    def save(self, name: str, dump: Callable[[], bytes]) -> bool:
        """As `Store.save`. Raises StoreError: nothing can be written."""
        return self._store.save(self._name(name), dump)

    def load(self, name: str) -> bytes | None:
        """As `Store.load`. Raises StoreError: it is damaged."""
        return self._store.load(self._name(name))


class SpaceScopedStore(PrefixedStore):
    """The part of a store for one vector space.

    Args:
        space: its name, e.g. "ruvltra-256".
    """

    def __init__(self, store: BlobStore, space: str) -> None:
        super().__init__(store, "")
        self.space = space

    def _name(self, name: str) -> str:
        return name_in(self.space, name)
