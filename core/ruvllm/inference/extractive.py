"""Answers without an LLM: the sentences of memories that answer the question, with their sources."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence

from ruvllm.encoders.protocol import Encoder
from ruvllm.inference.backend import Chunk, Message, Params, Streaming, estimate_tokens, estimate_usage, last_question
from ruvllm.inference.passages import Extract, Passage, extract

CANNOT_ANSWER = "That is not in memory: I cannot answer it from what I remember."
_NOTE = re.compile(r"^\[(\d{1,3})\] (.+)$", re.MULTILINE)
Recall = Callable[[str], Awaitable[Sequence[Passage]]]


class Extractive(Streaming):
    """Says what passages say, word for word, and says so when they do not hold the answer.

    The passages are what `over` was given, else what `recall` finds, else the notes in the system messages: lines that
    begin with their number, as in "[1] The oven is hot." Citations are by these numbers.

    Args:
        encoder: of the space that the passages' scores are cosines in.
        recall: the passages for a question, best first.
        most: sentences of an answer.
    """

    def __init__(
        self, encoder: Encoder, recall: Recall | None = None, *, name: str = "extractive", most: int = 3
    ) -> None:
        self.name, self.model, self.context = name, "extractive", 1_000_000
        self._encoder, self._recall, self._most = encoder, recall, most

    def over(self, passages: Sequence[Passage]) -> Extractive:
        """The same, for one question whose passages are at hand."""

        async def at_hand(_: str) -> Sequence[Passage]:
            return passages

        return Extractive(self._encoder, at_hand, name=self.name, most=self._most)

    async def extract(self, messages: Sequence[Message]) -> Extract:
        """The answer to the last question, in its parts. Raises InputError: no message is by the user."""
        question = last_question(messages)
        if self._recall is not None:
            passages = await self._recall(question)
        else:
            passages = await self._scored(question, _notes(messages))
        return await extract(question, passages, self._encoder, self._most)

    async def _scored(self, question: str, notes: Sequence[str]) -> list[Passage]:
        vectors = await self._encoder.encode([question, *notes])
        return [
            Passage(note, score=float(vector @ vectors[0])) for note, vector in zip(notes, vectors[1:], strict=True)
        ]

    async def stream(self, messages: Sequence[Message], params: Params) -> AsyncGenerator[Chunk, None]:
        """The answer by sentences, its sources at the end; `confidence` is 0 when it says that it has none.

        Raises:
            InputError: no message is by the user.
        """
        found = await self.extract(messages)
        said, reason = "", "stop"
        for part in _parts(found):
            if params.max_tokens is not None and estimate_tokens(part) > params.max_tokens - estimate_tokens(said):
                reason = "length"
                break
            said += part
            yield Chunk(part, confidence=found.confidence)
        yield Chunk("", reason, estimate_usage(messages, said), found.confidence)


def _parts(found: Extract) -> list[str]:
    if not found.sentences:
        return [CANNOT_ANSWER]
    said = [f"{' ' if i else ''}{cited.text} [{cited.source}]" for i, cited in enumerate(found.sentences)]
    labels = [f"[{n}] {label}" for n, source in found.sources.items() if (label := _label(source))]
    return [*said, "\n\n" + "\n".join(labels)] if labels else said


def _label(source: Passage) -> str:
    return source.source or (f"memory {source.id}" if source.id else "")


def _notes(messages: Sequence[Message]) -> list[str]:
    """The numbered lines, as far as their numbers go on by one."""
    found: list[str] = []
    for message in messages:
        if message.role == "system":
            for number, text in _NOTE.findall(message.content):
                if int(number) == len(found) + 1:
                    found.append(text)
    return found
