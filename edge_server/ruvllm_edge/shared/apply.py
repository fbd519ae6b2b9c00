"""What was applied to a state file, taken in by the services that have it open."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ruvllm.encoders.protocol import pause
from ruvllm.memory.replica import Applied
from ruvllm_edge.hub import LogCoordinator

if TYPE_CHECKING:
    from ruvllm_edge.edge import Edge


async def take_in(edge: Edge, applied: Applied) -> None:
    """Route by the new feedback and agents, let outcomes teach patterns and the choice of models."""
    llm = edge.llm
    if applied.agents:
        await edge.agents.reload()
    if applied.undone:
        await llm.routing.review(pause)
    noted = llm.routing.note(applied.feedback) and not applied.undone
    for given in applied.feedback if noted else ():
        with llm.steps("patterns"):
            await llm.learning.observe(given.text, given.agent, given.right)
    if applied.deltas:
        with llm.steps("federated"):
            await llm.federated.pull(LogCoordinator(edge.hub, llm.store), pause)
    if applied.outcomes:
        llm.backends  # noqa: B018 - outcomes are of those that are configured
    for one in applied.outcomes:
        with llm.steps("patterns"):
            (vector,) = await llm.aembed([one.text])
            await llm.learning.ended(vector, one.agent, one.quality, one.success, one.model)
            llm.sizing.observe(one.model, one.text, vector, one.quality)
