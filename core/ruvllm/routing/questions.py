"""Typed questions about a state, as callers write them, and their answers (the shapes of the System One API)."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ruvllm.errors import InputError, unknown
from ruvllm.text.surrogates import well_formed, well_formed_json

TYPES = ("choice", "noul", "score")
NOT_SERVED = "unsupported_question"  # code of the error of a question that needs another kind of model
_MOST_QUESTIONS, _MOST_OPTIONS, _MOST_LEVELS = 400, 255, 10
_MOST_STATE = 64 << 10  # bytes of UTF-8
_MOST_TEXT = 16_000  # characters of instructions, or of the description of one option
_DEEPEST = 32
_UNNAMED = frozenset({"content", "text", "role", "type"})  # keys that say nothing of what stands under them
_VERB = re.compile(r"^(?:is|are|was|were|does|do|did|has|have|had|can|could|should|will|would|must)\s+", re.IGNORECASE)
_TRUE, _FALSE = "true", "false"


@dataclass(frozen=True, slots=True)
class Question:
    """One question that was checked.

    Attributes:
        type: "choice", "noul" (yes or no) or "score" (ordered levels).
        instructions: what is asked, as text; "" where only the options say it.
        options: names with what each means: of a choice the options, of a noul "true" and "false", of a score the
            levels "0", "1", … from low to high.
        key: the same for every question of this type, with these instructions and options.
        criteria: as they were given.
    """

    type: str
    instructions: str
    options: tuple[tuple[str, str], ...]
    key: str
    criteria: Any = None

    @property
    def names(self) -> tuple[str, ...]:
        """Of the options."""
        return tuple(name for name, _ in self.options)

    @property
    def size(self) -> int:
        """Characters of it."""
        return len(self.instructions) + sum(len(name) + len(text) for name, text in self.options)

    def meanings(self) -> list[tuple[str, str]]:
        """What a state is compared with for each option: (its name, a text).

        Those of a choice stand by name, whatever order they came in; of a noul the statement and its negation.
        """
        if self.type == "choice":
            return sorted(self.options)
        if self.type == "score":
            return [(name, f"{self.instructions} {level}") for name, level in self.options]
        (_, true), (_, false) = self.options
        statement = _VERB.sub("", self.instructions.strip().rstrip("?!. "))
        return [(_TRUE, true or statement), (_FALSE, false or f"not {true or statement}")]

    def to_dict(self) -> dict[str, Any]:
        """As `read_questions` takes it, with texts only."""
        texts = dict(self.options)
        return {
            "type": self.type,
            "instructions": self.instructions,
            "criteria": list(texts.values()) if self.type == "score" else texts,
        }

    def option(self, answer: object) -> str:
        """The name of the option that an answer means. Raises InputError: there is no such."""
        if self.type == "noul":
            if isinstance(answer, bool):
                return _TRUE if answer else _FALSE
            raise InputError(f"answer is {answer!r}"[:120], field="answer", fix="say true or false")
        if self.type == "score":
            if isinstance(answer, int) and not isinstance(answer, bool) and 0 <= answer < len(self.options):
                return str(answer)
            fix = f"give the number of a level, 0 to {len(self.options) - 1}"
            raise InputError(f"answer is {answer!r}"[:120], field="answer", fix=fix)
        answer = json.dumps(answer) if isinstance(answer, bool) else answer
        if not isinstance(answer, str) or answer not in self.names:
            error = unknown("option", answer, self.names)
            raise InputError(error.message, field="answer", fix=error.fix)
        return answer


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to one question.

    Attributes:
        type: of the question.
        value: of a choice the option, of a noul the probability of yes, of a score the probability-weighted mean of
            the levels' numbers.
        probabilities: of each option by its name, together 1.
        confidence: how far the distribution is from saying nothing, 0 to 1: of a choice the highest probability
            between an even one (0) and 1; of a score 1 less its standard deviation over that of even levels.
        legend: what the levels of a score mean.
    """

    type: str
    value: str | float
    probabilities: dict[str, float]
    confidence: float
    legend: dict[str, Any] | None = None

    @classmethod
    def of(cls, question: Question, probabilities: NDArray[np.float32]) -> Answer:
        """From the options' probabilities: float32 (options,), together 1."""
        values: list[float] = probabilities.astype(np.float64).round(4).tolist()
        by_name, count = dict(zip(question.names, values, strict=True)), len(values)
        if question.type == "noul":
            return cls("noul", values[0], by_name, round(abs(2 * values[0] - 1), 4))
        if question.type == "choice":
            top = int(probabilities.argmax())
            even = 1 / count
            confidence = (values[top] - even) / (1 - even) if count > 1 else 1.0
            return cls("choice", question.names[top], by_name, round(max(confidence, 0.0), 4))
        levels = np.arange(count)
        score = float(probabilities @ levels)
        spread = float(np.sqrt(probabilities @ (levels - score) ** 2)) / max(float(levels.std()), 1e-9)
        legend = dict(zip(question.names, question.criteria, strict=True))
        return cls("score", round(score, 4), by_name, round(max(1 - spread, 0.0), 4), legend)

    def to_dict(self) -> dict[str, Any]:
        """As System One has it."""
        if self.type == "noul":
            return {"type": "noul", "noul": self.value}
        out: dict[str, Any] = {"type": self.type, self.type: self.value, "confidence": self.confidence}
        out |= {} if self.legend is None else {"legend": self.legend}
        return out | {"probabilities": self.probabilities}


