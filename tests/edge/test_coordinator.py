"""Installations that never met learn from each other through a coordinator, over HTTP, and no text travels."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from conftest import Running, Writer, serving
from waiting import until

from ruvllm import Agent, Config, RuvLLM
from ruvllm.cli.main import main
from ruvllm.learning.federated import Update

# Whose names and descriptions say nothing of what they do: only feedback does.
DESKS = {
    "ada": (
        ["fire the kiln at cone six", "mix a celadon glaze", "wedge the stoneware clay", "throw ten porcelain bowls",
         "trim the feet of the pots", "stack the shelves of the kiln", "sieve the glaze before dipping"],
        ["fire porcelain bowls in the kiln", "which glaze suits stoneware pots"],
    ),
    "ben": (
        ["open the hive and look for the queen", "feed sugar syrup to the bees", "harvest honey from the supers",
         "treat the colony against mites", "catch a swarm in the pear tree", "smoke the hive before the inspection",
         "move the bees to the heather"],
        ["does the colony of bees have a queen", "take honey out of the hive"],
    ),
    "cyd": (
        ["warp the loom with linen", "weave a twill blanket", "wind the weft on bobbins", "mend a broken warp thread",
         "tie up the treadles of the loom", "full the woollen cloth", "sley the reed for the blanket"],
        ["weave linen cloth on the loom", "the warp thread of the blanket broke"],
    ),
    "dov": (
        ["heat the iron in the forge", "quench the blade in oil", "draw out a bar on the anvil", "weld two steel rods",
         "temper the chisel", "rivet the hinge of the iron gate", "sharpen the hammered blade"],
        ["hammer the steel bar on the anvil", "heat the blade in the forge and temper it"],
    ),
}  # fmt: skip
AGENTS = [Agent(name, "A colleague of the workshop.") for name in DESKS]
KEY = "a-key-of-the-whole-team"


def teach(state: Path, names: str) -> None:
    with RuvLLM(AGENTS, encoder="static", state=state) as llm:
        for name in names.split():
            for text in DESKS[name][0]:
                llm.feedback(text, name)


def right(llm: RuvLLM, names: str) -> int:
    return sum(llm.route(text).agent == name for name in names.split() for text in DESKS[name][1])


def right_over_http(edge: Running, names: str) -> int:
    tasks = [(name, text) for name in names.split() for text in DESKS[name][1]]
    return sum(edge.post("/v1/route", {"text": text}).json()["agent"] == name for name, text in tasks)


@pytest.fixture
def coordinator():
    with serving(RuvLLM(encoder="static"), api_keys=(KEY,)) as edge:
        edge.client.headers["Authorization"] = f"Bearer {KEY}"
        yield edge


@pytest.fixture
def agents(tmp_path: Path) -> Path:
    file = tmp_path / "agents.json"
    file.write_text(json.dumps([{"name": agent.name, "description": agent.description} for agent in AGENTS]))
    return file


def cli(state: Path, *words: str, env: Mapping[str, str] | None = None) -> Result:
    return CliRunner().invoke(main, ["--state", str(state), *words], env=dict(env or {}))


def test_a_laptop_and_a_server_that_never_met_are_each_better_on_the_others_agents(
    coordinator: Running, agents: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    laptop, office = tmp_path / "laptop.db", tmp_path / "office.db"
    teach(laptop, "ada ben")
    teach(office, "cyd dov")
    with RuvLLM(AGENTS, encoder="static", state=laptop) as llm:
        alone, decisions = right(llm, "cyd dov"), [llm.route(text) for text in DESKS["cyd"][1]]
    with RuvLLM(AGENTS, encoder="static", state=office) as llm:
        assert right(llm, "ada ben") <= 1
    assert alone <= 1

    pushed = cli(laptop, "learn", "push", "--json", coordinator.url, "--key", KEY)
    assert json.loads(pushed.output)["texts"] == 14
    assert "Nothing new" in cli(laptop, "learn", "push", coordinator.url, "--key", KEY).output

    monkeypatch.setenv("TEAM_KEY", KEY)
    options = Config.from_dict({"federated": {"url": coordinator.url, "api_key_env": "TEAM_KEY"}})
    with serving(RuvLLM(AGENTS, encoder="static", state=office, config=options)) as edge:

        def exchanged() -> bool:
            (row,) = [row for row in edge.get("/v1/stats").json()["jobs"] if row["name"] == "federated"]
            assert row["failure"] is None
            return row["last"] is not None

        until(exchanged)
        assert right_over_http(edge, "ada ben") == 4
        assert right_over_http(edge, "cyd dov") == 4
        found = edge.post("/v1/route", {"text": DESKS["ada"][1][0]}).json()
        assert found["action"] != "use"  # others' word alone is to be confirmed
        assert found["evidence"]["scores"]["shared"] > 0

    pulled = cli(laptop, "learn", "pull", "--agents", str(agents), coordinator.url, env={"RUVLLM_API_KEY": KEY})
    assert "4 are agents here" in pulled.output
    with RuvLLM(AGENTS, encoder="static", state=laptop) as llm:  # in a later process
        assert right(llm, "cyd dov") == 4
        assert right(llm, "ada ben") == 4
    told = json.loads(cli(laptop, "learn", "status", "--agents", str(agents), "--json").output)["federated"]
    assert told == {"sent": 14, "waiting": 0, "shared_agents": 4}
    assert "alone" in cli(laptop, "learn", "pull", "--undo").output
    with RuvLLM(AGENTS, encoder="static", state=laptop) as llm:
        assert [llm.route(text).confidence for text in DESKS["cyd"][1]] == [one.confidence for one in decisions]


def test_a_server_that_is_its_own_client_routes_with_what_was_pushed_to_it(tmp_path: Path):
    teach(tmp_path / "laptop.db", "ada ben")
    with serving(RuvLLM(AGENTS, encoder="static")) as team:
        cli(tmp_path / "laptop.db", "learn", "push", team.url)
        assert right_over_http(team, "ada ben") <= 1
        federated = replace(team.llm.config.federated, url=team.url)
        team.llm.services.reconfigure(replace(team.llm.config, federated=federated))
        until(lambda: any(row["name"] == "federated" and row["last"] for row in team.get("/v1/stats").json()["jobs"]))
        assert right_over_http(team, "ada ben") == 4


def test_what_travels_are_sums_and_names_of_agents(coordinator: Running, tmp_path: Path):
    teach(tmp_path / "a.db", "ada ben")
    cli(tmp_path / "a.db", "learn", "push", coordinator.url, "--key", KEY)
    (data,) = coordinator.llm.store.read("SELECT data FROM federated_updates")[0]
    update = Update.from_bytes(bytes(data))
    assert update.routes == ("ada", "ben")
    assert min(group.count for group in update.groups) >= 5
    assert not any(word in bytes(data).lower() for word in (b"kiln", b"honey", b"laptop"))


def test_an_update_whose_answer_was_lost_counts_once(coordinator: Running, tmp_path: Path):
    state = tmp_path / "a.db"
    teach(state, "ada")
    down = cli(state, "learn", "push", "http://127.0.0.1:9", "--key", KEY)
    assert down.exit_code == 2
    assert "cannot be reached" in down.output
    refused = cli(state, "learn", "push", coordinator.url, "--key", "another")
    assert refused.exit_code == 2
    assert "keys add" in refused.output
    assert json.loads(cli(state, "learn", "push", coordinator.url, "--key", KEY, "--json").output)["texts"] == 7
    assert coordinator.get("/v1/federated").json()["updates"] == 1


def test_feedback_of_a_laptop_goes_to_the_teams_server_with_its_key_and_stays_nowhere_else(tmp_path: Path):
    state, text = tmp_path / "laptop.db", DESKS["ada"][1][0]
    with serving(RuvLLM(AGENTS, encoder="static"), api_keys=(KEY,)) as team:
        named = ["feedback", "--endpoint", team.url, text, "ada"]
        assert "keys add" in cli(state, *named).output
        assert cli(state, *named, env={"RUVLLM_API_KEY": KEY}).exit_code == 0
        assert cli(state, "feedback", "--wrong", "--key", KEY, *named[1:3], text, "ben").exit_code == 0
        assert [(f.agent, f.right) for f in team.llm.store.feedback()] == [("ada", True), ("ben", False)]
        assert cli(state, "feedback", "--key", KEY, *named[1:3], text, "nobody").exit_code == 2
    assert not state.exists()


def test_the_hook_asks_the_teams_server_and_teaches_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    folder = tmp_path / "project" / ".claude" / "agents"
    folder.mkdir(parents=True)
    for agent in AGENTS:
        (folder / f"{agent.name}.md").write_text(
            f"---\nname: {agent.name}\ndescription: {agent.description}\n---\nWork.\n", "utf-8"
        )
    task = "harvest honey from the supers"  # it has seen that this one was given to ben
    with serving(RuvLLM(AGENTS, encoder="static"), api_keys=(KEY,)) as team:

        def hook(*words: str, **event: object) -> Result:
            told = json.dumps({"cwd": str(folder.parents[1])} | event)
            words = ("hook", *words, "--endpoint", team.url, "--key", KEY)
            return CliRunner().invoke(main, words, input=told, env={"RUVLLM_STATE": str(tmp_path / "none.db")})

        for name in ("ada", "ben"):
            for text in DESKS[name][0]:
                done = hook(
                    "--teach", hook_event_name="PostToolUse", tool_input={"prompt": text, "subagent_type": name}
                )
                assert (done.exit_code, done.output) == (0, "")
        assert len(team.llm.store.feedback()) == 14
        said = hook("--min-confidence", "0", hook_event_name="UserPromptSubmit", prompt=task)
        assert "`ben`" in said.output
        assert not (tmp_path / "none.db").exists()
        team.stop()
        assert hook(hook_event_name="UserPromptSubmit", prompt=task).exit_code == 0  # whatever goes wrong


@pytest.mark.parametrize("url", ["", "ftp://team", "http://user:word@team"])
def test_an_address_that_is_none_is_refused_before_anything_travels(url: str, tmp_path: Path):
    done = cli(tmp_path / "a.db", "learn", "push", url)
    assert done.exit_code == 2
    assert "word@" not in done.output


def test_something_else_than_a_coordinator_is_named(edge: Running, tmp_path: Path):
    done = cli(tmp_path / "a.db", "learn", "pull", f"{edge.url}/nothing-here")
    assert done.exit_code == 2
    assert "404" in done.output


# What models are good for: each server has seen one kind of task alone, and its backends fail at what is said here.
KINDS = {
    "proofs": ("prove theorem {} of topology", ("maxi",)),
    "greetings": ("say hello to guest {} at the door", ("mini", "maxi")),
}


def answered(edge: Running, task: str, **more: object) -> dict[str, Any]:
    return edge.post("/v1/query", {"query": task} | more).json()


def chosen(edge: Running) -> dict[str, list[str]]:
    return {kind: [answered(edge, task.format(n))["choice"]["backend"] for n in (91, 92, 93)]
            for kind, (task, _) in KINDS.items()}  # fmt: skip


def test_two_servers_that_never_met_choose_models_by_what_each_other_saw(coordinator: Running, tmp_path: Path):
    def served(kind: str):
        backends = {"small": Writer("mini", "mini-1b"), "large": Writer("maxi", "maxi-70b")}
        agents = [Agent("any", "All tasks.")]
        return serving(RuvLLM(agents, encoder="static", state=tmp_path / f"{kind}.db", backends=backends))

    alone = {}
    for kind, (task, good) in KINDS.items():
        with served(kind) as edge:
            for n in range(24):
                name = ("mini", "maxi")[n % 2]
                id = answered(edge, task.format(n), force_model=name)["request_id"]
                edge.post("/v1/feedback", {"request_id": id, "task_success": name in good})
            alone[kind] = chosen(edge)
        pushed = cli(tmp_path / f"{kind}.db", "learn", "push", "--json", coordinator.url, "--key", KEY)
        assert json.loads(pushed.output)["outcomes"] == 24
        assert "Nothing new" in cli(tmp_path / f"{kind}.db", "learn", "push", coordinator.url, "--key", KEY).output
    best = {"proofs": ["maxi"] * 3, "greetings": ["mini"] * 3}
    assert alone["proofs"]["proofs"] == best["proofs"]
    assert alone["greetings"]["greetings"] == best["greetings"]
    assert alone["proofs"] != best
    assert alone["greetings"] != best
    for kind in (*KINDS, "newcomer"):  # the last has seen nothing
        cli(tmp_path / f"{kind}.db", "learn", "pull", coordinator.url, "--key", KEY)
        with served(kind) as edge:
            assert chosen(edge) == best
    assert coordinator.get("/v1/federated").json()["answers"] == 48
    cli(tmp_path / "proofs.db", "learn", "pull", "--undo")
    with served("proofs") as edge:
        assert chosen(edge) == alone["proofs"]
