"""Commands that the edge package adds to `ruvllm`, and `ruvllm doctor`."""

from __future__ import annotations

import json
import socket
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from conftest import serving

from ruvllm import RuvLLM
from ruvllm.cli.main import main


def run(*arguments: str, **environment: str) -> Result:
    return CliRunner(env=environment).invoke(main, arguments)


def states(result: Result) -> dict[str, str]:
    return {check["name"]: check["state"] for check in json.loads(result.output)}


def test_installed_commands_are_found_at_their_places():
    assert "serve" in run("--help").output
    assert "--connections" in run("bench", "serve", "--help").output
    assert "serve" in run("bench", "--help").output
    assert run("nonsense").exit_code == 2


def test_a_command_whose_package_is_missing_names_it(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("importlib.metadata.entry_points", lambda **_: ())
    for name, package in (("serve", "ruvllm-edge"), ("bench", "ruvllm-bench")):
        answer = run(name)
        assert answer.exit_code == 2
        assert f"pip install {package}" in answer.output


def test_a_command_that_cannot_be_loaded_names_its_package(monkeypatch: pytest.MonkeyPatch):
    broken = EntryPoint("serve", "no_such_module_anywhere:serve", "ruvllm.commands")
    monkeypatch.setattr("importlib.metadata.entry_points", lambda **_: (broken,))
    answer = run("serve")
    assert answer.exit_code == 2
    assert "cannot be loaded" in answer.output


def test_a_taken_port_is_said_so(tmp_path: Path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        answer = run("--state", str(tmp_path / "s.db"), "serve", "--port", str(taken.getsockname()[1]))
    assert answer.exit_code == 2
    assert "give another --port" in answer.output


def test_doctor_finds_a_whole_system_whole(tmp_path: Path):
    state = tmp_path / "state.db"
    RuvLLM(encoder="static", state=state).close()
    answer = run("--state", str(state), "doctor", "--json")
    found = states(answer)
    assert answer.exit_code == 0
    assert {found[name] for name in ("artifacts", "routing", "options", "state file", "server")} == {"ok"}


def test_doctor_tells_what_is_broken(tmp_path: Path):
    state = tmp_path / "state.db"
    state.write_bytes(b"no database" * 100)
    answer = run("--state", str(state), "doctor", "--json", RUVLLM_WEB=str(tmp_path), RUVLLM_MEMORY_K="many")
    found = states(answer)
    assert answer.exit_code == 1
    assert (found["state file"], found["options"], found["page"]) == ("broken", "broken", "missing")


def test_doctor_asks_the_backends(free_port: int):
    there = {"KIND": "openai", "MODEL": "any"}
    with serving(RuvLLM(encoder="static")) as edge:
        for port, expected in ((edge.port, "ok"), (free_port, "broken")):
            named = there | {"URL": f"http://127.0.0.1:{port}/v1"}
            environment = {f"RUVLLM_INFERENCE_SMALL_{key}": value for key, value in named.items()}
            assert states(run("doctor", "--json", **environment))["backend small"] == expected
