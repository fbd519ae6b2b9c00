"""Tasks from a pipe: plain lines, or JSON lines that carry more than the text."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from ruvllm import InputError

_KEYS = ("text", "prompt")


@dataclass(frozen=True, slots=True)
class Task:
    """One line that is not blank.

    Attributes:
        line: its number, from 1.
    """

    line: int
    raw: bytes

    def read(self, batch: bool) -> tuple[str, dict[str, Any]]:
        """(the task's text, the line's other keys).

        Raises:
            InputError: the line is not UTF-8, or not what a batch holds.
        """
        return _parsed(self.raw) if batch else (_decoded(self.raw), {})

    def is_object(self) -> bool:
        """Whether the line is one that only a batch can hold."""
        try:
            return bool(_parsed(self.raw))
        except InputError:
            return False


def read_tasks(data: bytes) -> list[Task]:
    """The lines that are not blank; a JSON line may hold any line separator but \\n."""
    lines = data.removeprefix(b"\xef\xbb\xbf").split(b"\n")
    return [Task(i, line.strip()) for i, line in enumerate(lines, 1) if line.strip()]


def is_batch(tasks: Sequence[Task]) -> bool:
    """Whether the lines are JSON: one broken line must not turn all the others into plain text."""
    return tasks[0].raw.startswith(b"{") or any(task.is_object() for task in tasks if task.raw.startswith(b"{"))


def _decoded(raw: bytes) -> str:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        raise InputError("the line is not UTF-8 text", field="line", fix="save the file as UTF-8") from None


def _parsed(raw: bytes) -> tuple[str, dict[str, Any]]:
    fix = 'write one JSON object with a "text" key'
    try:
        row = json.loads(_decoded(raw), parse_constant=_refuse)
    except json.JSONDecodeError as error:
        raise InputError(f"not JSON: {error.msg} at column {error.colno}", field="line", fix=fix) from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"not JSON: {error}", field="line", fix=fix) from None
    key = next((key for key in _KEYS if isinstance(row, dict) and key in row), None)
    if key is None:
        raise InputError('the line is not an object with a "text"', field="text", fix=fix)
    return row[key], {name: value for name, value in row.items() if name != key}


def _refuse(constant: str) -> NoReturn:
    """NaN and Infinity are no JSON, and could not be written back."""
    raise ValueError(f"{constant} is not a JSON value")
