"""Two processes on one file: readers never block, a second writer is told, and both go on."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from children import Child, start
from states import add_memories, build

from ruvllm.errors import StoreError
from ruvllm.memory.records import Records
from ruvllm.state.repair.check import check, repair
from ruvllm.state.store import Store
from ruvllm.types import Feedback


def holding(path: Path) -> Child:
    """A process within a write: it has said "inside", and ends it when it is told."""

    def work(say: Callable[[str], object], wait: Callable[[], object]) -> None:
        with closing(Store(path)) as store:
            with store.write() as db:
                db.execute("INSERT INTO feedback (text, agent, weight) VALUES ('theirs', 'a', 1.0)")
                say("inside")
                wait()
            say("done")
            wait()
            store.add_feedback(Feedback("theirs again", "a"))

    child = start(work)
    assert child.line() == "inside"
    return child


@pytest.fixture
def path(tmp_path: Path) -> Path:
    with closing(Store(tmp_path / "state.db")) as store:
        store.add_feedback(Feedback("first", "a"))
    return tmp_path / "state.db"


def test_readers_go_on_while_another_process_writes(path: Path):
    with closing(Store(path)) as before:
        child = holding(path)
        with closing(Store(path)) as after:  # opened while the other is within its write
            for store in (before, after):
                assert [feedback.text for feedback in store.feedback()] == ["first"]
            assert check(path).ok
            child.tell()
            assert child.line() == "done"
            for store in (before, after):
                assert [feedback.text for feedback in store.feedback()] == ["first", "theirs"]
        child.tell()
        assert child.rest() == []


def test_a_second_writer_is_told_and_can_write_later(path: Path):
    child = holding(path)
    with closing(Store(path)) as store:
        with pytest.raises(StoreError, match="another process is writing") as caught:
            add_memories(Records(store), 1)
        assert "wait" in caught.value.fix
        child.tell()
        assert child.line() == "done"
        assert add_memories(Records(store), 1) == [1]
        child.tell()
        assert child.rest() == []
        assert [feedback.text for feedback in store.feedback()] == ["first", "theirs", "theirs again"]


def test_a_second_writer_waits_for_a_short_write(path: Path):
    child = holding(path)

    def work(say: Callable[[str], object], wait: object) -> None:
        with closing(Store(path)) as store:
            say("ready")
            say(f"{add_memories(Records(store), 1)}")

    second = start(work)
    assert second.line() == "ready"
    child.tell()
    assert second.rest() == ["[1]"]
    child.tell()
    child.rest()


def test_a_writer_that_dies_within_its_write_holds_nobody_up(path: Path):
    child = holding(path)
    child.kill()
    child.rest()
    with closing(Store(path)) as store:
        assert add_memories(Records(store), 1) == [1]
        assert [feedback.text for feedback in store.feedback()] == ["first"]


def test_many_processes_make_one_file_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "new.db"
    monkeypatch.setattr("ruvllm.state.store._PATIENCE_MS", 120_000)  # on however busy a machine

    def work(say: Callable[[str], object], wait: Callable[[], object]) -> None:
        wait()
        with closing(Store(path)) as store:
            say(f"{len(add_memories(Records(store), 3))}")

    children = [start(work) for _ in range(6)]
    for child in children:
        child.tell()
    assert [child.rest() for child in children] == [["3"]] * 6
    assert check(path).counts["memories"] == 18


def test_a_file_in_use_is_not_exchanged(tmp_path: Path):
    path = tmp_path / "state.db"
    build(path, 40)
    child = holding(path)
    with path.open("rb+") as file:
        file.seek(40)
        file.write(b"\xff" * 8)  # the schema's number, which an open connection looks at
    with pytest.raises(StoreError, match="another process has"):
        repair(path, tmp_path / "good.db") and repair(path)
    child.kill()
    child.rest()
