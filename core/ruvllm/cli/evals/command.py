"""`ruvllm eval`: how often the right agent is named, and whether the confidences keep their word."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from time import perf_counter_ns
from typing import Any

import click
import numpy as np

from ruvllm import Agent, RuvLLM
from ruvllm.agents.catalog import agent_from
from ruvllm.cli.console import number, print_json, progress, show_table
from ruvllm.cli.evals.decide import decide
from ruvllm.cli.evals.memory import eval_memory
from ruvllm.cli.evals.metrics import Answer, IntentRun, score_agents, score_intents
from ruvllm.cli.evals.plots import check_plot, save_report
from ruvllm.cli.evals.rlm import answers, decompose, longdoc
from ruvllm.cli.evals.robustness import robustness
from ruvllm.cli.evals.sets import Collection, IntentSet, Prompt, read_agent_set, read_intents
from ruvllm.cli.evals.tiers import eval_tiers
from ruvllm.cli.evals.tools import tools
from ruvllm.cli.options import encoder_option, json_option, strategy_option
from ruvllm.config import Config
from ruvllm.encoders.protocol import run_now
from ruvllm.options import RouterConfig

_file = click.argument("file", type=click.Path(path_type=Path))
_plot = click.option(
    "--plot",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="PNG",
    help="Draw a reliability diagram and the most confused pairs into this file (needs matplotlib).",
)


@click.group("eval")
def evaluate() -> None:
    """Measure accuracy, calibration and speed on your own prompts.

    \b
    Examples:
      ruvllm eval agents prompts.json --plot report.png
      ruvllm eval intents banking77.json --shots 5 --seeds 3
      ruvllm eval decompose
      ruvllm eval memory locomo.json
    """


evaluate.add_command(decide)
evaluate.add_command(decompose)
evaluate.add_command(longdoc)
evaluate.add_command(answers)
evaluate.add_command(eval_memory)


evaluate.add_command(eval_tiers)
evaluate.add_command(robustness)
evaluate.add_command(tools)


@evaluate.command()
@_file
@click.option("--builtin", is_flag=True, help="Route among the built-in agents; only `prompts` is read from FILE.")
@click.option("--among-named", is_flag=True, help="Keep just the agents that a prompt names.")
@click.option("--min-prompts", type=click.IntRange(1), default=1, show_default=True, help="Skip smaller collections.")
@encoder_option
@strategy_option
@json_option
@_plot
def agents(
    file: Path,
    builtin: bool,
    among_named: bool,
    min_prompts: int,
    encoder: str | None,
    strategy: str | None,
    as_json: bool,
    plot: Path | None,
) -> None:
    """Route FILE's prompts among FILE's agents and compare with the agents they belong to.

    FILE is {"agents": {name: {"description": …}}, "prompts": [{"prompt": …, "agent": name}]}; an agent may
    have keywords and examples too. With names like "collection::name" each prompt is routed among its own
    collection's agents, and the scores are means over all prompts. With --json the last line is one object.

    \b
    Examples:
      ruvllm eval agents prompts.json
      ruvllm eval agents tasks.json --builtin --among-named --encoder static
      ruvllm eval agents tasks.json --builtin --strategy keywords
      ruvllm eval agents prompts.json --min-prompts 20 --json --plot report.png
    """
    check_plot(plot)
    collections = read_agent_set(file, builtin, min_prompts)
    if among_named:
        collections = [collection.among_named() for collection in collections]
    answers, mode = _route_collections(collections, encoder, strategy)
    extra = {"encoder": mode, "agents": sum(len(collection.agents) for collection in collections)}
    scores = score_agents(answers) | extra | ({"strategy": strategy} if strategy else {})
    _show(f"{file.name}: {len(collections)} collection(s)", scores)
    if plot:
        save_report(plot, f"{file.stem}: {scores['n']} prompts, {scores['agents']} agents, {mode}", answers)
    if as_json:
        print_json(scores)


def _route_collections(
    collections: Sequence[Collection], encoder: str | None, strategy: str | None
) -> tuple[list[Answer], str]:
    config = None if strategy is None else Config(router=RouterConfig(strategy=strategy))
    answers: list[Answer] = []
    mode = ""
    with progress("routing", sum(len(collection.prompts) for collection in collections)) as advance:
        for collection in collections:
            with RuvLLM(collection.agents, encoder=encoder, config=config) as llm:
                mode = llm.encoders.mode
                _warm_up(llm)
                for prompt in collection.prompts:
                    answers.append(_ranked(llm, prompt))
                    advance()
    return answers, mode


def _warm_up(llm: RuvLLM) -> None:
    """Build what is built on demand before the clock runs: a cascade's slow encoder waits for an unsure prompt."""
    llm.route("warm up")
    run_now(llm.routing.router.raw_confidence("warm up"))


