"""Which agent of a CrewAI crew gets which task, where the program does not say: chosen before a model is asked.

router = CrewRouter([researcher, writer])
Crew(agents=router.agents, tasks=router.assign([Task(description="…", expected_output="…")])).kickoff()
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ruvllm.errors import InputError
from ruvllm.runtime import RuvLLM
from ruvllm.types import Agent, Decision


class CrewRouter:
    """Chooses among the agents of a crew.

    Args:
        agents: objects of CrewAI's; their role, goal and backstory say what they are for.
        fallback: gets what the router is not sure of; whoever is likeliest does when None.
        settings: of the RuvLLM that decides: state, encoder, …

    Attributes:
        llm: it learns from `feedback`.
        decisions: of the last `assign`, in the order of its tasks; None for a task that had an agent.

    Raises:
        InputError: no agent, or two of one role.
    """

    def __init__(self, agents: Sequence[Any], fallback: Any = None, **settings: Any) -> None:
        self.agents = list(agents)
        self._named = {one.role.strip(): one for one in self.agents}
        if len(self._named) < len(self.agents):
            raise InputError("two agents have one role", field="agents", fix="give each a role of its own")
        self._fallback = fallback
        self.decisions: list[Decision | None] = []
        self.llm = RuvLLM([_read(one) for one in self.agents], **settings)

    def choose(self, task: str) -> tuple[Any, Decision]:
        """The agent that a task belongs to, and why. Raises InputError: an unusable task."""
        decision = self.llm.route(task)
        if self._fallback is not None and decision.action == "escalate":
            return self._fallback, decision
        return self._named[decision.agent], decision

    def assign(self, tasks: Sequence[Any]) -> list[Any]:
        """Give each task without an agent the one that it belongs to; returns the tasks."""
        self.decisions = []
        for task in tasks:
            decision = None
            if task.agent is None:
                task.agent, decision = self.choose(task.description)
            self.decisions.append(decision)
        return list(tasks)

    def feedback(self, task: str, role: str, right: bool = True) -> None:
        """Teach whose a task was."""
        self.llm.feedback(task, role.strip(), right=right)


def _read(one: Any) -> Agent:
    goal, backstory = one.goal or "", one.backstory or ""
    return Agent(one.role.strip(), " ".join(goal.split())[:2000], body=backstory[:8000])
