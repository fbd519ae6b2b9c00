"""`ruvllm eval tools`: how often the tool that a prompt needs is among the few that a search finds."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from random import Random
from time import perf_counter
from typing import Any

import click

from ruvllm import Agent, InputError, RuvLLM
from ruvllm.cli.console import number, print_json, progress, show_table
from ruvllm.cli.evals.sets import Collection, read_tool_set
from ruvllm.cli.options import encoder_option, json_option
from ruvllm.encoders.protocol import run_now
from ruvllm.inference.backend import estimate_tokens
from ruvllm.routing.tools import ToolIndex


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("-k", "k", type=click.IntRange(1), default=10, show_default=True, help="Tools that a search gives.")
@click.option("--pool", type=click.IntRange(1), metavar="N", help="Put N tools of all collections together, at random.")
@click.option("--prompts", type=click.IntRange(1), metavar="N", help="Of each collection, at random.")
@click.option("--only", multiple=True, metavar="NAME", help="Only collections whose name holds this.")
@encoder_option
@json_option
def tools(
    file: Path, k: int, pool: int | None, prompts: int | None, only: tuple[str, ...], encoder: str | None, as_json: bool
) -> None:
    """Search FILE's tools for each of its prompts: recall, time, and tokens that the others would have taken.

    FILE is {"tools": {name: {"description": …, "parameters": …}}, "prompts": [{"prompt": …, "tool": name}]}; with
    names like "collection::name" each prompt is searched in its own collection. Nothing is learnt from FILE.

    \b
    Examples:
      ruvllm eval tools tools.json
      ruvllm eval tools tools.json --pool 2000 -k 10 --encoder static
    """
    found = [one for one in read_tool_set(file) if not only or any(part in one.name for part in only)]
    found = [_pooled(found, pool)] if pool else found
    found = [_some(one, prompts) for one in found if one.prompts]
    if not found:
        raise InputError("no prompt names a tool of the file", field="prompts", fix="name one of `tools` in each")
    with RuvLLM(encoder=encoder) as llm, progress("searching", sum(len(one.prompts) for one in found)) as advance:
        rows = [_measured(llm, one, k, advance) for one in found]
    names = ("Collection", "Tools", "Prompts", f"Recall@{k}", "Recall@1", "Tokens", f"Of {k}", "Cut", "ms")
    if as_json:
        print_json({"k": k, "encoder": llm.encoders.mode, "collections": rows})
        return
    cells = [tuple(_cell(value) for value in row.values()) for row in rows]
    show_table(f"{file.name}, {llm.encoders.mode}", names, cells, right=names[1:])


def _measured(llm: RuvLLM, collection: Collection, k: int, advance: Any) -> dict[str, Any]:
    index = ToolIndex(collection.agents, llm.encoders.static, llm.encoders.contextual)
    places = {agent.name: i for i, agent in enumerate(collection.agents)}
    costs = [estimate_tokens(_definition(agent)) for agent in collection.agents]
    hits, firsts, sent, began = 0, 0, 0, perf_counter()
    for prompt in collection.prompts:
        best = [place for place, _ in run_now(index.search(prompt.text, k))]
        hits += places[prompt.agent] in best
        firsts += places[prompt.agent] == best[0]
        sent += sum(costs[place] for place in best)
        advance()
    count, every = len(collection.prompts), sum(costs)
    mean = sent / count
    return {
        "collection": collection.name or "all",
        "tools": len(collection.agents),
        "prompts": count,
        "recall": hits / count,
        "recall_at_1": firsts / count,
        "tokens": every,
        "tokens_sent": round(mean),
        "cut": 1 - mean / every,
        "ms": (perf_counter() - began) / count * 1000,
    }


def _definition(tool: Agent) -> str:
    """About what a request says of a tool."""
    return f'{{"name": "{tool.name}", "description": "{tool.description}", "parameters": {{{tool.body}}}}}'


def _pooled(collections: Iterable[Collection], most: int) -> Collection:
    """Tools of all collections, at random, and the prompts that need one of them."""
    pairs = [(one.name, agent) for one in collections for agent in one.agents]
    texts = [(one.name, prompt) for one in collections for prompt in one.prompts]
    drawn = Random(0).sample(pairs, min(most, len(pairs)))
    first: dict[str, str] = {}  # of two with one name the first is there
    for name, agent in drawn:
        first.setdefault(agent.name, name)
    agents = tuple(agent for name, agent in drawn if first[agent.name] == name)
    return Collection("together", agents, tuple(p for name, p in texts if first.get(p.agent) == name))


def _some(collection: Collection, most: int | None) -> Collection:
    if most is None or len(collection.prompts) <= most:
        return collection
    return Collection(collection.name, collection.agents, tuple(Random(0).sample(collection.prompts, most)))


def _cell(value: Any) -> str:
    return number(value, 3 if value <= 1 else 1) if isinstance(value, float) else str(value)
