"""Reads users' own agents: Claude Code *.md files, semantic-router routes, our TOML and JSON.

Files are hostile until proven otherwise: sizes are bounded, nothing is evaluated, and a broken
file is named with its line and left out while the rest still route.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterable, Mapping
from os import PathLike
from pathlib import Path, PurePath
from typing import Any

from ruvllm.agents.catalog import MAX_AGENTS, agent_from, parse_toml_agents
from ruvllm.errors import AgentFileError, InputError
from ruvllm.reprs import shortened
from ruvllm.types import Agent

__all__ = ["parse_agents", "parse_claude_agent", "read_agents"]

_MAX_BYTES = 2_000_000
_MAX_DEPTH = 100  # of brackets in a JSON file; an agents file has four
_STRING = re.compile(r'"(?:[^"\\]|\\.?)*(?:"|\Z)', re.DOTALL)
_KEY = re.compile(r"^([A-Za-z_][\w-]*):(?:\s+(.*)|\s*)$")
_EXAMPLE_BLOCK = re.compile(r"<example>.*?(?:</example>|\Z)", re.DOTALL | re.IGNORECASE)
_COMMENTARY = re.compile(r"<commentary>.*?(?:</commentary>|\Z)", re.DOTALL | re.IGNORECASE)
_USER_LINE = re.compile(r"""(?im)^\W*user:\s*["'“]?(.+?)["'”]?\s*$""")
_EXAMPLES_TAIL = re.compile(r"(?is)\b(?:for example|examples?(?: of .{0,40})?|specific scenarios include):?\s*$")


def read_agents(path: str | Path) -> tuple[list[Agent], list[AgentFileError]]:
    """Agents of a folder (`**/*.md`) or of one .md, .json, .toml, .yaml file.

    Returns:
        (agents, problems): a broken file or entry becomes a problem and is skipped.

    Raises:
        AgentFileError: the path does not exist.
    """
    if not isinstance(path, str | PathLike) or not str(path).strip("\0 "):
        raise InputError(
            f"agents is {shortened(path)}", field="agents", fix="give a folder of agents or an agents file"
        )
    root = Path(path)
    if not root.exists():
        raise AgentFileError(f"{root} does not exist", field=str(root), fix="give a folder of agents or an agents file")
    files = sorted(root.rglob("*.md")) if root.is_dir() else [root]
    agents: dict[str, Agent] = {}
    problems: list[AgentFileError] = []
    if root.is_dir() and not files:
        problems.append(AgentFileError(f"{root} holds no *.md file", field=str(root), fix="point at .claude/agents"))
    for file in files[:MAX_AGENTS]:
        try:
            found = _read_file(file)
        except AgentFileError as problem:
            problems.append(problem)
            continue
        for agent in found:
            if agent.name in agents:
                problems.append(_problem(file, 1, f"a second agent called {agent.name!r}", "rename one of the two"))
            else:
                agents[agent.name] = agent
    return list(agents.values()), problems


def _problem(file: PurePath, line: int, message: str, fix: str) -> AgentFileError:
    return AgentFileError(f"{file}:{line}: {message}", field=f"{file}:{line}", fix=fix)


def _read_file(file: Path) -> list[Agent]:
    try:
        if file.stat().st_size > _MAX_BYTES:
            raise _problem(file, 1, f"larger than {_MAX_BYTES} bytes", "an agent file is a page or two of text")
        text = file.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise _problem(file, line, "not UTF-8 text", "save it as UTF-8") from None
    except OSError as error:
        raise _problem(file, 1, f"cannot be read ({error.strerror})", "check the path and its permissions") from None
    return parse_agents(text, file)


def parse_agents(text: str, file: PurePath) -> list[Agent]:
    """The agents of a file's text.

    Args:
        file: what to call it; its ending tells what it holds.

    Raises:
        AgentFileError: it, or one of its agents, cannot be used.
    """
    if len(text) > _MAX_BYTES:
        raise _problem(file, 1, f"longer than {_MAX_BYTES} characters", "an agent file is a page or two of text")
    try:
        if file.suffix.lower() == ".md":
            return [parse_claude_agent(text, str(file))]
        rows = _rows(_parse(text, file))
        return [agent_from({**row, "source": str(file)}, f"{file}: agent {i + 1}") for i, row in enumerate(rows)]
    except InputError as error:
        raise AgentFileError(error.message, field=f"{file}: {error.field}", fix=error.fix) from None


def _parse(text: str, file: PurePath) -> Any:
    suffix = file.suffix.lower()
    try:
        if suffix == ".json":
            _check_depth(text)
            return json.loads(text)
        if suffix == ".toml":
            return {"agents": parse_toml_agents(text)}
        if suffix in (".yaml", ".yml"):
            return _parse_yaml(text, file)
    except json.JSONDecodeError as error:
        raise _problem(file, error.lineno, f"not JSON: {error.msg}", "mend the syntax there") from None
    except tomllib.TOMLDecodeError as error:
        line = re.search(r"line (\d+)", str(error))
        raise _problem(file, int(line[1]) if line else 1, f"not TOML: {error}", "mend the syntax there") from None
    except RecursionError:
        raise _problem(file, 1, "nested too deeply", "an agents file is a flat list") from None
    raise _problem(file, 1, f"unknown kind of file {suffix!r}", "use .md, .json, .toml or .yaml")


def _check_depth(text: str) -> None:
    """RecursionError as json itself would raise it: in a browser the stack ends, and Python with it, before it does."""
    depth = 0
    for bracket in re.findall(r"[\[\]{}]", _STRING.sub("", text)):
        depth += 1 if bracket in "[{" else -1
        if depth > _MAX_DEPTH:
            raise RecursionError


def _parse_yaml(text: str, file: PurePath) -> Any:
    try:
        import yaml  # an extra: only semantic-router users need it
    except ModuleNotFoundError:
        raise _problem(file, 1, "reading YAML needs PyYAML", "pip install 'ruvllm[yaml]'") from None
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        raise _problem(file, mark.line + 1 if mark else 1, "not YAML", "mend the syntax there") from None


def _rows(data: Any) -> Iterable[Mapping[str, Any]]:
    """The entries of our JSON/TOML ("agents") or of semantic-router's ("routes" with utterances)."""
    rows: list[dict[str, Any]] = []
    if isinstance(data, Mapping) and isinstance(data.get("routes"), list):
        rows = [{**row, "examples": row.get("utterances")} for row in data["routes"] if isinstance(row, Mapping)]
    elif isinstance(data, Mapping) and isinstance(data.get("agents"), Mapping):
        rows = [{"name": name, **row} for name, row in data["agents"].items() if isinstance(row, Mapping)]
    elif isinstance(data, Mapping) and isinstance(data.get("agents"), list):
        rows = [dict(row) for row in data["agents"] if isinstance(row, Mapping)]
    if not rows:
        raise InputError("the file holds no agents", field="agents", fix="give `agents` or semantic-router's `routes`")
    return rows


def parse_claude_agent(text: str, source: str = "agent.md") -> Agent:
    """A Claude Code agent file: front matter, then the body.

    `user:` lines of example blocks become examples; `model:` and `tools:` are kept.

    Raises:
        AgentFileError: no front matter, or no name in it.
    """
    lines = text.splitlines()
    start = next((i for i, line in enumerate(lines) if line.strip()), 0)
    if not lines or lines[start].strip() != "---":
        raise _problem(Path(source), start + 1, "no front matter", "begin the file with --- and name: …")
    end = next((i for i in range(start + 1, len(lines)) if lines[i].strip() == "---"), None)
    if end is None:
        raise _problem(Path(source), start + 1, "the front matter never ends", "close it with a line ---")
    fields = _front_matter(lines[start + 1 : end])
    if not str(fields.get("name") or "").strip():
        raise _problem(Path(source), start + 2, "the front matter has no name", "add a line name: my-agent")
    description = str(fields.get("description") or "").replace("\\n", "\n").replace('\\"', '"')
    body = "\n".join(lines[end + 1 :])
    plain = " ".join(_EXAMPLES_TAIL.sub("", _EXAMPLE_BLOCK.sub("", description).strip()).split())
    asked = [*_user_lines(description), *(ask for block in _EXAMPLE_BLOCK.findall(body) for ask in _user_lines(block))]
    known: dict[str, Any] = {
        key: fields[key] for key in ("category", "keywords", "tier", "model", "tools") if fields.get(key)
    }
    if str(known.get("tier", "")).isdigit():
        known["tier"] = int(known["tier"])
    if known.get("model") == "inherit":
        del known["model"]
    own = fields.get("examples")
    examples = [*asked, *(own if isinstance(own, list) else [])]
    try:
        row = {"name": fields["name"], "description": plain, "examples": examples, "source": source, **known}
        return agent_from(row, source)
    except InputError as error:
        at = next((i + 1 for i, line in enumerate(lines) if line.startswith(f"{error.field}:")), start + 2)
        raise _problem(Path(source), at, error.message, error.fix) from None


def _user_lines(text: str) -> list[str]:
    plain = _COMMENTARY.sub("", text).replace("\\n", "\n")
    return [match.strip().strip("\"'“”") for match in _USER_LINE.findall(plain) if len(match.strip()) > 2]


def _front_matter(lines: list[str]) -> dict[str, str | list[str]]:
    """Key to text or list; forgiving where YAML is not (a bare colon or quote in a description)."""
    fields: dict[str, str | list[str]] = {}
    key, held = "", list[str]()

    def finish() -> None:
        if key:
            fields[key] = _value(held)

    for line in lines:
        match = _KEY.match(line)
        if match and not line[:1].isspace():
            finish()
            key, held = match[1].lower(), [match[2] or ""]
        elif key:
            held.append(line)
    finish()
    return fields


def _value(held: list[str]) -> str | list[str]:
    first, rest = held[0].strip(), [line.strip() for line in held[1:]]
    if not first and rest and all(line.startswith("- ") for line in rest if line):
        return [_unquote(line[2:]) for line in rest if line]
    if first.startswith("[") and first.endswith("]"):
        return [_unquote(item) for item in first[1:-1].split(",") if item.strip()]
    if first in ("|", ">", "|-", ">-", "|+", ">+"):
        return ("\n" if first[0] == "|" else " ").join(rest).strip()
    return _unquote("\n".join([first, *rest]).strip())


def _unquote(text: str) -> str:
    text = text.strip()
    if len(text) >= 2 and text[0] == text[-1] and text[0] in "\"'":
        return text[1:-1].replace("''", "'") if text[0] == "'" else text[1:-1]
    return text
