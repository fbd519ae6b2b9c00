"""An installation's side of a coordinator: what its feedback lets travel, and what others' feedback brings back."""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from secrets import randbits, token_hex
from typing import Any, Protocol

from ruvllm.encoders.protocol import Pause, apart, no_pause
from ruvllm.errors import BackendError, InputError, StoreError
from ruvllm.inference.endpoint import Endpoint
from ruvllm.learning.federated.coordinator import Accepted
from ruvllm.learning.federated.ephemeral import QUALITY, EphemeralAgent
from ruvllm.learning.federated.groups import Privacy
from ruvllm.learning.federated.wire import MOST_BYTES, SharedModel, Update
from ruvllm.options import FederatedConfig
from ruvllm.reprs import one_line
from ruvllm.routing.service import RoutingService
from ruvllm.state.names import FEDERATED_SENT, PULLED
from ruvllm.state.packing import read_json
from ruvllm.state.steps import Steps
from ruvllm.state.store import KeptFeedback, Store
from ruvllm.text.lexical import stems

__all__ = ["Coordinator", "FederatedClient", "Pulled", "Pushed", "RemoteCoordinator", "pulled_model"]

_MOST = 2_000  # texts of one update
_TIMEOUT = 30.0  # seconds of silence


class Coordinator(Protocol):
    """Where updates go and the shared model comes from."""

    async def push(self, update: bytes) -> Accepted:
        """Hand an update over."""
        ...

    async def pull(self) -> bytes:
        """The model that all updates made."""
        ...


class RemoteCoordinator:
    """An edge server that others push to as well.

    Args:
        url: its address, e.g. "https://team.example:3000".
        key: an API key of it, "" where it wants none.

    Raises:
        ConfigError: the URL cannot be one.
    """

    def __init__(self, url: str, key: str = "") -> None:
        self._at = Endpoint(url.rstrip("/").removesuffix("/v1"), "coordinator")
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}
        if key and not (key.isascii() and key.isprintable() and " " not in key):
            raise InputError("the API key holds blanks or odd characters", field="key", fix="give the key alone")

    async def push(self, update: bytes) -> Accepted:
        """Raises BackendError: it cannot be reached, or does not take it."""
        answer = await apart(lambda: self._request("v1/federated/updates", update))
        try:
            fields = json.loads(answer)
            return Accepted(**{name: fields[name] for name in ("groups", "texts", "refused", "again", "consolidated")})
        except (ValueError, TypeError, KeyError, RecursionError):
            raise self._strange() from None

    async def pull(self) -> bytes:
        """Raises BackendError: it cannot be reached, or gives none."""
        return await apart(lambda: self._request("v1/federated/model", None))

    def _request(self, path: str, body: bytes | None) -> bytes:
        from http.client import HTTPException
        from urllib.error import HTTPError
        from urllib.request import HTTPRedirectHandler, ProxyHandler, Request, build_opener

        class Stay(HTTPRedirectHandler):  # the key is for this server alone
            def redirect_request(self, *_: Any) -> None:
                return None

        opener = build_opener(Stay, *([ProxyHandler({})] if self._at.local else []))
        request = Request(self._at.at(path), body, self._headers | {"Content-Type": "application/octet-stream"})
        try:
            with opener.open(request, timeout=_TIMEOUT) as response:
                data: bytes = response.read(MOST_BYTES + 1)
        except HTTPError as refused:
            with refused:
                raise self._refusal(refused.code, refused.read(65_536)) from None
        except (OSError, HTTPException) as error:
            message = f"{self._at.url} cannot be reached: {getattr(error, 'reason', error)}"[:240]
            fix = "check the address, and that `ruvllm serve` runs there"
            raise BackendError(message, kind="unavailable", field="url", fix=fix) from None
        if len(data) > MOST_BYTES:
            raise self._strange()
        return data

    def _refusal(self, status: int, body: bytes) -> BackendError:
        try:
            fields: Any = json.loads(body)
        except (ValueError, RecursionError):
            fields = None
        fields = fields if isinstance(fields, dict) else {}
        message = f"{self._at.url} answered {status}: {fields.get('detail') or 'no reason'!s}"[:240]
        if status in (401, 403):
            fix = "give a key that `ruvllm keys add` made there, with --key or RUVLLM_API_KEY"
            return BackendError(message, kind="refused", field="key", fix=fix, status=status)
        fix = str(fields.get("fix") or "give the address of a ruvllm server")[:240]
        if status == 429 or status >= 500:
            return BackendError(message, kind="unavailable", field="url", fix=fix)
        return BackendError(message, kind="refused", field="url", fix=fix, status=status)

    def _strange(self) -> BackendError:
        fix = "give the address of a ruvllm server of this version"
        return BackendError(f"{self._at.url} answered something else", kind="bad_response", field="url", fix=fix)


