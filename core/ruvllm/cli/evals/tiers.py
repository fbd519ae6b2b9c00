"""`ruvllm eval tiers`: how well a difficulty learnt from rows chooses between a weak and a strong LLM."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

from ruvllm.cli.console import number, print_json, show_table, tracked
from ruvllm.cli.evals.metrics import TierScores, tier_scores
from ruvllm.cli.evals.tier_sets import TierRows, read_tier_rows
from ruvllm.cli.options import json_option
from ruvllm.cli.tiers import encoder_of_rows, file_of_rows, models_of_rows, named, numbers_of, vectors_of
from ruvllm.routing.calibration import ece
from ruvllm.sizing.difficulty import Difficulty, checked_costs, folds_of, policy_for

_BUDGETS = (0.2, 0.4, 0.6, 0.8, 1.0)  # of what the best single model costs


@click.command("tiers")
@file_of_rows
@encoder_of_rows
@models_of_rows
@click.option("--folds", type=click.IntRange(2, 20), default=5, show_default=True)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of the folds.")
@click.option(
    "--costs", default="", metavar="A,B", help="Of one answer by each model: what is right at what cost, too."
)
@json_option
def eval_tiers(file: Path, encoder: str, models: str, folds: int, seed: int, costs: str, as_json: bool) -> None:
    """Train on all folds of FILE but one and choose between weak and strong on that one, in turn.

    FILE is [{"prompt": …, "weak": true, "strong": false}]. The scores are means over the folds, as the RouteLLM
    paper defines them; equal prompts are in one fold, and everything, penalties included, is learnt without the
    fold it is measured on. With --json the last line is one object.

    \b
    Examples:
      ruvllm eval tiers rows.json
      ruvllm eval tiers rows.json --encoder ruvltra --json
      ruvllm eval tiers rows.json --models small,medium,large --costs 1,8,30
    """
    rows = read_tier_rows(file, named(models))
    probabilities, found = _by_folds(rows, vectors_of(rows.texts, encoder), folds_of(rows.texts, folds, seed), encoder)
    scores: dict[str, Any] = {"n": len(rows.texts), "folds": folds, "encoder": encoder}
    for name in ("auroc", "apgr", "cpt50", "cpt80"):
        each = [getattr(one, name) for one in found]
        scores |= {name: round(float(np.mean(each)), 4), f"{name}_sd": round(float(np.std(each)), 4)}
    for i in (0, -1):
        scores[f"ece_{rows.models[i]}"] = round(ece(probabilities[:, i], rows.right[:, i]), 4)
    table = [(name, number(value, 4) if isinstance(value, float) else str(value)) for name, value in scores.items()]
    show_table(f"{file.name}: {rows.models[0]} or {rows.models[-1]}", ("Measure", "Value"), table, right=("Value",))
    if costs:
        scores |= _by_cost(rows, probabilities, checked_costs(numbers_of(costs), len(rows.models)))
    if as_json:
        print_json(scores)


def _by_cost(
    rows: TierRows, probabilities: NDArray[np.float32], costs: NDArray[np.float64]
) -> dict[str, dict[str, float]]:
    """Accuracy and cost, as a share of the best single model's, of that model, of any and of the rule at a budget."""
    accuracy = rows.right.mean(0)
    best, each = int(accuracy.argmax()), np.arange(len(rows.texts))
    found = {
        f"always {rows.models[best]}": (float(accuracy[best]), float(costs[best])),
        "one at random": (float(accuracy.mean()), float(costs.mean())),
        "the cheapest that is right": (float(rows.right.any(1).mean()), _least(rows.right, costs)),
    }
    for part in _BUDGETS:
        if part * costs[best] >= costs.min():
            policy = policy_for(probabilities, costs.tolist(), cost=part * float(costs[best]))
            chosen = np.array([policy.choose(row) for row in probabilities])
            right = float(rows.right[each, chosen].mean())
            found[f"chosen, at {part:.0%} of its cost"] = right, float(costs[chosen].mean())
    found = {name: (right, cost / float(costs[best])) for name, (right, cost) in found.items()}
    table = [(name, number(right, 4), number(cost, 3)) for name, (right, cost) in found.items()]
    show_table(f"{len(rows.models)} models", ("", "Right", "Cost"), table, right=("Right", "Cost"))
    return {"costs": {name: round(cost, 4) for name, (_, cost) in found.items()}} | {
        "right": {name: round(right, 4) for name, (right, _) in found.items()}
    }


def _least(right: NDArray[np.bool_], costs: NDArray[np.float64]) -> float:
    """Mean cost of the cheapest model that is right, or of the cheapest where none is."""
    paid = np.where(right, costs, np.inf).min(1)
    return float(np.where(np.isfinite(paid), paid, costs.min()).mean())


def _by_folds(
    rows: TierRows, vectors: NDArray[np.float32], fold: NDArray[np.int64], encoder: str
) -> tuple[NDArray[np.float32], list[TierScores]]:
    """(probabilities (n, models) by a model that had not seen the row, scores of each fold)."""
    probabilities = np.zeros(rows.right.shape, np.float32)
    found = []
    for number_ in tracked(np.unique(fold).tolist(), "folds"):
        train, test = fold != number_, fold == number_
        fitted, held_out = rows.rows(train), rows.rows(test)
        learnt = Difficulty.fit(fitted.texts, vectors[train], fitted.right, rows.models, encoder)
        predicted = probabilities[test] = learnt.batch(held_out.texts, vectors[test])
        found.append(tier_scores(predicted[:, -1] - predicted[:, 0], held_out.right[:, 0], held_out.right[:, -1]))
    return probabilities, found
