"""Agents that clients add: acknowledged at once, fitted in the background, the last change wins."""

from __future__ import annotations

from pathlib import Path
from threading import Event
from time import sleep

import httpx
import pytest
from conftest import Running, serving

from ruvllm import RuvLLM, StoreError
from ruvllm.routing.router import Router
from ruvllm_edge import agents

VERBS = "paint mend bake tune prune weld brew polish stitch carve glaze sort weigh print bind".split()  # noqa: SIM905
THINGS = "fence kettle cello loaf hedge pipe ale spoon coat bowl tile stamp melon poster book lamp rug".split()  # noqa: SIM905


def crew(count: int, start: int = 0) -> list[dict]:
    """Agents with ten examples each."""
    numbers = range(start, start + count)
    tasks = [[f"{VERBS[(i + j) % 15]} the {THINGS[i % 17]} of house {i}" for j in range(10)] for i in numbers]
    return [
        {"name": f"porter-{i}", "description": f"Looks after house {i}.", "examples": task}
        for i, task in zip(numbers, tasks, strict=True)
    ]


def names(edge: Running) -> set[str]:
    return {agent["name"] for agent in edge.get("/v1/agents").json()["agents"]}


def fitted(edge: Running) -> dict:
    """Wait as a client does: until nothing is being fitted."""
    while "fitting" in (told := edge.get("/v1/agents").json()):
        sleep(0.02)
    return told


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> Event:
    """Routers are not warm before it is set, or their warming is stopped."""
    event, warm = Event(), Router.warm

    async def slowly(self: Router, pause):
        while not event.is_set():
            await pause()
            sleep(0.005)
        await warm(self, pause)

    event.set()
    monkeypatch.setattr(Router, "warm", slowly)
    return event


def test_a_put_of_300_agents_with_10_examples_is_acknowledged_and_stops_when_they_are_replaced(
    monkeypatch: pytest.MonkeyPatch,
):
    fits: list[agents._Fit] = []

    class Recorded(agents._Fit):
        def __init__(self, *args):
            super().__init__(*args)
            fits.append(self)

    monkeypatch.setattr(agents, "_Fit", Recorded)
    with serving(RuvLLM(encoder="static")) as edge:
        before = names(edge)
        answer = edge.client.put("/v1/agents", json={"agents": crew(300)})
        told = answer.json()
        assert (answer.status_code, told["agents"], told["problems"]) == (202, len(before) + 300, [])
        assert told["fitting"]["agents"] == len(before) + 300
        assert edge.post("/v1/route", {"text": "fix the login page"}).json()["agent"] in before
        assert edge.get("/health").status_code == 200
        steps = told["fitting"]["steps"]
        while (progress := edge.get("/v1/agents").json()["fitting"])["steps"] <= steps:
            assert names(edge) == before
            sleep(0.02)
        assert 0 <= told["fitting"]["done"] <= progress["done"] < 1
        assert edge.client.delete("/v1/agents").json()["agents"] == len(before)
        assert fits[0].ended.wait(60)
        assert fits[0].task.cancelled()
        assert fitted(edge)["agents"]
        assert names(edge) == before


def test_small_sets_are_answered_when_they_are_routed_among(held: Event):
    with serving(RuvLLM(encoder="static")) as edge:
        answer = edge.client.put("/v1/agents?wait=30", json={"agents": crew(3)})
        assert (answer.status_code, "fitting" in answer.json()) == (200, False)
        assert edge.post("/v1/route", {"text": "mend the kettle of house 1"}).json()["agent"] == "porter-1"
        held.clear()
        answer = edge.client.put("/v1/agents?wait=0", json={"agents": crew(3, 3)})
        assert (answer.status_code, answer.json()["fitting"]["problem"]) == (202, "")
        assert "porter-4" not in names(edge)
        held.set()
        assert {f"porter-{i}" for i in range(6)} <= {agent["name"] for agent in fitted(edge)["agents"]}
        assert edge.post("/v1/route", {"text": "bake the hedge of house 4"}).json()["agent"] == "porter-4"
        for wait in ("-1", "61", "long"):
            assert edge.client.put(f"/v1/agents?wait={wait}", json={"agents": []}).status_code == 422


