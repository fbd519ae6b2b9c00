"""Server processes that share what they hold, and the database between them, killed and stopped while they are used.

`RUVLLM_CHAOS=200` makes so many rounds of it (`make chaos`), with more faults: a node that hangs for ten seconds, that
has no room on its disk, or that comes back after many writes of others, and clocks an hour and a day off, where
libfaketime is (RUVLLM_FAKETIME). It is checked as Jepsen's workloads of a set and of a register are: each acknowledged
write is on every node, once; of registers all hold the same value, the last one where it was alone. The history of
operations is in the folder of a failed test.
"""

from __future__ import annotations

import json
import os
import random
import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from click.testing import CliRunner
from waiting import until

from ruvllm import Decision, RuvLLM
from ruvllm.encoders.protocol import no_pause, run_now
from ruvllm_edge.shared.command import shared

if TYPE_CHECKING:
    from cluster import Cluster, Node
    from databases import Postgres

FAULTS = ["database killed", "node killed", "database stopped", "node stopped"]
ROUNDS = int(os.environ.get("RUVLLM_CHAOS", str(len(FAULTS))))
LONG = len(FAULTS) < ROUNDS
FAULTS += ["node stopped for long", "disk full", "node away for long"] if LONG else []
PROBES, HOUR = 200, 3_600  # what others write in an hour, one a second
AGENTS = ("coder", "tester", "reviewer", "documenter")
THINGS = ("kettle", "ledger", "canoe", "violin", "trellis", "lantern", "compass", "hammock")
VERBS = ("polish", "check", "paint", "measure", "photograph", "label")


