"""A node of a LangGraph graph that says which node goes on: the agent that a task belongs to.

graph.add_node("router", router_node(llm))
graph.add_conditional_edges("router", chosen, {name: name for name in agents} | {UNSURE: "person"})
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from importlib.util import find_spec
from typing import Any

from ruvllm.errors import InputError, RuvllmError
from ruvllm.runtime import RuvLLM
from ruvllm.types import Action

UNSURE = "unsure"  # what `chosen` says where the router does not know
_FIELD = "route"

State = Mapping[str, Any]


def router_node(
    llm: RuvLLM, read: Callable[[State], str] | None = None
) -> Callable[[State], Awaitable[dict[str, Any]]]:
    """A node that writes `route` into the state: agent, confidence, tier, action and alternatives.

    Args:
        llm: its agents are the graph's nodes.
        read: the task in a state; the last message by a person (`messages`), else `input` or `task`, when None.

    Raises:
        RuvllmError: LangGraph is not installed.
    """
    if find_spec("langgraph") is None:
        raise RuvllmError("LangGraph is not installed", field="langgraph", fix="pip install 'ruvllm[langgraph]'")

    async def route(state: State) -> dict[str, Any]:
        decision = await llm.aroute((read or task_of)(state))
        return {
            _FIELD: {
                "agent": decision.agent,
                "confidence": decision.confidence,
                "tier": int(decision.tier),
                "action": decision.action,
                "alternatives": [one.agent for one in decision.alternatives],
            }
        }

    return route


def chosen(state: State) -> str:
    """For `add_conditional_edges`: the agent's name, or UNSURE where its confidence asks to escalate."""
    route = state[_FIELD]
    return UNSURE if route["action"] == Action.ESCALATE else str(route["agent"])


def task_of(state: State) -> str:
    """The last that a person said. Raises InputError: nobody said anything."""
    for message in reversed(state.get("messages") or []):
        kind, content = _read(message)
        if kind in ("human", "user") and content:
            return content
    for name in ("input", "task"):
        if isinstance(state.get(name), str) and state[name]:
            return str(state[name])
    raise InputError("the state has no task", field="messages", fix="add a message by a person, or pass read=")


def _read(message: Any) -> tuple[str, str]:
    """(who, what) of a message: an object of LangChain's, a mapping or a pair."""
    if isinstance(message, Mapping):
        kind, content = message.get("role", message.get("type", "")), message.get("content")
    elif isinstance(message, tuple) and len(message) == 2:
        kind, content = message
    else:
        kind, content = getattr(message, "type", ""), getattr(message, "content", "")
    if isinstance(content, list):
        parts = (part.get("text", "") if isinstance(part, Mapping) else str(part) for part in content)
        content = "\n".join(part for part in parts if part)
    return str(kind), content if isinstance(content, str) else ""
