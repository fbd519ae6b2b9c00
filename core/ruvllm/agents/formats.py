"""What a JSON, YAML or TOML document is a catalog of: each format known by its keys, and read into rows of fields.

A row is what `catalog.read_agent` takes. Nothing is evaluated or fetched, and a reference is followed once at most.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from typing import Any, NamedTuple

from ruvllm.agents.catalog import MAX_AGENTS
from ruvllm.agents.markdown import file_name
from ruvllm.errors import AgentFileError

Rows = Iterable[tuple[str, Any]]  # what to call it in an error, fields
_METHODS = ("get", "put", "post", "delete", "patch", "head", "options", "trace")
_MOST_PARAMETERS = 60
_MOST_NESTED = 10_000  # components of a team of teams
_NAMED = 12  # keys of an unknown document that an error names


class Format(NamedTuple):
    """One kind of document.

    Attributes:
        looked_for: what tells it, for an error that lists all.
        fits: whether a document (a mapping) of this file's name is one.
    """

    name: str
    looked_for: str
    fits: Callable[[Mapping[str, Any], str], bool]
    rows: Callable[[Mapping[str, Any], str], Rows]


def rows_of(data: Any, file: str) -> list[tuple[str, Any]]:
    """(what to call it, fields) of a document's entries.

    Raises:
        AgentFileError: it is of no format that is known; the error names what was looked for.
    """
    if isinstance(data, list):
        data = {"agents": [_unwrapped(row) for row in data]}
    found = data if isinstance(data, Mapping) else {}
    base = file.replace("\\", "/").rpartition("/")[2].lower()
    for one in FORMATS:
        if one.fits(found, base):
            rows = list(islice(one.rows(found, file), MAX_AGENTS + 1))
            if any(isinstance(row, Mapping) for _, row in rows):
                return rows
    keys = ", ".join(str(key)[:40] for key in list(found)[:_NAMED]) or f"a {type(data).__name__}"
    looked = "; ".join(f"{one.name} ({one.looked_for})" for one in FORMATS)
    message = f"{file}: the file holds no agents: its keys are {keys}; looked for {looked}"
    if isinstance(found.get("mcpServers", found.get("servers")), Mapping):
        fix = f"its servers are asked for their tools with: ruvllm agents list --start --from {base}"
        message = f"{file}: the file holds no agents but names MCP servers"
    else:
        fix = "give `agents` a list, [[agent]] tables, semantic-router's `routes`, or another of these formats"
    raise AgentFileError(message, field=f"{file}: agents", fix=fix)


def _get(data: Any, *path: str) -> Any:
    """What lies at a path of keys; None where it ends before."""
    for key in path:
        data = data.get(key) if isinstance(data, Mapping) else None
    return data


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _named(held: Any) -> Rows:
    """Rows of a mapping by name, or of a list."""
    if isinstance(held, Mapping):
        for name, row in held.items():
            yield f"agent {str(name)[:80]!r}", {"name": name, **row} if isinstance(row, Mapping) else row
    elif isinstance(held, list):
        for number, row in enumerate(held, 1):
            yield f"agent {number}", row


def _text(value: Any) -> str:
    return " ".join(value.split()) if isinstance(value, str) else ""


def _first(text: Any) -> str:
    """The first paragraph of what an agent is told, where nothing else says what it is for."""
    lines = text.strip().split("\n\n") if isinstance(text, str) else [""]
    return _text(next((line for line in lines if not line.lstrip().startswith("#")), ""))


def _described(row: Mapping[str, Any], body: Any, **more: Any) -> dict[str, Any]:
    """A row with a body, which describes it where nothing else does."""
    return {**row, **more, "description": row.get("description") or _first(body), "body": body}


# Ours, semantic-router's, and OpenAI's and Anthropic's lists, whose rows look alike.


def _unwrapped(row: Any) -> Any:
    """A row by its fields: of a route, a tool, an assistant or a component, whatever list it stands in."""
    if not isinstance(row, Mapping):
        return row
    if "utterances" in row:
        return {"examples": row["utterances"], **row}
    if row.get("object") == "assistant":
        return _assistant(row)
    if row.get("component_type") == "agent" or "system_message" in row:
        return _component(row)
    if row.get("type") == "function" or any(key in row for key in ("inputSchema", "input_schema")):
        return tool_row(row)
    return row


def _ours(data: Mapping[str, Any], _: str) -> Rows:
    keys = ("agents", "agent", "routes")
    if "name" in data and not any(key in data for key in keys):
        return [("agent 1", _unwrapped(data))]
    rows = list[tuple[str, Any]]()
    for key in keys:
        held = data.get(key)
        for label, row in _named(held):
            label = f"agent {len(rows) + 1}" if isinstance(held, list) else label
            rows.append((label, _unwrapped(row)))
    return rows


# Tools: of MCP servers, of requests to models, of HTTP APIs.


def tool_row(tool: Mapping[str, Any]) -> dict[str, Any]:
    """A tool's definition as OpenAI, Anthropic or MCP write it; what its parameters say is its body."""
    held = tool.get("function")
    tool = held if isinstance(held, Mapping) else tool
    schema = next((tool[key] for key in ("inputSchema", "input_schema", "parameters") if key in tool), None)
    names, said = _parameters(schema)
    title = _text(_get(tool, "annotations", "title")) or _text(tool.get("title"))
    description = tool.get("description") or title
    return {
        "name": tool.get("name"), "description": description, "kind": "tool", "keywords": names, "body": said
    }  # fmt: skip


