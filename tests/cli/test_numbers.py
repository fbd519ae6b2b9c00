"""The arithmetic behind `ruvllm eval` and `ruvllm bench`, checked by hand on a few rows."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest
from click.testing import CliRunner

from ruvllm.cli.evals.metrics import Answer, IntentRun, confused, percentile, score_agents, score_intents
from ruvllm.cli.main import main
from ruvllm_bench import cli as bench
from ruvllm_bench import route_process as measure

RIGHT = Answer("a", "a", 0.95, rank=1, micros=10.0, raw=1.0)
WRONG = Answer("a", "b", 0.92, rank=2, micros=30.0, raw=0.5)
FAR = Answer("b", "c", 0.30, rank=4, micros=None, raw=0.5)

MEASURED = measure.Measured(
    agents=83,
    many_agents=2000,
    static_p50_us=150.0,
    static_block_us=140.0,
    ruvltra_block_us=None,
    told_p50_us=190.0,
    ruvltra_p50_us=None,
    cached_p50_us=6.0,
    few_p50_us=100.0,
    many_p50_us=250.0,
    cold_ms=99.0,
    size_bytes=1_000_000,
)


def test_agent_scores() -> None:
    scores = score_agents([RIGHT, WRONG, FAR, FAR])
    assert (scores["n"], scores["top1"], scores["top3"], scores["top5"]) == (4, 0.25, 0.5, 1.0)
    assert scores["mrr"] == pytest.approx((1 + 1 / 2 + 1 / 4 + 1 / 4) / 4)
    assert scores["coverage_at_0.9"] == 0.5
    assert scores["precision_at_0.9"] == 0.5
    assert scores["p50_us"] == 20.0
    assert scores["ece"] == pytest.approx((0.05 + 0.92 + 2 * 0.3) / 4, abs=1e-4)


def test_nobody_sure_has_no_precision() -> None:
    assert score_agents([FAR])["precision_at_0.9"] is None
    assert score_agents([FAR])["p50_us"] is None


def test_intent_scores_are_means_over_seeds() -> None:
    sees = IntentRun((RIGHT,), inside=(0.1,), outside=(0.9,))
    blind = IntentRun((WRONG,), inside=(0.5,), outside=(0.5,))
    scores = score_intents([sees, blind], shots=5)
    assert (scores["n"], scores["shots"], scores["seeds"], scores["accuracy"]) == (1, 5, 2, 0.5)
    assert scores["oos_auroc"] == 0.75
    assert scores["ece"] == 0.25
    assert scores["ece_calibrated"] == pytest.approx((0.05 + 0.92) / 2, abs=1e-4)
    assert score_intents([replace(sees, outside=())], shots=0)["oos_auroc"] is None


def test_confused_counts_mistakes_only() -> None:
    assert confused([RIGHT, WRONG, FAR, WRONG]) == [("a", "b", 2), ("b", "c", 1)]
    assert confused([RIGHT]) == []
    assert percentile([None], 50) is None


def test_bench_marks_each_promise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "_measured", lambda seconds: MEASURED)
    result = CliRunner().invoke(main, ["bench", "route", "--json"])
    assert result.exit_code == 0, result.output
    data = json.loads(result.stdout.splitlines()[-1])
    met = {"static": True, "told": True, "static_block": True, "ruvltra": None, "ruvltra_block": None}
    assert data["met"] == met | {"cached": False, "many": True, "cold": True, "size": True}
    assert data["many_ratio"] == 2.5
    for mark in ("pass", "short", "not measured"):
        assert mark in result.stdout


def test_bench_compares_with_another_version_in_turn(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    trees = []

    def measured(seconds: float, tree: Path | None = None) -> measure.Measured:
        trees.append(tree)
        return replace(MEASURED, static_p50_us=300.0) if tree else MEASURED

    monkeypatch.setattr(bench, "_measured", measured)
    result = CliRunner().invoke(main, ["bench", "route", "--json", "--against", str(tmp_path)])
    assert result.exit_code == 0, result.output
    assert trees == [None, tmp_path] * 3
    data = json.loads(result.stdout.splitlines()[-1])
    assert (data["static_p50_us"], data["before"]["static_p50_us"]) == (150.0, 300.0)
    assert "0.50" in result.stdout


def test_bench_asks_nothing_twice_and_counts_the_code() -> None:
    prompts = list(islice(measure._distinct(["a", "b"]), 100))
    assert len(set(prompts)) == 100
    names = {agent.name for agent in measure._without_examples(measure.MANY)}
    assert len(names) == measure.MANY
    assert 10_000 < measure.code_bytes() < 2_672_000
