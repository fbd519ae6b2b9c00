"""LLM backends that somebody named: chosen among by id, told outcomes by id, kept in the state file."""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import asdict
from secrets import token_hex
from typing import Any, Protocol

from ruvllm.errors import InputError
from ruvllm.sizing.chooser import ModelChooser
from ruvllm.sizing.selector import BackendProfile, Choice, LLMOrchestrator
from ruvllm.state.names import PROFILES
from ruvllm.state.store import Store

_OPEN = 256  # choices whose outcome may still be told
_SHOWN = ("backend", "quality", "cost", "latency", "value", "alternatives")


class Chooses(Protocol):
    """What of a RuvLLM it takes."""

    store: Store

    @property
    def sizing(self) -> ModelChooser:
        """Holds the orchestrator."""
        ...

    def orchestrator(self, backends: Sequence[BackendProfile], *, budget: float | None = None) -> LLMOrchestrator:
        """Makes it."""
        ...


class NamedBackends:
    """For hosts whose callers send JSON: what they chose is found again by its id.

    Args:
        now: gives the RuvLLM that answers at the moment.
    """

    def __init__(self, now: Callable[[], Chooses]) -> None:
        self._current = now
        self._unsaved: LLMOrchestrator | None = None  # has outcomes that a newer state file has not
        self._choices: OrderedDict[str, Choice] = OrderedDict()

    def forget(self) -> None:
        """The state file was replaced: what was read of it holds no more."""
        self._unsaved = None
        self._choices.clear()

    def reread(self) -> None:
        """The state file is newer now: choices whose outcome is open stay."""
        sizing = self._current().sizing
        self._unsaved = sizing.orchestrator if sizing.changed else None

    def set(self, backends: Sequence[BackendProfile], budget: float | None) -> dict[str, Any]:
        """Choose among these from now on; what was learnt of others is dropped. The stats after it.

        Raises:
            InputError: fewer than two, two of one name, or a budget that none fits.
        """
        self._made(backends, budget)
        self._choices.clear()
        profiles = {"backends": [asdict(one) for one in backends], "budget": budget}
        self._current().store.put(PROFILES, json.dumps(profiles).encode())
        return self.save()

    async def select(
        self, prompt: str, max_cost: float | None, max_latency: float | None, min_quality: float | None
    ) -> dict[str, Any]:
        """The backend for a prompt, and the id under which its outcome is told."""
        limits = {"max_cost": max_cost, "max_latency": max_latency, "min_quality": min_quality}
        choice = await self._orchestrator.aselect(prompt, **limits)
        self._choices[id := token_hex(8)] = choice
        while len(self._choices) > _OPEN:
            self._choices.popitem(last=False)
        return {"choice_id": id} | {name: getattr(choice, name) for name in _SHOWN}

    async def record(
        self, id: str, success: bool, quality: float | None, cost: float | None, latency: float | None
    ) -> dict[str, Any]:
        """What came of a choice; the stats after it. Raises InputError: no open one has this id."""
        choice = self._choices.get(id)
        if choice is None:
            fix = "tell each outcome once, soon after its `select`"
            raise InputError("no open choice has this id", field="choice_id", fix=fix)
        await self._orchestrator.arecord_outcome(choice, success, quality, cost=cost, latency=latency)
        del self._choices[id]
        return self.stats()

    def stats(self) -> dict[str, Any]:
        """Spend, savings and quality over time, each backend as it was stated and as it proved to be."""
        held = self._orchestrator
        return held.stats() | {"profiles": [asdict(profile) for profile in held.backends]}

    def save(self) -> dict[str, Any]:
        """Write what was learnt into the state file; the stats."""
        stats = self.stats()
        self._current().sizing.save()
        return stats

    @property
    def _orchestrator(self) -> LLMOrchestrator:
        """With what an earlier run learnt; anew where that cannot be read, which its stats tell."""
        now = self._current()
        if now.sizing.orchestrator is None and self._unsaved is not None:
            now.sizing.orchestrator, self._unsaved = self._unsaved, None
        if now.sizing.orchestrator is not None:
            return now.sizing.orchestrator
        if (data := now.store.load(PROFILES)) is None:
            raise InputError("no backends are set", field="backends", fix="name two or more with `setBackends`")
        stored = json.loads(data)
        return self._made([BackendProfile(**row) for row in stored["backends"]], stored["budget"])

    def _made(self, backends: Sequence[BackendProfile], budget: float | None) -> LLMOrchestrator:
        made = self._current().orchestrator(backends, budget=budget)
        made.ledger.every = 1  # a person looks at each outcome
        return made
