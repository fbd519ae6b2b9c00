"""Options of the commands that answer, and how an answer's routing is shown."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import click

from ruvllm import Choice, RuvLLM
from ruvllm.cli.console import plain
from ruvllm.cli.options import (
    agents_option,
    caching_host,
    default_state,
    encoder_option,
    state_of,
    state_option,
    warn_of_skipped,
)
from ruvllm.cli.ready import check_memories, ready_encoder, ready_model, warm_agents
from ruvllm.config import Config
from ruvllm.options import BackendConfig
from ruvllm.query.responses import Applied, Response, Routed

F = TypeVar("F", bound=Callable[..., Any])
SAMPLING = ("max_tokens", "temperature", "top_p", "top_k", "min_p", "seed", "repeat_penalty")


def answer_options(command: F) -> F:
    """What `open_answering` needs."""
    for option in (
        click.option("--api-key-env", default="", metavar="NAME", help="The variable that holds the server's key."),
        click.option(
            "--model",
            default="",
            metavar="NAME|PATH",
            help="A model to run on this machine: a converted folder, a GGUF file, owner/repo[:file] or a known name "
            "(see `ruvllm models list`). With --url, what that server calls its model.",
        ),
        click.option("--url", default="", help="An OpenAI-compatible server, e.g. http://localhost:8080/v1."),
        click.option(
            "--config",
            type=click.Path(dir_okay=False, path_type=Path),
            metavar="PATH",
            help="A TOML file of options; RUVLLM_* variables count before it.",
        ),
        state_option,
        encoder_option,
        agents_option,
    ):
        command = option(command)
    return command


def sampling_options(command: F) -> F:
    """SAMPLING, in the words of `Constraints`; None where nothing is said."""
    for option in (
        click.option("--repeat-penalty", type=float, help="Above 1 holds back what the answer has already."),
        click.option("--seed", type=int, help="The same seed, the same answer."),
        click.option("--min-p", type=float, help="Only tokens of at least this share of the likeliest one's chance."),
        click.option("--top-k", type=int, help="Only the so many likeliest tokens; 0 for all."),
        click.option("--top-p", type=float, help="Only the likeliest tokens of this probability together."),
        click.option("--temperature", type=float, help="0 takes the likeliest token each time, up to 2."),
        click.option("--max-tokens", type=int, help="Of the answer."),
    ):
        command = option(command)
    return command


def open_answering(
    ctx: click.Context,
    agents: Path | None,
    encoder: str | None,
    state: Path | None,
    config: Path | None,
    url: str,
    model: str,
    api_key_env: str,
) -> RuvLLM:
    """A RuvLLM for a command that answers: from a file, then the environment, then the command line."""
    chosen = Config.from_env(base=Config() if config is None else Config.from_toml(config))
    if url:
        backend = BackendConfig("openai", url=url, model=model, api_key_env=api_key_env)
        chosen = replace(chosen, inference=replace(chosen.inference, tiers={"large": backend}))
    elif model:
        chosen = with_local_model(chosen, model)
    ready_models(chosen)
    path = state_of(ctx, state) or chosen.state or default_state()
    ready_encoder(encoder or chosen.encoder)
    llm = RuvLLM(agents, encoder=encoder, state=path, config=chosen, host=caching_host())
    warn_of_skipped(llm.services.problems, agents or chosen.agents)
    warm_agents(llm)
    check_memories(llm)
    return llm


def with_local_model(config: Config, model: str) -> Config:
    """The same with one model on this machine for all tiers."""
    tiers = {"small": BackendConfig("local", model=model)}
    return replace(config, inference=replace(config.inference, tiers=tiers))


def ready_models(config: Config) -> None:
    """Download and convert what local backends need and is not there, with a bar.

    Raises:
        RuvllmError: a model cannot be had.
    """
    for backend in config.inference.tiers.values():
        if backend.kind == "local" and backend.model:
            ready_model(backend.model)


def routing_line(routed: Routed) -> str:
    """Who takes a query."""
    decision, routing = routed.decision, routed.routing
    tier = decision.tier if routed.choice is None else routed.choice.tier
    line = f"{plain(decision.agent)} {decision.confidence:.2f} | tier {int(tier)} | {plain(routing.backend)}"
    if routing.model != routing.backend:
        line += f" ({plain(routing.model)})"
    return f"{line} | {len(routed.sources)} source(s)" if routed.sources else line


def choice_line(choice: Choice) -> str:
    """Who decided how strong a model is asked, why, and what an answer is expected to cost and take."""
    tier = f"tier {int(choice.tier)}" + (f" ({plain(choice.backend)})" if choice.backend else "")
    return f"{tier} by {choice.by}: {plain(choice.why)}; about ${choice.cost:.4g}, {choice.latency_ms:.0f} ms"


def times_line(response: Response) -> str:
    """How long an answer took, how sure its backend is of it, and what it cost."""
    overhead = (response.latency["total"] - response.latency["generation"]) / 1_000
    line = f"{overhead:.1f} ms + {response.latency['generation'] / 1_000:.0f} ms of {plain(response.routing.backend)}"
    if response.usage.total_tokens:
        line += f", {response.usage.total_tokens} tokens"
    if response.confidence is not None:
        line += f", answer {response.confidence:.2f}"
    return f"{line}, ${response.cost:.4f}" if response.cost else line


def learnt_line(done: Applied, agent: str) -> str:
    """What feedback about an answer changed.

    Args:
        agent: that was named in it, if one was.
    """
    parts = [f"{plain(agent) or 'its agent'} {done.agent}"] if done.agent else []
    parts += [f"{done.memories} source(s)"] if done.memories else []
    parts += [f"{done.edges} edge(s)"] if done.edges else []
    parts += ["remembered"] if done.remembered else []
    parts += ["patterns"] if done.trajectory else []
    return f"learnt: {', '.join(parts) or 'nothing new'}"


def safe(text: str) -> str:
    """A piece of an answer for the terminal: its lines stay, what could drive the terminal does not."""
    return "".join(char if char.isprintable() or char in "\n\t" else "\N{REPLACEMENT CHARACTER}" for char in text)