def _parameters(schema: Any, resolve: Callable[[Any], Any] = lambda value: value) -> tuple[list[str], str]:
    """Names of a JSON schema's properties, and a line for each that is described; nested ones a level deep."""
    names, lines = list[str](), list[str]()
    waiting = [(resolve(schema), 0)]
    while waiting and len(names) < _MOST_PARAMETERS:
        now, depth = waiting.pop(0)
        properties = _get(now, "properties")
        for name, one in list(properties.items() if isinstance(properties, Mapping) else ())[:_MOST_PARAMETERS]:
            one = resolve(one)
            names.append(str(name)[:100])
            choices = ", ".join(str(choice)[:60] for choice in _list(_get(one, "enum"))[:20])
            said = ". ".join(filter(None, (_text(_get(one, "description")), choices)))
            lines += [f"{names[-1]}: {said}"] if said else []
            if depth == 0:
                waiting += [(one, 1), (resolve(_get(one, "items")), 1)]
    return names, "\n".join(lines)


def _tools(data: Mapping[str, Any], _: str) -> Rows:
    held = data.get("tools", _get(data, "result", "tools"))
    return [(f"tool {i}", tool_row(row) if isinstance(row, Mapping) else row) for i, row in enumerate(_list(held), 1)]


def _openapi(data: Mapping[str, Any], _: str) -> Rows:
    def resolve(value: Any) -> Any:
        ref = _get(value, "$ref")
        return _get(data, *ref[2:].split("/")) if isinstance(ref, str) and ref.startswith("#/") else value

    read = dict[int, tuple[list[str], str]]()  # of schemas, which lie in `data` as long as this runs
    paths = data.get("paths")
    for path, item in list(paths.items() if isinstance(paths, Mapping) else ()):
        for method in _METHODS:
            operation = _get(resolve(item), method)
            if not isinstance(operation, Mapping):
                continue
            shared = [resolve(one) for one in (*_list(_get(item, "parameters")), *_list(operation.get("parameters")))]
            given = {
                _text(_get(one, "name")): {"description": _get(one, "description"), "enum": _get(one, "schema", "enum")}
                for one in shared[:_MOST_PARAMETERS]
            }
            content = _get(resolve(operation.get("requestBody")), "content")
            media = next(iter(content.values()), None) if isinstance(content, Mapping) else None
            names, said = _parameters({"properties": given})
            schema = resolve(_get(media, "schema"))
            if id(schema) not in read:
                read[id(schema)] = _parameters(schema, resolve)
            more, also = read[id(schema)]
            tags = [tag for tag in _list(operation.get("tags")) if isinstance(tag, str)]
            parts = [_text(operation.get(key)).rstrip(".") for key in ("summary", "description")]
            yield (
                f"{method.upper()} {path}"[:200],
                {
                    "name": operation.get("operationId") or _slug(f"{method} {path}"),
                    "description": ". ".join(dict.fromkeys(filter(None, parts))) or f"{method.upper()} {path}",
                    "category": tags[0] if tags else None,
                    "keywords": [*tags, *names, *more],
                    "body": "\n".join(filter(None, (f"{method.upper()} {path}", said, also))),
                    "kind": "tool",
                },
            )


