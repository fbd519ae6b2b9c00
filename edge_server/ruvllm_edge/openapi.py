"""The OpenAPI document, made of the very types that requests are checked against, and a page that shows it."""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Iterable, Sequence
from hashlib import sha256
from html import escape
from types import UnionType
from typing import Any, get_args

import msgspec

from ruvllm import __version__
from ruvllm_edge.operations import LINES, Operation, Reply

_REF = "#/components/schemas/{name}"
_PARAMETER = re.compile(r"\{(\w+)")
_EVENT = {"type": "object", "required": ["data"], "properties": {"data": {"type": "string"}}}
_ERRORS = {
    "400": "The body is no JSON.",
    "401": "An API key is needed.",
    "403": "Pages of this origin may not call, or nobody may do this here.",
    "408": "The body did not arrive in time.",
    "413": "The body is too large.",
    "415": "The body is not declared as JSON.",
    "421": "The server is not known by that name.",
    "422": "A field cannot be used; it is named, with the fix.",
    "429": "Too many requests with this key; see Retry-After.",
    "503": "The server is full, warming up or ending; see Retry-After.",
}


def document(operations: Sequence[Operation]) -> dict[str, Any]:
    """OpenAPI 3.1."""
    of_all = [kind for one in operations for kind in (one.body, *_either(one.answer), one.query)]
    types = [kind for kind in of_all if kind not in (None, bytes)]
    types += [one.style.schema for one in operations]
    types = list({str(kind): kind for kind in types}.values())
    schemas, components = msgspec.json.schema_components(types, ref_template=_REF)
    of = {str(kind): schema for kind, schema in zip(types, schemas, strict=True)}
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        paths.setdefault(operation.plain_path, {})[operation.method.lower()] = _described(operation, of, components)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "ruvllm",
            "version": __version__,
            "description": "Which agent, which model tier, how sure, and what was learnt from the last time.",
            "license": {"name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0"},
        },
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "key": {"type": "apiKey", "in": "header", "name": "x-api-key"},
            },
        },
    }


def _described(operation: Operation, of: dict[str, Any], components: dict[str, Any]) -> dict[str, Any]:
    out: dict[str, Any] = {
        "summary": operation.summary,
        "operationId": re.sub(r"\W+", "_", f"{operation.method.lower()} {operation.plain_path}").strip("_"),
        "tags": [operation.tag],
        "responses": {
            str(operation.status): _answer(operation, of),
            **_errors(operation, of),
        },
    }
    if operation.later:
        out["responses"]["202"] = _answer(operation, of) | {"description": "It is acknowledged, and being worked on."}
    if operation.handler.__doc__:
        out["description"] = operation.handler.__doc__
    if not operation.public:
        out["security"] = [{}, {"bearer": []}, {"key": []}]
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
        for name in _PARAMETER.findall(operation.path)
    ]
    if operation.query is not None:
        parameters += _parameters(components[operation.query.__name__])
    if parameters:
        out["parameters"] = parameters
    if operation.body is not None:
        media: dict[str, Any] = {"schema": _schema(operation.body, of)}
        if operation.example is not None:
            media["example"] = operation.example
        kind = "application/octet-stream" if operation.body is bytes else "application/json"
        out["requestBody"] = {"required": not operation.optional, "content": {kind: media}}
    return out


def _schema(kind: Any, of: dict[str, Any]) -> Any:
    if len(either := _either(kind)) > 1:
        return {"anyOf": [of[str(one)] for one in either]}
    return {"type": "string", "format": "binary"} if kind is bytes else of[str(kind)]


def _either(kind: Any) -> tuple[Any, ...]:
    """The types of a union, which msgspec cannot describe: each is a JSON object."""
    return get_args(kind) if isinstance(kind, UnionType) else (kind,)


def _content(media: str, kind: Any, of: dict[str, Any]) -> dict[str, Any]:
    """The answer as events where it is a stream: their data are JSON texts of the API's own."""
    return {"schema": _EVENT if media in ("text/event-stream", LINES.decode()) else _schema(kind, of)}


def _parameters(schema: dict[str, Any]) -> list[dict[str, Any]]:
    required = schema.get("required", ())
    rows = schema.get("properties", {}).items()
    return [{"name": name, "in": "query", "required": name in required, "schema": row} for name, row in rows]


