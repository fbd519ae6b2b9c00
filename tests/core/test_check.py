from __future__ import annotations

from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from ruvllm.errors import StoreError
from ruvllm.memory.records import Records
from ruvllm.state.record import Memory
from ruvllm.state.repair.check import check, repair
from ruvllm.state.repair.salvage import salvage
from ruvllm.state.repair.shapes import shapes
from ruvllm.state.schema import GUESTS
from ruvllm.state.store import Store
from ruvllm.types import Feedback


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "state.db"
    with closing(Store(path)) as store:
        records = Records(store)
        told = [Memory(f"text {n}", metadata={"n": n}) for n in range(200)]
        records.add(told, np.random.default_rng(0).standard_normal((200, 32)).astype(np.float32), "test")
        records.remove([3])
        store.add_feedback(Feedback("one", "agent"))
        store.put("weights", bytes(10_000))
    return path


def test_a_whole_file(path: Path):
    report = check(path)
    assert report.ok
    assert report.counts["memories"] == report.counts["vectors"] == 199
    assert (report.counts["feedback"], report.counts["learnt"], report.counts["removed"]) == (1, 1, 1)
    assert repair(path) == report


def test_nothing_is_written_by_a_look(path: Path):
    before = path.read_bytes()
    check(path)
    assert path.read_bytes() == before


def test_what_was_changed_behind_our_back_is_found_and_dropped(path: Path):
    with closing(Store(path)) as store, store.write() as db:
        db.execute("UPDATE memories SET text = 'other' WHERE id = 7")
        db.execute("UPDATE vectors SET data = zeroblob(128) WHERE id = 8")
        db.execute("UPDATE learnt SET data = x'00'")
    assert [finding.field for finding in check(path).findings] == ["memories", "memories", "learnt"]
    report = repair(path)
    assert report.dropped == {"memories": 2, "vectors": 2, "learnt": 1}
    assert report.counts["memories"] == 197
    assert check(path).ok
    assert not check(report.broken).ok
    with closing(Store(path)) as store:
        records = Records(store)
        assert records.get([7, 8]) == []
        assert records.changed(0)[1] == [3, 7, 8]
        assert store.load("weights") is None


def test_a_file_that_sqlite_gives_up_is_read_without_it(path: Path):
    path.write_bytes(bytes(100) + path.read_bytes()[100:])
    assert [finding.field for finding in check(path).findings] == ["structure"]
    with pytest.raises(StoreError):
        Store(path)
    report = repair(path)
    assert report.dropped == {}
    assert report.counts["memories"] == 199
    with closing(Store(path)) as store:
        assert [memory.text for memory in Records(store).get([1, 3, 200])] == ["text 0", "text 199"]
        assert store.load("weights") == bytes(10_000)


def test_rows_without_sqlite_are_the_rows_of_sqlite(path: Path):
    found: dict[str, list[tuple[object, ...]]] = {}
    for table, row in salvage(path):
        found.setdefault(table, []).append(row)
    with closing(Store(path)) as store:
        for table, shape in shapes().items():
            if table not in GUESTS:
                told = store.read(f"SELECT {', '.join(shape.columns)} FROM {table}")
                assert sorted(found.get(table, []), key=repr) == sorted(told, key=repr)


def test_what_is_no_state_file_is_refused_or_found(tmp_path: Path):
    with pytest.raises(StoreError, match="no file"):
        check(tmp_path / "none.db")
    with pytest.raises(StoreError, match="no file"):
        repair(tmp_path)
    (tmp_path / "noise.db").write_bytes(bytes(range(256)) * 64)
    assert not check(tmp_path / "noise.db").ok
    with pytest.raises(StoreError, match="nothing"):
        repair(tmp_path / "noise.db")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["noise.db"]
