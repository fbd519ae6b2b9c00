"""The Claude Code hook: a hint as JSON, or nothing; never an exit code that stops a prompt."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from ruvllm.cli.main import main

BAKER = "---\nname: baker\ndescription: Bakes bread, cakes and pastry; doughs, ovens and proofing times.\n---\nBake.\n"
GARDENER = "---\nname: gardener\ndescription: Plants flowers, prunes hedges and trees, mows lawns.\n---\nGrow.\n"
TASK = "add unit tests for the auth module"


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test may read the feedback of whoever runs it."""
    monkeypatch.setenv("RUVLLM_STATE", str(tmp_path / "state.db"))


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project" / ".claude" / "agents"
    folder.mkdir(parents=True)
    (folder / "baker.md").write_text(BAKER, "utf-8")
    (folder / "gardener.md").write_text(GARDENER, "utf-8")
    return tmp_path / "project"


def event(prompt: str = TASK, **more: Any) -> bytes:
    told = {"session_id": "s1", "transcript_path": "/t", "hook_event_name": "UserPromptSubmit", "prompt": prompt}
    return json.dumps(told | more).encode()


def run(stdin: bytes, *args: str) -> Result:
    return CliRunner().invoke(main, ["hook", *args], input=stdin)


def hint(result: Result) -> str:
    """The context of what must be the one thing that is printed."""
    assert result.exit_code == 0
    told = json.loads(result.stdout)["hookSpecificOutput"]
    assert told.keys() == {"hookEventName", "additionalContext"}
    assert told["hookEventName"] == "UserPromptSubmit"
    return str(told["additionalContext"])


def test_it_names_agent_confidence_and_evidence(tmp_path: Path):
    said = hint(run(event(cwd=str(tmp_path))))
    assert "`tester`" in said
    assert "confidence 1.00" in said or "confidence 0.9" in said
    assert "Matching words: unit, tests" in said
    assert "Similar task of this agent" in said


def test_it_uses_the_projects_own_agents(project: Path):
    said = hint(run(event("prune the apple trees and the hedge", cwd=str(project))))
    assert "`gardener`" in said
    assert "tester" not in said


def test_agents_can_be_named(project: Path):
    said = hint(run(event("bake a loaf of bread in the oven"), "--agents", str(project / ".claude" / "agents")))
    assert "`baker`" in said


def test_what_is_unsure_goes_without_saying(project: Path):
    assert run(event("what is the capital of Peru?", cwd=str(project))).output == ""
    prompt = event("prune the apple trees", cwd=str(project))
    assert hint(run(prompt))
    assert run(prompt, "--min-confidence", "1").output == ""


@pytest.mark.parametrize(
    "stdin",
    [
        b"",
        b"garbage",
        b"\xff\xfe",
        b"[]",
        b"{}",
        b'{"prompt": 3}',
        b"[" * 100_000,
        event(""),
        event("   "),
        event("/compact"),
        event(hook_event_name="PreToolUse"),
        event(cwd=3),
        event(cwd="/nowhere/at/all\x00"),
    ],
)
def test_nothing_ever_stops_a_prompt(stdin: bytes):
    result = run(stdin)
    assert result.exit_code == 0
    assert result.output == "" or hint(result)


@pytest.mark.parametrize(
    "args", [["--agents", "/nowhere"], ["--no-such-option"], ["--state", "/nowhere/x"], ["left", "over"]]
)
def test_not_even_wrong_arguments(args: list[str]):
    result = run(event(), *args)
    assert result.exit_code == 0


def test_a_damaged_state_file_is_no_reason_either(tmp_path: Path):
    (tmp_path / "state.db").write_bytes(b"no database" * 100)
    assert (run(event()).exit_code, run(event()).output) == (0, "")


def test_debug_says_what_went_wrong():
    result = run(b"garbage", "--debug")
    assert result.exit_code == 1
    assert "JSONDecodeError" in result.stderr
    assert result.stdout == ""


def test_hostile_agents_stay_on_their_line(tmp_path: Path):
    folder = tmp_path / ".claude" / "agents"
    folder.mkdir(parents=True)
    (folder / "a.md").write_text('---\nname: "evil\\u001b[2J"\ndescription: Deletes files.\n---\n', "utf-8")
    (folder / "b.md").write_text(GARDENER, "utf-8")
    result = run(event("delete the files", cwd=str(tmp_path)), "--min-confidence", "0")
    assert result.exit_code == 0
    assert "\x1b" not in json.loads(result.stdout)["hookSpecificOutput"]["additionalContext"]


def test_feedback_is_heeded(tmp_path: Path):
    for _ in range(2):
        CliRunner().invoke(main, ["feedback", "look at the frobnicator again", "tester"])
    assert "`tester`" in hint(run(event("look at the frobnicator again", cwd=str(tmp_path))))


def test_it_starts_without_what_it_does_not_need():
    code = (
        "import sys; from click.testing import CliRunner; from ruvllm.cli.main import main;"
        f"result = CliRunner().invoke(main, ['hook'], input={event()!r});"
        "print(result.exit_code, [name for name in ('rich', 'matplotlib', 'asyncio', 'httpx') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=os.environ, check=True)
    assert done.stdout.split("\n")[-2] == "0 []"
