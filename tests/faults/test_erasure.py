"""The right to erasure: after it no byte of a text is in any file."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ruvllm import RuvLLM, StoreError
from ruvllm.memory.erasure import erase, expired
from ruvllm.state.repair.check import check
from ruvllm.state.store import Store
from ruvllm.types import Feedback

SECRET = 'Zebulon\'s "secret" recipe calls for 17 capers, naïvely counted'


def holding(folder: Path, text: str) -> list[str]:
    """Files in which a text stands, as it is or as JSON has it."""
    forms = {form.encode() for form in (text, json.dumps(text)[1:-1], json.dumps(text, ensure_ascii=False)[1:-1])}
    files = [path for path in folder.rglob("*") if path.is_file()]
    return [path.name for path in files if any(form in path.read_bytes() for form in forms)]


def test_nothing_is_left_of_what_was_erased(tmp_path: Path):
    path = tmp_path / "state.db"
    with RuvLLM(encoder="static", state=path) as llm:
        others = llm.memory.add([f"another memory, number {n}" for n in range(300)])
        secret, follower = llm.memory.add([SECRET, f"{others[0]} follows it"])
        llm.memory.graph.link(follower, secret, "Follows")
        llm.store.add_feedback(Feedback(f"cook: {SECRET}", "chef"))
        llm.store.put("requests", json.dumps({"q": SECRET}).encode())
        llm.store.set_aside.add("memory", "r1", ValueError("x"), lambda: {"text": SECRET})
        with llm.store.write() as db:
            db.execute("INSERT INTO sessions VALUES ('s', '{}', 0, 0, x'', NULL, 9)")
            db.execute("INSERT INTO turns (session, question, answer) VALUES ('s', ?, 'yes')", (SECRET,))
        llm.memory.flush()
        (tmp_path / "state.db.broken-1").write_bytes(b"page" + SECRET.encode() + b"page")
        (tmp_path / "state.db.broken-2").write_bytes(b"nothing of it")
        (tmp_path / "state.db.index").mkdir()
        (tmp_path / "state.db.index" / "words").write_text(SECRET)
        assert len(holding(tmp_path, SECRET)) >= 3
        assert erase(llm.memory, [secret]) == 1
        assert holding(tmp_path, SECRET) == []
        assert (tmp_path / "state.db.broken-2").exists()
        assert [one.memory.id for one in llm.memory.search("another memory, number 7", 1)] == [others[7]]
        assert llm.memory.search("capers", search="words") == []
    assert holding(tmp_path, SECRET) == []
    assert check(path).ok
    with closing(Store(path)) as store:
        assert store.read("SELECT count(*) FROM memories") == [(301,)]
        assert store.read("SELECT count(*) FROM words") == [(301,)]


def test_what_is_open_elsewhere_is_said(tmp_path: Path):
    path = tmp_path / "state.db"
    with RuvLLM(encoder="static", state=path) as llm:
        (secret,) = llm.memory.add([SECRET])
        with closing(sqlite3.connect(path, isolation_level=None)) as reader:
            reader.execute("BEGIN")
            reader.execute("SELECT count(*) FROM memories").fetchone()
            with pytest.raises(StoreError):
                erase(llm.memory, [secret])
            reader.execute("COMMIT")
        erase(llm.memory, [secret])
        assert holding(tmp_path, SECRET) == []


def test_what_has_expired_is_known():
    with RuvLLM(encoder="static") as llm:
        gone = [
            llm.memory.add("one", metadata={"expires": value})[0]
            for value in ("2020-01-01", "2020-01-01T10:00:00", 1_000_000, 1.5)
        ]
        llm.memory.add("two", metadata={"expires": "2999-01-01"})
        llm.memory.add("three", metadata={"expires": [1]})
        llm.memory.add("four")
        assert expired(llm.store) == gone
        assert expired(llm.store, datetime(1969, 1, 1, tzinfo=UTC)) == []