def test_the_last_change_wins_and_all_before_it_count(held: Event):
    with serving(RuvLLM(encoder="static")) as edge:
        before = names(edge)
        held.clear()
        for start in (0, 2, 4):
            assert edge.client.put("/v1/agents?wait=0", json={"agents": crew(2, start)}).status_code == 202
        assert edge.client.delete("/v1/agents/porter-3?wait=0").status_code == 202
        assert edge.client.delete("/v1/agents/porter-3").status_code == 404
        assert names(edge) == before
        held.set()
        fitted(edge)
        assert names(edge) - before == {f"porter-{i}" for i in (0, 1, 2, 4, 5)}


def test_what_was_acknowledged_is_there_after_a_restart_though_it_was_not_fitted(tmp_path: Path, held: Event):
    state = tmp_path / "state.db"
    with serving(RuvLLM(encoder="static", state=state), keeps=True) as edge:
        held.clear()
        assert edge.client.put("/v1/agents?wait=0", json={"agents": crew(2)}).json()["kept"] is True
    with serving(RuvLLM(encoder="static", state=state), keeps=True, until="/health") as edge:
        held.set()
        while edge.get("/ready").status_code != 200:
            sleep(0.02)
        assert {"porter-0", "porter-1"} <= names(edge)
        edge.client.delete("/v1/agents/porter-0")
    with serving(RuvLLM(encoder="static", state=state), keeps=True) as edge:
        assert {"porter-0", "porter-1"} & names(edge) == {"porter-1"}


def test_agents_that_cannot_be_fitted_say_so(held: Event, monkeypatch: pytest.MonkeyPatch):
    with serving(RuvLLM(encoder="static")) as edge:
        before = names(edge)

        async def broken(self: Router, pause):
            raise RuntimeError("secret inside")

        monkeypatch.setattr(Router, "warm", broken)
        told = edge.client.put("/v1/agents?wait=30", json={"agents": crew(2)})
        assert told.status_code == 202
        assert "log" in told.json()["fitting"]["problem"]
        assert "secret" not in told.text
        assert names(edge) == before
        monkeypatch.undo()
        edge.client.delete("/v1/agents?wait=30")
        assert "fitting" not in edge.get("/v1/agents").json()


def test_a_failed_write_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with serving(RuvLLM(encoder="static", state=tmp_path / "state.db"), keeps=True) as edge:
        before = names(edge)

        def full(*_):
            raise StoreError("the disk is full", field="state")

        monkeypatch.setattr(agents, "save_agents", full)
        assert edge.client.put("/v1/agents", json={"agents": crew(2)}).status_code == 503
        assert edge.client.delete("/v1/agents/porter-0").status_code == 404
        monkeypatch.undo()
        assert httpx.get(f"{edge.url}/v1/stats").json()["own_agents"] == 0
        assert names(edge) == before


def test_a_state_with_many_agents_is_in_use_at_once_and_its_agents_follow(tmp_path: Path, held: Event):
    with serving(RuvLLM(encoder="static", state=tmp_path / "a.db"), keeps=True, max_state=8 << 20) as edge:
        edge.client.put("/v1/agents", json={"agents": crew(2)})
        state = edge.get("/v1/state").content
    with serving(RuvLLM(encoder="static", state=tmp_path / "b.db"), keeps=True, max_state=8 << 20) as edge:
        edge.client.put("/v1/agents", json={"agents": crew(2, 5)})
        assert edge.client.put("/v1/state", content=b"SQLite format 3\0 but no more").status_code == 422
        assert {"porter-5", "porter-6"} <= names(edge)
        assert edge.client.put("/v1/state", content=state).status_code == 204
        fitted(edge)
        assert {name for name in names(edge) if name.startswith("porter")} == {"porter-0", "porter-1"}
