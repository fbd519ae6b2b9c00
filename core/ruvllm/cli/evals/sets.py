"""Reads evaluation files, and names the key at fault in one that is not well formed."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruvllm import Agent, InputError
from ruvllm.agents.catalog import agent_from, builtin_agents
from ruvllm.agents.formats import tool_row
from ruvllm.agents.front_matter import YamlError, load_yaml

_SEPARATOR = "::"
_ROW = '["text", "label"]'


@dataclass(frozen=True, slots=True)
class Prompt:
    """A task and the name of the agent it belongs to."""

    text: str
    agent: str


@dataclass(frozen=True, slots=True)
class Collection:
    """Agents that one person could have installed together, and tasks for them."""

    name: str
    agents: tuple[Agent, ...]
    prompts: tuple[Prompt, ...]

    def among_named(self) -> Collection:
        """With only the agents that a prompt names."""
        named = {prompt.agent for prompt in self.prompts}
        return Collection(self.name, tuple(agent for agent in self.agents if agent.name in named), self.prompts)


@dataclass(frozen=True, slots=True)
class IntentSet:
    """Labelled texts, and texts that no label fits."""

    train: Mapping[str, tuple[str, ...]]
    test: tuple[Prompt, ...]
    oos: tuple[str, ...]


def read_agent_set(path: Path, builtin: bool = False, min_prompts: int = 1) -> list[Collection]:
    """The file's collections that have prompts enough; one collection unless names are "collection::name".

    Raises:
        InputError: naming the key that is missing or wrong.
    """
    data = _read_json(path)
    groups = {"": {agent.name: agent for agent in builtin_agents()}} if builtin else _groups(data)
    prompts: dict[str, list[Prompt]] = defaultdict(list)
    for where, row in _objects(data, "prompts", '{"prompt": …, "agent": …}'):
        text, agent = _text(row.get("prompt"), f"{where}.prompt"), _text(row.get("agent"), f"{where}.agent")
        group, name = ("", agent) if builtin else _split(agent)
        if name not in groups.get(group, {}):
            what = "the built-in agents" if builtin else "`agents`"
            fix = "name one of them, or add the agent"
            raise InputError(f"{where}.agent is {agent!r}, which is not among {what}", field=f"{where}.agent", fix=fix)
        prompts[group].append(Prompt(text, name))
    enough = {group: tuple(rows) for group, rows in prompts.items() if len(rows) >= min_prompts}
    collections = [Collection(group, tuple(groups[group].values()), rows) for group, rows in enough.items()]
    if not collections:
        fix = "add prompts or lower --min-prompts"
        raise InputError(f"no collection has {max(1, min_prompts)} prompt(s)", field="prompts", fix=fix)
    return collections


def _groups(data: Mapping[str, Any], key: str = "agents") -> dict[str, dict[str, Agent]]:
    """Agents by collection and by bare name: the collection is no part of what an agent is called."""
    rows = data.get("agents")
    if not isinstance(rows, Mapping) or not rows:
        fix = 'write {"agents": {name: {"description": …}}, "prompts": […]}, or use --builtin'
        raise InputError(f"`{key}` is missing or is not an object of {key}", field=key, fix=fix)
    groups: dict[str, dict[str, Agent]] = defaultdict(dict)
    for full, row in rows.items():
        where = f"{key}[{full!r}]"
        if not isinstance(row, Mapping):
            raise InputError(f"{where} is a {_kind(row)}", field=where, fix='write {"description": …}')
        group, name = _split(full)
        agent = agent_from({**row, "name": name}, where)
        groups[group][agent.name] = agent
    return groups


@dataclass(frozen=True, slots=True)
class PromptTest:
    """A prompt, and the agents of which one is to get it; none where nobody is to be sure of it."""

    prompt: str
    agents: tuple[str, ...]
    min_confidence: float = 0.0
    name: str = ""


def read_prompt_tests(path: Path) -> list[PromptTest]:
    """The `prompts` of a JSON or YAML file. Raises InputError: naming the key that is missing or wrong."""
    out = list[PromptTest]()
    for where, row in _objects(_read_json(path), "prompts", '{"prompt": …, "agent": name, or null}'):
        if not ("agent" in row or "agents" in row):
            raise InputError(f"{where} has no agent", field=where, fix='write {"prompt": …, "agent": name, or null}')
        held = row.get("agent", row.get("agents"))
        names = [] if held is None else held if isinstance(held, list) else [held]
        try:
            least = float(row.get("min_confidence") or 0)
        except (TypeError, ValueError):
            least = -1.0
        if not 0 <= least <= 1:
            fix = "give a number, 0 to 1"
            raise InputError(f"{where}.min_confidence is no share", field=f"{where}.min_confidence", fix=fix)
        texts = tuple(_text(name, f"{where}.agent") for name in names)
        title = row.get("name")
        prompt = _text(row.get("prompt"), f"{where}.prompt")
        out.append(PromptTest(prompt, texts, least, title if isinstance(title, str) else ""))
    return out


def read_tool_set(path: Path) -> list[Collection]:
    """The file's collections of tools with their prompts; names are "collection::name", or there is one collection.

    Raises:
        InputError: naming the key that is missing or wrong.
    """
    data = _read_json(path)
    held = data.get("tools")
    tools = held if isinstance(held, Mapping) else {}
    rows = {
        name: {"kind": "tool", **(tool_row(row) if isinstance(row, Mapping) else {})} for name, row in tools.items()
    }
    groups = _groups({"agents": rows}, "tools")
    prompts: dict[str, list[Prompt]] = defaultdict(list)
    for where, row in _objects(data, "prompts", '{"prompt": …, "tool": …}'):
        text, tool = _text(row.get("prompt"), f"{where}.prompt"), row.get("tool", row.get("agent"))
        group, name = _split(_text(tool, f"{where}.tool"))
        if name in groups.get(group, {}):
            prompts[group].append(Prompt(text, name))
    return [Collection(name, tuple(found.values()), tuple(prompts[name])) for name, found in groups.items()]


def _split(full: str) -> tuple[str, str]:
    group, separator, name = full.strip().partition(_SEPARATOR)
    return (group, name.strip()) if separator else ("", group)


def read_intents(path: Path) -> IntentSet:
    """Training texts by label, test texts, and those out of scope.

    Raises:
        InputError: naming the key that is missing or wrong.
    """
    data = _read_json(path)
    train: dict[str, list[str]] = defaultdict(list)
    for i, row in enumerate(_list(data, "train")):
        prompt = _labelled(row, f"train[{i}]")
        train[prompt.agent].append(prompt.text)
    test = tuple(_labelled(row, f"test[{i}]") for i, row in enumerate(_list(data, "test")))
    for i, prompt in enumerate(test):
        if prompt.agent not in train:
            where, fix = f"test[{i}]", "give the label training texts, or move the row to `oos`"
            raise InputError(f"{where} has the label {prompt.agent!r}, which `train` has not", field=where, fix=fix)
    key = next((key for key in ("oos", "oos_test") if key in data), None)
    rows = _list(data, key, may_be_empty=True) if key else []
    oos = tuple(_text(row[0] if isinstance(row, list) and row else row, f"{key}[{i}]") for i, row in enumerate(rows))
    return IntentSet({label: tuple(texts) for label, texts in train.items()}, test, oos)


def read_labelled_queries(path: Path) -> list[tuple[str, tuple[str, ...]]]:
    """(query, its sub-queries) of a file. Raises InputError: naming the key that is missing or wrong."""
    out = []
    for where, row in _objects(_read_json(path), "queries", '{"query": …, "parts": […]}'):
        parts = _list(row, "parts", may_be_empty=True)
        texts = tuple(_text(part, f"{where}.parts[{j}]") for j, part in enumerate(parts))
        out.append((_text(row.get("query"), f"{where}.query"), texts))
    return out


def read_questions(path: Path) -> list[tuple[str, tuple[str, ...]]]:
    """(question, the answers accepted) of a file. Raises InputError: naming the key that is missing or wrong."""
    out = []
    for where, row in _objects(_read_json(path), "questions", '{"question": …, "answer": …}'):
        answer = row.get("answer")
        answers = answer if isinstance(answer, list) and answer else [answer]
        texts = tuple(_text(each, f"{where}.answer") for each in answers)
        out.append((_text(row.get("question"), f"{where}.question"), texts))
    return out


def read_graded(path: Path) -> list[tuple[str, str, str, bool]]:
    """(question, source, answer, whether it is good) of a file. Raises InputError: as `read_questions`."""
    out = []
    for where, row in _objects(_read_json(path), "questions", '{"question": …, "source": …, "good": […], "bad": […]}'):
        question, source = (_text(row.get(name), f"{where}.{name}") for name in ("question", "source"))
        for name in ("good", "bad"):
            said = row.get(name)
            if not isinstance(said, list):
                raise InputError(f"{where}.{name} is no list", field=f"{where}.{name}", fix="give a list of answers")
            out += [(question, source, _text(one, f"{where}.{name}"), name == "good") for one in said]
    return out


def _labelled(row: Any, where: str) -> Prompt:
    if not isinstance(row, list) or len(row) != 2:
        raise InputError(f"{where} is not {_ROW}", field=where, fix=f"write {_ROW}")
    label = str(row[1]) if isinstance(row[1], int) else row[1]
    return Prompt(_text(row[0], f"{where}[0]"), _text(label, f"{where}[1]").strip())


def _read_json(path: Path) -> Mapping[str, Any]:
    try:
        text = path.read_bytes().decode("utf-8-sig")
        data = load_yaml(text) if path.suffix.lower() in (".yaml", ".yml") else json.loads(text)
    except OSError as error:
        reason = error.strerror or error
        raise InputError(f"{path} cannot be read ({reason})", field=str(path), fix="check the path") from None
    except UnicodeDecodeError:
        raise InputError(f"{path} is not UTF-8 text", field=str(path), fix="save it as UTF-8") from None
    except json.JSONDecodeError as error:
        where = f"{path}:{error.lineno}"
        raise InputError(f"{where}: not JSON: {error.msg}", field=where, fix="mend the syntax there") from None
    except ModuleNotFoundError:
        fix = "pip install pyyaml, or use JSON"
        raise InputError(f"{path}: reading YAML needs PyYAML", field=str(path), fix=fix) from None
    except YamlError as error:
        where = f"{path}:{error.line}"
        raise InputError(f"{where}: not YAML: {error}", field=where, fix="mend the syntax there") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not JSON: {error}", field=str(path), fix="write plain JSON") from None
    if not isinstance(data, Mapping):
        raise InputError(f"{path} holds a {_kind(data)}", field=str(path), fix="write one JSON object")
    return data


def _objects(data: Mapping[str, Any], key: str, shape: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """(what to call it, row) of a list of objects. Raises InputError: a row is none; `shape` is how one is written."""
    for i, row in enumerate(_list(data, key)):
        where = f"{key}[{i}]"
        if not isinstance(row, Mapping):
            raise InputError(f"{where} is a {_kind(row)}", field=where, fix=f"write {shape}")
        yield where, row


def _list(data: Mapping[str, Any], key: str, may_be_empty: bool = False) -> Sequence[Any]:
    value = data.get(key)
    if not isinstance(value, list):
        what = "is missing" if value is None else f"is a {_kind(value)}"
        raise InputError(f"`{key}` {what}", field=key, fix=f"make `{key}` a list; `ruvllm eval --help` shows the shape")
    if not value and not may_be_empty:
        raise InputError(f"`{key}` is empty", field=key, fix=f"put rows into `{key}`")
    return value


def _text(value: Any, where: str) -> str:
    if not isinstance(value, str):
        what = "missing" if value is None else f"a {_kind(value)}"
        raise InputError(f"{where} is {what}", field=where, fix="make it a string")
    if not value.strip():
        raise InputError(f"{where} is empty", field=where, fix="write something or drop the row")
    return value


def _kind(value: Any) -> str:
    names = {dict: "JSON object", list: "JSON list", str: "string", bool: "boolean", int: "number", float: "number"}
    return names.get(type(value), "null" if value is None else type(value).__name__)
