"""Half characters become whole ones, or the sign of a lost one."""

from __future__ import annotations

import json

import pytest

from ruvllm.text.surrogates import well_formed, well_formed_json


@pytest.mark.parametrize(
    ("given", "wanted"),
    [("", ""), ("plain", "plain"), ("ü\U0001f600", "ü\U0001f600"), ("a\ud83d\ude00b", "a\U0001f600b"),
     ("a\ud83d", "a\ufffd"), ("\ude00b", "\ufffdb"), ("\ude00\ud83d", "\ufffd\ufffd")],
)  # fmt: skip
def test_texts_can_be_written(given: str, wanted: str):
    assert well_formed(given) == wanted
    well_formed(given).encode()


def test_json_of_any_shape():
    value = json.loads('{"k\\ud800": ["a\\ud83d\\ude00", {"x": "\\udfff"}, 1, null, true]}')
    assert well_formed_json(value) == {"k\ufffd": ["a\U0001f600", {"x": "\ufffd"}, 1, None, True]}
