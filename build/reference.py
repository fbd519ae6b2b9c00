"""The guide's references, made of what they describe: commands, options, HTTP, Python and JavaScript."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import tempfile
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, get_type_hints

import click

from ruvllm import config, options
from ruvllm.cli.main import main as ruvllm
from ruvllm_edge.app import OPERATIONS
from ruvllm_edge.openapi import document

ROOT = Path(__file__).parent.parent
CORE, WEB = ROOT / "core" / "ruvllm", ROOT / "web"
UNSEARCHED = "---\nsearch:\n  exclude: true\n---\n"
_PART = re.compile(r"^(Args|Attributes|Returns|Raises|Yields|Examples?):$")
_DECLARED = re.compile(
    r"(?:^/\*\*(?P<doc>(?:(?!\*/).)*)\*/\n)?"
    r"^export (?:declare )?(?P<kind>(?:abstract )?class|interface|type|function|const) (?P<name>\w+)"
    r"(?P<rest>.*?)(?=^/\*\*|^export |\Z)",
    re.MULTILINE | re.DOTALL,
)


_OUTPUT = """# JSON and exit codes of commands

`--json` prints one JSON value on standard output; what is for people (warnings, progress, errors) goes to standard
error. Fields may be added; those that are here stay what they are. Commands that are not below, and print no more than
a line for people, print `{"said": ["…"]}`, an item a line. `chat`, `demo`, `hook`, `mcp` and `serve` speak a protocol
of their own; `completion`, `learn dataset` and `memory export` write a file's content.

| exit code | when |
|---|---|
| 0 | it is done |
| 1 | something was found: of lint, of a check, lines of a batch that failed, ids that were not there |
| 2 | a mistake, which standard error names with its fix; `hook` never exits with it, which would take a prompt away |
"""


def references() -> dict[str, str]:
    """Pages by their place."""
    made = {"cli": commands(), "configuration": configuration(), "http": http(), "javascript": javascript()}
    made["json"] = output()
    return {f"reference/{name}.md": text for name, text in made.items()} | python()


def commands() -> str:
    """Every command with its options, as its `--help` has them."""
    lines = ["# Commands", "", "Every command has `--help`, with examples.", ""]
    for path, command in _commands("ruvllm", ruvllm, click.Context(ruvllm, info_name="ruvllm")):
        about, _, examples = (command.help or "").replace("\b", "").partition("Examples:")
        lines += [f"## {path}", "", _plain(about), ""]
        if examples:
            lines += ["```text", textwrap.dedent(examples.strip("\n")).strip(), "```", ""]
        shown = [one for one in command.params if isinstance(one, click.Option) and not one.hidden]
        arguments = [
            one.make_metavar(click.Context(command)) for one in command.params if isinstance(one, click.Argument)
        ]
        if arguments:
            lines += [f"Arguments: {', '.join(f'`{one}`' for one in arguments)}", ""]
        if shown:
            lines += ["| option | | default |", "|---|---|---|"]
            lines += [f"| {_option(one)} | {_cell(one.help or '')} | {_default(one)} |" for one in shown]
            lines.append("")
    return "\n".join(lines)


def output() -> str:
    """What commands print with --json, and how they exit."""
    lines = [_OUTPUT]
    for command, schema in json.loads((ROOT / "tests" / "data" / "outputs.json").read_text("utf-8")).items():
        lines += [f"## ruvllm {command}", "", *_fields(schema, ""), ""]
    return "\n".join(lines)


def _fields(schema: Mapping[str, Any], path: str) -> Iterator[str]:
    """A line for each field, nested ones below theirs."""
    kinds = schema.get("type", "anything")
    kind = kinds if isinstance(kinds, str) else " or ".join(kinds)
    if path or "properties" not in schema:
        yield f"- `{path or 'all'}`: {kind}"
    for name, one in schema.get("properties", {}).items():
        yield from _fields(one, f"{path}.{name}".lstrip("."))
    if schema.get("items"):
        yield from _fields(schema["items"], f"{path}[]")


def _commands(path: str, command: click.Command, context: click.Context) -> Iterator[tuple[str, click.Command]]:
    yield path, command
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            found = command.get_command(context, name)
            if found is not None and not found.hidden:
                yield from _commands(f"{path} {name}", found, context)


def _option(option: click.Option) -> str:
    names = " / ".join(f"`{name}`" for name in (*option.opts, *option.secondary_opts))
    variable = f" (`{option.envvar}`)" if isinstance(option.envvar, str) else ""
    return names + variable


def _default(option: click.Option) -> str:
    told = option.to_info_dict().get("default")
    return f"`{told}`" if isinstance(told, str | int | float) and not isinstance(told, bool) and told != "" else ""


def configuration() -> str:
    """Every option, its default, what it may be, its variable, and other systems' names."""
    head = """# Configuration

In code `Config(…)`, `Config.from_dict({…})`; in TOML `Config.from_toml(path)` and `--config`; as variables, which
count before a file. What is not given has the default.

"""
    lines = [head]
    for name, group in [("", config.Config), *_groups()]:
        about = _attributes(group.__doc__ or "")
        lines += [f"## {name or 'At the top'}", "", _plain((group.__doc__ or "").split("\n\n")[0]), ""]
        lines += ["| option | default | may be | variable | |", "|---|---|---|---|---|"]
        for one in fields(group):
            if is_dataclass(get_type_hints(group)[one.name]) or one.name == "tiers":
                continue
            key = f"{name}.{one.name}" if name else one.name
            tier = name.startswith("inference.tiers.")
            short = one.name if tier else key
            variable = "RUVLLM_" + key.replace("tiers.TIER", "SMALL").replace(".", "_").upper()
            value = one.default if one.default is not one.default_factory else "{}"
            default = "{}" if one.name == "extra" else repr(value)
            cells = (f"`{key}`", f"`{_cell(default)}`", _may_be(short, one.name), f"`{variable}`")
            lines.append(f"| {' | '.join(cells)} | {_cell(about.get(one.name, ''))} |")
        lines.append("")
    lines += ["## Names of other systems", "", "They are refused, and the error says what takes their place:", ""]
    lines += ["| name | instead |", "|---|---|"]
    lines += [f"| `{name}` | {_cell(instead)} |" for name, instead in sorted(config._ELSEWHERE.items())]
    return "\n".join(lines) + "\n"