@dataclass(frozen=True, slots=True)
class Pushed:
    """What travelled.

    Attributes:
        texts, groups: that the coordinator took; refused: groups it did not.
        updates, bytes: sent.
        waiting: texts of agents that have too few of them to travel.
    """

    texts: int
    groups: int
    refused: int
    updates: int
    bytes: int
    waiting: int

    __repr__ = one_line


@dataclass(frozen=True, slots=True)
class Pulled:
    """What a coordinator's model says.

    Attributes:
        routes: it tells apart.
        agents: names of those that are among the agents here.
        texts: it was learnt from, everybody's together.
        changed: whether decisions rest on another model now.
    """

    routes: int
    agents: tuple[str, ...]
    texts: int
    changed: bool

    __repr__ = one_line


@dataclass(slots=True)
class _Sent:
    """What has travelled, as the state file has it.

    Attributes:
        agent: the name of this installation to coordinators, of no meaning.
        ids: of feedback whose text is in an update.
        pending: an update that may not have arrived.
    """

    agent: str = field(default_factory=lambda: token_hex(16))
    ids: set[int] = field(default_factory=set)
    pending: bytes = b""

    @classmethod
    def of(cls, data: bytes) -> _Sent:
        try:
            fields = read_json(data)
            return cls(
                str(fields["agent"]), {int(i) for i in fields["ids"]}, b64decode(fields["pending"], validate=True)
            )
        except (KeyError, TypeError, ValueError) as bad:
            fix = "push with --all, which begins anew"
            raise StoreError(f"no usable list of what has travelled: {bad}"[:200], field="state", fix=fix) from None

    def to_bytes(self) -> bytes:
        fields = {"agent": self.agent, "ids": sorted(self.ids), "pending": b64encode(self.pending).decode()}
        return json.dumps(fields).encode()


def pulled_model(store: Store, dim: int, steps: Steps | None = None) -> SharedModel | None:
    """The model that was pulled last; None without one, or where it is of another width or damaged: pull again.

    Args:
        steps: counts and logs one that is damaged.
    """
    try:
        data = store.load(PULLED)
        model = SharedModel.from_bytes(data) if data else None
    except (StoreError, InputError) as damaged:
        if steps is not None:
            steps.failed("federated", damaged)
        return None
    return model if model is not None and model.dim == dim else None


