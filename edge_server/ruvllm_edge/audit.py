"""Who did what, when, and what came of it: a file of JSON lines without any contents."""

from __future__ import annotations

import json
import logging
import os
from collections import deque
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from time import time
from typing import Any

from msgspec import Struct
from msgspec.json import Encoder

from ruvllm_edge.logs import event

_MOST = 16 << 20  # bytes of the file, beyond which it becomes the former one
_WAITING = 100_000  # rows that may wait for the disk; the oldest go
_encode = Encoder().encode


class AuditRow(Struct, omit_defaults=True):
    """One request or command.

    Attributes:
        time: ISO 8601, UTC.
        action: method and path of the operation, with its parameters in braces, or the command.
        outcome: the status; 0 where the client left.
        key: the name of the caller's key, "" for who has none that is valid.
        about: the key or space that was managed.
        request: its id.
    """

    time: str
    action: str
    outcome: int
    key: str = ""
    space: str = ""
    role: str = ""
    about: str = ""
    request: str = ""


def audit_file(keys_file: Path) -> Path:
    """Beside the file of keys."""
    return keys_file.with_name(f"{keys_file.name}.audit.jsonl")


class Audit:
    """Rows in memory, appended to a file that is its owner's alone.

    Args:
        file: made when missing; None where nothing is audited.
    """

    def __init__(self, file: Path | None) -> None:
        self.file = file
        self._rows: deque[tuple[float, str, int, dict[str, str]]] = deque(maxlen=_WAITING)
        self._failed = False

    def add(self, action: str, outcome: int, **more: str) -> None:
        """Note what was done; `write` puts it on disk."""
        if self.file is not None:
            self._rows.append((time(), action, outcome, more))  # in words only when it is written

    def write(self) -> None:
        """Append what waits; where that fails it waits on, and the log says so once."""
        if self.file is None or not self._rows:
            return
        rows = list(self._rows)
        try:
            if self.file.exists() and self.file.stat().st_size > _MOST:
                self.file.replace(_former(self.file))
            with os.fdopen(os.open(self.file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "ab") as out:
                out.write(b"".join(map(_line, rows)))
        except OSError as error:
            if not self._failed:
                event(logging.ERROR, "the audit log cannot be written", problem=str(error)[:300])
            self._failed = True
            return
        self._failed = False
        for _ in range(min(len(rows), len(self._rows))):
            self._rows.popleft()


def _line(row: tuple[float, str, int, dict[str, str]]) -> bytes:
    when, action, outcome, more = row
    said = datetime.fromtimestamp(when, UTC).isoformat(timespec="milliseconds")
    return _encode(AuditRow(said, action, outcome, **more)) + b"\n"


def _former(file: Path) -> Path:
    return file.with_name(f"{file.name}.1")


def read_audit(file: Path, key: str | None = None, space: str | None = None, most: int = 100) -> list[dict[str, Any]]:
    """The latest rows, the oldest of them first.

    Args:
        key, space: only of these; None for all.
    """
    found: deque[dict[str, Any]] = deque(maxlen=most)
    for one in (_former(file), file):
        for row in _rows(one):
            if key in (None, row.get("key"), row.get("about")) and space in (None, row.get("space")):
                found.append(row)
    return list(found)


def _rows(file: Path) -> Iterator[dict[str, Any]]:
    """A line that a crash cut is left out."""
    try:
        with file.open("rb") as lines:
            for line in lines:
                try:
                    row = json.loads(line)
                except ValueError:
                    continue
                if isinstance(row, dict):
                    yield row
    except FileNotFoundError:
        return
