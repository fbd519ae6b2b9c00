"""`ruvllm bench loop`: what each learner brings to the decisions, and how a new desk gets better with use."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np

from ruvllm.cli.console import number, print_json, progress, show_table
from ruvllm.cli.evals.sets import IntentSet, read_intents
from ruvllm.cli.options import json_option
from ruvllm.encoders.families import FAMILIES
from ruvllm_bench.learn.exchange import measure_exchange
from ruvllm_bench.loop.choosing import BUDGET, Prompts, best_single, choose, read_prompts
from ruvllm_bench.loop.epochs import EPOCHS, QUERIES, Epoch, epochs, slope
from ruvllm_bench.loop.growth import growth
from ruvllm_bench.loop.retrieval import pulled, read_conversations, recall
from ruvllm_bench.loop.routing import NOISE, Routed, repeats, stream
from ruvllm_bench.loop.turns import TURNS, turns

_ON = "all on"
_BEHIND = 0.3  # points that all on may be behind the best of a stream
_STREAMS = ("routing", "repeats", "choice", "turns", "retrieval", "federated", "epochs", "growth")
_Arms = Mapping[str, Mapping[str, Any]]
_ROUTING: _Arms = {
    _ON: {},
    "without patterns' votes": {"patterns": False},
    "without near-duplicates": {"near_duplicates": False},
    "nothing told": {"feedback": False},
}
_REPEATS: _Arms = {_ON: {}, "without near-duplicates": {"near_duplicates": False}}
_CHOOSING: _Arms = {
    _ON: {},
    "without patterns' votes": {"patterns": False},
    "without FastGRNN": {"sizes": False},
    "nothing told": {"feedback": False},
}
_TURNS: _Arms = {
    _ON: {},
    "without FastGRNN": {"network": False},
    "without patterns' votes": {"patterns": False},
    "nothing learnt": {"enabled": False},
}
_RETRIEVAL: _Arms = {_ON: {}, "without the query adapter": {"query_adapter": False}}
_ALONE = "without push and pull"


@dataclass(frozen=True, slots=True)
class _Size:
    """How much of each stream: tasks, prompts, dialogues, tasks of an agent that each installation is taught."""

    tasks: int
    prompts: int
    dialogues: int
    shots: int


_FULL, _PLAIN, _QUICK = _Size(1_000, 2_000, 40, 10), _Size(1_000, 1_000, 40, 5), _Size(400, 200, 20, 2)


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
@click.option("--stream", "streams", multiple=True, type=click.Choice(_STREAMS), help="This one; several as often.")
@click.option("--full", is_flag=True, help="Long streams: half an hour.")
@click.option("--quick", is_flag=True, help="Short streams: about a minute.")
@json_option
def loop(
    data: Path, encoder: str, seeds: int | None, streams: tuple[str, ...], full: bool, quick: bool, as_json: bool
) -> None:
    """Run streams with their outcomes told: all learners on, and each one off; a few minutes.

    routing: told right or wrong only, one in ten falsely; repeats: every other task was told before, in other words;
    choice: of LLMs at a budget; turns: of two LLMs in conversations; retrieval: learns on dialogues of its own and is
    measured on others'; federated: two installations that were taught half of the agents each; epochs: a desk that
    knows nothing at first; growth: what 1,000 feedbacks cost to review and hold, with --full 50,000 and 100,000, too.

    \b
    Examples:
      ruvllm bench loop --data ../shared/data
      ruvllm bench loop --data ../shared/data --stream choice --seeds 5
      ruvllm bench loop --data ../shared/data/clinc150.json --quick --json
    """
    if full and quick:
        raise click.UsageError("give --full or --quick, not both")
    size = _FULL if full else _QUICK if quick else _PLAIN
    orders = range(seeds or (1 if quick else 3))
    clinc = data / "clinc150.json" if data.is_dir() else data
    intents = read_intents(clinc)
    chosen = [name for name in _STREAMS if not streams or name in streams]
    nine = data / "tiers_nine.json"
    beside = {"choice": nine, "turns": nine, "retrieval": data / "locomo_dev.json"}
    chosen = [name for name in chosen if name not in beside or name in streams or beside[name].exists()]
    arms = list[_Arm]()
    of_tasks = intents, size, encoder, orders
    if "routing" in chosen:
        arms += _tasks(f"routing, {size.tasks:,} tasks, {NOISE:.0%} false", _ROUTING, stream, *of_tasks)
    if "repeats" in chosen:
        arms += _tasks(f"repeats, {size.tasks:,} tasks, half told before", _REPEATS, repeats, *of_tasks)
    if "choice" in chosen:
        arms += _choosing(read_prompts(nine), size, orders)
    if "turns" in chosen:
        arms += _conversing(read_prompts(nine), size, orders)
    if "retrieval" in chosen:
        arms += _retrieval(beside["retrieval"], size, encoder, orders)
    if "federated" in chosen:
        arms += _federated(intents, size, encoder, orders)
        if beside["retrieval"].exists():
            arms += _pulled(beside["retrieval"], size, encoder, orders)
    if arms:
        _show_arms(arms, orders, encoder)
    curves = list[list[Epoch]]()
    if "epochs" in chosen:
        with progress("epochs", len(orders) * EPOCHS * QUERIES) as advance:
            curves = [epochs(intents, seed, {}, encoder, advance) for seed in orders]
    rises = _show_epochs(curves) if curves else {}
    counts = (0, 1_000, 50_000, 100_000) if full else (0, 1_000)
    grown = [growth(clinc, n, encoder) for n in counts if "growth" in chosen]
    if grown:
        rows = [(number(one.feedbacks, 0), *(f"{value:.2f} s" for value in (one.seconds, one.processor, one.longest)),
                 f"{one.peak:,.0f} MB", f"{one.start:.2f} s", f"{1e6 * one.route:,.0f} µs", f"{one.mb:,.0f} MB")
                for one in grown]  # fmt: skip
        heads = ("Feedbacks", "Review", "Of it the processor", "Longest slice", "At most", "Start", "Route", "Memory")
        show_table("review after a start; processor time of a start and of a route after it", heads, rows, right=heads)
    if as_json:
        told = [[asdict(epoch) for epoch in curve] for curve in curves]
        intervals = {name: (rise, None if half != half else half) for name, (rise, half) in rises.items()}
        print_json(
            {
                "arms": [asdict(arm) for arm in arms],
                "epochs": told,
                "rises": intervals,
                "growth": [asdict(one) for one in grown],
            }
        )


def _tasks(
    name: str,
    arms: _Arms,
    of: Callable[..., Routed],
    intents: IntentSet,
    size: _Size,
    encoder: str,
    orders: Sequence[int],
) -> list[_Arm]:
    def run(options: Mapping[str, Any], seed: int, advance: Callable[[], None]) -> float:
        return of(intents, seed, size.tasks, options, encoder, advance).right

    return _arms(name, arms, orders, size.tasks, run)


def _choosing(prompts: Prompts, size: _Size, orders: Sequence[int]) -> list[_Arm]:
    known = f"the best LLM at that price, if it were known ({prompts.prices[best_single(prompts)]:g})"
    found = dict[str, list[float]]()
    name = f"LLM choice, {size.prompts:,} prompts, budget {BUDGET:g}"
    with progress(name, len(_CHOOSING) * len(orders) * size.prompts) as advance:
        for arm, options in _CHOOSING.items():
            every = [choose(prompts, seed, size.prompts, options, advance) for seed in orders]
            found[arm] = [100 * one.quality for one in every]
            found.setdefault(known, [100 * one.single for one in every])
    return _compared(name, {arm: found[arm] for arm in (*_CHOOSING, known)})


def _conversing(prompts: Prompts, size: _Size, orders: Sequence[int]) -> list[_Arm]:
    def run(options: Mapping[str, Any], seed: int, advance: Callable[[], None]) -> float:
        return turns(prompts, seed, size.prompts // 4, options, advance)

    return _arms(f"utility, {size.prompts // 4} conversations of {TURNS}", _TURNS, orders, size.prompts // 4, run)


def _retrieval(path: Path, size: _Size, encoder: str, orders: Sequence[int]) -> list[_Arm]:
    conversations = read_conversations(path)

    def run(options: Mapping[str, Any], seed: int, advance: Callable[[], None]) -> float:
        return recall(conversations, seed, size.dialogues, options, encoder, advance)

    name = f"retrieval, recall@5 after {size.dialogues} dialogues"
    return _arms(name, _RETRIEVAL, orders, size.dialogues + len(conversations), run)


def _federated(intents: IntentSet, size: _Size, encoder: str, orders: Sequence[int]) -> list[_Arm]:
    """Both halves of the agents together, so that what the own half loses counts as what the other half gains."""
    asked = [(prompt.text, prompt.agent) for prompt in intents.test]
    found: dict[str, list[float]] = {_ON: [], _ALONE: []}
    with progress("federated", len(orders)) as advance:
        for seed in orders:
            random = np.random.default_rng(seed)
            texts = {name: [str(one) for one in random.permutation(told)] for name, told in intents.train.items()}
            some = [asked[i] for i in random.permutation(len(asked))[: 2 * size.tasks].tolist()]
            pair = measure_exchange(texts, some, size.shots, encoder)
            found[_ON].append(50 * (pair.shared_own + pair.shared_other))
            found[_ALONE].append(50 * (pair.alone_own + pair.alone_other))
            advance()
    return _compared(f"federated, {size.shots} tasks of half the agents", found)


def _pulled(path: Path, size: _Size, encoder: str, orders: Sequence[int]) -> list[_Arm]:
    conversations = read_conversations(path)
    found: dict[str, list[float]] = {_ON: [], _ALONE: []}
    with progress("federated retrieval", len(orders) * (size.dialogues + 2 * len(conversations))) as advance:
        for seed in orders:
            before, after = pulled(conversations, seed, size.dialogues, encoder, advance)
            found[_ON].append(100 * after)
            found[_ALONE].append(100 * before)
    return _compared(f"federated, recall@5 of one beside two with {size.dialogues} dialogues", found)


def _arms(
    stream: str,
    arms: Mapping[str, Mapping[str, Any]],
    orders: Sequence[int],
    steps: int,
    run: Callable[[Mapping[str, Any], int, Callable[[], None]], float],
) -> list[_Arm]:
    found = dict[str, list[float]]()
    with progress(stream, len(arms) * len(orders) * steps) as advance:
        for name, options in arms.items():
            found[name] = [100 * run(options, seed, advance) for seed in orders]
    return _compared(stream, found)


def _compared(stream: str, found: Mapping[str, Sequence[float]]) -> list[_Arm]:
    """An arm each, of its points by order."""
    values = {name: np.array(points) for name, points in found.items()}
    return [
        _Arm(
            stream,
            name,
            float(points.mean()),
            float((points - values[_ON]).mean()),
            float((points if name == _ON else points - values[_ON]).std(ddof=1)) if len(points) > 1 else None,
        )
        for name, points in values.items()
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
