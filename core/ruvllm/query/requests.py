"""The answers given last, so that feedback about one can reach all that led to it."""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ruvllm.errors import InputError
from ruvllm.memory.subgraph import EdgeKey
from ruvllm.query.sessions import Conversation
from ruvllm.sizing.fastgrnn import ModelSize
from ruvllm.state.names import REQUESTS
from ruvllm.state.store import Store

_STORED, _STORED_TEXT = 100, 10_000  # requests in the state file, and characters of a question or an answer there
_MOST = 2**63  # of a number there
_KINDS: dict[str, Callable[[Any], Any]] = {
    **dict.fromkeys(("request_id", "text", "agent", "answer", "model"), str),
    **dict.fromkeys(("quality", "cost", "moved"), float),
    **dict.fromkeys(("judged", "used"), bool),
    "tokens": int,
}
_OPTIONAL: dict[str, Callable[[Any], Any]] = {
    **dict.fromkeys(("temperature", "top_p"), float),
    **dict.fromkeys(("memory", "better"), int),
    "size": ModelSize,
    "agent_id": str,
}
_HERE_ONLY = ("vector", "conversation", "turn")  # fields that mean something to this process alone


@dataclass(slots=True)
class LoggedRequest:
    """One query and what became of it.

    Attributes:
        vector: float32 (dim,), of the question; (0,) in one that an earlier process answered.
        answer: "" where there was none that could be kept.
        quality: 0 to 1, the backend's own confidence until somebody rates it; 0 where that is unknown.
        used: whether a model was told to be the agent.
        sources: ids of the memories that were used.
        edges: among them.
        turn: serial in the replay buffer, -1 without one.
        size: of the model that answered; None where none did.
        tokens: of context that were used.
        memory: id of the question and answer in memory; None while they are not there.
        better: id of the answer that somebody gave instead, in memory.
        agent_id: whose knowledge it is; None for everybody's.
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
    used: bool = False
    better: int | None = None
    agent_id: str | None = None


class RequestLog:
    """The latest requests by id; the very latest of them outlive the process.

    Args:
        most_text: characters of their questions and answers together: prompts of agents can be megabytes.
        store: the state file; None keeps none there.
    """

    def __init__(self, most: int = 10_000, most_text: int = 50_000_000, store: Store | None = None) -> None:
        self._most, self._most_text, self._text = most, most_text, 0
        self._requests: OrderedDict[str, LoggedRequest] = OrderedDict()
        self._store, self._changed = store, False

    def __len__(self) -> int:
        return len(self._requests)

    def add(self, request: LoggedRequest) -> None:
        """Remember a request; the ones used longest ago leave when there are too many, or too large ones."""
        self._forget(request.request_id)
        self._requests[request.request_id] = request
        self._text += len(request.text) + len(request.answer)
        self._changed = True
        while len(self._requests) > self._most or (self._text > self._most_text and len(self._requests) > 1):
            self._forget(next(iter(self._requests)))

    def _forget(self, request_id: str) -> None:
        gone = self._requests.pop(request_id, None)
        if gone is not None:
            self._text -= len(gone.text) + len(gone.answer)

    def get(self, request_id: str) -> LoggedRequest:
        """A request.

        Raises:
            InputError: there is none of this id any more.
            StoreError: the state file cannot be read.
        """
        if isinstance(request_id, str) and request_id not in self._requests:
            found = self._stored().get(request_id)
            if found is not None:
                self.add(found)
        found = self._requests.get(request_id) if isinstance(request_id, str) else None
        if found is None:
            message = f"no request {str(request_id)[:60]!r} is remembered"
            raise InputError(message, field="request_id", fix="use the request_id of a recent response")
        self._requests.move_to_end(request_id)
        self._changed = True
        return found

    def forget(self, texts: Sequence[str]) -> None:
        """Let go of requests whose question or answer repeats one of these texts, here; see `erase` for the file."""
        for request in list(self._requests.values()):
            if any(text in request.text or text in request.answer for text in texts):
                self._forget(request.request_id)

    def save(self) -> None:
        """Write the latest into the state file, beside those of other processes. Raises StoreError: it cannot be."""
        if self._store is None or not self._changed:
            return
        with self._store.write():
            together = self._stored() | dict(list(self._requests.items())[-_STORED:])
            rows = [_row(request) for request in list(together.values())[-_STORED:]]
            self._store.put(REQUESTS, json.dumps(rows).encode())
        self._changed = False

    def _stored(self) -> dict[str, LoggedRequest]:
        data = None if self._store is None else self._store.load(REQUESTS)
        try:
            rows = [] if data is None else [_read(row) for row in json.loads(data)]
        except (ValueError, TypeError, KeyError, OverflowError, RecursionError):  # only ratings of old answers are lost
            return {}
        return {request.request_id: request for request in rows}


def open_requests(most: int, keep: bool, store: Store) -> RequestLog:
    """A log whose latest go into the state file, or, where questions and answers are not to be kept there, none.

    Raises:
        StoreError: those that are not to be kept any more cannot be removed.
    """
    if store.path == ":memory:":
        return RequestLog(most)
    if not keep:
        with store.write() as db:
            db.execute("DELETE FROM learnt WHERE name = ?", (REQUESTS,))
    return RequestLog(most, store=store if keep else None)


def _row(request: LoggedRequest) -> dict[str, Any]:
    """As JSON. An answer too long to be kept whole is left out: it can still be rated."""
    row = {field.name: getattr(request, field.name) for field in fields(LoggedRequest) if field.name not in _HERE_ONLY}
    answer = request.answer if len(request.answer) <= _STORED_TEXT else ""
    return row | {"text": request.text[:_STORED_TEXT], "answer": answer}


def _read(row: Mapping[str, Any]) -> LoggedRequest:
    """What `_row` wrote. Raises ValueError, TypeError or KeyError: it is not that."""
    parsed: dict[str, Any] = {name: kind(row[name]) for name, kind in _KINDS.items()}
    parsed |= {name: None if row.get(name) is None else kind(row[name]) for name, kind in _OPTIONAL.items()}
    parsed["sources"] = tuple(map(int, row["sources"]))
    parsed["edges"] = tuple((int(a), int(b), str(kind)) for a, b, kind in row["edges"])
    ids = [*parsed["sources"], *(i for edge in parsed["edges"] for i in edge[:2])]
    numbers = [value for value in parsed.values() if isinstance(value, int | float)]
    if not all(-_MOST < number < _MOST for number in (*ids, *numbers)):  # NaN is not, either
        raise ValueError("a number that nobody wrote")
    return LoggedRequest(vector=np.zeros(0, np.float32), **parsed)
