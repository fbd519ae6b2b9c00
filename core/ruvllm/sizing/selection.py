"""The choice among LLM backends that somebody named: made once, learnt from outcomes, stored with all else."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ruvllm.encoders.protocol import Encoder
from ruvllm.sizing.ledger import SizeOutcomes
from ruvllm.sizing.selector import BackendProfile, LLMOrchestrator
from ruvllm.state.names import BACKENDS, BACKENDS_UNREAD, SpaceScopedStore

__all__ = ["BackendSelection"]


class BackendSelection:
    """One orchestrator at a time, taken up from the state file and saved there.

    Args:
        encoder: of prompts.
        store: the part of the state file for its vectors.

    Attributes:
        orchestrator: chooses; None before `make`.
    """

    def __init__(self, encoder: Encoder, store: SpaceScopedStore) -> None:
        self._encoder, self._store = encoder, store
        self.orchestrator: LLMOrchestrator | None = None
        self._saved = 0  # answers that it had when it was saved

    def make(
        self,
        backends: Sequence[BackendProfile],
        budget: float | None,
        sizes: SizeOutcomes | None = None,
        **settings: Any,
    ) -> LLMOrchestrator:
        """Another orchestrator, with what an earlier one of the same backends learnt.

        What cannot be read is set aside in the file, and learnt anew.

        Args:
            sizes: takes the same outcomes to the model router.

        Raises:
            InputError: as `LLMOrchestrator`.
        """
        made = LLMOrchestrator(backends, self._encoder, budget=budget, sizes=sizes, **settings)
        self.save()
        stored = self._store.load(BACKENDS)
        if stored is not None and LLMOrchestrator.names_in(stored) in ([], made.names) and not made.resume(stored):
            self._store.put(BACKENDS_UNREAD, stored)
        self.orchestrator, self._saved = made, made.ledger.answers
        return made

    @property
    def changed(self) -> bool:
        """Whether it has learnt something since it was saved."""
        return self.orchestrator is not None and self.orchestrator.ledger.answers != self._saved

    def save(self) -> None:
        """Store what was learnt since the last time. Raises StoreError: the file takes nothing."""
        if self.orchestrator is not None and self.changed:
            self._store.save(BACKENDS, self.orchestrator.to_bytes)
            self._saved = self.orchestrator.ledger.answers

    def stats(self) -> dict[str, Any]:
        """The orchestrator's dashboard as `selection`, nothing without one."""
        return {} if self.orchestrator is None else {"selection": self.orchestrator.stats()}
