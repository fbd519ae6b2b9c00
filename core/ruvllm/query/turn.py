"""One query on its way through the service, and how a synchronous caller waits for it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from dataclasses import dataclass, field, replace
from functools import partial
from time import perf_counter
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from ruvllm.errors import BackendError, InputError
from ruvllm.inference.backend import Backend, Completion, Message, Params, estimate_tokens
from ruvllm.inference.extractive import Extractive
from ruvllm.inference.tiers import Ladder
from ruvllm.memory.subgraph import AttentionSummary, EdgeKey
from ruvllm.query.prompting import Prompt
from ruvllm.query.requests import LoggedRequest
from ruvllm.query.responses import STAGES, Constraints, PassedResponse, Response, RoutingInfo, Source
from ruvllm.query.retrieval import Retrieved
from ruvllm.query.sessions import Conversation, new_id
from ruvllm.query.writers import Plan
from ruvllm.sizing.edits import EditedCode, carry_out
from ruvllm.sizing.fastgrnn import ModelSize, SizeChoice
from ruvllm.sizing.fastgrnn.session import RouterSession
from ruvllm.types import Action, Agent, Decision, Tier

T = TypeVar("T")


@dataclass(slots=True)
class Turn:
    """One query on its way: each step fills in what the next ones need."""

    text: str
    constraints: Constraints
    conversation: Conversation | None
    state: RouterSession  # the session's, one turn on; the session takes it when the turn is finished
    messages: tuple[Message, ...] = ()
    edited: EditedCode | None = None  # what a program made of it
    request_id: str = field(default_factory=lambda: new_id("req"))
    vector: NDArray[np.float32] = field(init=False)  # (dim,), as the encoder gave it
    found: Retrieved = field(init=False)
    decision: Decision = field(init=False)
    agent: Agent | None = None  # who answers; None where the router is too unsure of it
    size: SizeChoice | None = None  # what the session's network says
    sources: tuple[Source, ...] = ()
    edges: tuple[EdgeKey, ...] = ()
    attention: AttentionSummary | None = None
    plan: Plan = field(init=False)
    prompt: Prompt = field(init=False)
    writer: Backend = field(init=False)
    latency: dict[str, float] = field(default_factory=lambda: dict.fromkeys(STAGES, 0.0))  # µs
    began: float = field(default_factory=perf_counter)
    since: float = field(init=False)

    def __post_init__(self) -> None:
        self.since = self.began

    def lap(self, stage: str) -> None:
        """All time since the last lap belongs to this stage, so that none is lost between two of them."""
        now = perf_counter()
        self.latency[stage] += (now - self.since) * 1e6
        self.since = now

    @property
    def left(self) -> float | None:
        """Seconds until the answer has to be there; None without a limit."""
        limit = self.constraints.max_latency_ms
        return None if limit is None else max(0.0, limit / 1_000 - (perf_counter() - self.began))

    @property
    def advice(self) -> str:
        """What to do about a route that is not sure (FEATURES.md R9); "" where it is."""
        agent, sure = self.decision.agent, f"{self.decision.confidence:.2f}"
        if self.plan.choice.by == "edit":
            return ""
        if self.decision.action == Action.CONFIRM:
            return f"probably a task for {agent} ({sure}): confirm that, or name another agent, by feedback"
        if self.decision.action == Action.ESCALATE:
            who = f"{self.plan.backend.name} does ({self.plan.choice.why})"
            return f"no agent is sure enough to speak ({agent} {sure}): {who}"
        return ""

    def edit(self) -> EditedCode | None:
        """What a program makes of it. A conversation that says how to answer, or a request for a form, is a model's."""
        limits = self.constraints
        shaped = limits.force_model or limits.stop or limits.looping or Params(extra=limits.extra).essential
        if shaped or any(one.role == "system" for one in self.messages):
            return None
        edited = carry_out(self.messages[-1].content if self.messages else self.text)
        fits = edited is None or limits.max_tokens is None or estimate_tokens(edited.text) <= limits.max_tokens
        return edited if fits else None

    def params(self) -> Params:
        """The plan's, with the time that is left. Raises BackendError: there is none."""
        left, params = self.left, self.plan.params
        if left == 0:
            raise self.too_slow()
        return params if left is None else replace(params, timeout=left)

    @property
    def keeps(self) -> bool:
        """Whether anything of it may go into memory: of what is passed on, only where its key says so."""
        return not self.constraints.api or "write-back" in self.constraints.adds

    def logged(self, completion: Completion, written: bool, size: ModelSize | None) -> LoggedRequest:
        """For feedback. An answer that only repeats memory is not worth remembering, nor a broken-off one.

        Args:
            written: whether a model wrote it.
        """
        whole = completion.finish_reason == "stop" and bool(completion.text.strip())
        used = {source.id for source in self.prompt.sources}
        said, route = completion.confidence, self.decision.confidence
        return LoggedRequest(
            request_id=self.request_id,
            text=self.text,
            agent=self.decision.agent,
            vector=self.vector,
            answer=completion.text if whole and written and self.keeps else "",
            # Before anybody rates it, an answer is no better than its route or, if it says so, its backend.
            quality=0.0 if not whole else route if said is None else min(said, route),
            used=written and self.agent is not None and not self.messages,
            sources=tuple(source.id for source in self.prompt.sources),
            edges=tuple(edge for edge in self.edges if used >= {*edge[:2]}),
            conversation=self.conversation,
            turn=self.size.turn if self.size else -1,
            size=size if written else None,
            model=completion.model,
            tokens=(completion.usage.total_tokens or self.prompt.tokens) + self.prompt.needed - self.prompt.tokens,
            cost=completion.cost,
            temperature=self.plan.params.temperature,
            top_p=self.plan.params.top_p,
            agent_id=self.constraints.agent_id,
        )

    def response(self, completion: Completion, tier: Tier, routing: RoutingInfo, author: Backend) -> Response:
        """What the caller gets."""
        made = partial(PassedResponse, body=completion.body) if self.constraints.api else Response
        return made(
            request_id=self.request_id,
            text=completion.text,
            confidence=completion.confidence,
            agent=self.decision.agent,
            tier=tier,
            sources=self.prompt.sources,
            routing=routing,
            usage=completion.usage,
            cost=completion.cost,
            latency=self.latency | {"total": sum(self.latency.values())},
            decision=self.decision,
            session_id=self.conversation.id if self.conversation else None,
            finish_reason=completion.finish_reason,
            warnings=self.warnings(author, completion.dropped),
            choice=self.plan.choice,
            advice=self.advice,
            attention=self.attention,
        )

    def too_slow(self) -> BackendError:
        """The error when there is no answer in time."""
        limit, name = self.constraints.max_latency_ms, self.plan.backend.name
        message = f"{name} had no answer within {limit:g} ms"
        return BackendError(message, kind="timeout", field="max_latency_ms", fix="allow more time, or a smaller model")

    def warnings(self, author: Backend, dropped: int) -> tuple[str, ...]:
        """What the answer had to do without, and who had to stand in for whom.

        Args:
            dropped: messages that it did not read.
        """
        remembered = isinstance(author, Extractive)  # by one who reads all that was found
        out = () if remembered else self.prompt.left_out
        if dropped:
            out += (f"{dropped} of {len(self.prompt.messages)} messages did not fit into {author.name}'s context",)
        errors = self.writer.errors if isinstance(self.writer, Ladder) else ()
        if not errors or author is self.plan.backend:
            return out
        who = "memory" if remembered else author.name
        return (*out, f"{self.plan.backend.name} gave no answer ({errors[0].kind}); {who} answers instead")


class CallerLoop:
    """An event loop of its own for synchronous callers: connections live longer than one call."""

    def __init__(self) -> None:
        self._runner, self._lock = asyncio.Runner(), threading.Lock()

    def run(self, coroutine: Coroutine[Any, Any, T], awaited: str) -> T:
        """Raises InputError: there is a running loop, which would stand still meanwhile."""
        if _is_running():
            coroutine.close()
            message = "an event loop is running here, and the backend has to be awaited"
            raise InputError(message, field="query", fix=f"await {awaited}() instead")
        with self._lock:
            return self._runner.run(coroutine)

    def close(self, last: Coroutine[Any, Any, None]) -> None:
        """Run one more thing, if that is possible here, and end."""
        if _is_running():
            last.close()
            return
        with self._lock:
            self._runner.run(last)
            self._runner.close()


def _is_running() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
