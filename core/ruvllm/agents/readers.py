"""Reads users' agents, skills, commands and tools: Markdown files of coding agents, and documents (`formats`).

Files are hostile until proven otherwise: sizes are bounded before anything is parsed, nothing is evaluated, and what is
broken costs no more than itself: a field, an entry or, where its syntax cannot be read, a file.
"""

from __future__ import annotations

import json
import os
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from stat import S_ISREG
from typing import Any

from ruvllm.agents.catalog import MAX_AGENTS, read_agent
from ruvllm.agents.folders import MARKDOWN, Found, agent_files, read_before
from ruvllm.agents.formats import rows_of, sections
from ruvllm.agents.front_matter import YamlError, load_yaml
from ruvllm.agents.markdown import command_of, file_name, is_named_by_its_file, kind_of, read_markdown
from ruvllm.disk_cache import DiskCache
from ruvllm.errors import AgentFileError, InputError
from ruvllm.reprs import shortened
from ruvllm.text.surrogates import well_formed
from ruvllm.types import Agent

_PATH = "check the path and its permissions"
_MAX_BYTES = 2_000_000
_MAX_JSON = 16_000_000  # bytes of a document: GitHub's own description of its API has 13 MB
_MAX_DEPTH = 100  # of brackets in a JSON or TOML file; an agents file has four
_MAX_DOTS = 30  # in a line of TOML, whose dotted keys take tomllib quadratic time
_NUMBER = re.compile(r"\d[\d_]{400,}")  # Python refuses to read it
_STRING = re.compile(r'"(?:[^"\\]|\\.?)*(?:"|\Z)', re.DOTALL)
# A string, or what JSON with comments has and JSON has not: comments, and a comma before the end.
_JSON_COMMENT = re.compile(r'"(?:[^"\\]|\\.?)*(?:"|\Z)|//[^\n]*|/\*.*?(?:\*/|\Z)|,(?=\s*[\]}])', re.DOTALL)
_TOML_TEXT = re.compile(
    r'"""(?:[^\\]|\\.)*?(?:"""|\Z)|\'\'\'.*?(?:\'\'\'|\Z)|"(?:[^"\\\n]|\\.)*["\n]?|\'[^\'\n]*[\'\n]?|#[^\n]*', re.DOTALL
)
_TOML_ENTRY = re.compile(r"(?m)^(?=\[\[(?:agents?|routes)\]\])")


def read_agents(path: str | Path, cache: DiskCache | None = None) -> Found:
    """Agents, skills, commands and tools of a folder or of one .md, .mdc, .json, .toml, .yaml file.

    A folder that is linked to is entered, once; a *.md file in a folder that has no front matter is no agent, but in
    a folder of commands it is one.

    Args:
        cache: of what was read of long folders before.

    Returns:
        (agents, problems): what is broken becomes a problem and stops no other.

    Raises:
        AgentFileError: the path does not exist.
        InputError: it is no path at all.

    >>> agents, problems = read_agents("agents.json")
    >>> agents[0].name
    'barista'
    """
    if not isinstance(path, str | os.PathLike) or not str(path).strip("\0 "):
        fix = "give a folder of agents or an agents file"
        raise InputError(f"agents is {shortened(path)}", field="agents", fix=fix)
    root = well_formed(str(path))
    if not os.path.exists(path):
        raise AgentFileError(f"{root} does not exist", field=root, fix="give a folder of agents or an agents file")
    if not os.path.isdir(path):
        return together([(f"{root}:1", *_read_file(str(path), listed=False))])
    files, faults = agent_files(str(path))

    def read() -> Found:
        return together((f"{well_formed(file)}:1", *_read_file(file, listed=True)) for file in files)

    agents, problems = read_before(files, cache, read, _MAX_BYTES)
    problems += [_problem(well_formed(file), 1, why, fix) for file, why, fix in faults]
    if not agents and not problems:
        none = f"{len(files)} *.md files, but none with front matter" if files else "no *.md file"
        problems.append(AgentFileError(f"{root} holds {none}", field=root, fix="point at .claude/agents"))
    return agents, problems