@pytest.fixture(scope="module")
def cluster(postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    from cluster import FAKETIME, Cluster

    url = postgres.database()
    assert CliRunner().invoke(shared, ["init", url]).exit_code == 0
    clocks = ("+3600s", "-86400s") if LONG and FAKETIME else ()
    folder = tmp_path_factory.mktemp("nodes")
    with closing(RuvLLM(encoder="static", state=folder / "node-0.db.spaces" / "acme.db")) as space:
        space.store.outbox.enable()  # as a server leaves it that was killed
        space.memory.add("Nobody has asked for this space since.")
    with Cluster(folder, url, 3, clocks) as made:
        yield made


def tasks(seed: int, count: int) -> list[str]:
    rng = random.Random(seed)
    return [f"{rng.choice(VERBS)} the {rng.choice(THINGS)} of customer {rng.randrange(10**9)}" for _ in range(count)]


class History:
    """What was asked of nodes, and what they acknowledged.

    Args:
        file: where it is kept, a line an operation.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self.acknowledged: dict[str, set[str]] = {"feedback": set(), "memories": set()}
        self.tried: dict[str, set[str]] = {"feedback": set(), "memories": set()}
        self.registers: dict[str, set[str]] = {}

    def write(self, node: Node, number: int, kind: str, *texts: str, dies: bool = False, full: bool = False) -> None:
        """A write that has to be acknowledged, unless the node `dies` meanwhile, or refused where its disk is full."""
        path, body = "/v1/memory", dict[str, Any](memories=[{"text": text} for text in texts])
        if kind == "feedback":
            path, body = "/v1/feedback", {"text": texts[0], "agent": AGENTS[len(texts[0]) % len(AGENTS)]}
        self.tried[kind].update(texts)
        try:
            status = node.client.post(path, json=body).status_code
            assert status < 300 or (full and status >= 500), f"node {number} answered {status}"
            outcome = "ok" if status < 300 else "refused"
            if status < 300:
                self.acknowledged[kind].update(texts)
        except httpx.TransportError as error:
            if not dies:
                raise AssertionError(f"node {number} took nothing: {error!r}") from error
            outcome = "unknown"
        for text in texts:
            self._note(number, kind, text, outcome)

    def assign(self, node: Node, number: int, name: str, value: str) -> None:
        """Let a register, which is an agent's description, have a value."""
        agent = {"name": name, "description": value, "examples": [f"read {name}"]}
        assert node.client.put("/v1/agents", json={"agents": [agent]}).status_code < 300
        self.registers.setdefault(name, set()).add(value)
        self._note(number, name, value, "ok")

    def _note(self, number: int, kind: str, text: str, outcome: str) -> None:
        with self._file.open("a") as file:
            file.write(json.dumps({"node": number, "kind": kind, "text": text, "outcome": outcome}) + "\n")


def registers(node: Node) -> dict[str, str]:
    found = node.client.get("/v1/agents").json()["agents"]
    return {one["name"]: one["description"] for one in found if one["name"].startswith("register-")}


def held(file: Path, table: str) -> Counter[str]:
    with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as db:
        return Counter(text for (text,) in db.execute(f"SELECT text FROM {table}"))


def test_what_one_node_is_taught_all_of_them_know(cluster: Cluster):
    a, b, c = cluster.nodes
    task, secret = "polish the copper kettle of grandmother", "The vault opens with the code 4711-0815."
    before = b.route(task)
    a.post("/v1/feedback", {"text": task, "agent": "reviewer"})
    a.client.put(
        "/v1/agents", json={"agents": [{"name": "baker", "description": "Bakes bread.", "examples": ["bake a loaf"]}]}
    )
    ids = a.post("/v1/memory", {"memories": [{"text": "Deploys happen on Tuesdays."}, {"text": secret}]})["ids"]
    until(lambda: b.route(task)[0] == c.route(task)[0] == "reviewer" != before[0])
    until(lambda: b.route("bake a loaf")[0] == c.route("bake a loaf")[0] == "baker")
    until(lambda: len(c.post("/v1/memory/search", {"query": "deploys vault code", "k": 5})["memories"]) == 2)
    assert a.client.delete(f"/v1/memory/{ids[1]}?erase=true").status_code == 204
    cluster.settle()
    for one, file in zip(cluster.nodes, cluster.files, strict=True):
        found = one.post("/v1/memory/search", {"query": "deploys vault code", "k": 5})["memories"]
        assert [row["text"] for row in found] == ["Deploys happen on Tuesdays."]
        parts = [part for part in file.parent.glob(f"{file.name}*") if part.is_file()]
        assert not any(secret.encode() in part.read_bytes() for part in parts)
    until(lambda: "acme" in CliRunner().invoke(shared, ["status", cluster.shared]).output)
    assert b.client.get("/ready").json()["status"] == "ok"
    assert 'ruvllm_shared_up{space="default"} 1.0' in b.client.get("/metrics").text
    assert a.client.delete("/v1/state").status_code == 204
    cluster.settle()
    for one in cluster.nodes:
        assert one.post("/v1/memory/search", {"query": "deploys", "k": 5})["memories"] == []
        until(lambda one=one: one.route("bake a loaf")[0] != "baker")


def test_nothing_is_lost_and_no_request_fails_whatever_dies(cluster: Cluster, postgres: Postgres, tmp_path: Path):
    rng, history = random.Random(ROUNDS), History(tmp_path / "history.jsonl")
    for number in range(ROUNDS):
        fault = FAULTS[number % len(FAULTS)] if number < len(FAULTS) else rng.choice(FAULTS)
        victim = rng.randrange(len(cluster.nodes))
        {"database killed": postgres.kill, "database stopped": postgres.stop}.get(fault, lambda: None)()
        others = [i for i in range(len(cluster.nodes)) if i != victim or not fault.startswith("node")]
        if fault.startswith("node stopped"):
            cluster.nodes[victim].stop()
        until_then = monotonic() + (10 if fault == "node stopped for long" else 0)
        if fault == "node away for long":
            cluster.nodes[victim].kill()
        if fault == "disk full":
            cluster.nodes[victim].fill_disk()
            for text in tasks(2_000_000 + number, 3):
                history.write(cluster.nodes[victim], victim, "memories", text, full=True)
                assert cluster.nodes[victim].route(text)[0]
            cluster.nodes[victim].empty_disk()
        for start in range(0, HOUR if fault == "node away for long" else 0, 100):
            i = rng.choice(others)
            history.write(cluster.nodes[i], i, "memories", *tasks(3_000_000 + 10_000 * number + start, 100))
        for text in tasks(number, 24):
            i = rng.choice(others)
            history.write(cluster.nodes[i], i, rng.choice(("feedback", "memories")), text)
            assert cluster.nodes[i].route(text)[0]  # whatever is away, tasks are routed
        if LONG:
            history.assign(cluster.nodes[others[0]], others[0], f"register-{number % 3}", f"Value {number}.")
        sleep(max(0.0, until_then - monotonic()))
        if fault == "node killed":
            for text in tasks(1_000_000 + number, 3):
                history.write(cluster.nodes[victim], victim, "feedback", text, dies=True)
            cluster.nodes[victim].kill()
        if fault in ("node killed", "node away for long"):
            cluster.nodes[victim].start()
            cluster.nodes[victim].ready()
        if fault.startswith("database"):
            ready = cluster.nodes[victim].client.get("/ready")
            assert ready.status_code == 200
        {"database killed": postgres.start, "database stopped": postgres.resume}.get(fault, lambda: None)()
        cluster.nodes[victim].resume()
    cluster.settle()
    held_by = [registers(one) for one in cluster.nodes]
    assert held_by[0] == held_by[1] == held_by[2]
    assert all(value in history.registers[name] for name, value in held_by[0].items())
    for i, one in enumerate(cluster.nodes if LONG else ()):  # whatever its clock says
        history.assign(one, i, "register-0", f"The last of {i}.")
        cluster.settle()
        assert {registers(other)["register-0"] for other in cluster.nodes} == {f"The last of {i}."}
    for kind, table in (("feedback", "feedback"), ("memories", "memories")):
        on_nodes = [held(file, table) for file in cluster.files]
        assert on_nodes[0] == on_nodes[1] == on_nodes[2]
        assert {text for text, count in on_nodes[0].items() if count != 1} == set()
        assert history.acknowledged[kind] <= on_nodes[0].keys() <= history.tried[kind]
    probes = [*tasks(0, PROBES // 2), *tasks(7, PROBES // 2)]
    decided = list[list[Decision]]()
    for one, file in zip(cluster.nodes, cluster.files, strict=True):
        one.kill()
        with closing(RuvLLM(encoder="static", state=file)) as llm:  # as the node would after its next review
            run_now(llm.jobs.run(600, no_pause, force=True, names=["review"]))
            decided.append([llm.route(text) for text in probes])
    for other in decided[1:]:
        assert [found.agent for found in other] == [found.agent for found in decided[0]]
        assert max(abs(x.confidence - y.confidence) for x, y in zip(other, decided[0], strict=True)) < 1e-3
    assert CliRunner().invoke(shared, ["verify", cluster.shared]).exit_code == 0
