"""A stream of tasks whose outcomes alone are told: was the chosen agent right? One answer in ten is false."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ruvllm import Agent, RuvLLM
from ruvllm.cli.evals.sets import IntentSet
from ruvllm.encoders.protocol import no_pause, run_now

NOISE = 0.1  # share of outcomes that are told wrong
_JOBS = 250  # tasks between two runs of the background work
_LAST = 500  # tasks that count as the end


@dataclass(frozen=True, slots=True)
class Routed:
    """Shares of a stream's tasks that the right agent got: all, and the last ones."""

    right: float
    last: float


def seeded(intents: IntentSet, seed: int) -> tuple[list[Agent], list[tuple[str, str]]]:
    """An agent for each label, one text as its example; the other texts with their labels, in random order."""
    random, examples, rest = np.random.default_rng(seed), dict[str, str](), list[tuple[str, str]]()
    rows = [(text, label) for label, texts in intents.train.items() for text in texts]
    for i in random.permutation(len(rows)).tolist():
        text, label = rows[i]
        if label in examples:
            rest.append((text, label))
        else:
            examples[label] = text
    return [Agent(label, examples=(text,)) for label, text in sorted(examples.items())], rest


def stream(
    intents: IntentSet,
    seed: int,
    length: int,
    learning: Mapping[str, Any],
    encoder: str = "static",
    advance: Callable[[], None] = lambda: None,
) -> Routed:
    """Route each task, then tell whether that was right.

    Args:
        length: tasks of the stream.
        learning: options of `LearningConfig`; "feedback": False tells nothing at all.
        advance: called after each task.
    """
    options = dict(learning)
    tell = options.pop("feedback", True)
    agents, rest = seeded(intents, seed)
    random, right = np.random.default_rng(seed), list[bool]()
    with RuvLLM(agents, encoder=encoder, config={"learning": options}) as llm:
        for number, (text, label) in enumerate(rest[:length], 1):
            agent = llm.route(text).agent
            right.append(agent == label)
            if tell:
                llm.feedback(text, agent, right=(agent == label) != (random.random() < NOISE))
                if number % _JOBS == 0:
                    run_now(llm.jobs.run(600.0, no_pause, force=True, names=("review", "patterns")))
            advance()
    return Routed(float(np.mean(right)), float(np.mean(right[-_LAST:])))


_OPENINGS = ("hey, ", "please ", "quick question: ", "I would like to know: ", "hi there, ", "sorry to ask again: ")
_ENDINGS = (" please", " thanks", ", if you can", " for me", " today", "")


def repeats(
    intents: IntentSet,
    seed: int,
    length: int,
    learning: Mapping[str, Any],
    encoder: str = "static",
    advance: Callable[[], None] = lambda: None,
) -> Routed:
    """Route tasks that are told at once, then each of them again as somebody else would say it, with a slip of the pen.

    Shares are of the second time. Arguments are those of `stream`; half of `length` are tasks of their own.
    """
    agents, rest = seeded(intents, seed)
    random, right = np.random.default_rng(seed), list[bool]()
    with RuvLLM(agents, encoder=encoder, config={"learning": dict(learning)}) as llm:
        tasks = rest[: length // 2]
        for text, label in tasks:
            llm.route(text)
            llm.feedback(text, label)
            advance()
        for i in random.permutation(len(tasks)).tolist():
            text, label = tasks[i]
            right.append(llm.route(_said_again(text, random)).agent == label)
            advance()
    return Routed(float(np.mean(right)), float(np.mean(right[-_LAST:])))


def _said_again(text: str, random: np.random.Generator) -> str:
    """Other words around it, and two letters in the wrong order."""
    at = int(random.integers(max(len(text) - 1, 1)))
    slipped = text[:at] + text[at : at + 2][::-1] + text[at + 2 :]
    return f"{random.choice(_OPENINGS)}{slipped}{random.choice(_ENDINGS)}"
