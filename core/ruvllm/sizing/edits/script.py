"""Edits of JavaScript and plain TypeScript by tokens: strings, templates, comments and regular expressions are read.

There is no parser here, so every rule errs on the side of refusing: JSX, `eval`, `with`, a slash that may begin a
regular expression or divide, and names that may mean two things all leave the code to a model.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass

Done = tuple[str, str] | None
_NAME = re.compile(r"[A-Za-z_$\u0080-\uffff][\w$\u0080-\uffff]*")
_NUMBER = re.compile(r"0[xXbBoO][\da-fA-F_]+n?|(?:\d[\d_]*\.?[\d_]*|\.\d[\d_]*)(?:[eE][+-]?\d+)?n?")
_PUNCT = re.compile(
    r">>>=|\.\.\.|===|!==|\*\*=|<<=|>>=|>>>|&&=|\|\|=|\?\?=|=>|==|!=|<=|>=|&&|\|\||\?\?|\?\.(?!\d)|\+\+|--|\+=|-="
    r"|\*=|/=|%=|&=|\|=|\^=|<<|>>|\*\*|[{}()\[\];,<>+\-*/%&|^!~?:=.@#]"
)
_REGEX = re.compile(r"/(?![*/])(?:\\.|\[(?:\\.|[^\]\\\n])*\]|[^/\\\[\n])+/[A-Za-z]*")
_SPACE = re.compile(r"(?:[^\S\n]|\n|//[^\n]*|/\*.*?\*/)+", re.S)
_STRING = re.compile(r"'(?:\\.|\\\n|[^'\\\n])*'|\"(?:\\.|\\\n|[^\"\\\n])*\"")
_CHUNK = re.compile(r"(?:\\.|\$(?!\{)|[^`\\$])*", re.S)


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_CONTROL = _words("if for while with switch catch")
_BEFORE_VALUE = _words("return typeof case in delete void throw new else do instanceof default")
_UNCLEAR = _words("of await yield let async get set static")  # of what follows, whether it begins a value
_ASSIGNS = _words("= += -= *= /= %= **= <<= >>= >>>= &= |= ^= &&= ||= ??= ++ --")
_GOES_ON = _ASSIGNS | _words("( [ ` + - * / % , . ?. < > ? : & | ^ && || ?? == != === !== <= >= ** => instanceof in")
_WANTS_MORE = _GOES_ON | _BEFORE_VALUE | _UNCLEAR | _words("! ~ ... function class")
_RESERVED = _words(
    "break case catch class const continue debugger default delete do else enum export extends false finally for "
    "function if import in instanceof new null return super switch this throw true try typeof var void while with "
    "yield let static await async of get set arguments eval undefined NaN Infinity implements interface package "
    "private protected public"
)
_GLOBALS = _words("window globalThis self this global")
_DECLARES = _words("var let const function class import * as")
_HARMLESS = _words("stringify toString toFixed toISOString join trim keys values entries String Number Boolean")


_DEEPEST = 100  # brackets within each other


class _Unsure(Exception):  # noqa: N818 - no error: a model shall do it
    pass


@dataclass(slots=True)
class _Token:
    kind: str  # "name", "value" or "punct"
    text: str
    start: int
    end: int
    fresh: bool  # first on its line
    match: int = -1  # the other bracket
    inside: int = -1  # the innermost bracket around it


class _Script:
    """Its tokens with their brackets. Raises _Unsure: it cannot be read for certain."""

    def __init__(self, text: str) -> None:
        self.text, self.tokens, self.open = text, list[_Token](), list[int]()
        self._read()
        self.places: dict[str, list[int]] = {}  # of each name
        self._facts: dict[str, tuple[list[int], bool, bool]] = {}
        for place, one in enumerate(self.tokens):
            if one.kind == "name":
                self.places.setdefault(one.text, []).append(place)
        if self.open or "eval" in self.places or "with" in self.places:
            raise _Unsure
        heads = self.places.get("function", [])
        named = {self.tokens[j].text for i in heads for j in (i + 1, i + 2) if j < len(self.tokens)}
        self.first_call = min((self.places[name][0] for name in named if name in self.places), default=len(self.tokens))

    def _read(self) -> None:
        at, fresh = 0, True
        while at < len(self.text):
            if (space := _SPACE.match(self.text, at)) is not None:
                fresh, at = fresh or "\n" in space[0], space.end()
                continue
            at, fresh = self._token(at, fresh), False

    def _token(self, at: int, fresh: bool) -> int:
        text, char = self.text, self.text[at]
        value = self._begins_value()
        if char == "`" or (char == "}" and self.open and self.tokens[self.open[-1]].text == "${"):
            return self._template(at, fresh, char)
        if char in "'\"" and (found := _STRING.match(text, at)):
            return self._add("value", found[0], at, fresh)
        if (char.isdigit() or re.match(r"\.\d", text[at : at + 2])) and (found := _NUMBER.match(text, at)):
            return self._add("value", found[0], at, fresh)
        if (found := _NAME.match(text, at)) is not None:
            return self._add("name", found[0], at, fresh)
        if char == "/" and value is not False:
            found = _REGEX.match(text, at)
            if value is None or found is None:
                raise _Unsure
            return self._add("value", found[0], at, fresh)
        found = _PUNCT.match(text, at)
        if found is None or (char in "<@" and value is not False) or text.startswith(("<!--", "-->", "</"), at):
            raise _Unsure
        end = self._add("punct", found[0], at, fresh)
        self._bracket(found[0])
        return end

    def _add(self, kind: str, text: str, at: int, fresh: bool) -> int:
        self.tokens.append(_Token(kind, text, at, at + len(text), fresh, inside=self.open[-1] if self.open else -1))
        return at + len(text)

    def _bracket(self, text: str) -> None:
        here = len(self.tokens) - 1
        if text in ("(", "[", "{", "${"):
            self.open.append(here)
            if len(self.open) > _DEEPEST:
                raise _Unsure
        elif text in (")", "]", "}"):
            if not self.open or (begun := self.tokens[self.open[-1]]).text[-1] + text not in ("()", "[]", "{}"):
                raise _Unsure
            begun.match, self.tokens[here].match = here, self.open.pop()
            self.tokens[here].inside = begun.inside

    def _template(self, at: int, fresh: bool, char: str) -> int:
        """A chunk of a template: from its mark, or from the end of what was put in, to the next of either."""
        if char == "}":
            self._add("punct", "}", at, fresh)
            self._bracket("}")
        found = _CHUNK.match(self.text, at + 1)
        end = at + 1 if found is None else found.end()
        if self.text.startswith("${", end):
            self._add("value", self.text[at + (char == "}") : end], at + (char == "}"), False)
            self._add("punct", "${", end, False)
            self._bracket("${")
            return end + 2
        if not self.text.startswith("`", end):
            raise _Unsure
        return self._add("value", self.text[at + (char == "}") : end + 1], at + (char == "}"), fresh and char == "`")

    def _begins_value(self) -> bool | None:
        """Whether what comes next begins a value; None where that cannot be said."""
        if not self.tokens:
            return True
        last = self.tokens[-1]
        if last.kind == "value":
            return False
        if last.kind == "name":
            if len(self.tokens) > 1 and self.tokens[-2].text in (".", "?."):
                return False
            return None if last.text in _UNCLEAR else last.text in _BEFORE_VALUE
        if last.text == ")":
            return self.before(last.match) in _CONTROL
        return None if last.text in ("}", "++", "--") else last.text != "]"

    def before(self, place: int) -> str:
        return self.tokens[place - 1].text if place > 0 else ""

    def after(self, place: int) -> str:
        return self.tokens[place + 1].text if place + 1 < len(self.tokens) else ""

    def uses(self, name: str) -> list[int]:
        """Where a name is one, and no property."""
        return [place for place in self.places.get(name, ()) if not self._property(place)]

    def facts(self, name: str) -> tuple[list[int], bool, bool]:
        """(uses, whether it is declared once and no property of a global object, whether it is ever assigned)."""
        if name not in self._facts:
            uses = self.uses(name)
            declared = sum(self.before(i) in _DECLARES for i in uses)
            ways = (self.before(i) in (".", "?.") and self.tokens[i - 2].text in _GLOBALS for i in self.places[name])
            first = next(i for i in uses if self.before(i) in (*_DECLARES, ","))
            assigned = any(_assigned(self, i) for i in uses if i != first)
            self._facts[name] = uses, declared <= 1 and not any(ways), assigned
        return self._facts[name]

    def _property(self, place: int) -> bool:
        return self.before(place) in (".", "?.", "#")

    def begins_statement(self, place: int) -> bool:
        """Whether it does for certain, in a block of statements."""
        one, last = self.tokens[place], self.before(place)
        if last in ("", ";", "{", "}"):
            return last != "{" or self.kind(place - 1) in ("block", "loop", "function")
        if not one.fresh or last in _WANTS_MORE:
            return False
        return last != ")" or self.before(self.tokens[place - 1].match) not in _CONTROL

    def kind(self, place: int) -> str:
        """What a brace opens: "loop", "function", "switch", "block" or, where that is uncertain, "other"."""
        last = self.before(place)
        if place < 0 or last in (";", "}", "{", "else", "try", "finally", ""):
            return "block"
        if last == "do":
            return "loop"
        if last == "=>":
            return "function"
        if last != ")":
            return "other"
        head = self.tokens[place - 1].match
        word = self.before(head)
        if word in ("for", "while") or (word == "await" and self.before(head - 1) == "for"):
            return "loop"
        if word in ("if", "catch"):
            return "block"
        return "switch" if word == "switch" else "function"

    def around(self, place: int) -> Iterator[int]:
        """The brackets around a place, the innermost first, and -1 for the whole."""
        here = self.tokens[place].inside
        while here >= 0:
            yield here
            here = self.tokens[here].inside
        yield -1

    def end_of(self, bracket: int) -> int:
        return len(self.tokens) if bracket < 0 else self.tokens[bracket].match

    def binds(self, place: int) -> bool:
        """Whether it may be in a pattern, as in [a, name] = …, or among parameters or their defaults."""
        for bracket in self.around(place):
            after = self.after(self.end_of(bracket))
            if bracket >= 0 and after in ("=", "=>", "of", "in") and not self._indexes(bracket):
                return True
            head = (
                bracket >= 0 and self.tokens[bracket].text == "(" and self.before(bracket) not in _CONTROL - {"catch"}
            )
            if head and after in ("{", ":"):
                return True
        return False

    def _indexes(self, bracket: int) -> bool:
        """Whether a bracket puts something into a template, or takes it from what is before."""
        last = self.tokens[bracket - 1] if bracket else None
        if self.tokens[bracket].text != "[" or last is None:
            return self.tokens[bracket].text == "${"
        named = last.kind == "name" and last.text not in _BEFORE_VALUE | _UNCLEAR | _DECLARES
        return named or last.kind == "value" or last.text in (")", "]")

    def edited(self, changes: list[tuple[int, int, str]]) -> str:
        out, since = "", 0
        for start, end, new in sorted(changes):
            out, since = out + self.text[since:start] + new, end
        return out + self.text[since:]


def _read(text: str) -> _Script | None:
    try:
        return _Script(text)
    except (_Unsure, IndexError):
        return None


def redeclare(text: str, old: str, new: str) -> Done:
    """`var` or `let` as `const` or `let`, where no name of the declaration could tell the difference."""
    script = _read(text)
    if script is None or (old, new) not in (("var", "const"), ("var", "let"), ("let", "const")):
        return None
    places = [i for i in script.uses(old) if script.begins_statement(i) and script.after(i) not in ("=", "")]
    fit = [i for i in places if all(_fits(script, i, old, new, *one) for one in _declared(script, i))]
    if not fit:
        return None
    left = len(script.uses(old)) - len(fit)
    made = script.edited([(script.tokens[i].start, script.tokens[i].end, new) for i in fit])
    return made, f"{len(fit)} {old} made {new}" + (f", {left} left that may be another thing then" if left else "")


def _declared(script: _Script, place: int) -> list[tuple[int, int]]:
    """(name, end) of each declarator, as token numbers; one of (-1, -1) where they are not plain names with values."""
    tokens, here, found = script.tokens, place + 1, list[tuple[int, int]]()
    while True:
        name = here
        if (
            here + 1 >= len(tokens)
            or tokens[here].kind != "name"
            or tokens[here].text in _RESERVED
            or tokens[here + 1].text != "="
        ):
            return [(-1, -1)]
        here += 2
        begun = here
        while here < len(tokens) and tokens[here].text not in (",", ";", "}", ")", "]"):
            one = tokens[here]
            ends = here > begun and one.fresh and one.text not in _GOES_ON and not one.text.startswith("`")
            if ends and tokens[here - 1].text not in _WANTS_MORE:
                break
            here = one.match + 1 if one.match > here else here + 1
        found.append((name, here))
        if here >= len(tokens) or tokens[here].text != ",":
            return found
        here += 1


def _fits(script: _Script, place: int, old: str, new: str, name: int, end: int) -> bool:
    """Whether a declarator means the same with the other keyword."""
    if name < 0 or script.before(place) in ("export", "declare"):
        return False
    tokens, word = script.tokens, script.tokens[name].text
    uses, single, assigned = script.facts(word)
    if not single or (assigned and new == "const"):
        return False
    if old == "let":
        return True
    block = tokens[place].inside
    others = [i for i in (*uses[:2], uses[-1]) if i != name]  # the first and the last of them
    inside = all(end <= i < script.end_of(block) for i in others)
    if script.kind(block) not in ("block", "loop", "function") or not inside:
        return False
    outer = list(script.around(place))
    inner = outer[: next((n for n, one in enumerate(outer) if script.kind(one) == "function"), len(outer))]
    if any(script.kind(one) in ("loop", "other") for one in inner) and any(
        one.text in ("=>", "function", "class") or (one.text == "{" and script.kind(i) in ("function", "other"))
        for i, one in enumerate(tokens[block + 1 : script.end_of(block)], block + 1)
    ):
        return False  # each round would have a binding of its own, and what closes over it would see the difference
    if script.first_call > place:
        return True
    # A function that uses it may be called before there is a value.
    return not any(script.kind(one) == "function" for i in uses for one in script.around(i) if one > place)


def _assigned(script: _Script, place: int) -> bool:
    """Whether a use may set the name: plainly, in a pattern, or as the head of a loop; or is another one's binding."""
    after = place + 1
    while after < len(script.tokens) - 1 and script.tokens[after].text == ")":
        after += 1
        if script.tokens[after].text in _ASSIGNS | {"=>"}:
            return True
    if script.after(place) in _ASSIGNS | {"=>", "of", "in"} or script.before(place) in ("++", "--"):
        return True
    return script.binds(place)


