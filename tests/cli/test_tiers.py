"""`ruvllm tiers`, `eval tiers`, `bench select`, `decompose` and `query --deep`."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from ruvllm.cli.main import main


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    """The weak model calculates badly; how badly, only its outcomes say."""
    random = np.random.default_rng(3)
    made = []
    for a, b in random.integers(10, 9_999, (400, 2)):
        hard = bool(random.random() < 0.5)
        prompt = f"multiply {a} by {b} and divide the result by seven" if hard else f"greet guest {a} at table {b}"
        made.append({"prompt": prompt, "weak": bool(random.random() < (0.1 if hard else 0.95)), "strong": "True"})
    path = tmp_path_factory.mktemp("rows") / "rows.json"
    path.write_text(json.dumps(made))
    return str(path)


def asked(*arguments: str, code: int = 0):
    result = CliRunner().invoke(main, list(arguments))
    assert result.exit_code == code, result.output
    return result.output


def last_json(output: str):
    return json.loads(output.strip().splitlines()[-1])


def test_what_was_trained_names_tiers_until_it_is_forgotten(rows, tmp_path):
    state = str(tmp_path / "s.db")
    task = "multiply 4120 by 377 and divide the result by seven"
    agents = tmp_path / "agents.json"
    agents.write_text(json.dumps({"agents": [{"name": "any", "description": "Does whatever comes up"}]}))
    route = ("route", task, "--state", state, "--agents", str(agents), "--encoder", "static", "--json")
    before = last_json(asked(*route))["tier"]
    told = last_json(asked("tiers", "train", rows, "--state", state, "--quality", "0.94", "--json"))
    assert (told["rows"], told["models"], told["used"]) == (400, ["weak", "strong"], True)
    chosen = last_json(asked("tiers", "choose", task, "--state", state, "--json"))
    assert chosen["model"] == "strong"
    assert chosen["probabilities"]["weak"] < 0.5
    assert last_json(asked("tiers", "choose", task, "--state", state, "--cost", "1", "--json"))["model"] == "weak"
    assert (before, last_json(asked(*route))["tier"]) == (2, 3)
    assert "forgotten" in asked("tiers", "forget", "--state", state)
    assert last_json(asked(*route))["tier"] == 2


def test_a_file_beside_or_instead(rows, tmp_path):
    out, state = tmp_path / "mine.npz", str(tmp_path / "s.db")
    asked("tiers", "train", rows, "--out", str(out), "--no-use", "--costs", "1,10", "--state", state)
    told = last_json(asked("tiers", "choose", "greet guest 12 at table 9", "--model", str(out), "--json"))
    assert told["model"] == "weak"
    assert "knows little of other tasks" in asked("tiers", "choose", "greet guest 12", "--state", state)
    assert "goes nowhere" in asked("tiers", "train", rows, "--no-use", code=2)
    assert "cannot be read" in asked("tiers", "choose", "x", "--model", str(tmp_path / "none.npz"), code=2)


def test_eval_tiers_finds_what_is_there(rows, tmp_path):
    told = last_json(asked("eval", "tiers", rows, "--costs", "1,10", "--json"))
    assert told["apgr"] > 0.7
    assert told["ece_weak"] < 0.1
    right, cost = told["right"], told["costs"]
    assert right["one at random"] < right["chosen, at 60% of its cost"] <= right["the cheapest that is right"]
    assert cost["chosen, at 60% of its cost"] <= 0.6 < cost["always strong"] == 1
    scored = tmp_path / "scored.json"
    listed = json.loads(Path(rows).read_text())
    scores = [{"prompt": row["prompt"], "scores": [float(row["weak"]), 1.0]} for row in listed]
    scored.write_text(json.dumps({"models": ["weak", "strong"], "rows": scores}))
    again = last_json(asked("eval", "tiers", str(scored), "--costs", "1,10", "--json"))
    assert again == told
    assert "give 2 numbers" in asked("eval", "tiers", str(scored), "--costs", "1", code=2)
    scores[7]["scores"] = [1.0]
    scored.write_text(json.dumps({"models": ["weak", "strong"], "rows": scores}))
    assert "rows[7].scores" in asked("eval", "tiers", str(scored), code=2)


@pytest.mark.parametrize("prior", [(), ("--prior",)])
def test_bench_select_stays_within_the_cost(rows, prior):
    told = last_json(asked("bench", "select", "--data", rows, "--learning", "120", "--seeds", "2", "--json", *prior))
    assert len(told["orders"]) == 2
    assert told["cost"] < 0.6
    assert told["settled_accuracy"] > 0.8  # a random half: 0.75


def test_decompose_shows_the_parts():
    assert "one question" in asked("decompose", "what does the parser do?")
    output = asked("decompose", "causes AND solutions for slow API responses")
    assert "1. causes of slow API responses" in output or "1. causes for slow API responses" in output
    parts = last_json(asked("decompose", "--json", "first find the memory leak, then explain how to fix it"))["parts"]
    assert parts[1]["after"] == [0]


def test_query_deep_answers_each_part(tmp_path):
    state = str(tmp_path / "s.db")
    for text in ("The staging database is reset every Monday.", "Production is backed up every night."):
        asked("memory", "add", text, "--state", state)
    query = "When is the staging database reset and when is production backed up?"
    told = last_json(asked("query", "--deep", query, "--state", state, "--encoder", "static", "--json"))
    assert len(told["findings"]) == 2
    assert "Monday" in told["text"]
    assert "night" in told["text"]
    assert "2 part(s)" in asked("query", "--deep", query, "--state", state, "--encoder", "static")
