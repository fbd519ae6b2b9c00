"""One item that cannot be written stops no other: it is set aside alone, with its id and the reason."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from faulty import ERRORS, SECRET, heal, refuse
from scripted import Scripted

from ruvllm import Agent, RuvLLM, Tier
from ruvllm.config import Config
from ruvllm.encoders.protocol import run_now
from ruvllm.errors import InputError, StoreError
from ruvllm.memory.conversations import Conversations, StoredSession
from ruvllm.memory.memory import MemoryStore
from ruvllm.memory.rewriting import write_again
from ruvllm.options import MemoryConfig
from ruvllm.query.requests import LoggedRequest
from ruvllm.query.writeback import WriteBack
from ruvllm.state.agents import load_agents, save_agents
from ruvllm.state.record import Memory
from ruvllm.state.repair.check import check, repair
from ruvllm.state.set_aside import SetAsideRow
from ruvllm.state.store import Store

COUNT, DIM = 7, 8
NAMES = [f"item-{i}" for i in range(COUNT)]
POSITIONS = {"first": 0, "middle": 3, "last": COUNT - 1}
REASONS = {type(error).__name__ for error in ERRORS}


class Narrow:
    """An encoder that nobody asks."""

    name, dim = "narrow", DIM

    async def encode(self, texts: Sequence[str]) -> Any:
        return np.ones((len(texts), DIM), np.float32)


@dataclass
class Kind:
    """How seven items of a kind are written, which statement carries one, and which of them a file holds.

    Attributes:
        before: what has to be there.
        carries: of a row of values and a number, whether it is that item's.
    """

    name: str
    begins: str
    carries: Callable[[Sequence[Any], int], bool]
    write: Callable[[Store], object]
    held: Callable[[Store], set[str]]
    before: Callable[[Store], object] = lambda store: None


def vector(i: int) -> Any:
    return np.eye(DIM, dtype=np.float32)[i]


def asked(i: int, **more: Any) -> LoggedRequest:
    return LoggedRequest(f"req-{i}", f"question {NAMES[i]}?", "coder", vector(i), f"{SECRET} {i}", 1.0, **more)


def write_back(store: Store, **more: Any) -> int:
    writes = WriteBack(MemoryStore(Narrow(), store), MemoryConfig())  # type: ignore[arg-type]
    for i in range(COUNT):
        writes.offer(asked(i, **{key: value(i) for key, value in more.items()}))
    done = writes.flush()
    assert len(writes) == 0
    return done


def remember(store: Store) -> None:
    memory = MemoryStore(Narrow(), store)  # type: ignore[arg-type]
    memory.add_encoded([Memory(name, "Fact") for name in NAMES], np.eye(DIM, dtype=np.float32)[:COUNT])
    memory.flush()


def touch(store: Store) -> None:
    memory = MemoryStore(Narrow(), store)  # type: ignore[arg-type]
    memory.records.touch(range(1, COUNT + 1))
    memory.flush()


def texts(store: Store, where: str, kind: str) -> set[str]:
    """Of the names, those that stand in a column."""
    rows = [row[0] for row in store.read(where)]
    return {name for name in NAMES if any(name in (str(row) if kind == "text" else row) for row in rows)}


def sessions() -> list[StoredSession]:
    about = {"note": SECRET}
    turns = (("question?", SECRET),)
    return [StoredSession(name, about, 1.0, 2.0, np.zeros(0, np.float32), None, 9, turns, 1) for name in NAMES]


def one_session(store: Store) -> None:
    turns = tuple((f"question {name}?", SECRET) for name in NAMES)
    Conversations(store).write([replace(sessions()[0], id="s", turns=turns, count=COUNT)])


KINDS = [
    Kind(
        "memory",
        "INSERT INTO memories",
        lambda row, i: NAMES[i] in row[2],
        write_back,
        lambda store: texts(store, "SELECT text FROM memories", "text"),
    ),
    Kind(
        "edge",
        "INSERT INTO edges",
        lambda row, i: row[1] == i + 1,
        lambda store: write_back(store, sources=lambda i: (i + 1,)),
        lambda store: {NAMES[i - 1] for (i,) in store.read("SELECT target FROM edges")},
        remember,
    ),
    Kind(
        "session",
        "INSERT INTO sessions",
        lambda row, i: row[0] == NAMES[i],
        lambda store: Conversations(store).write([replace(one, turns=()) for one in sessions()]),
        lambda store: {row.id for row in Conversations(store).rows()},
    ),
    Kind(
        "turn",
        "INSERT INTO turns",
        lambda row, i: NAMES[i] in row[1],
        one_session,
        lambda store: texts(store, "SELECT question FROM turns", "text"),
    ),
    Kind(
        "agent",
        "INSERT INTO own_agents",
        lambda row, i: NAMES[i] in row[0],
        lambda store: save_agents(store, [Agent(name, SECRET) for name in NAMES]),
        lambda store: set(load_agents(store) or ()),
    ),
    Kind(
        "learnt",
        "INSERT INTO learnt",
        lambda row, i: row[0] == NAMES[i],
        lambda store: [store.save(name, lambda: SECRET.encode()) for name in NAMES],
        lambda store: {name for name in NAMES if store.load(name) == SECRET.encode()},
    ),
    Kind(
        "accesses",
        "UPDATE memories SET accesses",
        lambda row, i: row[1] == i + 1,
        touch,
        lambda store: texts(store, "SELECT text FROM memories WHERE accesses", "text"),
        remember,
    ),
]


@pytest.mark.parametrize("position", POSITIONS.values(), ids=POSITIONS)
@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_any_single_item_that_raises_anything_is_set_aside_alone(
    kind: Kind, error: Exception, position: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    path = tmp_path / "state.db"
    with closing(Store(path)) as store:
        kind.before(store)
        refuse(store, kind.begins, lambda row: kind.carries(row, position), error)
        with caplog.at_level(logging.DEBUG):
            kind.write(store)
    with closing(Store(path)) as store:  # the next process
        assert kind.held(store) == {*NAMES} - {NAMES[position]}
        (row,) = store.set_aside.rows()
        assert (row.kind, row.reason.partition(":")[0]) == (kind.name, type(error).__name__)
        assert row.size
        assert store.set_aside.counts() == {kind.name: 1}
        (line,) = [record.getMessage() for record in caplog.records]
        assert kind.name in line
        assert row.item in line
        assert row.reason in line
        assert SECRET not in line + row.item + row.reason
        assert write_again(store) == ([row.id], [])
        assert kind.held(store) == {*NAMES}
        assert store.set_aside.rows() == []
    assert check(path).ok


@pytest.fixture
def llm(static_llm: RuvLLM, kitchen: list[Agent], tmp_path: Path) -> RuvLLM:
    """Answers from a backend, and remembers all that it says."""
    backends = {Tier.LARGE: Scripted("Twelve hours.")}
    config = Config(memory=MemoryConfig(quality_threshold=0.0))
    state = tmp_path / "state.db"
    return RuvLLM(kitchen, encoder="static", like=static_llm, state=state, backends=backends, config=config)


def ask(llm: RuvLLM, text: str, **more: Any) -> Any:
    return run_now(llm.aquery(text, **more))


def tick(llm: RuvLLM) -> None:
    """What waits is due, whatever the time."""
    llm.queries.writes._since = -1e9
    llm.write()


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_feedback_reaches_everything_else_when_one_effect_cannot_be_written(llm: RuvLLM, error: Exception):
    ids = llm.memory.add(["Sourdough proofs overnight in the fridge.", "The fridge is set to four degrees."])
    llm.memory.graph.link(ids[0], ids[1], "SameTopic", 0.5)
    bound = llm.memory.graph.bind(ids, weight=0.5)
    llm.memory.records.rate({1: -0.5, 2: -0.5})
    response = ask(llm, "how long does the sourdough proof in the fridge?")
    for begins, carries in (
        ("INSERT INTO feedback", lambda row: True),
        ("UPDATE memories SET quality", lambda row: row[2] == 1),
        ("UPDATE edges", lambda row: True),
        ("UPDATE hyperedges", lambda row: True),
        ("INSERT INTO ratings", lambda row: True),
    ):
        refuse(llm.store, begins, carries, error)
    applied = llm.feedback_request(response.request_id, 5, agent=response.agent)
    assert (applied.agent, applied.trajectory, applied.model_choice) == ("confirmed", True, True)
    assert applied.remembered
    assert [round(memory.quality, 1) for memory in llm.memory.records.get(ids)] == [0.5, 0.7]
    assert llm.route("how long does the sourdough proof in the fridge?").agent == response.agent
    assert llm.stats()["set_aside"] == {"feedback": 1, "quality": 1, "rating": 1, "weight": 2}
    heal(llm.store)
    assert write_again(llm.store)[1] == []
    assert [round(memory.quality, 1) for memory in llm.memory.records.get(ids)] == [0.7, 0.7]
    assert len(llm.store.feedback()) == len(llm.memory.ratings) == 1
    assert {near.weight for near in llm.memory.graph.neighbours([1]) if near.other == 2} == {0.7}
    assert {one.id: one.weight for one in llm.memory.graph.bindings([1])} == {bound: 0.7}
    llm.close()


def test_one_bad_question_costs_no_answer_and_no_other_write(llm: RuvLLM, tmp_path: Path):
    session = llm.new_session().id
    refuse(llm.store, "INSERT INTO memories", lambda row: "oven 3" in row[2], KeyError(SECRET))
    refuse(llm.store, "INSERT INTO turns", lambda row: "oven 5" in row[1], OverflowError(SECRET))
    for i in range(COUNT):
        assert ask(llm, f"bake a loaf of bread in oven {i}", session=session).text == "Twelve hours."
    tick(llm)
    assert llm.stats()["set_aside"] == {"memory": 1, "turn": 1}
    cake = ask(llm, "bake a cake")
    llm.feedback_request(cake.request_id, 5, agent=cake.agent)
    llm.close()
    with RuvLLM(encoder="static", like=llm, state=tmp_path / "state.db") as again:
        asked = [message.content[-1] for message in again.session(session).history[::2]]
        assert asked == ["0", "1", "2", "3", "4", "6"]
        known = [row[0] for row in again.store.read("SELECT text FROM memories ORDER BY id")]
        assert [text.split("\n")[0][-1] for text in known] == ["0", "1", "2", "4", "5", "6", "e"]
        assert len(again.store.read("SELECT * FROM edges WHERE kind = 'Follows'")) == 5
        assert len(again.store.feedback()) == 1
        assert again.learning.engine.get_stats().trajectories == 1


@pytest.mark.parametrize("part", ["engine", "replay"])
def test_a_learner_that_cannot_be_dumped_stops_nothing_at_the_end(
    llm: RuvLLM, part: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    session = llm.new_session().id
    llm.feedback_request(ask(llm, "bake a loaf of bread", session=session).request_id, 5)
    learners = llm.learning
    monkeypatch.setattr(type(getattr(learners, part)), "to_bytes", lambda self, *_: {}[SECRET])
    llm.close()
    with closing(Store(tmp_path / "state.db")) as store:
        (row,) = store.set_aside.rows()
        assert (row.kind, row.reason, row.size) == ("learnt", "KeyError", 0)
        assert write_again(store) == ([], [row.id])  # there is nothing of it
        kept = {name.partition("@")[0] for (name,) in store.read("SELECT name FROM learnt")}
        assert kept == {"sona", "replay", "fastgrnn", "requests"} - {row.item.partition("@")[0]}
        assert len(store.read("SELECT * FROM turns")) == len(store.read("SELECT * FROM memories")) == 1


def full(store: Store) -> None:
    (pages,) = store.read("PRAGMA page_count")[0]
    store.read(f"PRAGMA max_page_count = {pages}")


def read_only(store: Store) -> None:
    store.read("PRAGMA query_only = ON")


def closed(store: Store) -> None:
    store._db.close()


@pytest.mark.parametrize("harm", [full, read_only, closed])
def test_a_file_that_takes_nothing_lets_everything_wait(llm: RuvLLM, harm: Callable[[Store], None]):
    session = llm.new_session().id
    for i in range(COUNT):
        ask(llm, f"bake a loaf of bread in oven {i} " + "x" * 20_000, session=session)
    db = llm.store._db
    harm(llm.store)
    if harm is not closed:
        assert ask(llm, "bake a cake", session=session).text == "Twelve hours."
    with pytest.raises(StoreError):
        tick(llm)
    assert len(llm.queries.writes) >= COUNT
    if harm is not closed:
        assert llm.stats()["waiting"] == COUNT + 1
        assert llm.stats()["set_aside"] == {}
        db.execute("PRAGMA query_only = OFF")
        db.execute("PRAGMA max_page_count = 1000000")
        tick(llm)
        assert (llm.stats()["waiting"], llm.stats()["set_aside"]) == (0, {})
        assert len(llm.store.read("SELECT * FROM turns")) == COUNT + 1
        assert len(llm.memory.search("bake", 20)) == COUNT + 1
    with suppress(StoreError):
        llm.close()


def some(store: Store, *rows: tuple[str, str, dict[str, Any]]) -> list[SetAsideRow]:
    for kind, item, payload in rows:
        store.set_aside.add(kind, item, ValueError(SECRET), lambda payload=payload: payload)  # type: ignore[misc]
    return store.set_aside.rows()


def test_what_is_set_aside_goes_with_what_it_belongs_to(tmp_path: Path):
    path = tmp_path / "state.db"
    with closing(Store(path)) as store:
        remember(store)
        rows = some(
            store,
            ("session", "a", {"text": SECRET}),
            ("turn", "a", {"text": SECRET}),
            ("turn", "a", {"text": SECRET}),
            ("turn", "b", {"text": SECRET}),
            ("quality", "1", {}),
            ("accesses", "2", {}),
            ("edge", "3 1 Cites", {}),
            ("weight", "3 4 Cites", {}),
            ("weight", "hyperedge-1", {}),
            ("agent", "baker", {"text": SECRET}),
        )
        assert len(rows) == 10
        Conversations(store).write([], ["a"])
        assert [row.item for row in store.set_aside.rows()] == [
            "b",
            "1",
            "2",
            "3 1 Cites",
            "3 4 Cites",
            "hyperedge-1",
            "baker",
        ]
        MemoryStore(Narrow(), store).forget([1])  # type: ignore[arg-type]
        assert [row.item for row in store.set_aside.rows()] == ["b", "2", "3 4 Cites", "hyperedge-1", "baker"]
        save_agents(store, [Agent("barista")])
        assert [row.item for row in store.set_aside.rows()] == ["b", "2", "3 4 Cites", "hyperedge-1"]
        Conversations(store).clear()
        assert store.set_aside.drop([row.id for row in store.set_aside.rows()] + [99]) == 3
    assert SECRET.encode() not in path.read_bytes()


def test_a_half_of_a_character_is_set_aside_whole_and_written_again_with_its_replacement(tmp_path: Path):
    with closing(Store(tmp_path / "state.db")) as store:
        said = {"text": "lone \ud83d", "agent": "a", "weight": 1.0, "right": True}
        (row,) = some(store, ("feedback", "a\ud800", said))
        assert row.item == "a\ufffd"
        assert write_again(store) == ([row.id], [])
        assert [feedback.text for feedback in store.feedback()] == ["lone \ufffd"]


def test_what_cannot_be_written_again_stays_with_the_new_reason(caplog: pytest.LogCaptureFixture):
    store = Store()
    bad, good, odd = some(
        store,
        ("feedback", "x", {"text": SECRET}),
        ("learnt", "y", {"name": "y", "data": ""}),
        ("nothing", "z", {}),
    )
    assert write_again(store, [bad.id, odd.id]) == ([], [bad.id, odd.id])
    assert [row.reason for row in store.set_aside.rows()] == ["TypeError", "ValueError", "KeyError"]
    assert write_again(store, [good.id]) == ([good.id], [])
    assert SECRET not in caplog.text


@pytest.mark.parametrize("row", ["{", "[]", '{"name": ""}', '{"description": "no name"}', "5"])
def test_a_damaged_row_of_added_agents_costs_itself(row: str):
    store = Store()
    save_agents(store, [Agent("potter", "throws clay"), Agent("weaver", "weaves cloth")])
    with store.write() as db:
        db.execute("UPDATE own_agents SET agent = ? WHERE id = 1", (row,))
    assert list(load_agents(store) or {}) == list(load_agents(store) or {}) == ["weaver"]
    (aside,) = store.set_aside.rows()
    assert (aside.kind, aside.item) == ("agent", "row 1")
    assert write_again(store) == ([], [aside.id])
    assert list(load_agents(store) or {}) == ["weaver"]


def test_a_newer_state_takes_the_place_of_an_older_one_that_was_set_aside():
    store = Store()
    for _ in range(3):
        assert not store.save("sona", lambda: 1 // 0)  # type: ignore[arg-type]
    assert store.set_aside.counts() == {"learnt": 1}
    assert store.save("sona", lambda: b"new")
    assert store.set_aside.counts() == {}


def test_what_is_set_aside_is_bounded_and_what_leaves_is_logged(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    store = Store()
    monkeypatch.setattr("ruvllm.state.set_aside._MOST_BYTES", 10)
    (lost,) = some(store, ("feedback", "large", {"text": "x" * 11}))
    assert lost.size == 0
    monkeypatch.setattr("ruvllm.state.set_aside._MOST", 4)
    some(store, *(("turn", f"{i}", {}) for i in range(5)))
    assert [row.item for row in store.set_aside.rows()] == ["1", "2", "3", "4"]
    assert [line for line in caplog.messages if line.startswith("dropped")] == [
        "dropped, since too much is set aside: feedback 'large'",
        "dropped, since too much is set aside: turn '0'",
    ]


def test_a_repair_keeps_what_is_set_aside(tmp_path: Path):
    path, other = tmp_path / "state.db", tmp_path / "other.db"
    with closing(Store(path)) as store:
        remember(store)
        before = some(store, ("feedback", "x", {"text": SECRET}), ("turn", "y", {}))
    assert check(path).ok
    repair(path, other)
    with closing(Store(other)) as store:
        assert store.set_aside.rows() == before
    with closing(Store(path)) as store, store.write() as db:
        db.execute("UPDATE set_aside SET created = 9e999 WHERE id = 2")
    assert [finding.field for finding in check(path).findings] == ["set_aside"]


def test_a_table_of_another_shape_is_refused(tmp_path: Path):
    path = tmp_path / "state.db"
    with closing(Store(path)) as store, store.write() as db:
        db.execute("CREATE TABLE set_aside (id INTEGER PRIMARY KEY, text TEXT)")
    with pytest.raises(StoreError, match="set_aside is altered"):
        Store(path)


@pytest.mark.parametrize("error", [ValueError(SECRET), UnicodeEncodeError("utf-8", SECRET, 0, 1, "why")])
def test_a_step_that_fails_each_second_is_logged_once_counted_and_stops_no_other(
    llm: RuvLLM, error: Exception, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    session = llm.new_session().id
    llm.feedback_request(ask(llm, "bake bread", session=session).request_id, 5)
    queries, tried = llm.queries, list[float]()

    async def broken(*_: object) -> None:
        tried.append(1.0)
        raise error

    def refuse_all() -> None:
        raise error

    monkeypatch.setattr(queries.writes, "flush", refuse_all)
    monkeypatch.setattr(queries.learners, "distil", broken)
    monkeypatch.setattr(queries.learners, "train", broken)
    with caplog.at_level(logging.DEBUG):
        queries.writes._since = 1e9
        ask(llm, "bake a cake")
        for _ in range(5):
            queries.writes._since = -1e9
            llm.run_jobs(600, force=True)
    assert len(tried) == 10
    assert llm.stats()["failures"] == {"answers": 5, "job patterns": 5, "job sizes": 5}
    assert len(caplog.messages) == 3
    assert SECRET not in caplog.text
    assert len(llm.store.read("SELECT * FROM turns")) == 1
    llm.close()
    with RuvLLM(encoder="static", like=llm, state=llm.store.path) as again:
        assert again.learning.engine.get_stats().trajectories == 1


def test_the_log_comes_back_when_the_reason_changes_or_after_many(llm: RuvLLM, caplog: pytest.LogCaptureFixture):
    steps = llm.steps
    for _ in range(250):
        with steps("sessions"):
            raise ValueError(SECRET)
    with steps("sessions"):
        raise KeyError(SECRET)
    assert caplog.messages == [
        "failed: sessions: ValueError (1 times)",
        "failed: sessions: ValueError (100 times)",
        "failed: sessions: KeyError (1 times)",
    ]
    assert steps.failures == {"sessions": 251}
    with pytest.raises(StoreError), steps("sessions"):
        raise StoreError("the disk is full")


def test_trajectories_are_counted_once(llm: RuvLLM):
    for i in range(8):
        llm.feedback_request(ask(llm, f"bake a loaf of bread in oven {i}").request_id, 5)
    assert llm.learning.engine.get_stats().trajectories == 8
    runs = {run.name: run.outcome for run in llm.run_jobs(600, force=True)}
    assert runs["patterns"].endswith(" from 8 trajectories")
    assert llm.learning.engine.force_learn().trajectories == 0
    llm.close()


async def _nothing() -> None:
    pass


def test_texts_with_half_a_character_are_answered_remembered_and_rated(llm: RuvLLM, tmp_path: Path):
    lone, pair = "paint the fence \ud800", "paint it \ud83d\ude00"
    session = llm.new_session({"user \udfff": ["\ud800", {"x": ("\ud83d\ude00",)}]})
    assert session.metadata == {"user \ufffd": ["\ufffd", {"x": ("😀",)}]}
    llm.queries.writers.backends[Tier.LARGE].answer = "with \udcff paint"  # type: ignore[attr-defined]
    first = ask(llm, lone, session=session.id)
    assert first.text == "with \ufffd paint"
    assert llm.feedback_request(first.request_id, 5, correction="baker\ud800"[:5]).remembered
    ask(llm, pair, session=session.id)
    llm.feedback(lone, "gardener")
    llm.add_agents([Agent("fence-painter\ud800", "paint \ud800", examples=("paint \ud83d\ude00", "x\udfff"))])
    assert llm.agent("fence-painter\ud800").examples == ("paint 😀", "x\ufffd")
    llm.feedback("paint the garden fence", "fence-painter\ud800")
    confident = ask(llm, "paint the garden fence")
    assert confident.agent == "fence-painter\ufffd"
    (noted,) = llm.memory.add("a note \ud800", metadata={"\ud800": "\udfff"}, collection="odd \udfff")
    (found,) = llm.memory.search("note \udfff", collection="odd \udfff")
    assert (found.memory.id, found.memory.text) == (noted, "a note \ufffd")
    llm.memory.flush()
    llm.embed(["\ud800 x"])
    with pytest.raises(InputError):
        llm.query("\ud800")
    tick(llm)
    assert (llm.stats()["set_aside"], llm.stats()["failures"]) == ({}, {})
    json.dumps(llm.store.read("SELECT text FROM memories"), ensure_ascii=False).encode()
    llm.close()
    with RuvLLM(encoder="static", like=llm, state=tmp_path / "state.db") as again:
        said = [message.content for message in again.session(session.id).history]
        assert said == ["paint the fence \ufffd", "with \ufffd paint", "paint it 😀", "with \ufffd paint"]
