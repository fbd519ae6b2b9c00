"""`ruvllm decide`, feedback on decisions, and `ruvllm eval decide`."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from ruvllm.cli.main import main

DATA = Path(__file__).parents[1] / "data" / "decide.json"
ASK = ("--choice", "Which team?", "--option", "billing=Payments, refunds", "--option", "bakery=Bread and ovens")
STATE = "The oven burnt all the bread again."


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test may read or write the feedback of whoever runs it."""
    monkeypatch.setenv("RUVLLM_STATE", str(tmp_path / "state.db"))


def run(*args: object, stdin: str | None = None, code: int = 0) -> Result:
    result = CliRunner().invoke(main, [str(arg) for arg in args], input=stdin)
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.output
    return result


def decide(*args: object, stdin: str | None = None) -> Any:
    return json.loads(run("decide", *args, "--encoder", "static", "--json", stdin=stdin).stdout.splitlines()[-1])


def test_a_choice_is_shown_with_probabilities_and_how_to_teach_it() -> None:
    shown = run("decide", STATE, *ASK, "--yes-no", "Is it urgent?", "--encoder", "static").stdout
    assert "bakery" in shown
    assert re.search(r"(yes|no) +yes 0\.\d\d", shown)
    assert re.search(r"ruvllm feedback --request dec-[0-9a-f]+ --answer", shown)


def test_feedback_in_another_process_is_learnt() -> None:
    id = decide(STATE, *ASK)["id"]
    assert (
        "choice has 1 example" in run("feedback", "--request", id, "--answer", "billing", "--encoder", "static").stdout
    )
    assert decide(STATE, *ASK)["answers"]["choice"]["choice"] == "billing"


def test_each_of_several_questions_is_taught_by_its_name() -> None:
    more = (*ASK, "--yes-no", "Is it urgent?", "--score", "How angry?", "--level", "calm", "--level", "angry")
    id = decide(STATE, *more)["id"]
    given = ("--answer", "choice=billing", "--answer", "Is it urgent?=true", "--answer", "score=1")
    assert run("feedback", "--request", id, *given, "--encoder", "static").stdout.count("Learnt:") == 3
    answers = decide(STATE, *more)["answers"]
    assert answers["choice"]["choice"] == "billing"
    assert answers["Is it urgent?"]["noul"] > 0.5
    assert answers["score"]["score"] > 0.5


def test_questions_come_from_a_file_and_the_state_from_stdin(tmp_path: Path) -> None:
    questions = {"urgent": {"type": "noul", "instructions": "Is it urgent?"}}
    (tmp_path / "q.json").write_text(json.dumps(questions))
    answers = decide("--questions", tmp_path / "q.json", stdin=json.dumps({"message": STATE}))["answers"]
    assert answers["urgent"].keys() == {"type", "noul"}


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ((STATE,), "Ask something"),
        ((STATE, "--choice", "Which?"), "questions.choice.criteria"),
        (("", "--yes-no", "Is it?"), "state is empty"),
        ((STATE, "--questions", "missing.json"), "missing.json"),
    ],
)
def test_what_is_wrong_is_one_line_with_its_fix(args: tuple[str, ...], said: str) -> None:
    assert said in run("decide", *args, "--encoder", "static", code=2).output


def test_feedback_on_nothing_that_was_decided() -> None:
    assert "is remembered" in run("feedback", "--request", "dec-1", "--answer", "x", code=2).output
    assert "needs --request" in run("feedback", "a task", "tester", "--answer", "x", code=2).output


def test_the_eval_measures_both_halves_of_its_set_and_a_choice(tmp_path: Path) -> None:
    data = json.loads(DATA.read_text("utf-8"))
    assert all(
        sum(len(one["yes"]) + len(one["no"]) for one in data["noul"] if one["half"] == half) >= 60
        and sum(len(one["items"]) for one in data["score"] if one["half"] == half) >= 60
        for half in ("tuned", "kept")
    )
    rows = [json.loads(row) for row in run("eval", "decide", DATA, "--encoder", "static", "--json").stdout.splitlines()]
    assert len(rows) == 8
    assert all(0 <= row["ece"] <= 1 and row["n"] >= 60 for row in rows)
    by_name = {row["set"]: row for row in rows}
    assert by_name["noul, kept half, static: no example"]["accuracy"] > 0.65
    assert by_name["score, kept half, static: no example"]["mae"] < 0.8
    train = [[f"{verb} the {thing}", label] for label, thing in (("bread", "bread"), ("roses", "roses"))
             for verb in ("see", "take", "carry")]  # fmt: skip
    (tmp_path / "intents.json").write_text(json.dumps({"train": train, "test": [["buy bread", "bread"]]}))
    out = run("eval", "decide", tmp_path / "intents.json", "--feedbacks", 2, "--encoder", "static", "--json").stdout
    assert [json.loads(row)["accuracy"] for row in out.splitlines()] == [1, 1]
