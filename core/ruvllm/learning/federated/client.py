"""An installation's side of a coordinator: what its feedback lets travel, and what others' feedback brings back."""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from secrets import randbits, token_hex
from typing import Any, Protocol

import numpy as np

from ruvllm.encoders.protocol import Pause, Vectors, in_thread, no_pause
from ruvllm.errors import BackendError, InputError, StoreError
from ruvllm.inference.endpoint import Endpoint
from ruvllm.learning.federated.coordinator import Accepted
from ruvllm.learning.federated.ephemeral import QUALITY, EphemeralAgent
from ruvllm.learning.federated.groups import Privacy
from ruvllm.learning.federated.wire import MOST_BYTES, SharedModel, model_route
from ruvllm.memory.ratings import relevance_of
from ruvllm.memory.records import Records
from ruvllm.options import FederatedConfig
from ruvllm.reprs import Shown
from ruvllm.routing.service import RoutingService
from ruvllm.sizing.chooser import ModelChooser
from ruvllm.state.names import FEDERATED_SENT, PULLED
from ruvllm.state.packing import read_json
from ruvllm.state.record import LITTLE
from ruvllm.state.steps import Steps
from ruvllm.state.store import FeedbackRow, Store
from ruvllm.text.lexical import stems

_MOST = 2_000  # texts of one update
_TIMEOUT = 30.0  # seconds of silence


class Coordinator(Protocol):
    """Where updates go, and the model of all of them comes from. Both raise BackendError: it cannot be reached."""

    async def push(self, update: bytes) -> Accepted:
        """Hand an update over; the same one twice counts once."""
        ...

    async def pull(self) -> bytes:
        """The model that all updates made."""
        ...


class RemoteCoordinator:
    """A ruvllm server that others push to as well.

    Args:
        url: its address, e.g. "https://team.example:3000".
        key: an API key of it, "" where it wants none.

    Raises:
        ConfigError: the URL cannot be one.
    """

    def __init__(self, url: str, key: str = "") -> None:
        if not (key.isascii() and key.isprintable() and " " not in key) and key:
            raise InputError("the API key holds blanks or odd characters", field="key", fix="give the key alone")
        self.endpoint = Endpoint(url.rstrip("/").removesuffix("/v1"), "coordinator")
        self.headers = {"Authorization": f"Bearer {key}"} if key else {}

    async def push(self, update: bytes) -> Accepted:
        """Hand an update over. Raises BackendError: it cannot be reached, or does not take it."""
        answer = await self.send("v1/federated/updates", update)
        try:
            return Accepted(**json.loads(answer))
        except (ValueError, TypeError, RecursionError):
            raise self.failure("answered something else", "bad_response") from None

    async def pull(self) -> bytes:
        """The model that all updates made. Raises BackendError: it cannot be reached, or gives none."""
        return await self.send("v1/federated/model")

    async def send(self, path: str, body: bytes | None = None) -> bytes:
        """As `request`, beside what else is to be done."""
        return await in_thread(lambda: self.request(path, body))

    def request(self, path: str, body: bytes | None = None, media: str = "application/octet-stream") -> bytes:
        """What it answers to one request. Raises BackendError: it cannot be reached, or refuses."""
        from http.client import HTTPException
        from urllib.error import HTTPError
        from urllib.request import HTTPRedirectHandler, ProxyHandler, Request, build_opener

        class Stay(HTTPRedirectHandler):  # the key is for this server alone
            def redirect_request(self, *_: Any) -> None:
                return None

        opener = build_opener(Stay, *([ProxyHandler({})] if self.endpoint.local else []))
        request = Request(self.endpoint.at(path), body, self.headers | {"Content-Type": media})
        try:
            with opener.open(request, timeout=_TIMEOUT) as response:
                data: bytes = response.read(MOST_BYTES + 1)
        except HTTPError as refused:
            with refused:
                raise self.refusal(refused.code, refused.read(65_536)) from None
        except (OSError, HTTPException) as error:
            fix = "check the address, and that `ruvllm serve` runs there"
            raise self.failure(f"cannot be reached: {getattr(error, 'reason', error)}", fix=fix) from None
        if len(data) > MOST_BYTES:
            raise self.failure("answered something else", "bad_response")
        return data

    def refusal(self, status: int, body: bytes) -> BackendError:
        """What an answer with this status says."""
        try:
            problem = json.loads(body)
            reason, fix = str(problem["detail"]), str(problem.get("fix") or "")[:240]
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            reason = fix = ""
        if status in (401, 403):
            fix = "give a key that `ruvllm keys add` made there, with --key or RUVLLM_API_KEY"
        kind: Any = "unavailable" if status == 429 or status >= 500 else "refused"
        return self.failure(f"answered {status}: {reason}", kind, fix or "give the address of a ruvllm server")

    def failure(self, what: str, kind: Any = "unavailable", fix: str = "") -> BackendError:
        """It did not do what was asked."""
        fix = fix or "give the address of a ruvllm server of this version"
        return BackendError(f"{self.endpoint.url} {what}"[:240], kind=kind, field="url", fix=fix)


