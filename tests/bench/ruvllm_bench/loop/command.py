"""`ruvllm bench loop`: what each learner brings to the decisions, and how a new desk gets better with use."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np

from ruvllm.cli.console import number, print_json, progress, show_table
from ruvllm.cli.evalset import IntentSet, read_intents
from ruvllm.cli.options import json_option
from ruvllm.encoders.families import FAMILIES
from ruvllm_bench.loop.choosing import BUDGET, Prompts, best_single, choose, read_prompts
from ruvllm_bench.loop.epochs import EPOCHS, QUERIES, Epoch, epochs, slope
from ruvllm_bench.loop.retrieval import read_conversations, recall
from ruvllm_bench.loop.routing import NOISE, stream

__all__ = ["loop"]

_ON = "all on"
_BEHIND = 0.3  # points that all on may be behind the best of a stream
_ROUTING: Mapping[str, Mapping[str, Any]] = {
    _ON: {},
    "without patterns' votes": {"patterns": False},
    "without near-duplicates": {"near_duplicates": False},
    "nothing told": {"feedback": False},
}
_CHOOSING: Mapping[str, Mapping[str, Any]] = {
    _ON: {},
    "without FastGRNN": {"sizes": False},
    "nothing told": {"feedback": False},
}
_RETRIEVAL: Mapping[str, Mapping[str, Any]] = {_ON: {}, "without the query adapter": {"query_adapter": False}}


@dataclass(frozen=True, slots=True)
class _Size:
    """How much of each stream: tasks, prompts, dialogues; and how many orders of them."""

    tasks: int
    prompts: int
    dialogues: int
    seeds: int


_FULL, _QUICK = _Size(1_000, 1_000, 40, 3), _Size(400, 300, 20, 1)


@dataclass(frozen=True, slots=True)
class _Arm:
    """A configuration's figure in one stream, in points.

    Attributes:
        change: mean difference to all on in the same order; spread: its standard deviation over the orders.
    """

    stream: str
    name: str
    mean: float
    change: float
    spread: float | None


@click.command()
@click.option(
    "--data",
    type=click.Path(exists=True, path_type=Path),
    required=True,
    help="clinc150.json, or a folder with it and, for the other streams, tiers_nine.json and locomo_dev.json.",
)
@click.option("--encoder", type=click.Choice(["static", *FAMILIES]), default="static", show_default=True)
@click.option("--seeds", type=click.IntRange(1, 20), help="Orders of each stream; 3, with --quick 1.")
@click.option("--quick", is_flag=True, help="Short streams: about a minute.")
@json_option
def loop(data: Path, encoder: str, seeds: int | None, quick: bool, as_json: bool) -> None:
    """Run streams with their outcomes told: all learners on, and each one off.

    Routing is told right or wrong only, one in ten falsely. LLMs are chosen at a budget. Retrieval learns on dialogues
    of its own, and is measured on others'. Then, epoch by epoch, a desk that knows nothing at first.

    \b
    Examples:
      ruvllm bench loop --data ../shared/data --quick
      ruvllm bench loop --data ../shared/data --seeds 5
      ruvllm bench loop --data ../shared/data/clinc150.json --json
    """
    size = _QUICK if quick else _FULL
    orders = range(size.seeds if seeds is None else seeds)
    folder = data if data.is_dir() else data.parent
    intents = read_intents(data / "clinc150.json" if data.is_dir() else data)
    arms = [*_routing(intents, size, encoder, orders)]
    if data.is_dir() and (path := folder / "tiers_nine.json").exists():
        arms += _choosing(read_prompts(path), size, orders)
    if data.is_dir() and (path := folder / "locomo_dev.json").exists():
        arms += _retrieval(path, size, encoder, orders)
    _show_arms(arms, orders, encoder)
    with progress("epochs", len(orders) * EPOCHS * QUERIES) as advance:
        curves = [epochs(intents, seed, {}, encoder, advance) for seed in orders]
    rises = _show_epochs(curves)
    if as_json:
        told = [[asdict(epoch) for epoch in curve] for curve in curves]
        print_json({"arms": [asdict(arm) for arm in arms], "epochs": told, "rises": rises})


def _routing(intents: IntentSet, size: _Size, encoder: str, orders: Sequence[int]) -> list[_Arm]:
    def run(options: Mapping[str, Any], seed: int, advance: Callable[[], None]) -> float:
        return stream(intents, seed, size.tasks, options, encoder, advance).right

    name = f"routing, {size.tasks:,} tasks, {NOISE:.0%} false"
    return _arms(name, _ROUTING, orders, size.tasks, run)


def _choosing(prompts: Prompts, size: _Size, orders: Sequence[int]) -> list[_Arm]:
    def run(options: Mapping[str, Any], seed: int, advance: Callable[[], None]) -> float:
        return choose(prompts, seed, size.prompts, options, advance).quality

    single = best_single(prompts)
    name = f"LLM choice, {size.prompts:,} prompts, budget {BUDGET:g}"
    arms = _arms(name, _CHOOSING, orders, size.prompts, run)
    known = f"the best LLM at that price, if it were known ({single.price:g})"
    return [*arms, _Arm(name, known, 100 * single.quality, 100 * single.quality - arms[0].mean, None)]


def _retrieval(path: Path, size: _Size, encoder: str, orders: Sequence[int]) -> list[_Arm]:
    conversations = read_conversations(path)

    def run(options: Mapping[str, Any], seed: int, advance: Callable[[], None]) -> float:
        return recall(conversations, seed, size.dialogues, options, encoder, advance)

    name = f"retrieval, recall@5 after {size.dialogues} dialogues"
    return _arms(name, _RETRIEVAL, orders, size.dialogues + len(conversations), run)


def _arms(
    stream: str,
    arms: Mapping[str, Mapping[str, Any]],
    orders: Sequence[int],
    steps: int,
    run: Callable[[Mapping[str, Any], int, Callable[[], None]], float],
) -> list[_Arm]:
    found = dict[str, np.ndarray[Any, Any]]()
    with progress(stream, len(arms) * len(orders) * steps) as advance:
        for name, options in arms.items():
            found[name] = 100 * np.array([run(options, seed, advance) for seed in orders])
    spreads = {name: (values - found[_ON]) for name, values in found.items()}
    return [
        _Arm(
            stream,
            name,
            float(values.mean()),
            float(spreads[name].mean()),
            float((values if name == _ON else spreads[name]).std(ddof=1)) if len(orders) > 1 else None,
        )
        for name, values in found.items()
    ]


def _show_arms(arms: Sequence[_Arm], orders: Sequence[int], encoder: str) -> None:
    best: dict[str, float] = {}
    for arm in arms:
        if arm.spread is not None or len(orders) == 1:
            best[arm.stream] = max(best.get(arm.stream, 0.0), arm.mean)
    rows = []
    for arm in arms:
        mark = ""
        if arm.name == _ON:
            mark = "pass" if arm.mean >= best[arm.stream] - _BEHIND else "short"
        change = "" if arm.name == _ON else f"{arm.change:+.1f}"
        spread = "" if arm.spread is None else f"± {arm.spread:.1f}"
        rows.append((arm.stream if arm.name == _ON else "", arm.name, f"{arm.mean:.1f}", change, spread, mark))
    title = f"each learner off, points, {len(orders)} orders, {encoder} encoder"
    show_table(title, ("Stream", "Learners", "Mean", "Change", "Spread", ""), rows, right=("Mean", "Change", "Spread"))


def _show_epochs(curves: Sequence[Sequence[Epoch]]) -> dict[str, tuple[float, float]]:
    fields = ("quality", "routing", "hits", "memory")
    values = {name: np.array([[getattr(one, name) for one in curve] for curve in curves]) for name in fields}
    rows = [
        (str(epoch), *(f"{100 * values[name][:, epoch].mean():.1f} %" for name in fields[:3]),
         number(float(values["memory"][:, epoch].mean()), 0))
        for epoch in range(EPOCHS)
    ]  # fmt: skip
    rises = {name: slope(curve) for name, curve in values.items()}
    scale = dict.fromkeys(fields[:3], 100.0) | {"memory": 1.0}
    rows.append(
        ("rise", *(f"{scale[name] * rise:+.1f} ± {scale[name] * half:.1f}" for name, (rise, half) in rises.items()))
    )
    heads = ("Epoch", "Quality", "Routing", "Cache hits", "Memory")
    show_table(f"{QUERIES} new queries an epoch, {len(curves)} orders", heads, rows, right=heads)
    return rises
