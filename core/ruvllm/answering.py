"""The part of a RuvLLM that answers queries, keeps sessions and takes feedback about answers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Coroutine, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

from ruvllm.encoders.protocol import no_pause, pause, run_now
from ruvllm.errors import InputError
from ruvllm.hints import Hinting, by_object
from ruvllm.query.responses import Applied, Constraints, Event, Response, Session
from ruvllm.routing.router import checked_text

if TYPE_CHECKING:
    from ruvllm.inference.backend import Backend, Message
    from ruvllm.learning.patterns import Pattern
    from ruvllm.query.learners import Learners
    from ruvllm.query.loops import OwnLoop
    from ruvllm.query.pipeline import Pipeline
    from ruvllm.types import Tier

__all__ = ["Answering"]

T = TypeVar("T")


class Answering(Hinting, ABC):
    """Queries, sessions and feedback. What they need is loaded when the first of them is used."""

    @abstractmethod
    def _make_pipeline(self) -> Pipeline:
        """What answers."""

    @cached_property
    def _pipeline(self) -> Pipeline:
        return self._make_pipeline()

    @cached_property
    def _loop(self) -> OwnLoop:
        from ruvllm.query.loops import OwnLoop

        return OwnLoop()

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
            InputError: an unusable text or session, an unknown `force_model`, or a call inside a running event loop
                with a backend that has to be awaited.
            BackendError: no backend gave an answer.
        """
        return self._wait(self.aquery(text, session=session, constraints=constraints), "aquery")

    async def aquery(
        self,
        text: str,
        *,
        session: Session | str | None = None,
        constraints: Constraints | Mapping[str, Any] | None = None,
        messages: Sequence[Message] = (),
    ) -> Response:
        """`query`, awaited.

        Args:
            messages: the whole conversation as the backend shall read it, where the caller keeps it: then neither
                history nor notes are added, and `text` is only what is routed and remembered.
        """
        asked = checked_text(text), _id(session), Constraints.of(constraints)
        return await self._pipeline.answer(*asked, messages)

    def aquery_stream(
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
        return self._pipeline.stream(checked_text(text), _id(session), Constraints.of(constraints), messages)

    @property
    def backends(self) -> Mapping[Tier, Backend]:
        """What writes the answers of each tier."""
        return self._pipeline.writers.backends

    def query_session(
        self, session: Session | str, text: str, constraints: Constraints | Mapping[str, Any] | None = None
    ) -> Response:
        """`query` in a session."""
        return self.query(text, session=session, constraints=constraints)

    def new_session(self, metadata: Mapping[str, Any] | None = None, id: str | None = None) -> Session:
        """Begin a conversation.

        Args:
            metadata: what is known of it, for the caller's own use.
            id: a name of the caller's own; a random one when None.

        Raises:
            InputError: the id is taken, or unusable.
        """
        return self._pipeline.sessions.new(metadata, id).snapshot()

    def session(self, id: Session | str) -> Session:
        """A conversation as it stands. Raises InputError: there is none, or it has ended."""
        return self._pipeline.sessions.get(_id(id) or "").snapshot()

    def end_session(self, id: Session | str) -> bool:
        """Forget a conversation; whether there was one."""
        return self._pipeline.sessions.end(_id(id) or "")

    @by_object()
    def feedback_request(
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
            request_id: of a Response; the latest 100 are known to later processes too.
            rating: 1 (bad) to 5 (good).
            correction: the better answer, a text, which is remembered in the place of the one given.
            task_success: whether the task was solved.
            agent: name of the agent that is right for the question.

        Raises:
            InputError: an unknown request or agent, a rating out of range, or nothing is said.
            StoreError: it cannot be kept.
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
        said = {"rating": rating, "correction": correction, "task_success": task_success, "agent": agent}
        return await self._pipeline.feedback(request_id, **said)

    @property
    def unavailable(self) -> list[str]:
        """Names of the backends that could not answer when they were last asked."""
        return self._pipeline.writers.tiers.unavailable() if "_pipeline" in self.__dict__ else []

    @property
    def learners(self) -> Learners:
        """Patterns of what worked, and the choice of model sizes."""
        return self._pipeline.learners

    def get_patterns(self, limit: int | None = None) -> list[Pattern]:
        """What has worked for which kind of task, the most valuable first."""
        return self._pipeline.learners.engine.get_patterns(limit)

    def tick(self, budget_s: float = 0.05) -> None:
        """For a host's timer: write what waits, and learn in the background for about so long.

        Raises:
            StoreError: it cannot be written; it goes on waiting.
        """
        if "_pipeline" in self.__dict__:
            run_now(self._pipeline.tick(budget_s, no_pause))

    async def atick(self, budget_s: float = 0.05) -> None:
        """`tick`, awaited."""
        if "_pipeline" in self.__dict__:
            await self._pipeline.tick(budget_s, pause)

    async def aclose(self) -> None:
        """`close`, awaited: connections of backends are closed as well."""
        try:
            if "_pipeline" in self.__dict__:
                await self._pipeline.writers.tiers.close()
        finally:
            self.close()

    @abstractmethod
    def close(self) -> None:
        """Write what waits, and release everything."""

    def _stop(self) -> None:
        """For `close`: keep what waits. Raises StoreError: it cannot be written."""
        if "_pipeline" not in self.__dict__:
            return
        try:
            self._pipeline.save()
        finally:
            if "_loop" in self.__dict__:
                self._loop.close(self._pipeline.writers.tiers.close())
                del self._loop
            del self._pipeline

    def _save(self) -> None:
        """Write what waits. Raises StoreError: it cannot be written."""
        if "_pipeline" in self.__dict__:
            self._pipeline.save()

    def _left(self) -> Mapping[Tier | str, Backend]:
        """Drop what answers, without writing what waits; the backends that are open, for who answers next."""
        pipeline = self.__dict__.pop("_pipeline", None)
        return {} if pipeline is None else dict(pipeline.writers.backends)

    def _query_stats(self) -> dict[str, Any]:
        return self._pipeline.stats() if "_pipeline" in self.__dict__ else {"total_queries": 0}

    def _wait(self, coroutine: Coroutine[Any, Any, T], awaited: str) -> T:
        try:
            local = self._pipeline.writers.local
        except BaseException:  # a backend that cannot be made
            coroutine.close()
            raise
        if local:
            return run_now(coroutine)
        return self._loop.run(coroutine, awaited)


def _id(session: Session | str | None) -> str | None:
    """Of a session that may be given as such. Raises InputError: it is neither."""
    if isinstance(session, Session):
        return session.id
    if not isinstance(session, str | None):
        fix = "give what new_session returned, or its id"
        raise InputError(f"session is a {type(session).__name__}", field="session", fix=fix)
    return session
