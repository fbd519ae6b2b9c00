"""How objects show themselves: on one line, however much they hold."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import MISSING, fields, is_dataclass
from enum import Enum
from itertools import islice
from typing import Any

_MOST = 160  # characters of a line
_MOST_VALUE = 60
_ITEMS = 3  # of a list that are shown


def one_line(self: Any) -> str:
    """`repr` of a dataclass or named tuple: what is at its default is left out, and what is long shortened.

    Where that is still too much, the last fields are left out.
    """
    if is_dataclass(self):
        named = [(one.name, getattr(self, one.name)) for one in fields(self) if one.repr and not _default(self, one)]
    else:
        named = list(zip(self._fields, self, strict=True))
    parts = [f"{name}={shortened(value)}" for name, value in named]
    while len(line := f"{type(self).__name__}({', '.join(parts)})") > _MOST:
        parts = [*parts[: -1 if parts[-1] != "…" else -2], "…"]
    return line


class Shown:
    """Base of dataclasses with `repr=False`, which then show themselves on one line."""

    __slots__ = ()
    __repr__ = one_line


def shortened(value: Any, depth: int = 2) -> str:
    """A value as code would write it, in 60 characters at most."""
    if isinstance(value, Enum):
        text = f"{type(value).__name__}.{value.name}"
    elif hasattr(value, "dtype") and hasattr(value, "shape"):
        text = f"{value.dtype}{list(value.shape)}" if value.shape else f"{value:.4g}"
    elif isinstance(value, str):
        text = repr(value[:_MOST_VALUE])
        if max(len(value), len(text)) > _MOST_VALUE:
            text = f"{text[: _MOST_VALUE - 2]}…{text[0]}"
    elif isinstance(value, float):
        text = f"{value:.6g}"
    elif isinstance(value, Mapping):
        shown = (f"{shortened(key, 0)}: {shortened(one, depth - 1)}" for key, one in value.items())
        text = f"{{{_first(shown, len(value), depth)}}}"
    elif type(value) in (list, tuple, set, frozenset):
        inside = _first((shortened(one, depth - 1) for one in value), len(value), depth)
        text = f"({inside})" if isinstance(value, tuple) else f"[{inside}]"
    elif isinstance(value, int) and value.bit_length() > 200:  # Python refuses to spell the largest
        text = f"a number of {value.bit_length()} bits"
    else:
        text = " ".join(repr(value).split())
    return text if len(text) <= _MOST_VALUE else f"{text[: _MOST_VALUE - 1]}…"


def _first(shown: Iterable[str], count: int, depth: int) -> str:
    if depth <= 0:
        return f"{count} items" if count else ""
    more = [f"… {count} items"] if count > _ITEMS else []
    return ", ".join([*islice(shown, _ITEMS), *more])


def _default(self: Any, field: Any) -> bool:
    """Whether a field holds its default, as far as that can be told at once."""
    value = getattr(self, field.name)
    default = field.default_factory() if field.default_factory is not MISSING else field.default
    plain = isinstance(value, str | int | float | tuple | dict | None) or is_dataclass(value)
    return plain and type(value) is type(default) and bool(value == default)
