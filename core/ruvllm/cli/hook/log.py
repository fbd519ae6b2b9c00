"""What hooks decided and what came of it, a line each; never a prompt, an answer or a path."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Any

import click

_MOST_BYTES = 4_000_000  # then the file becomes the older one, in the place of the last
_MOST_LINE = 10_000


def log_file() -> Path:
    """Where the lines are."""
    return Path(click.get_app_dir("ruvllm")) / "hook.jsonl"


def digest(text: object) -> str:
    """What a session, a project or a prompt is called in the log: the same each time, and no way back."""
    return sha256(str(text).encode("utf-8", "surrogatepass")).hexdigest()[:16]


def append(entry: dict[str, Any]) -> None:
    """Add a line, readable for nobody else; where it cannot be written there is none."""
    file = log_file()
    line = json.dumps({"at": round(time.time(), 3)} | entry, allow_nan=False).encode() + b"\n"
    if len(line) > _MOST_LINE:
        return
    with suppress(OSError):
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with suppress(FileNotFoundError):
            if file.lstat().st_size > _MOST_BYTES:
                file.replace(file.with_suffix(".1.jsonl"))
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)
        opened = os.open(file, flags, 0o600)
        try:
            os.write(opened, line)  # one write: lines of two hooks at once do not mix
        finally:
            os.close(opened)


def entries() -> Iterator[dict[str, Any]]:
    """All lines, the oldest first; what is none of ours is skipped."""
    file = log_file()
    for path in (file.with_suffix(".1.jsonl"), file):
        with suppress(OSError), open(path, "rb") as lines:
            for line in lines:
                with suppress(ValueError, RecursionError):
                    entry = json.loads(line[:_MOST_LINE])
                    if isinstance(entry, dict) and isinstance(entry.get("at"), int | float):
                        yield entry


def spent_since(at: float) -> float:
    """US dollars that outcomes of the log have cost since then (seconds since 1970)."""
    costs = (entry.get("cost") for entry in entries() if entry["at"] >= at)
    return sum(cost for cost in costs if isinstance(cost, int | float))
