"""`ruvllm bench learn`: does feedback pay, without forgetting, on data that nobody here wrote?"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import click
import numpy as np

from ruvllm import RuvLLM
from ruvllm.cli.console import number, print_json, progress, show_table
from ruvllm.cli.evals.plots import check_plot
from ruvllm.cli.evals.sets import IntentSet, read_agent_set, read_intents
from ruvllm.cli.options import json_option
from ruvllm.encoders.families import FAMILIES
from ruvllm_bench.learn.streams import (
    Stream,
    few_feedbacks,
    forgetting,
    forgetting_without_replay,
    review_seconds,
    stream,
)
from ruvllm_bench.plots import save_streams

_LENGTH = 5_000


@dataclass(frozen=True, slots=True)
class _Row:
    """One measure against its bar; `least` bars are to be reached, others not to be exceeded."""

    key: str
    label: str
    value: float | None
    bar: float | None = None
    least: bool = False

    @property
    def met(self) -> bool | None:
        if self.value is None or self.bar is None:
            return None
        return self.value >= self.bar if self.least else self.value <= self.bar


@click.command()
@click.option(
    "--data",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    required=True,
    help="A folder with clinc150.json and agent_prompts.json.",
)
@click.option("--encoder", type=click.Choice(["static", *FAMILIES]), default="static", show_default=True)
@click.option("--length", type=click.IntRange(500), default=_LENGTH, show_default=True, help="Texts of a stream.")
@click.option("--plot", type=click.Path(dir_okay=False, path_type=Path), help="Draw the learning curves as a PNG.")
@json_option
def learn(data: Path, encoder: str, length: int, plot: Path | None, as_json: bool) -> None:
    """Measure learning: streams with feedback, few feedbacks, forgetting, wrong feedback, federation.

    Every text is routed before its answer is told. Takes a few minutes.

    \b
    Examples:
      ruvllm bench learn --data ../shared/data
      ruvllm bench learn --data ../shared/data --encoder ruvltra --plot curves.png
    """
    check_plot(plot)
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    intents = read_intents(data / "clinc150.json")
    curves = _streams(intents, encoder, length)
    rows = [*_stream_rows(curves), *_other_rows(intents, data, encoder)]
    table = [(row.label, number(row.value, 3), _bar(row), _mark(row)) for row in rows]
    show_table(f"learning with the {encoder} encoder", ("Measure", "Value", "Bar", ""), table, right=("Value", "Bar"))
    if plot is not None:
        save_streams(plot, {name: curve.right for name, curve in curves.items()})
    if as_json:
        print_json([asdict(row) | {"met": row.met} for row in rows])


def _streams(intents: IntentSet, encoder: str, length: int) -> dict[str, Stream]:
    texts = [(text, label) for label, own in intents.train.items() for text in own]
    kinds: dict[str, dict[str, Any]] = {
        "full feedback": {},
        "right or wrong only": {"told": "bandit"},
        "20 % of it wrong": {"wrong": 0.2},
    }
    out = {}
    for name, how in kinds.items():
        with progress(name, length) as advance:
            out[name] = stream(texts, encoder, length=length, advance=advance, **how)
    return out


def _stream_rows(curves: dict[str, Stream]) -> Iterator[_Row]:
    full, bandit, noisy = curves.values()
    yield _Row("first", "CLINC150 stream: accuracy over the first 150", full.first)
    yield _Row("full", "… the last 1,000, full feedback", full.last, 0.90, least=True)
    yield _Row("ece", "… their ECE", full.ece, 0.05)
    yield _Row("bandit", "… the last 1,000, told right or wrong only", bandit.last, 0.80, least=True)
    yield _Row("noisy", "… points lost by 20 % wrong feedback", 100 * (full.last - noisy.last), 3)


def _other_rows(intents: IntentSet, data: Path, encoder: str) -> Iterator[_Row]:
    collections = read_agent_set(data / "agent_prompts.json", min_prompts=3)
    with progress("two feedbacks an agent", len(collections)) as advance:
        few = few_feedbacks(collections, encoder, advance=advance)
    yield _Row("zero", f"unseen agents, {few.texts} prompts: top-1 before", few.before)
    yield _Row("few", "… gain from two feedbacks an agent", few.after - few.before, 0.05, least=True)
    with progress("five groups of intents", 5) as advance:
        kept = forgetting(intents, encoder, advance=advance)
    yield _Row("kept", "five groups in turn: points lost on the first, by reviews", kept.lost, 2)
    behind = None if kept.together is None else 100 * (kept.together - kept.end)
    yield _Row("behind", "… points behind a learner that was told all at once", behind, 2)
    held = forgetting_without_replay(intents, ewc=True)
    yield _Row("ewc", "… by a plain head with EWC++ and no replay", held.lost)
    plain = forgetting_without_replay(intents, ewc=False)
    yield _Row("plain", "… by a plain head", plain.lost, 10, least=True)
    yield _Row("review", "Loop B on 1,000 feedbacks, seconds", review_seconds(intents, encoder), 2)
    yield from _speed_rows()
    yield from _federated_rows(intents)


def _speed_rows() -> Iterator[_Row]:
    from ruvllm.index.kmeans import kmeans
    from ruvllm_bench.learn.lora import measure_lora

    speed = measure_lora()
    yield _Row("update", "MicroLoRA update at 384 dims, µs", speed.update_us, 100)
    yield _Row("apply", "… apply, µs", speed.apply_us, 20)
    points = np.random.default_rng(0).standard_normal((5_000, 384)).astype(np.float32)
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    began = perf_counter()
    kmeans(points, 100, plus_plus=True)
    yield _Row("kmeans", "k-means++, 100 clusters of 5,000 x 384, ms", 1000 * (perf_counter() - began), 150)


def _federated_rows(intents: IntentSet) -> Iterator[_Row]:
    from ruvllm_bench.learn.federated import measure_federated

    encoder = RuvLLM(encoder="static").encoders.static
    told = [(text, label) for label, texts in intents.train.items() for text in texts]
    asked = [(prompt.text, prompt.agent) for prompt in intents.test]
    sets = [([text for text, _ in rows], [label for _, label in rows]) for rows in (told, asked)]
    train, test = ((texts, encoder.encode_now(texts), labels) for texts, labels in sets)
    result = measure_federated(train, test)
    lost = None if result.central is None else 100 * (result.central - result.shared)
    yield _Row("federated", "10 clients, disjoint intents, one round: points below central", lost, 2)
    yield from _exchange_rows(intents)
    yield _Row("leaked", "… prompts or their vectors in what travelled", result.texts_found + result.vectors_found, 0)


def _exchange_rows(intents: IntentSet) -> Iterator[_Row]:
    from ruvllm_bench.learn.exchange import measure_exchange

    pair = measure_exchange(intents.train, [(prompt.text, prompt.agent) for prompt in intents.test])
    yield _Row("alone", "two that share nothing, each taught half: accuracy on the other's half", pair.alone_other)
    gained = "… after push and pull"
    yield _Row("exchanged", gained, pair.shared_other, pair.alone_other, least=True)
    yield _Row("own_lost", "… points lost on the half it was taught", 100 * (pair.alone_own - pair.shared_own), 5)


def _bar(row: _Row) -> str:
    return "" if row.bar is None else f"{'>=' if row.least else '<='} {number(row.bar, 2)}"


def _mark(row: _Row) -> str:
    return {None: "", True: "pass", False: "short"}[row.met]
