"""What a stranger gets from `pip install`: the built wheels in an empty environment, outside the repository.

pip fetches numpy and the like, so that a machine without a registry skips this by name. $RUVLLM_PYTHON names another
Python to try.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PYTHON = os.environ.get("RUVLLM_PYTHON", sys.executable)
TASK = "add unit tests for the auth module"
SCRIPT = f"""
from ruvllm import RuvLLM
with RuvLLM(state="state.db") as llm:
    llm.feedback("polish the copper kettle", "coder")
    print(llm.route({TASK!r}).agent, llm.route("polish the copper kettle").agent)
"""


def run(folder: Path, *command: str) -> str:
    """What a command prints, with nothing of this machine's settings."""
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "LANG": "C.UTF-8"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As `make dist` writes it."""
    out = tmp_path_factory.mktemp("built") / "dist"
    run(ROOT, sys.executable, "build/dist.py", "--out", str(out))
    return out


@pytest.fixture(scope="module")
def home(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a virtual environment of the server and all that it brings."""
    home = tmp_path_factory.mktemp("home")
    run(home, PYTHON, "-m", "venv", "venv")
    command = [str(home / "venv/bin/pip"), "install", "-q", "--find-links", str(built), "ruvllm-edge"]
    done = subprocess.run(command, cwd=home, capture_output=True, text=True, timeout=600)
    if done.returncode:
        pytest.skip(f"pip cannot install what the wheels need: {done.stderr[-300:]}")
    return home


def test_the_same_bytes_twice(built: Path, tmp_path: Path) -> None:
    run(ROOT, sys.executable, "build/dist.py", "--out", str(tmp_path / "again"))
    assert (tmp_path / "again" / "SHA256SUMS").read_text() == (built / "SHA256SUMS").read_text()


def test_the_command_routes(home: Path) -> None:
    assert json.loads(run(home, "venv/bin/ruvllm", "route", "--json", TASK))["agent"] == "tester"
    assert "Agent: tester" in run(home, "venv/bin/python", "-m", "ruvllm.cli", "route", TASK)
    assert "ruvllm" in run(home, "venv/bin/ruvllm", "info")
    run(home, "venv/bin/ruvllm", "serve", "--help")


def test_the_library_routes_and_learns(home: Path) -> None:
    assert run(home, "venv/bin/python", "-c", SCRIPT).split() == ["tester", "coder"]


def test_a_source_archive_holds_all_that_its_wheel_does(built: Path, home: Path, tmp_path: Path) -> None:
    (archive,) = built.glob("ruvllm-[0-9]*.tar.gz")
    (wheel,) = built.glob("ruvllm-[0-9]*.whl")
    inside = run(home, "tar", "tzf", str(archive)).split()
    files = run(home, sys.executable, "-m", "zipfile", "-l", str(wheel)).splitlines()
    names = {line.split()[0] for line in files[1:] if line.startswith("ruvllm/")}
    assert names
    assert names <= {name.partition("/")[2] for name in inside}
