"""`ruvllm state set-aside`: what could not be written is listed without its text, written again, or dropped."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from ruvllm.cli.main import main
from ruvllm.state.repair.check import check
from ruvllm.state.store import Store

SECRET = "the vault opens at nine"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file with three items set aside; the last one cannot be written again."""
    with closing(Store(tmp_path / "state.db")) as store:
        said = {"text": f"{SECRET} \ud800", "agent": "coder", "weight": 1.0, "right": True}
        for item, payload in (("one", said), ("two", said), ("\x1b[31mthree", {"text": SECRET})):
            store.set_aside.add("feedback", item, KeyError(SECRET), lambda payload=payload: payload)  # type: ignore[misc]
    return tmp_path / "state.db"


@pytest.fixture
def run(path: Path) -> Callable[..., Result]:
    def call(*arguments: str, file: Path = path) -> Result:
        return CliRunner().invoke(main, ["state", "set-aside", *arguments, "--state", str(file)])

    return call


def test_the_list_names_ids_and_reasons_but_no_text(run: Callable[..., Result]):
    shown, told = run("list"), run("list", "--json")
    rows = json.loads(told.output)
    assert [(row["id"], row["kind"], row["reason"]) for row in rows] == [(i, "feedback", "KeyError") for i in (1, 2, 3)]
    assert "one" in shown.output
    assert "\x1b" not in shown.output
    assert SECRET not in shown.output + told.output


def test_what_can_be_written_is_and_the_rest_stays(run: Callable[..., Result], path: Path):
    one = run("retry", "1", "--json")
    assert (one.exit_code, json.loads(one.output)) == (0, {"written": [1], "left": []})
    rest = run("retry")
    assert (rest.exit_code, rest.stdout) == (1, "wrote 1; 1 still cannot be written\n")
    with closing(Store(path)) as store:
        assert [feedback.text for feedback in store.feedback()] == [f"{SECRET} \ufffd"] * 2
    (left,) = json.loads(run("list", "--json").output)
    assert (left["id"], left["reason"]) == (3, "TypeError")
    assert check(path).ok


def test_what_is_dropped_is_in_the_file_no_more(run: Callable[..., Result], path: Path):
    assert run("drop").exit_code == 2
    assert run("drop", "1", "--all").exit_code == 2
    missing = run("drop", "2", "9")
    assert (missing.exit_code, "number 9" in missing.output) == (2, True)
    assert json.loads(run("drop", "2", "--json").output) == {"dropped": 1}
    assert run("drop", "--all").output == "dropped 2\n"
    assert run("list").output == "nothing is set aside\n"
    assert SECRET.encode() not in path.read_bytes()


@pytest.mark.parametrize("command", [["list"], ["retry"], ["drop", "--all"]])
def test_a_file_that_is_not_there_is_named_and_not_made(run: Callable[..., Result], command: list[str], tmp_path: Path):
    there = tmp_path / "nothing.db"
    done = run(*command, file=there)
    assert (done.exit_code, "there is no file" in done.output) == (2, True)
    assert not there.exists()


@pytest.mark.parametrize("command", [[], ["set-aside"], *(["set-aside", name] for name in ("list", "retry", "drop"))])
def test_help_has_examples(command: list[str]):
    done = CliRunner().invoke(main, ["state", *command, "--help"])
    assert (done.exit_code, "Examples:" in done.output) == (0, True)
