from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import count
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ruvllm.errors import InputError
from ruvllm.memory.filters import compile_filter
from ruvllm.memory.records import Records
from ruvllm.state.record import Memory
from ruvllm.state.store import Store

MISSING = object()
KEYS = ("a", "b", "deep", "größe", "x y", "a'b", "--", "[0]", "$.a"[2:] + "#")
TEXTS = ("", "a", "b", "ab", "Ä", "🦊", "1", "null", "true", "[]", '["a"]', "%", "a' OR 1=1 --")
# SQLite reads about 15 digits of a number in JSON exactly, and no text beyond a NUL.
NUMBERS = st.one_of(st.integers(-5, 5), st.sampled_from([0.5, -1.25, 1e300, 2**53 - 1, -(2**62)]))
SCALARS = st.one_of(st.none(), st.booleans(), NUMBERS, st.sampled_from(TEXTS))
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=2),
    max_leaves=4,
)
METADATA = st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=4)
PATHS = st.one_of(st.sampled_from(KEYS), st.tuples(st.sampled_from(KEYS), st.sampled_from(KEYS)).map(".".join))
ORDERED = st.one_of(st.booleans(), NUMBERS, st.sampled_from(TEXTS))
CONDITIONS = st.one_of(
    SCALARS,
    st.fixed_dictionaries(
        {},
        optional={
            "$eq": SCALARS,
            "$ne": SCALARS,
            "$lt": ORDERED,
            "$lte": ORDERED,
            "$gt": ORDERED,
            "$gte": ORDERED,
            "$in": st.lists(SCALARS, max_size=3),
            "$nin": st.lists(SCALARS, max_size=3),
            "$exists": st.booleans(),
        },
    ).filter(bool),
)
FILTERS = st.recursive(
    st.dictionaries(PATHS, CONDITIONS, max_size=3),
    lambda inner: st.one_of(
        st.fixed_dictionaries({"$and": st.lists(inner, min_size=1, max_size=3)}),
        st.fixed_dictionaries({"$or": st.lists(inner, min_size=1, max_size=3)}),
        st.fixed_dictionaries({"$not": inner}),
    ),
    max_leaves=5,
)


def fulfils(metadata: Mapping[str, Any], filter: Mapping[str, Any]) -> bool:
    """What the docstring promises, entry by entry."""
    return all(_entry(metadata, key, condition) for key, condition in filter.items())


def _entry(metadata: Mapping[str, Any], key: str, condition: Any) -> bool:
    if key == "$not":
        return not fulfils(metadata, condition)
    if key in ("$and", "$or"):
        return (all if key == "$and" else any)([fulfils(metadata, part) for part in condition])
    value: Any = metadata
    for part in key.split("."):
        value = value.get(part, MISSING) if isinstance(value, Mapping) else MISSING
    if not isinstance(condition, Mapping):
        return _same(value, condition)
    return all(_holds(value, operator, operand) for operator, operand in condition.items())


def _same(value: Any, operand: Any) -> bool:
    if value is None or operand is None:
        return value is operand
    return (
        isinstance(value, str | int | float) and isinstance(value, str) == isinstance(operand, str) and value == operand
    )


def _holds(value: Any, operator: str, operand: Any) -> bool:
    match operator:
        case "$exists":
            return (value is not MISSING) == operand
        case "$eq" | "$ne":
            return _same(value, operand) == (operator == "$eq")
        case "$in" | "$nin":
            return any(_same(value, one) for one in operand) == (operator == "$in")
    if not isinstance(value, str | int | float) or isinstance(value, str) != isinstance(operand, str):
        return False
    compare = {"$lt": value < operand, "$lte": value <= operand, "$gt": value > operand, "$gte": value >= operand}
    return compare[operator]


RECORDS = Records(Store())  # for all tests: each has collections of its own
COLLECTIONS = (f"collection {n}" for n in count())


def matching(stored: list[Mapping[str, Any]], filter: Mapping[str, Any]) -> list[bool]:
    collection = next(COLLECTIONS)
    memories = [Memory("text", metadata=one, collection=collection) for one in stored]
    ids = RECORDS.add(memories, np.ones((len(stored), 2), "f4"), "test")
    found = set(RECORDS.matching(collection, filter).tolist())
    return [i in found for i in ids]


@given(st.lists(METADATA, min_size=1, max_size=8), FILTERS)
@settings(max_examples=100)
def test_a_filter_finds_what_a_reading_of_its_words_finds(stored: list[dict[str, Any]], filter: dict[str, Any]):
    assert matching(stored, filter) == [fulfils(one, filter) for one in stored]


KINDS: list[dict[str, Any]] = [
    {"x": 1},
    {"x": "1"},
    {"x": True},
    {"x": None},
    {},
    {"x": 1.5},
    {"x": [1]},
    {"x": {"y": 1}},
]