def _ranked(llm: RuvLLM, prompt: Prompt) -> Answer:
    """Timed as a caller would ask; the full ranking is asked for after that."""
    answer = _timed(llm, prompt)
    if answer.correct:
        return answer
    order = [other.agent for other in llm.route(prompt.text, top=len(llm.agents) - 1).alternatives]
    return Answer(answer.right, answer.chosen, answer.confidence, order.index(prompt.agent) + 2, answer.micros)


def _timed(llm: RuvLLM, prompt: Prompt) -> Answer:
    began = perf_counter_ns()
    decision = llm.route(prompt.text)
    micros = (perf_counter_ns() - began) / 1000
    return Answer(prompt.agent, decision.agent, decision.confidence, 1, None if decision.cached else micros)


@evaluate.command()
@_file
@click.option("--shots", type=click.IntRange(0), default=0, show_default=True, help="Training texts per label; 0: all.")
@click.option("--seeds", type=click.IntRange(1), default=1, show_default=True, help="Draws of the training texts.")
@encoder_option
@json_option
@_plot
def intents(file: Path, shots: int, seeds: int, encoder: str | None, as_json: bool, plot: Path | None) -> None:
    """Learn each label of FILE from a few texts, then label its test texts.

    FILE is {"train": [[text, label]…], "test": [[text, label]…], "oos": [text…]}; `oos` (or `oos_test`) holds
    texts that no label fits and may be left out. The scores are means over seeds; `ece` is that of the raw
    probabilities, `ece_calibrated` that of the confidences. With --json the last line is one object.

    \b
    Examples:
      ruvllm eval intents banking77.json
      ruvllm eval intents clinc150.json --shots 5 --seeds 3 --encoder static --json
    """
    check_plot(plot)
    data = read_intents(file)
    seeds = seeds if shots else 1  # with every training text there is nothing to draw
    runs, mode = _run_seeds(data, shots, seeds, encoder)
    scores = score_intents(runs, shots) | {"encoder": mode, "agents": len(data.train)}
    _show(f"{file.name}: {len(data.train)} labels", scores)
    if plot:
        title = f"{file.stem}: {len(data.train)} labels, {shots or 'all'} shots, {mode}"
        save_report(plot, title, [answer for run in runs for answer in run.answers])
    if as_json:
        print_json(scores)


def _run_seeds(data: IntentSet, shots: int, seeds: int, encoder: str | None) -> tuple[list[IntentRun], str]:
    runs, mode = [], ""
    with progress("routing", seeds * (len(data.test) + len(data.oos))) as advance:
        for seed in range(seeds):
            with RuvLLM(_labels_as_agents(data, shots, seed), encoder=encoder) as llm:
                mode = llm.encoders.mode
                runs.append(_run(llm, data, advance))
    return runs, mode


def _labels_as_agents(data: IntentSet, shots: int, seed: int) -> list[Agent]:
    draw = np.random.default_rng(seed)
    agents = []
    for label, texts in data.train.items():
        order = draw.permutation(len(texts))[: shots or None]
        agents.append(agent_from({"name": label, "examples": [texts[i] for i in order]}, f"label {label!r}"))
    return agents


def _run(llm: RuvLLM, data: IntentSet, advance: Callable[[], None]) -> IntentRun:
    _warm_up(llm)
    answers, inside, outside = [], [], []
    for prompt in data.test:
        answer = _timed(llm, prompt)
        raw = run_now(llm.routing.router.raw_confidence(prompt.text))
        answers.append(Answer(answer.right, answer.chosen, answer.confidence, 1, answer.micros, raw))
        inside.append(llm.route(prompt.text).out_of_scope)
        advance()
    for text in data.oos:
        outside.append(llm.route(text).out_of_scope)
        advance()
    return IntentRun(tuple(answers), tuple(inside), tuple(outside))


def _show(title: str, scores: dict[str, Any]) -> None:
    show_table(title, ("Measure", "Value"), [(name, _cell(value)) for name, value in scores.items()], right=("Value",))


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return number(value, 4 if value <= 1 else 1)
    return "-" if value is None else str(value)
