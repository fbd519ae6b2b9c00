"""RuvLLM: one object that routes, remembers, answers and learns, asynchronous inside, with a synchronous face."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Never, TypeVar, cast

from ruvllm.agents.catalog import Agents
from ruvllm.config import Config, agents_and_config
from ruvllm.encoders.protocol import Pause, Vectors, no_pause, pause, run_now, synchronous
from ruvllm.errors import ConfigError, InputError
from ruvllm.hints import Hinting, by_object, deprecated
from ruvllm.reprs import shortened
from ruvllm.routing.reading import checked_text
from ruvllm.services import Services
from ruvllm.types import Agent, Decision, Team, Tier

if TYPE_CHECKING:
    from ruvllm.artifacts.host import Host
    from ruvllm.inference.backend import Backend, Message
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
    from ruvllm.routing.tools import ToolService
    from ruvllm.sizing.chooser import ModelChooser
    from ruvllm.sizing.selector import BackendProfile, LLMOrchestrator


T = TypeVar("T")

_TASK = {"task": "text", "query": "text"}
_ANSWER = "give text and agent, or call feedback_request about an answer"


class _Service(Generic[T]):
    """An attribute that `Services` holds, made there when it is first needed."""

    def __set_name__(self, owner: type[object], name: str) -> None:
        self._name = name

    def __get__(self, llm: RuvLLM | None, owner: type[object]) -> T:
        return cast(T, self if llm is None else getattr(llm.services, self._name))


class RuvLLM(Hinting):
    """Routes tasks to agents and answers them, offline, and learns from every feedback.

    It is a face of the services that it holds, all of which work by themselves too. A method has an async form
    (`aroute`, …) for hosts whose encoder or backends must be awaited.

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
        services: all it is composed of; `host`, `store`, `encoders`, `learning`, `routing` and `steps` are theirs.
        config: all options; `services.reconfigure` changes them.
        memory: texts found again by meaning, in the same state file.
        queries: answers, sessions, and what feedback says of answers.
        decisions: typed questions about a state, and what feedback taught of them.
        tools: finds the few of many tools that a task needs.
        sizing: how strong a model a task gets: the one order of precedence, and what outcomes taught it.
        federated: learning together with other installations through a coordinator, without sharing a text.
        jobs: all background work.

    Raises:
        ArtifactError: a model artifact is missing or damaged.
        AgentFileError: `agents` does not exist.
        InputError: `agents` holds no usable agent, or another argument is unusable.
        ConfigError: an unusable option, or one that there is not.

    >>> with RuvLLM(encoder="static", state="state.db") as llm:
    ...     llm.route("write unit tests for the parser").agent
    'tester'
    """

    INSTEAD: ClassVar = {
        "generate": "query", "create_session": "new_session", "get_stats": "stats()",
        "add_memory": "memory.add", "search_memory": "memory.search",
        "chat": "query_session", "add_context": "new_session(history=[…]), or memory.add",
        "export_session": "asdict(session(id))", "import_session": "new_session(history=[…])",
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
        chosen, options = agents_and_config(agents, config)
        shared = None if like is None else like.services
        self.services: Services = Services(
            chosen, options, encoder=encoder, state=state, host=host, like=shared, backends=backends
        )
        parts = self.services
        self.host, self.store, self.encoders, self.steps = parts.host, parts.store, parts.encoders, parts.steps
        self.learning, self.routing = parts.learning, parts.routing

    @classmethod
    def from_pretrained(cls, model: str | Path, *, tell: Tell | None = None, **options: Any) -> RuvLLM:
        """One that answers with a model on this machine, which is downloaded and converted first if need be.

        Args:
            model: a converted folder, a GGUF file, a Hugging Face folder, `owner/repo[:file]` or a known name.
            tell: is called with what is being done, how much of it, of how much.
            options: as for `RuvLLM`; what a `config` says of backends counts for the other tiers.

        >>> llm = RuvLLM.from_pretrained("smollm2-135m")  # doctest: +SKIP
        """
        from ruvllm.inference.library import with_model

        config = Config.of(options.pop("config", None))
        return cls(config=with_model(config, model, tell), **options)

    def __repr__(self) -> str:
        mode, path = self.encoders.mode, shortened(self.store.path)
        return f"RuvLLM({len(self.agents)} agents, encoder={mode!r}, state={path})"

    config: _Service[Config] = _Service()
    memory: _Service[MemoryStore] = _Service()
    queries: _Service[QueryService] = _Service()
    decisions: _Service[DecisionService] = _Service()
    tools: _Service[ToolService] = _Service()
    sizing: _Service[ModelChooser] = _Service()
    federated: _Service[FederatedClient] = _Service()
    jobs: _Service[Jobs] = _Service()

    # Routing

    @property
    def agents(self) -> tuple[Agent, ...]:
        """The agents routed among.

        >>> len(llm.agents)
        83
        """
        return self.routing.agents

    def agent(self, name: str) -> Agent:
        """One of them by its name. Raises InputError: there is none.

        >>> llm.agent("tester").name
        'tester'
        """
        return self.routing.agent(name)

    def route(self, text: str, top: int = 3, team: bool = False) -> Decision:
        """The agent, confidence and tier for a task. See `RoutingService.route`.

        >>> llm.route("write unit tests for the parser").agent
        'tester'
        """
        router = self.routing.router
        decision = router.cached(text, top) or run_now(router.decide(text, top))
        return run_now(self.routing.with_team(text, decision)) if team else decision

    async def aroute(self, text: str, top: int = 3, team: bool = False) -> Decision:
        """`route`, awaited."""
        return await self.routing.route(text, top, team)

    async def aroute_many(self, texts: Sequence[str], top: int = 3, team: bool = False) -> list[Decision]:
        """What `route` gives of each, sooner: a transformer reads what it has to on all cores at once.

        >>> [one.agent for one in llm.route_many(["write unit tests for the parser", "review my pull request"])]
        ['tester', 'reviewer']
        """
        return await self.routing.route_many(texts, top, team)

    route_many = synchronous(aroute_many)

    async def aroute_complex(self, text: str) -> Team:
        """The agents that take a compound task together, each with a role.

        >>> [one.agent for one in llm.route_complex("Add authentication to the API").members]
        ['backend-dev', 'security-architect']
        """
        return await self.routing.route_complex(text)

    route_complex = synchronous(aroute_complex)

    def add_agents(self, agents: Agents) -> None:
        """Route among these agents too; one of a name that there is takes the other's place. Raises as `RuvLLM`.

        >>> llm.add_agents([Agent("barista", "Makes coffee.")])
        >>> llm.agents[-1].name
        'barista'
        """
        self.routing.add_agents(self.services.read(agents))

    async def aadd_agents(self, agents: Agents) -> None:
        """`add_agents`, awaited: all is learnt before it returns, while tasks go on being routed among the old ones."""
        await self.routing.add_agents_warm(self.services.read(agents))

    def lint(self) -> list[Finding]:
        """What to change about these agents: confusable, duplicated, empty ones.

        >>> llm.lint()[:1]
        [...]
        """
        return self.routing.lint()

    @by_object("", _TASK, otherwise=_ANSWER)
    async def afeedback(self, text: str, agent: str, weight: float = 1.0, right: bool = True) -> None:
        """This text belongs to this agent: stored on disk first, then learnt. See `RoutingService.feedback`.

        >>> _ = llm.feedback("froth the milk", "coder")
        >>> llm.route("froth the milk").agent
        'coder'
        """
        await self.routing.feedback(text, agent, weight, right)
        with self.steps("patterns"):
            await self.learning.observe(checked_text(text), agent, bool(right))

    feedback = synchronous(afeedback)

    async def areview(self, pause: Pause = pause) -> int:
        """`review`, awaited: tasks have their turn between slices of the work."""
        return await self.routing.review(pause)

    def review(self) -> int:
        """Fit what feedback taught once more, from all of it, and store it. See `RoutingService.review`.

        >>> llm.review()  # of so many feedbacks
        0
        """
        return run_now(self.routing.review(no_pause))

    async def aundo_feedback(self, id: int) -> bool:
        """Take feedback back, by its id in the state file: learnt from no more; whether there was such.

        >>> llm.undo_feedback(7)  # there is no such feedback
        False
        """
        undone = self.routing.undo(id)
        for one in undone:
            await self.learning.forget(one)
        return bool(undone)

    undo_feedback = synchronous(aundo_feedback)

    async def aembed(self, texts: Sequence[str]) -> Vectors:
        """Unit vectors in the encoders' space: float32 (len(texts), dim).

        >>> llm.embed(["fix the login"]).shape
        (1, 256)
        """
        if isinstance(texts, str | bytes) or not isinstance(texts, Iterable):
            raise InputError(f"texts is {texts!r}"[:120], field="texts", fix="give a list: embed([text])[0] for one")
        return await self.encoders.main.encode([checked_text(text) for text in texts])

    embed = synchronous(aembed)

    # Decisions

    async def adecide(self, state: object, questions: Mapping[str, Any]) -> Answers:
        """Typed answers with probabilities to named questions about one state. See `DecisionService.decide`.

        >>> llm.decide("The shop is down!", {"urgent": {"type": "noul", "instructions": "Is it urgent?"}}).id
        'dec...'
        """
        return await self.decisions.decide(state, questions)

    decide = synchronous(adecide)

    async def afeedback_decision(self, id: str, answer: object) -> dict[str, int]:
        """How a decision should have been answered: its questions learn it at once. See `DecisionService.feedback`.

        >>> asked = llm.decide("The shop is down!", {"urgent": {"type": "noul", "instructions": "Is it urgent?"}})
        >>> llm.feedback_decision(asked.id, {"urgent": True})
        {'urgent': 1}
        """
        return await self.decisions.feedback(id, answer)

    feedback_decision = synchronous(afeedback_decision)

    # Answers

    def query(
        self,
        text: str,
        *,
        session: Session | str | None = None,
        constraints: Constraints | Mapping[str, Any] | None = None,
    ) -> Response:
        """The answer to a question, with who answered, from what, and how long. See `QueryService.answer`.

        >>> _ = llm.memory.add("Staging is reset at noon.")
        >>> llm.query("when is staging reset?").text
        'Staging is reset at noon. ...'
        """
        queries = self.queries
        return queries.wait(queries.answer(text, session=session, constraints=constraints), "aquery")

    async def aquery(self, text: str, **more: Any) -> Response:
        """`query`, awaited, with its arguments and those of `QueryService.answer`."""
        return await self.queries.answer(text, **more)

    def aquery_stream(self, text: str, **more: Any) -> AsyncIterator[Event]:
        """The same as events. See `QueryService.stream`.

        >>> async def said() -> list[str]:
        ...     return [type(event).__name__ async for event in llm.aquery_stream("when is staging reset?")]
        >>> import asyncio
        >>> asyncio.run(said())
        ['Routed', ..., 'Response']
        """
        return self.queries.stream(text, **more)

    def query_session(
        self, session: Session | str, text: str, constraints: Constraints | Mapping[str, Any] | None = None
    ) -> Response:
        """`query` in a session.

        >>> session = llm.new_session()
        >>> llm.query_session(session, "when is staging reset?").session_id == session.id
        True
        """
        return self.query(text, session=session, constraints=constraints)

    @deprecated("query")
    @by_object(spelt={"query": "text", "session_id": "session"})
    def process(
        self,
        text: str,
        session: Session | str | None = None,
        constraints: Constraints | Mapping[str, Any] | None = None,
    ) -> Response:
        """As RuvLLM for Rust calls it, with an object.

        >>> llm.process({"query": "when is staging reset?"}).request_id
        'req-...'
        """
        return self.query(text, session=session, constraints=constraints)

    def query_deep(self, text: str, *, context: str | Document | None = None, **settings: Any) -> RlmAnswer:
        """The answer to a complex query, put together from those to its parts. See `QueryService.answer_deep`.

        >>> [one.query for one in llm.query_deep("what causes slow APIs and how are they mended?").findings]
        ['what causes slow APIs', 'how are they mended']
        """
        queries = self.queries
        return queries.wait(queries.answer_deep(text, context=context, **settings), "rlm().aquery")

    def rlm(self, backend: Backend | None = None, **settings: Any) -> RlmController:
        """What takes complex queries and long documents apart. See `QueryService.rlm`.

        >>> llm.rlm(max_depth=2).query("when is staging reset?").depth
        0
        """
        return self.queries.rlm(backend, **settings)

    def new_session(
        self,
        metadata: Mapping[str, Any] | None = None,
        id: str | None = None,
        history: Sequence[Message | Mapping[str, Any]] = (),
    ) -> Session:
        """Begin a conversation, under an id of the caller's or a random one. See `Sessions.new`.

        >>> llm.new_session({"user": "ada"}, id="s1").id
        's1'
        """
        return self.queries.sessions.new(metadata, id, history).snapshot()

    def session(self, id: Session | str) -> Session:
        """A conversation as it stands. Raises InputError: there is none, or it has ended.

        >>> _ = llm.new_session(id="s1")
        >>> llm.session("s1").history
        ()
        """
        return self.queries.session(id)

    def end_session(self, id: Session | str) -> bool:
        """Forget a conversation; whether there was one.

        >>> llm.end_session("s1")  # there is none
        False
        """
        return self.queries.end_session(id)

    @by_object()
    async def afeedback_request(
        self,
        request_id: str,
        rating: float | None = None,
        correction: str | None = None,
        task_success: bool | None = None,
        agent: str | None = None,
    ) -> Applied:
        """How an answer was; everything that led to it learns from that. See `QueryService.feedback`.

        >>> response = llm.query("when is staging reset?")
        >>> llm.feedback_request(response.request_id, rating=5)
        Applied(...)
        """
        return await self.queries.feedback(request_id, rating, correction, task_success, agent)

    feedback_request = synchronous(afeedback_request)

    @property
    def backends(self) -> Mapping[Tier, Backend]:
        """What writes the answers of each tier.

        >>> [backend.name for backend in llm.backends.values()]
        ['extractive']
        """
        return self.queries.writers.backends

    def orchestrator(
        self, backends: Sequence[BackendProfile], *, budget: float | None = None, **settings: Any
    ) -> LLMOrchestrator:
        """What chooses among LLM backends within a mean budget a prompt, and learns. See `ModelChooser.make`.

        >>> llms = [BackendProfile("gpt-4", cost=0.03), BackendProfile("llama-3-70b", cost=0.001)]
        >>> llm.orchestrator(llms).select("hi", max_cost=0.01).backend
        'llama-3-70b'
        """
        return self.sizing.make(backends, budget, self.learning.size_outcomes(), **settings)

    def get_patterns(self, limit: int | None = None) -> list[Pattern]:
        """What has worked for which kind of task, the most valuable first.

        >>> llm.get_patterns(limit=5)  # nothing was learnt yet
        []
        """
        return self.learning.engine.get_patterns(limit)

    # The whole

    def run_jobs(self, budget: float = 0.05, *, force: bool = False) -> list[JobRun]:
        """For a host's timer: do the background work that is due, or all of it, each job for about so many seconds.

        >>> [run.name for run in llm.run_jobs()]
        [...]
        """
        return run_now(self.jobs.run(budget, no_pause, force=force))

    async def arun_jobs(self, budget: float = 0.05, *, force: bool = False, pause: Pause = pause) -> list[JobRun]:
        """`run_jobs`, awaited; other tasks have their turn between slices of the work, as long as `pause` takes."""
        return await self.jobs.run(budget, pause, force=force)

    def stats(self) -> dict[str, Any]:
        """What this object holds and has done.

        >>> llm.stats()["agents"]
        83
        """
        return self.services.stats()

    def write(self) -> None:
        """Write what has waited long enough. Raises StoreError: the file takes nothing; all goes on waiting.

        >>> llm.write()
        """
        self.services.write()

    def dump(self) -> bytes:
        """All that is stored, as a state file that opens on every host. Raises StoreError: it cannot be read.

        >>> data = llm.dump()
        >>> llm.restore(data)
        """
        return self.services.dump()

    def restore(self, data: bytes) -> None:
        """Put what a `dump` gave in the place of all that is stored. See `Services.restore`.

        >>> data = llm.dump()
        >>> llm.restore(data)
        """
        run_now(self.services.restore(data, lambda router: router.warm(no_pause)))

    def close(self) -> None:
        """Write what waits, and release the state file. Raises StoreError: the file takes nothing.

        >>> llm.close()
        """
        self.services.close()

    @deprecated("close")
    def shutdown(self) -> None:
        """As RuvLLM for Rust calls it.

        >>> llm.shutdown()
        """
        self.close()

    async def aclose(self) -> None:
        """`close`, awaited: connections of backends are closed as well."""
        await self.services.aclose()

    def __enter__(self) -> RuvLLM:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
