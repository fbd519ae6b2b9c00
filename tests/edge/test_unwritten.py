"""Text of half characters, and items that cannot be written: neither stops the server, a restart or its end."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import numpy as np
import pytest
from conftest import Running, Writer, serving

from ruvllm import RuvLLM
from ruvllm.config import Config
from ruvllm.learning.federated import EphemeralAgent
from ruvllm.options import MemoryConfig
from ruvllm.state.agents import insert_agents
from ruvllm.state.store import Store

JSON = {"content-type": "application/json"}
TASK = "paint the garden fence"
POISONED = (
    rb'{"name":"fence-painter\ud800","description":"paint the garden fence","examples":["paint the garden fence"]}'
)
IN_A_FILE = json.dumps({"files": [{"path": "a.json", "text": f'{{"agents": [{POISONED.decode()}]}}'}]}).encode()
CONFIG = Config(memory=MemoryConfig(quality_threshold=0.0, write_interval_ms=0))


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Callable[[], Any]]:
    """A server on one state file, which keeps agents and remembers every answer, as often as asked for."""

    def make() -> Any:
        llm = RuvLLM(encoder="static", state=tmp_path / "state.db", backends={"small": Writer()}, config=CONFIG)
        return serving(llm, keeps=True, chat_adds=("write-back",))

    return make


@pytest.fixture
def logged() -> Iterator[list[str]]:
    """What ruvllm says in its log meanwhile, without what the server says of requests."""
    lines = list[str]()

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(record.getMessage())

    handler = Handler(logging.ERROR)
    loggers = [logging.getLogger(f"ruvllm.{name}") for name in ("state", "steps", "edge")]
    for logger in loggers:
        logger.addHandler(handler)
    yield lines
    for logger in loggers:
        logger.removeHandler(handler)


def waits(until: Callable[[], bool]) -> None:
    end = monotonic() + 60
    while not until():
        assert monotonic() < end
        sleep(0.01)


@pytest.mark.parametrize("body", [b'{"agents":[%s]}' % POISONED, IN_A_FILE], ids=["agents", "file"])
def test_put_agents_with_half_a_character_poisons_nothing(served: Callable[[], Any], body: bytes):
    with served() as edge:
        put = edge.client.put("/v1/agents", content=body, headers=JSON)
        assert (put.status_code, put.json()["problems"]) == (200, [])
        for path, asked in (
            ("/query", {"query": TASK}),
            ("/v1/chat/completions", {"messages": [{"role": "user", "content": TASK}]}),
        ):
            assert edge.post(path, asked).status_code == 200
        told = edge.post("/v1/feedback", {"text": TASK, "agent": "fence-painter\ufffd"})
        assert told.status_code == 200
        waits(lambda: edge.get("/stats").json()["memory_nodes"] == 2)
        assert edge.get("/stats").json()["failures"] == edge.get("/stats").json()["set_aside"] == {}
    with served() as edge:
        answer = edge.get("/v1/agents")
        assert answer.status_code == 200
        assert "fence-painter\ufffd" in [agent["name"] for agent in answer.json()["agents"]]
        assert edge.post("/v1/route", {"text": TASK}).json()["agent"] == "fence-painter\ufffd"


def test_a_state_file_that_holds_half_a_character_is_served(served: Callable[[], Any], tmp_path: Path):
    with closing(Store(tmp_path / "state.db")) as store:
        insert_agents(store, [{"name": "fence-painter\ud800", "description": "\ud83d", "examples": [TASK, "\udfff"]}])
        about = (json.dumps({"user": "\ud800"}),)
        with store.write() as db:
            db.execute("INSERT INTO sessions VALUES ('old', ?, 1, 9e9, x'', NULL, 20)", about)
    with served() as edge:
        assert edge.get("/v1/agents").status_code == 200
        assert edge.post("/query", {"query": TASK}).json()["agent"] == "fence-painter\ufffd"
        assert edge.get("/v1/sessions/old").json()["metadata"] == {"user": "\ufffd"}


def test_a_session_and_an_answer_with_half_a_character_are_kept(served: Callable[[], Any]):
    with served() as edge:
        made = edge.client.post("/v1/sessions", content=rb'{"metadata":{"k\ud800":"\udfff"}}', headers=JSON).json()
        asked = b'{"query":"paint \\ud800 and \\ud83d\\ude00","session_id":"%s"}' % made["session_id"].encode()
        answer = edge.client.post("/query", content=asked, headers=JSON)
        assert (answer.status_code, answer.json()["text"]) == (200, "paint \ufffd and 😀 ")
    with served() as edge:
        session = edge.get(f"/v1/sessions/{made['session_id']}").json()
        assert session["metadata"] == {"k\ufffd": "\ufffd"}
        assert [turn["content"] for turn in session["history"]] == ["paint \ufffd and 😀", "paint \ufffd and 😀 "]


@pytest.mark.parametrize(
    "body", [rb'{"text": "\ud800", ', b'{"text": "\\ud800", "a": ' + b"[" * 20_000, rb'{"text":"\ud8"}']
)
def test_what_is_no_json_beside_half_a_character_is_a_400(served: Callable[[], Any], body: bytes):
    with served() as edge:
        assert edge.client.post("/v1/route", content=body, headers=JSON).status_code == 400


def refuse(llm: RuvLLM, begins: str) -> None:
    """Statements that begin so raise, without harm to the file."""
    whole = llm.store._db

    class Faulty:
        def execute(self, sql: str, values: Any = ()) -> Any:
            if sql.startswith(begins):
                raise OverflowError("a secret text")
            return whole.execute(sql, values)

        def executemany(self, sql: str, rows: Any) -> None:
            for row in rows:
                self.execute(sql, row)

        def __getattr__(self, name: str) -> Any:
            return getattr(whole, name)

    llm.store._db = Faulty()  # type: ignore[assignment]


def test_what_cannot_be_written_is_counted_and_all_else_is_there_after_the_end(
    served: Callable[[], Any], monkeypatch: pytest.MonkeyPatch, logged: list[str]
):
    monkeypatch.setattr("ruvllm_edge.server._TICK", 0.01)
    with served() as edge:
        refuse(edge.llm, "INSERT INTO own_agents")
        put = edge.client.put("/v1/agents", content=b'{"agents":[%s]}' % POISONED, headers=JSON).json()
        assert [problem["message"] for problem in put["problems"]] == [
            "the agent 'fence-painter\ufffd' cannot be stored, and is gone after a restart"
        ]
        refuse(edge.llm, "INSERT INTO turns")
        session = edge.post("/v1/sessions", {}).json()["session_id"]
        assert edge.post("/query", {"query": TASK, "session_id": session}).status_code == 200
        waits(lambda: edge.get("/stats").json()["set_aside"] == {"agent": 1, "turn": 1})
        metrics = edge.get("/metrics").text
        assert 'ruvllm_set_aside{kind="agent"} 1.0' in metrics
        assert 'ruvllm_set_aside{kind="turn"} 1.0' in metrics
    assert logged == [
        r"set aside: agent 'fence-painter\ufffd': OverflowError",
        f"set aside: turn '{session}': OverflowError",
    ]
    with served() as edge:
        assert edge.get("/stats").json()["set_aside"] == {"agent": 1, "turn": 1}
        assert edge.get(f"/v1/sessions/{session}").json()["history"] == []
        assert edge.get("/stats").json()["memory_nodes"] == 1
        assert edge.client.delete(f"/v1/sessions/{session}").status_code == 204
        waits(lambda: edge.get("/stats").json()["set_aside"] == {"agent": 1})
        assert 'kind="turn"' not in edge.get("/metrics").text


@pytest.mark.parametrize("error", [ValueError("a secret text"), UnicodeEncodeError("utf-8", "a secret", 0, 1, "why")])
def test_learning_that_fails_each_second_is_logged_once_and_the_end_writes_what_waits(
    served: Callable[[], Any], error: Exception, monkeypatch: pytest.MonkeyPatch, logged: list[str]
):
    monkeypatch.setattr("ruvllm_edge.server._TICK", 0.01)
    with served() as edge:
        session = edge.post("/v1/sessions", {}).json()["session_id"]
        answer = edge.post("/query", {"query": TASK, "session_id": session}).json()
        edge.post("/v1/feedback", {"request_id": answer["request_id"], "rating": 5})
        learning, writes = edge.llm.learning, edge.llm.queries.writes

        def broken(*_: object) -> None:
            raise error

        monkeypatch.setattr(type(learning), "has_patterns_to_distil", True)
        monkeypatch.setattr(learning, "distil", broken)
        monkeypatch.setattr(learning.engine, "to_bytes", broken)
        monkeypatch.setattr(writes, "flush", broken)
        edge.post("/query", {"query": "and the gate", "session_id": session})
        waits(lambda: edge.get("/stats").json()["failures"].get("answers", 0) >= 9)
        assert edge.get("/stats").json()["failures"]["job patterns"] >= 1
    assert len(logged) == 3  # a step and a job, and the dump that is set aside at the end
    assert "secret" not in "".join(logged)
    with served() as edge:
        assert len(edge.get(f"/v1/sessions/{session}").json()["history"]) == 4
        assert edge.get("/stats").json()["set_aside"] == {"learnt": 1}
        assert len(edge.llm.learning.replay.labelled) == 1


def test_a_server_that_cannot_warm_up_still_writes_what_waits_at_its_end(served: Callable[[], Any], tmp_path: Path):
    llm = RuvLLM(encoder="static", state=tmp_path / "state.db", backends={"small": Writer()})

    async def broken(*_: object) -> None:
        raise ValueError("a secret text")

    llm.routing.router.warm = broken  # type: ignore[method-assign]
    with serving(llm, until="/health") as edge:
        session = edge.post("/v1/sessions", {}).json()["session_id"]
        assert edge.post("/query", {"query": TASK, "session_id": session}).status_code == 200
        assert edge.get("/ready").status_code == 503
    with served() as edge:
        assert len(edge.get(f"/v1/sessions/{session}").json()["history"]) == 2


def update(name: str, running: Running) -> bytes:
    agent = EphemeralAgent(name, running.llm.encoders.static.dim, least=2)
    for vector in np.random.default_rng(0).standard_normal((4, agent.dim)).astype(np.float32):
        agent.process_trajectory(vector, quality=0.9, model="painter")
    return agent.export_state().to_bytes()


def test_one_damaged_update_costs_the_hub_no_other(served: Callable[[], Any]):
    with served() as edge:
        for name in ("one", "two"):
            assert edge.client.post("/v1/federated/updates", content=update(name, edge)).status_code == 200
        refuse(edge.llm, "INSERT INTO federated_updates")
        assert edge.client.post("/v1/federated/updates", content=update("three", edge)).status_code == 200
        assert edge.get("/v1/federated").json()["updates"] == 3
        with edge.llm.store.write() as db:
            db.execute("UPDATE federated_updates SET data = x'00' WHERE id = 1")
    with served() as edge:
        assert edge.get("/v1/federated").json()["updates"] == 1
        assert edge.get("/stats").json()["set_aside"] == {"federated": 2}
