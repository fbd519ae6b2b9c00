"""The services that a RuvLLM is composed of: each made when it is first needed, all written and closed together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ruvllm.agents.catalog import Agents, builtin_agents
from ruvllm.artifacts.host import Host, NativeHost
from ruvllm.artifacts.shipped import ShippedEncoders
from ruvllm.config import Config
from ruvllm.encoders.protocol import synchronous
from ruvllm.errors import AgentFileError
from ruvllm.query.learners import Learners
from ruvllm.routing.encoders import EncoderSet
from ruvllm.routing.prebuilt import RouterArtifacts
from ruvllm.routing.service import Fit, RoutingService
from ruvllm.state.names import PULLED, SpaceScopedStore
from ruvllm.state.steps import Steps
from ruvllm.state.store import Store
from ruvllm.types import Agent, Tier

if TYPE_CHECKING:  # who only routes need not wait for the others
    import numpy as np
    from numpy.typing import NDArray

    from ruvllm.encoders.protocol import Pause
    from ruvllm.inference.backend import Backend
    from ruvllm.jobs import Jobs
    from ruvllm.learning.federated.client import Coordinator, FederatedClient
    from ruvllm.learning.federated.wire import SharedModel
    from ruvllm.memory.memory import MemoryStore
    from ruvllm.query.service import QueryService
    from ruvllm.routing.decide import DecisionService
    from ruvllm.routing.tools import ToolService
    from ruvllm.sizing.chooser import ModelChooser


class Services:
    """One of each. See `RuvLLM` for the arguments.

    Args:
        like: whose host and models these use too.

    Attributes:
        config, host, store: as given; the state file.
        learning: what learns from outcomes beside the router's weights, and votes.
        routing: agents, feedback about them, review, undo.
        problems: what of agent files was left out, each naming its line.
        steps: guards what is done behind answers and at the end.
    """

    def __init__(
        self,
        agents: Agents | None,
        config: Config,
        *,
        encoder: str | None = None,
        state: str | Path | None = None,
        host: Host | None = None,
        like: Services | None = None,
        backends: Mapping[Tier | str, Backend] | None = None,
    ) -> None:
        self.config, self._backends = config, backends
        agents = config.agents if agents is None else agents
        state = config.state if state is None else state
        self.host: Host = like.host if like is not None else host or NativeHost()
        self.problems: list[AgentFileError] = []
        self.steps = Steps()
        self._shipped: ShippedEncoders = like._shipped if like is not None else ShippedEncoders(self.host)
        chosen = list(builtin_agents()) if agents is None else self.read(agents)
        self._artifacts: RouterArtifacts = like._artifacts if like is not None else RouterArtifacts(self.host)
        self.encoders = EncoderSet.shared(self._shipped, self._artifacts, encoder or config.encoder)
        self.store = Store(state) if state is not None else Store()
        self.scoped = SpaceScopedStore(self.store, self.encoders.space)
        self.learning = Learners(self.encoders.main, self.scoped, config)
        parts = self.encoders, self._artifacts, self.store, chosen, config, self.learning, self._pulled
        self.routing = RoutingService(*parts)
        self._memory: MemoryStore | None = None
        self._queries: QueryService | None = None
        self._decisions: DecisionService | None = None
        self._sizing: ModelChooser | None = None
        self._jobs: Jobs | None = None
        self.coordinator: Coordinator | None = None  # that a host has put in the place of the configured one

    @property
    def memory(self) -> MemoryStore:
        """Texts found again by meaning, in the same state file."""
        if self._memory is None:
            from ruvllm.memory.memory import MemoryStore

            space, options = self.encoders.space, self.config.memory
            self._memory = MemoryStore(self.encoders.main, self.store, space=space, options=options)
            self._use_pulled(self._pulled())
        self._memory.adapter = self.learning.query_adapter
        return self._memory

    @property
    def queries(self) -> QueryService:
        """Answers, sessions, and what feedback says of answers. Raises ConfigError: a backend cannot be made."""
        if self._queries is None:
            from ruvllm.query.service import QueryService

            parts = self.routing, self.memory, self.sizing, self.config, self.steps, self.learning
            self._queries = QueryService(*parts, self._backends)
        return self._queries

    @property
    def decisions(self) -> DecisionService:
        """Typed questions about a state, and what feedback taught of them."""
        if self._decisions is None:
            from ruvllm.routing.decide import DecisionService

            self._decisions = DecisionService(self.encoders, self.store, self.config.sessions.keep)
        return self._decisions

    @cached_property
    def tools(self) -> ToolService:
        """Finds the few of many tools that a task needs: the catalog's, and those that are added."""
        from ruvllm.routing.tools import ToolService

        return ToolService(self.encoders, self.routing)

    @property
    def sizing(self) -> ModelChooser:
        """How strong a model a task gets: the one order of precedence, and what outcomes taught it."""
        if self._sizing is None:
            from ruvllm.sizing.chooser import ModelChooser

            self._sizing = ModelChooser(self.encoders.main, self.scoped, self.learning)
            if (model := self._pulled()) is not None:
                self._sizing.pull(self._outcomes_of(model))
        return self._sizing

    @property
    def federated(self) -> FederatedClient:
        """Learning together with other installations through a coordinator, without sharing a text."""
        from ruvllm.learning.federated.client import FederatedClient

        _ = self.queries  # which says what backends `sizing` chooses among
        return FederatedClient(self.store, self.routing, self.config.federated, self.sizing, self._use_pulled)

    @property
    def jobs(self) -> Jobs:
        """All background work."""
        if self._jobs is None:
            from ruvllm.jobs import jobs_of

            self._jobs = jobs_of(self)
        return self._jobs

    @property
    def decides(self) -> bool:
        """Whether a question has learnt so much that it is to be fitted once more."""
        return self._decisions is not None and self._decisions.grown

    @property
    def unavailable(self) -> list[str]:
        """Names of the backends that could not answer the last time."""
        return [] if self._queries is None else self._queries.writers.tiers.unavailable()

    def read(self, agents: object) -> list[Agent]:
        """Agents in any form that `RuvLLM` takes; `problems` says what of a file or folder was left out.

        Raises:
            AgentFileError: there is no such file or folder.
            InputError: it holds no usable agent.
        """
        from ruvllm.agents.sources import given_agents  # who routes among the built-in ones need not wait

        chosen, problems = given_agents(agents, self.host.cache, self._shipped.static.encode_now)
        if isinstance(agents, str | Path):
            self.problems = problems
        return chosen

    async def aerase(self, ids: Iterable[int]) -> int:
        """Remove memories so that nothing is left of their texts and of what came of them; returns how many.

        See `memory.erasure.erase`; this also lets go of requests, turns and patterns that are at hand.

        Raises:
            InputError: these are no ids.
            StoreError: another process has the file open, or it cannot be written.
        """
        from ruvllm.memory.erasure import erase, texts_of

        chosen = list(ids)
        texts = texts_of(self.memory, chosen)
        if self._queries is not None:
            self._queries.forget(texts)
        rows = self.store.feedback_rows()
        self.routing.undo(*(row.id for row in rows if any(text in row.feedback.text for text in texts)))
        await self.learning.erase(texts)
        self.learning.save(self.steps)
        return erase(self.memory, chosen)

    erase = synchronous(aerase)

    async def astate(self, pause: Pause) -> None:
        """Remember what users stated. Raises StoreError: the file takes nothing; all goes on waiting."""
        if self._queries is not None:
            await self._queries.writes.astate(pause)

    def write(self) -> None:
        """Write what has waited long enough. Raises StoreError: the file takes nothing; all goes on waiting."""
        if self._queries is not None:
            self._queries.write()
        self._save_learnt()
        with self.steps("memory"):
            if self._memory is not None:
                self._memory.flush()

    def stats(self) -> dict[str, Any]:
        """What they hold and have done."""
        held: dict[str, Any] = {"agents": len(self.routing.agents), "encoder": self.encoders.mode}
        held |= {"state": self.store.path, "set_aside": self.store.set_aside.counts()}
        held |= {"failures": dict(self.steps.failures)}
        held |= {"memory_tiers": {} if self._memory is None else self._memory.tiers()}
        held |= {"total_queries": 0} if self._queries is None else self._queries.stats()
        held |= {} if self._sizing is None else self._sizing.stats()
        return {**held, **self.routing.stats(), "jobs": self.jobs.status()}

    def dump(self) -> bytes:
        """All that is stored, as a state file that opens on every host. Raises StoreError: it cannot be read."""
        from ruvllm.state.transfer import dump

        self._save_queries()
        self.memory.flush()
        return dump(self.store)

    async def restore(self, data: bytes, fit: Fit) -> None:
        """Put what a `dump` gave, here or on another host, in the place of all that is stored.

        What has not been written yet, of before or of answers on their way, is dropped. The agents stay.

        Args:
            fit: warms the router up that takes over, as for `RoutingService.replace_agents`.

        Raises:
            StoreError: it is no whole state file, or cannot be written; nothing has changed then.
        """
        from ruvllm.state.transfer import replaced

        with replaced(self.store, data):
            self._leave_queries()
            self._memory = self._jobs = self._sizing = self._decisions = None
            self.learning.configure(self.config)
            router = await self.routing.reload(fit)
        self.routing.use(router)

    def reconfigure(self, config: Config) -> None:
        """Answer with other options from now on; encoder, agents and state stay. Raises StoreError: as `close`."""
        self._save_queries()
        self._leave_queries()
        self.config = config
        self.learning.configure(config)

    async def aclose(self) -> None:
        """`close`, and connections of backends are closed as well."""
        try:
            if self._queries is not None:
                await self._queries.writers.tiers.close()
        finally:
            self.close()

    def close(self) -> None:
        """Write what waits, and release the state file. Raises StoreError: the file takes nothing."""
        try:
            queries, self._queries = self._queries, None
            if queries is not None:
                queries.close()
            self.learning.save(self.steps)
            with self.steps("encoder"):
                self.routing.save()
            self._save_learnt()
            with self.steps("memory"):
                if self._memory is not None:
                    self._memory.save()
        finally:
            self.store.close()

    def _save_learnt(self) -> None:
        with self.steps("selection"):
            if self._sizing is not None and self.config.learning.enabled:
                self._sizing.save()
        with self.steps("decisions"):
            if self._decisions is not None:
                self._decisions.save()

    def _save_queries(self) -> None:
        if self._queries is not None:
            self._queries.save()
        self.learning.save(self.steps)

    def _leave_queries(self) -> None:
        """Drop what answers, without writing what waits; the next one has its open backends."""
        if self._queries is not None:
            open_: Any = self._queries.writers.backends  # by Tier: a Mapping's keys are invariant
            self._backends, self._queries = open_, None

    def _use_pulled(self, model: SharedModel | None) -> list[str]:
        """Searches and choices of models too go by what was pulled, where it is of their vectors; models it is of."""
        comparable = model is not None and self.encoders.space == self.encoders.static_space
        self.learning.use_pulled(model.adapter if model is not None and comparable else None)
        return self.sizing.pull([] if model is None else self._outcomes_of(model))

    def _outcomes_of(self, model: SharedModel) -> list[tuple[str, NDArray[np.float32], float]]:
        """Models, what travelled of prompts, and how many: of the vectors that prompts are read with here."""
        routes = [(group.route.partition(" "), group) for group in model.outcomes]
        return [(name, group.mean, group.count) for (space, _, name), group in routes if space == self.encoders.space]

    def _pulled(self) -> SharedModel | None:
        if not self.store.digest(PULLED):
            return None
        from ruvllm.learning.federated.client import pulled_model

        return pulled_model(self.store, self.encoders.static.dim, self.steps)
