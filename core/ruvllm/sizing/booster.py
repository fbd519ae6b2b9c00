"""Edits that need no LLM: which of a few mechanical changes a prompt asks for, if any (FEATURES.md R10).

A wrong yes costs a person a wrong edit, a wrong no a fraction of a cent, so a prompt counts only when all of it is
one instruction of a known shape, with code for its object. Questions, second clauses and anything that takes
judgement go to a model.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import cache

from ruvllm.reprs import one_line

__all__ = ["EDITS", "Edit", "recognise"]

EDITS = ("rename", "types", "const", "logging", "imports", "docstring", "format")
_LONGEST = 240  # characters of an instruction


@dataclass(frozen=True, slots=True)
class Edit:
    """A mechanical edit.

    Attributes:
        kind: one of EDITS.
        target: what is to be edited, as the prompt says it; "" where it is the whole file.
        arguments: "old" and "new" of a rename, "from" and "to" of a declaration.
    """

    kind: str
    target: str = ""
    arguments: dict[str, str] = field(default_factory=dict)

    __repr__ = one_line


_LEAD = re.compile(
    r"^(?:(?:hey|hi|ok|okay|so)[,!]?\s+)?(?:please[,]?\s+)?(?:(?:can|could|would) you\s+(?:please\s+)?)?"
    r"(?:just\s+|quickly\s+|simply\s+|go ahead and\s+)*",
    re.IGNORECASE,
)
_TAIL = re.compile(r"(?:[,\s]+(?:please|thanks|thank you|for me))*[\s.!?]*$", re.IGNORECASE)
# A question, a condition or a second deed: a person wants something thought about.
_THOUGHT = re.compile(
    r"\b(?:why|what|when|how|whether|which|should|explain|difference|discuss|compare|decide|suggest|propose|consider"
    r"|recommend|pros|cons|vs|versus|strategy|design|architect\w*|migrat\w*|refactor\w*|rewrit\w*|redesign\w*|better"
    r"|meaningful\w*|appropriate\w*|sensibl\w*|descriptive|clear\w*|nicer|improv\w*|correct(?:ness)?|if|unless|except"
    r"|but|then|also|so that|because|instead of|where (?:needed|necessary|possible|it makes sense)|as needed"
    r"|do(?: not|n't)|never|without|not|(?<!this )(?<!the )scripts?|tool|plugin|linter rule|codemod"
    r"|function that|program|test|tests"
    r"|deploy\w*|fix|debug(?! prints?| logs?| statements?)|optimi[sz]e\w*|implement\w*|benchmark\w*"
    r"|logger|structured|production|database|table"
    r"|column|migration|schema|endpoint|backwards?|compatib\w*|safely|every(?:thing|where) else)\b",
    re.IGNORECASE,
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


_CODE = re.compile(r"[_$.`()]|[a-z][A-Z]|\d|^[A-Z][a-z]+[A-Z]|^[A-Z_]+$")
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
    if not kinds or _THOUGHT.search(_allowed(text := _TAIL.sub("", text))):
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
    if not said and not (_CODE.search(old) and _CODE.search(new)):
        return None
    arguments = {"old": _bare(old), "new": _bare(new)}
    return Edit("rename", _bare(found["where"] or ""), arguments)


def _edit(kind: str, groups: dict[str, str | None]) -> Edit:
    target = groups.get("target") or groups.get("where") or ""
    arguments = {key: _bare(value) for key in ("from", "to") if (value := groups.get(key))}
    return Edit(kind, _bare(target), arguments)


def _bare(name: str) -> str:
    return name.strip("`'\" ")
