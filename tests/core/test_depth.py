"""Depth is counted as a parser would meet it, whatever the strings hold."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from ruvllm.text.depth import deeper

TEXTS = st.text(st.sampled_from('[]{}"\\ a:,\n'), max_size=8)
VALUES = st.recursive(TEXTS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3))


def depth(value: object) -> int:
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return (1 if isinstance(value, dict | list) else 0) + max(map(depth, inside), default=0)


@given(VALUES)
def test_it_is_as_deep_as_it_is(value: object):
    for text in (json.dumps(value), json.dumps(value).encode(), json.dumps(value, indent=1)):
        assert not deeper(text, depth(value))
        assert depth(value) == 0 or deeper(text, depth(value) - 1)


def test_what_is_no_json_is_judged_too():
    assert deeper("[" * 20_000, 100)
    assert deeper(b'{"a":' * 20_000, 100)
    assert not deeper("[]" * 20_000, 100)
    assert not deeper('["' + "[" * 20_000, 100)
    assert not deeper("]" * 20_000 + "[" * 101, 100)
