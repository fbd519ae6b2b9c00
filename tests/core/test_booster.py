import json
from pathlib import Path

import pytest

from ruvllm.sizing.edits import EDITS, edit_of, recognise
from ruvllm.sizing.tiers import Features, choose
from ruvllm.types import Agent, Tier

LABELLED = json.loads((Path(__file__).parents[1] / "data" / "booster.json").read_text("utf-8"))


@pytest.mark.parametrize("half", ["dev", "test"])
def test_it_is_seldom_wrong_and_finds_most(half):
    found = [(kind, edit.kind) for kind, texts in LABELLED[half].items() for text in texts if (edit := recognise(text))]
    right = sum(kind == edit for kind, edit in found)
    wanted = sum(len(texts) for kind, texts in LABELLED[half].items() if kind in EDITS)
    assert right / len(found) >= 0.95
    assert right / wanted >= 0.85


def test_what_it_says_of_an_edit():
    edit = recognise("Please rename the function `calc` to calculateTotal in math_utils.py, thanks!")
    assert edit is not None
    assert (edit.kind, edit.target) == ("rename", "math_utils.py")
    assert edit.arguments == {"old": "calc", "new": "calculateTotal"}
    edit = recognise("convert var to const in app.js")
    assert edit is not None
    assert edit.arguments == {"from": "var", "to": "const"}


@pytest.mark.parametrize("text", ["", "   ", "rename", "rename x to", "x" * 100_000, "format " * 10_000, "\0\ud800"])
def test_any_text_is_fine(text):
    assert recognise(text) is None


def test_an_edit_needs_no_llm_unless_the_agent_says_so():
    edit = edit_of("remove console.log from app.js")
    assert choose(Features("", Agent("x"), edit)).tier is Tier.BOOSTER
    assert choose(Features("", Agent("x", tier=Tier.LARGE), edit)).tier is Tier.LARGE