def remove_calls(text: str, method: str) -> Done:
    """Statements that only call a method of `console`, with arguments that take no deed to compute."""
    script = _read(text)
    if script is None or "console" in {
        script.after(i) for i in script.uses("var") + script.uses("let") + script.uses("const")
    }:
        return None
    tokens, changes = script.tokens, list[tuple[int, int, str]]()
    for place in script.uses("console"):
        if script.after(place) != "." or script.after(place + 1) != method:
            if script.after(place) != ".":
                return None  # it may be called in another way
            continue
        found = _statement(script, place)
        if found is None:
            return None
        changes.append(found)
    if not changes:
        return None
    made = script.edited(changes)
    rest = _read(made)
    starts = [one.start for one in tokens]
    gone = sum(bisect_left(starts, end) - bisect_left(starts, start) for start, end, _ in changes)
    if rest is None or len(rest.tokens) != len(tokens) - gone:
        return None
    return made, f"{len(changes)} console.{method} removed"


def _statement(script: _Script, place: int) -> tuple[int, int, str] | None:
    """The place of a call that is a statement by itself, whole lines where it has them to itself."""
    tokens, text = script.tokens, script.text
    if not script.begins_statement(place) or script.after(place + 2) != "(":
        return None
    close = tokens[place + 3].match
    for i in range(place + 4, close):
        calls = tokens[i].text == "(" and tokens[i - 1].kind == "name" and tokens[i - 1].text not in _HARMLESS
        calls = calls or (tokens[i].text == "(" and tokens[i - 1].text in (")", "]", "?.", "}"))
        if (
            calls
            or tokens[i].text in _ASSIGNS
            or tokens[i].text in ("await", "yield", "new", "delete", "function", "=>")
        ):
            return None
        if tokens[i].text.endswith("`") and tokens[i - 1].kind == "name":
            return None  # a tag is a call
    following = script.after(close)
    if following == ";":
        end = close + 1
    elif following in ("", "}") or (
        tokens[close + 1].fresh and following not in _GOES_ON and not following.startswith("`")
    ):
        end = close
        last = script.before(place)
        if (
            following not in ("", "}")
            and last not in ("", ";", "{")
            and (following in _GOES_ON or following[0] in "`([/+-")
        ):
            return None
    else:
        return None
    if script.before(place) not in ("", ";", "{") and following == ";" and end + 1 < len(tokens):
        after = tokens[end + 1]
        if not after.fresh or after.text in _GOES_ON or after.text[0] in "`([/+-":
            return None  # the statement before it would go on
    start, stop = tokens[place].start, tokens[end].end
    line = text.rfind("\n", 0, start) + 1
    rest = re.compile(r"[^\S\n]*(?://[^\n]*)?(?:\n|$)").match(text, stop)
    if not text[line:start].strip() and rest is not None:
        return line, rest.end(), ""
    return start, stop, ""


