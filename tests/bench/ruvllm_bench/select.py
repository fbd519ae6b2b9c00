"""`ruvllm bench select`: what learning which LLM to ask saves, replayed on rows of who was right."""

from __future__ import annotations

from dataclasses import asdict, astuple, dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

from ruvllm import InputError
from ruvllm.cli.console import number, print_json, progress, show_table
from ruvllm.cli.evals.tier_sets import TierRows, read_tier_rows
from ruvllm.cli.options import json_option
from ruvllm.cli.tiers import vectors_of
from ruvllm.encoders.families import FAMILIES
from ruvllm.sizing.bandit import logit
from ruvllm.sizing.difficulty import Difficulty, folds_of
from ruvllm.sizing.prompt_forms import PROMPT_FORMS, prompt_forms
from ruvllm.sizing.selector import BackendProfile, LLMOrchestrator

_BUDGET = 0.498  # of what always asking the large one costs: the bar is 0.50, and a mean wanders a little


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


@dataclass(frozen=True, slots=True)
class _Prompts:
    """Rows as the selector reads them.

    Attributes:
        inputs: (n, dim + forms + 1).
        small, large: (n,) whether each LLM was right.
    """

    inputs: NDArray[np.float64]
    small: NDArray[np.bool_]
    large: NDArray[np.bool_]
    difficulty: Difficulty | None = None

    def rows(self, chosen: NDArray[np.int64]) -> _Prompts:
        """Those of these numbers, in their order."""
        return _Prompts(self.inputs[chosen], self.small[chosen], self.large[chosen], self.difficulty)


@click.command()
@click.option("--data", type=click.Path(path_type=Path), required=True, help="Rows of prompt, weak, strong.")
@click.option(
    "--learning", type=click.IntRange(100), default=2_000, show_default=True, help="Prompts before it counts."
)
@click.option("--seeds", type=click.IntRange(1, 100), default=5, show_default=True, help="Orders of the rows.")
@click.option("--encoder", type=click.Choice(["static", *FAMILIES]), default="static", show_default=True)
@click.option(
    "--prior",
    is_flag=True,
    help="Begin with `tiers train` on one half of the rows and replay the other one, then the other way round; "
    "no row that is replayed was trained on.",
)
@json_option
def select(data: Path, learning: int, seeds: int, encoder: str, prior: bool, as_json: bool) -> None:
    """Replay rows as prompts, told only whether the LLM that was chosen was right; prices 1 to 30.

    \b
    Examples:
      ruvllm bench select --data ../shared/data/tiers_mmlu.json
      ruvllm bench select --data rows.json --learning 1000 --seeds 10 --json
      ruvllm bench select --data rows.json --prior
    """
    rows = read_tier_rows(data)
    parts = _parts(rows, encoder, prior)
    if (least := min(len(part.small) for part in parts)) <= learning:
        message = f"{data} has {least} rows to replay"
        raise InputError(message, field="learning", fix=f"give more rows, or lower --learning {learning}")
    found = [_mean([_replay(part, learning, seed) for part in parts]) for seed in range(seeds)]
    table = [(f"order {i + 1}", *map(_shown, astuple(one))) for i, one in enumerate(found)]
    columns = np.array([astuple(one) for one in found])
    for name, each in (("mean", columns.mean(0)), ("sd", columns.std(0)), ("bar", (0.95, 0.5, None))):
        table.append((name, *("" if value is None else _shown(value) for value in each)))
    learnt = "a difficulty of the other half" if prior else "nothing"
    title = f"shares of always-large after {learning:,} prompts, beginning with {learnt}; {encoder}"
    heads = ("Order", "Accuracy", "Cost", "Accuracy, learning stopped")
    show_table(title, heads, table, right=heads[1:])
    if as_json:
        keys = ("accuracy", "cost", "settled_accuracy")
        means: dict[str, Any] = dict(zip(keys, columns.mean(0).round(4).tolist(), strict=True))
        about = {"n": len(rows.texts), "learning": learning, "prior": prior}
        print_json(means | about | {"orders": [asdict(one) for one in found]})


def _shown(value: float) -> str:
    return number(value, 4)


def _mean(found: list[_Replay]) -> _Replay:
    return _Replay(*np.mean([astuple(one) for one in found], 0).tolist())


def _parts(rows: TierRows, encoder: str, prior: bool) -> list[_Prompts]:
    """All rows, or with a prior each half with what the other one taught."""
    vectors = vectors_of(rows.texts, encoder)
    forms = np.stack([prompt_forms(text) for text in rows.texts])
    inputs = np.concatenate([vectors, forms, np.ones((len(forms), 1))], 1, dtype=np.float64)
    if not prior:
        return [_Prompts(inputs, rows.right[:, 0], rows.right[:, -1])]
    half, parts = folds_of(rows.texts, 2), []
    for number_ in range(2):
        known, asked = half != number_, half == number_
        train, test = rows.rows(known), rows.rows(asked)
        right, models = train.right[:, [0, -1]], ("small", "large")
        difficulty = Difficulty.fit(train.texts, vectors[known], right, models, encoder)
        told = logit(difficulty.batch(test.texts, vectors[asked]))
        parts.append(
            _Prompts(np.concatenate([inputs[asked], told], 1), test.right[:, 0], test.right[:, -1], difficulty)
        )
    return parts


def _replay(prompts: _Prompts, learning: int, seed: int) -> _Replay:
    ordered = prompts.rows(np.random.default_rng(seed).permutation(len(prompts.small)))
    profiles = (BackendProfile("small", 0.001), BackendProfile("large", 0.030))
    forms, told = len(PROMPT_FORMS) + 1, 2 if prompts.difficulty else 0
    selector = LLMOrchestrator(
        profiles,
        dim=prompts.inputs.shape[1] - forms - told,
        budget=_BUDGET * 0.030,
        difficulty=prompts.difficulty,
    )
    took_large = np.zeros(len(ordered.small), np.bool_)
    settled = 0.0
    with progress(f"order {seed + 1}", len(ordered.small)) as advance:
        for turn, inputs in enumerate(ordered.inputs):
            if turn == learning:
                settled = _settled(selector, ordered.rows(np.arange(learning, len(ordered.small))))
            choice = selector.choose(inputs)
            took_large[turn] = choice.backend == "large"
            selector.record_outcome(choice, bool((ordered.large if took_large[turn] else ordered.small)[turn]))
            advance()
    small, large, took = ordered.small[learning:], ordered.large[learning:], took_large[learning:]
    cost = float(np.where(took, 1.0, 1 / 30).mean())
    return _Replay(float(np.where(took, large, small).mean() / large.mean()), cost, settled)


def _settled(selector: LLMOrchestrator, prompts: _Prompts) -> float:
    """Accuracy share when the prompts with the most to gain, as many as the budget pays for, go to the large one."""
    expected = selector.bandit.expected(prompts.inputs)
    count = int((_BUDGET - 1 / 30) / (1 - 1 / 30) * len(prompts.small))
    chosen = np.argsort(-(expected[:, 1] - expected[:, 0]), kind="stable")[:count]
    right = prompts.small.copy()
    right[chosen] = prompts.large[chosen]
    return float(right.mean() / prompts.large.mean())
