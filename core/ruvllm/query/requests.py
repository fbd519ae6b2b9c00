"""The answers given last, so that feedback about one can reach all that led to it."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ruvllm.errors import InputError
from ruvllm.routing.fastgrnn import ModelSize
from ruvllm.sessions import Conversation

__all__ = ["Asked", "RequestLog"]

EdgeKey = tuple[int, int, str]


@dataclass(slots=True)
class Asked:
    """One query and what became of it.

    Attributes:
        vector: float32 (dim,), of the question.
        answer: "" where there was none that could be kept.
        quality: 0 to 1, an estimate until somebody rates it.
        sources: ids of the memories that were used.
        edges: among them.
        turn: serial in the replay buffer, -1 without one.
        size: of the model that answered; None where none did.
        tokens: of context that were used.
        memory: id of the question and answer in memory; None while they are not there.
        moved: what feedback has added so far to the quality of memories and the weight of edges.
        judged: whether it has taught patterns.
    """

    request_id: str
    text: str
    agent: str
    vector: NDArray[np.float32]
    answer: str = ""
    quality: float = 0.0
    sources: tuple[int, ...] = ()
    edges: tuple[EdgeKey, ...] = ()
    conversation: Conversation | None = None
    turn: int = -1
    size: ModelSize | None = None
    model: str = ""
    tokens: int = 0
    cost: float = 0.0
    temperature: float | None = None
    top_p: float | None = None
    memory: int | None = None
    moved: float = 0.0
    judged: bool = False


class RequestLog:
    """The latest requests by id.

    Args:
        most: of them.
        most_text: characters of their questions and answers together: prompts of agents can be megabytes.
    """

    def __init__(self, most: int = 10_000, most_text: int = 50_000_000) -> None:
        self._most, self._most_text, self._text = most, most_text, 0
        self._known: OrderedDict[str, Asked] = OrderedDict()

    def __len__(self) -> int:
        return len(self._known)

    def add(self, asked: Asked) -> None:
        """Remember a request; the ones used longest ago leave when there are too many, or too large ones."""
        self._forget(asked.request_id)
        self._known[asked.request_id] = asked
        self._text += len(asked.text) + len(asked.answer)
        while len(self._known) > self._most or (self._text > self._most_text and len(self._known) > 1):
            self._forget(next(iter(self._known)))

    def _forget(self, request_id: str) -> None:
        gone = self._known.pop(request_id, None)
        if gone is not None:
            self._text -= len(gone.text) + len(gone.answer)

    def get(self, request_id: str) -> Asked:
        """A request. Raises InputError: there is none of this id any more."""
        found = self._known.get(request_id) if isinstance(request_id, str) else None
        if found is None:
            message = f"no request {str(request_id)[:60]!r} is remembered"
            raise InputError(message, field="request_id", fix="use the request_id of a recent response")
        self._known.move_to_end(request_id)
        return found