def rename(text: str, old: str, new: str) -> Done:
    """A name that is declared once, in a scope that holds all that is called so, and the new one nowhere."""
    script = _read(text)
    if script is None or not all(_NAME.fullmatch(one) and one not in _RESERVED for one in (old, new)) or old == new:
        return None
    tokens, uses = script.tokens, script.uses(old)
    word = re.compile(rf"(?<![\w$]){re.escape(old)}(?![\w$])")
    if any(one.text == new or (one.kind == "value" and word.search(one.text)) for one in tokens):
        return None
    if len(uses) != sum(one.text == old for one in tokens):
        return None  # a property is called so, too
    made_by = [i for i in uses if script.before(i) in ("var", "let", "const", "function", "class")]
    if len(made_by) != 1 or any(_other(script, i, made_by[0]) for i in uses):
        return None
    block = next(one for one in script.around(made_by[0]) if one < 0 or tokens[one].text == "{")
    if script.before(made_by[0] - 1) == "export" or any(not block < i < script.end_of(block) for i in uses):
        return None
    made = script.edited([(tokens[i].start, tokens[i].end, new) for i in uses])
    return made, f"{old} renamed to {new}, {len(uses)} places"


def _other(script: _Script, place: int, declared: int) -> bool:
    """Whether a use may be a key, a label, a parameter or a method, or be exported."""
    before, after = script.before(place), script.after(place)
    inside = script.tokens[place].inside
    brace = inside >= 0 and script.tokens[inside].text == "{"
    if (
        before in ("export", "import", "as", "async", "get", "set", "static", "#", "...", "default", "extends")
        and place != declared
    ):
        return True
    if (
        after in ("=>", "as", "of")
        or (after == ":" and before != "?")
        or (brace and before in "{," and after in (",", "}", "="))
    ):
        return True
    if place == declared:
        return False
    if after == "(" and script.after(script.tokens[place + 1].match) == "{":
        return True  # a method
    return script.binds(place)
