"""Feedback about an answer, carried to everything that led to it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from ruvllm.errors import InputError
from ruvllm.learning.sona import SonaEngine
from ruvllm.memory.graph import delta_of
from ruvllm.memory.memory import MemoryStore
from ruvllm.query.requests import Asked
from ruvllm.query.writeback import WriteBack
from ruvllm.responses import Applied
from ruvllm.routing.fastgrnn_replay import Outcome, Replay
from ruvllm.types import Agent, Decision

__all__ = ["Outcomes", "Routing"]

_GOOD, _BAD = 4, 2  # ratings from and up to which they say something about the agent
_BEST, _WORST = 5.0, 1.0


class Routing(Protocol):
    """What answers and learns which agent a text belongs to: a RuvLLM."""

    async def aroute(self, text: str, top: int = 3) -> Decision:
        """The agent."""
        ...

    async def afeedback(self, text: str, agent: str, weight: float = 1.0, right: bool = True) -> None:
        """Whether a text belongs to an agent."""
        ...

    def agent(self, name: str) -> Agent:
        """An agent by its name. Raises InputError: there is none."""
        ...


class Outcomes:
    """Applies feedback.

    Args:
        router: learns which agent was right.
        memory, writes: where sources and answers are kept.
        replay, engine: what learns beside the router; None where nothing shall.
    """

    def __init__(
        self,
        router: Routing,
        memory: MemoryStore,
        writes: WriteBack,
        replay: Replay | None,
        engine: Callable[[], SonaEngine] | None,
    ) -> None:
        self._router, self._memory, self._writes = router, memory, writes
        self._replay, self._engine = replay, engine

    async def apply(
        self, asked: Asked, rating: float | None, correction: str | None, task_success: bool | None
    ) -> Applied:
        """Let all of them learn.

        Raises:
            InputError: nothing is said, the rating is out of range, or no agent is called like the correction;
                nothing has changed then.
            StoreError: it cannot be kept.
        """
        self._check(rating, correction, task_success)
        agent = await self._tell_router(asked, rating, correction, task_success)
        if rating is None and task_success is None:
            return Applied(agent, remembered=asked.memory)
        asked.quality = _quality(rating, task_success)
        memories, edges = self._move(asked, delta_of(rating if rating is not None else _rating(task_success)))
        if asked.memory is None:
            self._writes.offer(asked)
            self._writes.flush()
        trajectory = await self._tell_patterns(asked, task_success)
        return Applied(agent, memories, edges, asked.memory, trajectory, self._tell_sizes(asked))

    def _check(self, rating: object, correction: str | None, task_success: object) -> None:
        if rating is None and correction is None and task_success is None:
            fix = "give a rating from 1 to 5, a correction or task_success"
            raise InputError("the feedback says nothing", field="rating", fix=fix)
        number = isinstance(rating, int | float) and not isinstance(rating, bool)
        if rating is not None and not (number and 1 <= rating <= 5):  # type: ignore[operator]
            raise InputError(f"rating is {rating!r}"[:100], field="rating", fix="use 1 (bad) to 5 (good)")
        if not isinstance(task_success, bool | None):
            raise InputError("task_success is no truth value", field="task_success", fix="use True or False")
        if correction is not None:
            self._router.agent(correction)

    async def _tell_router(
        self, asked: Asked, rating: float | None, correction: str | None, task_success: bool | None
    ) -> str:
        """A failure is no confirmation, whatever the rating; a correction outweighs both."""
        if correction is not None:
            await self._router.afeedback(asked.text, correction)
            return "confirmed" if correction == asked.agent else "corrected"
        if task_success is not False and (task_success or (rating or 0) >= _GOOD):
            if rating is not None and rating <= _BAD:
                return ""
            await self._router.afeedback(asked.text, asked.agent)
            return "confirmed"
        if (rating is not None and rating <= _BAD) or (rating is None and task_success is False):
            await self._router.afeedback(asked.text, asked.agent, right=False)
            return "rejected"
        return ""

    def _move(self, asked: Asked, delta: float) -> tuple[int, int]:
        """Quality of the memories and weights of the edges that led there, by what this rating adds to the last."""
        change, asked.moved = delta - asked.moved, delta
        ids = [*asked.sources, *([asked.memory] if asked.memory is not None else [])]
        if not change or not ids:
            return 0, 0
        memory, aside = self._memory, self._memory.store.set_aside
        there = sorted(memory.records.present(ids))
        aside.write_each(
            "quality",
            there,
            lambda some: memory.records.rate(dict.fromkeys(some, change)),
            str,
            lambda id: {"id": id, "change": change},
        )
        wanted = {*asked.edges, *((asked.memory, source, "Cites") for source in asked.sources if asked.memory)}
        found = {(near.node, near.other, near.kind) for near in memory.graph.neighbours(there) if near.outgoing}
        edges = sorted(wanted & found)
        aside.write_each(
            "weight",
            edges,
            lambda some: memory.graph.strengthen(dict.fromkeys(some, change)),
            lambda edge: f"{edge[0]} {edge[1]} {edge[2]}",
            lambda edge: {"source": edge[0], "target": edge[1], "kind": edge[2], "change": change},
        )
        if delta > 0 and asked.sources:  # what attention learns its ranking from
            memory.ratings.keep(asked.vector, dict.fromkeys(asked.sources, asked.quality), asked.request_id)
        return len(there), len(edges)

    async def _tell_patterns(self, asked: Asked, task_success: bool | None) -> bool:
        """Once for a request: a trajectory that has ended cannot be taken back."""
        if self._engine is None or asked.judged or not asked.vector.any():  # no word of it is known
            return False
        engine = self._engine()
        id = engine.begin_trajectory(asked.vector, asked.agent)
        engine.add_trajectory_context({"agent": asked.agent, "model": asked.model}, id)
        asked.judged = True
        return await engine.aend_trajectory(asked.quality, task_success, id) is not None

    def _tell_sizes(self, asked: Asked) -> bool:
        if self._replay is None or asked.size is None or asked.turn < 0:
            return False
        outcome = Outcome(asked.size, asked.quality, asked.cost, asked.tokens, asked.temperature, asked.top_p)
        return self._replay.label(asked.turn, outcome)


def _rating(task_success: bool | None) -> float:
    return _BEST if task_success else _WORST


def _quality(rating: float | None, task_success: bool | None) -> float:
    """0 to 1, the mean of what was said."""
    said = [(rating - 1) / 4] if rating is not None else []
    said += [float(task_success)] if task_success is not None else []
    return sum(said) / len(said)
