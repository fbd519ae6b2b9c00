"""Which backends answer for a tier, in which order (FEATURES.md R15)."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from math import ceil, inf

from ruvllm.errors import BackendError, ConfigError
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
from ruvllm.inference.extractive import Extractive
from ruvllm.inference.passages import Passage
from ruvllm.text.surrogates import Joiner
from ruvllm.types import Tier

AnswerScorer = Callable[[Sequence[Message], str], float]  # how good an answer is, 0 to 1
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
        scorer: instead of the backends' own confidence; an answer that it scores is not streamed.

    Attributes:
        errors: of the backends that gave no answer to the latest request, in the order they were asked.
    """

    def __init__(
        self, steps: Sequence[Step], *, accept: float, scorer: AnswerScorer | None, clock: Callable[[], float]
    ) -> None:
        self.steps, self._accept, self._scorer, self._clock = tuple(steps), accept, scorer, clock
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
                        run.begun = run.begun or bool(named.text or named.events)
                        yield named
                        continue
                    waiting.append(named)
                    if self._decided(step, waiting, held):
                        self._verdict(step, messages, waiting)
                        for ready in waiting:
                            run.begun = run.begun or bool(ready.text or ready.events)
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
        if step.judged and (self._scorer is not None or held is None):
            return False
        unknown = not step.judged or newest.confidence is None
        return (unknown and (newest.called or bool(newest.text))) or (held is not None and len(waiting) >= held)

    def _verdict(self, step: Step, messages: Sequence[Message], chunks: list[Chunk]) -> None:
        """Raises _RejectedError: the answer is not good."""
        if chunks[-1].finish_reason in _DECLINED or chunks[-1].called:
            return
        text, confidence = "".join(chunk.text for chunk in chunks), chunks[-1].confidence
        if not text.strip():
            confidence = 0.0
        elif step.judged and self._scorer is not None:
            confidence = self._scorer(messages, text)
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


_REMEMBERED = 1_000  # outcomes; a window of a busy server holds more, its last ones say enough


