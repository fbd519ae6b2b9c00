"""A whole state as bytes: taken from one RuvLLM, put into another, or refused."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from ruvllm import Agent, RuvLLM
from ruvllm.errors import StoreError
from ruvllm.state.agents import load_agents, save_agents
from ruvllm.state.repair.check import check
from ruvllm.state.store import Store

TAUGHT, AGENT = "polish the copper kettle", "planner"


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """What one knows who was taught, remembers, and talks."""
    with RuvLLM(encoder="static", state=tmp_path_factory.mktemp("full") / "state.db") as llm:
        for _ in range(3):
            llm.feedback(TAUGHT, AGENT)
        llm.memory.add("The cello is in the attic.")
        save_agents(llm.store, [Agent("gardener", "Looks after plants")])
        llm.query("where is the cello?", session=llm.new_session(id="talk").id)
        return llm.dump()


@pytest.mark.parametrize("kept", [True, False])
def test_all_of_it_moves(full: bytes, kept: bool, tmp_path: Path):
    path = tmp_path / "state.db"
    with RuvLLM(encoder="static", state=path if kept else None) as llm:
        before = llm.route(TAUGHT).agent
        llm.memory.add("The violin is in the cellar.")
        llm.feedback("mow the lawn", "coder")
        llm.query("where is the violin?", session=llm.new_session(id="old").id)
        llm.restore(full)
        assert (llm.route(TAUGHT).agent, before) == (AGENT, before)
        assert [one.memory.text for one in llm.memory.search("cello")] == ["The cello is in the attic."]
        assert list(load_agents(llm.store) or ()) == ["gardener"]
        assert "attic" in llm.query("where is the cello?").text
        assert [row.feedback.agent for row in llm.store.feedback_rows()] == [AGENT] * 3
        other = llm.dump()
    if kept:
        assert check(path).ok
        with RuvLLM(encoder="static", state=path) as llm:
            assert llm.route(TAUGHT).agent == AGENT
            assert llm.session("talk").history[0].content == "where is the cello?"
    with RuvLLM(encoder="static") as llm:
        llm.restore(other)
        assert llm.route(TAUGHT).agent == AGENT


def test_another_process_sees_that_all_is_new(full: bytes, tmp_path: Path):
    path = tmp_path / "state.db"
    with RuvLLM(encoder="static", state=path) as llm, RuvLLM(encoder="static", state=path) as other:
        for n in range(5):
            llm.memory.add(f"old {n}")
        assert len(other.memory.search("old", 9)) == 5
        llm.restore(full)
        assert [one.memory.text for one in other.memory.search("cello", 1)] == ["The cello is in the attic."]


def changed(data: bytes, statement: str, path: Path) -> bytes:
    path.write_bytes(data)
    with closing(sqlite3.connect(path)) as db:
        db.execute(statement)
        db.commit()
        return db.serialize()


@pytest.mark.parametrize(
    "damage",
    [
        "empty",
        "text",
        "half",
        "noise",
        "UPDATE own_agents SET agent = '{}'",
        "UPDATE memories SET text = 'other'",
        "PRAGMA user_version = 99",
        "PRAGMA application_id = 7",
        "CREATE TRIGGER evil AFTER INSERT ON feedback BEGIN DELETE FROM feedback; END",
    ],
)
def test_what_is_no_whole_state_changes_nothing(damage: str, full: bytes, tmp_path: Path):
    simple = {
        "empty": b"",
        "text": b"hello",
        "half": full[: len(full) // 2],
        "noise": full[:5000] + bytes(byte ^ 0x5A for byte in full[5000:20000]) + full[20000:],
    }
    bad = simple[damage] if damage in simple else changed(full, damage, tmp_path / "bad.db")
    with RuvLLM(encoder="static", state=tmp_path / "state.db") as llm:
        llm.feedback("mow the lawn", "coder")
        llm.memory.add("The violin is in the cellar.")
        with pytest.raises(StoreError) as caught:
            llm.restore(bad)
        assert (caught.value.field, caught.value.fix) == ("state", "choose a file that an export gave")
        assert len(llm.store.feedback()) == 1
        assert len(llm.memory.search("violin")) == 1


def test_what_was_there_comes_back_when_the_new_one_cannot_be_used(full: bytes, monkeypatch: pytest.MonkeyPatch):
    with RuvLLM(encoder="static") as llm:
        llm.feedback("mow the lawn", "coder")
        monkeypatch.setattr(llm.routing, "_router_for", lambda _: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            llm.restore(full)
        assert [feedback.text for feedback in llm.store.feedback()] == ["mow the lawn"]
        assert llm.memory.search("cello") == []


def test_an_older_file_is_brought_up_to_date_on_its_way(full: bytes, tmp_path: Path):
    path = tmp_path / "old.db"
    path.write_bytes(full)
    with closing(sqlite3.connect(path)) as db:
        newer = "".join(f"DROP TABLE {name}; " for name in ("words", "closed", "seen", "turns", "sessions"))
        db.executescript(f"{newer} PRAGMA user_version = 3")
        old = db.serialize()
    with RuvLLM(encoder="static") as llm:
        llm.restore(old)
        assert llm.route(TAUGHT).agent == AGENT
        assert llm.new_session().history == ()


def test_a_store_on_disk_is_taken_with_what_its_journal_holds(tmp_path: Path):
    with RuvLLM(encoder="static", state=tmp_path / "a.db") as llm:
        llm.feedback(TAUGHT, AGENT)
        (tmp_path / "b.db").write_bytes(llm.dump())
    with closing(Store(tmp_path / "b.db")) as store:
        assert [feedback.text for feedback in store.feedback()] == [TAUGHT]
