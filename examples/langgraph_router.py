"""A graph whose router sends a task to the node that it belongs to, and asks a person where it is unsure."""

from __future__ import annotations

import asyncio
import sys
from typing import Any, TypedDict

from langgraph.graph import END, START, StateGraph

from ruvllm import Agent, RuvLLM
from ruvllm.integrations.langgraph import UNSURE, chosen, router_node

AGENTS = [
    Agent("baker", "Bakes bread, cakes and pastry.", examples=("bake a rye loaf", "proof the dough")),
    Agent("gardener", "Plants, waters and prunes.", examples=("prune the roses", "water the tomatoes")),
]


class State(TypedDict, total=False):
    task: str
    route: dict[str, Any]
    done: str


def worker(name: str) -> Any:
    return lambda state: {"done": f"{name} does: {state['task']}"}


def graph(llm: RuvLLM) -> Any:
    built = StateGraph(State)
    built.add_node("router", router_node(llm))
    names = [*(agent.name for agent in llm.agents), "person"]
    for name in names:
        built.add_node(name, worker(name))
        built.add_edge(name, END)
    built.add_edge(START, "router")
    built.add_conditional_edges("router", chosen, {name: name for name in names} | {UNSURE: "person"})
    return built.compile()


async def main(tasks: list[str]) -> None:
    with RuvLLM(AGENTS, encoder="static") as llm:
        built = graph(llm)
        for task in tasks:
            print((await built.ainvoke({"task": task}))["done"])


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:] or ["bake a rye loaf with seeds", "what is the meaning of life?"]))
