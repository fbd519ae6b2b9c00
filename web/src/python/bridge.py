"""RuvLLM for JavaScript: JSON strings and typed arrays in and out, so that no proxy has to be looked after.

A method that may wait returns its answer at once where nothing had to be awaited (a static route:
no turn of the event loop), and a task otherwise.
"""

from __future__ import annotations

import json
from contextlib import closing
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pyodide.ffi import to_js
from ruvllm_web.answers import answer, problem_row
from ruvllm_web.arguments import checked
from ruvllm_web.statefile import check_state, new_lessons, read_state, write_state
from ruvllm_web.webhost import WebHost

from ruvllm import Agent, Feedback, InputError, RuvLLM, StoreError
from ruvllm.agents.catalog import builtin_agents
from ruvllm.agents.incoming import read_incoming
from ruvllm.encoders.protocol import pause
from ruvllm.learning.reliability import note
from ruvllm.state.agents import load_agents, save_agents
from ruvllm.state.store import Store
from ruvllm.text.surrogates import well_formed_json

if TYPE_CHECKING:
    from ruvllm_web.workbench import Workbench

    from ruvllm.jobs import JobRun


_STATE = Path("/home/pyodide/ruvllm.sqlite")
_CALLS = frozenset({
    "add_agents", "agents", "decide", "embed", "feedback", "feedback_decision", "pull", "push", "reset_agents",
    "review", "route", "route_complex", "run_jobs", "search_tools", "stats", "undo_feedback", "undo_pull", "upgrade",
})  # fmt: skip


