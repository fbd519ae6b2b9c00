"""`ruvllm eval decompose` and `ruvllm eval longdoc`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from ruvllm.cli.main import main

DATA = Path(__file__).parents[1] / "data" / "decompose.json"


def last_json(output: str):
    return json.loads(output.strip().splitlines()[-1])


def test_decompose_prints_both_halves():
    result = CliRunner().invoke(main, ["eval", "decompose", str(DATA), "--wrong", "--json"])
    assert result.exit_code == 0
    scores = last_json(result.output)
    assert set(scores) == {"dev", "test"}
    assert scores["dev"]["n"] + scores["test"]["n"] >= 400
    assert 0.9 < scores["test"]["exact"] <= 1
    assert "test: " in result.output


def test_longdoc_finds_the_answer(tmp_path):
    text = "\n\n".join(f"# Room {i}\n\nRoom {i} has {i + 3} windows and a door of oak." for i in range(30))
    (tmp_path / "house.txt").write_text(f"{text}\n\nThe spare key hangs behind the copper kettle.")
    questions = [
        {"question": "Where is the spare key?", "answer": "behind the copper kettle"},
        {"question": "Who painted the ceiling?", "answer": ["nobody knows"]},
    ]
    (tmp_path / "questions.json").write_text(json.dumps({"questions": questions}))
    asked = [str(tmp_path / "house.txt"), str(tmp_path / "questions.json"), "--encoder", "ruvltra", "--json"]
    result = CliRunner().invoke(main, ["eval", "longdoc", *asked])
    assert result.exit_code == 0
    scores = last_json(result.output)
    assert (scores["n"], scores["top3"], scores["said"]) == (2, 0.5, 0.5)


@pytest.mark.parametrize(
    ("name", "content", "field"),
    [
        ("decompose", {"queries": [{"query": "a"}]}, "parts"),
        ("decompose", {"queries": []}, "queries"),
        ("decompose", {"queries": [3]}, "queries[0]"),
        ("longdoc", {"questions": [{"question": "a"}]}, "questions[0].answer"),
    ],
)
def test_a_file_that_is_not_well_formed_is_named(tmp_path, name, content, field):
    file, text = tmp_path / "file.json", tmp_path / "text.txt"
    file.write_text(json.dumps(content))
    text.write_text("Something.")
    result = CliRunner().invoke(main, ["eval", name, *([str(text)] if name == "longdoc" else []), str(file)])
    assert result.exit_code == 2
    assert field in result.output


def test_grades_agree_with_labels(tmp_path):
    scores = last_json(
        CliRunner().invoke(main, ["eval", "answers", str(DATA.parent / "graded_answers.json"), "--json"]).output
    )
    assert (scores["answers"], scores["auroc"] > 0.75) == (61, True)
    (tmp_path / "bad.json").write_text('{"questions": [{"question": "q", "source": "s", "good": "no list"}]}')
    result = CliRunner().invoke(main, ["eval", "answers", str(tmp_path / "bad.json")])
    assert (result.exit_code, "good is no list" in result.output) == (2, True)
