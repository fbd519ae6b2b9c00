"""The page that `ruvllm bench figures` writes, and what it says of programs that cannot be had."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from ruvllm import RuvllmError
from ruvllm.cli.main import main
from ruvllm_bench.figures import command
from ruvllm_bench.figures.page import BEGIN, END, Figure, update
from ruvllm_bench.figures.peers import PEERS, Peer

PAGE = f"# Benchmarks\n\nBy hand.\n\n{BEGIN}\n{END}\n\n## More by hand\n"
ROOT = Path(__file__).resolve().parents[2]


def test_a_row_that_was_not_measured_stays_with_its_date():
    commands = {"a": "do a", "b": "do b"}
    first = update(PAGE, {"b": [Figure("x", "1 ms", "y | z", "2 ×"), Figure("w", "3")]}, commands, ())
    first = first.replace("2 ×", "9 ×")
    second = update(first, {"b": [Figure("w", "4")], "a": [Figure("v", "5")]}, commands, ["q cannot be had"])
    assert second.startswith("# Benchmarks\n\nBy hand.\n")
    assert second.endswith(f"{END}\n\n## More by hand\n")
    assert second.index("### a") < second.index("`do a`") < second.index("| v | 5 |") < second.index("### b")
    assert "| x | 1 ms | y / z | 9 × |" in second
    assert "| w | 4 |" in second
    assert "| w | 3 |" not in second
    assert "- q cannot be had\n" in second
    assert update(second, {}, commands, ["q cannot be had"]) == second


def test_the_page_of_this_repository_can_be_written():
    text = (ROOT / "docs" / "benchmarks.md").read_text("utf-8")
    again = update(text, {}, command.COMMANDS, ())
    assert [line for line in text.splitlines() if line.startswith("| ")] == [
        line for line in again.splitlines() if line.startswith("| ")
    ]


def test_who_cannot_be_had_is_named_and_the_others_are_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    class Missing(Peer):
        def install(self) -> str:
            raise RuvllmError("no wheel for this system", field="peers", fix="leave it out")

    asked = list[command.Peers]()

    def measure(peers: command.Peers, _: Path | None) -> list[Figure]:
        asked.append(peers)
        return [Figure("speed", "1 ms")]

    def failing(*_: object) -> list[Figure]:
        raise RuvllmError("the server did not start", field="serve", fix="see its log")

    monkeypatch.setattr(command, "PEERS", (Missing("swift", ("swift",), "MIT", "route"),))
    monkeypatch.setitem(command._MEASURES, "route", measure)
    monkeypatch.setitem(command._MEASURES, "serve", failing)
    page = tmp_path / "page.md"
    page.write_text(PAGE)
    words = ["bench", "figures", "--only", "serve,route", "--peers", "--out", str(page)]
    answer = CliRunner().invoke(main, words)
    assert answer.exit_code == 0, answer.output
    written = page.read_text()
    assert "| speed | 1 ms |" in written
    assert "- swift cannot be had here: no wheel for this system" in written
    assert "- serve: not measured (the server did not start)" in written
    assert asked == [{}]


def test_what_cannot_be_asked_for_is_said_before_anything_is_measured(tmp_path: Path):
    page = tmp_path / "page.md"
    page.write_text("# Nothing\n")
    for words, said in ((["--only", "speed"], "there is no part 'speed'"), (["--out", str(page)], "no place")):
        answer = CliRunner().invoke(main, ["bench", "figures", *words])
        assert answer.exit_code == 2
        assert said in answer.output


def test_peers_are_outside_of_this_repository_and_have_a_licence():
    assert len({peer.folder for peer in PEERS}) == len(PEERS) == 9
    for peer in PEERS:
        assert not peer.folder.is_relative_to(ROOT)
        assert peer.licence
