import sqlite3
from pathlib import Path

import pytest

from ruvllm.errors import StoreError
from ruvllm.memory.store import APPLICATION_ID, SCHEMA_VERSION, Store
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
