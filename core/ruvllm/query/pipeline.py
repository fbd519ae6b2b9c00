"""From a question to an answer: embed, search, expand, route, attend, compose, generate, learn; each step timed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing, suppress
from copy import copy
from dataclasses import dataclass, field, replace
from time import perf_counter
from typing import Any, cast

from ruvllm.config import Config
from ruvllm.encoders.protocol import Pause
from ruvllm.errors import BackendError, InputError, StoreError
from ruvllm.inference.backend import Backend, Chunk, Completion, LocalParams, Message, Params, Usage
from ruvllm.inference.extractive import Extractive
from ruvllm.inference.tiers import Ladder
from ruvllm.memory.memory import MemoryStore
from ruvllm.query.learners import Learners
from ruvllm.query.outcomes import Outcomes, Routing
from ruvllm.query.prompting import Prompt, compose, verbatim
from ruvllm.query.requests import Asked, EdgeKey, open_requests
from ruvllm.query.responses import STAGES, Applied, Constraints, Delta, Event, Response, Routed, Source
from ruvllm.query.retrieval import Retrieved, Retriever
from ruvllm.query.sessions import Conversation, new_id, open_sessions
from ruvllm.query.writeback import WriteBack
from ruvllm.query.writers import Plan, Writers, size_of, writes
from ruvllm.sizing.fastgrnn import Choice, ModelSize
from ruvllm.sizing.fastgrnn.session import RouterSession
from ruvllm.sizing.tiers import CONFIRM_FROM
from ruvllm.state.steps import Steps
from ruvllm.text.surrogates import well_formed
from ruvllm.types import Agent, Decision

__all__ = ["Pipeline", "Turn"]


@dataclass(slots=True)
class Turn:
    """One query on its way: each step fills in what the next ones need."""

    text: str
    constraints: Constraints
    conversation: Conversation | None
    state: RouterSession  # the session's, one turn on; the session takes it when the turn is finished
    messages: tuple[Message, ...] = ()
    request_id: str = field(default_factory=lambda: new_id("req"))
    found: Retrieved = field(init=False)
    decision: Decision = field(init=False)
    agent: Agent | None = None  # who answers; None where the router is too unsure of it
    choice: Choice | None = None
    sources: tuple[Source, ...] = ()
    edges: tuple[EdgeKey, ...] = ()
    plan: Plan = field(init=False)
    prompt: Prompt = field(init=False)
    writer: Backend = field(init=False)
    latency: dict[str, float] = field(default_factory=lambda: dict.fromkeys(STAGES, 0.0))  # µs
    began: float = field(default_factory=perf_counter)
    since: float = field(init=False)

    def __post_init__(self) -> None:
        self.since = self.began

    def lap(self, stage: str) -> None:
        """All time since the last lap belongs to this stage, so that none is lost between two of them."""
        now = perf_counter()
        self.latency[stage] += (now - self.since) * 1e6
        self.since = now

    @property
    def left(self) -> float | None:
        """Seconds until the answer has to be there; None without a limit."""
        limit = self.constraints.max_latency_ms
        return None if limit is None else max(0.0, limit / 1_000 - (perf_counter() - self.began))

    def too_slow(self) -> BackendError:
        """The error when there is no answer in time."""
        limit, name = self.constraints.max_latency_ms, self.plan.backend.name
        message = f"{name} had no answer within {limit:g} ms"
        return BackendError(message, kind="timeout", field="max_latency_ms", fix="allow more time, or a smaller model")

    def warnings(self, author: Backend, dropped: int) -> tuple[str, ...]:
        """What the answer had to do without, and who had to stand in for whom.

        Args:
            author: who gave it.
            dropped: messages that it did not read.
        """
        remembered = isinstance(author, Extractive)  # by one who reads all that was found
        out = () if remembered else self.prompt.left_out
        if dropped:
            out += (f"{dropped} of {len(self.prompt.messages)} messages did not fit into {author.name}'s context",)
        errors = self.writer.errors if isinstance(self.writer, Ladder) else ()
        if not errors or author is self.plan.backend:
            return out
        who = "memory" if remembered else author.name
        return (*out, f"{self.plan.backend.name} gave no answer ({errors[0].kind}); {who} answers instead")


_SESSIONS = 500  # written in one tick, at most


class Pipeline:
    """Answers queries.

    Args:
        memory: where sources come from, and good answers go.
        router: names agents, and takes feedback about them.
        writers: the backends.
        learners: what learns beside the router.
        config: of everything else.
        steps: guards what is done behind the answers.

    Attributes:
        queries: answered so far.
        micros: that they took in all, without the time that backends took.
    """

    def __init__(
        self,
        memory: MemoryStore,
        router: Routing,
        writers: Writers,
        learners: Learners,
        config: Config,
        steps: Steps,
    ) -> None:
        self.writers, self.learners, self._steps = writers, learners, steps
        self._memory, self._router, self._config = memory, router, config
        self._fresh = learners.start()
        self._choosing = learners.enabled and not writers.local
        self.sessions = open_sessions(lambda: copy(self._fresh), config.sessions, memory.store)
        self.log = open_requests(config.learning.requests, config.sessions.keep, memory.store)
        kept = config.memory if learners.enabled else replace(config.memory, write_back=False)
        self.writes = WriteBack(memory, kept)
        self._retriever = Retriever(memory, config.memory)
        self._outcomes = Outcomes(router, memory, self.writes, learners)
        self.queries, self.micros = 0, 0.0

    async def answer(
        self, text: str, session: str | None, constraints: Constraints, messages: Sequence[Message] = ()
    ) -> Response:
        """The whole answer. See `RuvLLM.aquery`."""
        turn = await self._prepare(text, session, constraints, messages)
        messages, params = turn.prompt.messages, self._params(turn)
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

    async def stream(
        self, text: str, session: str | None, constraints: Constraints, messages: Sequence[Message] = ()
    ) -> AsyncIterator[Event]:
        """The same in pieces. Until its last one is there nothing is kept of it: a caller may leave at any time."""
        turn = await self._prepare(text, session, constraints, messages)
        plan = turn.plan
        yield Routed(turn.request_id, session, turn.decision, plan.info, turn.prompt.sources)
        said, end = list[str](), Chunk("")
        params = self._params(turn)
        chunks = cast(Any, turn.writer.stream(turn.prompt.messages, params))
        async with aclosing(chunks):
            while (chunk := await self._next(turn, chunks)) is not None:
                end = chunk
                if chunk.text:
                    said.append(chunk.text)
                    yield Delta(well_formed(chunk.text), chunk.refusal)
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

    async def feedback(self, request_id: str, **said: Any) -> Applied:
        """See `RuvLLM.feedback_request`."""
        return await self._outcomes.apply(self.log.get(request_id), **said)

    async def tick(self, budget_s: float, pause: Pause) -> None:
        """Write what waits if it is time, and learn in the background. Raises StoreError: the file takes nothing."""
        with self._steps("answers"):
            if self.writes.due:
                self.writes.flush()
        with self._steps("sessions"):
            self.sessions.flush(_SESSIONS)
        self._memory.store.tick()
        await self.learners.tick(budget_s, self._steps, pause)

    def save(self) -> None:
        """Write all that waits. Raises StoreError: the file takes nothing."""
        with self._steps("answers"):
            self.writes.flush()
        with self._steps("sessions"):
            self.sessions.flush()
        with self._steps("requests"):
            self.log.save()
        self.learners.save(self._steps)
        with self._steps("memory"):
            self._memory.flush()

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
        vector = await self._memory.vector(text)
        turn.lap("embedding")
        turn.found = self._retriever.nearest(vector, constraints.max_latency_ms)
        turn.lap("retrieval")
        self._retriever.expand(turn.found)
        turn.lap("graph")
        turn.decision, agent = await self._routed(text)
        tier, pinned = turn.decision.tier, agent.tier is not None
        if turn.decision.confidence >= CONFIRM_FROM:
            turn.agent = agent
        elif pinned:  # an agent that is as likely as not the wrong one has no say
            tier, pinned = await self._router.atier(text), False
        turn.choice = turn.state.decide(vector, text) if self._choosing else None
        turn.plan = self.writers.plan(tier, pinned, turn.choice, constraints, passing=bool(turn.messages))
        turn.lap("routing")
        turn.sources, turn.edges = self._retriever.rank(turn.found)
        turn.lap("attention")
        self._compose(turn)
        turn.lap("context")
        return turn

    async def _routed(self, text: str) -> tuple[Decision, Agent]:
        decision = await self._router.aroute(text)
        try:
            return decision, self._router.agent(decision.agent)
        except InputError:  # the agents were replaced while it was being routed
            decision = await self._router.aroute(text)
            return decision, self._router.agent(decision.agent)

    def _compose(self, turn: Turn) -> None:
        plan, history = turn.plan, turn.conversation.history if turn.conversation else ()
        wished, most = plan.context
        said = plan.params.max_tokens
        max_tokens = LocalParams.of(plan.params).max_tokens
        if turn.messages:
            sources = turn.sources if plan.local else ()
            turn.prompt = verbatim(turn.messages, sources, wanted=wished, most=most, max_tokens=max_tokens)
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
        turn.writer = self.writers.over(plan, turn.sources, whole=bool(turn.messages))
        prompt = turn.prompt
        if (prompt.max_tokens, prompt.context) != (said, plan.info.context_size):
            # Without a limit of the caller's, a server behind a URL knows best where its answers end.
            limited = said is not None or turn.constraints.force_context is not None
            params = replace(plan.params, max_tokens=prompt.max_tokens) if limited else plan.params
            turn.plan = replace(plan, params=params, info=replace(plan.info, context_size=prompt.context))

    @staticmethod
    def _params(turn: Turn) -> Params:
        """With the time that is left. Raises BackendError: there is none."""
        if turn.left == 0:
            raise turn.too_slow()
        params, left = turn.plan.params, turn.left
        return params if left is None else replace(params, timeout=left)

    def _finish(self, turn: Turn, completion: Completion) -> Response:
        """Keep what is to be kept; nothing here waits, so it is done whole or not at all."""
        completion = replace(completion, text=well_formed(completion.text))
        tier, author = self.writers.author(turn.plan, completion)
        asked = self._asked(turn, completion, writes(author), size_of(tier, turn.choice))
        if turn.conversation is not None:
            self.sessions.add(turn.conversation, turn.state, turn.text, completion.text)
        self.log.add(asked)
        self.writes.offer(asked)
        if self.writes.due:  # the answer is there, whatever becomes of this; what the file does not take waits
            with suppress(StoreError), self._steps("answers"):
                self.writes.flush()
        info = turn.plan.info
        if (info.model, info.backend) != (completion.model, author.name):
            info = replace(info, model=completion.model, backend=author.name)
        turn.lap("learning")
        self.queries += 1
        total = sum(turn.latency.values())
        self.micros += total - turn.latency["generation"]
        return Response(
            request_id=turn.request_id,
            text=completion.text,
            confidence=completion.confidence,
            agent=turn.decision.agent,
            tier=tier,
            sources=turn.prompt.sources,
            routing=info,
            usage=completion.usage,
            cost=completion.cost,
            latency=turn.latency | {"total": total},
            decision=turn.decision,
            session_id=turn.conversation.id if turn.conversation else None,
            finish_reason=completion.finish_reason,
            warnings=turn.warnings(author, completion.dropped),
        )

    def _asked(self, turn: Turn, completion: Completion, written: bool, size: ModelSize | None) -> Asked:
        """For feedback. An answer that only repeats memory is not worth remembering, nor a broken-off one."""
        plan = turn.plan
        whole = completion.finish_reason == "stop" and bool(completion.text.strip())
        used = {source.id for source in turn.prompt.sources}
        return Asked(
            request_id=turn.request_id,
            text=turn.text,
            agent=turn.decision.agent,
            vector=turn.found.vector,
            answer=completion.text if whole and written else "",
            quality=_estimated(turn, completion) if whole else 0.0,
            used=written and turn.agent is not None and not turn.messages,
            sources=tuple(source.id for source in turn.prompt.sources),
            edges=tuple(edge for edge in turn.edges if used >= {*edge[:2]}),
            conversation=turn.conversation,
            turn=turn.choice.turn if turn.choice else -1,
            size=size if written else None,
            model=completion.model,
            tokens=(completion.usage.total_tokens or turn.prompt.tokens) + turn.prompt.needed - turn.prompt.tokens,
            cost=completion.cost,
            temperature=plan.params.temperature,
            top_p=plan.params.top_p,
        )


def _estimated(turn: Turn, completion: Completion) -> float:
    """How good an answer is before anybody rates it: no better than its route or, if it says so, its backend."""
    own, route = completion.confidence, turn.decision.confidence
    return route if own is None else min(own, route)
