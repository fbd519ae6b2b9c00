"""`ruvllm tiers` and `ruvllm eval tiers`: which strength of LLM a prompt needs, learnt from your own rows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

from ruvllm import InputError, RuvLLM
from ruvllm.cli.console import number, print_json, show_table, tracked, warn
from ruvllm.cli.options import json_option
from ruvllm.cli.tierset import TierRows, read_tier_rows
from ruvllm.encoders.protocol import run_now
from ruvllm.host import load_npz
from ruvllm.routing.calibration import ece
from ruvllm.routing.difficulty import Difficulty, folds_of
from ruvllm.routing.tier_metrics import TierScores, tier_scores

__all__ = ["eval_tiers", "tiers", "vectors_of"]

_file = click.argument("file", type=click.Path(path_type=Path))
_encoder = click.option(
    "--encoder", type=click.Choice(["static", "minilm"]), default="static", show_default=True, help="What reads a text."
)
_models = click.option(
    "--models",
    default="",
    metavar="A,B",
    help="The rows' keys that are models, the weakest first; those that hold truth values when left out.",
)
_BATCH = 500


@click.group()
def tiers() -> None:
    """Learn which strength of LLM a prompt needs, and ask.

    \b
    Examples:
      ruvllm tiers train rows.json --out tiers.npz
      ruvllm tiers choose "prove that the sum is even" --model tiers.npz --costs 1,30 --cost 10
    """


@tiers.command()
@_file
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), default=Path("tiers.npz"), show_default=True)
@_encoder
@_models
@json_option
def train(file: Path, out: Path, encoder: str, models: str, as_json: bool) -> None:
    """Learn from FILE, rows of {"prompt": …, "weak": true, "strong": false} with a key for each model.

    \b
    Examples:
      ruvllm tiers train rows.json
      ruvllm tiers train rows.json --models haiku,sonnet,opus --encoder minilm --out mine.npz
    """
    rows = read_tier_rows(file, _names(models))
    learnt = Difficulty.fit(rows.texts, vectors_of(rows.texts, encoder), rows.right, rows.models, encoder)
    try:
        with out.open("wb") as target:
            np.savez(target, **learnt.arrays())  # type: ignore[arg-type]
    except OSError as error:
        message = f"{out} cannot be written ({error.strerror or error})"
        raise InputError(message, field="out", fix="choose another --out") from None
    made = {"out": str(out), "rows": len(rows.texts), "models": list(rows.models), "bytes": out.stat().st_size}
    shown = [("rows", f"{len(rows.texts):,}"), ("models", ", ".join(rows.models)), ("bytes", f"{made['bytes']:,}")]
    show_table(str(out), ("", ""), shown)
    if as_json:
        print_json(made)


@tiers.command()
@click.argument("text")
@click.option("--model", type=click.Path(path_type=Path), help="What `train` wrote; the shipped one when left out.")
@click.option("--costs", default="1,30", show_default=True, help="Of one answer by each model, in any unit.")
@click.option("--cost", type=float, help="Mean cost of a prompt that you will pay.")
@click.option("--quality", type=float, help="Mean share of right answers that you need.")
@json_option
def choose(text: str, model: Path | None, costs: str, cost: float | None, quality: float | None, as_json: bool) -> None:
    """Name the model for TEXT, at a mean cost or a mean quality.

    \b
    Examples:
      ruvllm tiers choose "what is the capital of France?" --cost 10
      ruvllm tiers choose "prove it by induction" --model mine.npz --costs 1,5,30 --quality 0.8
    """
    learnt = _shipped() if model is None else _read(model)
    probabilities = learnt.probabilities(text, vectors_of([text], learnt.encoder)[0])
    if cost is None and quality is None:
        quality = float(learnt.held.max(1).mean())
        warn("neither --cost nor --quality: the likeliest to be right")
    policy = learnt.policy(_numbers(costs), cost=cost, quality=quality)
    chosen = learnt.models[policy.choose(probabilities)]
    rows = [(name, number(float(p), 3)) for name, p in zip(learnt.models, probabilities, strict=True)]
    show_table(f"{chosen}", ("Model", "P(right)"), rows, right=("P(right)",))
    if as_json:
        told = dict(zip(learnt.models, probabilities.astype(float).tolist(), strict=True))
        print_json({"model": chosen, "probabilities": told, "mean_cost": policy.cost, "mean_quality": policy.quality})


@click.command("tiers")
@_file
@_encoder
@_models
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
      ruvllm eval tiers rows.json --encoder minilm --json
    """
    rows = read_tier_rows(file, _names(models))
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
        known, asked = rows.rows(train), rows.rows(test)
        learnt = Difficulty.fit(known.texts, vectors[train], known.right, rows.models, encoder)
        told = probabilities[test] = learnt.batch(asked.texts, vectors[test])
        found.append(tier_scores(told[:, -1] - told[:, 0], asked.right[:, 0], asked.right[:, -1]))
    return probabilities, found


def vectors_of(texts: Sequence[str], encoder: str) -> NDArray[np.float32]:
    """float32 (n, dim)."""
    llm = RuvLLM(encoder="static" if encoder == "static" else "minilm")
    used = llm.minilm or llm.static
    starts = range(0, len(texts), _BATCH)
    parts = [run_now(used.encode(list(texts[i : i + _BATCH]))) for i in tracked(list(starts), "encoding")]
    llm.close()
    return np.concatenate(parts)


def _shipped() -> Difficulty:
    from ruvllm.host import NativeHost

    return Difficulty.from_arrays(load_npz(NativeHost().artifact("tiers.npz"), "tiers.npz"))


def _read(path: Path) -> Difficulty:
    try:
        data = path.read_bytes()
    except OSError as error:
        message = f"{path} cannot be read ({error.strerror or error})"
        raise InputError(message, field=str(path), fix="check the path") from None
    return Difficulty.from_arrays(load_npz(data, path.name), path.name)


def _names(models: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in models.split(",") if name.strip())


def _numbers(costs: str) -> list[float]:
    try:
        return [float(cost) for cost in costs.split(",")]
    except ValueError:
        raise InputError(f"--costs {costs!r} are no numbers", field="costs", fix="write them as 1,30") from None
