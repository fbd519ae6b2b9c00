"""A backend that says what a test wants, without waiting for anything."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from ruvllm.errors import BackendError, BackendFailure
from ruvllm.inference.backend import Chunk, Completion, Message, Params, Usage, gather


class Scripted:
    """Says `answer` word by word, and that it is sure of it; fails after `fails_after` words if that is set.

    Attributes:
        confidence: of each answer; None says nothing of it.
        asked: the messages and params of each call.
        closed: streams that were left or ended.
    """

    def __init__(self, answer: str = "Do it on Monday.", name: str = "scripted", context: int = 8_192) -> None:
        self.answer, self.name, self.model, self.context = answer, name, f"{name}-1b", context
        self.fails_after: int | None = None
        self.fails_with: BackendFailure = "unavailable"
        self.confidence: float | None = 0.9
        self.dropped = 0
        self.asked: list[tuple[tuple[Message, ...], Params]] = []
        self.closed = 0

    async def generate(self, messages: Sequence[Message], params: Params) -> Completion:
        return await gather(self.stream(messages, params), self.model)

    async def stream(self, messages: Sequence[Message], params: Params) -> AsyncIterator[Chunk]:
        self.asked.append((tuple(messages), params))
        try:
            for i, word in enumerate(self.answer.split(" ")):
                if i == self.fails_after:
                    raise BackendError("it is down", kind=self.fails_with)
                yield Chunk(f" {word}" if i else word)
            yield Chunk("", "stop", Usage(40, 4), self.confidence, dropped=self.dropped)
        finally:
            self.closed += 1

    async def healthy(self) -> bool:
        return self.fails_after is None

    async def close(self) -> None:
        pass
