"""Metadata filters as SQL: {"agentId": "a1"}, {"cost": {"$lt": 3}}, {"$or": [{…}, {…}]}."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ruvllm.errors import InputError
from ruvllm.reprs import shortened
from ruvllm.state.record import AGENT

Filter = Mapping[str, Any]
_Value = str | int | float | None

_COMPARE = {"$eq": "=", "$ne": "<>", "$lt": "<", "$lte": "<=", "$gt": ">", "$gte": ">="}
_KEY = re.compile(r"[^\"\\\x00-\x1f.]+(\.[^\"\\\x00-\x1f.]+)*")
_DEEPEST = 16
_MOST_VALUES = 1_000
_MOST_NAME = 200
_MOST_JOINTS = 900  # SQLite takes 1,000 levels of an expression, and each AND of a chain is one


def compile_filter(filter: Filter) -> tuple[str, list[Any]]:
    """A WHERE expression over the column `metadata`, and its values.

    A key is a metadata key, or a path with dots. Its condition is a value (equality) or an object of
    $eq, $ne, $lt, $lte, $gt, $gte, $in, $nin, $exists; all of them must hold. "$and" and "$or" take
    lists of filters, "$not" takes one. A missing key fulfils only $ne, $nin and {"$exists": false}.

    Raises:
        InputError: what cannot be understood, with its key as the field.
    """
    sql, values = _all_of(filter, 0)
    if sql.count(" AND ") + sql.count(" OR ") > _MOST_JOINTS or len(values) > 10 * _MOST_VALUES:
        raise _error("filter", "the filter is too large", "filter by less, and sort out the rest")
    return sql, values


def visible_to(agent_id: str | None, filter: Filter | None = None) -> Filter | None:
    """A filter that also leaves out what is another agent's; the filter as it is for nobody.

    Raises:
        InputError: no name of an agent.
    """
    if agent_id is None:
        return filter
    if not isinstance(agent_id, str) or not 0 < len(agent_id.strip()) <= _MOST_NAME:
        fix = f"name an agent, in 1 to {_MOST_NAME} characters"
        raise InputError(f"agent_id is {shortened(agent_id)}", field="agent_id", fix=fix)
    seen = {AGENT: {"$in": [agent_id, None]}}, {AGENT: {"$exists": False}}
    return {"$and": [filter or {}, {"$or": seen}]}


def _all_of(filter: Filter, depth: int) -> tuple[str, list[Any]]:
    if not isinstance(filter, Mapping):
        raise _error("filter", f"a filter is {type(filter).__name__}", 'give an object such as {"agentId": "a1"}')
    if depth > _DEEPEST:
        raise _error("filter", "the filter is nested too deeply", f"nest at most {_DEEPEST} levels")
    parts, values = list[str](), list[Any]()
    for key, condition in filter.items():
        sql, more = _logic(key, condition, depth) if str(key).startswith("$") else _key(key, condition)
        parts.append(sql)
        values += more
    return " AND ".join(parts) or "1", values


def _logic(key: str, condition: Any, depth: int) -> tuple[str, list[Any]]:
    if key == "$not":
        sql, values = _all_of(condition, depth + 1)
        return f"NOT ({sql})", values
    if key not in ("$and", "$or"):
        raise _error(key, f"{key} is no logical operator", "use $and, $or or $not")
    if not isinstance(condition, list | tuple) or not condition:
        raise _error(key, f"{key} takes a list of filters", f'write {{"{key}": [{{…}}, {{…}}]}}')
    compiled = [_all_of(part, depth + 1) for part in condition]
    joined = f" {key[1:].upper()} ".join(f"({sql})" for sql, _ in compiled)
    return f"({joined})", [value for _, values in compiled for value in values]


def _key(key: Any, condition: Any) -> tuple[str, list[Any]]:
    if not isinstance(key, str) or not _KEY.fullmatch(key):
        raise _error(str(key)[:80], f"{key!r} is no metadata key", "use text without quotes and backslashes")
    _encodable(key, key)
    path = "$" + "".join(f'."{part}"' for part in key.split("."))
    if not isinstance(condition, Mapping):
        condition = {"$eq": condition}
    if not condition:
        raise _error(key, "an empty condition", 'give a value, or an operator such as {"$gt": 3}')
    parts, values = list[str](), list[Any]()
    for operator, operand in condition.items():
        sql, more = _compare(key, path, operator, operand)
        parts.append(sql)
        values += more
    return " AND ".join(parts), values


def _compare(key: str, path: str, operator: str, operand: Any) -> tuple[str, list[Any]]:
    if operator == "$exists":
        if not isinstance(operand, bool):
            raise _error(key, "$exists takes true or false", f'write {{"{key}": {{"$exists": true}}}}')
        return f"json_type(metadata, ?) IS {'NOT ' if operand else ''}NULL", [path]
    if operator in ("$in", "$nin"):
        if not isinstance(operand, list | tuple) or len(operand) > _MOST_VALUES:
            raise _error(key, f"{operator} takes a list", f"give up to {_MOST_VALUES} values")
        return _among(path, [_value(key, value) for value in operand], operator == "$in")
    if operator not in _COMPARE:
        operators = ", ".join([*_COMPARE, "$in", "$nin", "$exists"])
        raise _error(key, f"{operator!r} is no comparison", f"use one of {operators}")
    value = _value(key, operand)
    if operator in ("$eq", "$ne"):
        return _among(path, [value], operator == "$eq")
    if value is None:
        raise _error(key, f"{operator} cannot compare with null", "use $eq, $ne or $exists")
    # Numbers only compare with numbers, text with text: SQLite would put every text above every number.
    kinds = "'text'" if isinstance(value, str) else "'integer', 'real', 'true', 'false'"
    found = f"json_type(metadata, ?) IN ({kinds}) AND json_extract(metadata, ?) {_COMPARE[operator]} ?"
    return f"coalesce({found}, 0)", [path, path, value]


def _among(path: str, values: list[_Value], wanted: bool) -> tuple[str, list[Any]]:
    """Whether it is one of these. SQLite gives lists and objects as their JSON text, which is no text of theirs."""
    some = [value for value in values if value is not None]
    inside = f"json_type(metadata, ?) NOT IN ('array', 'object') AND json_extract(metadata, ?) IN ({_marks(some)})"
    parameters: list[Any] = [path, path, *some]
    if len(some) < len(values):
        inside, parameters = f"({inside}) OR json_type(metadata, ?) = 'null'", [*parameters, path]
    return f"{'' if wanted else 'NOT '}coalesce({inside}, 0)", parameters


def _marks(values: list[Any]) -> str:
    return ", ".join("?" * len(values))


def _value(key: str, value: Any) -> _Value:
    if isinstance(value, bool):
        return int(value)  # as json_extract gives it
    if isinstance(value, str):
        _encodable(key, value)
        return value
    if value is None or isinstance(value, float) or (isinstance(value, int) and abs(value) < 2**63):
        return value
    raise _error(key, f"{value!r:.40} cannot be compared", "use text, a number below 2^63, true, false or null")


def _encodable(key: str, text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise _error(ascii(key)[1:-1], "it is no Unicode text", "leave out lone surrogates") from None


def _error(field: str, message: str, fix: str) -> InputError:
    return InputError(message, field=f"filter.{field}" if field != "filter" else field, fix=fix)
