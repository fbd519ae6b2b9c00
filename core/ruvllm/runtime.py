"""RuvLLM: one object that routes, remembers, answers and learns, asynchronous inside, with a synchronous face."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Never

from ruvllm.agents.catalog import Agents, builtin_agents
from ruvllm.agents.sources import given_agents
from ruvllm.artifacts.host import Host, NativeHost
from ruvllm.artifacts.shipped import ShippedEncoders
from ruvllm.config import Config, agents_and_config
from ruvllm.encoders.protocol import Pause, Vectors, no_pause, pause, run_now
from ruvllm.errors import AgentFileError, ConfigError, InputError
from ruvllm.hints import Hinting, by_object
from ruvllm.query.learners import Learners
from ruvllm.reprs import shortened
from ruvllm.routing.encoders import EncoderSet
from ruvllm.routing.prebuilt import RouterArtifacts
from ruvllm.routing.router import SharedModel, checked_text
from ruvllm.routing.service import Fit, RoutingService
from ruvllm.state.names import PULLED, SpaceScopedStore
from ruvllm.state.steps import Steps
from ruvllm.state.store import Store
from ruvllm.types import Agent, Decision, Team, Tier

if TYPE_CHECKING:
    from ruvllm.inference.backend import Backend
    from ruvllm.inference.library import Tell
    from ruvllm.jobs import JobRun, Jobs
    from ruvllm.learning.federated.client import FederatedClient
    from ruvllm.learning.patterns import Pattern
    from ruvllm.memory.memory import MemoryStore
    from ruvllm.query.responses import Applied, Constraints, Event, Response, Session
    from ruvllm.query.service import QueryService
    from ruvllm.rlm.answers import RlmAnswer
    from ruvllm.rlm.controller import RlmController
    from ruvllm.rlm.document import Document
    from ruvllm.routing.decide import DecisionService
    from ruvllm.routing.lint import Finding
    from ruvllm.routing.questions import Answers
    from ruvllm.sizing.chooser import ModelChooser
    from ruvllm.sizing.selector import BackendProfile, LLMOrchestrator

__all__ = ["RuvLLM"]

_TASK = {"task": "text", "query": "text"}
_ANSWER = "give text and agent, or call feedback_request about an answer"


class RuvLLM(Hinting):
    """Routes tasks to agents and answers them, offline, and learns from every feedback.

    It holds one of each service, all of which work by themselves too. A method has an async form (`aroute`, …) for
    hosts whose encoder or backends must be awaited.

    Args:
        agents: agents to route among: a folder of agents, an agents file, sources ("auto", "claude", "user:~/agents",
            see `agents.sources.sources_of`), Agent objects or mappings; the built-in catalog when None.
        encoder: "cascade", "ruvltra", "static" or "minilm"; None takes "cascade" where RuvLTRA can run. Or a model
            on this machine, as `ruvllm.inference.encoder_model.open_encoder` takes it; what another encoder remembered
            is found with it after `ruvllm memory reembed`.
        state: the SQLite file that holds what is learnt; None stores nothing.
        host: where this runs; the native host when None.
        like: another one, whose host and models this one shall use too: they are read once.
        config: all other options; where it names agents, encoder or state, the arguments here count first.
        backends: what writes the answers of each tier (or of "booster", "small", "large"); those of the config,
            and without any the extractive one, which answers from memory without an LLM.

    Attributes:
        config, host, store: as given; the state file.
        encoders: what texts are read with.
        learning: what learns from outcomes beside the router's weights, and votes.
        routing: agents, feedback about them, review, undo.
        problems: what of agent files was left out, each naming its line.
        steps: guards what is done behind answers and at the end; `stats` counts what failed.

    Raises:
        ArtifactError: a model artifact is missing or damaged.
        AgentFileError: `agents` does not exist.
        InputError: `agents` holds no usable agent, or another argument is unusable.
        ConfigError: an unusable option, or one that there is not.
    """

    INSTEAD: ClassVar = {
        "process": "query", "generate": "query", "create_session": "new_session", "get_stats": "stats()",
        "add_memory": "memory.add", "search_memory": "memory.search", "shutdown": "close",
        "find_patterns": "learning.engine.find_patterns", "force_learn": "learning.engine.force_learn, or run_jobs",
        "similarity": "embed: the product of two vectors is their cosine",
        "batch_query": "query for each, or aquery in asyncio.gather",
        "save": "run_jobs, which writes what waits, or close",
    }  # fmt: skip

    def __init__(
        self,
        agents: Agents | Config | None = None,
        *,
        encoder: str | None = None,
        state: str | Path | None = None,
        host: Host | None = None,
        like: RuvLLM | None = None,
        config: Config | Mapping[str, Any] | None = None,
        backends: Mapping[Tier | str, Backend] | None = None,
        **unknown: Never,
    ) -> None:
        for name in unknown:
            raise ConfigError(f"no argument {name!r}", field=name, fix=f"{Config.instead(name)} (see Config)")
        if not isinstance(like, RuvLLM | None):
            raise InputError(f"like is {like!r}"[:120], field="like", fix="give a RuvLLM, or leave it out")
        agents, self.config = agents_and_config(agents, config)
        self._backends = backends
        agents = self.config.agents if agents is None else agents
        state = self.config.state if state is None else state
        self.host: Host = like.host if like is not None else host or NativeHost()
        self.problems: list[AgentFileError] = []
        self.steps = Steps()
        self._shipped: ShippedEncoders = like._shipped if like is not None else ShippedEncoders(self.host)
        chosen = list(builtin_agents()) if agents is None else self._read(agents)
        self._artifacts: RouterArtifacts = like._artifacts if like is not None else RouterArtifacts(self.host)
        self.encoders = EncoderSet.shared(self._shipped, self._artifacts, encoder or self.config.encoder)
        self.store = Store(state) if state is not None else Store()
        self.learning = Learners(self.encoders.main, SpaceScopedStore(self.store, self.encoders.space), self.config)
        parts = self.encoders, self._artifacts, self.store, chosen, self.config, self.learning, self._pulled
        self.routing = RoutingService(*parts)
        self._memory: MemoryStore | None = None
        self._queries: QueryService | None = None
        self._decisions: DecisionService | None = None
        self._sizing: ModelChooser | None = None
        self._jobs: Jobs | None = None

    @classmethod
    def from_pretrained(cls, model: str | Path, *, tell: Tell | None = None, **options: Any) -> RuvLLM:
        """One that answers with a model on this machine, which is downloaded and converted first if need be.

        Args:
            model: a converted folder, a GGUF file, a Hugging Face folder, `owner/repo[:file]` or a known name.
            tell: is called with what is being done, how much of it, of how much.
            options: as for `RuvLLM`; what a `config` says of backends counts for the other tiers.
        """
        from ruvllm.inference.library import with_model

        config = Config.of(options.pop("config", None))
        return cls(config=with_model(config, model, tell), **options)

    def __repr__(self) -> str:
        mode, path = self.encoders.mode, shortened(self.store.path)
        return f"RuvLLM({len(self.agents)} agents, encoder={mode!r}, state={path})"

    # Services; who only routes need not wait for the others.

    @property
    def memory(self) -> MemoryStore:
        """Texts found again by meaning, in the same state file."""
        if self._memory is None:
            from ruvllm.memory.memory import MemoryStore

            space, options = self.encoders.space, self.config.memory
            self._memory = MemoryStore(self.encoders.main, self.store, space=space, options=options)
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

    @property
    def sizing(self) -> ModelChooser:
        """How strong a model a task gets: the one order of precedence, and what outcomes taught it."""
        if self._sizing is None:
            from ruvllm.sizing.chooser import ModelChooser

            self._sizing = ModelChooser(self.encoders.main, SpaceScopedStore(self.store, self.encoders.space))
        return self._sizing

    @property
    def federated(self) -> FederatedClient:
        """Learning together with other installations through a coordinator, without sharing a text."""
        from ruvllm.learning.federated.client import FederatedClient

        return FederatedClient(self.store, self.routing, self.config.federated)

    @property
    def jobs(self) -> Jobs:
        """All background work."""
        if self._jobs is None:
            from ruvllm.jobs import jobs_of

            self._jobs = jobs_of(self)
        return self._jobs

    # Routing

    @property
    def agents(self) -> tuple[Agent, ...]:
        """The agents routed among."""
        return self.routing.agents

    def agent(self, name: str) -> Agent:
        """One of them by its name. Raises InputError: there is none."""
        return self.routing.agent(name)

    def route(self, text: str, top: int = 3) -> Decision:
        """The agent, confidence and tier for a task, and the `top` next best. Raises InputError: an unusable text."""
        return run_now(self.routing.route(text, top))

    async def aroute(self, text: str, top: int = 3) -> Decision:
        """`route`, awaited."""
        return await self.routing.route(text, top)

    def route_complex(self, text: str) -> Team:
        """The agents that take a compound task together, each with a role."""
        return run_now(self.routing.route_complex(text))

    async def aroute_complex(self, text: str) -> Team:
        """`route_complex`, awaited."""
        return await self.routing.route_complex(text)

    def add_agents(self, agents: Agents) -> None:
        """Route among these agents too; one of a name that there is takes the other's place. Raises as `RuvLLM`."""
        self.routing.add_agents(self._read(agents))

    async def aadd_agents(self, agents: Agents) -> None:
        """`add_agents`, awaited: all is learnt before it returns, while tasks go on being routed among the old ones."""
        await self.routing.add_agents_warm(self._read(agents))

    async def areplace_agents(self, agents: Agents, fit: Fit | None = None) -> None:
        """Route among these agents and no others, from when it returns; among the old ones until then.

        Args:
            fit: warms the new router up in its own way, as a server does in a thread.
        """
        await self.routing.replace_agents(self._read(agents), fit)

    def lint(self) -> list[Finding]:
        """What to change about these agents: confusable, duplicated, empty ones."""
        return self.routing.lint()

    @by_object("", _TASK, otherwise=_ANSWER)
    def feedback(self, text: str, agent: str, weight: float = 1.0, right: bool = True) -> None:
        """This text belongs to this agent: stored on disk first, then learnt at once.

        Args:
            weight: how much it counts, 0 < weight <= 10.
            right: False says that it does not belong there, wherever else it may.

        Raises:
            InputError: an unknown agent, an empty text or a weight out of range.
            StoreError: the file takes nothing. What it refuses alone is set aside, and learnt all the same.
        """
        run_now(self.afeedback(text, agent, weight, right))

    @by_object("", _TASK, otherwise=_ANSWER)
    async def afeedback(self, text: str, agent: str, weight: float = 1.0, right: bool = True) -> None:
        """`feedback`, awaited."""
        await self.routing.feedback(text, agent, weight, right)
        with self.steps("patterns"):
            await self.learning.observe(checked_text(text), agent, bool(right))

    def review(self) -> int:
        """Fit what feedback taught once more, from all of it, and store the result; returns how much there is."""
        return run_now(self.routing.review(no_pause))

    async def areview(self, pause: Pause = pause) -> int:
        """`review`, awaited; tasks go on being routed meanwhile."""
        return await self.routing.review(pause)

    def undo_feedback(self, id: int) -> bool:
        """Take feedback back, by its id in the state file: learnt from no more; whether there was such."""
        undone = self.routing.undo(id)
        return undone is not None and run_now(self.learning.forget(undone))

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Unit vectors in the encoders' space: float32 (len(texts), dim)."""
        return run_now(self.aembed(texts))

    async def aembed(self, texts: Sequence[str]) -> Vectors:
        """`embed`, awaited."""
        if isinstance(texts, str | bytes) or not isinstance(texts, Iterable):
            raise InputError(f"texts is {texts!r}"[:120], field="texts", fix="give a list: embed([text])[0] for one")
        return await self.encoders.main.encode([checked_text(text) for text in texts])

    # Decisions

    def decide(self, state: object, questions: Mapping[str, Any]) -> Answers:
        """Typed answers with probabilities to named questions about one state.

        Args:
            state: text, or JSON; up to 64 KiB.
            questions: {name: {"type": "choice", "instructions": …, "criteria": {option: description}}}, or a "noul"
                (yes or no), or a "score" with a list of levels from low to high.

        Raises:
            InputError: the state or a question cannot be used; it is named.
        """
        return run_now(self.decisions.decide(state, questions))

    async def adecide(self, state: object, questions: Mapping[str, Any]) -> Answers:
        """`decide`, awaited."""
        return await self.decisions.decide(state, questions)

    def feedback_decision(self, id: str, answer: object) -> dict[str, int]:
        """How a decision should have been answered: its questions learn it at once. See `DecisionService.feedback`."""
        return run_now(self.decisions.feedback(id, answer))

    async def afeedback_decision(self, id: str, answer: object) -> dict[str, int]:
        """`feedback_decision`, awaited."""
        return await self.decisions.feedback(id, answer)

    # Answers

    def query(
        self,
        text: str,
        *,
        session: Session | str | None = None,
        constraints: Constraints | Mapping[str, Any] | None = None,
    ) -> Response:
        """The answer to a question, with who answered, from what, and how long each step took.

        Args:
            session: of `new_session`, or its id, whose history the answer takes into account.
            constraints: what to insist on, as Constraints or as a mapping of its fields.

        Raises:
            InputError: an unusable text, session or constraint; an event loop that would stand still meanwhile.
            BackendError: no backend gave an answer.
        """
        queries = self.queries
        return queries.wait(queries.answer(text, session=session, constraints=constraints), "aquery")

    async def aquery(self, text: str, **more: Any) -> Response:
        """`query`, awaited, with its arguments and those of `QueryService.answer`."""
        return await self.queries.answer(text, **more)

    def aquery_stream(self, text: str, **more: Any) -> AsyncIterator[Event]:
        """The same as events: one `Routed`, the text as `Delta`s, and the whole `Response` at the end.

        A caller may stop at any time (`aclosing` stops the backend at once); the query then leaves no trace.
        """
        return self.queries.stream(text, **more)

    def query_session(
        self, session: Session | str, text: str, constraints: Constraints | Mapping[str, Any] | None = None
    ) -> Response:
        """`query` in a session."""
        return self.query(text, session=session, constraints=constraints)

    def query_deep(self, text: str, *, context: str | Document | None = None, **settings: Any) -> RlmAnswer:
        """The answer to a complex query, put together from those to its parts.

        Args:
            context: a text to answer from, of any length, beside what is remembered.
            settings: as for `rlm`, which is what to `await` in an event loop, and to ask twice.
        """
        queries = self.queries
        return queries.wait(queries.answer_deep(text, context=context, **settings), "rlm().aquery")

    def rlm(self, backend: Backend | None = None, **settings: Any) -> RlmController:
        """What takes complex queries and long documents apart. See `QueryService.rlm`."""
        return self.queries.rlm(backend, **settings)

    def new_session(self, metadata: Mapping[str, Any] | None = None, id: str | None = None) -> Session:
        """Begin a conversation, with facts for the caller's use, under an id of the caller's or a random one.

        Raises InputError: the id is taken, or unusable.
        """
        return self.queries.sessions.new(metadata, id).snapshot()

    def session(self, id: Session | str) -> Session:
        """A conversation as it stands. Raises InputError: there is none, or it has ended."""
        return self.queries.session(id)

    def end_session(self, id: Session | str) -> bool:
        """Forget a conversation; whether there was one."""
        return self.queries.end_session(id)

    @by_object()
    def feedback_request(
        self,
        request_id: str,
        rating: float | None = None,
        correction: str | None = None,
        task_success: bool | None = None,
        agent: str | None = None,
    ) -> Applied:
        """How an answer was; everything that led to it learns from that. See `QueryService.feedback`.

        Args:
            request_id: of a Response; the latest 100 are there for later processes too.
            rating: 1 (bad) to 5 (good).
            correction: the better answer, a text, which is remembered in the place of the one given.
            task_success: whether the task was solved.
            agent: name of the agent that is right for the question.
        """
        return run_now(self.afeedback_request(request_id, rating, correction, task_success, agent))

    @by_object()
    async def afeedback_request(
        self,
        request_id: str,
        rating: float | None = None,
        correction: str | None = None,
        task_success: bool | None = None,
        agent: str | None = None,
    ) -> Applied:
        """`feedback_request`, awaited."""
        return await self.queries.feedback(request_id, rating, correction, task_success, agent)

    @property
    def backends(self) -> Mapping[Tier, Backend]:
        """What writes the answers of each tier."""
        return self.queries.writers.backends

    @property
    def unavailable(self) -> list[str]:
        """Names of the backends that could not answer when they were last asked."""
        return [] if self._queries is None else self._queries.writers.tiers.unavailable()

    def orchestrator(
        self, backends: Sequence[BackendProfile], *, budget: float | None = None, **settings: Any
    ) -> LLMOrchestrator:
        """What chooses among LLM backends within a mean budget in US dollars a prompt, and learns from outcomes.

        See `ModelChooser.make`; `settings` are those of `LLMOrchestrator`.
        """
        return self.sizing.make(backends, budget, self.learning.size_outcomes(), **settings)

    def get_patterns(self, limit: int | None = None) -> list[Pattern]:
        """What has worked for which kind of task, the most valuable first."""
        return self.learning.engine.get_patterns(limit)

    # The whole

    def run_jobs(self, budget: float = 0.05, *, force: bool = False) -> list[JobRun]:
        """For a host's timer: do the background work that is due, or all of it, each job for about so many seconds."""
        return run_now(self.jobs.run(budget, no_pause, force=force))

    async def arun_jobs(self, budget: float = 0.05, *, force: bool = False) -> list[JobRun]:
        """`run_jobs`, awaited; other tasks have their turn between slices of the work."""
        return await self.jobs.run(budget, pause, force=force)

    @property
    def decides(self) -> bool:
        """Whether a question has learnt so much that it is to be fitted once more."""
        return self._decisions is not None and self._decisions.grown

    def write(self) -> None:
        """Write what has waited long enough. Raises StoreError: the file takes nothing; all goes on waiting."""
        if self._queries is not None:
            self._queries.write()
        self._save_selection()
        self._save_decisions()
        with self.steps("memory"):
            if self._memory is not None:
                self._memory.flush()

    def stats(self) -> dict[str, Any]:
        """What this object holds and has done."""
        held: dict[str, Any] = {"agents": len(self.agents), "encoder": self.encoders.mode, "state": self.store.path}
        held |= {"set_aside": self.store.set_aside.counts(), "failures": dict(self.steps.failures)}
        held |= {} if self._memory is None else {"memory_tiers": self._memory.tiers()}
        held |= {"total_queries": 0} if self._queries is None else self._queries.stats()
        held |= {} if self._sizing is None else self._sizing.stats()
        return {**held, **self.routing.stats(), "jobs": self.jobs.status()}

    def dump(self) -> bytes:
        """All that is stored, as a state file that opens on every host. Raises StoreError: it cannot be read."""
        from ruvllm.state.transfer import dump

        if self._queries is not None:
            self._queries.save()
        self.learning.save(self.steps)
        self.memory.flush()
        return dump(self.store)

    def restore(self, data: bytes) -> None:
        """Put what a `dump` gave, here or on another host, in the place of all that is stored.

        What has not been written yet, of before or of answers on their way, is dropped. The agents stay. Raises
        StoreError: it is no whole state file, or cannot be written; nothing has changed then.
        """
        run_now(self.arestore(data, lambda router: router.warm(no_pause)))

    async def arestore(self, data: bytes, fit: Fit | None = None) -> None:
        """`restore`, awaited; `fit` as for `areplace_agents`."""
        from ruvllm.state.transfer import replaced

        with replaced(self.store, data):
            self._leave_queries()
            self._memory = self._jobs = self._sizing = self._decisions = None
            self.learning.configure(self.config)
            router = await self.routing.reload(fit or (lambda router: router.warm(pause)))
        self.routing.use(router)

    def reconfigure(self, config: Config) -> None:
        """Answer with other options from now on; encoder, agents and state stay. Raises StoreError: as `close`."""
        if self._queries is not None:
            self._queries.save()
        self._leave_queries()
        self.learning.save(self.steps)
        self.config = config
        self.learning.configure(config)

    def close(self) -> None:
        """Write what waits, and release the state file. Raises StoreError: the file takes nothing."""
        try:
            queries, self._queries = self._queries, None
            if queries is not None:
                queries.close()
            self.learning.save(self.steps)
            with self.steps("encoder"):
                self.routing.save()
            self._save_selection()
            self._save_decisions()
            with self.steps("memory"):
                if self._memory is not None:
                    self._memory.save()
        finally:
            self.store.close()

    async def aclose(self) -> None:
        """`close`, awaited: connections of backends are closed as well."""
        try:
            if self._queries is not None:
                await self._queries.writers.tiers.close()
        finally:
            self.close()

    def __enter__(self) -> RuvLLM:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _save_selection(self) -> None:
        with self.steps("selection"):
            if self._sizing is not None and self.config.learning.enabled:
                self._sizing.save()

    def _save_decisions(self) -> None:
        with self.steps("decisions"):
            if self._decisions is not None:
                self._decisions.save()

    def _leave_queries(self) -> None:
        """Drop what answers, without writing what waits; the next one has its open backends."""
        if self._queries is not None:
            open_: Any = self._queries.writers.backends  # by Tier: a Mapping's keys are invariant
            self._backends, self._queries = open_, None

    def _pulled(self) -> SharedModel | None:
        if not self.store.digest(PULLED):
            return None
        from ruvllm.learning.federated.client import pulled_model

        return pulled_model(self.store, self.encoders.static.dim, self.steps)

    def _read(self, agents: object) -> list[Agent]:
        chosen, problems = given_agents(agents, self.host.cache, self._shipped.static.encode_now)
        if isinstance(agents, str | Path):
            self.problems = problems
        return chosen