def _groups() -> Iterator[tuple[str, Any]]:
    for name, kind in get_type_hints(config.Config).items():
        if is_dataclass(kind):
            yield name, kind
    yield "inference.tiers.TIER", options.BackendConfig


def _may_be(key: str, name: str) -> str:
    if key in options.RANGES:
        least, most = options.RANGES[key]
        return f"{least:g} to {most:g}"
    return ", ".join(f"`{one}`" for one in options.CHOICES.get(key, options.CHOICES.get(name, ())))


def _attributes(doc: str) -> dict[str, str]:
    """Descriptions by name; one may be of several names, or hold those of others after a semicolon."""
    found: dict[str, str] = {}
    text = textwrap.dedent(doc.partition("Attributes:")[2])
    for entry in re.split(r"\n(?= {4}\S)|; (?=\w+: )", textwrap.indent(textwrap.dedent(text).strip("\n"), "    ")):
        names, _, about = entry.strip().partition(": ")
        found |= dict.fromkeys(re.split(r", ", names), " ".join(about.split()))
    return found


def http() -> str:
    """Every call with its fields, and every type."""
    made = document(OPERATIONS)
    lines = [
        "# HTTP",
        "",
        "What the server answers; a running one has the same on `/docs`, and as `/openapi.json`.",
        "",
    ]
    for path, calls in made["paths"].items():
        if f"/v1{path}" in made["paths"]:
            continue
        for method, call in calls.items():
            lines += [f"## {method.upper()} {path}", "", call.get("description") or call["summary"] + ".", ""]
            for one in call.get("parameters", ()):
                lines.append(f"- `{one['name']}` ({one['in']}): {_type(one['schema'])} {one.get('description', '')}")
            body = call.get("requestBody", {}).get("content", {})
            lines += [f"- takes {_type(one['schema'])}" for one in body.values()]
            for status, answer in call["responses"].items():
                if status.startswith("2"):
                    kinds = [_type(one["schema"]) for one in answer.get("content", {}).values() if "schema" in one]
                    lines.append(f"- answers {status}{': ' if kinds else ''}{', '.join(kinds)}")
            lines.append("")
    lines += ["# Types", ""]
    for name, schema in made["components"]["schemas"].items():
        lines += [
            f"## {name.rpartition('.')[2] if name.count('.') < 2 else name}",
            "",
            schema.get("description", ""),
            "",
        ]
        if schema.get("properties"):
            needed = schema.get("required", ())
            lines += ["| field | type | |", "|---|---|---|"]
            for field, one in schema["properties"].items():
                about = one.get("description", "") + (" (needed)" if field in needed else "")
                lines.append(f"| `{field}` | {_type(one)} | {_cell(about)} |")
            lines.append("")
    return "\n".join(lines)


