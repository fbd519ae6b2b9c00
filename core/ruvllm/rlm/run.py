"""One query on its way through its sub-queries."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from math import ceil
from time import monotonic
from typing import TypeVar

from ruvllm.encoders.protocol import Encoder
from ruvllm.errors import BackendError
from ruvllm.inference.backend import Backend, Chunk, Completion, Message, Params, Usage, estimate_usage, gather
from ruvllm.inference.extractive import CANNOT_ANSWER
from ruvllm.inference.passages import Passage
from ruvllm.rlm.answers import Answered, Finding, Planned, Remembers, RlmConfig, RlmEvent
from ruvllm.rlm.decompose import RuleDecomposer
from ruvllm.rlm.document import Document
from ruvllm.rlm.plan import Decomposer, Join, Plan, SubQuery, key_of, without_circles
from ruvllm.rlm.reading import asks_for_all, cited, extracted, leaf_messages, opening
from ruvllm.text.lexical import content, stems

_MARGIN = 1.5  # real tokens to estimated ones, until a backend has told: English has about 1.0, dense code 1.4


class Budget:
    """What is left.

    Args:
        tokens: of prompts and answers together.
        seconds: from now on; None for no deadline.
    """

    def __init__(self, tokens: int, seconds: float | None = None, clock: Callable[[], float] = monotonic) -> None:
        self.tokens, self.prompt, self.completion, self.estimated = tokens, 0, 0, False
        self.waiting = 0  # requests that are still to come, and want their share
        self.ratio = _MARGIN  # of a backend's tokens to estimated ones
        self._reserved, self._clock = 0, clock
        self._until = None if seconds is None else clock() + seconds

    @property
    def left(self) -> int:
        """Tokens neither spent nor reserved."""
        return self.tokens - self.prompt - self.completion - self._reserved

    @property
    def seconds(self) -> float | None:
        """Until the deadline, 0 when it has passed; None without one."""
        return None if self._until is None else max(0.0, self._until - self._clock())

    @property
    def late(self) -> bool:
        """Whether the deadline has passed."""
        return self.seconds == 0

    @property
    def usage(self) -> Usage:
        """What was spent."""
        return Usage(self.prompt, self.completion, self.estimated)

    def allowance(self) -> int:
        """Tokens for one request, so that as much is left for each that waits."""
        return self.left // (self.waiting + 1)

    def prompt_tokens(self, messages: list[Message]) -> int:
        """At most, as far as this backend's tokens are known."""
        return ceil(estimate_usage(messages, "").prompt_tokens * self.ratio)

    def reserve(self, tokens: int) -> bool:
        """Set tokens aside; False if there are not so many."""
        if tokens > self.left:
            return False
        self._reserved += tokens
        return True

    def settle(self, reserved: int, usage: Usage, messages: list[Message] | None = None) -> None:
        """Give back what was reserved, and count what was used; what a backend counts corrects the estimates."""
        self._reserved -= reserved
        self.prompt += usage.prompt_tokens
        self.completion += usage.completion_tokens
        self.estimated |= usage.estimated
        if messages and not usage.estimated:
            estimate = estimate_usage(messages, "").prompt_tokens
            self.ratio = max(self.ratio, usage.prompt_tokens / max(estimate, 1))


T = TypeVar("T")
_PER_PART = 2  # passages that stand for a share of a document
_LEAST_ANSWER = 32  # tokens
_ANSWER_FRACTION = 3  # an answer gets a third of a request's tokens, unless there is more than enough
_LEAST_SURE = 0.1  # a model to which its own tokens were less likely than that has lost the thread
_UNSURE = 0.5  # and one below this has, when it takes up no word of what it was asked and given
_RULES = RuleDecomposer()


@dataclass(frozen=True, slots=True)
class Engine:
    """What queries are answered with."""

    config: RlmConfig
    encoder: Encoder
    backend: Backend | None
    decomposer: Decomposer
    memory: Remembers | None


def in_task() -> bool:
    """Whether an event loop runs this, so that there can be tasks and deadlines."""
    try:
        return asyncio.current_task() is not None
    except RuntimeError:
        return False


