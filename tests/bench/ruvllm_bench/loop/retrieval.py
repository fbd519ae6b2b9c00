"""Searches in other people's conversations, after ratings of searches in dialogues of our own."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ruvllm import InputError, RuvLLM
from ruvllm.encoders.protocol import run_now
from ruvllm_bench.learn.exchange import LocalCoordinator
from ruvllm_bench.loop.dialogues import dialogues
from ruvllm_bench.loop.routing import NOISE

_COLLECTION, _FOUND, _UNANSWERABLE = "talks", 5, 5
_FIX = 'give {"conversations": [{"turns": [{"id", "speaker", "text"}], "questions": [{"question", "evidence"}]}]}'


@dataclass(frozen=True, slots=True)
class Conversation:
    """Turns with their speakers' names, and questions with the places of the turns that answer them."""

    turns: tuple[str, ...]
    questions: tuple[tuple[str, tuple[int, ...]], ...]


def read_conversations(path: Path) -> list[Conversation]:
    """Conversations in LoCoMo's form, without the questions that nothing answers. Raises InputError: no such file."""
    try:
        data = json.loads(path.read_text("utf-8"))["conversations"]
        return [_conversation(one["turns"], one["questions"]) for one in data]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} cannot be read: {error}"[:200], field=str(path), fix=_FIX) from None


def _conversation(turns: list[dict[str, Any]], questions: list[dict[str, Any]]) -> Conversation:
    place = {turn["id"]: number for number, turn in enumerate(turns)}
    asked = [
        (one["question"], tuple(place[id] for id in one["evidence"]))
        for one in questions
        if one["evidence"] and place.keys() >= {*one["evidence"]} and one.get("category") != _UNANSWERABLE
    ]
    return Conversation(tuple(f"{turn['speaker']}: {turn['text']}" for turn in turns), tuple(asked))


def recall(
    conversations: list[Conversation],
    seed: int,
    count: int,
    learning: Mapping[str, Any],
    encoder: str = "static",
    advance: Callable[[], None] = lambda: None,
) -> float:
    """The share of the evidence among the first five turns found, as a mean over all questions.

    Args:
        count: dialogues whose questions are rated before, one rating in ten being of a turn at random.
        learning: options of `LearningConfig`.
        advance: called after each dialogue and conversation.
    """
    with RuvLLM(encoder=encoder, config={"learning": dict(learning)}) as llm:
        _rated(llm, count, seed, advance)
        return _found(llm, conversations, advance)


def pulled(
    conversations: list[Conversation],
    seed: int,
    count: int,
    encoder: str = "static",
    advance: Callable[[], None] = lambda: None,
) -> tuple[float, float]:
    """(before, after) an installation that rated nothing pulls what two others push, who rated half of the dialogues.

    Args: as for `recall`.
    """
    with RuvLLM(encoder=encoder) as llm:
        coordinator = LocalCoordinator(llm.encoders.static.dim)
        before = _found(llm, conversations, advance)
        for half in (2 * seed, 2 * seed + 1):
            with RuvLLM(encoder=encoder) as other:
                _rated(other, count // 2, half, advance, forget=False)
                run_now(other.federated.push(coordinator))
        run_now(llm.federated.pull(coordinator))
        return before, _found(llm, conversations, advance)


def _rated(llm: RuvLLM, count: int, seed: int, advance: Callable[[], None], *, forget: bool = True) -> None:
    """Rate the questions of so many dialogues."""
    random = np.random.default_rng(seed)
    for dialogue in dialogues(count, seed):
        here = llm.memory.add(dialogue.turns, collection=_COLLECTION)
        for question in dialogue.questions:
            right = int(random.integers(len(here))) if random.random() < NOISE else question.turn
            llm.memory.rate(question.text, [here[right]], collection=_COLLECTION)
        if forget:
            llm.memory.forget(here)
        advance()


def _found(llm: RuvLLM, conversations: list[Conversation], advance: Callable[[], None]) -> float:
    """The share of the evidence among the first turns found."""
    found = list[float]()
    for conversation in conversations:
        ids = llm.memory.add(conversation.turns, collection=_COLLECTION)
        for text, evidence in conversation.questions:
            hits = {one.memory.id for one in llm.memory.search(text, _FOUND, collection=_COLLECTION, recall=1.0)}
            found.append(sum(ids[place] in hits for place in evidence) / len(evidence))
        llm.memory.forget(ids)
        advance()
    return float(np.mean(found))
