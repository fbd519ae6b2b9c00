"""A set that differs little from the compiled catalog starts from it: nearly the decisions of a whole build."""

import json
from collections import deque
from collections.abc import Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ruvllm import Agent, Decision, RuvLLM
from ruvllm.encoders.protocol import pause, run_now
from ruvllm.routing.extend import places
from ruvllm.routing.router import Router

DATA = Path(__file__).parents[1] / "data"
PROMPTS = [row["prompt"] for row in json.loads((DATA / "everyday_tasks.json").read_text("utf-8"))["prompts"]]
EXAMPLES = ("the tap in the bathroom is dripping", "unblock the kitchen drain", "fit a new valve to the boiler")
PLUMBER = Agent("plumber", "Mends leaking pipes, taps, drains and boilers.", examples=EXAMPLES)
PLUMBING = ["our tap is dripping again", "the drain in the shower is blocked", "replace the valve of that boiler"]


def decisions(router: Router) -> list[Decision]:
    return [run_now(router.route(text)) for text in (*PROMPTS, *PLUMBING)]


def alike(some: list[Decision], others: list[Decision]) -> tuple[float, float]:
    """(share of tasks for the same agent, mean distance of the confidences)."""
    pairs = list(zip(some, others, strict=True))
    same = np.mean([one.agent == other.agent for one, other in pairs])
    return float(same), float(np.mean([abs(one.confidence - other.confidence) for one, other in pairs]))


def one_more(agents: tuple[Agent, ...]) -> list[Agent]:
    return [*agents, PLUMBER]


def one_without_examples(agents: tuple[Agent, ...]) -> list[Agent]:
    return [replace(PLUMBER, examples=()), *agents]


def one_less_and_one_changed(agents: tuple[Agent, ...]) -> list[Agent]:
    return [replace(agents[1], description="Draws up the plans of others."), *agents[2:]]


@pytest.mark.parametrize("change", [one_more, one_without_examples, one_less_and_one_changed])
def test_a_little_change_decides_as_before(static_llm: RuvLLM, change):
    before = static_llm.agents
    agents = change(before)
    assert places(agents, before) is not None
    changed = {agent.name for agent in before[:2]} if change is one_less_and_one_changed else set()
    old, new = (decisions(llm.routing.router) for llm in (static_llm, RuvLLM(agents, encoder="static")))
    pairs = list(zip(old, new, strict=True))[: len(PROMPTS)]
    pairs = [(one, other) for one, other in pairs if one.agent not in changed]
    same, apart = alike([one for one, _ in pairs], [other for _, other in pairs])
    assert same >= 0.97
    assert apart <= 0.02


@pytest.mark.parametrize("examples", [EXAMPLES, ()])
def test_an_added_agent_takes_its_tasks_and_no_others(static_llm: RuvLLM, examples):
    llm = RuvLLM(encoder="static")
    llm.add_agents([replace(PLUMBER, examples=examples)])
    before, after = decisions(static_llm.routing.router), decisions(llm.routing.router)
    n = len(PROMPTS)
    same, apart = alike(before[:n], after[:n])
    assert same >= 0.99
    assert apart <= 0.01
    assert [decision.agent for decision in after[n:]] == ["plumber"] * len(PLUMBING)
    if examples:
        assert llm.route("our tap is dripping").confidence > 0.7


def test_a_change_starts_from_the_compiled_catalog(static_llm: RuvLLM):
    """No head is fitted for an agent without examples: the others' columns are the compiled ones."""
    llm = RuvLLM([Agent("plumber", "Mends pipes."), *static_llm.agents], encoder="static")
    old, new = (run_now(one.routing.router.scorer("static")).fitted for one in (static_llm, llm))
    np.testing.assert_array_equal(new.head.weights[:, 1:], old.head.weights)
    assert not new.head.weights[:, 0].any()
    assert new.calibration == old.calibration
    llm.feedback("polish the copper pipes", "plumber")
    assert llm.route("polish these copper pipes").agent == "plumber"


