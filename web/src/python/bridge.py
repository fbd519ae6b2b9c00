"""RuvLLM for JavaScript: JSON strings and typed arrays in and out, so that no proxy has to be looked after.

A method that may wait returns its answer at once where nothing had to be awaited (a static route:
no turn of the event loop), and a task otherwise.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Coroutine
from contextlib import closing
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pyodide.ffi import to_js
from ruvllm_web.reliability import note
from ruvllm_web.statefile import check_state, read_state, write_state
from ruvllm_web.webhost import WebHost

from ruvllm import Agent, Feedback, InputError, RuvLLM, RuvllmError, StoreError
from ruvllm.agents.catalog import builtin_agents
from ruvllm.agents.incoming import read_incoming
from ruvllm.encoders.protocol import pause
from ruvllm.state.agents import keep_agents, kept_agents
from ruvllm.state.store import Store
from ruvllm.text.surrogates import well_formed, well_formed_json

if TYPE_CHECKING:
    from ruvllm_web.workbench import Workbench

__all__ = ["Bridge"]

_STATE = Path("/home/pyodide/ruvllm.sqlite")


class Bridge:
    """One router that changes its agents, its state and its encoder while it keeps answering.

    Args:
        mode: "cascade", "static" or "ruvltra"; all but the last begin without RuvLTRA.
    """

    def __init__(self, mode: str) -> None:
        self.host = WebHost()
        self._mode = mode
        self._base: list[Agent] | None = None  # what it was loaded with; None: the built-in catalog
        self._own: dict[str, Agent] = {}  # what was added since, on this visit or an earlier one
        self._llm: RuvLLM | None = None
        self._next: RuvLLM | None = None  # the one that is warming up behind it
        self._changes = 0  # of agents or state; whoever warms up for older ones starts again
        self._problems: list[dict[str, str]] = []
        self._reviews = 0

    def start(self, agents: str | None, state: Any) -> Any:
        """Begin: agents as JSON (None: built in), state as a Uint8Array (None: nothing learnt yet)."""
        return _answer(self._start(agents, state))

    def route(self, text: Any, top: int) -> Any:
        """A Decision."""
        return _answer(_plain(self._now.aroute(text, top)))

    def route_complex(self, text: Any) -> Any:
        """A Team."""
        return _answer(_plain(self._now.aroute_complex(text)))

    def embed(self, texts: str) -> Any:
        """A Float32Array of all rows, for a JSON list of texts."""
        return _answer(self._embed(texts))

    def add_agents(self, agents: str) -> Any:
        """Agents or files as JSON; one of the same name is replaced."""
        return _answer(self._add(agents))

    def reset_agents(self) -> Any:
        """Forget the added ones: back to those that it was loaded with."""
        return _answer(self._reset())

    def agents(self) -> Any:
        """All of them."""
        return _answer(_value([asdict(agent) for agent in self._now.agents]))

    def feedback(self, text: Any, agent: Any, weight: Any) -> Any:
        """This text belongs to this agent."""
        return _answer(self._told(text, agent, weight))

    def observe(self, text: str, agent: str, weight: float) -> Any:
        """Feedback that another tab was given: kept even if this one has no such agent."""
        return _answer(self._observe(text, agent, weight))

    def ask(self, method: str, arguments: str) -> Any:
        """A method of the workbench (workbench.py) with keyword arguments as JSON."""
        return _answer(self._ask(method, well_formed_json(json.loads(arguments))))

    def undo_feedback(self, id: int) -> Any:
        """Take feedback back: a router that has never heard of it answers from now on; whether there was such."""
        return _answer(self._undo(id))

    def review(self) -> Any:
        """Fit what feedback taught once more, while tasks go on being routed; how much there is."""
        return _answer(self._review())

    def upgrade(self) -> Any:
        """RuvLTRA is connected: warm up a router that asks it, then change over."""
        return _answer(self._upgrade())

    def stats(self) -> Any:
        """What the core says, and what was skipped."""
        added = {"own_agents": len(self._own), "reviews": self._reviews, "problems": self._problems}
        return _answer(_value({**self._now.stats(), **added}))

    def dump(self) -> Any:
        """Everything learnt: the SQLite file as a Uint8Array."""
        return _answer(self._dump())

    def restore(self, data: Any) -> Any:
        """Replace everything learnt by a Uint8Array that `dump` gave, here or on another host."""
        return _answer(self._restore(data))

    def close(self) -> None:
        """Release the state file."""
        for llm in (self._next, self._llm):
            if llm is not None:
                llm.close()

    @property
    def _now(self) -> RuvLLM:
        if self._llm is None:
            raise InputError("it has not been started", field="state", fix="await RuvLLM.load()")
        return self._llm

    @cached_property
    def _workbench(self) -> Workbench:
        from ruvllm_web.workbench import Workbench  # a page that only routes need not read it

        return Workbench(lambda: self._now)

    def _build(self, own: dict[str, Agent], mode: str) -> RuvLLM:
        """A router on the current state, with these agents of the user's."""
        return RuvLLM(self._together(own), encoder=mode, state=_STATE, host=self.host, like=self._llm)

    async def _ready(self, own: dict[str, Agent]) -> RuvLLM:
        """A router that can answer at once: without RuvLTRA, unless it was asked for alone."""
        llm = self._build(own, "ruvltra" if self._mode == "ruvltra" else "static")
        try:
            await _warm(llm)
        except BaseException:
            llm.close()
            raise
        return llm

    @property
    def _keeps(self) -> bool:
        """Whether added agents are kept for later visits: a page that names its agents decides on them each time."""
        return self._base is None

    def _together(self, own: dict[str, Agent]) -> list[Agent] | None:
        """Those it was loaded with and these; None is the built-in catalog alone, which is compiled."""
        if not own:
            return self._base
        base = builtin_agents() if self._base is None else self._base
        return list(({agent.name: agent for agent in base} | own).values())

    async def _start(self, agents: str | None, state: Any) -> Any:
        if agents is not None:
            self._base, problems = read_incoming(json.loads(agents))
            self._problems = [problem_row(problem) for problem in problems]
            if not self._base:
                why = f" ({self._problems[0]['message']})" if self._problems else ""
                raise InputError(f"no usable agent{why}", field="agents", fix="give at least one agent with a name")
        lost = False
        if state is not None:
            try:
                check_state(saved := state.to_bytes(), _STATE)
                write_state(_STATE, saved)
                if self._keeps:
                    self._own = _kept() or {}
            except StoreError as error:
                self._problems.append(problem_row(error))
                lost = True
        self._llm = await self._ready(self._own)
        return {"dim": self._llm.static.dim, "lost": lost}

    async def _embed(self, texts: str) -> Any:
        return to_js(np.ravel(await self._now.aembed(json.loads(texts))))

    async def _add(self, agents: str) -> Any:
        new, problems = read_incoming(json.loads(agents))
        if new:
            await self._exchange(self._own | {agent.name: agent for agent in new})
        return {"agents": len(self._now.agents), "problems": [problem_row(problem) for problem in problems]}

    async def _reset(self) -> Any:
        await self._exchange({})
        return {"agents": len(self._now.agents), "problems": []}

    async def _exchange(self, own: dict[str, Agent]) -> None:
        """Route among these of the user's, and have them in the state file if they belong there."""
        llm = await self._ready(own)
        if self._keeps:
            try:
                keep_agents(llm.store, own.values())
            except StoreError:
                llm.close()
                raise
        self._own = own
        self._change(llm)

    def _change(self, llm: RuvLLM) -> None:
        self._changes += 1
        old, self._llm = self._llm, llm
        if old is not None:
            old.close()

    async def _ask(self, method: str, arguments: dict[str, Any]) -> Any:
        from ruvllm_web.workbench import METHODS

        if method not in METHODS:
            raise InputError(f"there is no {method!r}"[:100], field="method", fix=f"use one of {', '.join(METHODS)}")
        return await getattr(self._workbench, method)(**arguments)

    async def _undo(self, id: int) -> bool:
        if not self._now.store.undo_feedback(id):
            return False
        self._change(await self._ready(self._own))
        return True

    async def _told(self, text: str, agent: str, weight: float) -> None:
        now = self._now
        decision = await now.aroute(text)
        if any(one.name == agent for one in now.agents):
            note(now.store, text, decision, agent)
        await self._feedback(text, agent, weight)

    async def _feedback(self, text: str, agent: str, weight: float) -> None:
        later = self._next
        await self._now.afeedback(text, agent, weight)
        if later is not None:  # it read the log before this; it may even have taken over meanwhile
            later.router.note(Feedback(well_formed(text), well_formed(agent), float(weight)))

    async def _observe(self, text: str, agent: str, weight: float) -> None:
        if any(one.name == agent for one in self._now.agents):
            await self._feedback(text, agent, weight)
        else:
            self._now.store.add_feedback(Feedback(well_formed(text), well_formed(agent), float(weight)))

    async def _review(self) -> str:
        count = await self._now.areview(pause)
        self._reviews += 1
        return _value(count)

    async def _upgrade(self) -> str:
        """Until no change has overtaken it, so that the router it leaves knows everything."""
        while self._next is None and self._now.mode != self._mode:
            changes, self._next = self._changes, self._build(self._own, self._mode)
            try:
                await _warm(self._next)
                if changes == self._changes:
                    self._change(self._next)
                    self._next = None
            finally:
                if self._next is not None:
                    self._next.close()
                    self._next = None
        return self._now.mode

    async def _dump(self) -> Any:
        return to_js(read_state(_STATE))

    async def _restore(self, saved: Any) -> None:
        check_state(data := saved.to_bytes(), _STATE)
        before = read_state(_STATE)
        if "_workbench" in self.__dict__:
            self._workbench.forget()
        for llm in (self._next, self._llm):
            if llm is not None:
                llm.close()  # now: closing it later would delete the new file's journal
        try:
            write_state(_STATE, data)
            own = self._imported() if self._keeps else self._own
            llm = await self._ready(own)
        except BaseException:
            write_state(_STATE, before)
            self._change(await self._ready(self._own))
            raise
        self._own = own
        self._change(llm)

    def _imported(self) -> dict[str, Agent]:
        """The agents of the file that has just come; one that says nothing of agents leaves those here alone."""
        if (kept := _kept()) is not None:
            return kept
        if self._own:
            with closing(Store(_STATE)) as store:
                keep_agents(store, self._own.values())
        return self._own


