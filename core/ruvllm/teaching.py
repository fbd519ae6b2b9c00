"""The part of a RuvLLM that is taught: feedback, what is fitted from it, and the state file it is kept in."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict
from functools import cached_property
from typing import TYPE_CHECKING

from ruvllm.choosing import Choosing
from ruvllm.encoders.protocol import Pause, no_pause, pause, run_now
from ruvllm.errors import InputError
from ruvllm.hints import by_object
from ruvllm.routing.fusion import RouterWeights
from ruvllm.routing.router import Router, checked_text
from ruvllm.routing.stored import keep_scorers
from ruvllm.text.surrogates import well_formed
from ruvllm.types import Agent, Feedback, Tier

if TYPE_CHECKING:
    from ruvllm.config import Config
    from ruvllm.inference.backend import Backend
    from ruvllm.learning.loops import Loops

__all__ = ["Teaching"]


_TASK = {"task": "text", "query": "text"}
_ANSWER = "give text and agent, or call feedback_request about an answer"


class Teaching(Choosing):
    """Feedback about agents, over one runtime's router and state."""

    config: Config
    router: Router
    weights: RouterWeights
    _backends: Mapping[Tier | str, Backend] | None

    @abstractmethod
    def _make_loops(self) -> Loops:
        """What learns in the background."""

    @abstractmethod
    def _make_router(self, agents: Sequence[Agent]) -> Router:
        """One for these agents, with what was kept of them."""

    @by_object("", _TASK, otherwise=_ANSWER)
    def feedback(self, text: str, agent: str, weight: float = 1.0, right: bool = True) -> None:
        """This text belongs to this agent: kept on disk first, then learnt at once.

        Args:
            weight: how much it counts, 0 < weight <= 10.
            right: False says that it does not belong there, wherever else it may.

        Raises:
            InputError: an unknown agent, an empty text or a weight out of range.
            StoreError: it could not be kept. What the file refuses alone is set aside, and learnt all the same.
        """
        run_now(self.afeedback(text, agent, weight, right))

    @by_object("", _TASK, otherwise=_ANSWER)
    async def afeedback(self, text: str, agent: str, weight: float = 1.0, right: bool = True) -> None:
        """`feedback`, awaited."""
        if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 < weight <= 10:
            raise InputError(f"weight is {weight!r}", field="weight", fix="use a number above 0, up to 10")
        name = well_formed(agent) if isinstance(agent, str) else agent
        feedback = Feedback(checked_text(text), name, float(weight), bool(right))
        self.router.check(feedback)
        self.store.set_aside.write_each(
            "feedback", [feedback], lambda _: [self.store.add_feedback(feedback)], lambda _: name, asdict
        )
        await self.router.learn(feedback)

    async def atier(self, text: str) -> Tier:
        """How strong a model a task needs, whoever takes it. Raises InputError: an empty text."""
        return await self.router.tier(checked_text(text))

    def review(self) -> int:
        """Fit what feedback taught once more, from all of it, and keep the result; returns how much there is.

        Raises:
            StoreError: it cannot be kept; what was learnt stands all the same.
        """
        return run_now(self.areview(no_pause))

    async def areview(self, pause: Pause = pause) -> int:
        """`review`, awaited; tasks go on being routed meanwhile."""
        router = self.router
        await router.review(pause)
        told = self._told(router.agents)
        keep_scorers(self.store, router.learnt, router.agents, told, self.weights)
        return len(told)

    def undo_feedback(self, id: int) -> bool:
        """Take feedback back, by its id in the state file: learnt from no more; whether there was such."""
        done = self.store.undo_feedback(id)
        if done:
            self._take_over(self._make_router(self.router.agents))
        return done

    @cached_property
    def loops(self) -> Loops:
        """Loop B and C: what is learnt in the background, when a host lets it."""
        return self._make_loops()

    def dump(self) -> bytes:
        """All that is kept, as a state file that opens on every host. Raises StoreError: it cannot be read."""
        from ruvllm.state.transfer import dump

        self._save()
        self.memory.flush()
        return dump(self.store)

    def restore(self, data: bytes) -> None:
        """Put what a `dump` gave, here or on another host, in the place of all that is kept.

        What has not been written yet, of before or of answers on their way, is dropped. The agents stay.

        Raises:
            StoreError: it is no whole state file, or cannot be written; nothing has changed then.
        """
        run_now(self.arestore(data, no_pause))

    async def arestore(
        self, data: bytes, pause: Pause = pause, fit: Callable[[Router], Awaitable[None]] | None = None
    ) -> None:
        """`restore`, awaited; `fit` as for `areplace_agents`."""
        from ruvllm.state.transfer import replaced

        with replaced(self.store, data):
            self._backends = self._left() or self._backends
            for read in ("memory", "loops"):
                self.__dict__.pop(read, None)
            router = self._make_router(self.router.agents)
            await (router.warm(pause) if fit is None else fit(router))
        self._take_over(router)

    def reconfigure(self, config: Config) -> None:
        """Answer with other options from now on; encoder, agents and state stay. Raises StoreError: as `close`."""
        self._save()
        self._backends, self.config = self._left() or self._backends, config

    def _told(self, agents: Sequence[Agent]) -> list[Feedback]:
        """All feedback for these agents, oldest first."""
        known = {agent.name for agent in agents}
        return [feedback for feedback in self.store.feedback() if feedback.agent in known]

    def _take_over(self, router: Router) -> None:
        """Teach a router all feedback that is for its agents, and let it answer from now on."""
        for feedback in self._told(router.agents):
            router.note(feedback)
        self.router = router
