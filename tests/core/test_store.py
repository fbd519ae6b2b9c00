import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from ruvllm.errors import InputError, StoreError
from ruvllm.state.repair.check import check
from ruvllm.state.schema import APPLICATION_ID, SCHEMA_VERSION
from ruvllm.state.store import Store
from ruvllm.types import Feedback

TOLD = [Feedback("one", "a"), Feedback("zwei 🦊", "b", 2.5)]


def test_what_was_told_is_there_after_reopening(tmp_path: Path):
    path = tmp_path / "deep" / "state.db"
    store = Store(path)
    for feedback in TOLD:
        store.add_feedback(feedback)
    other = Store(path)  # a second reader, while the first is open
    assert other.feedback() == TOLD
    other.close()
    store.close()
    assert Store(path).feedback() == TOLD


def test_the_file_says_what_it_is(tmp_path: Path):
    Store(tmp_path / "state.db").close()
    db = sqlite3.connect(tmp_path / "state.db")
    assert db.execute("PRAGMA application_id").fetchone() == (APPLICATION_ID,)
    assert db.execute("PRAGMA user_version").fetchone() == (SCHEMA_VERSION,)


def test_another_programs_database_is_left_alone(tmp_path: Path):
    db = sqlite3.connect(tmp_path / "other.db")
    db.execute("CREATE TABLE theirs (x)")
    db.commit()
    before = (tmp_path / "other.db").read_bytes()
    with pytest.raises(StoreError, match="another program"):
        Store(tmp_path / "other.db")
    assert (tmp_path / "other.db").read_bytes() == before


def test_a_newer_file_is_left_alone(tmp_path: Path):
    Store(tmp_path / "state.db").close()
    db = sqlite3.connect(tmp_path / "state.db")
    db.execute("PRAGMA user_version = 99")
    with pytest.raises(StoreError, match="newer"):
        Store(tmp_path / "state.db")


def test_garbage_and_impossible_paths(tmp_path: Path):
    (tmp_path / "garbage.db").write_bytes(b"not a database at all" * 100)
    (tmp_path / "file").write_text("x")
    for path in (tmp_path / "garbage.db", tmp_path / "file" / "state.db", tmp_path):
        with pytest.raises(StoreError):
            Store(path)


def test_a_text_that_cannot_be_kept_is_an_error():
    with pytest.raises(StoreError):
        Store().add_feedback(Feedback("\ud800", "a"))


def test_a_rejection_a_request_and_a_rating_are_kept(tmp_path: Path):
    path = tmp_path / "state.db"
    with closing(Store(path)) as store:
        first = store.add_feedback(Feedback("one", "a", 0.5, right=False), request="r-7", rating=2)
        second = store.add_feedback(Feedback("two", "b"))
        assert first < second
    with closing(Store(path)) as store:
        assert store.feedback() == [Feedback("one", "a", 0.5, right=False), Feedback("two", "b")]
        kept = store.feedback_rows()
        assert [(row.id, row.request, row.rating) for row in kept] == [(first, "r-7", 2.0), (second, None, None)]
        assert 1.6e9 < kept[0].created <= kept[1].created
        assert [row.id for row in store.feedback_rows(after=first)] == [second]


@pytest.mark.parametrize("rating", [0, 5.1, float("nan"), float("inf")])
def test_a_rating_is_from_1_to_5(rating: float):
    store = Store()
    with pytest.raises(InputError) as caught:
        store.add_feedback(TOLD[0], rating=rating)
    assert caught.value.field == "rating"
    assert store.feedback() == []


def test_feedback_that_was_undone_counts_no_more_and_its_id_is_not_given_again(tmp_path: Path):
    path = tmp_path / "state.db"
    with closing(Store(path)) as store:
        ids = [store.add_feedback(feedback) for feedback in TOLD]
        assert store.undo_feedback(ids[1])
        assert not store.undo_feedback(ids[1])
        assert not store.undo_feedback(99)
    with closing(Store(path)) as store:
        assert store.feedback() == TOLD[:1]
        assert store.add_feedback(TOLD[0]) > ids[1]
        assert check(path).counts["feedback"] == 3


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def there(path: Path) -> list[str]:
    """What another process sees."""
    with closing(Store(path)) as other:
        return [feedback.text for feedback in other.feedback()]


