"""Keyword arguments that came as JSON, checked against the annotations of what takes them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import cache
from inspect import Parameter, signature
from types import NoneType
from typing import Any, get_args, get_origin, get_type_hints

from ruvllm import InputError

_NAMES = {
    str: "text",
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    list: "a list",
    dict: "an object",
}


def checked(function: Callable[..., Any], given: Any, where: str = "") -> dict[str, Any]:
    """The arguments that `function` can be called with; null is the same as left out.

    Args:
        where: what precedes their names in an error, as "memories[2].".

    Raises:
        InputError: one is missing, of another type, or unknown.
    """
    if not isinstance(given, dict):
        name = where.rstrip(".") or "options"
        raise InputError(f"{name} is {_kind(given)}", field=name, fix="pass an object")
    parameters = _parameters(function)
    for name in given:
        if name not in parameters:
            raise InputError(f"{where}{name} is unknown"[:120], field=name, fix=f"use {', '.join(parameters)}")
    found = {name: value for name, value in given.items() if value is not None}
    for name, (kinds, needed) in parameters.items():
        if name in found:
            _check(found[name], kinds, f"{where}{name}")
        elif needed:
            missing = "null" if name in given else "missing"
            raise InputError(f"{where}{name} is {missing}", field=f"{where}{name}", fix=f"pass {_wanted(kinds)}")
    return found


@cache
def _parameters(function: Callable[..., Any]) -> dict[str, tuple[Any, bool]]:
    """By name: the annotation, and whether there is no default."""
    hints = get_type_hints(function)
    named = signature(function).parameters.values()
    return {one.name: (hints.get(one.name, Any), one.default is Parameter.empty) for one in named if one.name != "self"}


def _check(value: Any, annotation: Any, where: str) -> None:
    kinds = _kinds(annotation)
    if kinds and not any(_is(value, kind) for kind in kinds):
        raise InputError(f"{where} is {_kind(value)}", field=where, fix=f"pass {_wanted(annotation)}")
    lists = (part for part in (annotation, *get_args(annotation)) if get_origin(part) is list)
    if isinstance(value, list) and list in kinds and (inner := get_args(next(lists, None))):
        for place, item in enumerate(value):
            _check(item, inner[0], f"{where}[{place}]")


def _kinds(annotation: Any) -> list[type]:
    """The JSON types that an annotation allows; none for any."""
    parts = get_args(annotation) if NoneType in get_args(annotation) else (annotation,)
    kinds = [get_origin(part) or part for part in parts if part is not NoneType]
    kinds = [dict if kind is Mapping else kind for kind in kinds]
    return kinds if all(kind in _NAMES for kind in kinds) else []


def _is(value: Any, kind: type) -> bool:
    if isinstance(value, bool):
        return kind is bool
    return isinstance(value, (int, float) if kind is float else kind)


def _wanted(annotation: Any) -> str:
    return " or ".join(_NAMES[kind] for kind in _kinds(annotation)) or "a value"


def _kind(value: Any) -> str:
    """What a value is, as JavaScript writes it."""
    return _NAMES[type(value)] if isinstance(value, list | dict) else json.dumps(value, ensure_ascii=False)[:60]