class FederatedClient:
    """Pushes groups of confirmed texts, never a text, and lets the router decide with what is pulled.

    A text travels once. What is about to travel is in the state file first, so that a lost answer is followed by the
    same update, which counts once.

    Args:
        store: holds the feedback, and what has travelled of it.
        routing: whose router decides with what is pulled.
        options: texts in a group that travels, and noise.
    """

    def __init__(self, store: Store, routing: RoutingService, options: FederatedConfig) -> None:
        self._store, self._routing, self._static = store, routing, routing.encoders.static
        self._least = options.least
        self._privacy = Privacy(options.epsilon, options.delta) if options.epsilon else None

    async def push(self, coordinator: Coordinator, pause: Pause = no_pause, *, everything: bool = False) -> Pushed:
        """Send what feedback has taught since the last time.

        Args:
            everything: also what has travelled before, to a coordinator that has not got it.

        Raises:
            BackendError: it did not arrive; the next push sends it again.
            StoreError: it cannot be written that it is on its way; it is not, then.
        """
        sent = _Sent() if everything else self._sent()
        texts = groups = refused = updates = size = 0
        while sent.pending or await self._prepare(sent, pause):
            accepted = await coordinator.push(sent.pending)
            texts, groups, refused = texts + accepted.texts, groups + accepted.groups, refused + accepted.refused
            updates, size = updates + 1, size + len(sent.pending)
            sent.pending = b""
            self._store.put(FEDERATED_SENT, sent.to_bytes())
        return Pushed(texts, groups, refused, updates, size, len(self._unsent(sent)))

    async def pull(self, coordinator: Coordinator, pause: Pause = no_pause) -> Pulled:
        """Decide with what everybody's feedback has taught, after a restart as well.

        Raises:
            BackendError: the coordinator gives no model.
            InputError: one that is damaged, or of another width.
            StoreError: it cannot be written.
        """
        data = await coordinator.pull()
        model = SharedModel.from_bytes(data)
        if model.dim != self._static.dim and model.routes:
            fix = f"use a coordinator of {self._static.dim} dimensions"
            raise InputError(f"a model of {model.dim} dimensions", field="url", fix=fix)
        names = {agent.name for agent in self._routing.agents}
        changed = bool(model.routes) and data != self._store.load(PULLED)
        if changed:
            self._store.put(PULLED, data)
            await self._routing.router.use_shared(model, pause)
        return Pulled(len(model.routes), tuple(sorted(names.intersection(model.routes))), model.texts, changed)

    async def undo_pull(self) -> bool:
        """Decide by what was learnt here alone again; whether there was anything else."""
        if not self._store.load(PULLED):
            return False
        self._store.put(PULLED, b"")
        await self._routing.router.use_shared(None)
        return True

    async def exchange(self, coordinator: Coordinator, pause: Pause = no_pause) -> str:
        """`push` and `pull`; what they did, in words."""
        pushed, pulled = await self.push(coordinator, pause), await self.pull(coordinator, pause)
        return f"pushed {pushed.texts} texts, pulled {len(pulled.agents)} agents of {pulled.texts} texts"

    def status(self) -> Mapping[str, Any]:
        """Counts as plain JSON types: texts that have travelled, that wait; agents that a pulled model speaks for."""
        sent, model = self._sent(), pulled_model(self._store, self._static.dim)
        names = {agent.name for agent in self._routing.agents}
        shared = len(names.intersection(model.routes)) if model else 0
        return {"sent": len(sent.ids), "waiting": len(self._unsent(sent)), "shared_agents": shared}

    def _sent(self) -> _Sent:
        data = self._store.load(FEDERATED_SENT)
        return _Sent.of(data) if data else _Sent()

    async def _prepare(self, sent: _Sent, pause: Pause) -> bool:
        """Put the next update into `sent`, and on disk; whether there is any."""
        rows = self._unsent(sent)
        if self._privacy is None:
            rows = _ready(rows, self._least)
        if not (rows := rows[:_MOST]):
            return False
        routes = sorted({row.feedback.agent for row in rows} | {agent.name for agent in self._routing.agents})
        agent = EphemeralAgent(
            sent.agent, self._static.dim, capacity=_MOST + 1, least=self._least, privacy=self._privacy, routes=routes
        )
        for row in rows:
            text = row.feedback.text
            vector = self._static.encode_one(text)
            quality = 1.0 if row.rating is None else max(QUALITY, (row.rating - 1) / 4)
            agent.process_trajectory(vector, quality=quality, model=row.feedback.agent, words=stems(text))
            await pause()
        agent.serial = randbits(52)  # a copy of the state file on another machine shall not use the same ones
        update: Update = agent.export_state()
        sent.pending = update.to_bytes()
        sent.ids |= {row.id for row in rows}
        self._store.put(FEDERATED_SENT, sent.to_bytes())
        return True

    def _unsent(self, sent: _Sent) -> list[KeptFeedback]:
        """The last word on each text that has not travelled, whatever came of it since."""
        gone = {_same(text) for i, text in self._store.read("SELECT id, text FROM feedback") if i in sent.ids}
        last: dict[str, KeptFeedback] = {}
        for row in self._store.feedback_rows():
            text, agent = _same(row.feedback.text), row.feedback.agent
            if row.feedback.right:
                last[text] = row
            elif text in last and last[text].feedback.agent == agent:
                del last[text]
        return [row for text, row in last.items() if text not in gone]


def _ready(rows: list[KeptFeedback], least: int) -> list[KeptFeedback]:
    """Whole agents' texts, up to about `_MOST`: those of agents that have enough of them to travel."""
    counts = Counter(row.feedback.agent for row in rows)
    rows = [row for row in rows if counts[row.feedback.agent] >= least]
    rows = sorted(rows, key=lambda row: (row.feedback.agent, row.id))[:_MOST]
    last = rows[-1].feedback.agent if rows else ""
    few = sum(row.feedback.agent == last for row in rows) < least  # cut off by the bound: it comes next time
    return [row for row in rows if row.feedback.agent != last] if few else rows


def _same(text: str) -> str:
    """Alike for texts that k-anonymity shall not count twice."""
    return " ".join(text.casefold().split())
