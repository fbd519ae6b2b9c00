"""`ruvllm eval memory`: conversations in LoCoMo's form."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from ruvllm.cli.main import main
from ruvllm_bench.memory.talks import talks


def evaluated(path: Path, *options: str) -> dict[str, Any]:
    result = CliRunner().invoke(main, ["eval", "memory", str(path), "--encoder", "static", "--json", *options])
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout.splitlines()[-1])  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("talks") / "talks.json"
    path.write_text(json.dumps(talks(2, seed=5)), "utf-8")
    return path


def test_both_kinds_of_search_find_more_than_one(path: Path):
    both, vectors, words = (
        evaluated(path, *options) for options in ((), ("--baseline", "vectors"), ("--baseline", "bm25"))
    )
    recalls = [one["categories"]["all"]["turn_recall"] for one in (both, vectors, words)]
    assert recalls[0] > max(recalls[1:]) > 0.3
    assert both["categories"]["all"]["n"] == sum(row["n"] for name, row in both["categories"].items() if name != "all")
    assert both["categories"]["all"]["session_recall"] >= both["categories"]["all"]["turn_recall"]
    assert 0 <= both["abstention_auroc"] <= 1


def test_talks_are_the_same_for_the_same_seed():
    assert talks(1, 3) == talks(1, 3) != talks(1, 4)


@pytest.mark.parametrize(
    "content", ["", "[]", '{"conversations": [{}]}', '{"conversations": [{"turns": [{"id": 1}]}]}']
)
def test_a_file_of_another_form_is_refused(content: str, tmp_path: Path):
    (tmp_path / "x.json").write_text(content)
    result = CliRunner().invoke(main, ["eval", "memory", str(tmp_path / "x.json")])
    assert result.exit_code != 0
    assert "conversations" in result.output
