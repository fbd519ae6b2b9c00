"""The YAML above an agent: PyYAML reads it and, where that cannot, its lines are read one by one.

Scalars stay the text that they are (404, 2001-02-31, yes) but for null, aliases are refused, depth is bounded and time
is linear. What PyYAML reads, the lines give too, so far as agents are written that way: without it nothing changes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from textwrap import dedent
from typing import Any

_MAX_DEPTH = 100
_TAGS = "tag:yaml.org,2002:"
_NULL = ("", "~", "null", "Null", "NULL")
_KEY = re.compile(r"""(["']?)([A-Za-z_][\w .-]{0,60}?)\1[ \t]*:(?:[ \t]+(.*)|[ \t]*)$""", re.DOTALL)
_SPOKEN = re.compile(r"[A-Z]|(?:user|human|customer|assistant|agent|context|commentary|example)\Z")
_FIELD = re.compile(r"name|description|category|keywords|examples|tier|model|tools|requires|allowed-tools|color")
_NAME = re.compile(r"[\w:./@-]+")
_COMMENT = re.compile(r"(?:^|(?<=[ \t]))#.*")
_SPACED_COMMENT = re.compile(r"(?:^|(?<=[ \t]))#(?=[ \t]|$).*")
_BLOCK = re.compile(r"([|>])[+-]?([1-9]?)[+-]?(?:[ \t]+#.*)?")
_QUOTED = re.compile(r"""(?:"((?:[^"\\]++|\\.)*+)"|'((?:[^']++|'')*+)')\s*+(?:#.*)?""", re.DOTALL)
_FLOW_ITEM = re.compile(r"""\s*+("(?:[^"\\]++|\\.)*+"\s*+|'(?:[^']++|'')*+'\s*+|[^,]*+)(?:,|\Z)""", re.DOTALL)
_ESCAPE = re.compile(r'\\(?:x([0-9A-Fa-f]{2})|u([0-9A-Fa-f]{4})|U([0-9A-Fa-f]{8})|(["\\/ nrtabefv0N_]))')
_ESCAPED = {"n": "\n", "r": "\r", "t": "\t", "a": "\a", "b": "\b", "e": "\x1b", "f": "\f", "v": "\v", "0": "\0"}
_ESCAPED |= {"N": "\x85", "_": "\xa0"}


class YamlError(ValueError):
    """The text is no YAML that is read here; `line` is where."""

    def __init__(self, why: str, line: int) -> None:
        super().__init__(why)
        self.line = line


def load_yaml(text: str) -> Any:
    """Mappings, lists, texts and None.

    Raises:
        ModuleNotFoundError: PyYAML is not installed.
        YamlError: a fault of syntax, an alias or a tag of its own, more than one document, or nesting past 100.
    """
    import yaml

    open_: list[list[Any]] = [[]]  # of each collection that is not closed yet, what it holds so far
    documents = 0
    try:
        for event in yaml.parse(text, Loader=getattr(yaml, "CBaseLoader", yaml.BaseLoader)):
            line = event.start_mark.line + 1 if event.start_mark else 1
            documents += isinstance(event, yaml.DocumentStartEvent)
            if documents > 1:
                raise YamlError("a second document", line)
            if isinstance(event, yaml.AliasEvent) or not (getattr(event, "tag", None) or _TAGS).startswith(_TAGS):
                raise YamlError("an alias or a tag", line)
            if isinstance(event, yaml.CollectionStartEvent):
                if len(open_) > _MAX_DEPTH:
                    raise YamlError("nested too deeply", line)
                open_.append([])
            elif isinstance(event, yaml.CollectionEndEvent):
                held = open_.pop()
                is_map = isinstance(event, yaml.MappingEndEvent)
                if is_map and not all(isinstance(key, str) for key in held[::2]):
                    raise YamlError("a key that is no text", line)
                open_[-1].append(dict(zip(held[::2], held[1::2], strict=True)) if is_map else held)
            elif isinstance(event, yaml.ScalarEvent):
                open_[-1].append(None if not event.style and event.value in _NULL else event.value)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        raise YamlError(getattr(error, "problem", None) or "a fault of syntax", mark.line + 1 if mark else 1) from None
    return open_[0][0] if open_[0] else None


def read_fields(text: str) -> dict[str, Any]:
    """Key, in lower case, to text, list, mapping or None; {} where the text has no keys."""
    try:
        found = load_yaml(text)
    except (ModuleNotFoundError, YamlError):
        return _by_lines(text)
    if not isinstance(found, Mapping) or not all(
        _is_key(f"{key}: {value}", "description") for key, value in found.items()
    ):
        return _by_lines(text)
    return {key.lower(): value for key, value in found.items()}


def _is_key(line: str, after: str, within: bool = False) -> re.Match[str] | None:
    """The match of a line that begins with a key.

    Args:
        after: the key before; a description whose lines are not indented has such as `user:` and `Note:` in it.
        within: an example has been opened there, whose speakers may have any name.
    """
    match = _KEY.match(line)
    if match is None or _FIELD.fullmatch(match[2].lower()):
        return match
    if match[2] == "agent" and _NAME.fullmatch((match[3] or "").strip()):
        return match  # who carries out a command of opencode's
    spoken = within or (after == "description" and _SPOKEN.match(match[2]))
    return None if spoken else match


def _by_lines(text: str) -> dict[str, Any]:
    """Forgiving where YAML is not: a bare colon or quote in a text, text that is not indented."""
    fields: dict[str, list[str]] = {}
    key, examples = "", 0
    for line in dedent(text).split("\n"):
        match = _is_key(line, key, examples > 0)
        if match:
            key, examples = match[2].lower(), 0
            fields[key] = [match[3] or ""]
        elif key:
            fields[key].append(line)
        lower = line.lower()
        examples += lower.count("<example>") - lower.count("</example>")
    return {key: _value(lines[0].strip(), lines[1:]) for key, lines in fields.items()}


def _value(first: str, rest: Sequence[str]) -> Any:
    block = _BLOCK.fullmatch(first)
    if block:
        return _block(block[1], int(block[2] or 0), rest)
    if first[:1] in ("'", '"'):
        return _quoted(_folded([first, *rest]))
    lines = [_uncommented(line) for line in (first, *rest)]
    while lines and not lines[-1]:
        lines.pop()
    content = [line for line in lines if line.strip()]
    if content and content[0].lstrip()[:1] in ("[", "{"):
        return _flow(" ".join(content).strip())
    if content and not lines[0]:
        if re.match(r"\s*-(?:\s|$)", content[0]):
            return _list(content)
        if content[0][0].isspace() and _KEY.match(content[0].strip()):
            return _pairs(line.strip() for line in content)
    if all(line[0].isspace() for line in content[bool(lines and lines[0]) :]):
        return _plain(_folded(lines))
    return "\n".join(lines).strip()


def _uncommented(line: str) -> str:
    """Without its comment; where a colon has kept YAML from reading it, `#12` is none."""
    short = _COMMENT.sub("", line).rstrip()
    return _SPACED_COMMENT.sub("", line).rstrip() if re.search(r":(?:\s|$)", short) else short


def _plain(text: str) -> str | None:
    return None if text in _NULL else text


def _folded(lines: Sequence[str]) -> str:
    """As YAML joins lines: with a space, or with as many line ends as there are empty lines between."""
    out, blank = list[str](), 0
    for line in map(str.strip, lines):
        if not line:
            blank += 1
            continue
        if out and not (out[-1].endswith("\\") and out[0][0] == '"'):
            out.append("\n" * blank or " ")
        elif out:
            out[-1] = out[-1][:-1]  # a double-quoted text goes on without a space after a backslash
        out.append(line)
        blank = 0
    return "".join(out)


def _quoted(text: str) -> str:
    match = _QUOTED.fullmatch(text)
    mark = text[0]
    if match is None:
        uncommented = _COMMENT.sub("", text.replace("\n", " ")).rstrip()
        if len(uncommented) < 2 or uncommented[-1] != mark:
            return text
        inner = uncommented[1:-1]
    else:
        inner = match[1] if match[1] is not None else match[2]
    return inner.replace("''", "'") if mark == "'" else _ESCAPE.sub(_unescaped, inner)


def _unescaped(match: re.Match[str]) -> str:
    code = next((int(digits, 16) for digits in match.groups()[:3] if digits), None)
    if code is None:
        return _ESCAPED.get(match[4], match[4])
    return chr(code) if code < 0x110000 and not 0xD800 <= code < 0xE000 else "\ufffd"


def _scalar(text: str) -> Any:
    text = text.strip()
    if text[:1] in ("'", '"') and _QUOTED.fullmatch(text):
        return _quoted(text)
    pair = _KEY.match(text)
    return {pair[2]: _scalar(pair[3] or "")} if pair else _plain(text)


def _pairs(items: Any) -> dict[str, Any]:
    found = (_KEY.match(item) for item in items)
    return {match[2]: _scalar(match[3] or "") for match in found if match}


def _flow(text: str) -> Any:
    """`[a, "b, c"]` and `{a: true}`; as text where it does not end so."""
    if text[-1] != ("]" if text[0] == "[" else "}") or len(text) < 2:
        return text
    items = [match[1].strip() for match in _FLOW_ITEM.finditer(text[1:-1]) if match[1]]
    return [_scalar(item) for item in items] if text[0] == "[" else _pairs(items)


def _list(lines: Sequence[str]) -> list[Any]:
    items = list[list[str]]()
    for line in map(str.strip, lines):
        if line == "-" or line.startswith(("- ", "-\t")):
            items.append([line[1:]])
        else:
            items[-1].append(line)
    return [_scalar(" ".join(item)) for item in items]


def _block(style: str, indent: int, lines: Sequence[str]) -> str:
    """A literal or folded text, without the line ends that follow it."""
    written = next((line for line in lines if line.strip()), "")
    indent = indent or len(written) - len(written.lstrip(" "))
    remaining = [line for line in lines if not (indent and line.startswith("#"))]
    cut = [line[indent:] if not line[:indent].strip() else line.lstrip() for line in remaining]
    if style == "|":
        return "\n".join(cut).strip("\n")
    out, blank, before = list[str](), 0, ""
    for line in cut:
        if not line.strip():
            blank += 1
            continue
        if before:
            deeper = before[0].isspace() or line[0].isspace()
            out.append("\n" * (blank + deeper) or " ")
        out.append(line)
        before, blank = line, 0
    return "".join(out)
