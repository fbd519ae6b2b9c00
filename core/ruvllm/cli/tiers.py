"""`ruvllm tiers`: which strength of LLM a prompt needs, learnt from your own rows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click
import numpy as np
from numpy.typing import NDArray

from ruvllm import InputError, RuvLLM
from ruvllm.cli.console import number, print_json, show_table, tracked, warn
from ruvllm.cli.evals.tier_sets import read_tier_rows
from ruvllm.cli.options import json_option, open_memory, said_option, state_option
from ruvllm.encoders.families import FAMILIES, RUVLTRA
from ruvllm.encoders.protocol import run_now
from ruvllm.sizing.difficulty import Difficulty
from ruvllm.sizing.trained import TrainedTiers, forget_tiers, load_tiers
from ruvllm.state.names import TIERS

file_of_rows = click.argument("file", type=click.Path(path_type=Path))
encoder_of_rows = click.option(
    "--encoder",
    type=click.Choice(["static", *FAMILIES]),
    default="static",
    show_default=True,
    help="What reads a text.",
)
models_of_rows = click.option(
    "--models",
    default="",
    metavar="A,B",
    help="The rows' keys that are models, the weakest first; those that hold truth values when left out.",
)
_BATCH = 500
_cost = click.option("--cost", type=float, help="Mean cost of a prompt that you will pay.")
_quality = click.option("--quality", type=float, help="Mean share of right answers that you need.")


@click.group()
def tiers() -> None:
    """Learn which strength of LLM a prompt needs, and ask.

    What was learnt is kept in the state file, and names the tier of every task from then on (route, query, serve)
    whose agent has none; `router.tier_model` in the configuration takes another one, or the words of the task.

    \b
    Examples:
      ruvllm tiers train rows.json
      ruvllm tiers choose "prove that the sum is even" --cost 10
      ruvllm tiers forget
    """


@tiers.command()
@file_of_rows
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="Write it to a file, too.")
@click.option("--use/--no-use", default=True, help="Whether tasks get their tier from it, from now on.")
@click.option("--costs", default="", metavar="A,B", help="Of one answer by each model; 1 to 30 when left out.")
@_cost
@_quality
@encoder_of_rows
@models_of_rows
@state_option
@json_option
@click.pass_context
def train(
    ctx: click.Context,
    file: Path,
    out: Path | None,
    use: bool,
    costs: str,
    cost: float | None,
    quality: float | None,
    encoder: str,
    models: str,
    state: Path | None,
    as_json: bool,
) -> None:
    """Learn from FILE, rows of {"prompt": …, "weak": true, "strong": false} with a key for each model.

    The cheapest model stands for the small tier, the others for the large one. Without --cost or --quality as many
    prompts go to the large tier as 95 % of the best quality takes.

    \b
    Examples:
      ruvllm tiers train rows.json
      ruvllm tiers train rows.json --models haiku,sonnet,opus --costs 1,4,20 --quality 0.9
      ruvllm tiers train rows.json --encoder ruvltra --out mine.npz --no-use
    """
    if out is None and not use:
        raise InputError("what is learnt goes nowhere", field="out", fix="give --out, or leave out --no-use")
    rows = read_tier_rows(file, named(models))
    vectors = vectors_of(rows.texts, encoder)
    space = FAMILIES.get(encoder, RUVLTRA).space(vectors.shape[1])  # the static table shares RuvLTRA's
    learnt = Difficulty.fit(rows.texts, vectors, rows.right, rows.models, encoder, space)
    trained = TrainedTiers.of(learnt, numbers_of(costs), cost=cost, quality=quality)
    data = trained.to_bytes()
    if out is not None:
        _write(out, data)
    if use:
        with open_memory(ctx, state, "static") as llm:
            llm.store.put(TIERS, data)
    policy = trained.policy
    made = {"rows": len(rows.texts), "models": list(rows.models), "bytes": len(data), "used": use}
    made |= {"out": str(out) if out else None, "mean_quality": policy.quality, "shares": list(policy.shares)}
    shown = [("rows", f"{len(rows.texts):,}"), ("bytes", f"{len(data):,}")]
    shown += [(f"share of {name}", number(each, 2)) for name, each in zip(rows.models, policy.shares, strict=True)]
    shown += [("share right, as expected", number(policy.quality, 3))]
    if as_json:
        print_json(made)
    else:
        show_table("in use" if use else str(out), ("", ""), shown)


@tiers.command()
@said_option
@state_option
@click.pass_context
def forget(ctx: click.Context, state: Path | None) -> None:
    """Let the words of a task decide about its tier again."""
    with open_memory(ctx, state, "static") as llm:
        learnt = forget_tiers(llm.store)
    click.echo("forgotten" if learnt else "there was none")


@tiers.command()
@click.argument("text")
@click.option("--model", type=click.Path(path_type=Path), help="What `train --out` wrote.")
@click.option("--costs", default="", metavar="A,B", help="Of one answer by each model, in any unit.")
@_cost
@_quality
@state_option
@json_option
@click.pass_context
def choose(
    ctx: click.Context,
    text: str,
    model: Path | None,
    costs: str,
    cost: float | None,
    quality: float | None,
    state: Path | None,
    as_json: bool,
) -> None:
    """Name the model for TEXT, by what `train` kept; by the shipped one, trained on exam questions, without any.

    \b
    Examples:
      ruvllm tiers choose "what is the capital of France?"
      ruvllm tiers choose "prove it by induction" --model mine.npz --costs 1,5,30 --quality 0.8
    """
    trained = _trained(ctx, model, state)
    learnt = trained.difficulty
    if costs or cost is not None or quality is not None:
        trained = TrainedTiers.of(learnt, numbers_of(costs) or trained.policy.costs, cost=cost, quality=quality)
    policy, probabilities = trained.policy, learnt.probabilities(text, vectors_of([text], learnt.encoder)[0])
    chosen = learnt.models[policy.choose(probabilities)]
    if as_json:
        by_model = dict(zip(learnt.models, probabilities.astype(float).tolist(), strict=True))
        print_json(
            {"model": chosen, "probabilities": by_model, "mean_cost": policy.cost, "mean_quality": policy.quality}
        )
        return
    rows = [(name, number(float(p), 3)) for name, p in zip(learnt.models, probabilities, strict=True)]
    show_table(chosen, ("Model", "P(right)"), rows, right=("P(right)",))


def _trained(ctx: click.Context, model: Path | None, state: Path | None) -> TrainedTiers:
    if model is not None:
        try:
            return TrainedTiers.from_bytes(model.read_bytes(), model.name)
        except OSError as error:
            message = f"{model} cannot be read ({error.strerror or error})"
            raise InputError(message, field=str(model), fix="check the path") from None
    with open_memory(ctx, state, "static", make=False) as llm:
        learnt = load_tiers("kept", llm.store, llm.host)
        if learnt is not None:
            return learnt
        warn("nothing was trained here: this one was trained on exam questions, and knows little of other tasks")
        shipped = load_tiers("shipped", llm.store, llm.host)
    assert shipped is not None
    return shipped


def _write(out: Path, data: bytes) -> None:
    try:
        out.write_bytes(data)
    except OSError as error:
        message = f"{out} cannot be written ({error.strerror or error})"
        raise InputError(message, field="out", fix="choose another --out") from None


def vectors_of(texts: Sequence[str], encoder: str) -> NDArray[np.float32]:
    """float32 (n, dim)."""
    llm = RuvLLM(encoder=encoder if encoder in FAMILIES else "static")
    used = llm.encoders.main
    starts = range(0, len(texts), _BATCH)
    parts = [run_now(used.encode(list(texts[i : i + _BATCH]))) for i in tracked(list(starts), "encoding")]
    llm.close()
    return np.concatenate(parts)


def named(models: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in models.split(",") if name.strip())


def numbers_of(costs: str) -> list[float]:
    """ "1,30" as numbers; InputError where they are none."""
    if not costs:
        return []
    try:
        return [float(cost) for cost in costs.split(",")]
    except ValueError:
        raise InputError(f"--costs {costs!r} are no numbers", field="costs", fix="write them as 1,30") from None
