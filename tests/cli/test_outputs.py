"""Every command can speak JSON, in the form that the guide has of it."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from ruvllm.cli.main import main

jsonschema = pytest.importorskip("jsonschema")
sys.path.insert(0, str(Path(__file__).parents[2] / "build"))

import outputs  # noqa: E402

# They speak a protocol of their own, write a file's content or talk with a person.
OTHERWISE = {"bench figures", "chat", "completion", "demo", "hook", "learn dataset", "mcp", "memory export", "serve"}


def commands(group: click.Group, context: click.Context, path: str = "") -> Iterator[tuple[str, click.Command]]:
    for name in group.list_commands(context):
        found = group.get_command(context, name)
        if isinstance(found, click.Group):
            yield from commands(found, context, f"{path}{name} ")
        elif found is not None and not found.hidden:
            yield path + name, found


def test_every_command_has_json():
    without = {
        path
        for path, command in commands(main, click.Context(main))
        if not any("--json" in option.opts for option in command.params)
    }
    assert without == OTHERWISE


def test_what_commands_print_is_as_the_guide_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    promised = json.loads(outputs.FILE.read_text("utf-8"))
    for name, value in outputs.home_of(str(tmp_path)).items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    found = dict(outputs.outputs(tmp_path))
    assert found.keys() == promised.keys()
    for command, value in found.items():
        jsonschema.validate(value, promised[command])
        keys = value.keys() if isinstance(value, dict) else ()
        assert not keys or keys == promised[command]["properties"].keys(), f"{command}: if it is meant, make outputs"
    said = CliRunner().invoke(main, ["feedback", "check the lease", "reviewer", "--json"])
    jsonschema.validate(json.loads(said.stdout), outputs.SAID)