def _type(schema: Mapping[str, Any] | bool) -> str:
    if isinstance(schema, bool):
        return "anything"
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[`{name}`](#{re.sub(r'[^a-z0-9_]', '', name.lower())})"
    if "anyOf" in schema or "oneOf" in schema:
        return " or ".join(_type(one) for one in schema.get("anyOf", schema.get("oneOf", ())))
    if "enum" in schema:
        return ", ".join(f"`{one}`" for one in schema["enum"])
    kind = schema.get("type", "any")
    if kind == "array":
        return f"list of {_type(schema.get('items', {}))}"
    return " or ".join(kind) if isinstance(kind, list) else str(kind)


def python() -> dict[str, str]:
    """What `ruvllm` exports on one page, all modules of each room on one that the search leaves out."""
    homes = {name: path for path in sorted(CORE.rglob("*.py")) for name in _exported(path)}
    exported = _names_of(CORE / "__init__.py")
    lines = [
        "# Python",
        "",
        "`from ruvllm import …`; each room of the package has [a page of all its names](#rooms).",
        "",
    ]
    for name in exported:
        lines += _described(next(node for node in _public(homes[name]) if node.name == name), 2)
    pages, rooms = {}, ["## Rooms", ""]
    for room in sorted(path for path in CORE.iterdir() if path.name not in ("cli", "__init__.py", "__main__.py")):
        modules = sorted(room.rglob("*.py")) if room.is_dir() else [room] if room.suffix == ".py" else []
        shown = [(path, list(_public(path))) for path in modules]
        if not any(nodes for _, nodes in shown):
            continue
        text = [f"{UNSEARCHED}# ruvllm.{room.stem}", ""]
        for path, nodes in shown:
            if nodes:
                tree = ast.parse(path.read_text("utf-8"))
                text += [f"## {_dotted(path)}", "", _plain(ast.get_docstring(tree) or ""), ""]
                text += [line for node in nodes for line in _described(node, 3)]
        pages[f"reference/python-{room.stem}.md"] = "\n".join(text) + "\n"
        rooms.append(f"- [ruvllm.{room.stem}](python-{room.stem}.md)")
    return {"reference/python.md": "\n".join([*lines, *rooms]) + "\n"} | pages


def _names_of(path: Path) -> list[str]:
    tree = ast.parse(path.read_text("utf-8"))
    value = next(
        node.value for node in tree.body if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
    )
    return sorted(ast.literal_eval(value))


def _exported(path: Path) -> list[str]:
    return [node.name for node in _public(path)]


def _dotted(path: Path) -> str:
    return ".".join(path.relative_to(CORE.parent).with_suffix("").parts).removesuffix(".__init__")


def _public(path: Path) -> Iterator[ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.parse(path.read_text("utf-8")).body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and not node.name.startswith("_"):
            yield node


def _described(node: ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef, level: int) -> list[str]:
    lines = [f"{'#' * level} {node.name}", "", "```python", _signature(node), "```", "", _docstring(node), ""]
    if isinstance(node, ast.ClassDef):
        for one in node.body:
            public = isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef) and not one.name.startswith("_")
            if public and not any(mark.endswith((".setter", "overload")) for mark in _marks(one)):
                lines += [f"**{one.name}**", "", "```python", _signature(one), "```", "", _docstring(one), ""]
    return lines


def _signature(node: ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) -> str:
    if isinstance(node, ast.ClassDef):
        start = next((one for one in node.body if isinstance(one, ast.FunctionDef) and one.name == "__init__"), None)
        bases = ", ".join(ast.unparse(one) for one in node.bases)
        head = f"class {node.name}({bases})" if bases else f"class {node.name}"
        if start is not None:
            return f"{head}\n{node.name}({_arguments(start)})"
        shown = [
            ast.unparse(one) for one in node.body if isinstance(one, ast.AnnAssign | ast.Assign) and not _hidden(one)
        ]
        return "\n    ".join([f"{head}:", *shown]) if shown else head
    if any(mark.endswith("property") for mark in _marks(node)):
        return f"{node.name}: {ast.unparse(node.returns) if node.returns else 'Any'}"
    kind = "async def" if isinstance(node, ast.AsyncFunctionDef) else "def"
    returns = f" -> {ast.unparse(node.returns)}" if node.returns else ""
    return f"{kind} {node.name}({_arguments(node)}){returns}"


def _marks(node: ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) -> list[str]:
    return [ast.unparse(mark) for mark in node.decorator_list]


def _hidden(node: ast.AnnAssign | ast.Assign) -> bool:
    return ast.unparse(node.target if isinstance(node, ast.AnnAssign) else node.targets[0]).startswith("_")


def _arguments(node: ast.FunctionDef | ast.AsyncFunctionDef) -> str:
    return re.sub(r"^(self|cls)(, )?", "", ast.unparse(node.args))


def _docstring(node: ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) -> str:
    """In Markdown: "Args:" and the like as lists."""
    text, examples, rest = (ast.get_docstring(node) or "").partition(">>> ")
    marks = [ast.literal_eval(mark[len("deprecated") :]) for mark in _marks(node) if mark.startswith("deprecated(")]
    lines, part = [f"**Deprecated**: use `{instead}`." for instead in marks], False
    for line in text.splitlines():
        if _PART.match(line):
            lines += ["", f"*{line[:-1]}*", ""]
            part = True
        elif part and re.match(r" {4}\S", line):
            name, colon, about = line.strip().partition(": ")
            lines.append(
                f"- `{name}`: {_plain(about)}" if colon and " " not in name.replace(", ", "") else f"- {_plain(line)}"
            )
        else:
            lines.append(_plain(line) if not part or line.strip() == "" else f"  {_plain(line)}")
    if examples:
        lines += ["", "```pycon", f"{examples}{rest}", "```"]
    return "\n".join(lines)


def javascript() -> str:
    """What the package exports to compilers, of the declarations that `tsc` writes."""
    with tempfile.TemporaryDirectory() as folder:
        tsc = WEB / "node_modules" / "typescript" / "bin" / "tsc"
        if not tsc.is_file():
            raise SystemExit("web/node_modules is missing: make docs installs it")
        subprocess.run(["node", tsc, "-p", WEB / "tsconfig.types.json", "--outDir", folder], cwd=WEB, check=True)
        index = (Path(folder) / "index.d.ts").read_text("utf-8")
        named = set(re.findall(r"\w+", " ".join(re.findall(r"^export (?:type )?\{(.*?)\}", index, re.MULTILINE))))
        lines = ["# JavaScript", "", "What `ruvllm`, `ruvllm/element`, `ruvllm/aqe` and `ruvllm/agentdb` export.", ""]
        for title, files in _JAVASCRIPT.items():
            lines += [f"## {title}", ""]
            for name in files:
                for found in _DECLARED.finditer((Path(folder) / name).read_text("utf-8")):
                    if title == "Routers" and name not in ("index.d.ts", "runtime.d.ts") and found["name"] not in named:
                        continue
                    about = " ".join(line.strip(" *") for line in (found["doc"] or "").splitlines()).strip()
                    code = f"{found['kind']} {found['name']}{found['rest'].rstrip()}"
                    code = "\n".join(line for line in code.splitlines() if not re.match(r"\s+(private |#)", line))
                    lines += [f"### {found['name']}", "", _plain(about), "", "```ts", code, "```", ""]
    return "\n".join(lines)


_JAVASCRIPT = {
    "Routers": (
        "index.d.ts",
        "open.d.ts",
        "client.d.ts",
        "runtime.d.ts",
        "http.d.ts",
        "errors.d.ts",
        "kept.d.ts",
        "offline.d.ts",
    ),
    "Types": ("types.d.ts",),
    "Language models": ("llm/model.d.ts", "llm/types.d.ts"),
    "ruvllm/element": ("element.d.ts",),
    "ruvllm/aqe": ("integrations/aqe.d.ts",),
    "ruvllm/agentdb": ("integrations/agentdb.d.ts",),
}


def _plain(text: str) -> str:
    """Prose of a docstring as Markdown: what would be markup there is shown as it is."""
    text = re.sub(r" \(FEATURES\.md [^)]*\)", "", text)
    return re.sub(r"(?<!`)([<\[\]*_])(?![^`]*`(?:[^`]*`[^`]*`)*[^`]*$)", r"\\\1", " ".join(text.split()))


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")
