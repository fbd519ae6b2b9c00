"""Counting cues: what is passed over at once must be what a plain regular expression finds nothing of."""

from __future__ import annotations

import re

import pytest

from ruvllm.text.cues import Cues, words_of

ALTERNATIVES = (r"plan\w*", "trade-?offs?", "colou?r", "step by step", r"deriv\w+", "it")
TEXTS = (
    "",
    "a planner planned a plan, step by step",
    "the tradeoff of trade-offs; colour or color",
    "derive it from derivations, not from deriv",
    "italy, item, explain",  # cues that begin within words, or words that only begin like cues
    "plan-b it-is (it) _it 1it",
    "éplan plané it’s",
)


@pytest.mark.parametrize("text", TEXTS)
def test_counts_what_the_regular_expression_finds(text: str) -> None:
    cues = Cues(*ALTERNATIVES)
    expected = len(re.findall(rf"\b(?:{'|'.join(ALTERNATIVES)})\b", text))
    assert cues.count(text, words_of(text)) == expected


def test_a_cue_begins_with_letters() -> None:
    with pytest.raises(AssertionError):
        Cues(r"\d+ times")