def test_each_write_is_on_disk_unless_they_are_batched(tmp_path: Path):
    path = tmp_path / "state.db"
    Store(path).add_feedback(TOLD[0])
    assert there(path) == ["one"]
    store = Store(path, batch=3, interval=60)
    for n in range(5):
        store.add_feedback(Feedback(f"{n}", "a"))
    assert [feedback.text for feedback in store.feedback()] == ["one", "0", "1", "2", "3", "4"]
    assert there(path) == ["one", "0", "1", "2"]
    store.flush()
    assert there(path)[-2:] == ["3", "4"]
    store.add_feedback(TOLD[1])
    store.close()
    assert there(path)[-1] == TOLD[1].text


def test_a_batch_ends_with_its_time(tmp_path: Path):
    path, clock = tmp_path / "state.db", Clock()
    store = Store(path, batch=100, interval=1.0, clock=clock)
    store.add_feedback(Feedback("0", "a"))
    clock.now += 0.9
    store.tick()
    assert there(path) == []
    clock.now += 0.1
    store.tick()
    assert there(path) == ["0"]
    store.add_feedback(Feedback("1", "a"))
    clock.now += 1.0
    store.add_feedback(Feedback("2", "a"))
    assert there(path) == ["0", "1", "2"]
    clock.now += 5.0
    store.add_feedback(Feedback("3", "a"))  # time without an open transaction is not its time
    assert there(path) == ["0", "1", "2"]


def test_a_batch_is_a_number_of_writes():
    for batch in (0, -1):
        with pytest.raises(InputError) as caught:
            Store(batch=batch)
        assert caught.value.field == "batch"


def half_a_write(store: Store, second: str | None) -> None:
    with store.write() as db:
        db.execute("INSERT INTO feedback (text, agent, weight) VALUES ('half', 'a', 1.0)")
        db.execute(second)  # type: ignore[arg-type]


@pytest.mark.parametrize("batch", [1, 5])
def test_a_write_that_fails_is_taken_back_and_the_others_stay(batch: int):
    store = Store(batch=batch, interval=60)
    store.add_feedback(TOLD[0])
    for second, error in (("INSERT INTO feedback (text) VALUES ('no agent')", StoreError), (None, TypeError)):
        with pytest.raises(error):
            half_a_write(store, second)
    store.add_feedback(TOLD[1])
    assert store.feedback() == TOLD


def fail_around_a_write(store: Store) -> None:
    with store.write():
        store.add_feedback(TOLD[0])
        store.flush()
        raise ZeroDivisionError


@pytest.mark.parametrize("batch", [1, 5])
def test_a_write_within_a_write_is_part_of_it(batch: int, tmp_path: Path):
    path = tmp_path / "state.db"
    store = Store(path, batch=batch, interval=60)
    with pytest.raises(ZeroDivisionError):
        fail_around_a_write(store)
    assert store.feedback() == []
    with store.write():
        store.add_feedback(TOLD[0])
        with pytest.raises(StoreError):
            store.add_feedback(Feedback("\ud800", "a"))
        store.add_feedback(TOLD[1])
        store.flush()
        assert there(path) == []
    assert there(path) == [feedback.text for feedback in TOLD]


def test_learnt_weights_are_kept_by_name(tmp_path: Path):
    store = Store(tmp_path / "state.db")
    assert store.load("adapter") is None
    store.put("adapter", b"old")
    store.put("adapter", b"\x00new")
    store.put("empty", b"")
    store.close()
    store = Store(tmp_path / "state.db")
    assert store.load("adapter") == b"\x00new"
    assert store.load("empty") == b""
    with store.write() as db:
        db.execute("UPDATE learnt SET data = x'00' WHERE name = 'adapter'")
    with pytest.raises(StoreError, match="damaged") as caught:
        store.load("adapter")
    assert "repair" in caught.value.fix


def test_a_closed_store_says_so():
    store = Store()
    store.close()
    for call in (store.feedback, lambda: store.add_feedback(TOLD[0])):
        with pytest.raises(StoreError):
            call()
