"""docs/features.md names every feature that the map of the code has, and commands that there are."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest

from ruvllm.cli.main import main

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "features.md").read_text("utf-8")
COMMANDS = sorted(set(re.findall(r"`(ruvllm [^`]+)`", PAGE)))
ROW = re.compile(r"\b([A-Z])(\d+)(?:-\1(\d+))?\b")


def rows(text: str) -> set[str]:
    """Of the first cells of tables: "R1-R4" is four."""
    cells = [line.split("|")[1] for line in text.splitlines() if line.startswith("|")]
    found = [match for cell in cells for match in ROW.findall(cell)]
    return {f"{letter}{n}" for letter, first, last in found for n in range(int(first), int(last or first) + 1)}


def test_every_feature_has_a_row() -> None:
    code = (ROOT / "docs" / "architecture.md").read_text("utf-8")
    assert rows(code.partition("## Where each feature is")[2]) == rows(PAGE)


@pytest.mark.parametrize("line", COMMANDS)
def test_its_commands_are_there_with_their_options(line: str) -> None:
    words = shlex.split(line)[1:]
    command: click.Command = main
    context = click.Context(main)
    while words and isinstance(command, click.Group):
        name, *rest = words
        if (found := command.get_command(context, name)) is None:
            found, rest = command.get_command(context, " ".join(words[:2])), words[2:]
        if name.startswith("--"):
            break
        assert found is not None, name
        command, words = found, rest
    known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
    assert {word.partition("=")[0] for word in words if word.startswith("--")} <= known | {"--help"}
