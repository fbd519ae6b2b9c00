"""The part of a RuvLLM that chooses who answers, and takes complex queries apart."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ruvllm.answering import Answering
from ruvllm.errors import InputError
from ruvllm.sizing.trained import KEPT_AS, TrainedTiers
from ruvllm.state.names import name_in

if TYPE_CHECKING:
    from ruvllm.artifacts.host import Host
    from ruvllm.config import Config
    from ruvllm.encoders.protocol import Encoder
    from ruvllm.encoders.static import StaticEncoder
    from ruvllm.inference.backend import Backend
    from ruvllm.memory.memory import MemoryStore
    from ruvllm.rlm.answers import RlmAnswer
    from ruvllm.rlm.controller import RlmController
    from ruvllm.rlm.document import Document
    from ruvllm.sizing.selector import BackendProfile, LLMOrchestrator
    from ruvllm.state.steps import Steps
    from ruvllm.state.store import Store

__all__ = ["Choosing", "forget_tiers", "trained_tiers"]

_SELECTOR = "orchestrator"  # in the state file


class Choosing(Answering):
    """Recursive answering, and the choice of backends, over one runtime's encoder, memory, backends and state."""

    config: Config
    store: Store
    steps: Steps
    static: StaticEncoder
    contextual: Encoder | None
    space: str
    _selector: LLMOrchestrator | None = None
    _saved = 0  # answers that it had when it was kept

    @cached_property
    @abstractmethod
    def memory(self) -> MemoryStore:
        """What was told it to remember."""

    def rlm(self, backend: Backend | None = None, **settings: Any) -> RlmController:
        """What takes complex queries and long documents apart, with this runtime's memory and backends.

        Args:
            backend: writes; the large tier's when None, and what is found word for word where that is no model.
            settings: fields of `RlmConfig`, and `decomposer`.

        Raises:
            ConfigError: a setting is unknown or out of range.
        """
        from ruvllm.query.writers import writes
        from ruvllm.rlm.controller import RlmController
        from ruvllm.types import Tier

        tiers = self._pipeline.writers.tiers
        if backend is None and any(map(writes, tiers.backends.values())):
            backend = tiers.at(Tier.LARGE)
        return RlmController(self.contextual or self.static, backend, self.memory, **settings)

    def query_deep(self, text: str, *, context: str | Document | None = None, **settings: Any) -> RlmAnswer:
        """The answer to a complex query, put together from those to its parts.

        Args:
            context: a text to answer from, of any length, beside what is remembered.
            settings: as for `rlm`, which is what to `await` in an event loop, and to ask twice.

        Raises:
            ConfigError: a setting is unknown or out of range.
            InputError: an unusable query or context.
        """
        return self._wait(self.rlm(**settings).aquery(text, context=context), "rlm().aquery")

    def orchestrator(
        self, backends: Sequence[BackendProfile], *, budget: float | None = None, **settings: Any
    ) -> LLMOrchestrator:
        """What chooses among LLM backends and learns from outcomes; this runtime's model router learns from them too.

        What it learns is kept in the state file (by `tick` and `close`), and taken up again by the next one of the
        same backends. What cannot be read is set aside in the file, and learnt anew. There is one at a time;
        `stats()["selection"]` is its dashboard.

        Args:
            budget: mean US dollars of a prompt; None for the best quality / (cost · latency).
            settings: of `LLMOrchestrator`.

        Raises:
            InputError: as `LLMOrchestrator`.
        """
        from ruvllm.sizing.ledger import SizeOutcomes
        from ruvllm.sizing.selector import LLMOrchestrator

        learners = self._pipeline.learners
        sizes = SizeOutcomes(learners.network, learners.replay) if learners.enabled else None
        made = LLMOrchestrator(backends, self.contextual or self.static, budget=budget, sizes=sizes, **settings)
        self._save_selector()
        own = name_in(self.space, _SELECTOR)
        kept = self.store.kept(own)
        if kept is not None and LLMOrchestrator.names_in(kept) in ([], made.names) and not made.resume(kept):
            self.store.keep(f"{own}-unread", kept)
        self._selector, self._saved = made, made.ledger.answers
        return made

    def tick(self, budget_s: float = 0.05) -> None:
        """For a host's timer: write what waits, and learn in the background for about so long.

        Raises:
            StoreError: it cannot be written; it goes on waiting.
        """
        self._save_selector()
        super().tick(budget_s)

    async def atick(self, budget_s: float = 0.05) -> None:
        """`tick`, awaited."""
        self._save_selector()
        await super().atick(budget_s)

    def _save_selector(self) -> None:
        """Keep what the choice of backends learnt since the last time. Raises StoreError: the file takes nothing."""
        made = self._selector
        with self.steps("selection"):
            if made is not None and made.ledger.answers != self._saved and self.config.learning.enabled:
                self.store.save(name_in(self.space, _SELECTOR), made.to_bytes)
                self._saved = made.ledger.answers

    def _choice_stats(self) -> dict[str, Any]:
        return {} if self._selector is None else {"selection": self._selector.stats()}


def trained_tiers(choice: str, store: Store, host: Host) -> TrainedTiers | None:
    """What `router.tier_model` names; None for the words of a task.

    Raises:
        ArtifactError, StoreError: what it names is damaged.
        InputError: it is a path that cannot be read.
    """
    if choice == "words":
        return None
    if choice == "shipped":
        return TrainedTiers.from_bytes(host.artifact("tiers.npz"))
    if choice == "kept":
        kept = store.kept(KEPT_AS)
        return None if kept is None else TrainedTiers.from_bytes(kept, "the trained tiers in the state file")
    try:
        return TrainedTiers.from_bytes(Path(choice).read_bytes(), choice)
    except OSError as error:
        message = f"{choice} cannot be read ({error.strerror or error})"
        fix = "use kept, words, shipped, or a file that `ruvllm tiers train` wrote"
        raise InputError(message, field="router.tier_model", fix=fix) from None


def forget_tiers(store: Store) -> bool:
    """Drop what `ruvllm tiers train` kept; whether there was any. Raises StoreError: it cannot be written."""
    with store.write() as db:
        return db.execute("DELETE FROM learnt WHERE name = ?", (KEPT_AS,)).rowcount > 0
