"""From a question to an answer: embed, search, expand, route, attend, compose, generate, learn; each step timed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine, Mapping, Sequence
from contextlib import aclosing, suppress
from copy import copy
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar, cast

from ruvllm.config import Config
from ruvllm.encoders.protocol import run_now
from ruvllm.errors import InputError, StoreError
from ruvllm.inference.backend import (
    Backend,
    Chunk,
    Completion,
    LocalParams,
    Message,
    Usage,
    estimate_tokens,
    estimate_usage,
)
from ruvllm.inference.extractive import Extractive
from ruvllm.inference.factory import make_tiers
from ruvllm.memory.memory import MemoryStore
from ruvllm.query.learners import Learners
from ruvllm.query.outcomes import Outcomes
from ruvllm.query.prompting import compose, framed, verbatim
from ruvllm.query.requests import open_requests
from ruvllm.query.responses import Applied, Constraints, Delta, Event, Response, Routed, Session
from ruvllm.query.retrieval import Retrieved, Retriever
from ruvllm.query.sessions import open_sessions
from ruvllm.query.turn import CallerLoop, Turn
from ruvllm.query.writeback import WriteBack
from ruvllm.query.writers import Editor, Writers, size_of, writes
from ruvllm.routing.reading import checked_text
from ruvllm.routing.service import RoutingService
from ruvllm.sizing.chooser import ModelChooser
from ruvllm.sizing.tiers import Features, Limits, tier_by, unsure
from ruvllm.state.steps import Steps
from ruvllm.text.surrogates import well_formed
from ruvllm.types import Agent, Choice, Decision, Tier

if TYPE_CHECKING:
    from ruvllm.rlm.answers import RlmAnswer, RlmEvent
    from ruvllm.rlm.controller import RlmController
    from ruvllm.rlm.document import Document


T = TypeVar("T")
_SESSIONS = 500  # written in one tick, at most
_LOOP = 8_192  # tokens that a loop of tools adds to a conversation before its user asks anew


class QueryService:
    """Answers queries, keeps sessions and takes feedback about answers.

    Args:
        backends: by tier or its name, in the place of the configured ones.

    Attributes:
        writers: the backends, and how each is asked.
        queries: answered so far.
        micros: that they took in all, without the time that backends took.

    Raises:
        ConfigError: a backend that cannot be made, or for a tier that there is not.
    """

    def __init__(
        self,
        routing: RoutingService,
        memory: MemoryStore,
        sizing: ModelChooser,
        config: Config,
        steps: Steps,
        learners: Learners,
        backends: Mapping[Tier | str, Backend] | None = None,
    ) -> None:
        tiers = make_tiers(config.inference, memory.encoder, backends)
        self.writers = writers = Writers(tiers, config.inference, Extractive(memory.encoder))
        self.learners = learners
        self._routing, self._memory, self._sizing = routing, memory, sizing
        self._config, self._steps = config, steps
        sizing.serve(writers.profiles(), learners.enabled)
        self._loop: CallerLoop | None = None
        self._fresh = learners.start()
        self._choosing = learners.learns_sizes and not writers.local
        self.sessions = open_sessions(lambda: copy(self._fresh), config.sessions, memory.store)
        self.log = open_requests(config.learning.requests, config.sessions.keep, memory.store)
        memory_config = config.memory if learners.enabled else replace(config.memory, write_back=False)
        self.writes = WriteBack(memory, memory_config)
        self._retriever = Retriever(memory, config.memory)
        self._outcomes = Outcomes(routing, memory, self.writes, learners, sizing)
        self.queries, self.micros = 0, 0.0

    async def answer(
        self,
        text: str,
        *,
        session: Session | str | None = None,
        constraints: Constraints | Mapping[str, Any] | None = None,
        messages: Sequence[Message] = (),
    ) -> Response:
        """The whole answer, with who gave it, from what, and how long each step took.

        Args:
            session: of `new_session`, or its id, whose history the answer takes into account.
            constraints: what to insist on, as Constraints or as a mapping of its fields.
            messages: the whole conversation as the backend shall read it, where the caller keeps it: then neither
                history nor notes are added, and `text` is only what is routed and remembered.

        Raises:
            InputError: an unusable text, session or constraint.
            BackendError: no backend gave an answer.
        """
        turn = await self._prepare(checked_text(text), id_of(session), Constraints.of(constraints), messages)
        messages, params = turn.prompt.messages, turn.params()
        if turn.left is None or self.writers.local:
            completion = await turn.writer.generate(messages, params)
        else:
            try:
                async with asyncio.timeout(turn.left):
                    completion = await turn.writer.generate(messages, params)
            except TimeoutError:
                raise turn.too_slow() from None
        turn.lap("generation")
        return self._finish(turn, completion)

    def stream(
        self,
        text: str,
        *,
        session: Session | str | None = None,
        constraints: Constraints | Mapping[str, Any] | None = None,
        messages: Sequence[Message] = (),
    ) -> AsyncIterator[Event]:
        """The same as events: one `Routed`, the text as `Delta`s, and the whole `Response` at the end.

        A caller may stop at any time (`aclosing` stops the backend at once); the query then leaves no trace.
        """
        return self._stream(checked_text(text), id_of(session), Constraints.of(constraints), messages)

    async def _stream(
        self, text: str, session: str | None, constraints: Constraints, messages: Sequence[Message]
    ) -> AsyncIterator[Event]:
        turn = await self._prepare(text, session, constraints, messages)
        plan = turn.plan
        yield Routed(turn.request_id, session, turn.decision, plan.info, turn.prompt.sources, plan.choice)
        said, end = list[str](), Chunk("")
        params = turn.params()
        chunks = cast(Any, turn.writer.stream(turn.prompt.messages, params))
        async with aclosing(chunks):
            while (chunk := await self._next(turn, chunks)) is not None:
                end = chunk
                if chunk.text or chunk.events:
                    said.append(chunk.text)
                    yield Delta(well_formed(chunk.text), chunk.refusal, chunk.events, chunk.whole)
        turn.lap("generation")
        whole = Completion(
            "".join(said),
            end.model or plan.backend.model,
            end.usage or Usage(),
            end.finish_reason or "length",
            end.cost,
            end.confidence,
            end.backend,
            end.dropped,
        )
        yield self._finish(turn, whole)

    async def feedback(
        self,
        request_id: str,
        rating: float | None = None,
        correction: str | None = None,
        task_success: bool | None = None,
        agent: str | None = None,
    ) -> Applied:
        """How an answer was; everything that led to it learns from that.

        Sources and the edges between them rise or fall by (rating - 3) / 10, good answers are remembered, and patterns
        and the choice of model sizes learn. A later rating of the same request takes the place of the former. Which
        agent is right is another question: the router learns it from `agent`, and from the success or failure of a
        task that a model did as that agent (see `Response.decision`).

        Args:
            request_id: of a Response; the latest 100 are there for later processes too.
            rating: 1 (bad) to 5 (good).
            correction: the better answer, a text, which is remembered in the place of the one given.
            task_success: whether the task was solved.
            agent: name of the agent that is right for the question.

        Raises:
            InputError: an unknown request or agent, a rating out of range, or nothing is said.
            StoreError: the file takes nothing.
        """
        request = self.log.get(request_id)
        return await self._outcomes.apply(request, rating, correction, task_success, agent)

    def session(self, id: Session | str) -> Session:
        """A conversation as it stands. Raises InputError: there is none, or it has ended."""
        return self.sessions.get(id_of(id) or "").snapshot()

    def end_session(self, id: Session | str) -> bool:
        """Forget a conversation; whether there was one."""
        return self.sessions.end(id_of(id) or "")

    def forget(self, texts: Sequence[str]) -> None:
        """Let go of requests and turns of sessions that repeat one of these texts."""
        self.log.forget(texts)
        self.sessions.forget(texts)

    def write(self) -> None:
        """Write what has waited long enough, or is enough. Raises StoreError: the file takes nothing."""
        with self._steps("answers"):
            if self.writes.due:
                self.writes.flush()
        with self._steps("sessions"):
            self.sessions.flush(_SESSIONS)
        self._memory.store.tick()

    def save(self) -> None:
        """Write all that waits. Raises StoreError: the file takes nothing."""
        with self._steps("answers"):
            self.writes.flush()
            self.writes.state_now()
        with self._steps("sessions"):
            self.sessions.flush()
        with self._steps("requests"):
            self.log.save()
        self.learners.save(self._steps)
        with self._steps("memory"):
            self._memory.flush()

    def rlm(self, backend: Backend | None = None, agent_id: str | None = None, **settings: Any) -> RlmController:
        """What takes complex queries and long documents apart, with this memory and these backends.

        Args:
            backend: writes; the large tier's when None, and what is found word for word where that is no model.
            agent_id: who is answered from what is shared and their own.
            settings: fields of `RlmConfig`, and `decomposer`. Raises ConfigError: one is unknown or out of range.
        """
        from ruvllm.rlm.answers import VisibleTo
        from ruvllm.rlm.controller import RlmController

        tiers = self.writers.tiers
        if backend is None and any(map(writes, tiers.backends.values())):
            backend = tiers.at(Tier.LARGE)
        memory = self._memory if agent_id is None else VisibleTo(self._memory, agent_id)
        return RlmController(self._memory.encoder, backend, memory, **settings)

    async def answer_deep(
        self,
        text: str,
        *,
        context: str | Document | None = None,
        models: tuple[str, ...] | None = None,
        **settings: Any,
    ) -> RlmAnswer:
        """The answer to a complex query, put together from those to its parts.

        Args:
            context: a text to answer from, of any length, beside what is remembered.
            models: names of the backends that may answer; all of them when None.
            settings: as for `rlm`, which is what to use for more than one query.
        """
        controller, choice = await self._deep(text, settings, models)
        answer = await controller.aquery(text, context=context)
        return answer if choice is None else replace(answer, choice=choice)

    async def stream_deep(
        self,
        text: str,
        models: tuple[str, ...] | None = None,
        context: str | Document | None = None,
        **settings: Any,
    ) -> AsyncGenerator[RlmEvent, None]:
        """The same as events: plans, the answer to each part as it comes, the text in pieces, the whole at the end."""
        from ruvllm.rlm.answers import RlmAnswer

        controller, choice = await self._deep(text, settings, models)
        async with aclosing(controller.astream(text, context=context)) as events:
            async for event in events:
                yield replace(event, choice=choice) if isinstance(event, RlmAnswer) else event

    async def _deep(
        self, text: str, settings: Mapping[str, Any], models: tuple[str, ...] | None
    ) -> tuple[RlmController, Choice | None]:
        """What takes a query apart, with the backend that was chosen for it; no choice where there is no model."""
        if "backend" in settings or not any(map(writes, self.writers.tiers.backends.values())):
            return self.rlm(**settings), None
        text = checked_text(text)
        decision, agent = await self._routed(text)
        doubt, vector = unsure(decision.confidence), await self._memory.vector(text)
        trained = await self._routing.router.trained_tier(text)
        features = Features(text, None if doubt else agent, trained=trained, vector=vector, unsure=doubt)
        choice = self._sizing.choose(features, Limits(models=models))
        return self.rlm(self.writers.tiers.at(choice.tier, others=choice.others), **settings), choice

    def wait(self, coroutine: Coroutine[Any, Any, T], awaited: str) -> T:
        """What a coroutine gives, for a synchronous caller.

        Args:
            awaited: what to await instead where an event loop is running.

        Raises:
            InputError: one is running, which would stand still meanwhile.
        """
        if self.writers.local:
            return run_now(coroutine)
        if self._loop is None:
            self._loop = CallerLoop()
        return self._loop.run(coroutine, awaited)

    def close(self) -> None:
        """Write all that waits and let go of the backends. Raises StoreError: the file takes nothing."""
        try:
            self.save()
        finally:
            if self._loop is not None:
                self._loop.close(self.writers.tiers.close())
                self._loop = None

    def stats(self) -> dict[str, Any]:
        """Counts since it began, and what there is now."""
        return {
            "total_queries": self.queries,
            "avg_latency_us": round(self.micros / max(self.queries, 1), 1),
            "sessions": len(self.sessions),
            "requests": len(self.log),
            "waiting": len(self.writes),
            "memory_nodes": sum(self._memory.records.counts().values()),
        }

    async def _next(self, turn: Turn, chunks: AsyncIterator[Chunk]) -> Chunk | None:
        if turn.left is None or self.writers.local:
            return await anext(chunks, None)
        try:
            return await asyncio.wait_for(anext(chunks), turn.left)
        except StopAsyncIteration:
            return None
        except TimeoutError:
            raise turn.too_slow() from None

    async def _prepare(
        self, text: str, session: str | None, constraints: Constraints, messages: Sequence[Message]
    ) -> Turn:
        """All that comes before generation. It changes nothing that outlives the turn."""
        conversation = None if session is None else self.sessions.get(session)
        state = copy(self._fresh if conversation is None else conversation.state)
        turn = Turn(text, constraints, conversation, state, tuple(messages))
        turn.vector = vector = await self._memory.vector(text)
        turn.lap("embedding")
        if turn.messages and not (self.writers.remember or "memory" in constraints.adds):
            turn.found = Retrieved(vector)
        else:
            turn.found = await self._retriever.anearest(vector, constraints.max_latency_ms, text, constraints.agent_id)
        turn.lap("retrieval")
        self._retriever.expand(turn.found)
        turn.lap("graph")
        turn.decision, agent = await self._routed(text)
        doubt = unsure(turn.decision.confidence)
        turn.agent = None if doubt else agent  # one that is as likely as not the wrong one has no say
        turn.size = turn.state.decide(vector, text) if self._choosing else None
        turn.edited = turn.edit()
        tokens = estimate_usage(messages, "").prompt_tokens or estimate_tokens(text)
        worth, extra = await self._routing.router.trained_worth(text), self.writers.extra(constraints, tokens)
        features = Features(
            text,
            turn.agent,
            edit=turn.edited.summary if turn.edited else "",
            trained=None if worth is None else tier_by(worth, 1.0 if extra is None else extra),
            weighed=worth is not None and extra is not None,
            vector=vector,
            size=turn.size,
            tokens=tokens,
            unsure=doubt,
            request=constraints.force_model or "",
            stay=constraints.stay,
            looping=constraints.looping,
            dearer=self.writers.dearer(constraints, tokens) if constraints.stay else None,
            passing=bool(constraints.api),
            room=_LOOP if constraints.extra.get("tools") and not constraints.looping else 0,
        )
        choice = self._sizing.choose(
            features, Limits(constraints.max_cost, constraints.max_latency_ms, models=constraints.models)
        )
        editor = Editor(turn.edited.text) if turn.edited and choice.by == "edit" else None
        turn.plan = self.writers.plan(choice, turn.size, constraints, passing=bool(turn.messages), editor=editor)
        turn.lap("routing")
        if editor is None:
            turn.sources, turn.edges = self._retriever.rank(turn.found)
            turn.attention = self._retriever.summary(turn.found) if constraints.explain else None
        turn.lap("attention")
        self._compose(turn)
        turn.lap("context")
        return turn

    async def _routed(self, text: str) -> tuple[Decision, Agent]:
        decision = await self._routing.route(text)
        try:
            return decision, self._routing.agent(decision.agent)
        except InputError:  # the agents were replaced while it was being routed
            decision = await self._routing.route(text)
            return decision, self._routing.agent(decision.agent)

    def _compose(self, turn: Turn) -> None:
        plan, history = turn.plan, turn.conversation.history if turn.conversation else ()
        wished, most = plan.context
        said = plan.params.max_tokens
        max_tokens = LocalParams.of(plan.params).max_tokens
        if turn.messages:
            sources = turn.sources if plan.local else ()
            turn.prompt = verbatim(turn.messages, sources, wanted=wished, most=most, max_tokens=max_tokens)
            adds = turn.constraints.adds
            if "memory" in adds or "persona" in adds:
                agent, notes = turn.agent if "persona" in adds else None, turn.sources if "memory" in adds else ()
                turn.prompt, extra = framed(turn.prompt, agent, notes, plan.params.extra, turn.constraints.api)
                turn.plan = plan = replace(plan, params=replace(plan.params, extra=extra))
        else:
            turn.prompt = compose(
                turn.text,
                turn.agent,
                turn.sources,
                history,
                wanted=wished,
                most=most,
                max_tokens=max_tokens,
                learnt=plan.learnt,
            )
        turn.writer = self.writers.over(plan, turn.sources, turn.found, whole=bool(turn.messages))
        prompt = turn.prompt
        if (prompt.max_tokens, prompt.context) != (said, plan.info.context_size):
            # Without a limit of the caller's, a server behind a URL knows best where its answers end.
            limited = said is not None or turn.constraints.force_context is not None
            params = replace(plan.params, max_tokens=prompt.max_tokens) if limited else plan.params
            turn.plan = replace(plan, params=params, info=replace(plan.info, context_size=prompt.context))

    def _finish(self, turn: Turn, completion: Completion) -> Response:
        """Keep what is to be kept; nothing here waits, so it is done whole or not at all."""
        completion = replace(completion, text=well_formed(completion.text))
        tier, author = self.writers.author(turn.plan, completion)
        request = turn.logged(completion, writes(author), size_of(tier, turn.size))
        if turn.conversation is not None:
            self.sessions.add(turn.conversation, turn.state, turn.text, completion.text)
        self.log.add(request)
        self.writes.offer(request)
        if turn.keeps:
            self.writes.state(request)
        if self.writes.due:  # the answer is there, whatever becomes of this; what the file does not take waits
            with suppress(StoreError), self._steps("answers"):
                self.writes.flush()
        info = turn.plan.info
        if (info.model, info.backend) != (completion.model, author.name):
            info = replace(info, model=completion.model, backend=author.name)
        if author is turn.plan.backend and writes(author):
            self._sizing.measure(tier, completion.cost, turn.latency["generation"] / 1_000)
        turn.lap("learning")
        self.queries += 1
        self.micros += sum(turn.latency.values()) - turn.latency["generation"]
        return turn.response(completion, tier, info, author)


def id_of(session: Session | str | None) -> str | None:
    """Of a session that may be given as such. Raises InputError: it is neither."""
    if isinstance(session, Session):
        return session.id
    if not isinstance(session, str | None):
        fix = "give what new_session returned, or its id"
        raise InputError(f"session is a {type(session).__name__}", field="session", fix=fix)
    return session
