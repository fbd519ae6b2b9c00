"""Files that somebody made to do harm: a clear error, nothing of theirs is run, and no loop runs for ever."""

from __future__ import annotations

import random
import sqlite3
import struct
import tracemalloc
from contextlib import closing
from pathlib import Path

import pytest
from states import build, everything

from ruvllm.errors import StoreError
from ruvllm.state.repair.check import check, repair
from ruvllm.state.repair.salvage import salvage
from ruvllm.state.store import Store
from ruvllm.types import Feedback

PAGE = 4096
ENDLESS = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i FROM n"

SCHEMAS = {
    "trigger": "CREATE TRIGGER t AFTER INSERT ON feedback BEGIN DELETE FROM memories; END",
    "trigger named like an index": "CREATE TRIGGER edges_by AFTER INSERT ON feedback BEGIN DELETE FROM edges; END",
    "view": "CREATE VIEW v AS SELECT * FROM feedback",
    "view in place of a table": f"DROP TABLE feedback; CREATE VIEW feedback AS {ENDLESS}",
    "virtual table in place of a table": "DROP TABLE feedback; CREATE VIRTUAL TABLE feedback USING fts5(text, agent)",
    "generated column": "ALTER TABLE feedback ADD COLUMN more TEXT AS (hex(zeroblob(1000000)))",
    "constraint": "DROP TABLE removed; CREATE TABLE removed (id INTEGER PRIMARY KEY, revision INTEGER NOT NULL"
    " CHECK (length(hex(randomblob(1000000))) > 0)) STRICT",
    "expression of an index": "CREATE INDEX x ON feedback (length(hex(zeroblob(1000000))))",
    "other columns": "DROP TABLE feedback; CREATE TABLE feedback (id, text, agent, weight, created)",
    "missing table": "DROP TABLE learnt",
    "missing index": "DROP INDEX memories_by_revision",
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    build(tmp_path / "state.db", 60)
    return tmp_path / "state.db"


@pytest.mark.parametrize("name", SCHEMAS)
def test_a_schema_that_is_not_ours_is_refused_and_a_repair_takes_only_rows(name: str, path: Path):
    truth = everything(path)
    with closing(sqlite3.connect(path)) as db:
        db.executescript(SCHEMAS[name])
    before = path.read_bytes()
    with pytest.raises(StoreError, match="not as ruvllm makes it") as caught:
        Store(path)
    assert "repair" in caught.value.fix
    assert path.read_bytes() == before
    assert {finding.field for finding in check(path).findings} == {"schema"}
    repair(path)
    with closing(Store(path)) as store:
        store.add_feedback(Feedback("new", "agent"))
    now = everything(path)
    assert now["memories"] == truth["memories"]
    assert now["edges"] == truth["edges"]


def test_an_older_schema_with_something_of_a_newer_one_is_refused(path: Path):
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA user_version = 1")
    with pytest.raises(StoreError, match="not as ruvllm makes it"):
        Store(path)


@pytest.mark.parametrize("version", [-1, -(2**31), 0])
def test_an_impossible_version_is_refused(version: int, path: Path):
    with closing(sqlite3.connect(path)) as db:
        db.execute(f"PRAGMA user_version = {version}")
    with pytest.raises(StoreError):
        Store(path)


def test_tables_of_others_are_let_be(path: Path):
    with closing(sqlite3.connect(path)) as db:
        db.executescript("CREATE TABLE theirs (x); INSERT INTO theirs VALUES (1); ANALYZE")
    Store(path).close()
    assert check(path).ok


def test_values_of_the_wrong_type_are_found(path: Path):
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA writable_schema = ON")
        db.execute("UPDATE sqlite_master SET sql = replace(sql, 'STRICT', '') WHERE name = 'feedback'")
        db.commit()
    with closing(sqlite3.connect(path)) as db:
        db.execute("UPDATE feedback SET weight = x'00', text = 7 WHERE id = 1")
        db.execute("PRAGMA writable_schema = ON")
        db.execute("UPDATE sqlite_master SET sql = sql || ' STRICT' WHERE name = 'feedback'")
        db.commit()
    assert not check(path).ok
    repair(path)
    assert check(path).ok
    with closing(Store(path)) as store:
        assert [feedback.text for feedback in store.feedback()] == ["feedback 20", "feedback 40"]


def root(path: Path, table: str) -> int:
    with closing(sqlite3.connect(path)) as db:
        (page,) = db.execute("SELECT rootpage FROM sqlite_master WHERE name = ?", (table,)).fetchone()
    return int(page)


def poke(path: Path, at: int, data: bytes) -> None:
    with path.open("rb+") as file:
        file.seek(at)
        file.write(data)


def first_cell(path: Path, page: int) -> int:
    """Where in the file the first cell of a leaf lies."""
    data = path.read_bytes()[(page - 1) * PAGE : page * PAGE]
    assert data[0] == 13
    return (page - 1) * PAGE + struct.unpack(">H", data[8:10])[0]


def bounded(path: Path) -> None:
    """check and repair come to an end without much memory, and nothing of SQLite's comes through."""
    tracemalloc.start()
    try:
        assert not check(path).ok
        repair(path)
        assert check(path).ok
        assert tracemalloc.get_traced_memory()[1] < 30e6
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("length", [2**14, 2**30, 2**31 - 1, 2**40, 2**62])
def test_a_record_that_claims_to_be_huge(length: int, path: Path):
    poke(path, first_cell(path, root(path, "feedback")), varint(length))
    with closing(Store(path)) as store, pytest.raises(StoreError):
        store.feedback()
    bounded(path)
    with closing(Store(path)) as store:
        assert 1 <= len(store.feedback()) <= 2


def varint(value: int) -> bytes:
    parts = [value & 0x7F]
    while value := value >> 7:
        parts.append(value & 0x7F | 0x80)
    return bytes(reversed(parts))


def test_pages_that_point_in_circles(path: Path):
    data, loops = path.read_bytes(), 0
    for page in range(1, len(data) // PAGE + 1):
        at = (page - 1) * PAGE
        if data[at] == 5:  # every child of an upper page is the page itself
            loops += 1
            poke(path, at + 8, struct.pack(">I", page))
            for cell in struct.unpack(f">{data[at + 4]}H", data[at + 12 : at + 12 + 2 * data[at + 4]]):
                poke(path, at + cell, struct.pack(">I", page))
    assert loops
    bounded(path)


def test_a_chain_and_a_free_list_that_run_in_circles(path: Path):
    truth, data = everything(path), path.read_bytes()
    blob = data.index(bytes(range(100, 256))) // PAGE  # a page of the weights' chain, from 0
    poke(path, blob * PAGE, struct.pack(">I", blob + 1))
    poke(path, 32, struct.pack(">II", blob + 1, 2**31))
    bounded(path)
    assert everything(path) | {"learnt": set()} == truth | {"learnt": set()}


def test_a_log_that_claims_pages_beyond_all_bounds(path: Path):
    size, salts = struct.pack(">I", PAGE), b"saltpepr"
    header = struct.pack(">II", 0x377F0683, 3007000) + size + bytes(4) + salts
    sums = total(header, (0, 0))
    log = header + struct.pack(">II", *sums)
    for number in (2**32 - 1, 2**31, 5):
        frame, page = struct.pack(">II", number, 2**32 - 1), bytes(PAGE)
        sums = total(page, total(frame, sums))
        log += frame + salts + struct.pack(">II", *sums) + page
    Path(f"{path}-wal").write_bytes(log)
    poke(path, 0, bytes(100))
    bounded(path)


def total(data: bytes, sums: tuple[int, int]) -> tuple[int, int]:
    first, second = sums
    words = struct.unpack(f">{len(data) // 4}I", data)
    for i in range(0, len(words), 2):
        first = (first + words[i] + second) % 2**32
        second = (second + words[i + 1] + first) % 2**32
    return first, second


@pytest.mark.parametrize("seed", range(8))
def test_noise_that_looks_like_pages_is_read_to_its_end(seed: int, tmp_path: Path):
    rng = random.Random(seed)
    pages = [bytearray(rng.randbytes(PAGE)) for _ in range(40)]
    for page in pages:
        page[0] = rng.choice([2, 5, 10, 13])
        page[3:5] = struct.pack(">H", rng.choice([1, 50, 2000, 65535]))
        for i in range(8, 400, 4):  # cells within the page, and children within the file
            page[i : i + 4] = struct.pack(">I", rng.choice([rng.randrange(42), rng.randrange(2**32)]))
    (tmp_path / "state.db").write_bytes(b"SQLite format 3\0\x10\0" + bytes(82) + b"".join(map(bytes, pages))[100:])
    assert len(list(salvage(tmp_path / "state.db"))) < 100_000
