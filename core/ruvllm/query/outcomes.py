"""Feedback about an answer, carried to everything that led to it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ruvllm.errors import InputError
from ruvllm.memory.graph import delta_of
from ruvllm.memory.memory import MemoryStore
from ruvllm.memory.subgraph import EdgeKey
from ruvllm.query.learners import Learners
from ruvllm.query.requests import LoggedRequest
from ruvllm.query.responses import Applied
from ruvllm.query.writeback import WriteBack
from ruvllm.routing.service import RoutingService
from ruvllm.sizing.chooser import ModelChooser
from ruvllm.sizing.fastgrnn.replay import Outcome
from ruvllm.text.surrogates import well_formed

_GOOD, _BAD = 4, 2  # ratings from and up to which an answer was good or bad, whatever came of the task
_BEST, _WORST = 5.0, 1.0
_MOST_TEXT = 100_000  # characters of a better answer
_COMPARED = 2  # sources, from which there is a choice
_SUPPORTS, _CLEARLY = 0.5, 0.05  # cosine of the source that says what the answer does, and how far ahead of the others
_READ = 2_000  # characters of an answer that are compared


class Outcomes:
    """Applies feedback."""

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
        request: LoggedRequest,
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
        if not request.vector.size:  # an earlier process has answered it
            request.vector = await self._memory.vector(request.text)
        effect = await self._tell_router(request, rating, task_success, agent)
        if correction is not None:
            self._correct(request, correction)
        await self._teach_queries(request, rating, task_success, correction)
        if rating is None and task_success is None:
            if agent is not None and not request.judged:
                observed = await self._learners.observe(request.vector, agent)
                request.judged = observed and request.used and agent == request.agent
            return Applied(effect, remembered=_remembered(request))
        request.quality = _quality(rating, task_success)
        memories, edges = self._move(request, delta_of(rating if rating is not None else _rating(task_success)))
        if _remembered(request) is None:
            self._writes.offer(request)
            self._writes.flush()
        if request.quality >= _of_rating(_GOOD):
            self._writes.state(request, "assistant")
        elif request.quality <= _of_rating(_BAD):
            self._writes.withdraw(request)
        first = not request.judged
        if first:
            by = agent or (request.agent if request.used else "")
            success = True if agent else task_success
            self._memory.store.outbox.outcome(request.text, by, request.model, request.quality, success)
        trajectory = await self._tell_patterns(request, task_success, agent)
        return Applied(effect, memories, edges, _remembered(request), trajectory, self._tell_sizes(request, first))

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
        self, request: LoggedRequest, rating: float | None, task_success: bool | None, agent: str | None
    ) -> str:
        """Only who speaks of the agent teaches the router: by its name, or by how the task that it did came out."""
        if agent is not None:
            await self._routing.feedback(request.text, agent)
            return "confirmed" if agent == request.agent else "corrected"
        if not request.used or task_success is None:
            return ""
        if rating is not None and (rating <= _BAD if task_success else rating >= _GOOD):
            return ""  # the one says this, the other that
        await self._routing.feedback(request.text, request.agent, right=task_success)
        return "confirmed" if task_success else "rejected"

    def _correct(self, request: LoggedRequest, text: str) -> None:
        """Keep a better answer in the place of the one that was given."""
        self._writes.offer(replace(request, answer=""))  # it need not wait any more
        better = replace(request, answer=well_formed(text.strip()), quality=1.0, memory=None, model="")
        self._writes.offer(better)
        self._writes.flush()
        self._writes.withdraw(request)
        self._writes.state(better, "assistant")
        if better.memory is not None:
            worse = [i for i in (request.memory, request.better) if i is not None]
            self._memory.archive(memory.id for memory in self._memory.records.get(worse))
            request.better = better.memory

    def _move(self, request: LoggedRequest, delta: float) -> tuple[int, int]:
        """Quality of the memories and weights of the edges that led there, by what this rating adds to the last."""
        change, request.moved = delta - request.moved, delta
        ids = [*request.sources, *([request.memory] if request.memory is not None else [])]
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
        wanted = {*request.edges, *((request.memory, source, "Cites") for source in request.sources if request.memory)}
        found = {(near.node, near.other, near.kind) for near in memory.graph.neighbours(there) if near.outgoing}
        joined = (one for one in memory.graph.bindings(there) if len({*one.members} & {*request.sources}) > 1)
        edges: list[EdgeKey | int] = [*sorted(wanted & found), *(one.id for one in joined)]
        aside.write_each(
            "weight",
            edges,
            lambda some: memory.graph.strengthen(dict.fromkeys(some, change)),
            lambda edge: f"hyperedge-{edge}" if isinstance(edge, int) else f"{edge[0]} {edge[1]} {edge[2]}",
            lambda edge: {"edge": edge, "change": change},
        )
        if delta > 0 and request.sources:  # what attention learns its ranking from
            memory.ratings.keep(request.vector, dict.fromkeys(request.sources, request.quality), request.request_id)
        return len(there), len(edges)

    async def _teach_queries(
        self, request: LoggedRequest, rating: float | None, task_success: bool | None, correction: str | None
    ) -> None:
        """Which of the sources answered is told by what the right answer says: it was given, or was good."""
        good = task_success is not False and (rating is None or rating >= _GOOD) and (rating or task_success)
        right = correction if correction is not None else request.answer if good else ""
        if not right or len(request.sources) < _COMPARED or self._memory.adapter is None:
            return
        there = sorted(self._memory.records.present(request.sources))
        if len(there) < _COMPARED:
            return
        cosines = self._memory.records.vectors(np.array(there, np.int64)) @ await self._memory.vector(right[:_READ])
        order = cosines.argsort()
        if cosines[order[-1]] >= _SUPPORTS and cosines[order[-1]] >= cosines[order[-2]] + _CLEARLY:
            without = (request.memory, request.better)
            self._memory.prefer(request.vector, [there[int(order[-1])]], self._writes.collection, without)

    async def _tell_patterns(self, request: LoggedRequest, task_success: bool | None, agent: str | None) -> bool:
        """Once for a request: a trajectory that has ended cannot be taken back."""
        if request.judged:
            return False
        if agent is not None:  # whoever did it, the task is that agent's
            request.judged = await self._learners.observe(request.vector, agent)
        else:
            by = request.agent if request.used else ""
            request.judged = await self._learners.ended(
                request.vector, by, request.quality, task_success, request.model
            )
        return request.judged

    def _tell_sizes(self, request: LoggedRequest, first: bool) -> bool:
        if not self._learners.learns_sizes or request.size is None:
            return False
        if first:  # what a backend's outcomes taught cannot be taken back
            self._sizing.observe(request.model, request.text, request.vector, request.quality)
        if request.turn < 0:
            request.turn = self._learners.turn(request.vector, request.text)
        outcome = Outcome(
            request.size, request.quality, request.cost, request.tokens, request.temperature, request.top_p
        )
        return self._learners.replay.label(request.turn, outcome)


def _remembered(request: LoggedRequest) -> int | None:
    return request.memory if request.better is None else request.better


def _rating(task_success: bool | None) -> float:
    return _BEST if task_success else _WORST


def _of_rating(rating: float) -> float:
    return (rating - 1) / 4


def _quality(rating: float | None, task_success: bool | None) -> float:
    """0 to 1, the mean of what was said."""
    said = [_of_rating(rating)] if rating is not None else []
    said += [float(task_success)] if task_success is not None else []
    return sum(said) / len(said)
