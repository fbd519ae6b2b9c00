"""Complex queries and long documents, answered through sub-queries (FEATURES.md E8)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import replace
from time import monotonic
from typing import Any

from ruvllm.artifacts.shipped import shipped_encoder
from ruvllm.encoders.cache import LruCache
from ruvllm.encoders.protocol import Encoder, run_now
from ruvllm.errors import BackendError, ConfigError, InputError
from ruvllm.hints import snake_case
from ruvllm.inference.backend import Backend
from ruvllm.memory.found import Found
from ruvllm.memory.memory import MemoryStore
from ruvllm.reprs import shortened
from ruvllm.rlm.answers import Delta, Finding, Remembers, RlmAnswer, RlmConfig, RlmEvent
from ruvllm.rlm.decompose import RuleDecomposer
from ruvllm.rlm.document import Document
from ruvllm.rlm.plan import Decomposer, checked_query, key_of
from ruvllm.rlm.reading import (
    Grounding,
    Merged,
    ground,
    legend,
    merge,
    plain_answer,
    renumbered,
    synthesis_messages,
    unanswered_line,
)
from ruvllm.rlm.run import Budget, Engine, Run, in_task

_DOCUMENTS = 4  # kept indexed


class RlmController:
    """Takes a query apart, answers its parts from memory, documents and a backend, and puts the answers together.

    Args:
        encoder: of texts and sources; the shipped static one, if None. A mapping in its place counts as settings.
        backend: writes; without one, answers are the sentences of what is found, word for word.
        memory: looked up at every sub-query.
        decomposer: rules, if None.
        settings: fields of `RlmConfig`; camelCase is understood.

    Raises:
        ConfigError: a setting is unknown or out of range.
    """

    def __init__(
        self,
        encoder: Encoder | Mapping[str, Any] | None = None,
        backend: Backend | None = None,
        memory: Remembers | None = None,
        *,
        decomposer: Decomposer | None = None,
        clock: Callable[[], float] = monotonic,
        **settings: Any,
    ) -> None:
        if isinstance(encoder, Mapping):  # of settings, as other systems have it
            settings, encoder = {**encoder, **settings}, None
        if not hasattr(backend, "generate") and backend is not None:
            raise ConfigError(f"backend is {shortened(backend)}", field="backend", fix="give a Backend, or None")
        self.config = _configured(RlmConfig(), settings)
        self._encoder, self._backend, self._memory = encoder or shipped_encoder(), backend, memory
        self._decomposer, self._clock = decomposer or RuleDecomposer(), clock
        self._answers: LruCache[tuple[str, str], tuple[float, RlmAnswer]] = LruCache(self.config.cache)
        self._documents: LruCache[str, Document] = LruCache(_DOCUMENTS)
        self._runner: asyncio.Runner | None = None

    def query(self, query: str, *, context: str | Document | None = None, deadline: float | None = None) -> RlmAnswer:
        """The answer to a query.

        Args:
            context: a text to answer from, of any length; a `Document` is indexed once for many queries.
            deadline: seconds; the configured one when None.

        Raises:
            InputError: an unusable query or context, or a call inside a running event loop with a backend.
        """
        if self._backend is None and not self._decomposer.tokens(""):
            return run_now(self.aquery(query, context=context, deadline=deadline))
        if in_task():
            raise InputError("this thread runs an event loop", field="query", fix="await aquery instead")
        self._runner = self._runner or asyncio.Runner()
        return self._runner.run(self.aquery(query, context=context, deadline=deadline))

    async def aquery(
        self, query: str, *, context: str | Document | None = None, deadline: float | None = None
    ) -> RlmAnswer:
        """`query`, awaited."""
        return await self._answer(query, context, deadline, lambda _: None)

    async def astream(
        self, query: str, *, context: str | Document | None = None, deadline: float | None = None
    ) -> AsyncGenerator[RlmEvent, None]:
        """The same as events: plans, the answer to each sub-query as it comes, the text, and the whole at the end."""
        events: asyncio.Queue[RlmEvent | None] = asyncio.Queue()
        task = asyncio.ensure_future(self._answer(query, context, deadline, events.put_nowait))
        task.add_done_callback(lambda _: events.put_nowait(None))
        try:
            while (event := await events.get()) is not None:
                yield event
            yield await task
        finally:
            task.cancel()

    async def read(self, text: str, name: str = "") -> Document:
        """Index a text for many queries. Raises InputError: there is nothing in it."""
        return await Document.read(text, self._encoder, name)

    def add_memory(self, text: str, **about: Any) -> list[int]:
        """Remember a text; see `MemoryStore.add`. Raises InputError: the memory cannot be written to."""
        if not isinstance(self._memory, MemoryStore):
            raise InputError("there is no memory to write to", field="memory", fix="give a MemoryStore as `memory`")
        self.clear_cache()
        return self._memory.add(text, **about)

    async def search_memory(self, query: str, k: int | None = None) -> list[Found]:
        """The memories nearest to a text, best first; none without a memory."""
        return [] if self._memory is None else list(await self._memory.asearch(query, k or self.config.top_k))

    def clear_cache(self) -> None:
        """Forget the answers kept."""
        self._answers.clear()

    def cache_stats(self) -> dict[str, float]:
        """Size, capacity, hits, misses and the share of hits."""
        cache = self._answers
        counts = {"size": len(cache), "capacity": cache.capacity, "hits": cache.hits, "misses": cache.misses}
        return counts | {"hit_rate": cache.hits / max(cache.hits + cache.misses, 1)}

    def configure(self, **changes: Any) -> RlmConfig:
        """Change settings from the next query on. Raises ConfigError: one is unknown or out of range."""
        self.config = _configured(self.config, changes)
        self._answers = LruCache(self.config.cache)
        return self.config

    def close(self) -> None:
        """Let the event loop of `query` go."""
        if self._runner is not None:
            self._runner.close()
            self._runner = None

    async def _answer(
        self, query: str, context: str | Document | None, deadline: float | None, emit: Callable[[RlmEvent], None]
    ) -> RlmAnswer:
        query = checked_query(query)
        config = self.config if deadline is None else _configured(self.config, {"deadline": deadline})
        budget = Budget(config.token_budget, config.deadline, self._clock)
        document = await self._document(context)
        key = (key_of(query), document.key if document else "")
        if (stored := self._cached(key)) is not None:
            emit(Delta(stored.text))
            return stored
        engine = Engine(config, self._encoder, self._backend, self._decomposer, self._memory)
        run = Run(engine, document, budget, emit)
        try:
            answer = await _written(run, query, await run.findings(query), emit)
        finally:
            run.close()
        if not answer.unanswered:
            self._answers.put(key, (self._clock(), answer))
        return answer

    def _cached(self, key: tuple[str, str]) -> RlmAnswer | None:
        entry = self._answers.get(key)
        if entry is None or self._clock() - entry[0] > self.config.ttl:
            return None
        return replace(entry[1], cached=True)

    async def _document(self, context: str | Document | None) -> Document | None:
        if context is None or isinstance(context, Document):
            return context
        document = self._documents.get(context) if isinstance(context, str) else None
        if document is None:
            document = await self.read(context)
            self._documents.put(context, document)
        return document


async def _written(run: Run, query: str, findings: Sequence[Finding], emit: Callable[[RlmEvent], None]) -> RlmAnswer:
    """The answer from the findings, written again while its sources do not bear it out."""
    config, merged = run.engine.config, merge(findings)
    body, by_llm = await _synthesised(run, query, merged, emit, ())
    sources = merged.sources or tuple(run.read)
    measured = await ground(body, sources, run.engine.encoder) if merged.answered else None
    again = 0
    while by_llm and measured and measured.doubtful and again < config.reflections:
        if measured.score >= config.min_quality:
            break
        again += 1
        emit(Delta("", restart=True))
        other, by_llm = await _synthesised(run, query, merged, emit, measured.doubtful)
        better = await ground(other, sources, run.engine.encoder)
        if better is not None and better.score > measured.score:
            body, measured = other, better
        else:
            emit(Delta(body, restart=True))
    tail = unanswered_line(merged) + ("" if by_llm else legend(merged.sources))
    if tail:
        emit(Delta(tail))
    return _answer(run, query, body + tail, merged, measured, again)


async def _synthesised(
    run: Run, query: str, merged: Merged, emit: Callable[[RlmEvent], None], doubtful: Sequence[str]
) -> tuple[str, bool]:
    """(text, whether a backend wrote it)."""
    alone = len(merged.findings) == 1
    if run.engine.backend is not None and merged.answered and (doubtful or not alone):
        answer = run.engine.config.answer_tokens
        room = int(
            (min(run.budget.left, run.engine.backend.context) - min(answer, run.budget.left // 3)) / run.budget.ratio
        )
        messages = synthesis_messages(query, merged, run.join, room, doubtful)
        try:
            said = await run.ask(messages, answer, lambda text: emit(Delta(text))) if messages else None
        except (BackendError, TimeoutError):
            emit(Delta("", restart=True))
            said = None
        if said:
            numbers = range(1, len(merged.sources) + 1)
            return renumbered(said.strip(), dict(zip(numbers, numbers, strict=True))), True
    text = plain_answer(merged)
    emit(Delta(text))
    return text, alone and run.engine.backend is not None


def _answer(run: Run, query: str, text: str, merged: Merged, measured: Grounding | None, again: int) -> RlmAnswer:
    covered = len(merged.answered) / len(merged.findings)
    return RlmAnswer(
        query,
        text,
        covered * (measured.score if measured else 0.0),
        measured.score if measured else None,
        merged.sources,
        merged.findings,
        tuple(finding.query for finding in merged.unanswered),
        run.budget.usage,
        max(finding.depth for finding in merged.findings),
        run.calls,
        again,
    )


def _configured(config: RlmConfig, changes: dict[str, Any]) -> RlmConfig:
    return replace(config, **{snake_case(name): value for name, value in changes.items()})
