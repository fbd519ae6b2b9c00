"""One answer from several backends: the first that gives a good one, the next where it fails."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field, replace
from math import inf

from ruvllm.errors import BackendError
from ruvllm.inference.backend import (
    Backend,
    Chunk,
    Completion,
    Message,
    Params,
    check_extra,
    estimate_usage,
    gather,
    too_long,
)
from ruvllm.inference.breaker import CircuitBreaker
from ruvllm.text.surrogates import Joiner

__all__ = ["Judge", "Ladder", "Step"]

Judge = Callable[[Sequence[Message], str], float]  # how good an answer is, 0 to 1
_DECLINED = ("content_filter", "refusal")  # ends of an answer that is none, and that nobody else is asked for
_ALIVE = ("refused", "rate_limited")  # failures of a backend that is there
_HELD = 24  # chunks of a judged answer that are held back before its confidence decides


@dataclass(frozen=True, slots=True)
class Step:
    """A backend and its breaker.

    A judged one's answer has to be good, or the next is asked; of another one's it is enough that it is an answer.
    A last resort is asked where those before it are dead, not where they refuse the request or say when to come again.
    """

    backend: Backend
    breaker: CircuitBreaker
    judged: bool = False
    last_resort: bool = False


class _RejectedError(Exception):
    """An answer that is not good enough: all of it, or its first chunks."""

    def __init__(self, chunks: list[Chunk], confidence: float) -> None:
        super().__init__(confidence)
        self.chunks, self.confidence = chunks, confidence


@dataclass(slots=True)
class _Run:
    """What happened so far to one request."""

    params: Params
    deadline: float | None
    errors: list[BackendError] = field(default_factory=list)
    rejected: list[tuple[Step, _RejectedError]] = field(default_factory=list)
    begun: bool = False  # the caller has text
    spent: float = 0.0  # US dollars, on rejected answers

    @property
    def dead(self) -> bool:
        """Whether all that was asked gave no sign of life."""
        return bool(self.errors) and all(error.kind not in _ALIVE for error in self.errors)


class Ladder:
    """A backend that asks several, in order.

    A rejected answer is given after all when those after it fail. Once the caller has text of an answer, no other
    backend goes on with it: its failure is the caller's.

    Args:
        steps: at least one.
        accept: confidence above which a judged answer is good.
        judge: instead of the backends' own confidence; an answer that it judges is not streamed.
        clock: seconds, monotonic.

    Attributes:
        errors: of the backends that gave no answer to the latest request, in the order they were asked.
    """

    def __init__(
        self, steps: Sequence[Step], *, accept: float, judge: Judge | None, clock: Callable[[], float]
    ) -> None:
        self.steps, self._accept, self._judge, self._clock = tuple(steps), accept, judge, clock
        self.errors: Sequence[BackendError] = ()
        first = self.steps[0].backend
        self.name, self.model, self.context = first.name, first.model, first.context

    async def generate(self, messages: Sequence[Message], params: Params) -> Completion:
        """The whole answer; its `backend` and `model` say who gave it, its `cost` includes rejected ones.

        Raises:
            BackendError: no backend gave one; it is the first one's error.
        """
        async with aclosing(self._run(messages, params, held=None)) as chunks:
            return await gather(chunks, self.model)

    def stream(self, messages: Sequence[Message], params: Params) -> AsyncGenerator[Chunk, None]:
        """The same as it is written."""
        return self._run(messages, params, held=_HELD)

    async def healthy(self) -> bool:
        """Whether one of them is."""
        for step in self.steps:
            if step.breaker.wait == 0 and await step.backend.healthy():
                return True
        return False

    async def close(self) -> None:
        """The backends are not its own: see `Tiers.close`."""

    async def _run(self, messages: Sequence[Message], params: Params, held: int | None) -> AsyncGenerator[Chunk, None]:
        run = _Run(params, None if params.timeout is None else self._clock() + params.timeout)
        self.errors = run.errors
        for step in self.steps:
            if step.last_resort and not run.dead:
                continue
            try:
                async with aclosing(self._climb(step, messages, run, held)) as chunks:
                    async for chunk in chunks:
                        yield chunk
                return
            except _RejectedError as rejected:
                run.rejected.append((step, rejected))
                run.spent = rejected.chunks[-1].cost
            except BackendError as error:
                run.errors.append(error)
                if run.begun:
                    raise
        async with aclosing(self._second_best(messages, run)) as chunks:
            async for chunk in chunks:
                yield chunk

    async def _climb(
        self, step: Step, messages: Sequence[Message], run: _Run, held: int | None, picky: bool = True
    ) -> AsyncGenerator[Chunk, None]:
        """One backend's answer, and where the caller is picky nothing of it before it is found good."""
        params = self._params(step, messages, run)
        waiting: list[Chunk] | None = [] if picky else None
        joiner = Joiner()
        with step.breaker.call() as answers:
            async with _closing(step.backend.stream(messages, params)) as chunks:
                async for chunk in chunks:
                    answers()
                    named = self._named(step, chunk, run, joiner)
                    if waiting is None:
                        run.begun = run.begun or bool(named.text)
                        yield named
                        continue
                    waiting.append(named)
                    if self._decided(step, waiting, held):
                        self._verdict(step, messages, waiting)
                        for ready in waiting:
                            run.begun = run.begun or bool(ready.text)
                            yield ready
                        waiting = None
            if waiting is not None:
                message = f"{step.backend.name} ended its answer without a last chunk"
                raise BackendError(message, kind="bad_response", fix="let its last chunk have a finish_reason")

    def _params(self, step: Step, messages: Sequence[Message], run: _Run) -> Params:
        """With the time that is left. Raises BackendError: there is none, or the prompt is too long."""
        needed = estimate_usage(messages, "").prompt_tokens
        if needed > step.backend.context:
            raise too_long(needed, step.backend.name, step.backend.context)
        check_extra(run.params, step.backend)
        if run.deadline is None:
            return run.params
        left = run.deadline - self._clock()
        if left <= 0:
            message = f"no time is left to ask {step.backend.name}"
            raise BackendError(message, kind="timeout", field="timeout", fix="allow more")
        return replace(run.params, timeout=left)

    def _named(self, step: Step, chunk: Chunk, run: _Run, joiner: Joiner) -> Chunk:
        model, name = chunk.model or step.backend.model, chunk.backend or step.backend.name
        text = joiner.feed(chunk.text) + (joiner.close() if chunk.finish_reason is not None else "")
        return replace(chunk, text=text, model=model, backend=name, cost=chunk.cost + run.spent)

    def _decided(self, step: Step, waiting: list[Chunk], held: int | None) -> bool:
        """Whether it can be said now if the answer is good."""
        newest = waiting[-1]
        if newest.finish_reason is not None:
            return True
        if step.judged and (self._judge is not None or held is None):
            return False
        unknown = not step.judged or newest.confidence is None
        return (unknown and bool(newest.text)) or (held is not None and len(waiting) >= held)

    def _verdict(self, step: Step, messages: Sequence[Message], chunks: list[Chunk]) -> None:
        """Raises _RejectedError: the answer is not good."""
        if chunks[-1].finish_reason in _DECLINED:
            return
        text, confidence = "".join(chunk.text for chunk in chunks), chunks[-1].confidence
        if not text.strip():
            confidence = 0.0
        elif step.judged and self._judge is not None:
            confidence = self._judge(messages, text)
        least = self._accept if step.judged else 0.0
        if confidence is not None and not confidence > least:
            raise _RejectedError(chunks, confidence)

    async def _second_best(self, messages: Sequence[Message], run: _Run) -> AsyncGenerator[Chunk, None]:
        """The best of the rejected answers, where an error is no better; else the error."""
        if not run.rejected:
            raise _foremost(run.errors)
        step, best = max(run.rejected, key=lambda one: one[1].confidence)
        if best.confidence == 0 and run.errors:  # it says that it cannot answer; why nobody else did says more
            raise _foremost(run.errors)
        if best.chunks[-1].finish_reason is not None:
            for chunk in best.chunks:
                yield replace(chunk, cost=run.spent)
            return
        async with aclosing(self._climb(step, messages, run, None, picky=False)) as chunks:
            async for chunk in chunks:
                yield chunk


def _foremost(errors: Sequence[BackendError]) -> BackendError:
    """What the caller is told: the first error, or where all are busy, who is free again first."""
    if all(error.kind == "rate_limited" for error in errors):
        return min(errors, key=lambda error: inf if error.retry_after is None else error.retry_after)
    return errors[0]


@asynccontextmanager
async def _closing(chunks: AsyncIterator[Chunk]) -> AsyncIterator[AsyncIterator[Chunk]]:
    """A stream that ends with the block, if it is of a kind that can be ended."""
    try:
        yield chunks
    finally:
        close = getattr(chunks, "aclose", None)
        if close is not None:
            await close()
