"""Tier 1: a mechanical edit is recognised, and carried out by a program where the task has the code with it.

A prompt counts only when all of it is one instruction of a known shape, with code for its object (FEATURES.md R10):
questions, second clauses and anything that takes judgement go to a model. Never a wrong edit is worth more than many
edits: whatever is not certain is refused. Each edit says what it changed, and its result is read once more.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import field
from functools import cache

from ruvllm.lazy_dataclass import dataclass
from ruvllm.reprs import Shown

__all__ = ["EDITS", "Edit", "EditedCode", "carry_out", "edit_of", "recognise"]

EDITS = ("rename", "types", "const", "logging", "imports", "docstring", "format")
_LONGEST = 240  # characters of an instruction


@dataclass(frozen=True, slots=True, repr=False)
class Edit(Shown):
    """A mechanical edit.

    Attributes:
        kind: one of EDITS.
        target: what is to be edited, as the prompt says it; "" where it is the whole file.
        arguments: "old" and "new" of a rename, "from" and "to" of a declaration.
    """

    kind: str
    target: str = ""
    arguments: dict[str, str] = field(default_factory=dict)


_LEAD = re.compile(
    r"^(?:(?:hey|hi|ok|okay|so)[,!]?\s+)?(?:please[,]?\s+)?(?:(?:can|could|would) you\s+(?:please\s+)?)?"
    r"(?:just\s+|quickly\s+|simply\s+|go ahead and\s+)*",
    re.IGNORECASE,
)
_TAIL = r"(?i)(?:[,\s]+(?:please|thanks|thank you|for me))*[\s.!?]*$"
# A question, a condition or a second deed: a person wants something thought about.
_THOUGHT = (
    r"(?i)\b(?:why|what|when|how|whether|which|should|explain|difference|discuss|compare|decide|suggest|propose|consider"
    r"|recommend|pros|cons|vs|versus|strategy|design|architect\w*|migrat\w*|refactor\w*|rewrit\w*|redesign\w*|better"
    r"|meaningful\w*|appropriate\w*|sensibl\w*|descriptive|clear\w*|nicer|improv\w*|correct(?:ness)?|if|unless|except"
    r"|but|then|also|so that|because|instead of|where (?:needed|necessary|possible|it makes sense)|as needed"
    r"|do(?: not|n't)|never|without|not|(?<!this )(?<!the )scripts?|tool|plugin|linter rule|codemod"
    r"|function that|program|test|tests"
    r"|deploy\w*|fix|debug(?! prints?| logs?| statements?)|optimi[sz]e\w*|implement\w*|benchmark\w*"
    r"|logger|structured|production|database|table"
    r"|column|migration|schema|endpoint|backwards?|compatib\w*|safely|every(?:thing|where) else)\b"
)
_NAME = r"[`'\"]?[A-Za-z_$][\w$.]*(?:\(\))?[`'\"]?"
_FILE = (
    r"[`'\"]?[\w./-]*\w\.(?:py|pyi|js|jsx|ts|tsx|mjs|cjs|go|rs|java|kt|rb|php|c|h|cc|cpp|cs|swift|json"
    r"|ya?ml|toml|css|html|md)[`'\"]?"
)
_THING = (
    r"(?:variable|var|function|method|class|parameter|param|argument|arg|constant|field|attribute"
    r"|property|prop|local|import|symbol|identifier|file|module|interface|enum|type|struct|component|hook"
    r"|fn)"
)
_SCOPE = (
    r"(?:this|the|that|my|our|each|every|all|all the|all of the|these|those|current|open)\s+"
    r"(?:current |open |whole |selected |python |typescript |javascript |js |ts |go |rust )*"
    r"(?:files?|modules?|functions?|methods?|class(?:es)?|code|block|snippet|selection|buffer|folder|directory"
    r"|package|project|codebase|repo|components?|lines?|scripts?|source(?: code| files?)?)"
)
# Where an edit happens: files, named things, or what is open; nothing looser.
_OBJECT = (
    rf"(?:{_FILE}|{_SCOPE}|(?:the\s+|my\s+|this\s+)?(?:{_THING}\s+)?`[^`]+`|(?:the\s+)?(?:{_THING}"
    rf"|script)\s+{_NAME}|(?:the\s+)?{_NAME}\s+(?:{_THING}|file|module)|[A-Za-z_$][\w$]*\(\)|\w+_\w+"
    rf"|[a-z]+[A-Z]\w*|here|it)"
)
_WHERE = (
    rf"(?:\s*(?:in|inside|within|from|across|throughout|of|to|for|at the top of|on"
    rf"|at)\s+(?P<where>{_OBJECT})(?:\s*(?:,|and)\s*{_OBJECT})*)"
)
_PLACES = rf"(?:{_WHERE}){{0,2}}"
_HOW = (
    r"(?:\s+(?:alphabetically|everywhere|throughout|with (?:prettier|black|ruff|gofmt|rustfmt|isort"
    r"|clang-format|eslint)|using (?:prettier|black|ruff|gofmt|rustfmt|isort|clang-format)"
    r"|in alphabetical order|according to (?:pep ?8|black|prettier)|to (?:pep ?8|prettier"
    r"|black)(?: style)?))?"
)


# A text that begins otherwise has no shape of the kind.
_BEGINNINGS = {
    "rename": ("rename", "change"),
    "types": ("add", "insert", "put", "write", "fill", "annotate", "type"),
    "const": ("change", "convert", "replace", "turn", "switch", "make", "swap", "update", "var", "use"),
    "logging": ("remove", "delete", "strip", "drop", "clean", "get", "take"),
    "imports": ("sort", "order", "reorder", "alphabeti", "organi", "isort", "remove", "delete", "drop", "strip"),
    "docstring": ("add", "insert", "generate", "create", "put", "write"),
    "format": (
        *("format", "reformat", "indent", "reindent", "run", "apply", "fix", "correct", "normali"),
        *("remove", "strip", "delete", "trim", "convert"),
    ),
}
_EVERY_BEGINNING = tuple({beginning for some in _BEGINNINGS.values() for beginning in some})
# One of these is in every text of the kind: most have none, and need no regular expression.
_OBJECTS = {
    "rename": (" to ", " into ", " as ", "->", "=>", "→"),
    "types": ("type", "annotat"),
    "const": ("const", "let"),
    "logging": ("console", "print", "debugger"),
    "imports": ("import",),
    "docstring": ("docstring", "jsdoc", "javadoc", "doc comment"),
    "format": ("format", "indent", "prettier", "black", "ruff", "rustfmt", "isort", "spaces", "white"),
}
_SHAPES = {
    "rename": (
        rf"(?:rename|change the name of)\s+(?:all\s+|the\s+|every\s+|this\s+|my\s+|occurrences of\s+"
        rf"|uses of\s+)*(?P<thing>{_THING}\s+(?:called\s+|named\s+)?)?"
        rf"(?P<old>{_NAME}|{_FILE})(?P<after>\s+{_THING})?\s+(?:to|into|as|->|=>|→)\s+(?P<new>{_NAME}"
        rf"|{_FILE}){_PLACES}{_HOW}",
    ),
    "types": (
        rf"(?:add|insert|put in|write|fill in)\s+(?:the\s+|missing\s+|python\s+|static\s+)*type"
        rf"(?:\s+(?:hints?|annotations?)|s)(?:\s+and return types?)?{_PLACES}",
        rf"(?:add|insert)\s+(?:the\s+|a\s+|missing\s+)*return types?(?:\s+(?:hints?|annotations?))?{_PLACES}",
        rf"(?:annotate|type[- ]annotate|type[- ]hint)\s+(?P<target>{_OBJECT})(?:\s+with\s+types?(?:\s+hints?)?)?",
    ),
    "const": (
        rf"(?:change|convert|replace|turn|switch|make|swap|update)\s+(?:all\s+|every\s+|each\s+|the\s+|any\s+)*"
        rf"(?P<from>[`'\"]?(?:var|let)[`'\"]?)s?(?:\s+(?:declarations?|keywords?|statements?|variables?))?\s+"
        rf"(?:to|into|with|by|for)\s+(?P<to>[`'\"]?(?:const|let)[`'\"]?)s?(?:\s+declarations?)?{_PLACES}{_HOW}",
        rf"(?P<from>var)\s*(?:to|->|=>|→)\s*(?P<to>const|let){_PLACES}",
        rf"use\s+(?P<to>const|let)\s+instead\s+of\s+(?P<from>var|let){_PLACES}",
    ),
    "logging": (
        rf"(?:remove|delete|strip(?: out)?|drop|clean(?: up| out)?|get rid of"
        rf"|take out)\s+(?:all\s+|every\s+|the\s+|any\s+"
        rf"|these\s+|of\s+|leftover\s+|stray\s+|remaining\s+"
        rf"|debug(?:ging)?\s+)*[`'\"]?(?:console\.(?:log|debug|info)(?:\(\))?"
        rf"|console logs?|console logging|print(?:\(\))?|debug prints?|println!?|debugger)[`'\"]?s?"
        rf"(?:\s*(?:statements?|calls?|lines?|logs?|logging))?{_PLACES}",
    ),
    "imports": (
        rf"(?:sort|order|reorder|alphabeti[sz]e|organi[sz]e|isort)\s+(?:all\s+|the\s+|my\s+|these\s+|python\s+)*"
        rf"(?:imports?|import statements?|import lines?|import block){_HOW}{_PLACES}{_HOW}",
        rf"(?:remove|delete|drop|strip)\s+(?:all\s+|the\s+|any\s+)*(?:unused|duplicate)\s+imports?{_PLACES}",
    ),
    "docstring": (
        rf"(?:add|insert|generate|create|put|write)\s+(?:an?\s+|the\s+|empty\s+|blank\s+|missing\s+|stub\s+"
        rf"|placeholder\s+)*(?:(?:docstring|jsdoc|javadoc|doc comment)s?\s+(?:skeletons?|stubs?"
        rf"|templates?|placeholders?)"
        rf"|(?:skeleton|stub|template|placeholder|empty|blank)\s+(?:docstring|jsdoc|javadoc"
        rf"|doc comment)s?){_PLACES}",
        rf"(?:add|insert|put)\s+(?:an?\s+|the\s+)*(?:empty|blank|stub|placeholder"
        rf"|skeleton)\s+(?:docstring|jsdoc|javadoc|doc comment)s?{_PLACES}",
    ),
    "format": (
        rf"(?:re)?(?:format|indent)\s+(?P<target>{_OBJECT}){_HOW}",
        rf"(?:re)?format\s+(?:the\s+|my\s+|all\s+|this\s+)*(?:python |json |js |ts |typescript "
        rf"|javascript |go |rust )?"
        rf"(?:code|source|files?|json|yaml){_PLACES}{_HOW}",
        rf"(?:run|apply)\s+(?:the\s+)?(?:prettier|black|ruff format|gofmt|rustfmt|clang-format|isort|code formatter"
        rf"|formatter)(?:\s+(?:on|over|to|across)\s+{_OBJECT})?",
        rf"(?:fix|correct|normali[sz]e)\s+(?:the\s+)?indentation{_PLACES}",
        rf"(?:remove|strip|delete|trim)\s+(?:all\s+|the\s+|any\s+)*trailing\s+(?:white ?space|spaces){_PLACES}",
        rf"convert\s+(?:all\s+|the\s+)*tabs\s+(?:to|into)\s+(?:\w+\s+)?spaces{_PLACES}",
    ),
}


@cache
def _shapes(kind: str) -> list[re.Pattern[str]]:
    """Compiled when a text first begins like one: all of them take a quarter of the time to start a process."""
    return [re.compile(rf"^(?:{pattern})$", re.IGNORECASE) for pattern in _SHAPES[kind]]


_CODE = r"[_$.`()]|[a-z][A-Z]|\d|^[A-Z][a-z]+[A-Z]|^[A-Z_]+$"
_FIXING = re.compile(r"^(?:fix|correct|normali[sz]e)\s+(?:the\s+)?indentation\b", re.IGNORECASE)
_INSTEAD = re.compile(r"^use (?:const|let) instead of (?:var|let)\b", re.IGNORECASE)


def recognise(prompt: str) -> Edit | None:
    """The edit that a program can make of a prompt; None when it takes a model."""
    text = " ".join(prompt[: _LONGEST + 1].split())
    if not text or len(text) > _LONGEST:
        return None
    text = text[_LEAD.match(text).end() :]  # type: ignore[union-attr]
    low = text.lower()
    if not low.startswith(_EVERY_BEGINNING):
        return None
    kinds = [
        kind
        for kind, beginnings in _BEGINNINGS.items()
        if low.startswith(beginnings) and any(word in low for word in _OBJECTS[kind])
    ]
    if not kinds or re.search(_THOUGHT, _allowed(text := re.sub(_TAIL, "", text))):
        return None
    for kind in kinds:
        for shape in _shapes(kind):
            found = shape.match(text)
            if found is not None:
                return _rename(found) if kind == "rename" else _edit(kind, found.groupdict())
    return None


def _allowed(text: str) -> str:
    """Without the words that mean no thought where they stand: names in quotes and after "rename"."""
    bare = _INSTEAD.sub("", _FIXING.sub("", text))
    return re.sub(rf"`[^`]*`|{_FILE}|\b\w+_\w+\b|\b[a-z]+[A-Z]\w*", "", bare)


def _rename(found: re.Match[str]) -> Edit | None:
    """Of something in code: said to be so, or spelt so on both sides."""
    old, new = found["old"], found["new"]
    said = bool(found["thing"] or found["after"])
    if not said and not (re.search(_CODE, old) and re.search(_CODE, new)):
        return None
    arguments = {"old": _bare(old), "new": _bare(new)}
    return Edit("rename", _bare(found["where"] or ""), arguments)


def _edit(kind: str, groups: dict[str, str | None]) -> Edit:
    target = groups.get("target") or groups.get("where") or ""
    arguments = {key: _bare(value) for key in ("from", "to") if (value := groups.get(key))}
    return Edit(kind, _bare(target), arguments)


def _bare(name: str) -> str:
    return name.strip("`'\" ")


_MOST_CODE = 50_000  # characters
_FENCE = r"(?ms)^(?P<mark>`{3,}|~{3,})[ \t]*(?P<language>[\w+#.-]*)[^\n`]*\n(?P<code>.*?)^(?P=mark)[ \t]*$"
_ODD = r"\r(?!\n)|[\0\f\u2028\u2029\ufeff]"
_PLAIN_RENAME = r"(?i)\b(rename )(?=[\w$]+ (?:to|as|into) )"  # whose name the code shows to be one
_ANY_FENCE = r"(?m)^[ \t]*(?:`{3}|~{3})"
_PYTHON = frozenset({"py", "python", "python3", "py3"})
_SCRIPT = frozenset({"js", "javascript", "mjs", "cjs", "node", "ts", "typescript", "mts", "cts"})
_WRITTEN_SO = (
    r"(?m)^\s*(?:(?:var|let|const)\s+[\w$]+|(?:async\s+)?function\b|import\b.*['\"]|.*=>|.*;\s*$|//|\}|console\.)"
)
# All that an instruction may say beside the names of a rename: any other word may mean a part of the code, or more.
_WORDS = frozenset(
    re.findall(
        r"\S+",
        "-> a add ahead all alphabetical alphabetically alphabetise alphabetize an and annotate annotation "
        "annotations any argument as at below blank block blocks by call calls can change class classes clean "
        "code code's console console.debug console.debug() console.info console.info() console.log "
        "console.log() console.logs const constant convert could create current declaration declarations "
        "delete docstring docstrings drop each empty every everywhere file files fill following for from "
        "function functions generate get given go here hey hi hint hints identifier import imports in insert "
        "instead into isort it its javascript js just keyword keywords leftover let lets line lines local log "
        "logging logs make me method methods missing module my name named occurrences of ok okay on open "
        "order out param parameter placeholder placeholders please print print() prints property put python "
        "quickly remove rename reorder replace return rid script selected selection simply skeleton skeletons "
        "snippet so sort source statement statements static stray strip stub stubs swap switch symbol take "
        "template templates thank thanks that the these this those throughout to ts turn type types "
        "typescript up update usages use uses var variable variables vars whole with would write you",
    )
)
_FILE_NAME = r"[\w./-]+\.(?:py|pyi|js|mjs|cjs|ts|mts|cts)"


@dataclass(frozen=True, slots=True, repr=False)
class EditedCode(Shown):
    """What was made of the code in a task.

    Attributes:
        text: the edited code, in a fence where it came in one.
    """

    text: str
    kind: str
    summary: str


def carry_out(task: str) -> EditedCode | None:
    """The edited code; None where the task is no such edit or has no code, or where it is not certain to be right."""
    if (":" not in task and "\n" not in task) or len(task) > _MOST_CODE or re.search(_ODD, task):
        return None
    fenced = list(re.finditer(_FENCE, task))
    if fenced:
        (found, *more) = fenced
        rest = f"{task[: found.start()]}\n{task[found.end() :]}"
        if more or re.search(_ANY_FENCE, rest):
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
    edit = recognise(said) or recognise(re.sub(_PLAIN_RENAME, r"\1variable ", said))
    if edit is None or any(not _plain(word, edit) for word in re.findall(r"[^\s,!?]+", said)):
        return None
    for make in _makers(edit, said.lower(), code, language):
        if (done := make()) is not None:
            return done[0], edit.kind, done[1]
    return None


def _plain(word: str, edit: Edit) -> bool:
    """Whether a word of the instruction means no part of the code."""
    bare = word.strip("`'\".;:")
    return (
        bare.lower() in _WORDS
        or not bare
        or bare in edit.arguments.values()
        or re.fullmatch(_FILE_NAME, bare) is not None
    )


def _makers(edit: Edit, said: str, code: str, language: str) -> list[Callable[[], tuple[str, str] | None]]:
    """What could carry it out, by the language of the code: as its fence says, else as the code looks."""
    looks = bool(re.search(_WRITTEN_SO, code))
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
