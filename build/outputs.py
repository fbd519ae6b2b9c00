"""What commands print with --json, as JSON Schemas: tests/data/outputs.json, so that a change of it is seen and meant.

python build/outputs.py    runs each command that only reads, in an empty home with a few memories in it
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from click.testing import CliRunner

from ruvllm.cli.main import main as ruvllm

FILE = Path(__file__).parents[1] / "tests" / "data" / "outputs.json"
SAID = {
    "type": "object",
    "properties": {"said": {"type": "array", "items": {"type": "string"}}},
    "required": ["said"],
}
_BEFORE = (
    ("memory", "add", "Deploys happen on Tuesdays.", "--json"),
    ("memory", "add", "Deploys happen in the morning.", "--json"),
    ("memory", "link", "1", "2"),
    ("feedback", "check the lease", "reviewer"),
)
COMMANDS = (
    ("agents", "lint", "agents.json"),
    ("agents", "list"),
    ("agents", "show", "coder"),
    ("decide", "The parcel is late.", "--yes-no", "Is it late?"),
    ("decompose", "write tests and document the parser"),
    ("embed", "a text"),
    ("info",),
    ("learn", "list"),
    ("learn", "status"),
    ("memory", "check"),
    ("memory", "forget", "99", "--dry-run"),
    ("memory", "graph", "1"),
    ("memory", "search", "when are deploys?"),
    ("memory", "stats"),
    ("memory", "timeline", "1"),
    ("models", "list"),
    ("models", "status"),
    ("query", "when are deploys?"),
    ("route", "write unit tests for the parser"),
    ("similarity", "a text", "another text"),
    ("skills", "budget", "agents.json", "--kind", "agent"),
    ("state", "set-aside", "list"),
    ("state", "spaces"),
    ("stats",),
    ("tiers", "choose", "rename a variable"),
)


def outputs(home: Path) -> Iterator[tuple[str, Any]]:
    """(command, what it prints as JSON), in a folder that is empty; the environment says that it is the home."""
    (home / "agents.json").write_text(json.dumps([{"name": "baker", "description": "Bakes bread and rolls."}]))
    for words in _BEFORE:
        CliRunner().invoke(ruvllm, words, catch_exceptions=False)
    for words in COMMANDS:
        answer = CliRunner().invoke(ruvllm, [*words, "--json"], catch_exceptions=False)
        try:
            yield " ".join(words), json.loads(answer.stdout)
        except ValueError:
            sys.exit(f"{words}: {answer.output}")


def schema_of(value: Any) -> dict[str, Any]:
    """The JSON Schema of one value: types, the keys of objects, what all items of an array have."""
    if isinstance(value, dict):
        parts = {key: schema_of(one) for key, one in value.items()}
        return {"type": "object", "properties": parts, "required": sorted(parts)}
    if isinstance(value, list):
        items: dict[str, Any] = {}
        for one in value[:50]:
            items = _both(items, schema_of(one))
        return {"type": "array", "items": items}
    kinds = {bool: "boolean", int: "number", float: "number", str: "string", type(None): "null"}
    return {"type": kinds[type(value)]}


def _both(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    if not one or not other or one == other:
        return one or other
    types = sorted({*_types(one), *_types(other)})
    made: dict[str, Any] = {"type": types[0] if len(types) == 1 else types}
    if "object" in types:
        parts, more = one.get("properties", {}), other.get("properties", {})
        made["properties"] = {key: _both(parts.get(key, {}), more.get(key, {})) for key in sorted({*parts, *more})}
        made["required"] = sorted({*one.get("required", parts)} & {*other.get("required", more)})
    if "array" in types:
        made["items"] = _both(one.get("items", {}), other.get("items", {}))
    return made


def _types(schema: dict[str, Any]) -> list[str]:
    return schema["type"] if isinstance(schema["type"], list) else [schema["type"]]


def main() -> None:
    """Write the file."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ |= home_of(folder)
        os.chdir(folder)
        found = {command: schema_of(value) for command, value in outputs(Path(folder))}
    rows = [f"{json.dumps(command)}: {json.dumps(schema, sort_keys=True)}" for command, schema in found.items()]
    FILE.write_text("{\n" + ",\n".join(rows) + "\n}\n", "utf-8")


def home_of(folder: str) -> dict[str, str]:
    """Variables with which a folder is the home, and everything is quick."""
    state = str(Path(folder) / "state.db")
    return {"HOME": folder, "XDG_CONFIG_HOME": folder, "XDG_CACHE_HOME": folder, "RUVLLM_STATE": state,
            "RUVLLM_ENCODER": "static"}  # fmt: skip


if __name__ == "__main__":
    main()
