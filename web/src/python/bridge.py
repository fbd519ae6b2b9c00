"""RuvLLM for JavaScript: JSON strings and typed arrays in and out, so that no proxy has to be looked after.

A method that may wait returns its answer at once where nothing had to be awaited (a static route:
no turn of the event loop), and a task otherwise.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import Awaitable, Coroutine
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from pyodide.ffi import to_js
from ruvllm_web.agentfiles import problem_row, read_input
from ruvllm_web.webhost import WebHost

from ruvllm import Agent, Feedback, InputError, RuvLLM, RuvllmError, StoreError
from ruvllm.memory.store import Store

__all__ = ["Bridge"]

_STATE = Path("/home/pyodide/ruvllm.sqlite")


class Bridge:
    """One router that changes its agents, its state and its encoder while it keeps answering.

    Args:
        mode: "cascade", "static" or "minilm"; all but the last begin without MiniLM.
    """

    def __init__(self, mode: str) -> None:
        self.host = WebHost()
        self._mode = mode
        self._agents: list[Agent] | None = None  # None: the built-in catalog
        self._llm: RuvLLM | None = None
        self._next: RuvLLM | None = None  # the one that is warming up behind it
        self._changes = 0  # of agents or state; whoever warms up for older ones starts again
        self._problems: list[dict[str, str]] = []

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

    def agents(self) -> Any:
        """All of them."""
        return _answer(_value([asdict(agent) for agent in self._now.agents]))

    def feedback(self, text: Any, agent: Any, weight: Any) -> Any:
        """This text belongs to this agent."""
        return _answer(self._feedback(text, agent, weight))

    def observe(self, text: str, agent: str, weight: float) -> Any:
        """Feedback that another tab was given: kept even if this one has no such agent."""
        return _answer(self._observe(text, agent, weight))

    def upgrade(self) -> Any:
        """MiniLM is connected: warm up a router that asks it, then change over."""
        return _answer(self._upgrade())

    def stats(self) -> Any:
        """What the core says, and what was skipped."""
        return _answer(_value({**self._now.stats(), "problems": self._problems}))

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

    def _build(self, agents: list[Agent] | None, mode: str) -> RuvLLM:
        """A router on the current state."""
        return RuvLLM(agents, encoder=mode, state=_STATE, host=self.host)

    async def _ready(self, agents: list[Agent] | None) -> RuvLLM:
        """A router that can answer at once: without MiniLM, unless it was asked for alone."""
        llm = self._build(agents, "minilm" if self._mode == "minilm" else "static")
        try:
            await _warm(llm)
        except BaseException:
            llm.close()
            raise
        return llm

    async def _start(self, agents: str | None, state: Any) -> Any:
        if agents is not None:
            self._agents, self._problems = read_input(json.loads(agents))
            if not self._agents:
                why = f" ({self._problems[0]['message']})" if self._problems else ""
                raise InputError(f"no usable agent{why}", field="agents", fix="give at least one agent with a name")
        lost = False
        if state is not None:
            try:
                _check_state(saved := state.to_bytes())
                _write_state(_STATE, saved)
            except StoreError as error:
                self._problems.append(problem_row(error))
                lost = True
        self._llm = await self._ready(self._agents)
        return {"dim": self._llm.static.dim, "lost": lost}

    async def _embed(self, texts: str) -> Any:
        return to_js(np.ravel(await self._now.aembed(json.loads(texts))))

    async def _add(self, agents: str) -> Any:
        new, problems = read_input(json.loads(agents))
        if new:
            together = {agent.name: agent for agent in (*self._now.agents, *new)}
            llm = await self._ready(list(together.values()))
            self._agents = list(together.values())
            self._change(llm)
        return {"agents": len(self._now.agents), "problems": problems}

    def _change(self, llm: RuvLLM) -> None:
        self._changes += 1
        old, self._llm = self._llm, llm
        if old is not None:
            old.close()

    async def _feedback(self, text: str, agent: str, weight: float) -> None:
        later = self._next
        await self._now.afeedback(text, agent, weight)
        if later is not None:  # it read the log before this; it may even have taken over meanwhile
            later.router.note(Feedback(text, agent, float(weight)))

    async def _observe(self, text: str, agent: str, weight: float) -> None:
        if any(one.name == agent for one in self._now.agents):
            await self._feedback(text, agent, weight)
        else:
            self._now.store.add_feedback(Feedback(text, agent, float(weight)))

    async def _upgrade(self) -> str:
        """Until no change has overtaken it, so that the router it leaves knows everything."""
        while self._next is None and self._now.mode != self._mode:
            changes, self._next = self._changes, self._build(self._agents, self._mode)
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
        return to_js(_read_state())

    async def _restore(self, saved: Any) -> None:
        _check_state(data := saved.to_bytes())
        before = _read_state()
        for llm in (self._next, self._llm):
            if llm is not None:
                llm.close()  # now: closing it later would delete the new file's journal
        try:
            _write_state(_STATE, data)
            llm = await self._ready(self._agents)
        except BaseException:
            _write_state(_STATE, before)
            self._change(await self._ready(self._agents))
            raise
        self._change(llm)


async def _warm(llm: RuvLLM) -> None:
    """Build all that its first route would have to wait for; the page has its turn between MiniLM's texts."""
    for name in ("static", "minilm"):
        if llm.mode in (name, "cascade"):
            await llm.router.scorer(name)


def _read_state() -> bytes:
    """The state file with what is still in its journal."""
    connection = sqlite3.connect(_STATE)
    try:
        return connection.serialize()
    finally:
        connection.close()


def _check_state(data: bytes) -> None:
    """Raise StoreError unless the bytes are a whole state file; nothing else is touched."""
    fix = "choose a file that `export` gave"
    trial = _STATE.with_suffix(".trial")
    if not data.startswith(b"SQLite format 3\0"):
        raise StoreError("this is no SQLite file", field="state", fix=fix)
    try:
        _write_state(trial, data)
        store = Store(trial)
        try:
            connection = sqlite3.connect(trial)
            (verdict,) = connection.execute("PRAGMA integrity_check").fetchone()
            connection.close()
            if verdict != "ok":
                raise StoreError(f"the file is damaged: {verdict}", field="state", fix=fix)
            store.feedback()
        finally:
            store.close()
    except sqlite3.Error as error:
        raise StoreError(f"the file is damaged: {error}", field="state", fix=fix) from None
    except StoreError as error:
        raise StoreError(error.message.replace(str(trial), "the file"), field="state", fix=fix) from None
    finally:
        _write_state(trial, None)


def _write_state(path: Path, data: bytes | None) -> None:
    """A file of these bytes, or none, without the journals of the one before."""
    for end in ("", "-wal", "-shm"):
        path.with_name(path.name + end).unlink(missing_ok=True)
    if data is not None:
        path.write_bytes(data)


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
