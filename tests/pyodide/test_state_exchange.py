"""The same state file in CPython and in Pyodide under Node, in turns: each reads what the other left, to the bit."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest
from turns import digest, turn

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
PYODIDE = ROOT / "web" / "node_modules" / "pyodide"


def turn_inside(folder: Path) -> list[str]:
    """The digests before and after a turn inside Pyodide with folder/state.db."""
    wheels = sorted((ROOT / "build" / "wheels").glob("numpy-*.whl"))
    job = {
        "pyodide": str(PYODIDE),
        "wheels": [str(wheel) for wheel in wheels],
        "repo": str(ROOT),
        "folder": str(folder),
    }
    command = ["node", str(HERE / "turn.mjs")]
    ended = subprocess.run(command, input=json.dumps(job), text=True, capture_output=True, check=False)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout.rstrip("\n").split(" ")


@pytest.mark.skipif(not PYODIDE.exists() or not shutil.which("node"), reason="run `make web` first")
def test_the_file_goes_from_one_host_to_the_other_and_back(tmp_path: Path):
    path = tmp_path / "state.db"
    before, inside = turn_inside(tmp_path)  # made in Pyodide
    assert before == ""
    assert digest(path) == inside
    here = turn(path)
    assert here != inside
    before, inside = turn_inside(tmp_path)
    assert before == here
    assert digest(path) == inside
    assert turn(path) != inside
