"""A language model on this machine as a backend: a conversation in, tokens one by one out.

It runs over any session that takes and gives arrays by name: onnxruntime, or onnxruntime-web behind a promise.
"""

from __future__ import annotations

import inspect
import time
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import aclosing
from math import exp
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ruvllm.encoders.protocol import Pause, pause
from ruvllm.errors import BackendError, RuvllmError
from ruvllm.inference.backend import Chunk, LocalParams, Message, Params, Streaming, Usage, too_long
from ruvllm.inference.local_model import LocalModel, Reading, ReadingCache

_REPEATED = 256  # of the last tokens: of a long answer a penalty would forbid every common word
_SEEDS = 1 << 64  # a negative seed is one, too


class Sampler:
    """Picks the tokens of one answer. A repetition penalty is for those it picked, not for the prompt's."""

    def __init__(self, params: Params) -> None:
        self._params = LocalParams.of(params)
        seed = None if params.seed is None else params.seed % _SEEDS
        self._random = np.random.Generator(np.random.PCG64(seed))
        self._picked = deque[int](maxlen=_REPEATED)

    def pick(self, logits: NDArray[Any]) -> tuple[int, float]:
        """A token and the logarithm of its probability under the model itself.

        Args:
            logits: (vocabulary,), any float dtype.

        Raises:
            BackendError: a logit is not a number, or all are -inf.
        """
        plain = logits.astype(np.float64)
        top = plain.max()
        if not np.isfinite(top):
            raise BackendError("the model's logits are no numbers", kind="bad_response", fix="convert the model again")
        token = self._choose(self._penalised(plain))
        self._picked.append(token)
        return token, float(plain[token] - top - np.log(np.exp(plain - top).sum()))

    def _penalised(self, logits: NDArray[np.float64]) -> NDArray[np.float64]:
        penalty = self._params.repeat_penalty
        if penalty == 1 or not self._picked:
            return logits
        picked = np.unique(np.array(self._picked, np.int64))
        changed = logits.copy()
        values = changed[picked]
        changed[picked] = np.where(values > 0, values / penalty, values * penalty)
        return changed

    def _choose(self, logits: NDArray[np.float64]) -> int:
        params = self._params
        if params.temperature == 0:
            return int(logits.argmax())
        tokens = _largest(logits, params.top_k)
        values = logits[tokens] / params.temperature
        weights = np.exp(values - values[0])
        sums = np.cumsum(weights)
        # A token stays when those before it do not reach top_p yet: the first always does.
        count = max(1, int(np.searchsorted(sums, params.top_p * sums[-1], "left")) + 1)
        count = min(count, int(np.searchsorted(-weights, -params.min_p, "right")))
        drawn = self._random.random() * sums[count - 1]
        return int(tokens[min(int(np.searchsorted(sums, drawn, "right")), count - 1)])


def _largest(logits: NDArray[np.float64], most: int) -> NDArray[np.int64]:
    """Places of the `most` largest (0: all that are not -inf), largest first, ties in their order on every host."""
    if 0 < most < len(logits):
        bound = np.partition(logits, -most)[-most]
        above, level = np.flatnonzero(logits > bound), np.flatnonzero(logits == bound)
        places = np.concatenate([above, level[: most - len(above)]])
    else:
        places = np.flatnonzero(logits > -np.inf)
    places.sort()
    return places[np.argsort(-logits[places], kind="stable")].astype(np.int64)


class StopText:
    """Lets an answer through up to the first of some texts, whichever pieces it comes in.

    Attributes:
        stopped: one of them came.
    """

    def __init__(self, stops: Iterable[str]) -> None:
        self._stops = tuple(stops)
        self._held = ""
        self.stopped = False

    def feed(self, piece: str) -> str:
        """What of the answer is certain now; what may be the beginning of a stop waits."""
        text = self._held + piece
        found = [place for stop in self._stops if (place := text.find(stop)) >= 0]
        if found:
            self.stopped, self._held = True, ""
            return text[: min(found)]
        waiting = max((self._overlap(text, stop) for stop in self._stops), default=0)
        cut = len(text) - waiting
        self._held = text[cut:]
        return text[:cut]

    def close(self) -> str:
        """What waited, when nothing follows."""
        held, self._held = self._held, ""
        return held

    @staticmethod
    def _overlap(text: str, stop: str) -> int:
        """Characters at the end of the text that a stop begins with."""
        return next((n for n in range(min(len(stop) - 1, len(text)), 0, -1) if text.endswith(stop[:n])), 0)


Outputs = Mapping[str, Any]
_PREFILL = 256  # tokens read at a time: a cancelled request ends after so many at the latest
_ANSWER_ROOM = 8  # an eighth of the context, at most, is kept free for the answer


class Session(Protocol):
    """What a host brings."""

    def run(self, inputs: Mapping[str, Any]) -> Outputs | Awaitable[Outputs]:
        """The decoder's outputs by name."""
        ...


