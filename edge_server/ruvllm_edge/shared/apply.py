"""What was applied to a state file, taken in by the services that have it open."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from typing import TYPE_CHECKING, TypeVar

from ruvllm import Feedback
from ruvllm.encoders.protocol import Vectors, pause
from ruvllm.memory.replica import Applied, Outcome
from ruvllm_edge.hub import LogCoordinator

if TYPE_CHECKING:
    from ruvllm_edge.edge import Edge

T = TypeVar("T", Feedback, Outcome)
_SLICE = 16  # texts that are encoded at a time


async def take_in(edge: Edge, applied: Applied) -> None:
    """Route by the new feedback and agents, let outcomes teach patterns and the choice of models."""
    llm = edge.llm
    if applied.agents:
        await edge.agents.reload()
    if applied.undone:
        await llm.routing.review(pause)
    noted = llm.routing.note(applied.feedback) and not applied.undone
    async for given, vector in _read(edge, applied.feedback if noted else ()):
        with llm.steps("patterns"):
            await llm.learning.observe(vector, given.agent, given.right)
    if applied.deltas:
        with llm.steps("federated"):
            await llm.federated.pull(LogCoordinator(edge.hub, llm.store), pause)
    if applied.outcomes:
        llm.backends  # noqa: B018 - outcomes are of those that are configured
    async for one, vector in _read(edge, applied.outcomes):
        with llm.steps("patterns"):
            await llm.learning.ended(vector, one.agent, one.quality, one.success, one.model)
            llm.sizing.observe(one.model, one.text, vector, one.quality)


async def _read(edge: Edge, items: Sequence[T]) -> AsyncIterator[tuple[T, Vectors]]:
    """Each with the vector of its text (dim,)."""
    for start in range(0, len(items), _SLICE):
        some = items[start : start + _SLICE]
        vectors: Iterable[Vectors] = ()
        with edge.llm.steps("patterns"):
            vectors = await edge.llm.encoders.main.encode([one.text for one in some])
        for pair in zip(some, vectors, strict=False):
            yield pair
        await pause()