@dataclass(frozen=True, slots=True, repr=False)
class Pushed(Shown):
    """What travelled: texts and groups that the coordinator took, groups that it refused, updates and their bytes.

    Attributes:
        waiting: texts of agents that have too few of them to travel.
        outcomes: of models' answers that the coordinator took.
    """

    texts: int
    groups: int
    refused: int
    updates: int
    bytes: int
    waiting: int
    outcomes: int = 0


@dataclass(frozen=True, slots=True, repr=False)
class Pulled(Shown):
    """What a coordinator's model says: how many routes it tells apart, learnt from how many texts of everybody's.

    Attributes:
        agents: names of the routes that are agents here.
        changed: whether decisions rest on another model now.
        models: names of the models here that others' outcomes speak of.
    """

    routes: int
    agents: tuple[str, ...]
    texts: int
    changed: bool
    models: tuple[str, ...] = ()


@dataclass(slots=True)
class _Sent:
    """What has travelled, as the state file has it.

    Attributes:
        agent: the name of this installation to coordinators, of no meaning.
        ids: of feedback whose text is in an update.
        pending: an update that may not have arrived.
        rated: id of the last rated search that the adapter of an update has learnt.
        outcomes: of each backend, how many its updates are of (`ModelChooser.since`).
    """

    agent: str = field(default_factory=lambda: token_hex(16))
    ids: set[int] = field(default_factory=set)
    pending: bytes = b""
    rated: int = 0
    outcomes: dict[str, int] = field(default_factory=dict)

    @classmethod
    def load(cls, store: Store) -> _Sent:
        if not (data := store.load(FEDERATED_SENT)):
            return cls()
        try:
            row = read_json(data)
            pending, rated = b64decode(row["pending"], validate=True), int(row.get("rated", 0))
            outcomes = {str(name): int(count) for name, count in row.get("outcomes", {}).items()}
            return cls(str(row["agent"]), {int(i) for i in row["ids"]}, pending, rated, outcomes)
        except (AttributeError, KeyError, TypeError, ValueError) as bad:
            fix = "push with --all, which begins anew"
            raise StoreError(f"no usable list of what has travelled: {bad}"[:200], field="state", fix=fix) from None

    def save(self, store: Store) -> None:
        pending = b64encode(self.pending).decode()
        row = {"agent": self.agent, "ids": sorted(self.ids), "pending": pending, "rated": self.rated}
        row["outcomes"] = self.outcomes
        store.put(FEDERATED_SENT, json.dumps(row).encode())


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

    What rated searches say of how queries lie to what answers them travels as an adapter, which moves the queries of
    whoever pulls it. How good models' answers were travels as groups of prompts likewise, and lets whoever pulls them
    choose models by it. Each text, rating and outcome travels once. What is about to travel is in the state file first,
    so that a lost answer is followed by the same update, which counts once.

    Args:
        options: texts in a group that travels, and noise.
        on_model: lets searches and choices of models go by a pulled model as well; names of those models.
    """

    def __init__(
        self,
        store: Store,
        routing: RoutingService,
        options: FederatedConfig,
        sizing: ModelChooser,
        on_model: Callable[[SharedModel | None], Sequence[str]],
    ) -> None:
        self._store, self._routing, self._static, self._on_model = store, routing, routing.encoders.static, on_model
        self._sizing = sizing
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
        if everything:
            _Sent().save(self._store)
        taken, size = list[Accepted](), 0
        while update := _Sent.load(self._store).pending or await self._prepare(pause):
            taken.append(await coordinator.push(update))
            size += len(update)
            with self._store.write():  # another process may have sent it too, and have the next one on its way
                if (sent := _Sent.load(self._store)).pending == update:
                    sent.pending = b""
                    sent.save(self._store)
        sent = _Sent.load(self._store)
        names = ("texts", "groups", "refused", "outcomes")
        texts, groups, refused, outcomes = (sum(getattr(one, name) for one in taken) for name in names)
        return Pushed(texts, groups, refused, len(taken), size, len(self._unsent(sent)), outcomes)

    async def pull(self, coordinator: Coordinator, pause: Pause = no_pause) -> Pulled:
        """Decide with what everybody's feedback has taught, after a restart as well.

        Raises:
            BackendError: the coordinator gives no model.
            InputError: one that is damaged, or of another width.
            StoreError: it cannot be written.
        """
        data = await coordinator.pull()
        model = SharedModel.from_bytes(data)
        if model.dim != self._static.dim and (model.routes or model.outcomes):
            fix = f"use a coordinator of {self._static.dim} dimensions"
            raise InputError(f"a model of {model.dim} dimensions", field="url", fix=fix)
        router = self._routing.router
        anything = bool(model.routes or model.outcomes) or model.adapter is not None
        changed = anything and (router.shared is None or data != self._store.load(PULLED))
        if changed:
            self._store.put(PULLED, data)
            await router.use_shared(model, pause)
        models = tuple(self._on_model(model)) if anything else ()
        return Pulled(len(model.routes), self._among(model), model.texts, changed, models)

    async def undo_pull(self) -> bool:
        """Decide by what was learnt here alone again; whether there was anything else."""
        if not self._store.load(PULLED):
            return False
        self._store.put(PULLED, b"")
        await self._routing.router.use_shared(None)
        self._on_model(None)
        return True

    def status(self) -> Mapping[str, Any]:
        """Counts as plain JSON types: texts that have travelled, that wait; agents that a pulled model speaks for."""
        sent, model = _Sent.load(self._store), pulled_model(self._store, self._static.dim)
        shared = len(self._among(model)) if model else 0
        return {"sent": len(sent.ids), "waiting": len(self._unsent(sent)), "shared_agents": shared}

    def _among(self, model: SharedModel) -> tuple[str, ...]:
        return tuple(sorted({agent.name for agent in self._routing.agents}.intersection(model.routes)))

    async def _prepare(self, pause: Pause) -> bytes:
        """The next update, which is on disk; empty where there is none."""
        before, sent = self._store.digest(FEDERATED_SENT), _Sent.load(self._store)
        rows = self._unsent(sent)
        # Noise hides how many texts an agent has; without it, the second look leaves out those cut off by the bound.
        rows = rows[:_MOST] if self._privacy else _ready(_ready(rows, self._least)[:_MOST], self._least)
        searches, (models, outcomes) = self._searches(sent.rated), self._outcomes(sent)
        if not rows and not outcomes and len(searches) < self._least:
            return b""
        routes = sorted({row.feedback.agent for row in rows} | {agent.name for agent in self._routing.agents})
        limits: dict[str, Any] = {"capacity": _MOST + 1, "least": self._least, "privacy": self._privacy}
        limits["models"] = models
        agent = EphemeralAgent(sent.agent, self._static.dim, routes=routes, **limits)
        for row in rows:
            text, rating = row.feedback.text, row.rating
            quality = 1.0 if rating is None else max(QUALITY, (rating - 1) / 4)
            vector = self._static.encode_one(text)
            agent.process_trajectory(vector, quality=quality, model=row.feedback.agent, words=stems(text))
            await pause()
        if len(searches) >= self._least:
            for _, query, answer, helped in searches:
                agent.process_trajectory(query, answer, helped)
                await pause()
            sent.rated = searches[-1][0]
        for model, vector, quality in outcomes:
            agent.process_outcome(model, vector, quality)
        agent.serial = randbits(52)  # a copy of the state file on another machine shall not use the same ones
        sent.pending = agent.export_state().to_bytes()
        sent.ids |= {row.id for row in rows}
        with self._store.write():
            if self._store.digest(FEDERATED_SENT) != before:  # another process has pushed meanwhile
                return _Sent.load(self._store).pending or await self._prepare(pause)
            sent.save(self._store)
        return sent.pending

    def _outcomes(self, sent: _Sent) -> tuple[list[str], list[tuple[str, Vectors, float]]]:
        """(all models, and of answers that have not travelled model, inputs and quality), which count as sent."""
        space = self._routing.encoders.space
        unique: dict[str, dict[bytes, tuple[Vectors, float]]] = {}  # the same prompt twice shall not count twice for k
        fresh = [(model_route(space, one.model), one) for one in self._sizing.since(sent.outcomes)]
        for model, one in fresh:
            prompts = unique.setdefault(model, {})
            for vector, quality in zip(one.vectors.astype(np.float32), one.qualities.tolist(), strict=True):
                prompts[vector[:-1].tobytes()] = vector, quality
        ready = {model: prompts for model, prompts in unique.items() if self._privacy or len(prompts) >= self._least}
        sent.outcomes |= {one.source: one.total for model, one in fresh if model in ready}
        return sorted(unique), [(model, *pair) for model, prompts in ready.items() for pair in prompts.values()]

    def _searches(self, last: int) -> list[tuple[int, Vectors, Vectors, float]]:
        """(id, query, memory, how far it helped) of rated searches after this id, where vectors can be compared."""
        encoders, records, width = self._routing.encoders, Records(self._store), self._static.dim * LITTLE.itemsize
        if encoders.space != encoders.static_space:
            return []
        rows = self._store.read(
            "SELECT id, query, relevance FROM ratings WHERE id > ? AND space = ? AND length(query) = ?"
            " ORDER BY id LIMIT ?",
            (last, encoders.space, width, _MOST),
        )
        found = list[tuple[int, Vectors, Vectors, float]]()
        for id, query, relevance in rows:
            relevances = relevance_of(relevance)
            there = records.in_space(np.array(sorted(relevances), np.int64), encoders.space)
            vector = np.frombuffer(query, LITTLE).astype(np.float32)
            for memory, answer in zip(there.tolist(), records.vectors(there), strict=True):
                found.append((id, vector, answer, min(max(relevances[memory], 0.0), 1.0)))
        return found

    def _unsent(self, sent: _Sent) -> list[FeedbackRow]:
        """The last word on each text that has not travelled, whatever came of it since."""
        gone = {_same(text) for i, text in self._store.read("SELECT id, text FROM feedback") if i in sent.ids}
        last: dict[str, FeedbackRow] = {}
        for row in self._store.feedback_rows():
            text, agent = _same(row.feedback.text), row.feedback.agent
            if row.feedback.right:
                last[text] = row
            elif text in last and last[text].feedback.agent == agent:
                del last[text]
        return [row for text, row in last.items() if text not in gone]


def _ready(rows: list[FeedbackRow], least: int) -> list[FeedbackRow]:
    """Those of agents that have enough of them to travel, agent by agent."""
    counts = Counter(row.feedback.agent for row in rows)
    ready = [row for row in rows if counts[row.feedback.agent] >= least]
    return sorted(ready, key=lambda row: (row.feedback.agent, row.id))


def _same(text: str) -> str:
    """Alike for texts that k-anonymity shall not count twice."""
    return " ".join(text.casefold().split())
