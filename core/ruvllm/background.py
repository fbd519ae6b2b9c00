"""What a RuvLLM learns in the background, as loops that a host lets run when it has a moment."""

from __future__ import annotations

from typing import Protocol

from ruvllm.encoders.protocol import Pause
from ruvllm.learning.loops import HOUR, WEEK, Loop, Loops
from ruvllm.memory.consolidate import Consolidated, Consolidation, consolidate
from ruvllm.memory.memory import MemoryStore
from ruvllm.query.learners import Learners
from ruvllm.state.steps import Steps
from ruvllm.state.store import Store

__all__ = ["loops_of"]

_STEPS = 200  # of the model router's training in one run


class Learning(Protocol):
    """What is taught: a RuvLLM."""

    store: Store
    steps: Steps

    @property
    def memory(self) -> MemoryStore:
        """What it remembers."""
        ...

    @property
    def learners(self) -> Learners:
        """Patterns and the choice of models."""
        ...

    async def areview(self, pause: Pause) -> int:
        """Fit what feedback taught once more; how much there is."""
        ...


def loops_of(llm: Learning, settings: Consolidation | None = None) -> Loops:
    """Loop B: the router's review, patterns, the choice of models, retrieval. Loop C: concepts.

    Args:
        settings: when memories become concepts.
    """

    async def router(pause: Pause) -> str:
        count = await llm.areview(pause)
        return f"reviewed {count} feedbacks"

    async def patterns(pause: Pause) -> str:
        await pause()
        report = llm.learners.engine.force_learn()
        return f"distilled {report.patterns} patterns from {report.trajectories} trajectories"

    async def models(pause: Pause) -> str:
        learnt = await llm.learners.train(_STEPS, pause)
        return "too few rated turns" if learnt is None else f"{learnt.steps} steps"

    async def retrieval(pause: Pause) -> str:
        trained = await llm.memory.review(pause)
        if trained is None:
            return "too few rated searches"
        return f"nDCG@10 {trained.before:.3f} to {trained.after:.3f}" if trained.kept else "no better than before"

    async def concepts(pause: Pause) -> str:
        done = Consolidated()
        for collection in llm.memory.records.counts():
            for step in consolidate(llm.memory, collection, settings or Consolidation()):
                done += step
                await pause()
        return f"{done.concepts} concepts of {done.archived} memories"

    loops = [
        Loop("router", HOUR, router),
        Loop("patterns", HOUR, patterns),
        Loop("models", HOUR, models),
        Loop("retrieval", HOUR, retrieval),
        Loop("concepts", WEEK, concepts),
    ]
    return Loops(loops, llm.store, llm.steps)