def _kept() -> dict[str, Agent] | None:
    with closing(Store(_STATE)) as store:
        return kept_agents(store)


def problem_row(error: RuvllmError) -> dict[str, str]:
    """An error as plain JSON."""
    return {"field": error.field, "message": error.message, "fix": error.fix}


async def _warm(llm: RuvLLM) -> None:
    """Build all that its first route would have to wait for; the page has its turn meanwhile."""
    await llm.router.warm(pause)


async def _plain(work: Awaitable[Any]) -> Any:
    return (await work).to_dict()


async def _value(value: Any) -> Any:
    return value


def _answer(work: Coroutine[Any, Any, Any]) -> Any:
    """The outcome, or a task of it: JSON {"value"} or {"error"}, or a typed array."""
    task: asyncio.Task[Any] = asyncio.Task(_outcome(work), loop=asyncio.get_event_loop(), eager_start=True)
    return task.result() if task.done() else task


async def _outcome(work: Coroutine[Any, Any, Any]) -> Any:
    try:
        value = await work
    except RuvllmError as error:
        return json.dumps({"error": {"name": type(error).__name__, **problem_row(error)}})
    except Exception as error:
        told = {"name": type(error).__name__, "message": str(error)[:500], "field": "", "fix": "please report this"}
        return json.dumps({"error": told})
    return value if hasattr(value, "js_id") else json.dumps({"value": value})
