"""Which strength of model a task needs, and what to do with a decision of a given confidence."""

from __future__ import annotations

from collections.abc import Sequence
from math import exp, log1p

from ruvllm.sizing.booster import recognise
from ruvllm.text.cues import Cues, words_of
from ruvllm.types import Action, Agent, Tier

__all__ = ["CONFIRM_FROM", "DIFFICULTY_CUES", "USE_ABOVE", "action_for", "difficulty", "difficulty_of", "tier_for"]

USE_ABOVE, CONFIRM_FROM = 0.9, 0.7  # FEATURES.md R9
_LARGE_FROM = 0.5

# Words that open design space or risk, words of small, local edits, and what joins clauses.
DIFFICULTY_CUES = (
    (
        *(r"architect\w*", r"design\w*", "distributed", r"scal\w+", r"migrat\w+", r"concurren\w+", "security"),
        *("threat", "consensus", "trade-?offs?", "strategy", "from scratch", "end-to-end", "entire", "whole"),
        *("complex", "prove", "optimi[sz]e", "deadlock", "race condition", "microservices?", "compliance"),
        *("roadmap", "refactor the"),
    ),
    (
        *("typo", "rename", "comment", "format", "bump", "log line", r"console\.log", "sort", "spelling"),
        *("one-?liner", "regex", "import", "label", "colou?r", "button", "simple", "quick", "small", "minor", "tiny"),
    ),
    ("and", "then", "with", "while", "after", "including"),
)
_CUES = Cues(*DIFFICULTY_CUES)


def difficulty(text: str) -> float:
    """A first estimate of P(a small LLM fails), from words and length alone; `Difficulty` learns it from outcomes."""
    low = text.lower()
    return difficulty_of(low, _CUES.counts(low, words_of(low)))


def difficulty_of(low: str, counts: Sequence[int]) -> float:
    """The same of a text in lower case whose DIFFICULTY_CUES are counted already."""
    hard, easy, joins = counts
    score = -1.4 + 1.1 * hard - 1.0 * easy
    score += 0.35 * (low.count(",") + low.count(";") + joins) + 0.25 * log1p(len(low.split()) / 20)
    return 1 / (1 + exp(-max(min(score, 30.0), -30.0)))


def tier_for(agent: Agent, text: str) -> Tier:
    """The agent's own tier wins; an edit that a program can make needs no LLM; otherwise the difficulty decides."""
    if agent.tier is not None:
        return agent.tier
    if recognise(text) is not None:
        return Tier.BOOSTER
    return Tier.LARGE if difficulty(text[:20_000]) >= _LARGE_FROM else Tier.SMALL


def action_for(confidence: float) -> str:
    """Use, confirm or escalate."""
    if confidence > USE_ABOVE:
        return Action.USE
    return Action.CONFIRM if confidence >= CONFIRM_FROM else Action.ESCALATE
