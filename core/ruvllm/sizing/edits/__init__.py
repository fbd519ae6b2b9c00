"""Tier 1: a mechanical edit is carried out by a program, where the task has the code with it.

Never a wrong edit is worth more than many edits: whatever is not certain is refused, and goes to a model as before.
Each edit says what it changed, and its result is parsed again and compared with what it was made of.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from ruvllm.reprs import one_line
from ruvllm.sizing.booster import Edit, recognise

__all__ = ["EditedCode", "carry_out", "edit_of"]

_MOST_CODE = 200_000  # characters
_FENCE = re.compile(
    r"^(?P<mark>`{3,}|~{3,})[ \t]*(?P<language>[\w+#.-]*)[^\n`]*\n(?P<code>.*?)^(?P=mark)[ \t]*$", re.M | re.S
)
_ODD = re.compile(r"\r(?!\n)|[\0\f\u2028\u2029\ufeff]")
_PLAIN_RENAME = re.compile(
    r"\b(rename )(?=[\w$]+ (?:to|as|into) )", re.IGNORECASE
)  # whose name the code shows to be one
_ANY_FENCE = re.compile(r"^[ \t]*(?:`{3}|~{3})", re.M)
_PYTHON = frozenset({"py", "python", "python3", "py3"})
_SCRIPT = frozenset({"js", "javascript", "mjs", "cjs", "node", "ts", "typescript", "mts", "cts"})
_WRITTEN_SO = re.compile(
    r"^\s*(?:(?:var|let|const)\s+[\w$]+|(?:async\s+)?function\b|import\b.*['\"]|.*=>|.*;\s*$|//|\}|console\.)", re.M
)
# All that an instruction may say beside the names of a rename: any other word may mean a part of the code, or more.
_WORDS = frozenset(
    re.findall(
        r"\S+",
        "a add ahead all alphabetical alphabetically alphabetise alphabetize an and annotate annotation annotations any "
        "argument at below blank block blocks by call calls can change class classes clean code console console.log "
        "console.log() console.debug console.debug() console.info console.info() const constant convert could current "
        "declaration declarations delete docstring docstrings drop each empty every everywhere file files fill "
        "following for from function functions generate get given go hey hi hint hints identifier import imports in "
        "insert instead into isort it its javascript js just keyword keywords let lets line lines local log logging "
        "logs make me method methods missing module my name named occurrences of ok okay on open order out param "
        "parameter placeholder placeholders please print print() prints property put python quickly remove rename "
        "reorder replace return rid script selected selection simply skeleton skeletons snippet so sort source "
        "statement statements static strip stub stubs swap switch symbol take template templates thank thanks that the "
        "these this those throughout to ts turn type types typescript up update use uses usages var variable "
        "variables vars whole with would write you here as code's create",
    )
)
_FILE = re.compile(r"[\w./-]+\.(?:py|pyi|js|mjs|cjs|ts|mts|cts)")


@dataclass(frozen=True, slots=True)
class EditedCode:
    """What was made of the code in a task.

    Attributes:
        text: the edited code, in a fence where it came in one.
        kind: as in `booster.EDITS`.
        summary: what was changed.
    """

    text: str
    kind: str
    summary: str

    __repr__ = one_line


def carry_out(task: str) -> EditedCode | None:
    """The edited code; None where the task is no such edit or has no code, or where it is not certain to be right."""
    if (":" not in task and "\n" not in task) or len(task) > _MOST_CODE or _ODD.search(task):
        return None
    fenced = list(_FENCE.finditer(task))
    if fenced:
        (found, *more) = fenced
        rest = f"{task[: found.start()]}\n{task[found.end() :]}"
        if more or _ANY_FENCE.search(rest):
            return None
        made = _edited(rest, found["code"], found["language"].lower())
        begin, end = (place - found.start() for place in found.span("code"))
        whole = None if made is None else found[0][:begin] + made[0] + found[0][end:]
    else:
        line, _, after = task.partition("\n")
        head, colon, tail = task.partition(":")
        made = _edited(line, after, "") or (_edited(head, tail.lstrip(" \t").removeprefix("\n"), "") if colon else None)
        whole = None if made is None else made[0]
    return None if made is None or whole is None else EditedCode(whole, made[1], made[2])


def edit_of(task: str) -> str:
    """What a program can do of a task, in words; "" where it takes a model."""
    if recognise(task) is not None:
        return "an edit that a program can do, given the code"
    edited = carry_out(task)
    return "" if edited is None else edited.summary


def _edited(instruction: str, code: str, language: str) -> tuple[str, str, str] | None:
    """(code, kind, summary)."""
    if not code.strip():
        return None
    said = re.sub(r"\b(?:the )?following (?=\w)|\b(?:below|given)\b", "this ", instruction.strip().rstrip(":").strip())
    said = re.sub(r"\bthis +(?=[.!?]?$)|(?<=code) this |(?<=file) this ", "", said).strip()
    edit = recognise(said) or recognise(_PLAIN_RENAME.sub(r"\1variable ", said))
    if edit is None or any(not _plain(word, edit) for word in re.findall(r"[^\s,!?]+", said)):
        return None
    for make in _makers(edit, said.lower(), code, language):
        if (done := make()) is not None:
            return done[0], edit.kind, done[1]
    return None


def _plain(word: str, edit: Edit) -> bool:
    """Whether a word of the instruction means no part of the code."""
    bare = word.strip("`'\".;:")
    return bare.lower() in _WORDS or not bare or bare in edit.arguments.values() or _FILE.fullmatch(bare) is not None


def _makers(edit: Edit, said: str, code: str, language: str) -> list[Callable[[], tuple[str, str] | None]]:
    """What could carry it out, by the language of the code: as its fence says, else as the code looks."""
    looks = bool(_WRITTEN_SO.search(code))
    python = language in _PYTHON or (not language and not looks)
    script = language in _SCRIPT or (not language and looks)
    from ruvllm.sizing.edits import python as py
    from ruvllm.sizing.edits import script as js

    out: list[Callable[[], tuple[str, str] | None]] = []
    debugging = re.search(r"\b(?:debug|debugging)\s", said)  # which ones those are takes judgement
    if edit.kind == "rename":
        old, new = edit.arguments["old"].removesuffix("()"), edit.arguments["new"].removesuffix("()")
        out += [lambda: py.rename(code, old, new)] if python else []
        out += [lambda: js.rename(code, old, new)] if script else []
    elif edit.kind == "imports" and python and re.match(r".*\b(?:sort|order|reorder|alphabeti[sz]e|isort)\b", said):
        out += [lambda: py.sort_imports(code)]
    elif edit.kind == "types" and python:
        out += [lambda: py.add_types(code, "return type" in said)]
    elif edit.kind == "docstring" and python and "jsdoc" not in said and "javadoc" not in said:
        out += [lambda: py.add_docstrings(code)]
    elif edit.kind == "logging" and not debugging:
        name = next((one for one in ("debug", "info") if f"console.{one}" in said), "log")
        if "print" in said and "println" not in said and python:
            out += [lambda: py.remove_prints(code)]
        elif "console" in said and script:
            out += [lambda: js.remove_calls(code, name)]
    elif edit.kind == "const" and script:
        out += [lambda: js.redeclare(code, edit.arguments.get("from", "var"), edit.arguments.get("to", "const"))]
    return out
