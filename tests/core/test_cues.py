"""Counting cues: what is passed over at once must be what a plain regular expression finds nothing of."""

from __future__ import annotations

import re

import pytest

from ruvllm.text.cues import Cues, words_of

KINDS = (
    (r"plan\w*", "trade-?offs?", "colou?r", "it"),
    ("step by step", r"deriv\w+", "by step", "plan"),
)
TEXTS = (
    "",
    "a planner planned a plan, step by step by step",
    "the tradeoff of trade-offs; colour or color",
    "derive it from derivations, not from deriv",
    "italy, item, explain",  # cues that begin within words, or words that only begin like cues
    "plan-b it-is (it) _it 1it",
    "éplan plané it’s",
)


@pytest.mark.parametrize("text", TEXTS)
def test_counts_what_the_regular_expression_finds(text: str) -> None:
    expected = [len(re.findall(rf"\b(?:{'|'.join(cues)})\b", text)) for cues in KINDS]
    assert Cues(*KINDS).counts(text, words_of(text)) == expected


def test_a_cue_begins_with_letters() -> None:
    with pytest.raises(AssertionError):
        Cues((r"\d+ times",))
