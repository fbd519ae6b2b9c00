"""One query on its way through the service, and how a synchronous caller waits for it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from ruvllm.errors import BackendError, InputError
from ruvllm.inference.backend import Backend, Message
from ruvllm.inference.extractive import Extractive
from ruvllm.inference.tiers import Ladder
from ruvllm.memory.subgraph import AttentionSummary, EdgeKey
from ruvllm.query.prompting import Prompt
from ruvllm.query.responses import STAGES, Constraints, Source
from ruvllm.query.retrieval import Retrieved
from ruvllm.query.sessions import Conversation, new_id
from ruvllm.query.writers import Plan
from ruvllm.sizing.edits import EditedCode
from ruvllm.sizing.fastgrnn import SizeChoice
from ruvllm.sizing.fastgrnn.session import RouterSession
from ruvllm.types import Action, Agent, Decision

__all__ = ["CallerLoop", "Turn"]

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

    def too_slow(self) -> BackendError:
        """The error when there is no answer in time."""
        limit, name = self.constraints.max_latency_ms, self.plan.backend.name
        message = f"{name} had no answer within {limit:g} ms"
        return BackendError(message, kind="timeout", field="max_latency_ms", fix="allow more time, or a smaller model")

    def warnings(self, author: Backend, dropped: int) -> tuple[str, ...]:
        """What the answer had to do without, and who had to stand in for whom.

        Args:
            author: who gave it.
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
