"""`ruvllm eval tiers`: how well a difficulty learnt from rows chooses between a weak and a strong LLM."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

from ruvllm.cli.console import number, print_json, show_table, tracked
from ruvllm.cli.metrics import TierScores, tier_scores
from ruvllm.cli.options import json_option
from ruvllm.cli.tiers import encoder_of_rows, file_of_rows, models_of_rows, named, vectors_of
from ruvllm.cli.tierset import TierRows, read_tier_rows
from ruvllm.routing.calibration import ece
from ruvllm.sizing.difficulty import Difficulty, folds_of

__all__ = ["eval_tiers"]


@click.command("tiers")
@file_of_rows
@encoder_of_rows
@models_of_rows
@click.option("--folds", type=click.IntRange(2, 20), default=5, show_default=True)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of the folds.")
@json_option
def eval_tiers(file: Path, encoder: str, models: str, folds: int, seed: int, as_json: bool) -> None:
    """Train on all folds of FILE but one and choose between weak and strong on that one, in turn.

    FILE is [{"prompt": …, "weak": true, "strong": false}]. The scores are means over the folds, as the RouteLLM
    paper defines them; equal prompts are in one fold, and everything, penalties included, is learnt without the
    fold it is measured on. With --json the last line is one object.

    \b
    Examples:
      ruvllm eval tiers rows.json
      ruvllm eval tiers rows.json --encoder ruvltra --json
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
    if as_json:
        print_json(scores)


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
