"""docs/features.md names every feature that the map of the code has; tests/docs looks at its commands."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "features.md").read_text("utf-8")
ROW = re.compile(r"\b([A-Z])(\d+)(?:-\1(\d+))?\b")


def rows(text: str) -> set[str]:
    """Of the first cells of tables: "R1-R4" is four."""
    cells = [line.split("|")[1] for line in text.splitlines() if line.startswith("|")]
    found = [match for cell in cells for match in ROW.findall(cell)]
    return {f"{letter}{n}" for letter, first, last in found for n in range(int(first), int(last or first) + 1)}


def test_every_feature_has_a_row() -> None:
    code = (ROOT / "docs" / "architecture.md").read_text("utf-8")
    assert rows(code.partition("## Where each feature is")[2]) == rows(PAGE)
