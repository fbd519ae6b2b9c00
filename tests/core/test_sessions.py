"""Sessions end when nobody uses them, the oldest first, keep their last turns, and outlive a process."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from ruvllm import RuvLLM
from ruvllm.config import Config
from ruvllm.errors import InputError, StoreError
from ruvllm.memory.conversations import Conversations
from ruvllm.options import SessionsConfig
from ruvllm.query.requests import LoggedRequest, RequestLog
from ruvllm.query.sessions import Sessions, new_id
from ruvllm.sizing.fastgrnn import FastGrnn
from ruvllm.sizing.fastgrnn.session import RouterSession
from ruvllm.state.store import Store


class Clock:
    now = 1_000.0

    def __call__(self) -> float:
        return self.now


NETWORK = FastGrnn(8)


def sessions(ttl: float = 60, most: int = 3) -> tuple[Sessions, Clock]:
    clock = Clock()
    return Sessions(lambda: RouterSession(NETWORK), ttl, most, clock), clock


def test_a_session_keeps_what_it_was_made_with():
    known, clock = sessions()
    made = known.new({"user": "ada"})
    clock.now += 5
    found = known.get(made.id).snapshot()
    assert (found.metadata, found.created, found.accessed) == ({"user": "ada"}, 1_000, 1_005)
    assert found.history == ()


def test_a_session_goes_on_from_what_was_said_elsewhere():
    known, _ = sessions()
    said = [{"role": "user", "content": "who waters the plants?"}, {"role": "assistant", "content": "Bo."}]
    first = known.new({"user": "ada"}, history=said).snapshot()
    assert [(one.role, one.content) for one in first.history] == [(one["role"], one["content"]) for one in said]
    assert known.new(first.metadata, history=first.history).snapshot().history == first.history
    for bad in (said[:1], said[::-1], ["x"], [{"role": "user"}], None, 3):
        with pytest.raises(InputError) as caught:
            known.new(history=bad)  # type: ignore[arg-type]
        assert caught.value.field == "history"


def test_ids_are_random_or_the_callers():
    known, _ = sessions()
    assert known.new().id != known.new().id
    assert known.new(id="mine").id == "mine"
    with pytest.raises(InputError, match="already"):
        known.new(id="mine")
    for bad in ("", "x" * 300, "a\nb", 3):
        with pytest.raises(InputError):
            known.new(id=bad)  # type: ignore[arg-type]
    assert len({new_id("req") for _ in range(1_000)}) == 1_000


def test_a_session_ends_when_it_is_not_used():
    known, clock = sessions(ttl=60)
    used, unused = known.new().id, known.new().id
    for _ in range(3):
        clock.now += 30
        known.get(used)
    with pytest.raises(InputError, match="no session"):
        known.get(unused)
    assert len(known) == 1


def test_the_one_unused_for_longest_makes_room():
    known, _ = sessions(most=3)
    first, second, third = (known.new().id for _ in range(3))
    known.get(first)
    fourth = known.new().id
    assert len(known) == 3
    with pytest.raises(InputError):
        known.get(second)
    assert [known.get(i).id for i in (first, third, fourth)] == [first, third, fourth]


def test_a_session_can_be_ended():
    known, _ = sessions()
    id = known.new().id
    assert known.end(id)
    assert not known.end(id)
    with pytest.raises(InputError):
        known.get(id)


def test_history_is_bounded():
    known, _ = sessions()
    session = known.new()
    for i in range(120):
        session.add(f"question {i}", f"answer {i}")
    history = session.snapshot().history
    assert len(history) == 100
    assert (history[0].content, history[-1].content) == ("question 70", "answer 119")


def test_the_log_remembers_the_latest_requests():
    log = RequestLog(2)
    for name in ("one", "two", "three"):
        log.add(LoggedRequest(name, "text", "agent", np.zeros(8, np.float32)))
    assert log.get("three").request_id == "three"
    for gone in ("one", "", 3):
        with pytest.raises(InputError, match="remembered"):
            log.get(gone)  # type: ignore[arg-type]


def test_the_log_has_room_for_so_much_text():
    log = RequestLog(100, most_text=1_000)
    for i in range(10):
        log.add(LoggedRequest(f"{i}", "q" * 100, "agent", np.zeros(8, np.float32), answer="a" * 200))
    assert len(log) == 3
    assert log.get("7").request_id == "7"
    log.add(LoggedRequest("again", "q" * 300, "agent", np.zeros(8, np.float32)))
    log.add(LoggedRequest("again", "q" * 300, "agent", np.zeros(8, np.float32)))
    assert len(log) == 3
    assert log.get("7")  # used last, so the one before it has left
    log.add(LoggedRequest("huge", "q" * 5_000, "agent", np.zeros(8, np.float32)))
    assert (len(log), log.get("huge").request_id) == (1, "huge")  # the latest stays whatever it is


def kept(store: Store, ttl: float = 60, most: int = 3, **more: int) -> tuple[Sessions, Clock]:
    """Those of a process that begins with this file."""
    clock = Clock()
    return Sessions(lambda: RouterSession(NETWORK), ttl, most, clock, conversations=Conversations(store), **more), clock


def test_another_process_goes_on_with_a_session():
    store = Store()
    known, clock = kept(store)
    session = known.new({"user": "ada", "tags": ["ü", 3]})
    session.state.hidden = np.arange(NETWORK.shape.hidden, dtype=np.float32)
    known.flush()
    known.add(session, session.state, "one \ud800?", "eins")
    session.remember(7)
    clock.now += 5
    known.get(session.id)
    known.flush()
    known.add(session, session.state, "two?", "zwei")
    known.flush()

    again, _ = kept(store)
    assert len(again) == 1
    found = again.get(session.id)
    said = [message.content for message in found.history]
    assert said == ["one \ufffd?", "eins", "two?", "zwei"]
    assert (found.metadata, found.created, found.last) == ({"user": "ada", "tags": ["ü", 3]}, 1_000, 7)
    np.testing.assert_array_equal(found.state.hidden, session.state.hidden)
    again.add(found, found.state, "three?", "drei")
    again.flush()
    assert [message.content for message in kept(store)[0].get(session.id).history][-2:] == ["three?", "drei"]


def test_what_was_unused_for_longest_ends_first_in_the_next_process_too():
    store = Store()
    known, clock = kept(store)
    for name in "abc":
        known.new(id=name)
    for name in ("c", "a", "b"):
        clock.now += 1
        known.get(name)
    known.flush()
    again, later = kept(store)
    later.now = clock.now
    again.new(id="d")  # the fourth of three
    with pytest.raises(InputError, match="no session"):
        again.get("c")
    later.now = clock.now + 59  # 60 s after `a` was used, 59 after `b`
    assert len(again) == 2
    assert again.get("b").id == "b"
    again.flush()
    assert {row.id for row in Conversations(store).rows()} == {"b", "d"}


def test_a_session_that_ended_is_in_the_file_no_more():
    store = Store()
    known, _ = kept(store)
    session = known.new(id="secret")
    known.add(session, session.state, "what is it?", "nothing")
    known.flush()
    assert known.end("secret")
    assert store.read("SELECT * FROM turns") == []
    assert Conversations(store).rows() == []
    known.add(session, session.state, "again?", "no")  # the answer was on its way
    known.flush()
    assert Conversations(store).rows() == []
    known.new(id="secret")
    known.flush()
    assert kept(store)[0].get("secret").history == []


def test_a_failed_write_goes_on_waiting(monkeypatch: pytest.MonkeyPatch):
    store = Store()
    known, _ = kept(store)
    session = known.new(id="a")
    known.add(session, session.state, "one?", "1")
    with monkeypatch.context() as broken:
        broken.setattr(Conversations, "write", _full)
        with pytest.raises(StoreError):
            known.flush()
    known.flush()
    known.flush()
    assert len(kept(store)[0].get("a").history) == 2


def _full(*_: object) -> None:
    raise StoreError("the disk is full", field="state", fix="make room")


def test_only_so_many_are_written_at_a_time():
    store = Store()
    known, _ = kept(store, most=10)
    for name in "abcde":
        known.new(id=name)
    for count in (2, 4, 5, 5):
        known.flush(2)
        assert len(Conversations(store).rows()) == count


def test_histories_are_bounded_in_the_file_and_by_their_length():
    store = Store()
    known, _ = kept(store, characters=2_000)
    session = known.new(id="long")
    for i in range(60):
        known.add(session, session.state, f"question {i}", "a")
        if i % 7 == 0:
            known.flush()
    known.flush()
    assert store.read("SELECT count(*), min(question) FROM turns") == [(50, "question 10")]
    assert len(kept(store)[0].get("long").history) == 100
    other = known.new(id="other")
    known.add(other, other.state, "x" * 1_500, "")
    known.flush()
    assert [row.id for row in Conversations(store).rows()] == ["other"]


def test_metadata_that_no_file_can_hold_is_refused():
    known, _ = kept(Store())
    deep: list[object] = []
    for _ in range(200):
        deep = [deep]
    for bad in ({"x": object()}, {"x": deep}):
        with pytest.raises(InputError) as caught:
            known.new(bad)
        assert caught.value.field == "metadata"
    assert len(known) == 0


def test_a_damaged_session_says_so_and_the_others_go_on():
    store = Store()
    known, _ = kept(store)
    known.new(id="a"), known.new(id="b")
    known.flush()
    with store.write() as db:
        db.execute("UPDATE sessions SET metadata = '{' WHERE id = 'a'")
    again, _ = kept(store)
    with pytest.raises(StoreError) as caught:
        again.get("a")
    assert "repair" in caught.value.fix
    assert again.get("b").id == "b"


def test_whoever_wants_none_kept_has_none_left(tmp_path: Path):
    path = tmp_path / "state.db"
    with RuvLLM(encoder="static", state=path) as llm:
        name = llm.new_session({"user": "ada"}).id
        llm.query("where is the cello?", session=name)
    with RuvLLM(encoder="static", state=path) as llm:
        asked, answered = llm.session(name).history
        assert (asked.role, asked.content, answered.role) == ("user", "where is the cello?", "assistant")
        llm.query("and the bow?", session=name)
        llm.write()
        with closing(Store(path)) as other:  # a process that dies now loses nothing
            assert len(Conversations(other).read(name).turns) == 2  # type: ignore[union-attr]
    config = Config(sessions=SessionsConfig(keep=False))
    with RuvLLM(encoder="static", state=path, config=config) as llm:
        with pytest.raises(InputError, match="no session"):
            llm.session(name)
        llm.query("once more", session=llm.new_session().id)
    with closing(Store(path)) as store:
        assert store.read("SELECT (SELECT count(*) FROM sessions), (SELECT count(*) FROM turns)") == [(0, 0)]


def test_what_nobody_uses_any_more_leaves_the_file_by_itself():
    store = Store()
    known, clock = kept(store, ttl=60)
    known.new(id="a")
    known.flush()
    clock.now += 61
    known.flush()  # a server's timer, while nobody asks
    assert Conversations(store).rows() == []


def test_what_has_ended_cannot_be_read_in_the_file_either(tmp_path: Path):
    path = tmp_path / "state.db"
    with closing(Store(path)) as store:
        known, _ = kept(store)
        session = known.new(id="secret")
        known.add(session, session.state, "the word is xylophone", "very well, xylophone")
        known.flush()
        known.end("secret")
    assert b"xylophone" not in path.read_bytes()