class Run:
    """Takes a query apart, deeper where a part is complex, and answers what is left.

    Attributes:
        read: passages that the backend was given, each once.
    """

    def __init__(
        self, engine: Engine, document: Document | None, budget: Budget, emit: Callable[[RlmEvent], None]
    ) -> None:
        self.engine, self.document, self.budget, self._emit = engine, document, budget, emit
        self.join: Join = "parts"
        self.calls = 0
        self.read = dict[Passage, None]()
        self._free = asyncio.Semaphore(engine.config.max_parallel) if in_task() else None
        self._tasks: dict[str, asyncio.Task[Finding]] = {}

    async def findings(self, query: str) -> list[Finding]:
        """The answers to its sub-queries, in order; one for a query that stays whole."""
        self.budget.waiting += 1
        return await self._solve(SubQuery(query), 0, frozenset(), ())

    async def _solve(
        self, part: SubQuery, depth: int, above: frozenset[str], earlier: Sequence[Finding]
    ) -> list[Finding]:
        plan = await self._plan(part.text, depth, above)
        if not plan.parts:
            if self.document is not None and asks_for_all(part.text):
                return await self._overview(part.text, self.document, depth)
            return [await self._leaf(part.text, depth, earlier)]
        if depth == 0:
            self.join = plan.join
            self.budget.waiting += 1  # for the synthesis
        self._emit(Planned(plan, depth))
        return await self._branch(plan, depth, above | {key_of(part.text)})

    async def _plan(self, text: str, depth: int, above: frozenset[str]) -> Plan:
        """What to do with a query; no parts where it is to be answered as it stands."""
        config, decomposer = self.engine.config, self.engine.decomposer
        cost = decomposer.tokens(text)
        if depth >= config.max_depth or self.budget.late:
            return Plan(text)
        if cost and depth and not _RULES.plan(text).parts:
            return Plan(text)  # an LLM is asked about a part only if something speaks for its being complex
        if cost > self.budget.allowance() or not self.budget.reserve(cost):
            return without_circles(_RULES.plan(text), above)
        spent = Usage(cost, estimated=True)
        self.calls += bool(cost)
        try:
            plan = await self._in_time(decomposer.decompose(text))
            spent = plan.usage
        except TimeoutError:
            return Plan(text)
        finally:
            self.budget.settle(cost, spent)
        return without_circles(plan, above)

    async def _branch(self, plan: Plan, depth: int, above: frozenset[str]) -> list[Finding]:
        """The parts, all at once where an event loop allows it; each waits for those that it needs."""
        self.budget.waiting += len(plan.parts) - 1
        tasks: list[asyncio.Task[list[Finding]]] = []
        done: list[list[Finding]] = []

        async def one(place: int) -> list[Finding]:
            part = plan.parts[place]
            needed = [await tasks[before] if tasks else done[before] for before in part.after]
            earlier = [finding for each in needed for finding in each]
            below = depth + 1 + self._group(place, len(plan.parts))
            if below > self.engine.config.max_depth:
                self.budget.waiting -= 1
                return [self._answered(Finding(part.text, depth=below, missing="depth"))]
            return await self._solve(part, below, above, earlier)

        if not in_task():
            for place in range(len(plan.parts)):
                findings = await one(place)
                done.append(findings)
            return [finding for each in done for finding in each]
        try:
            async with asyncio.TaskGroup() as group:
                tasks += [group.create_task(one(place)) for place in range(len(plan.parts))]
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from None
        return [finding for task in tasks for finding in task.result()]

    def _group(self, place: int, count: int) -> int:
        """How many levels deeper a part is: those beyond what one query may have form a group of their own."""
        most = self.engine.config.max_sub_queries
        return place // (most - 1) if count > most else 0

    async def _leaf(self, text: str, depth: int, earlier: Sequence[Finding]) -> Finding:
        """The same question twice is asked once."""
        key = key_of(text)
        if earlier or not in_task():
            return await self._answer(text, depth, earlier)
        if key in self._tasks:
            self.budget.waiting -= 1
        else:
            self._tasks[key] = asyncio.ensure_future(self._answer(text, depth, earlier))
        return replace(await self._tasks[key], depth=depth)

    async def _answer(self, text: str, depth: int, earlier: Sequence[Finding]) -> Finding:
        try:
            passages = await self._in_time(self._passages(text, earlier))
        except TimeoutError:
            self.budget.waiting -= 1
            return self._answered(Finding(text, depth=depth, missing="deadline"))
        return await self._one_of(text, passages, earlier, depth)

    async def _one_of(self, text: str, passages: Sequence[Passage], earlier: Sequence[Finding], depth: int) -> Finding:
        """Read passages, when it is this question's turn."""
        try:
            if self._free is None:
                return self._answered(await self._read(text, passages, earlier, depth))
            async with self._free:
                return self._answered(await self._read(text, passages, earlier, depth))
        except TimeoutError:
            return self._answered(Finding(text, depth=depth, missing="deadline"))

    async def _passages(self, text: str, earlier: Sequence[Finding]) -> list[Passage]:
        """What the document and memory have on a sub-query; one that refers back is looked up with what it means."""
        if self.budget.late:
            raise TimeoutError
        config, memory = self.engine.config, self.engine.memory
        sought = " ".join([*(finding.query for finding in earlier), text])
        read = [] if self.document is None else await self.document.find(sought, config.top_k)
        remembered = [] if memory is None else [Passage.of(hit) for hit in await memory.asearch(sought, config.top_k)]
        return [passage for pair in zip_longest(read, remembered) for passage in pair if passage is not None]

    async def _read(self, text: str, passages: Sequence[Passage], earlier: Sequence[Finding], depth: int) -> Finding:
        allowance = self.budget.left // max(1, self.budget.waiting)
        self.budget.waiting -= 1
        if self.budget.late:
            raise TimeoutError
        backend = self.engine.backend
        if backend is None:
            return await extracted(text, passages, self.engine.encoder, depth)
        allowance = min(allowance, backend.context)
        answer = min(self.engine.config.answer_tokens, allowance // _ANSWER_FRACTION)
        messages, used = leaf_messages(text, passages, earlier, int((allowance - answer) / self.budget.ratio))
        if not messages or answer < _LEAST_ANSWER:
            return await self._fall_back(text, passages, depth, "budget")
        try:
            said = await self.ask(messages, answer)
        except BackendError as error:
            return await self._fall_back(text, passages, depth, error.kind)
        if said is None:
            return await self._fall_back(text, passages, depth, "budget")
        self.read.update(dict.fromkeys(used))
        return cited(text, said, used, depth)

    async def ask(self, messages: list[Message], answer: int, tell: Callable[[str], None] | None = None) -> str | None:
        """What the backend answers, paid from the budget; None if it cannot be paid.

        Args:
            answer: tokens of it, at most.
            tell: is given the pieces as they come.

        Raises:
            BackendError: it gives no answer, or one that it does not believe itself.
            TimeoutError: the deadline came first.
        """
        backend, budget = self.engine.backend, self.budget
        prompt = budget.prompt_tokens(messages)
        answer = min(answer, budget.left - prompt)
        if backend is None or answer < _LEAST_ANSWER or not budget.reserve(prompt + answer):
            return None
        params = Params(max_tokens=answer, temperature=self.engine.config.temperature, timeout=budget.seconds or None)
        spent = Usage(prompt, answer, estimated=True)  # of an answer that breaks off nobody says what it took
        self.calls += 1
        try:
            if tell is None:
                said = await self._in_time(backend.generate(messages, params))
            else:
                said = await self._in_time(_telling(backend.stream(messages, params), tell))
            spent = said.usage
        finally:
            budget.settle(prompt + answer, spent, messages)
        if _is_nonsense(said, messages):
            message = f"{backend.name} wrote what it holds for unlikely itself ({said.confidence:.2f})"
            raise BackendError(message, kind="bad_response", fix="use a better model")
        return CANNOT_ANSWER if said.confidence == 0 else said.text

    def close(self) -> None:
        """Break off what is still being asked."""
        for task in self._tasks.values():
            task.cancel()

    async def _fall_back(self, text: str, passages: Sequence[Passage], depth: int, why: str) -> Finding:
        """What the passages say by themselves, when nobody can be asked."""
        finding = await extracted(text, passages, self.engine.encoder, depth)
        return replace(finding, missing=why) if finding.missing else finding

    async def _overview(self, text: str, document: Document, depth: int) -> list[Finding]:
        """A question about the whole document: shares of it are read apart, and what they say is merged."""
        outline = document.outline(self.engine.config.max_sub_queries * _PER_PART)
        shares = [outline[at : at + _PER_PART] for at in range(0, len(outline), _PER_PART)]
        self.budget.waiting += len(shares) - (depth > 0)  # at the top, the synthesis waits too
        works = [self._part(text, part, f"part {n} of {len(shares)}", depth) for n, part in enumerate(shares, 1)]
        return list(await asyncio.gather(*works)) if in_task() else [await work for work in works]

    async def _part(self, text: str, part: Sequence[Passage], name: str, depth: int) -> Finding:
        if self.engine.backend is not None:
            return await self._one_of(f"{text} ({name})", part, (), depth + 1)
        self.budget.waiting -= 1
        return self._answered(Finding(name.capitalize(), f"{opening(part[0].text)} [1]", (part[0],), depth + 1))

    def _answered(self, finding: Finding) -> Finding:
        self._emit(Answered(finding))
        return finding

    async def _in_time(self, work: Awaitable[T]) -> T:
        """Raises TimeoutError when the deadline comes first; without an event loop nothing can be broken off."""
        seconds = self.budget.seconds
        if seconds is None or not in_task():
            return await work
        return await asyncio.wait_for(work, seconds)


def _is_nonsense(said: Completion, messages: Sequence[Message]) -> bool:
    """By the backend's own confidence; an answer of one that tells none, or says that it cannot answer, never is."""
    if not said.confidence or said.confidence >= _UNSURE:
        return False
    wanted = frozenset(content(stems(" ".join(message.content for message in messages))))
    return said.confidence < _LEAST_SURE or wanted.isdisjoint(content(stems(said.text)))


async def _telling(chunks: AsyncIterator[Chunk], tell: Callable[[str], None]) -> Completion:
    """A whole answer, told as it comes."""

    async def telling() -> AsyncIterator[Chunk]:
        async for chunk in chunks:
            if chunk.text:
                tell(chunk.text)
            yield chunk

    return await gather(telling(), "")