def together(parts: Iterable[tuple[str, list[Agent], list[AgentFileError]]]) -> Found:
    """The agents of many files or entries (where each is, its agents, its problems); the first of a name stays.

    Where an agent, a skill, a command and a tool have one name, the later ones are called by their kinds too.
    """
    agents, problems = dict[str, Agent](), list[AgentFileError]()
    for where, found, more in parts:
        problems += more
        for agent in found:
            if (before := agents.get(agent.name)) is not None and before.kind != agent.kind:
                agent = replace(agent, name=f"{agent.kind}:{agent.name}")
            if agent.name in agents:
                message = f"{where}: a second agent called {agent.name!r}"
                problems.append(AgentFileError(message, field=where, fix="rename one of the two"))
            elif len(agents) == MAX_AGENTS:
                message = f"{where}: more than {MAX_AGENTS} agents"
                return list(agents.values()), [*problems, AgentFileError(message, field=where, fix="read fewer")]
            else:
                agents[agent.name] = agent
    return list(agents.values()), problems


def _problem(file: str, line: int, message: str, fix: str, skipped: bool = True) -> AgentFileError:
    return AgentFileError(f"{file}:{line}: {message}", field=f"{file}:{line}", fix=fix, skipped=skipped)


def _read_file(path: str, listed: bool) -> Found:
    file, most = well_formed(path), _most(path)
    try:
        if not S_ISREG(os.stat(path).st_mode):
            fault = _problem(file, 1, "no regular file", "give a folder of agents or an agents file")
            return [], [] if listed else [fault]
        with open(path, "rb") as opened:
            data = opened.read(most + 1)
        marked = data.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"---")
        if listed and not marked and kind_of(path) != "command" and path.lower().endswith(MARKDOWN):
            return [], []
        if len(data) > most:
            return [], [_problem(file, 1, f"larger than {most} bytes", "an agent file is a page or two of text")]
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        return [], [_problem(file, line, "not UTF-8 text", "save it as UTF-8")]
    except OSError as error:
        fault = _problem(file, 1, f"cannot be read ({error.strerror})", _PATH)
        return [], [] if listed and os.path.islink(path) else [fault]
    return parse_agents(text, file, listed)


def _most(file: str) -> int:
    return _MAX_JSON if file.lower().endswith(".json") else _MAX_BYTES


def parse_agents(text: str, file: str, listed: bool = False) -> Found:
    """The agents of a file's text, and what of it could not be used.

    Args:
        file: what to call it; its ending tells what it holds.
        listed: it was found in a folder, where a Markdown file without front matter is no agent and no fault.
    """
    if len(text) > _most(file):
        fix = "an agent file is a page or two of text"
        return [], [_problem(file, 1, f"longer than {_most(file)} characters", fix)]
    text = well_formed(text.removeprefix("\ufeff"))
    try:
        if file.lower().endswith(MARKDOWN):
            return _parse_markdown("\n".join(text.splitlines()), file, listed)
        data, problems = _parse(text, file)
        rows = rows_of(data, file) if data or not problems else []
        read = [read_row(row, f"{file}: {label}", file) for label, row in rows]
        return [agent for agents, _ in read for agent in agents], [
            *problems,
            *(one for _, more in read for one in more),
        ]
    except AgentFileError as problem:
        return [], [] if listed and problem.field.endswith(": agents") else [problem]


def read_row(row: Any, where: str, source: str = "") -> Found:
    """The agent of one entry, if it is one."""
    try:
        if not isinstance(row, Mapping):
            raise InputError(f"{where}: a {type(row).__name__} is no agent", field="name", fix="give it a `name`")
        agent, notes = read_agent({**row, "source": source, "scope": ""}, where)
    except InputError as error:
        return [], [AgentFileError(error.message, field=f"{where}: {error.field}", fix=error.fix)]
    return [agent], [
        AgentFileError(note.message, field=f"{where}: {note.field}", fix=note.fix, skipped=False) for note in notes
    ]


