"""Memories as JSON lines, for people, other programs and other encoders: one object a line.

A memory: {"id", "text", "kind", "collection", "metadata", "quality"}; an edge between ids of the same
file: {"source", "target", "kind", "weight"}. Vectors are not written: they are made again on the way in.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from ruvllm.errors import InputError
from ruvllm.memory.memory import MemoryStore
from ruvllm.memory.records import Memory

__all__ = ["export_lines", "import_lines"]

_PAGE = 1_000
_FIELDS = {"id", "text", "kind", "collection", "metadata", "quality"}
_EDGE = {"source", "target", "kind", "weight"}
_LONGEST = 8_000_000  # characters of a line


def export_lines(memory: MemoryStore, collection: str | None = None) -> Iterator[str]:
    """Every memory, archived ones too, of one collection or all, then the edges among them."""
    known, after = set[int](), 0
    where, values = ("", ()) if collection is None else (" AND collection = ?", (collection,))
    while True:
        sql = f"SELECT id FROM memories WHERE id > ?{where} ORDER BY id LIMIT {_PAGE}"
        ids = [row[0] for row in memory.store.read(sql, (after, *values))]
        if not ids:
            break
        for one in memory.records.get(ids):
            yield _line({name: getattr(one, name) for name in sorted(_FIELDS)} | {"metadata": dict(one.metadata)})
        known.update(ids)
        after = ids[-1]
    for source, target, kind, weight in memory.store.read("SELECT source, target, kind, weight FROM edges"):
        if source in known and target in known:
            yield _line({"source": source, "target": target, "kind": kind, "weight": weight})


def _line(row: dict[str, Any]) -> str:
    return json.dumps(row, ensure_ascii=False, sort_keys=True)


def import_lines(
    memory: MemoryStore, lines: Iterable[str], advance: Callable[[], None] = lambda: None
) -> tuple[int, int]:
    """Add what `export_lines` wrote, under new ids; returns how many memories and edges.

    Args:
        advance: called after each line.

    Raises:
        InputError: a line that is none; the lines before it are kept.
    """
    new_id: dict[int, int] = {}
    waiting: list[tuple[int, Memory]] = []
    edges = 0

    def keep() -> None:
        ids = memory.add([one for _, one in waiting])
        new_id.update(zip((old for old, _ in waiting), ids, strict=True))
        waiting.clear()

    for number, line in enumerate(lines, 1):
        if line.strip():
            row = _parsed(line, number)
            if "text" in row:
                waiting.append((row.get("id", -number), _memory(row, number)))
                if len(waiting) >= _PAGE:
                    keep()
            else:
                keep()
                edges += _link(memory, row, new_id, number)
        advance()
    keep()
    return len(new_id), edges


def _parsed(line: str, number: int) -> dict[str, Any]:
    try:
        if len(line) > _LONGEST:
            raise ValueError("it is too long")
        row = json.loads(line)
        if not isinstance(row, dict) or not (set(row) <= _FIELDS or set(row) == _EDGE):
            raise ValueError(f"it is no object of {', '.join(sorted(_FIELDS))} (or of {', '.join(sorted(_EDGE))})")
    except (ValueError, RecursionError) as error:
        fix = "give JSON lines as `ruvllm memory export` writes them"
        raise InputError(f"line {number} cannot be read: {error}"[:300], field=f"line {number}", fix=fix) from None
    return row


def _memory(row: dict[str, Any], number: int) -> Memory:
    if not isinstance(row.get("metadata", {}), dict) or not isinstance(row.get("id", 0), int):
        raise InputError(
            f"line {number}: metadata must be an object, id a number", field=f"line {number}", fix="mend it"
        )
    return Memory(**{name: value for name, value in row.items() if name != "id"})


def _link(memory: MemoryStore, row: dict[str, Any], new_id: dict[int, int], number: int) -> int:
    try:
        ends = new_id[row["source"]], new_id[row["target"]]
        edge = (*ends, str(row["kind"]), min(1.0, max(0.0, float(row["weight"]))))
    except (KeyError, TypeError, ValueError):
        fix = "an edge follows the memories that it joins"
        raise InputError(f"line {number}: an edge between unknown memories", field=f"line {number}", fix=fix) from None
    with memory.store.write() as db:
        db.execute("INSERT OR REPLACE INTO edges VALUES (?, ?, ?, ?)", edge)
    return 1