def _answer(operation: Operation, of: dict[str, Any]) -> dict[str, Any]:
    if operation.answer is None:
        return {"description": "Done."}
    content = {media: _content(media, operation.answer, of) for media in operation.media}
    return {"description": operation.summary, "content": content}


def _errors(operation: Operation, of: dict[str, Any]) -> dict[str, Any]:
    style = operation.style
    content = {style.media.decode(): {"schema": of[str(style.schema)]}}
    descriptions = {str(style.statuses.get(int(code), int(code))): what for code, what in _ERRORS.items()}
    descriptions |= {"404": "There is no such thing."}
    if operation.method == "DELETE" or operation.tag == "keys":
        descriptions |= {"409": "It is not the server's to change, or there is one already."}
    if operation.waits:
        descriptions |= {"502": "The backend gave no usable answer.", "504": "The answer took too long."}
    if operation.answer_503 is not None:
        content = content | {"application/json": {"schema": _schema(operation.answer_503, of)}}
    return {code: {"description": what, "content": content} for code, what in sorted(descriptions.items())}


_STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color-scheme:light dark}"
    "summary{cursor:pointer;padding:.4rem 0}code,pre{font:14px/1.4 ui-monospace,monospace}"
    "pre{overflow:auto;padding:.8rem;border:1px solid #8888;border-radius:.4rem}"
    "b{display:inline-block;min-width:4.5rem}h2{margin-top:2rem;text-transform:capitalize}"
)
_POLICY = "default-src 'none'; frame-ancestors 'none'; style-src 'sha256-{}'"


def _page(operations: Sequence[Operation], components: dict[str, Any]) -> str:
    """All operations, each with an example call and its types; no script, nothing from elsewhere."""
    tags = dict.fromkeys(operation.tag for operation in operations)
    parts = [f"<h2>{escape(tag)}</h2>{_of_tag(tag, operations)}" for tag in tags]
    types = "".join(f'<details id="{escape(n)}"><summary>{escape(n)}</summary>{_code(t)}</details>' for n, t in
                    components.items())  # fmt: skip
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>ruvllm API</title><style>{_STYLE}</style><h1>ruvllm {__version__}</h1>"
        f'<p>The same as <a href="/openapi.json">OpenAPI</a>. Errors are problems (RFC 9457) that name the field and '
        f"the fix.</p>{''.join(parts)}<h2>types</h2>{types}</html>"
    )


def _of_tag(tag: str, operations: Iterable[Operation]) -> str:
    return "".join(_entry(operation) for operation in operations if operation.tag == tag)


def _entry(operation: Operation) -> str:
    curl = f"curl http://127.0.0.1:3000{operation.plain_path}"
    if operation.method not in ("GET", "POST"):
        curl += f" -X {operation.method}"
    if operation.example is not None:
        curl += f" -H 'content-type: application/json' -d '{msgspec.json.encode(operation.example).decode()}'"
    kinds = (operation.body, *_either(operation.answer))
    names = [getattr(kind, "__name__", str(kind)) for kind in kinds]
    links = " → ".join(f'<a href="#{escape(name)}">{escape(name)}</a>' for name in names if name != "None")
    return (
        f"<details><summary><b>{operation.method}</b> <code>{escape(operation.plain_path)}</code> "
        f"{escape(operation.summary)}</summary><p>{escape(operation.handler.__doc__ or '')} {links}</p>"
        f"<pre>{escape(curl)}</pre></details>"
    )


def _code(schema: Any) -> str:
    return f"<pre>{escape(msgspec.json.format(msgspec.json.encode(schema)).decode())}</pre>"


def document_operations(operations: Sequence[Operation]) -> tuple[Operation, ...]:
    """/openapi.json and /docs of these operations."""
    made = document(operations)
    data = msgspec.json.encode(made)
    html = _page(operations, made["components"]["schemas"]).encode()
    policy = _POLICY.format(b64encode(sha256(_STYLE.encode()).digest()).decode())
    headers = {"content-security-policy": policy, "x-content-type-options": "nosniff", "cache-control": "no-cache"}

    async def openapi(*_: object) -> Reply:
        return Reply(data, {"cache-control": "no-cache"})

    async def docs(*_: object) -> Reply:
        return Reply(html, headers, media=b"text/html; charset=utf-8")

    return (
        Operation("GET", "/openapi.json", openapi, "This document", public=True),
        Operation("GET", "/docs", docs, "This document as a page", public=True),
    )
