"""One agent as a Markdown file: front matter, then what it is told; the tasks in its example blocks."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import islice
from typing import Any

from ruvllm.agents.front_matter import YamlError, read_fields

_BLOCK = re.compile(r"<example>(.*?)(?:</example>|(?=<example>)|\Z)", re.DOTALL | re.IGNORECASE)
_COMMENTARY = re.compile(r"<commentary>.*?(?:</commentary>|(?=</?example>)|\Z)", re.DOTALL | re.IGNORECASE)
_TAIL = re.compile(r"(?i)\b(?:for example|examples?(?: of [^:]{0,40})?|specific scenarios include)[:.*\s]*$")
_USER, _USUAL = "user|human|customer", "assistant|context"
_OTHERS = f"{_USUAL}|agent|ai|claude|model|bot|commentary|response|reasoning|rationale|expected|input|output"
_OTHERS += "|result|action|note|trigger|situation|scenario|why|thought|examples?|tools?"
_SAYS = r"(?: (?:asks|says|request|message|prompt|query))?(?: ?\([^()\n]{0,60}\))?"
_COLON = r"[*_]{0,3} {0,3}:[*_]{0,3}"
_LINE = r"^[^\w\n]{0,12}"
# Who speaks: at the beginning of a line or, where all is on one line, before the most usual words.
_SPEAKER = re.compile(rf"(?im)(?:{_LINE}({_USER}|{_OTHERS})|(?<![\w-])[*_]{{0,3}}({_USER}|{_USUAL})){_SAYS}{_COLON}")
_USER_LINE = re.compile(rf"(?im){_LINE}(?:{_USER}){_SAYS}{_COLON}(.*)$")
_NAMED = re.compile(
    rf"(?m)(?:{_LINE}([^\W\d_][\w .'-]{{0,40}}?)|(?<=[.!?] )([A-Z][\w'-]{{0,40}})(?=: [\"'“‘])"
    rf"|(?<![\w-])((?i:{_USUAL}))){_SAYS}{_COLON}(?=\s)"
)
_CLOSING = {'"': '"', "'": "'", "“": "”", "‘": "’", "`": "`"}
_PLACEHOLDER = re.compile(r"[\[<{(].*[\]>})]|[.…\s]+", re.DOTALL)


def read_markdown(text: str) -> tuple[dict[str, Any], int] | None:
    """The fields of an agent file and the line that its front matter begins on, from 1; None where it has none.

    Raises:
        YamlError: its front matter never ends.
    """
    lines = text.split("\n")
    start = next((i for i, line in enumerate(lines) if line.strip()), 0)
    if lines[start].rstrip() != "---":
        return None
    end = next((i for i in range(start + 1, len(lines)) if lines[i].rstrip() == "---"), len(lines))
    fields = read_fields("\n".join(lines[start + 1 : end]))
    if not fields:
        return None
    if end == len(lines):
        raise YamlError("the front matter never ends", start + 1)
    name, description, listed = str(fields.get("name")), fields.get("description"), fields.get("examples")
    examples = list[Any]()
    if isinstance(description, str):
        written = _plain(description)
        outside = _BLOCK.sub("\n", written)
        fields["description"] = _TAIL.sub("", " ".join(outside.split())).strip()
        examples = [*_tasks(written, name), *map(_said, _USER_LINE.findall(outside))]
    if isinstance(listed, str):
        examples += list(_tasks(_plain(listed), name)) or listed.split("\n")
    body = "\n".join(lines[end + 1 :])
    examples += _tasks(_plain(body), name)
    fields["body"] = body
    fields["examples"] = [*filter(None, examples), *(listed if isinstance(listed, list) else ())]
    return fields, start + 1


def _plain(text: str) -> str:
    """Without the backslashes of a text that was escaped twice, and without what explains its examples."""
    text = text if "\n" in text else re.sub(r"(?<!\\)\\+n", "\n", text)
    return _COMMENTARY.sub("", re.sub(r'(?<!\\)\\+(["\'])', r"\1", text))


def _tasks(text: str, agent: str) -> Iterator[str]:
    """What people ask for in the example blocks of a text."""
    for block in _BLOCK.findall(text):
        said = [words for who, words in _turns(block, _SPEAKER) if re.fullmatch(_USER, who)]
        if not said:
            others = rf"{_OTHERS}|{re.escape(agent.lower())}"
            named = (words for who, words in _turns(block, _NAMED) if not re.fullmatch(others, who))
            said = [words for words in islice(named, 1) if words.lstrip()[:1] in _CLOSING or "assistant" in block]
        yield from map(_said, said)


def _turns(text: str, speaker: re.Pattern[str]) -> Iterator[tuple[str, str]]:
    """(who, what) of each turn of a dialogue."""
    marks = list(speaker.finditer(text))
    ends = [mark.start() for mark in marks[1:]] + [len(text)]
    for mark, end in zip(marks, ends, strict=False):
        yield mark[mark.lastindex or 0].lower(), text[mark.end() : end]


def _said(text: str) -> str:
    """A turn without its quotes; "" for a placeholder."""
    text = text.strip(" \t\n*")
    if text[:1] in _CLOSING:
        mark = _CLOSING[text[0]]
        closed = re.compile(mark + r"(?=[ \t]*(?:\n|\Z|<|\())").search(text, 1)
        end = closed.start() if closed else text.rfind(mark, 1)
        text = text[1 : end if end > 0 else None]
    else:
        text = text.partition("\n\n")[0]
    text = " ".join(text.split())
    return "" if len(text) < 3 or _PLACEHOLDER.fullmatch(text) else text


_COMMANDS = {"commands", "command", "prompts"}  # folders of them
_STEMS = {".agent": "agent", ".chatmode": "agent", ".prompt": "command", ".instructions": "skill"}  # before .md


def file_name(path: str) -> str:
    """What an agent is called after its file, or after its folder where that is a SKILL.md."""
    folder, _, name = path.replace("\\", "/").rpartition("/")
    stem, folder = name.rpartition(".")[0] or name, folder.rpartition("/")[2]
    if stem.lower() == "skill" and folder:
        return folder
    return next((stem.removesuffix(ending) for ending in _STEMS if stem.endswith(ending)), stem)


def kind_of(path: str) -> str:
    """Which of `catalog.KINDS` a Markdown file is, by its name and its folders."""
    *folders, name = path.replace("\\", "/").lower().split("/")
    stem, _, ending = name.rpartition(".")
    if stem == "skill" or ending == "mdc":
        return "skill"
    named = next((kind for part, kind in _STEMS.items() if stem.endswith(part)), "")
    inner = [folder for folder in folders if folder in _COMMANDS or folder in ("agents", "agent", "skills")]
    return named or ("command" if inner and inner[-1] in _COMMANDS else "agent")


def is_named_by_its_file(path: str) -> bool:
    """Whether a file's format gives it no other name: commands, Cursor's rules, Copilot's and opencode's agents."""
    lower = path.replace("\\", "/").lower()
    stem, _, ending = lower.rpartition(".")
    return ending == "mdc" or kind_of(path) == "command" or "opencode/" in lower or stem.endswith((*_STEMS,))


def command_of(text: str) -> dict[str, Any] | None:
    """A slash command without front matter: its first line says what it is for."""
    lines = [line.strip().lstrip("#").strip() for line in text.split("\n") if line.strip()]
    return {"description": lines[0][:500], "body": text} if lines else None
