"""Others' settings files, changed and changed back: what was there stays, byte for byte where nobody else wrote since.

A list in the user's folder says what was put where. The file as it was is beside it, readable for the user alone.
"""

from __future__ import annotations

import difflib
import json
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import click

from ruvllm import InputError, StoreError

_BEGIN, _END = "# ruvllm begin", "# ruvllm end"
_MOST_BYTES = 50_000_000
_BACKUP = ".before-ruvllm"


@dataclass(frozen=True, slots=True)
class Change:
    """What is to become of a file.

    Attributes:
        path: of the file itself, where what was named is a link to it.
        before, after: its text, None where there is no such file.
        rest: what is left of a text when what was put there is taken out; None for nothing at all.
    """

    path: Path
    before: str | None
    after: str | None
    rest: Callable[[str], str | None]


def in_json(path: Path, merge: Callable[[dict[str, Any]], None], remove: Callable[[dict[str, Any]], None]) -> Change:
    """A JSON file with something put into its object.

    Args:
        merge: puts it in; what was put in before is replaced.
        remove: takes it out.

    Raises:
        InputError: the file holds no JSON object, or what it holds has another form than its client's.
    """
    path, before = _found(path)

    def changed(text: str, by: Callable[[dict[str, Any]], None]) -> str:
        try:
            data = json.loads(text) if text.strip() else {}
            if not isinstance(data, dict):
                raise ValueError("it is no object")
            was = json.dumps(data)
            by(data)
            return text if json.dumps(data) == was else json.dumps(data, indent=2, ensure_ascii=False) + "\n"
        except (ValueError, RecursionError, AttributeError, TypeError) as error:
            fix = "mend it, or move it aside; nothing has been changed"
            raise InputError(f"{path} cannot be changed: {error}", field=str(path), fix=fix) from None

    def rest(text: str) -> str | None:
        left = changed(text, remove)
        return None if before is None and left.strip() in ("{}", "") else left

    return Change(path, before, changed(before or "", merge), rest)


def in_text(path: Path, block: str, mark: str = "") -> Change:
    """A text file with a block at its end, between two lines that say so.

    Args:
        mark: what these lines end with, where a file has several blocks.

    Raises:
        InputError: it is not UTF-8 text.
    """
    path, before = _found(path)
    first, last = f"{_BEGIN}{mark}\n", f"{_END}{mark}\n"

    def rest(text: str) -> str | None:
        start, end = text.find(first), text.find(last)
        if start < 0 or end < start:
            return text
        left = text[:start].rstrip("\n") + "\n" + text[end + len(last) :].lstrip("\n")
        return left.lstrip("\n") if left.strip() else None

    left = rest(before or "") or ""
    gap = "\n" if left.strip() else ""
    return Change(path, before, f"{left}{gap}{first}{block.strip()}\n{last}", rest)


def diff(change: Change) -> str:
    """What would change, as a unified diff."""
    before, after = (change.before or "").splitlines(True), (change.after or "").splitlines(True)
    name = str(change.path)
    return "".join(difflib.unified_diff(before, after, name if change.before is not None else "/dev/null", name))


def apply(change: Change, installed_as: str) -> bool:
    """Write a change, whole or not at all; whether there was anything to write.

    Args:
        installed_as: name of what was installed, for `undo`.

    Raises:
        StoreError: it cannot be written; the file is as it was.
    """
    if change.after == change.before or change.after is None:
        return False
    rows, path = _rows(), str(change.path)
    row = rows.setdefault(installed_as, {}).get(path)
    if row is None:
        if change.before is not None and not any(path in others for others in rows.values()):
            _write(_backup(change.path), change.before, 0o600)
        row = {"new": change.before is None}
    _write(change.path, change.after)
    rows[installed_as][path] = row | {"after": _digest(change.after)}
    _save(rows)
    return True


def undo(change: Change, installed_as: str) -> bool:
    """Take a change back: as it was where nobody has written since, else without what was put there.

    Returns:
        whether there was something to take back.

    Raises:
        StoreError: it cannot be written.
    """
    rows, text = _rows(), change.before
    row = rows.get(installed_as, {}).pop(str(change.path), {})
    alone = not any(str(change.path) in others for others in rows.values())
    backup = _backup(change.path)
    left = None if text is None else change.rest(text)
    if alone and text is not None and _digest(text) == row.get("after"):
        original = _text(backup)
        left = None if row["new"] else left if original is None else original
    if left is None and text is not None:
        change.path.unlink(missing_ok=True)
    elif left is not None and left != text:
        _write(change.path, left)
    if row and alone:
        backup.unlink(missing_ok=True)
    _save({name: held for name, held in rows.items() if held})
    return left != text


def installed() -> list[tuple[str, str]]:
    """(installed as, file) of what `apply` wrote and nobody has taken back."""
    return [(name, path) for name, files in _rows().items() for path in files]


def write_private(path: Path, text: str) -> None:
    """Put a file that nobody else can read in the place of another at once. Raises StoreError: it cannot be written."""
    _write(path, text, 0o600)


def _found(path: Path) -> tuple[Path, str | None]:
    """The file that is meant and its text. Raises InputError: it cannot be read."""
    path = Path(os.path.realpath(path))
    try:
        if path.exists() and (not path.is_file() or path.stat().st_size > _MOST_BYTES):
            raise InputError(f"{path} is no settings file", field=str(path), fix="move it aside")
        return path, _text(path)
    except UnicodeDecodeError:
        raise InputError(f"{path} is not UTF-8 text", field=str(path), fix="save it as UTF-8") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror})", field=str(path), fix="check its rights") from None


def _text(path: Path) -> str | None:
    with suppress(FileNotFoundError):
        return path.read_bytes().decode("utf-8")
    return None


def _write(path: Path, text: str, mode: int | None = None) -> None:
    """Put a file in the place of another at once. Raises StoreError: it cannot be written."""
    fresh = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if mode is None:
            mode = path.stat().st_mode & 0o777 if path.exists() else 0o600
        with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "wb") as file:
            file.write(text.encode())
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
    except OSError as error:
        with suppress(OSError):
            fresh.unlink(missing_ok=True)
        raise StoreError(
            f"{path} cannot be written ({error.strerror})", field=str(path), fix="check its rights"
        ) from None


def _backup(path: Path) -> Path:
    return path.with_name(path.name + _BACKUP)


def _digest(text: str) -> str:
    return sha256(text.encode()).hexdigest()


def _list() -> Path:
    return Path(click.get_app_dir("ruvllm")) / "installed.json"


def _rows() -> dict[str, dict[str, Any]]:
    with suppress(OSError, ValueError):
        rows = json.loads(_list().read_bytes())
        return {path: row for path, row in rows.items() if isinstance(row, dict)} if isinstance(rows, dict) else {}
    return {}


def _save(rows: Mapping[str, Any]) -> None:
    if rows:
        _write(_list(), json.dumps(rows, indent=1), 0o600)
    else:
        _list().unlink(missing_ok=True)