def _slug(text: str) -> str:
    return re.sub(r"\W+", "_", text).strip("_").lower()


# Agents of frameworks and services.


def _card(data: Mapping[str, Any], _: str) -> Rows:
    """An A2A card: one agent, whose skills say what it takes."""
    skills = [one for one in _list(data.get("skills")) if isinstance(one, Mapping)]
    said = [": ".join(filter(None, (_text(one.get("name")), _text(one.get("description"))))) for one in skills]
    held = {key: [text for one in skills for text in _list(one.get(key))] for key in ("tags", "examples")}
    row = {"name": data.get("name"), "description": data.get("description"), "body": "\n".join(said)}
    return [("the card", {**row, "keywords": held["tags"], "examples": held["examples"]})]


def _assistant(data: Mapping[str, Any]) -> dict[str, Any]:
    tools = [_get(one, "function", "name") or _get(one, "type") for one in _list(data.get("tools"))]
    starters = data.get("conversation_starters", data.get("prompt_starters"))
    row = {key: data.get(key) for key in ("name", "description", "model", "category")}
    return _described(
        row, data.get("instructions"), examples=starters, tools=[tool for tool in tools if isinstance(tool, str)]
    )


def _gpts(data: Mapping[str, Any], _: str) -> Rows:
    held = data.get("data") if isinstance(data.get("data"), list) else [data]
    for number, row in enumerate(held if isinstance(held, list) else (), 1):
        gizmo = _get(row, "gizmo") or row
        shown = _get(gizmo, "display")
        fields = {**gizmo, **shown} if isinstance(gizmo, Mapping) and isinstance(shown, Mapping) else gizmo
        yield f"assistant {number}", _assistant(fields) if isinstance(fields, Mapping) else fields


def _crew(data: Mapping[str, Any], _: str) -> Rows:
    for name, row in data.items():
        if isinstance(row, Mapping):
            said = ": ".join(filter(None, (_text(row.get("role")), _text(row.get("goal")))))
            fields = {"description": said, "body": row.get("backstory"), "model": row.get("llm"), "name": name}
            yield f"agent {str(name)[:80]!r}", {**fields, "tools": row.get("tools")}


def _component(data: Mapping[str, Any]) -> dict[str, Any]:
    config = data.get("config")
    held = config if isinstance(config, Mapping) else data
    client, listed = held.get("model_client"), _list(_get(held, "llm_config", "config_list"))
    model = _get(client, "config", "model") or _get(client, "model") or _get(listed[0] if listed else {}, "model")
    tools = [_get(one, "config", "name") or _get(one, "name") for one in _list(held.get("tools"))]
    row = {"name": held.get("name"), "description": held.get("description"), "model": model}
    return _described(row, held.get("system_message"), tools=[tool for tool in tools if isinstance(tool, str)])


def _components(data: Mapping[str, Any], _: str) -> Rows:
    """The agents of an AutoGen component: one, a team's, or a gallery's."""
    waiting, seen = [data], 0
    while waiting and seen < _MOST_NESTED:
        now, seen = waiting.pop(0), seen + 1
        if _get(now, "component_type") == "agent":
            yield f"agent {str(_get(now, 'config', 'name') or _get(now, 'name'))[:80]!r}", _component(now)
        for held in (now, _get(now, "config"), _get(now, "components")):
            for key in ("participants", "agents", "teams"):
                waiting += [one for one in _list(_get(held, key)) if isinstance(one, Mapping)]


