"""A language model for JavaScript: it runs the graph and keeps the caches, everything else is the core's."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Mapping
from contextlib import aclosing
from typing import Any

import numpy as np
from pyodide.ffi import to_js
from ruvllm_web.answers import outcome

from ruvllm.errors import InputError, RuvllmError
from ruvllm.inference.backend import Message, Params
from ruvllm.inference.causal_lm import CausalLM
from ruvllm.inference.local_model import read_model


class Chat:
    """One model.

    Args:
        decoder: a Decoder of JavaScript (src/llm/session.ts).
    """

    def __init__(self, name: str, manifest: str, tokenizer: str, template: str, decoder: Any) -> None:
        model = read_model(name, json.loads(manifest), json.loads(tokenizer), template)
        self._session = _Session(decoder)
        self._model = CausalLM(model, self._session)

    def answer(self, messages: str, params: str, say: Callable[[str], None]) -> Any:
        """A task of a ChatAnswer; `say` hears each piece of its text."""
        self._session.begin()
        return asyncio.ensure_future(outcome(self._answer(json.loads(messages)["messages"], json.loads(params), say)))

    def cancel(self) -> None:
        """End the answer that is being written after its next token."""
        self._session.cancelled = True

    async def _answer(self, messages: Any, params: Any, say: Callable[[str], None]) -> dict[str, Any]:
        turns = [Message(message["role"], message["content"]) for message in messages]
        try:
            stop = params.get("stop", ())
            wanted = Params(**params | {"stop": (stop,) if isinstance(stop, str) else tuple(stop)})
        except TypeError:
            raise InputError("an option is of another type", field="options", fix="see `ChatOptions`") from None
        text, end = "", None
        try:
            async with aclosing(self._model.stream(turns, wanted)) as chunks:
                async for chunk in chunks:
                    end = chunk
                    if chunk.text:
                        text += chunk.text
                        say(chunk.text)
        except _CancelledError:
            pass
        usage = None if end is None or end.usage is None else end.usage
        return {
            "text": text,
            "finish_reason": (end.finish_reason if end else None) or "cancelled",
            "usage": usage and {"prompt_tokens": usage.prompt_tokens, "completion_tokens": usage.completion_tokens},
            "confidence": end.confidence if end else None,
            **self._session.times(),
        }


class _CancelledError(RuvllmError):
    """Nobody waits for the answer any more."""


class _Cache:
    """A cache that JavaScript holds as long as this lives."""

    def __init__(self, decoder: Any, number: int, tokens: int) -> None:
        self._decoder, self.number, self.tokens = decoder, number, tokens

    def __del__(self) -> None:
        self._decoder.free(self.number)


class _Tensor:
    """Any tensor of a cache, all or its first tokens."""

    def __init__(self, cache: _Cache, tokens: int) -> None:
        self.cache, self.tokens = cache, tokens

    def __getitem__(self, places: tuple[slice, slice, slice]) -> _Tensor:
        return _Tensor(self.cache, min(self.tokens, places[2].stop))


class _Outputs(dict[str, Any]):
    """Logits by their name, and the cache's tensor by that of each of its tensors."""

    def __init__(self, logits: Any, tensor: _Tensor) -> None:
        super().__init__(logits=logits)
        self._tensor = tensor

    def __missing__(self, name: str) -> _Tensor:
        return self._tensor


class _Session:
    """Steps in JavaScript, and how long they took."""

    def __init__(self, decoder: Any) -> None:
        self._decoder = decoder
        self.cancelled = False
        self.begin()

    def begin(self) -> None:
        """A question was asked."""
        self.cancelled = False
        self._began, self._reused = time.monotonic(), 0
        self._steps: list[float] = []

    def times(self) -> dict[str, Any]:
        """As in a ChatAnswer."""
        written, steps = len(self._steps), self._steps
        spent = steps[-1] - steps[0] if written > 1 else 0
        return {
            "reused_tokens": self._reused,
            "first_token_ms": 1000 * (steps[0] - self._began) if steps else 0,
            "tokens_per_second": (written - 1) / spent if spent else 0,
        }

    async def run(self, inputs: Mapping[str, Any]) -> Mapping[str, Any]:
        """One step; the caches in and out are _Tensors but before the first token."""
        if self.cancelled:
            raise _CancelledError("it was cancelled")
        held = next((value for value in inputs.values() if isinstance(value, _Tensor)), None)
        number, reused = (held.cache.number, held.tokens) if held else (0, 0)
        ids = inputs["input_ids"][0]
        if not self._steps:
            self._reused = reused
        step = await self._decoder.run(to_js(ids), number, reused)
        # Only the last part of a prompt gives the first token: what came before it did not count.
        now = time.monotonic()
        self._steps = [now] if len(ids) > 1 else [*self._steps, now]
        logits = np.frombuffer(step.logits.to_bytes(), np.float32)
        total = reused + len(ids)
        return _Outputs(logits, _Tensor(_Cache(self._decoder, step.cache, total), total))
