"""A backend that repeats the question, for tests and first steps; every answer says so."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence

from ruvllm.inference.backend import Chunk, Message, Params, Streaming, estimate_tokens, estimate_usage, last_question

_WORDS = re.compile(r"\s*\S+")


class Echo(Streaming):
    """No LLM: "[echo] " and the last thing that the user said, word by word.

    Args:
        pause: seconds before each word, to see what a slow backend does to its callers.
    """

    def __init__(
        self, name: str = "echo", *, pause: float = 0.0, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    ) -> None:
        self.name, self.model, self.context = name, "echo", 1_000_000
        self._pause, self._sleep = pause, sleep

    async def stream(self, messages: Sequence[Message], params: Params) -> AsyncGenerator[Chunk, None]:
        """The answer by words. Raises InputError: no message is by the user."""
        said, reason = "", "stop"
        for word in _WORDS.findall(f"[echo] {last_question(messages)}"):
            if params.max_tokens is not None and estimate_tokens(said + word) > params.max_tokens:
                reason = "length"
                break
            if self._pause:
                await self._sleep(self._pause)
            said += word
            yield Chunk(word)
        yield Chunk("", reason, estimate_usage(messages, said))