class Bridge:
    """One router that changes its agents, its state and its encoder while it keeps answering.

    Args:
        mode: "cascade", "static" or "ruvltra"; all but the last begin without RuvLTRA.
    """

    def __init__(self, mode: str) -> None:
        self.host = WebHost()
        self._mode = mode
        self._base: list[Agent] | None = None  # what it was loaded with; None: the built-in catalog
        self._custom: dict[str, Agent] = {}  # what was added since, on this visit or an earlier one
        self._llm: RuvLLM | None = None
        self._next: RuvLLM | None = None  # the one that is warming up behind it
        self._begun = False  # it decides by texts alone until its agents' examples are fitted
        self._unread = (0, 1)  # runs of RuvLTRA before it read the agents, and texts that it reads
        self._changes = 0  # of agents or state; whoever warms up for older ones starts again
        self._problems: list[dict[str, str]] = []
        self._reviews = 0

    def start(self, arguments: str, state: Any) -> Any:
        """Begin: `agents` in JSON (built in without them), state as a Uint8Array (None: nothing learnt yet)."""
        return answer(self._start(well_formed_json(json.loads(arguments)).get("agents"), state))

    def call(self, method: str, arguments: str) -> Any:
        """A method of this class or of the workbench by its name, with keyword arguments as JSON."""
        return answer(self._call(method, well_formed_json(json.loads(arguments))))

    def dump(self) -> Any:
        """Everything learnt: the SQLite file as a Uint8Array."""
        return answer(self._dump())

    def restore(self, data: Any) -> Any:
        """Replace everything learnt by a Uint8Array that `dump` gave, here or on another host."""
        return answer(self._restore(data.to_bytes()))

    def update(self, data: Any) -> Any:
        """Take in what another tab has saved, a Uint8Array; whether that was more than lessons."""
        return answer(self._update(data.to_bytes()))

    def close(self) -> None:
        """Release the state file."""
        for llm in (self._next, self._llm):
            if llm is not None:
                llm.close()

    async def route(self, text: str, top: int = 3, team: bool = False) -> dict[str, Any]:
        """A Decision."""
        return (await self._now.aroute(text, top, team)).to_dict()

    async def route_complex(self, text: str) -> dict[str, Any]:
        """A Team."""
        return (await self._now.aroute_complex(text)).to_dict()

    async def embed(self, texts: list[str], static: bool = False) -> Any:
        """A Float32Array of all rows; by the word table alone, where that is enough."""
        now = self._now
        return to_js(np.ravel(now.encoders.static.encode_now(texts) if static else await now.aembed(texts)))

    async def add_agents(self, agents: list[dict[str, Any]]) -> dict[str, Any]:
        """Agents or files; one of the same name is replaced."""
        new, problems = read_incoming(agents)
        if new:
            await self._exchange(self._custom | {agent.name: agent for agent in new})
        return {"agents": len(self._now.agents), "problems": [problem_row(problem) for problem in problems]}

    async def reset_agents(self) -> dict[str, Any]:
        """Forget the added ones: back to those that it was loaded with."""
        await self._exchange({})
        return {"agents": len(self._now.agents), "problems": []}

    async def agents(self) -> list[dict[str, Any]]:
        """All of them."""
        return [asdict(agent) for agent in self._now.agents]

    async def feedback(self, text: str, agent: str, weight: float = 1.0) -> None:
        """This text belongs to this agent."""
        now, later = self._now, self._next
        decision = await now.aroute(text)
        if any(one.name == agent for one in now.agents):
            note(now.store, text, decision, agent)
        await now.afeedback(text, agent, weight)
        if later is not None:  # it read the log before this; it may even have taken over meanwhile
            later.routing.router.note(Feedback(text, agent, float(weight)))

    async def decide(self, state: Any, questions: dict[str, Any]) -> dict[str, Any]:
        """Typed answers with probabilities, by the names of the questions."""
        return (await self._now.adecide(state, questions)).to_dict()

    async def search_tools(
        self, task: str, k: int = 5, tools: list[dict[str, Any]] | None = None, keep: list[str] | None = None
    ) -> dict[str, Any]:
        """The tools that a task needs, of `tools` or of the agents that are tools."""
        return (await self._now.tools.found(task, k, tools, keep or ())).to_dict()

    async def feedback_decision(self, id: str, answer: Any) -> dict[str, int]:
        """How a decision should have been answered; how many examples its questions have."""
        return await self._now.afeedback_decision(id, answer)

    async def undo_feedback(self, id: int) -> bool:
        """Take feedback back: a router that has never heard of it answers from now on; whether there was such."""
        now = self._now
        undone = next((row.feedback for row in now.store.feedback_rows(id - 1) if row.id == id), None)
        if undone is None or not now.store.undo_feedback(id):
            return False
        await now.learning.forget(undone)
        now.learning.save(now.steps)
        self._change(await self._ready(self._custom))
        return True

    async def push(self, url: str, key: str = "", everything: bool = False) -> dict[str, Any]:
        """Send sums of what was learnt here, never a text, to a ruvllm server; what travelled."""
        from ruvllm_web.coordinator import PageCoordinator

        federated = self._now.federated
        return asdict(await federated.push(PageCoordinator(url, key), pause, everything=everything))

    async def pull(self, url: str, key: str = "") -> dict[str, Any]:
        """Go by what others have pushed to a ruvllm server as well; what came."""
        from ruvllm_web.coordinator import PageCoordinator

        pulled = await self._now.federated.pull(PageCoordinator(url, key), pause)
        self._changes += pulled.changed
        return asdict(pulled)

    async def undo_pull(self) -> bool:
        """Go by what was learnt here alone; whether anything had been pulled."""
        undone = await self._now.federated.undo_pull()
        self._changes += undone
        return undone

    async def run_jobs(self, budget: float = 0.05) -> list[dict[str, Any]]:
        """Do what of the background work is due, while tasks go on being routed; the runs."""
        await self._now.routing.router.warm(pause)  # a first slip of the keyboard waits for nothing
        return self._done(await self._now.arun_jobs(budget))

    async def review(self) -> list[dict[str, Any]]:
        """Fit what feedback taught once more, due or not, while tasks go on being routed; the run."""
        return self._done(await self._now.jobs.run(force=True, names=("review",)))

    async def upgrade(self) -> bool:
        """Fit what was begun; once RuvLTRA is connected, warm up a router that asks it. Then change over.

        Whatever changes meanwhile is not missed. Returns whether something was fitted that the state now holds.
        """
        kept = False
        while self._next is None and (mode := self._wanted) is not None:
            changes, self._next = self._changes, self._build(self._custom, mode)
            self._unread = self.host.runs, sum(2 + len(agent.examples) for agent in self._next.agents)
            try:
                await self._next.routing.router.warm(pause)
                if changes == self._changes:
                    kept |= self._next.routing.keep()
                    self._change(self._next)
                    self._next, self._begun = None, False
            finally:
                if self._next is not None:
                    self._next.close()
                    self._next = None
        return kept

    async def stats(self) -> dict[str, Any]:
        """What the core says but its path, and what was skipped."""
        stats = {name: value for name, value in self._now.stats().items() if name != "state"}
        runs, texts = self._unread
        read = min(1.0, (self.host.runs - runs) / texts)
        custom = {"own_agents": len(self._custom), "reviews": self._reviews, "problems": self._problems}
        return stats | custom | {"fitting": self._begun, "read": read}

    def _done(self, runs: list[JobRun]) -> list[dict[str, Any]]:
        reviews = sum(bool(run.outcome) for run in runs if run.name == "review")
        self._reviews += reviews
        self._changes += reviews
        return [asdict(run) for run in runs]

    @property
    def _now(self) -> RuvLLM:
        if self._llm is None:
            raise InputError("it has not been started", field="state", fix="await RuvLLM.load()")
        return self._llm

    @cached_property
    def _workbench(self) -> Workbench:
        from ruvllm_web.workbench import Workbench  # a page that only routes need not read it

        return Workbench(lambda: self._now)

    @property
    def _wanted(self) -> str | None:
        """The mode of the router that is to take over; None where this one is as good as can be."""
        if self._begun:
            return "static"
        there = self.host.has_sessions() and self._mode != self._now.encoders.mode
        return self._mode if there else None

    @property
    def _keeps(self) -> bool:
        """Whether added agents are kept for later visits: a page that names its agents decides on them each time."""
        return self._base is None

    async def _call(self, method: str, arguments: Any) -> Any:
        if method in _CALLS:
            function = getattr(self, method)
        else:
            from ruvllm_web.workbench import METHODS

            if method not in METHODS:
                fix = f"use one of {', '.join(sorted(METHODS | _CALLS))}"
                raise InputError(f"there is no {method!r}"[:100], field="method", fix=fix)
            function = getattr(self._workbench, method)
        return await function(**checked(function.__func__, arguments))

    def _build(self, custom: dict[str, Agent], mode: str) -> RuvLLM:
        """A router on the current state, with these agents of the user's."""
        return RuvLLM(self._together(custom), encoder=mode, state=_STATE, host=self.host, like=self._llm)

    async def _ready(self, custom: dict[str, Agent]) -> RuvLLM:
        """A router that can answer at once: without RuvLTRA, unless it was asked for alone."""
        llm = self._build(custom, "ruvltra" if self._mode == "ruvltra" else "static")
        try:
            self._begun = self._mode != "ruvltra" and await llm.routing.begin(pause)
            if not self._begun:
                await llm.routing.router.warm(pause)  # the page has its turn meanwhile
        except BaseException:
            llm.close()
            raise
        return llm

    def _together(self, custom: dict[str, Agent]) -> list[Agent] | None:
        """Those it was loaded with and these; None is the built-in catalog alone, which is compiled."""
        if not custom:
            return self._base
        base = builtin_agents() if self._base is None else self._base
        return list(({agent.name: agent for agent in base} | custom).values())

    async def _start(self, agents: Any, state: Any) -> dict[str, Any]:
        if agents is not None:
            self._base, problems = read_incoming(agents)
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
                    self._custom = _stored_agents() or {}
            except StoreError as error:
                self._problems.append(problem_row(error))
                lost = True
        self._llm = await self._ready(self._custom)
        return {"dim": self._llm.encoders.static.dim, "lost": lost}

    async def _exchange(self, custom: dict[str, Agent]) -> None:
        """Route among these of the user's, and have them in the state file if they belong there."""
        llm = await self._ready(custom)
        if self._keeps:
            try:
                save_agents(llm.store, custom.values())
            except StoreError:
                llm.close()
                raise
        self._custom = custom
        self._change(llm)

    def _change(self, llm: RuvLLM) -> None:
        self._changes += 1
        old, self._llm = self._llm, llm
        if old is not None:
            old.close()

    async def _dump(self) -> Any:
        return to_js(read_state(_STATE))

    async def _update(self, data: bytes) -> bool:
        lessons = new_lessons(self._now.store, data, _STATE)
        if lessons is None:
            check_state(data, _STATE)
            if "_workbench" in self.__dict__:
                self._workbench.reread()
            await self._replace(data)
            return True
        for lesson in lessons:
            for llm in (self._now, self._next):
                if llm is not None and any(one.name == lesson.agent for one in llm.agents):
                    llm.routing.router.note(lesson)
        return False

    async def _restore(self, data: bytes) -> None:
        check_state(data, _STATE)
        if "_workbench" in self.__dict__:
            self._workbench.forget()
        await self._replace(data)

    async def _replace(self, data: bytes) -> None:
        """Go on from another state file; from the one before where that cannot be."""
        before = read_state(_STATE)
        for llm in (self._next, self._llm):
            if llm is not None:
                llm.close()  # now: closing it later would delete the new file's journal
        try:
            write_state(_STATE, data)
            custom = self._imported() if self._keeps else self._custom
            llm = await self._ready(custom)
        except BaseException:
            write_state(_STATE, before)
            self._change(await self._ready(self._custom))
            raise
        self._custom = custom
        self._change(llm)

    def _imported(self) -> dict[str, Agent]:
        """The agents of the file that has just come; one that says nothing of agents leaves those here alone."""
        if (stored := _stored_agents()) is not None:
            return stored
        if self._custom:
            with closing(Store(_STATE)) as store:
                save_agents(store, self._custom.values())
        return self._custom


def _stored_agents() -> dict[str, Agent] | None:
    with closing(Store(_STATE)) as store:
        return load_agents(store)