def test_places_tell_who_stood_where():
    before = [Agent(name, examples=(f"{name} it",)) for name in "abcdefgh"]
    moves = places([Agent("new"), *reversed(before)], before)
    assert moves is not None
    assert moves.before.tolist() == [-1, 7, 6, 5, 4, 3, 2, 1, 0]
    assert not moves.identity
    only_tier = places([replace(agent, model="opus") for agent in before], before)
    assert only_tier is not None
    assert only_tier.identity
    told = places([replace(before[0], examples=("other",)), *before[1:]], before)
    assert told is not None
    assert told.before.tolist() == [-1, 1, 2, 3, 4, 5, 6, 7]
    assert places([*before, *map(Agent, "xyz")], before) is None
    some = places(before[:3], before)
    assert some is not None
    assert some.before.tolist() == [0, 1, 2]
    assert not some.identity


def in_turns(*work: Coroutine[Any, Any, None]) -> None:
    """What an event loop does: each goes on until it pauses, then the next."""
    waiting = deque(work)
    while waiting:
        try:
            waiting[0].send(None)
            waiting.rotate(-1)
        except StopIteration:
            waiting.popleft()


def test_tasks_are_routed_while_agents_are_added():
    llm = RuvLLM(encoder="static")
    added: list[str] = []
    routed: list[str] = []

    async def add(agent: Agent) -> None:
        await llm.aadd_agents([agent])
        added.append(agent.name)

    async def route() -> None:
        while len(added) < 2:
            routed.append((await llm.aroute(f"write test number {len(routed) % 25} for the parser")).agent)
            if len(routed) == 3:
                await llm.afeedback("shave the yak", "planner")
            await pause()

    in_turns(add(PLUMBER), add(Agent("baker", "Bakes bread.")), route())
    assert len(routed) > 10
    assert set(routed) == {"tester"}
    assert {"plumber", "baker"} <= {agent.name for agent in llm.agents}
    assert llm.route(PLUMBING[0]).agent == "plumber"
    assert llm.route("shave this yak").agent == "planner"  # learnt by the old router while the new one was built


def test_a_long_set_decides_at_once_and_what_was_fitted_is_stored(static_llm: RuvLLM, tmp_path: Path):
    verbs, things = ("wash", "dry", "count", "sort", "weigh", "paint"), ("plums", "sheep", "boats", "bells", "chairs")
    ends = ("today", "by hand", "with care", "before noon", "in the yard", "for the fair", "again")
    agents = [
        Agent(f"{thing}-{verb}er", f"{verb}s {thing}", examples=tuple(f"{verb} the {thing} {end}" for end in ends))
        for thing in things
        for verb in verbs
    ]
    agents += [agent for agent in static_llm.agents if agent.name in ("tester", "reviewer")]
    tasks = ("please weigh all the boats", "add unit tests for the auth module")
    options = {"encoder": "static", "state": tmp_path / "state.sqlite", "like": static_llm}
    with RuvLLM(agents, **options) as llm:
        assert run_now(llm.routing.begin())
        assert [llm.route(task).agent for task in tasks] == ["boats-weigher", "tester"]
        llm.feedback("polish the kettle", "bells-dryer")
        assert llm.route("polish this kettle").agent == "bells-dryer"
    with RuvLLM(agents, **options) as llm:
        run_now(llm.routing.router.warm())
        assert llm.routing.keep()
        fitted = [llm.route(task) for task in tasks]
    with RuvLLM(agents, **options) as llm:
        assert not run_now(llm.routing.begin())
        assert not llm.routing.keep()
        assert [llm.route(task).to_dict()["confidence"] for task in tasks] == pytest.approx(
            [one.confidence for one in fitted], abs=2e-3
        )
        assert llm.route("polish this kettle").agent == "bells-dryer"