@pytest.mark.parametrize(
    ("filter", "expected"),
    [
        ({}, "11111111"),
        ({"x": 1}, "10100000"),  # true is 1, as in Python
        ({"x": "1"}, "01000000"),
        ({"x": True}, "10100000"),
        ({"x": None}, "00010000"),
        ({"x": {"$ne": None}}, "11101111"),
        ({"x": {"$ne": 1}}, "01011111"),
        ({"x": {"$exists": True}}, "11110111"),
        ({"x": {"$exists": False}}, "00001000"),
        ({"x": {"$gt": 0}}, "10100100"),
        ({"x": {"$gt": ""}}, "01000000"),
        ({"x": {"$lte": math.inf}}, "10100100"),
        ({"x": {"$eq": math.nan}}, "00000000"),
        ({"x": {"$in": []}}, "00000000"),
        ({"x": {"$nin": []}}, "11111111"),
        ({"x": {"$in": [None, "1"]}}, "01010000"),
        ({"x": {"$nin": [None, "1"]}}, "10101111"),
        ({"x": "[1]"}, "00000000"),  # a list is not the text that it is written with
        ({"x.y": 1}, "00000001"),
        ({"x": {"$gt": 0, "$lt": 1.2}}, "10100000"),
        ({"$or": [{"x": 1.5}, {"$not": {"x": {"$exists": True}}}]}, "00001100"),
        ({"$and": [{}, {"x": "1"}]}, "01000000"),
        ({"$not": {}}, "00000000"),
    ],
)
def test_types_are_told_apart(filter: dict[str, Any], expected: str):
    assert matching(KINDS, filter) == [mark == "1" for mark in expected]


@pytest.mark.parametrize(
    "key",
    [
        'a" OR 1=1 --',
        "a\\",
        "a\x00b",
        "",
        ".",
        "a..b",
        ".a",
        "a.",
        'x"."y',
        "a\nb",
        "\ud800",
        3,
        None,
        ("a",),
        "$where",
        "$",
    ],
)
def test_a_key_that_could_mean_something_else_is_refused(key: Any):
    with pytest.raises(InputError) as caught:
        compile_filter({key: 1})
    assert caught.value.field.startswith("filter")
    assert caught.value.fix
    caught.value.message.encode()


@pytest.mark.parametrize("text", ["'; DROP TABLE memories; --", "a' OR '1'='1", '" OR ""="', "?", ":a", "%", "\\"])
def test_values_and_keys_never_become_sql(text: str):
    stored = [{"x": text}, {"x": "other"}]
    assert matching(stored, {"x": text}) == [True, False]
    assert compile_filter({"x": text})[0] == compile_filter({"x": "plain"})[0]
    key = text.replace('"', "").replace("\\", "") + "k"
    assert matching([{key: 1}, {}], {key: 1}) == [True, False]
    assert compile_filter({key: 1})[0] == compile_filter({"plain": 1})[0]


@pytest.mark.parametrize(
    "filter",
    [
        None, "x", [], 5,
        {"x": {}}, {"x": {"$near": 1}}, {"x": {"gt": 1}}, {"x": {3: 1}}, {"x": [1]}, {"x": {"$eq": [1]}},
        {"x": {"$lt": None}}, {"x": {"$lt": [1]}}, {"x": {"$exists": 1}}, {"x": {"$in": "abc"}}, {"x": {"$in": None}},
        {"x": {"$in": [[]]}}, {"x": {"$in": list(range(1_001))}}, {"x": 2**63}, {"x": b"1"}, {"x": "\ud800"},
        {"$and": []}, {"$or": {}}, {"$or": "x"}, {"$and": [1]}, {"$not": []}, {"$nor": [{}]},
    ],
)  # fmt: skip
def test_what_cannot_be_understood_is_an_error_with_a_fix(filter: Any):
    with pytest.raises(InputError) as caught:
        compile_filter(filter)
    assert caught.value.field.startswith("filter")
    assert caught.value.fix


def nested(levels: int) -> dict[str, Any]:
    filter: dict[str, Any] = {"x": 1}
    for _ in range(levels):
        filter = {"$not": {"$or": [filter]}} if levels % 2 else {"$and": [filter, {"x": 1}]}
    return filter


def test_what_compiles_runs_and_the_rest_is_refused():
    assert matching(KINDS[:2], nested(16)) == [True, False]
    for filter in (nested(17), nested(101), nested(900)):
        with pytest.raises(InputError, match="nested"):
            compile_filter(filter)


def too_large(filter: dict[str, Any]) -> bool:
    try:
        compile_filter(filter)
    except InputError as error:
        return "large" in error.message
    return False


@pytest.mark.parametrize("size", [100, 400, 449, 1_000, 5_000])
def test_no_filter_meets_a_bound_of_sqlite(size: int):
    for filter in (
        {"$or": [{"x": 1}] * size},
        {"$and": [{}] * size},
        {f"x{n}": {"$ne": n} for n in range(size)},
        {"$or": [{"y": {"$in": list(range(100))}}] * (size // 10) + [{"x": 1}]},
    ):
        if too_large(filter):
            assert size >= 1_000
        else:
            assert len(matching(KINDS[:2], filter)) == 2