def _parse_markdown(text: str, file: str, listed: bool) -> Found:
    called = file_name(file)
    try:
        found = read_markdown(text)
    except YamlError as error:
        return [], [_problem(file, error.line, str(error), "close it with a line ---")]
    readme = re.search(r"(?i)(?:^|[/\\])readme\.\w+$", file) is not None
    bare = None if found or readme or kind_of(file) != "command" else command_of(text)
    if bare is not None:
        found = bare, 1
    if found is None and called.lower() == "agents" and not listed:
        return _sections(text, file)
    if found is None or (readme and not found[0].get("name")):
        first = text[: len(text) - len(text.lstrip())].count("\n") + 1
        problem = _problem(file, first, "no front matter", "begin the file with --- and name: …")
        return [], [] if listed or readme else [problem]
    fields, start = found
    given = {"tools": fields.get("allowed-tools"), **fields, "source": file, "scope": "", "kind": kind_of(file)}
    if is_named_by_its_file(file) and not given.get("name"):
        given["name"] = called
    agent, notes = read_agent(given, "", called)
    lines = text.lower().split("\n")
    problems = list[AgentFileError]()
    for note in notes:
        line = next((i for i, line in enumerate(lines, 1) if line.startswith(note.field)), start + 1)
        problems.append(_problem(file, line, note.message, note.fix, skipped=False))
    return [agent], problems


def _sections(text: str, file: str) -> Found:
    parts = ((f"{file}: {label}", *read_row(row, f"{file}: {label}", file)) for label, row in sections(text))
    agents, problems = together(parts)
    if not agents:
        problems = [_problem(file, 1, "no section that says anything", "give each a heading and a paragraph")]
    return agents, problems


def _parse(text: str, file: str) -> tuple[Any, list[AgentFileError]]:
    suffix = os.path.splitext(file)[1].lower()
    try:
        if suffix in (".json", ".jsonc"):
            for _ in range(2 * (suffix == ".jsonc")):  # a comment may stand between a comma and the end
                text = _JSON_COMMENT.sub(_uncommented, text)
            _check_depth(_STRING.sub("", text))
            return json.loads(_NUMBER.sub("0", text)), []
        if suffix == ".toml":
            return _parse_toml(_NUMBER.sub("0", text), file)
        if suffix in (".yaml", ".yml"):
            return load_yaml(text), []
    except json.JSONDecodeError as error:
        raise _problem(file, error.lineno, f"not JSON: {error.msg}", "mend the syntax there") from None
    except YamlError as error:
        raise _problem(file, error.line, f"not YAML: {error}", "mend the syntax there") from None
    except ModuleNotFoundError:
        raise _problem(file, 1, "reading YAML needs PyYAML", "pip install pyyaml, or use JSON") from None
    except RecursionError:
        raise _problem(file, 1, "nested too deeply", "an agents file is a flat list") from None
    raise _problem(file, 1, f"unknown kind of file {suffix!r}", "use .md, .mdc, .json, .jsonc, .toml or .yaml")


def _uncommented(match: re.Match[str]) -> str:
    return match[0] if match[0][0] == '"' else "\n" * match[0].count("\n")


def _check_depth(text: str) -> None:
    """RecursionError as a parser would raise it: in a browser the stack ends, and Python with it, before it does."""
    depth = 0
    for bracket in re.findall(r"[\[\]{}]", text):
        depth += 1 if bracket in "[{" else -1
        if depth > _MAX_DEPTH:
            raise RecursionError


def _parse_toml(text: str, file: str) -> tuple[Any, list[AgentFileError]]:
    """The file or, where its syntax has a fault, those of its [[agent]] tables that have none."""
    bare = _TOML_TEXT.sub(lambda match: "\n" * match[0].count("\n"), text)
    _check_depth(bare)
    for number, line in enumerate(bare.split("\n"), 1):
        if line.count(".") > _MAX_DOTS:
            raise _problem(file, number, f"more than {_MAX_DOTS} dots", "an agents file is a flat list")
    entries = _TOML_ENTRY.split(text)
    try:
        return tomllib.loads(text), []
    except ValueError as error:
        if len(entries) < 2:
            raise _toml_problem(file, 1, error) from None
    read, problems, first = dict[str, list[Any]](), list[AgentFileError](), 1
    for entry in entries:
        try:
            data = tomllib.loads(entry)
            for key, held in data.items():
                read.setdefault(key, []).extend(held if isinstance(held, list) else ())
        except ValueError as error:
            problems.append(_toml_problem(file, first, error))
        first += entry.count("\n")
    return read, problems


def _toml_problem(file: str, first: int, error: ValueError) -> AgentFileError:
    at = re.search(r"line (\d+)", str(error))
    return _problem(file, first + (int(at[1]) - 1 if at else 0), f"not TOML: {error}", "mend the syntax there")
