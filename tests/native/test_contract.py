"""What JavaScript is told of the server and of the page's Python is what these are."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_the_types_that_javascript_sees_are_made_of_the_document_of_today():
    done = subprocess.run(
        [sys.executable, ROOT / "build" / "contract.py", "--check"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
