"""Feedback about an answer, carried to everything that led to it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ruvllm.errors import InputError
from ruvllm.memory.graph import delta_of
from ruvllm.memory.memory import MemoryStore
from ruvllm.memory.subgraph import EdgeKey
from ruvllm.query.learners import Learners
from ruvllm.query.requests import Asked
from ruvllm.query.responses import Applied
from ruvllm.query.writeback import WriteBack
from ruvllm.routing.service import RoutingService
from ruvllm.sizing.chooser import ModelChooser
from ruvllm.sizing.fastgrnn.replay import Outcome
from ruvllm.text.surrogates import well_formed

__all__ = ["Outcomes"]

_GOOD, _BAD = 4, 2  # ratings from and up to which an answer was good or bad, whatever came of the task
_BEST, _WORST = 5.0, 1.0
_MOST_TEXT = 100_000  # characters of a better answer
_COMPARED = 2  # sources, from which there is a choice
_SUPPORTS, _CLEARLY = 0.5, 0.05  # cosine of the source that says what the answer does, and how far ahead of the others
_READ = 2_000  # characters of an answer that are compared


class Outcomes:
    """Applies feedback.

    Args:
        routing: learns which agent was right.
        memory, writes: where sources and answers are kept.
        learners: what learns beside the router.
        sizing: learns how good the backends are.
    """

    def __init__(
        self,
        routing: RoutingService,
        memory: MemoryStore,
        writes: WriteBack,
        learners: Learners,
        sizing: ModelChooser,
    ) -> None:
        self._routing, self._memory, self._writes = routing, memory, writes
        self._learners, self._sizing = learners, sizing

    async def apply(
        self,
        asked: Asked,
        rating: float | None = None,
        correction: str | None = None,
        task_success: bool | None = None,
        agent: str | None = None,
    ) -> Applied:
        """Let all of them learn.

        Raises:
            InputError: nothing is said, or something of it is unusable; nothing has changed then.
            StoreError: it cannot be kept.
        """
        self._check(rating, correction, task_success, agent)
        if not asked.vector.size:  # an earlier process has answered it
            asked.vector = await self._memory.vector(asked.text)
        told = await self._tell_router(asked, rating, task_success, agent)
        if correction is not None:
            self._correct(asked, correction)
        await self._teach_queries(asked, rating, task_success, correction)
        if rating is None and task_success is None:
            if agent is not None and not asked.judged:
                observed = await self._learners.observe(asked.vector, agent)
                asked.judged = observed and asked.used and agent == asked.agent
            return Applied(told, remembered=_remembered(asked))
        asked.quality = _quality(rating, task_success)
        memories, edges = self._move(asked, delta_of(rating if rating is not None else _rating(task_success)))
        if _remembered(asked) is None:
            self._writes.offer(asked)
            self._writes.flush()
        first = not asked.judged
        if first:
            by = agent or (asked.agent if asked.used else "")
            success = True if agent else task_success
            self._memory.store.outbox.outcome(asked.text, by, asked.model, asked.quality, success)
        trajectory = await self._tell_patterns(asked, task_success, agent)
        return Applied(told, memories, edges, _remembered(asked), trajectory, self._tell_sizes(asked, first))

    def _check(self, rating: object, correction: object, task_success: object, agent: str | None) -> None:
        if rating is None and correction is None and task_success is None and agent is None:
            fix = "give a rating from 1 to 5, a correction (the better answer), an agent or task_success"
            raise InputError("the feedback says nothing", field="rating", fix=fix)
        number = isinstance(rating, int | float) and not isinstance(rating, bool)
        if rating is not None and not (number and 1 <= rating <= 5):  # type: ignore[operator]
            raise InputError(f"rating is {rating!r}"[:100], field="rating", fix="use 1 (bad) to 5 (good)")
        if not isinstance(task_success, bool | None):
            raise InputError("task_success is no truth value", field="task_success", fix="use True or False")
        said = correction.strip() if isinstance(correction, str) else ""
        if correction is not None and not 0 < len(said) <= _MOST_TEXT:
            fix = f"give the better answer, of up to {_MOST_TEXT} characters; the right agent goes into `agent`"
            raise InputError("the correction is no such text", field="correction", fix=fix)
        if agent is not None:
            self._routing.agent(agent)

    async def _tell_router(
        self, asked: Asked, rating: float | None, task_success: bool | None, agent: str | None
    ) -> str:
        """Only who speaks of the agent teaches the router: by its name, or by how the task that it did came out."""
        if agent is not None:
            await self._routing.feedback(asked.text, agent)
            return "confirmed" if agent == asked.agent else "corrected"
        if not asked.used or task_success is None:
            return ""
        if rating is not None and (rating <= _BAD if task_success else rating >= _GOOD):
            return ""  # the one says this, the other that
        await self._routing.feedback(asked.text, asked.agent, right=task_success)
        return "confirmed" if task_success else "rejected"

    def _correct(self, asked: Asked, text: str) -> None:
        """Keep a better answer in the place of the one that was given."""
        self._writes.offer(replace(asked, answer=""))  # it need not wait any more
        better = replace(asked, answer=well_formed(text.strip()), quality=1.0, memory=None, model="")
        self._writes.offer(better)
        self._writes.flush()
        if better.memory is not None:
            worse = [i for i in (asked.memory, asked.better) if i is not None]
            self._memory.archive(memory.id for memory in self._memory.records.get(worse))
            asked.better = better.memory

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
        joined = (one for one in memory.graph.bindings(there) if len({*one.members} & {*asked.sources}) > 1)
        edges: list[EdgeKey | int] = [*sorted(wanted & found), *(one.id for one in joined)]
        aside.write_each(
            "weight",
            edges,
            lambda some: memory.graph.strengthen(dict.fromkeys(some, change)),
            lambda edge: f"hyperedge-{edge}" if isinstance(edge, int) else f"{edge[0]} {edge[1]} {edge[2]}",
            lambda edge: {"edge": edge, "change": change},
        )
        if delta > 0 and asked.sources:  # what attention learns its ranking from
            memory.ratings.keep(asked.vector, dict.fromkeys(asked.sources, asked.quality), asked.request_id)
        return len(there), len(edges)

    async def _teach_queries(
        self, asked: Asked, rating: float | None, task_success: bool | None, correction: str | None
    ) -> None:
        """Which of the sources answered is told by what the right answer says: it was given, or was good."""
        good = task_success is not False and (rating is None or rating >= _GOOD) and (rating or task_success)
        right = correction if correction is not None else asked.answer if good else ""
        if not right or len(asked.sources) < _COMPARED or self._memory.adapter is None:
            return
        there = sorted(self._memory.records.present(asked.sources))
        if len(there) < _COMPARED:
            return
        cosines = self._memory.records.vectors(np.array(there, np.int64)) @ await self._memory.vector(right[:_READ])
        order = cosines.argsort()
        if cosines[order[-1]] >= _SUPPORTS and cosines[order[-1]] >= cosines[order[-2]] + _CLEARLY:
            without = (asked.memory, asked.better)
            self._memory.prefer(asked.vector, [there[int(order[-1])]], self._writes.collection, without)

    async def _tell_patterns(self, asked: Asked, task_success: bool | None, agent: str | None) -> bool:
        """Once for a request: a trajectory that has ended cannot be taken back."""
        if asked.judged:
            return False
        if agent is not None:  # whoever did it, the task is that agent's
            asked.judged = await self._learners.observe(asked.vector, agent)
        else:
            by = asked.agent if asked.used else ""
            asked.judged = await self._learners.ended(asked.vector, by, asked.quality, task_success, asked.model)
        return asked.judged

    def _tell_sizes(self, asked: Asked, first: bool) -> bool:
        if not self._learners.learns_sizes or asked.size is None:
            return False
        if first:  # what a backend's outcomes taught cannot be taken back
            self._sizing.observe(asked.model, asked.text, asked.vector, asked.quality)
        if asked.turn < 0:
            asked.turn = self._learners.turn(asked.vector, asked.text)
        outcome = Outcome(asked.size, asked.quality, asked.cost, asked.tokens, asked.temperature, asked.top_p)
        return self._learners.replay.label(asked.turn, outcome)


def _remembered(asked: Asked) -> int | None:
    return asked.memory if asked.better is None else asked.better


def _rating(task_success: bool | None) -> float:
    return _BEST if task_success else _WORST


def _quality(rating: float | None, task_success: bool | None) -> float:
    """0 to 1, the mean of what was said."""
    said = [(rating - 1) / 4] if rating is not None else []
    said += [float(task_success)] if task_success is not None else []
    return sum(said) / len(said)