class CausalLM(Streaming):
    """Answers with a decoder.

    What does not fit into the context: the oldest turns are left out, two by two, until the system's messages, the
    rest and some room for the answer fit; when the last message alone is too long, the request is refused.

    Args:
        keep: conversations whose cache is kept for their next turn.
        pause: awaited after each step of a session that blocks, so that others have their turn.
    """

    def __init__(
        self,
        model: LocalModel,
        session: Session,
        *,
        name: str = "local",
        keep: int = 2,
        clock: Callable[[], float] = time.monotonic,
        pause: Pause = pause,
    ) -> None:
        self.name, self.model, self.context = name, model.name, model.context
        self._model, self._session, self._clock, self._pause = model, session, clock, pause
        self._caches = ReadingCache(model.shape, keep)

    async def stream(self, messages: Sequence[Message], params: Params) -> AsyncGenerator[Chunk, None]:
        """The answer as it is written; a caller that stops reading stops the model.

        Raises:
            BackendError: the prompt does not fit, time ran out, or the session failed.
        """
        prompt, dropped = self._fitted(messages, params)
        most = min(LocalParams.of(params).max_tokens, self.context - len(prompt))
        stops, read = StopText(params.stop), self._model.tokenizer.reader()
        said, written, reason, certainty = "", 0, "length", 0.0
        try:
            async with aclosing(self.tokens(prompt, params, most)) as tokens:
                async for token, logprob in tokens:
                    written, certainty = written + 1, certainty + logprob
                    if token in self._model.ends:
                        reason = "stop"
                        break
                    if text := stops.feed(read(token)):
                        said += text
                        yield Chunk(text, confidence=exp(certainty / written))
                    if stops.stopped:
                        reason = "stop"
                        break
        except BackendError as error:
            error.partial = said
            raise
        usage = Usage(len(prompt), written)
        certain = exp(certainty / written) if written else None
        yield Chunk(stops.close(), reason, usage, certain, dropped=dropped)

    def prompt(self, messages: Sequence[Message], params: Params) -> list[int]:
        """The tokens that the model reads: all messages, or those that fit.

        Raises:
            BackendError: the last message alone does not fit ("refused"), or the template fails.
        """
        return self._fitted(messages, params)[0]

    def _fitted(self, messages: Sequence[Message], params: Params) -> tuple[list[int], int]:
        """(what `prompt` gives, how many messages are not in it)."""
        given = len(messages)
        room = self.context - max(1, min(LocalParams.of(params).max_tokens, self.context // _ANSWER_ROOM))
        while True:
            try:
                ids = self._model.prompt(messages)
            except RuvllmError as bad:
                raise BackendError(bad.message, kind="refused", field=bad.field, fix=bad.fix, status=400) from None
            if len(ids) <= room:
                return ids, given - len(messages)
            shorter = _without_oldest(messages)
            if len(shorter) == len(messages):
                raise too_long(len(ids), self.model, room)
            messages = shorter

    async def tokens(self, prompt: Sequence[int], params: Params, most: int) -> AsyncGenerator[tuple[int, float], None]:
        """At most so many tokens after the prompt, ends included, each with its logarithmic probability.

        Raises:
            BackendError: time ran out, or the session failed.
        """
        began = self._clock()
        reading = self._caches.take(prompt)
        sampler = Sampler(params)
        new = list(prompt[len(reading.ids) :])
        try:
            for _ in range(most):
                logits = await self._read(reading, new, began, params.timeout)
                token, logprob = sampler.pick(logits)
                yield token, logprob
                new = [token]
        finally:
            self._caches.keep(reading)

    async def _read(
        self, reading: Reading, ids: Sequence[int], began: float, timeout: float | None
    ) -> NDArray[np.float32]:
        """Let the model read tokens: float32 (vocabulary,) logits after the last of them."""
        outputs: Outputs = {}
        for start in range(0, len(ids), _PREFILL):
            if timeout is not None and self._clock() - began > timeout:
                raise BackendError(f"{self.model} had no time left after {timeout} s", kind="timeout", fix="allow more")
            part = ids[start : start + _PREFILL]
            total = len(reading.ids) + len(part)
            inputs = reading.tensors | {
                "input_ids": np.array([part], np.int64),
                "attention_mask": np.ones((1, total), np.int64),
                "num_logits_to_keep": np.ones(1, np.int64),
            }
            outputs = await self._run(inputs)
            reading.tensors = self._model.shape.following(reading.tensors, outputs)
            reading.ids += part
        logits: NDArray[np.float32] = np.asarray(outputs["logits"]).reshape(-1)
        return logits

    async def _run(self, inputs: Mapping[str, Any]) -> Outputs:
        try:
            result = self._session.run(inputs)
            if inspect.isawaitable(result):
                return await result
            await self._pause()
            return result
        except RuvllmError:
            raise
        except Exception as bad:
            message = f"{self.model} cannot go on: {str(bad)[:200]}"
            raise BackendError(message, kind="unavailable", fix="free memory, or use a smaller context") from bad

    async def close(self) -> None:
        """Let the caches go; the session belongs to who made it."""
        self._caches.clear()


def _without_oldest(messages: Sequence[Message]) -> list[Message]:
    """Without the first turn after the system's messages, if another one follows it."""
    turns = [i for i, message in enumerate(messages) if message.role != "system"]
    # The last message is what is asked; the one before it may be an answer to what goes.
    gone = set(turns[: min(2, len(turns) - 1)])
    return [message for i, message in enumerate(messages) if i not in gone]
