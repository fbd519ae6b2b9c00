"""kill -9 at any moment: what was acknowledged is there, and the file opens."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from children import start
from states import Content, add_memories, build, everything

from ruvllm.memory.conversations import Conversations, StoredSession
from ruvllm.memory.records import Records
from ruvllm.state.repair.check import check, repair
from ruvllm.state.store import Store
from ruvllm.types import Feedback

ROUNDS, KILLS = 10, 20
HEARD, LONGEST = 12, 0.006  # acknowledgements, and seconds after the last of them, up to which a writer lives


def write(path: Path, first: int, batch: int, say: Callable[[str], object]) -> None:
    """Number after number, as a memory, a feedback or an edge; each is said once it is acknowledged."""
    store = Store(path, batch=batch, interval=3600)
    records = Records(store)
    if first == 1:
        add_memories(records, 2, "end of an edge")
    for n in range(first, first + 100_000):
        if n % 3 == 0:
            add_memories(records, 1, f"{n}")
        elif n % 3 == 1:
            store.add_feedback(Feedback(f"{n}", "agent"))
        else:
            with store.write() as db:
                db.execute("INSERT INTO edges VALUES (1, 2, ?, 1.0)", (f"{n}",))
        say(f"{n}")


def numbers(path: Path) -> list[int]:
    """Those in the file, rising."""
    with closing(Store(path)) as store:
        texts = [text.split()[0] for (text,) in store.read("SELECT text FROM memories WHERE text NOT LIKE 'end%'")]
        texts += [feedback.text for feedback in store.feedback()]
        texts += [kind for (kind,) in store.read("SELECT kind FROM edges")]
    return sorted(int(text) for text in texts)


def kills(path: Path, seed: int, batch: int) -> Iterator[int]:
    """Kill a writer again and again; how many acknowledged writes are missing each time."""
    rng, first = random.Random(seed), 1
    for _ in range(KILLS):
        child = start(lambda say, wait, first=first: write(path, first, batch, say))  # type: ignore[misc]
        heard = [child.line() for _ in range(rng.randrange(HEARD))]  # none: it may die while it opens the file
        time.sleep(rng.uniform(0, LONGEST))
        child.kill()
        said = [int(line) for line in [*heard, *child.rest()]]
        there = numbers(path)
        assert there == list(range(1, len(there) + 1))  # in order, none between them is missing
        yield max(said, default=first - 1) - len(there)
        first = len(there) + 1
    assert check(path).ok


@pytest.mark.parametrize("seed", range(ROUNDS))
def test_every_acknowledged_write_is_there(seed: int, tmp_path: Path):
    # A write can be on disk when its acknowledgement is not: then there is one more than was heard of.
    assert set(kills(tmp_path / "state.db", seed, batch=1)) <= {0, -1}


@pytest.mark.parametrize("batch", [4, 50])
def test_batched_writes_lose_no_more_than_the_batch(batch: int, tmp_path: Path):
    missing = list(kills(tmp_path / "state.db", batch, batch))
    assert max(missing) < batch
    assert min(missing) >= -1
    assert max(missing) > 0, "batching that loses nothing was not tried"


V1 = """
CREATE TABLE feedback (
    id INTEGER PRIMARY KEY,
    text TEXT NOT NULL,
    agent TEXT NOT NULL,
    weight REAL NOT NULL,
    created REAL NOT NULL DEFAULT ((julianday('now') - 2440587.5) * 86400.0)
) STRICT;
"""
NO_WORDS = "DROP TABLE words; DROP TABLE closed; DROP TABLE seen;"
NO_SESSIONS = f"{NO_WORDS} DROP TABLE turns; DROP TABLE sessions;"
TOLD = [Feedback(f"told {n}", "agent", 0.5 + n) for n in range(50)]


def old_file(path: Path) -> None:
    """As the first release wrote it."""
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA journal_mode = WAL")
        db.executescript(f"BEGIN; {V1} PRAGMA application_id = 0x72757631; PRAGMA user_version = 1; COMMIT;")
        rows = [(feedback.text, feedback.agent, feedback.weight) for feedback in TOLD]
        db.executemany("INSERT INTO feedback (text, agent, weight) VALUES (?, ?, ?)", rows)
        db.commit()


def test_an_older_file_is_brought_up_to_date(tmp_path: Path):
    old_file(tmp_path / "state.db")
    assert check(tmp_path / "state.db").ok
    with closing(Store(tmp_path / "state.db")) as store:
        assert store.feedback() == TOLD
        assert add_memories(Records(store), 1) == [1]
    assert check(tmp_path / "state.db").ok


def v2_file(path: Path) -> Content:
    """As the second release wrote it: the file of today, with the feedback of then; returns what it holds."""
    build(path, 60)
    with closing(sqlite3.connect(path)) as db:
        db.executescript(f"{NO_SESSIONS} DROP TABLE ratings; DROP TABLE feedback; {V1} PRAGMA user_version = 2")
        rows = [(feedback.text, feedback.agent, feedback.weight) for feedback in TOLD]
        db.executemany("INSERT INTO feedback (text, agent, weight) VALUES (?, ?, ?)", rows)
        db.commit()
    return everything(path)


def is_brought_over(path: Path, truth: Content) -> None:
    """Open it as a file of today, with all that it held."""
    with closing(Store(path)) as store:
        assert store.feedback() == TOLD
        assert [row.id for row in store.feedback_rows()] == list(range(1, len(TOLD) + 1))
    now = everything(path)
    assert {row[:5] for row in now.pop("feedback")} == {row[:5] for row in truth["feedback"]}
    assert now == {table: rows for table, rows in truth.items() if table != "feedback"}
    assert check(path).ok


def test_a_file_of_the_second_version_keeps_everything(tmp_path: Path):
    path = tmp_path / "state.db"
    truth = v2_file(path)
    assert check(path).ok
    is_brought_over(path, truth)


@pytest.mark.parametrize("damage", ["UPDATE learnt SET data = x'00'", "", "header"])
def test_a_damaged_file_of_the_second_version_is_repaired_into_one_of_today(damage: str, tmp_path: Path):
    """Through SQLite where its pages are whole, without it where they are not."""
    path = tmp_path / "state.db"
    truth = v2_file(path)
    if damage == "header":
        path.write_bytes(bytes(100) + path.read_bytes()[100:])
    elif damage:
        with closing(sqlite3.connect(path)) as db:
            db.execute(damage)
            db.commit()
        truth["learnt"] = set()
    report = repair(path)
    assert bool(report.broken) == bool(damage)
    is_brought_over(path, truth)


@pytest.mark.parametrize("damaged", [False, True])
def test_a_file_of_the_third_version_gets_room_for_sessions_and_keeps_everything(damaged: bool, tmp_path: Path):
    path = tmp_path / "state.db"
    build(path, 60)
    with closing(sqlite3.connect(path)) as db:
        db.executescript(f"{NO_SESSIONS} PRAGMA user_version = 3")
    truth = everything(path)
    if damaged:
        path.write_bytes(bytes(100) + path.read_bytes()[100:])
    assert bool(repair(path).broken) == damaged
    session = StoredSession("s", {}, 1.0, 2.0, np.zeros(0, np.float32), None, 6, [("one?", "1!")], 1)
    with closing(Store(path)) as store:
        Conversations(store).write([session])
        found = Conversations(store).read("s")
        assert found is not None
        assert (found.turns, found.accessed) == ((("one?", "1!"),), 2.0)
    now = everything(path)
    assert (len(now.pop("sessions")), len(now.pop("turns"))) == (1, 1)
    assert now == {table: rows for table, rows in truth.items() if table not in ("sessions", "turns")}
    assert check(path).ok


def test_a_migration_that_is_killed_before_any_of_its_statements_loses_nothing(tmp_path: Path):
    for last in range(1, 60):
        path = tmp_path / f"{last}.db"
        old_file(path)
        child = start(lambda say, wait, path=path, last=last: open_slowly(path, last, say))  # type: ignore[misc]
        opened = child.rest() == ["opened"]
        with closing(Store(path)) as store:
            assert store.feedback() == TOLD
            assert add_memories(Records(store), 1) == [1]
        assert check(path).ok
        if opened:
            break
    assert 25 < last < 59, "the statements of a migration are some thirty"


def open_slowly(path: Path, last: int, say: Callable[[str], object]) -> None:
    """Open it, and die before its n-th statement."""
    left = [last]

    def count(statement: str) -> None:
        left[0] -= 1
        if not left[0]:
            os.kill(os.getpid(), signal.SIGKILL)

    connect = sqlite3.connect

    def counted(*args: object, **options: object) -> sqlite3.Connection:
        db: sqlite3.Connection = connect(*args, **options)  # type: ignore[call-overload]
        if str(path) in str(args[0]):
            db.set_trace_callback(count)
        return db

    sqlite3.connect = counted  # type: ignore[assignment]
    Store(path)
    say("opened")
