"""Text to distil the static encoder from: real technical English and our own conversational grammar.

Real text is read where it lies (installed docs and docstrings, Debian package descriptions,
JSON files given by path) and never stored in the repository: only weights trained on it are.
"""

from __future__ import annotations

import ast
import json
import random
import re
import subprocess
import sysconfig
from collections.abc import Iterator
from pathlib import Path

from recipes.conversation import sentences

_SENTENCE = re.compile(r"(?<=[.!?:;])\s+|\n\s*\n|\n\s*[-*>#]+\s*")


def _split(text: str) -> Iterator[str]:
    for part in _SENTENCE.split(text):
        line = " ".join(part.split()).strip("-*#> `=|")
        words = line.split()
        if 3 <= len(words) <= 40 and len(line) <= 300 and sum(c.isalpha() or c == " " for c in line) > 0.75 * len(line):
            yield line


def docstrings(limit: int) -> Iterator[str]:
    """Sentences of the docstrings of what is installed."""
    roots = [Path(sysconfig.get_path("stdlib"))]
    files = [f for root in roots for f in root.rglob("*.py") if f.stat().st_size < 400_000]
    random.Random(0).shuffle(files)
    for count, file in enumerate(files):
        if count >= limit:
            return
        try:
            tree = ast.parse(file.read_text("utf-8", errors="replace"))
        except (SyntaxError, ValueError):
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                yield from _split(ast.get_docstring(node) or "")


def documents(limit: int) -> Iterator[str]:
    """Sentences of installed .rst and .md documents."""
    roots = (Path(sysconfig.get_path("stdlib")), Path("/usr/share/doc"), Path("/usr/lib/node_modules"))
    files = [f for root in roots for suffix in ("*.md", "*.rst") for f in root.rglob(suffix) if f.is_file()]
    random.Random(0).shuffle(files)
    for file in files[:limit]:
        yield from _split(file.read_text("utf-8", errors="replace"))


def packages() -> Iterator[str]:
    """One-line descriptions of Debian's packages (empty where apt is missing)."""
    try:
        dump = subprocess.run(["apt-cache", "dumpavail"], capture_output=True, text=True, check=False).stdout
    except OSError:
        return
    for line in dump.splitlines():
        if line.startswith("Description:"):
            yield from _split(line.partition(":")[2])


def agents(path: Path) -> Iterator[str]:
    """Lines of agents' bodies and their descriptions (agent_weak_pairs.json)."""
    data = json.loads(path.read_text())
    yield from (line for line, _ in data["pairs"])
    for description in data["descriptions"]:
        yield description
        yield from _split(description)


def questions(path: Path) -> Iterator[str]:
    """Prompts of a tiers file (tiers_mmlu.json), cut to their sentences."""
    data = json.loads(path.read_text())
    for row in data["rows"] if isinstance(data, dict) else data:
        yield from _split(row["prompt"])


def _spans(texts: list[str], n: int, rng: random.Random) -> Iterator[str]:
    """Short pieces of longer lines: the register of titles, names and terse commands."""
    for text in rng.sample(texts, min(n, len(texts))):
        words = text.split()
        size = rng.randint(1, 5)
        start = rng.randint(0, max(0, len(words) - size))
        yield " ".join(words[start : start + size])


def corpus(data: Path, size: int = 400_000, seed: int = 0) -> list[str]:
    """Distinct lines, shuffled: over half conversation, the rest technical lines and short spans."""
    rng = random.Random(seed)
    talk = sentences(size * 11 // 20, seed)
    technical = list(dict.fromkeys([*docstrings(6_000), *documents(4_000), *packages()]))
    rng.shuffle(technical)
    real = [*agents(data / "agent_weak_pairs.json"), *questions(data / "tiers_mmlu.json")]
    lines = [*talk, *real, *technical[: size // 5]]
    lines += _spans([*real, *technical], size // 10, rng)
    lines = list(dict.fromkeys(lines))
    rng.shuffle(lines)
    return lines[:size]
