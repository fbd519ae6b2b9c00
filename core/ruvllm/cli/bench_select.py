"""`ruvllm bench select`: what learning which LLM to ask saves, replayed on rows of who was right."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

from ruvllm import InputError
from ruvllm.cli.console import number, print_json, progress, show_table
from ruvllm.cli.options import json_option
from ruvllm.cli.tiers import vectors_of
from ruvllm.cli.tierset import TierRows, read_tier_rows
from ruvllm.routing.prompt_forms import prompt_forms
from ruvllm.routing.selector import BackendProfile, LLMOrchestrator

__all__ = ["select"]

_BUDGET = 0.499  # of what always asking the large one costs: the bar is 0.50


@dataclass(frozen=True, slots=True)
class _Replay:
    """One order of the rows, after the first prompts.

    Attributes:
        accuracy, cost: as shares of always asking the large LLM; still learning from what it chooses.
        settled_accuracy: with what was learnt by then and nothing more, at the same budget.
    """

    accuracy: float
    cost: float
    settled_accuracy: float


@click.command()
@click.option("--data", type=click.Path(path_type=Path), required=True, help="Rows of prompt, weak, strong.")
@click.option(
    "--learning", type=click.IntRange(100), default=2_000, show_default=True, help="Prompts before it counts."
)
@click.option("--seeds", type=click.IntRange(1, 100), default=3, show_default=True, help="Orders of the rows.")
@click.option("--encoder", type=click.Choice(["static", "minilm"]), default="static", show_default=True)
@json_option
def select(data: Path, learning: int, seeds: int, encoder: str, as_json: bool) -> None:
    """Replay rows as prompts, told only whether the LLM that was chosen was right; prices 1 to 30.

    \b
    Examples:
      ruvllm bench select --data ../shared/data/tiers_mmlu.json
      ruvllm bench select --data rows.json --learning 1000 --seeds 10 --json
    """
    rows = read_tier_rows(data)
    if len(rows.texts) <= learning:
        message = f"{data} has {len(rows.texts)} rows"
        raise InputError(message, field="learning", fix=f"give more rows, or lower --learning {learning}")
    vectors = vectors_of(rows.texts, encoder)
    forms = np.stack([prompt_forms(text) for text in rows.texts])
    inputs = np.concatenate([vectors, forms, np.ones((len(forms), 1))], 1, dtype=np.float64)
    found = [_replay(rows, inputs, learning, seed) for seed in range(seeds)]
    means = {key: [getattr(one, key) for one in found] for key in ("accuracy", "cost", "settled_accuracy")}
    labels = {
        "accuracy": ("accuracy, share of always-large", ">= 0.95"),
        "cost": ("cost, share of always-large", "<= 0.50"),
        "settled_accuracy": ("accuracy when it stops learning there", ""),
    }
    table = [
        (labels[key][0], f"{number(float(np.mean(each)), 4)} ± {number(float(np.std(each)), 4)}", labels[key][1])
        for key, each in means.items()
    ]
    title = f"{len(rows.texts) - learning:,} prompts after {learning:,}, {seeds} order(s), {encoder}"
    show_table(title, ("Measure", "Value", "Bar"), table, right=("Value",))
    if as_json:
        means_: dict[str, Any] = {key: round(float(np.mean(each)), 4) for key, each in means.items()}
        print_json(means_ | {"n": len(rows.texts), "learning": learning, "orders": [asdict(one) for one in found]})


def _replay(rows: TierRows, inputs: NDArray[np.float64], learning: int, seed: int) -> _Replay:
    order = np.random.default_rng(seed).permutation(len(inputs))
    small, large = rows.right[:, 0], rows.right[:, -1]
    profiles = (BackendProfile("small", 0.001), BackendProfile("large", 0.030))
    selector = LLMOrchestrator(profiles, dim=inputs.shape[1] - len(prompt_forms("")) - 1, budget=_BUDGET * 0.030)
    took_large = np.zeros(len(order), np.bool_)
    settled = 0.0
    with progress(f"order {seed + 1}", len(order)) as advance:
        for turn, row in enumerate(order.tolist()):
            if turn == learning:
                settled = _settled(selector, inputs[order[learning:]], small[order[learning:]], large[order[learning:]])
            choice = selector.choose(inputs[row])
            took_large[turn] = choice.backend == "large"
            selector.record_outcome(choice, bool(large[row] if took_large[turn] else small[row]))
            advance()
    late, took = order[learning:], took_large[learning:]
    right = np.where(took, large[late], small[late])
    cost = float(np.where(took, 1.0, 1 / 30).mean())
    return _Replay(float(right.mean() / large[late].mean()), cost, settled)


def _settled(
    selector: LLMOrchestrator, inputs: NDArray[np.float64], small: NDArray[np.bool_], large: NDArray[np.bool_]
) -> float:
    """Accuracy share when the prompts with the most to gain, as many as the budget pays for, go to the large one."""
    expected = selector.bandit.expected(inputs)
    count = int((_BUDGET - 1 / 30) / (1 - 1 / 30) * len(inputs))
    chosen = np.argsort(-(expected[:, 1] - expected[:, 0]), kind="stable")[:count]
    right = small.copy()
    right[chosen] = large[chosen]
    return float(right.mean() / large.mean())
