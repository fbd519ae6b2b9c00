"""Writes web/src/contract.ts: the types of the server's own API, its calls, and those of the core in a page.

python build/contract.py [--check]
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ruvllm_edge.app import OPERATIONS
from ruvllm_edge.openapi import document
from ruvllm_edge.operations import PROBLEMS, Operation

__all__ = ["contract"]

ROOT = Path(__file__).parent.parent
FILE = ROOT / "web" / "src" / "contract.ts"
PYTHON = ROOT / "web" / "src" / "python"
_HEAD = "/** Made by `make contract` of the server's OpenAPI document and the page's Python: not to be edited. */\n"
_WIDTH = 120
_FIELD = re.compile(r"(\w+(?:, \w+)*): (.*)", re.DOTALL)
_PLAIN = {"string": "string", "integer": "number", "number": "number", "boolean": "boolean", "null": "null"}


def contract() -> str:
    """The file, as it should be."""
    chosen = [one for one in OPERATIONS if one.style is PROBLEMS and one.plain_path.startswith("/v1/")]
    made = document(chosen)
    schemas: Mapping[str, Any] = made["components"]["schemas"]
    calls = [_call(one, made["paths"][one.plain_path][one.method.lower()]) for one in chosen]
    given = _reached(schemas, (body for _, body, _ in calls))
    known = given | _reached(schemas, (answer for _, _, answer in calls))
    types = [_type(name, schemas[name], partial=name in given) for name in sorted(known)]
    rows = "\n".join(f'  "{name}": {{ body: {body}; answer: {answer} }};' for name, body, answer in calls)
    http = f"/** The server's calls: method and path below /v1/. */\nexport interface Calls {{\n{rows}\n}}"
    names = " | ".join(f'"{name}"' for name in sorted(_core_calls()))
    core = "/** Methods of the core that a page can call, with Python's keyword arguments. */\nexport type Call =\n  "
    return "\n\n".join([_HEAD.rstrip(), *types, http, _wrapped(f"{core}{names};")]) + "\n"


def _call(operation: Operation, described: Mapping[str, Any]) -> tuple[str, str, str]:
    """(method and path, type of the body, type of the answer)."""
    body = described.get("requestBody", {}).get("content", {})
    answer = described["responses"][str(operation.status)].get("content", {})
    path = operation.plain_path.removeprefix("/v1/")
    return f"{operation.method} {path}", _content(body, "undefined"), _content(answer, "null")


def _content(content: Mapping[str, Any], nothing: str) -> str:
    if not content:
        return nothing
    json = content.get("application/json")
    return _spelt(json["schema"]) if json else "Uint8Array"


def _reached(schemas: Mapping[str, Any], roots: Iterable[str]) -> set[str]:
    """Names of all types that some are made of; what has a default in a body's may be left out."""
    found, waiting = set[str](), [name for root in roots for name in re.findall(r"\w+", root) if name in schemas]
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += re.findall(r"#/components/schemas/(\w+)", str(schemas[name]))
    return found


def _type(name: str, schema: Mapping[str, Any], *, partial: bool) -> str:
    said, fields = _documented(schema.get("description", ""))
    comment = f"/** {said} */\n"
    if "properties" not in schema:
        return f"{comment}export type {name} = {_spelt(schema)};"
    required, rows = schema.get("required", ()), []
    for field, kind in schema["properties"].items():
        sure = field in required or (not partial and "default" in kind)
        if text := kind.get("description") or fields.get(field):
            rows.append(f"  /** {text} */")
        rows.append(f"  {field}{'' if sure else '?'}: {_spelt(kind)};")
    return f"{comment}export interface {name} {{\n" + "\n".join(rows) + "\n}"


def _documented(text: str) -> tuple[str, dict[str, str]]:
    """(what a docstring says first, what it says of each attribute)."""
    text = re.sub(r"\bNone\b", "null", text)
    head, _, attributes = text.partition("Attributes:\n")
    fields = {}
    for entry in re.split(r"\n {4}(?=\w)", "\n" + attributes.rstrip()):
        if match := _FIELD.fullmatch(entry.strip()):
            fields |= dict.fromkeys(match[1].split(", "), " ".join(match[2].split()))
    return " ".join(head.split()), fields


def _spelt(schema: Mapping[str, Any]) -> str:
    if "$ref" in schema:
        return str(schema["$ref"].rpartition("/")[2])
    if "enum" in schema:
        return " | ".join(f'"{value}"' if isinstance(value, str) else str(value) for value in schema["enum"])
    if "anyOf" in schema:
        return " | ".join(dict.fromkeys(_spelt(one) for one in schema["anyOf"]))
    kind = schema.get("type")
    if kind == "array":
        if "prefixItems" in schema:
            return f"[{', '.join(map(_spelt, schema['prefixItems']))}]"
        item = _spelt(schema.get("items") or {})
        return f"({item})[]" if " | " in item else f"{item}[]"
    if kind == "object":
        return f"Record<string, {_spelt(schema.get('additionalProperties') or {})}>"
    return _PLAIN.get(str(kind), "unknown")


def _core_calls() -> set[str]:
    """What the bridge takes, without importing it: it runs in Pyodide alone."""
    found = set[str]()
    for file, name in (("bridge.py", "_CALLS"), ("workbench.py", "METHODS")):
        for node in ast.parse((PYTHON / file).read_text("utf-8")).body:
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == name:
                assert isinstance(node.value, ast.Call)
                found |= ast.literal_eval(node.value.args[0])
    return found


def _wrapped(text: str) -> str:
    """Long unions, a line for as many names as fit."""
    lines = list[str]()
    for line in text.split("\n"):
        while len(line) > _WIDTH:
            cut = line.rindex(" | ", 0, _WIDTH)
            lines.append(line[:cut])
            line = f"  |{line[cut + 2 :]}"
        lines.append(line)
    return "\n".join(lines)


def main(options: Sequence[str]) -> None:
    """Write it, or fail where it is stale."""
    text = contract()
    if "--check" not in options:
        FILE.write_text(text, "utf-8")
    elif text != FILE.read_text("utf-8"):
        sys.exit("web/src/contract.ts is stale: run `make contract`")


if __name__ == "__main__":
    main(sys.argv[1:])