class CircuitBreaker:
    """Counts a backend's failures, and lets nobody through to it while it is down.

    Closed: every call goes through. Open: none, for `rest` seconds. Half-open: one, whose outcome closes or
    opens it. What a call tells counts only in the state that it began in, and a cancelled one tells nothing.

    Args:
        failures: so many within the window open it, if they are half of all calls there.
        window: seconds.
        rest: seconds that it stays open.
        patience: a call that was given less time than these seconds and timed out tells nothing.
    """

    def __init__(
        self,
        name: str = "backend",
        *,
        failures: int = 5,
        window: float = 30.0,
        rest: float = 10.0,
        patience: float = 1.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name, self.failures, self.window, self.rest, self.patience = name, failures, window, rest, patience
        self._clock = clock
        self._outcomes: deque[tuple[float, bool]] = deque(maxlen=_REMEMBERED)  # (when, failed)
        self._opened: float | None = None
        self._probing = False
        self._turn = 0  # counts changes of state

    @property
    def state(self) -> str:
        """ "closed", "open" or "half-open"."""
        if self._opened is None:
            return "closed"
        return "half-open" if self._clock() >= self._opened + self.rest else "open"

    @property
    def failing(self) -> bool:
        """Whether the latest call of the window failed, or those that opened it have not been made good yet."""
        if self._opened is not None:
            return True
        when, failed = self._outcomes[-1] if self._outcomes else (0.0, False)
        return failed and when > self._clock() - self.window

    @property
    def wait(self) -> float:
        """Seconds until a call may go through; 0 when one may now."""
        if self._opened is None:
            return 0.0
        left = self._opened + self.rest - self._clock()
        # How long the one request that tries it takes, nobody knows.
        return left if left > 0 else float(self._probing)

    @contextmanager
    def call(self) -> Iterator[Callable[[], None]]:
        """Around one call of the backend.

        Yields what to call as soon as it answers: others need not wait for the end of a long stream.

        Raises:
            BackendError: "unavailable", with `retry_after`, when it is open or being tried; the call is not made.
        """
        self._admit()
        turn, began = self._turn, self._clock()
        failed: bool | None = None

        def answers() -> None:
            nonlocal turn
            if self._opened is not None and turn == self._turn:
                self._tell(turn, False)
                turn = self._turn

        try:
            yield answers
            failed = False
        except BackendError as error:
            failed = self._blames(error, self._clock() - began)
            raise
        finally:
            self._tell(turn, failed)

    def _admit(self) -> None:
        if wait := self.wait:
            message = f"{self.name} failed {self.failures} times or more and rests"
            fix = f"try again in {ceil(wait)} s, or see why it is down"
            raise BackendError(message, kind="unavailable", retry_after=wait, fix=fix)
        if self._opened is not None:
            self._probing = True

    def _blames(self, error: BackendError, took: float) -> bool | None:
        """Whether an error shows that the backend is down (True) or alive (False)."""
        if error.kind == "timeout":
            return True if took >= self.patience else None
        return error.kind in ("unavailable", "bad_response")

    def _tell(self, turn: int, failed: bool | None) -> None:
        if turn != self._turn:
            return
        if self._opened is not None:
            self._probing = False
            if failed is not None:
                self._turn += 1
                self._opened = self._clock() if failed else None
                self._outcomes.clear()
        elif failed is not None:
            self._outcomes.append((self._clock(), failed))
            if failed:
                self._open_if_down()

    def _open_if_down(self) -> None:
        now = self._clock()
        while self._outcomes and self._outcomes[0][0] <= now - self.window:
            self._outcomes.popleft()
        failed = sum(bad for _, bad in self._outcomes)
        if failed >= self.failures and 2 * failed >= len(self._outcomes):
            self._opened, self._turn = now, self._turn + 1


ACCEPT_ABOVE = 0.7  # confidence


class Tiers:
    """The backends of the tiers, with a circuit breaker each.

    A task of low complexity goes to the small, local backend, and on to the large one if the answer is not sure
    enough. A backend that fails is replaced by the next stronger one that there is, then by the next weaker.

    Args:
        backends: at least one; one backend may serve several tiers.
        scorer: how good an answer is, instead of the confidence that backends report; with neither, every answer of a
            backend that does not fail is accepted.
        accept: confidence above which a weaker tier's answer is taken.
        breaker: makes the breaker of a backend from its name.

    Raises:
        ConfigError: there is no backend.
    """

    def __init__(
        self,
        backends: Mapping[Tier, Backend],
        *,
        scorer: AnswerScorer | None = None,
        accept: float = ACCEPT_ABOVE,
        breaker: Callable[[str], CircuitBreaker] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if not backends:
            raise ConfigError("there is no backend", field="backends", fix="give one for a tier at least")
        self.backends = {tier: backends[tier] for tier in sorted(backends)}
        self._scorer, self._accept, self._clock = scorer, accept, clock
        make = breaker or partial(CircuitBreaker, clock=clock)
        self._orders = {tier: self._order(tier) for tier in Tier}
        # A backend of two tiers that is down is down for both.
        self._breakers = {id(backend): make(backend.name) for backend in self.backends.values()}

    def at(
        self,
        tier: Tier,
        passages: Sequence[Passage] = (),
        last_resort: Backend | None = None,
        others: Sequence[Tier] | None = None,
    ) -> Ladder:
        """What answers for a tier: a backend that falls back.

        Args:
            passages: for a backend that answers from them; without any it looks for its own.
            last_resort: asked where all others are dead.
            others: tiers that may stand in for it; all where None.
        """
        order = self.order(tier)
        order = [one for one in order if others is None or one == order[0] or one in others]
        steps = []
        for i, one in enumerate(order):
            backend = self.backends[one]
            breaker = self._breakers[id(backend)]
            if passages and isinstance(backend, Extractive):
                backend = backend.over(passages)
            # Only what a stronger one could do better is worth a second answer.
            stronger = any(later > one for later in order[i + 1 :])
            steps.append(Step(backend, breaker, judged=stronger))
        if last_resort is not None:
            steps.append(Step(last_resort, CircuitBreaker(last_resort.name), last_resort=True))
        return Ladder(steps, accept=self._accept, scorer=self._scorer, clock=self._clock)

    def alone(self, tier: Tier) -> Ladder:
        """The backend of a tier that has one, without another to fall back on, but left alone while it is down."""
        backend = self.backends[tier]
        steps = [Step(backend, self._breakers[id(backend)])]
        return Ladder(steps, accept=self._accept, scorer=None, clock=self._clock)

    def order(self, tier: Tier) -> list[Tier]:
        """The tiers that there is a backend for: this one, the stronger ones, then the weaker, the nearest first."""
        return self._orders[tier]

    def _order(self, tier: Tier) -> list[Tier]:
        return sorted(self.backends, key=lambda one: (one < tier, abs(one - tier)))

    def states(self) -> dict[str, str]:
        """Each backend's circuit by the backend's name: "closed", "open" or "half-open"."""
        return {backend.name: self._breakers[id(backend)].state for backend in self.backends.values()}

    async def healthy(self) -> dict[str, bool]:
        """Which backends, by name, have a chance to answer now."""
        distinct = {id(backend): backend for backend in self.backends.values()}
        return {backend.name: await backend.healthy() for backend in distinct.values()}

    def unavailable(self) -> list[str]:
        """Names of the backends that could not answer when they were last asked."""
        return [backend.name for backend in self.backends.values() if self._breakers[id(backend)].failing]

    async def close(self) -> None:
        """Let the backends go."""
        for backend in {id(backend): backend for backend in self.backends.values()}.values():
            await backend.close()