def _opencode(data: Mapping[str, Any], _: str) -> Rows:
    for label, row in _named(data.get("agent") or data.get("agents") or data.get("mode")):
        if not (isinstance(row, Mapping) and row.get("disable") in (True, "true")):
            yield label, _described(row, row.get("prompt")) if isinstance(row, Mapping) else row
    for label, row in _named(data.get("command")):
        yield label, _described(row, row.get("template"), kind="command") if isinstance(row, Mapping) else row


def _codex(data: Mapping[str, Any], file: str) -> Rows:
    body = data.get("developer_instructions")
    return [("agent", _described({"name": file_name(file), **data}, body))]


def _has(*keys: str) -> Callable[[Mapping[str, Any], str], bool]:
    return lambda data, _: all(key in data for key in keys)


def _is_card(data: Mapping[str, Any], base: str) -> bool:
    marks = ("url", "protocolVersion", "supportedInterfaces", "capabilities", "defaultInputModes")
    return isinstance(data.get("skills"), list) and "name" in data and any(key in data for key in marks)


def _is_gpt(data: Mapping[str, Any], base: str) -> bool:
    rows = _list(data.get("data")) or [data]
    keys = ("gizmo", "instructions", "prompt_starters", "conversation_starters")
    return any(_get(row, "object") == "assistant" or any(_get(row, key) for key in keys) for row in rows[:50])


def _is_crew(data: Mapping[str, Any], base: str) -> bool:
    rows = [row for row in data.values() if isinstance(row, Mapping)]
    return bool(rows) and all("role" in row or "goal" in row for row in rows) and len(rows) == len(data)


def _is_tools(data: Mapping[str, Any], base: str) -> bool:
    others = ("name", "agents", "agent", "routes", "object")
    tools = data.get("tools", _get(data, "result", "tools"))
    return isinstance(tools, list) and not any(key in data for key in others)


def _is_opencode(data: Mapping[str, Any], base: str) -> bool:
    return base.startswith("opencode.json") or "opencode.ai" in str(data.get("$schema", ""))


FORMATS: tuple[Format, ...] = (
    Format("opencode", "opencode.json, or its $schema", _is_opencode, _opencode),
    Format("OpenAPI", "`openapi` or `swagger` with `paths`", lambda data, _: "paths" in data, _openapi),
    Format("MCP or function tools", "`tools`, or `result.tools`", _is_tools, _tools),
    Format("A2A card", "`skills` with `url` or `capabilities`", _is_card, _card),
    Format("AutoGen", "`component_type`, or `components`", lambda data, _: "component_type" in data
           or isinstance(data.get("components"), Mapping), _components),
    Format("OpenAI assistants and GPTs", "`object: assistant`, `instructions` or `gizmo`", _is_gpt, _gpts),
    Format("Codex", "`developer_instructions`", _has("developer_instructions"), _codex),
    Format("CrewAI", "entries with `role` and `goal`", _is_crew, _crew),
    Format("agents", "`agents`, `[[agent]]`, `routes`, or one `name`", lambda data, _: True, _ours),
)  # fmt: skip


def sections(text: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """The sections of an AGENTS.md, as Codex and others read it: (heading, fields) of each that says something."""
    parts = re.split(r"(?m)^(#{1,6})[ \t]+(\S.*)$", text)
    for heading, body in zip(parts[2::3], parts[3::3], strict=True):
        name = re.sub(r"(?i)^agent:\s*|[*_`]+", "", heading).rstrip("# \t").strip()
        if _first(body) and name:
            kind = "agent" if re.search(r"(?i)\bagent\b|^@", heading) else "skill"
            row = {"name": name.lstrip("@"), "description": _first(body), "body": body.strip(), "kind": kind}
            yield f"section {name[:80]!r}", row
