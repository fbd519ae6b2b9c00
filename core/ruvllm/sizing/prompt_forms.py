"""What can be read off a prompt's form: the counts and shares that tell an easy question from a hard one.

The sixteen FORMS of the model router, and what questions have besides: choices, numbers, formulas, negations,
quantities, persons, and how they ask.
"""

from __future__ import annotations

import re
from math import log1p

import numpy as np
from numpy.typing import NDArray

from ruvllm.sizing.fastgrnn.cell import FORMS, forms_of

_READ = 20_000  # characters of a text
_QUESTION_WORDS = ("what", "which", "who", "when", "where", "why", "how")
PROMPT_FORMS = (
    *FORMS,
    "characters",
    "question",  # characters before the first choice
    "choices",
    "longest choice",
    "shortest choice",
    "spread of choices",
    "numeric choices",
    "numbers",
    "longest number",
    "signs",
    "share of signs",
    "formulas",
    "negations",
    "quantities",
    "persons",
    "share of persons",
    "names",
    "blanks",
    "ends in ?",
    "ends in :",
    "commas",
    "quotes",
    "brackets",
    "long words",
    "share of long words",
    *_QUESTION_WORDS,
)


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


_WORD = re.compile(r"[^\W\d_]+")
_CHOICE = re.compile(r"^[ \t]*\(?[A-Ha-h1-8][.):][ \t]+(.*)$", re.MULTILINE)
_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
_SIGN = re.compile(r"[=+*/^<>≤≥√∑∫π%×÷±∞]|\\[a-z]+")
_FORMULA = re.compile(r"\b\w\s*[=^]|\b[a-z]\([a-z]\)|\b[A-Z]_\w+|\$[^$\n]+\$")
_NEGATION = _set("not except never least false incorrect without none")
_QUANTITY = _set(
    "each every per times twice half total remaining left more less fewer than percent average rate ratio"
    " altogether all some most"
)
_PERSON = _set("he she his her hers him they their them i my we our you your")
_LONG = 9  # letters
_NAME = re.compile(r"[a-z,] [A-Z][a-z]+")


def prompt_forms(text: str) -> NDArray[np.float32]:
    """The PROMPT_FORMS of a text, each of the order of 1: float32 (48,)."""
    text = text[:_READ]
    words = _WORD.findall(text.lower())
    first, choices = _CHOICE.search(text), _CHOICE.findall(text)
    question = (text[: first.start()] if first else text).rstrip()
    lengths = [len(choice) for choice in choices] or [0]
    longest, shortest = max(lengths), min(lengths)
    numbers, signs = _NUMBER.findall(text), len(_SIGN.findall(text))
    persons, long_words = _among(words, _PERSON), sum(len(word) >= _LONG for word in words)
    size, count = max(len(text), 1), max(len(words), 1)
    present = set(words)
    forms = (
        log1p(size / 300),
        log1p(len(question) / 150),
        log1p(len(choices)),
        log1p(longest) / 2,
        log1p(shortest) / 2,
        (longest - shortest) / (longest + 1),
        float(bool(choices) and all(map(_NUMBER.search, choices))),
        log1p(len(numbers)),
        log1p(max(map(len, numbers), default=0)),
        log1p(signs),
        10 * signs / size,
        log1p(len(_FORMULA.findall(text))),
        log1p(_among(words, _NEGATION)),
        log1p(_among(words, _QUANTITY)),
        log1p(persons),
        5 * persons / count,
        log1p(len(_NAME.findall(text))),
        float("___" in text or "…" in text),
        float(question.endswith("?")),
        float(question.endswith(":")),
        log1p(text.count(",")),
        log1p(text.count('"') + text.count("“")),
        log1p(text.count("(")),
        log1p(long_words),
        5 * long_words / count,
        *(float(word in present) for word in _QUESTION_WORDS),
    )
    return np.concatenate([forms_of(text), np.array([min(form, 8.0) for form in forms], np.float32)])


def _among(words: list[str], kind: frozenset[str]) -> int:
    return sum(word in kind for word in words)
