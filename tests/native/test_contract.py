"""What JavaScript is told of the server and of the page's Python, and what a start reads, is what these are."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("script", ["contract", "catalog"])
def test_what_is_made_of_other_files_is_of_todays(script):
    command = [sys.executable, ROOT / "build" / f"{script}.py", "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
