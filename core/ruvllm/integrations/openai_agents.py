"""Handoffs of the OpenAI Agents SDK, chosen before a model is asked: to the agent that a task belongs to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ruvllm.errors import InputError, RuvllmError
from ruvllm.runtime import RuvLLM
from ruvllm.types import Action, Agent, Decision

if TYPE_CHECKING:
    import agents


class HandoffRouter:
    """Chooses among the agents of an SDK program.

    Args:
        specialists: that tasks go to; their names, `handoff_description` and instructions say which.
        triage: gets what the router is not sure of, with the most likely ones as its handoffs; the best specialist
            gets it when None.
        most: handoffs of `triage`.
        settings: of the RuvLLM that decides: state, encoder, …

    Attributes:
        llm: it learns from `feedback`.

    Raises:
        RuvllmError: the SDK is not installed.
        InputError: no specialist, or two of one name.
    """

    def __init__(
        self, specialists: Sequence[agents.Agent[Any]], triage: agents.Agent[Any] | None = None, most: int = 4,
        **settings: Any,
    ) -> None:  # fmt: skip
        try:
            import agents  # noqa: F401
        except ModuleNotFoundError:
            fix = "pip install 'ruvllm[openai-agents]'"
            raise RuvllmError("the OpenAI Agents SDK is not installed", field="agents", fix=fix) from None
        self._named = {one.name: one for one in specialists}
        if len(self._named) < len(specialists):
            raise InputError("two agents have one name", field="specialists", fix="rename one of them")
        self._triage, self._most = triage, most
        self.llm = RuvLLM([_read(one) for one in specialists], **settings)

    async def choose(self, task: str) -> tuple[agents.Agent[Any], Decision]:
        """The agent that `Runner.run` shall begin with, and why. Raises InputError: an unusable task."""
        decision = await self.llm.aroute(task, self._most)
        if self._triage is None or decision.action == Action.USE:
            return self._named[decision.agent], decision
        names = (decision.agent, *(one.agent for one in decision.alternatives))[: self._most]
        return self._triage.clone(handoffs=[self._named[name] for name in names]), decision

    async def run(self, task: str, **options: Any) -> Any:
        """`Runner.run` with the agent that is chosen, and its options; the run's result."""
        from agents import Runner

        agent, _ = await self.choose(task)
        return await Runner.run(agent, task, **options)

    async def feedback(self, task: str, agent: str, right: bool = True) -> None:
        """Teach whom a task belongs to, e.g. the `last_agent` of a run that went well."""
        await self.llm.afeedback(task, agent, right=right)


def _read(one: agents.Agent[Any]) -> Agent:
    says = one.instructions if isinstance(one.instructions, str) else ""
    description = one.handoff_description or " ".join(says.split())[:2000]
    return Agent(one.name, description, body=says[:8000])
