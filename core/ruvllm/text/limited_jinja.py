"""jinja2 for templates from anywhere: its sandbox keeps them from reaching out, this one from taking time and memory.

Work is counted in units: a character is one, an element of a list `_ITEM`; a list, a step of a loop and a call are
`_STEP`. What makes large values of small ones (`*`, `replace`, `join`, …) is counted before it is done, or left out.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, MappingView, Sequence
from functools import wraps
from json import dumps
from typing import Any, cast

from jinja2 import nodes
from jinja2.compiler import CodeGenerator, Frame
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace

_STEP, _ITEM = 100, 10
_UNITS, _PER_UNIT = 10_000_000, 200  # of a rendering: in any case, and for each of what it is given
_LARGEST, _TIMES = 2_000_000, 4  # units of one value, likewise
_DEEPEST = 50  # lists in lists
_WIDEST = 100  # columns that something is padded to
_CHEAP = ("count", "d", "default", "first", "last", "length", "safe")  # filters that look at no more than an element
_LINEAR = (
    "abs", "capitalize", "float", "format", "indent", "int", "items", "list", "lower", "map", "reject", "rejectattr",
    "reverse", "select", "selectattr", "title", "trim", "truncate", "upper",
)  # fmt: skip
_DEEP = ("dictsort", "e", "escape", "max", "min", "sort", "string", "unique")  # that look at all within
# Methods of texts, lists and objects whose results are no larger than what they are given, or are counted before.
_METHODS = frozenset((
    "capitalize", "casefold", "copy", "count", "endswith", "find", "format", "get", "index", "isalnum", "isalpha",
    "isascii", "isdecimal", "isdigit", "islower", "isnumeric", "isspace", "istitle", "isupper", "items", "join", "keys",
    "lower", "lstrip", "partition", "removeprefix", "removesuffix", "replace", "rfind", "rindex", "rpartition",
    "rsplit", "rstrip", "split", "splitlines", "startswith", "strip", "swapcase", "title", "upper", "values",
))  # fmt: skip
_DATA = (str, bytes, int, float, complex, list, tuple, dict, set, frozenset, range, MappingView, type(None))
_EQUAL = ("!=", "<", "<=", "==", ">", ">=", "eq", "equalto", "ge", "greaterthan", "gt", "in", "le", "lessthan", "lt",
          "ne")  # fmt: skip
_WIDE = re.compile(r"%(?:\(|[^a-zA-Z%]*(?:\*|\d{3}))")  # a width of "%" formats, or what could hide one
_NESTED = re.compile(r"\{[^{}]*[:{]")  # and of "{}" formats


class _TooMuchError(Exception):
    """A template takes more than it may."""


class _Names(Namespace):
    """Whose text does not hold its values: they may hold it."""

    def __repr__(self) -> str:
        return "<namespace>"


class _Generator(CodeGenerator):
    def blockvisit(self, nodes: Iterable[nodes.Node], frame: Frame) -> None:
        """Each time that the body of a loop, a macro or a condition is entered is a step."""
        self.writeline("environment.spend()")
        super().blockvisit(nodes, frame)


class LimitedJinja(ImmutableSandboxedEnvironment):
    """An environment whose templates end soon. One rendering at a time."""

    code_generator_class = _Generator
    intercepted_binops = frozenset(ImmutableSandboxedEnvironment.default_binop_table)

    def __init__(self) -> None:
        super().__init__(
            trim_blocks=True,
            lstrip_blocks=True,
            extensions=["jinja2.ext.loopcontrols"],
            finalize=self._output,
            cache_size=0,
        )
        every: dict[str, Any] = self.filters
        self.filters = {name: self._counted(every[name], lambda _: 0) for name in _CHEAP}
        self.filters |= {name: self._counted(every[name], _length) for name in _LINEAR}
        self.filters |= {name: self._counted(every[name], self._deep) for name in _DEEP}
        self.filters |= {
            "format": self._counted(lambda text, *args: self._binop("%", text, args), _length),
            "indent": self._counted(self._indent, _length),
            "iterated": self._counted(lambda value: value, _length),
            "join": self._counted(self._join_filter, _length),
            "replace": self._counted(self._replace, _length),
            "tojson": self._counted(self._json, _length),
            "weighed": self._counted(lambda value: value, self._deep),
        }
        tests: dict[str, Any] = self.tests
        self.tests = {
            name: self._counted(test, self._deep if name in _EQUAL else _length) for name, test in tests.items()
        }
        functions: dict[str, Any] = self.globals
        self.globals = {name: functions[name] for name in ("cycler", "dict", "joiner")}
        self.globals |= {"namespace": _Names, "range": self._counted(functions["range"], _length)}
        self.start(0)

    def start(self, given: int) -> None:
        """Before something is compiled or rendered; `given` is the units of what it is given."""
        self._left, self._most = _UNITS + _PER_UNIT * given, _LARGEST + _TIMES * given

    def spend(self, units: int = _STEP) -> None:
        """Raises an error when there is none left."""
        self._left -= units
        if self._left < 0:
            raise _TooMuchError("it takes too many steps")

    def concat(self, pieces: Iterable[str]) -> str:
        """All output goes through here."""
        found, size = list[str](), 0
        for piece in pieces:
            size += len(piece)
            self._room(len(piece), size)
            found.append(piece)
        return "".join(found)

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """An operator, once its result is known to be of a size that is allowed."""
        self.spend()
        return self._binop(operator, left, right)

    def call(self, context: Context, obj: Any, /, *args: Any, **kwargs: Any) -> Any:
        """A function, macro or method."""
        method = getattr(obj, "__wrapped__", obj)
        owner, name = getattr(method, "__self__", None), getattr(method, "__name__", "")
        self.spend(_STEP + _length(owner) + sum(map(_length, (*args, *kwargs.values()))))
        if isinstance(owner, str) and name == "replace":
            return self._replace(owner, *args, **kwargs)
        if isinstance(owner, str) and name == "join":
            return self._join(owner, *args)
        if name in ("format", "format_map") and isinstance(owner, str) and _NESTED.search(owner):
            raise _TooMuchError("format takes no widths")
        return self._sized(super().call(context, obj, *args, **kwargs))

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        """Of texts, numbers and lists, only methods whose results are no larger than what they are given."""
        allowed = attr in _METHODS or not (isinstance(obj, _DATA) and callable(value))
        return allowed and super().is_safe_attribute(obj, attr, value)

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        """Let what is compiled past the environment be counted, too: loops, comparisons, slices and `~`."""
        tree = super()._parse(source, name, filename)
        for loop in list(tree.find_all(nodes.For)):
            loop.iter = self._through("iterated", loop.iter)
        for operand in list(tree.find_all(nodes.Operand)):
            operand.expr = self._through("weighed", operand.expr)
        for item in list(tree.find_all(nodes.Getitem)):
            if isinstance(item.arg, nodes.Slice):
                item.node = self._through("iterated", item.node)
        for joined in list(tree.find_all(nodes.Concat)):
            joined.nodes = [self._through("string", part) for part in joined.nodes]
        return tree

    def _through(self, name: str, node: Any) -> nodes.Filter:
        return nodes.Filter(node, name, [], [], None, None, lineno=node.lineno, environment=self)

    def _counted(self, function: Callable[..., Any], units: Callable[[Any], int]) -> Callable[..., Any]:
        """A filter, test or function that costs what its arguments weigh, and gives lists, not generators."""

        @wraps(function)
        def counted(*args: Any, **kwargs: Any) -> Any:
            self.spend(_STEP + sum(map(units, (*args, *kwargs.values()))))
            result = function(*args, **kwargs)
            return self._sized(list(self._stepwise(result)) if isinstance(result, Iterator) else result)

        return counted

    def _stepwise(self, values: Iterator[Any]) -> Iterator[Any]:
        for value in values:
            self.spend()
            yield value

    def _output(self, value: Any) -> Any:
        self.spend(self._deep(value))
        return value

    def _room(self, units: int, size: int | None = None) -> None:
        """For a value of this size, `units` of which are new. Raises an error: there is none."""
        if (units if size is None else size) > self._most:
            raise _TooMuchError("it makes too large a value")
        self.spend(units)

    def _sized(self, value: Any) -> Any:
        self._room(_length(value))
        return value

    def _deep(self, value: Any, levels: int = _DEEPEST) -> int:
        """Units of a value with all that is in it. Raises an error: they are too many."""
        size = _length(value)
        if isinstance(value, list | tuple | dict | set | frozenset | MappingView):
            if not levels:
                raise _TooMuchError("its lists lie too deep in each other")
            for item in (*value, *value.values()) if isinstance(value, Mapping) else cast(Iterable[Any], value):
                size += self._deep(item, levels - 1)
                if size > self._most:
                    break
        if size > self._most:
            raise _TooMuchError("it makes too large a value")
        return size

    def _binop(self, operator: str, left: Any, right: Any) -> Any:
        sizes = _length(left), _length(right)
        if operator == "*" and not (isinstance(left, int) and isinstance(right, int)):
            for size, times in ((sizes[0], right), (sizes[1], left)):
                self._room(size * max(times, 1) if isinstance(times, int) else size)
        elif operator == "**":
            self._room(sizes[0] * max(abs(int(right)), 1))
        elif operator == "%" and isinstance(left, str):
            if _WIDE.search(left):
                raise _TooMuchError("% takes no widths")
            self._room(sizes[0] + self._deep(right))
        else:
            self._room(sum(sizes))
        return self._sized(self.binop_table[operator](left, right))

    def _replace(self, text: Any, old: Any, new: Any, count: int | None = -1) -> str:
        text, old, new = (str(one) for one in (text, old, new))
        most = -1 if count is None else int(count)
        found = text.count(old) if most < 0 else min(text.count(old), most)
        self._room(len(text) + found * len(new))
        return str(text.replace(old, new, most))

    def _join(self, between: str, parts: Sequence[Any]) -> str:
        self._room(self._deep(parts) + len(between) * len(parts))
        return between.join(map(str, parts))

    def _join_filter(self, value: Any, d: str = "", attribute: str | int | None = None) -> str:
        parts = list(value)
        return self._join(str(d), parts if attribute is None else [self.getitem(part, attribute) for part in parts])

    def _json(self, value: Any, indent: int | None = None) -> str:
        """Not jinja2's own, which escapes HTML."""
        by = None if indent is None else min(int(indent), _WIDEST)
        self._room(self._deep(value) * (1 + (by or 0)))
        return dumps(value, ensure_ascii=False, indent=by)

    def _indent(self, text: Any, width: Any = 4, first: bool = False, blank: bool = False) -> str:
        by = width if isinstance(width, str) else " " * min(int(width), _WIDEST)
        lines = str(text).splitlines(keepends=True)
        self._room(len(text) + len(by) * len(lines))
        padded = ((line.strip() or blank) and (i > 0 or first) for i, line in enumerate(lines))
        return "".join(by + line if pad else line for pad, line in zip(padded, lines, strict=True))


def _length(value: Any) -> int:
    """Units of a value without what is in it."""
    if isinstance(value, str | bytes):
        return len(value)
    if isinstance(value, int):
        return 1 + value.bit_length() // 3
    if isinstance(value, list | tuple | dict | set | frozenset | range | MappingView):
        return _STEP + _ITEM * len(value)
    return 1