@dataclass(frozen=True, slots=True)
class Answers:
    """The answers to all questions about one state.

    Attributes:
        id: feedback names it.
        answers: by the names of the questions.
        model: the encoder that read the state.
    """

    id: str
    answers: dict[str, Answer]
    model: str

    def __getitem__(self, name: str) -> Answer:
        return self.answers[name]

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON."""
        return {
            "id": self.id,
            "model": self.model,
            "answers": {name: answer.to_dict() for name, answer in self.answers.items()},
        }


def read_questions(given: object) -> dict[str, Question]:
    """Questions by the names that the caller chose. Raises InputError: one cannot be used; it is named.

    Args:
        given: {name: {"type": "choice", "instructions": …, "criteria": {option: description or None}}}; a "noul" may
            have {"true": …, "false": …} as criteria, a "score" has a list of levels from low to high.
    """
    if not isinstance(given, Mapping) or not given:
        fix = 'give {"urgent": {"type": "noul", "instructions": "Is it urgent?"}}'
        raise InputError("there are no questions", field="questions", fix=fix)
    if len(given) > _MOST_QUESTIONS:
        message = f"there are {len(given)} questions"
        raise InputError(message, field="questions", fix=f"ask up to {_MOST_QUESTIONS} at once")
    return {str(name): _question(one, f"questions.{name}"[:100]) for name, one in given.items()}


def _question(given: object, field: str) -> Question:
    if isinstance(given, Question):
        return given
    if not isinstance(given, Mapping):
        raise InputError(f"{field} is no object", field=field, fix="give its type, instructions and criteria")
    kind, criteria = given.get("type"), given.get("criteria")
    if kind == "box":
        fix = "ask a model that sees images; choice, noul and score are answered here"
        raise InputError("box questions are not answered", field=f"{field}.type", fix=fix, code=NOT_SERVED)
    if kind not in TYPES:
        raise InputError(f"{field}.type is {kind!r}"[:160], field=f"{field}.type", fix=f"use {', '.join(TYPES)}")
    if strange := [str(name)[:40] for name in given if name not in ("type", "instructions", "criteria")]:
        fix = "use type, instructions and criteria"
        raise InputError(f"{field} has {strange[0]!r}", field=f"{field}.{strange[0]}", fix=fix)
    instructions = text_of(given.get("instructions"), f"{field}.instructions")
    if kind == "choice":
        options = tuple(_options(criteria, f"{field}.criteria"))
    elif kind == "score":
        options, criteria = _levels(criteria, f"{field}.criteria")
    else:
        options = _poles(criteria, f"{field}.criteria")
    if kind == "noul" and not instructions and not options[0][1]:
        raise InputError(f"{field} asks nothing", field=f"{field}.instructions", fix="say what may be true")
    unordered = sorted(options) if kind == "choice" else options
    key = sha256(json.dumps([kind, instructions, unordered]).encode()).hexdigest()[:32]
    return Question(str(kind), instructions, options, key, criteria)


def _options(criteria: object, field: str) -> Iterator[tuple[str, str]]:
    if not isinstance(criteria, Mapping) or not 1 <= len(criteria) <= _MOST_OPTIONS:
        fix = f"give 1 to {_MOST_OPTIONS} options: {{name: description or null}}"
        count = f"has {len(criteria)} options" if isinstance(criteria, Mapping) else "is no object"
        raise InputError(f"{field} {count}", field=field, fix=fix)
    for name, description in criteria.items():
        if not isinstance(name, str) or not name.strip() or len(name) > _MOST_TEXT:
            raise InputError(f"an option of {field} has no name", field=field, fix="name each option with a short text")
        yield well_formed(name), text_of(description, f"{field}.{name[:40]}")


def _levels(criteria: object, field: str) -> tuple[tuple[tuple[str, str], ...], list[Any]]:
    if not isinstance(criteria, list | tuple) or not 1 <= len(criteria) <= _MOST_LEVELS:
        fix = f"give 1 to {_MOST_LEVELS} levels, from low to high"
        raise InputError(f"{field} has no levels, or too many", field=field, fix=fix)
    levels = tuple((str(i), text_of(level, f"{field}[{i}]")) for i, level in enumerate(criteria))
    for name, text in levels:
        if not text:
            raise InputError(f"{field}[{name}] is empty", field=f"{field}[{name}]", fix="describe the level")
    return levels, list(criteria)


def _poles(criteria: object, field: str) -> tuple[tuple[str, str], tuple[str, str]]:
    criteria = {} if criteria is None else criteria
    if not isinstance(criteria, Mapping) or not criteria.keys() <= {_TRUE, _FALSE}:
        raise InputError(f"{field} is neither true nor false", field=field, fix='give {"true": …, "false": …}')
    true, false = (text_of(criteria.get(name), f"{field}.{name}") for name in (_TRUE, _FALSE))
    return (_TRUE, true), (_FALSE, false)


def state_text(state: object) -> str:
    """A state as the encoder reads it. Raises InputError: it is empty, too large, or no text and no JSON."""
    if isinstance(state, str):
        size = len(state.encode("utf-8", "replace"))
    else:
        try:
            size = len(json.dumps(state, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace"))
        except (TypeError, ValueError, RecursionError):
            raise InputError("state is no JSON", field="state", fix="give text, an object or a list") from None
    if size > _MOST_STATE:
        fix = f"keep it within {_MOST_STATE} bytes: send what the questions need"
        raise InputError(f"state has {size} bytes", field="state", fix=fix, code="context_length_exceeded")
    text = text_of(state, "state", size + 1_000_000)
    if not any(char.isprintable() and not char.isspace() for char in text):
        raise InputError("state is empty", field="state", fix="give what the questions are about")
    return text


def text_of(given: object, field: str, most: int = _MOST_TEXT) -> str:
    """Text or JSON as lines of text, "" for None: what stands in an object after its key.

    Raises:
        InputError: it is neither, nested too deeply, or longer than `most` characters.
    """
    if given is None:
        return ""
    if isinstance(given, str):
        text = well_formed(given).strip()
    elif isinstance(given, Mapping | list | tuple):
        text = "\n".join(_lines(well_formed_json(given), "", field, 0))
    else:
        raise InputError(f"{field} is a {type(given).__name__}", field=field, fix="give text, an object or a list")
    if len(text) > most:
        raise InputError(f"{field} has {len(text)} characters", field=field, fix=f"keep it within {most}")
    return text


def _lines(given: object, name: str, field: str, depth: int) -> Iterator[str]:
    if depth > _DEEPEST:
        raise InputError(f"{field} is nested too deeply", field=field, fix=f"keep it within {_DEEPEST} levels")
    if isinstance(given, Mapping):
        for key, value in given.items():
            yield from _lines(value, "" if key in _UNNAMED else str(key), field, depth + 1)
    elif isinstance(given, list | tuple):
        for value in given:
            yield from _lines(value, name, field, depth + 1)
    elif given is not None:
        said = given.strip() if isinstance(given, str) else json.dumps(given, default=str)
        yield f"{name.replace('_', ' ')}: {said}" if name else said
