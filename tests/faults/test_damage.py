"""Files cut short, with flipped bits, without a header: what is wrong is found, and what is good is kept."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from states import Content, build, content, everything

from ruvllm.errors import StoreError
from ruvllm.state.repair.check import Report, check, repair
from ruvllm.state.store import Store

PAGE = 4096
MOST_ON_A_PAGE = {"memories": 40, "vectors": 12, "edges": 220, "feedback": 120}  # by their shortest rows


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("whole") / "state.db"
    build(path)
    return path


@pytest.fixture(scope="module")
def truth(whole: Path) -> Content:
    return everything(whole)


def repaired(path: Path) -> Report:
    """Repair it; the result is whole, is what the report says, and can be opened."""
    before = path.read_bytes()
    report = repair(path)
    assert check(path).ok
    assert Path(report.broken).read_bytes() == before
    assert {table: len(rows) for table, rows in everything(path).items() if rows}.items() <= report.counts.items()
    Store(path).close()
    return report


def test_a_whole_file_is_told_to_be_whole_and_left_alone(whole: Path, truth: Content):
    before, heard = whole.read_bytes(), list[tuple[str, float]]()
    report = check(whole, lambda what, share: heard.append((what, share)))
    assert report.ok
    derived = {"removed": 3, "words": len(truth["memories"]), "closed": 0, "seen": 0}
    assert report.counts == derived | {table: len(rows) for table, rows in truth.items()}
    assert ("structure", 1.0) in heard
    assert ("memories", 1.0) in heard
    assert repair(whole) == report
    assert whole.read_bytes() == before


@pytest.mark.parametrize("share", [0.999, 0.99, 0.9, 0.8, 0.65, 0.5, 0.3, 0.1])
def test_what_a_cut_leaves_is_kept(share: float, whole: Path, truth: Content, tmp_path: Path):
    path = tmp_path / "state.db"
    path.write_bytes(whole.read_bytes()[: int(whole.stat().st_size * share)])
    assert not check(path).ok
    report = repaired(path)
    now = everything(path)
    assert all(rows <= truth[table] for table, rows in now.items())
    # Texts and vectors grow side by side; the tables that were made early lie in front.
    least = {0.999: 0.99, 0.99: 0.99, 0.9: 0.85, 0.8: 0.68, 0.65: 0.5, 0.5: 0.38}.get(share, 0.0)
    assert len(now["memories"]) >= least * len(truth["memories"])
    if share >= 0.3:  # below that, what was removed is not known either
        assert report.dropped.get("memories", 0) == len(truth["memories"]) - len(now["memories"])


@pytest.mark.parametrize("length", [0, 1, 99, 100, 511, 512, PAGE - 1, PAGE])
def test_a_stump_is_an_error_and_stays(length: int, whole: Path, tmp_path: Path):
    path = tmp_path / "state.db"
    path.write_bytes(whole.read_bytes()[:length])
    assert not check(path).ok
    with pytest.raises(StoreError, match="nothing"):
        repair(path)
    assert path.stat().st_size == length
    assert [file.name for file in tmp_path.iterdir() if "broken" in file.name or "repairing" in file.name] == []


@pytest.mark.parametrize("gone", [16, 100, PAGE])
def test_without_a_header_all_tables_are_found_by_their_rows(gone: int, whole: Path, truth: Content, tmp_path: Path):
    path = tmp_path / "state.db"
    path.write_bytes(bytes(gone) + whole.read_bytes()[gone:])
    assert not check(path).ok
    repaired(path)
    now = everything(path)  # the schema has more than one page: without the first, the others still name all tables
    assert all(rows == truth[table] for table, rows in now.items())


@pytest.mark.parametrize("page", [2, 4, 5, 8, 10])
def test_a_root_page_of_noise_costs_only_itself(page: int, whole: Path, truth: Content, tmp_path: Path):
    data = bytearray(whole.read_bytes())
    data[(page - 1) * PAGE : page * PAGE] = random.Random(page).randbytes(PAGE)
    path = tmp_path / "state.db"
    path.write_bytes(data)
    repaired(path)
    now = everything(path)
    for table, rows in now.items():
        if table == "edges" and page == 10:  # upper pages of a table without rowids hold rows too
            assert len(truth[table]) - 5 < len(rows) < len(truth[table])
        elif table != "feedback" or page != 2:  # it fits on one page
            assert rows == truth[table]


def flipped(data: bytes, rng: random.Random) -> bytes:
    changed = bytearray(data)
    changed[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def test_a_flipped_bit_is_found_or_does_no_harm(whole: Path, tmp_path: Path):
    rng, data, truth, path = random.Random(7), whole.read_bytes(), content(whole), tmp_path / "state.db"
    found = 0
    for _ in range(150):
        path.write_bytes(flipped(data, rng))
        if check(path).ok:
            assert content(path) == truth
        else:
            found += 1
    assert found > 60


def test_a_flipped_bit_costs_at_most_its_page(whole: Path, truth: Content, tmp_path: Path):
    rng, data, path = random.Random(8), whole.read_bytes(), tmp_path / "state.db"
    for _ in range(25):
        path.write_bytes(flipped(data, rng))
        if not check(path).ok:
            repaired(path)
            now = everything(path)
            for table, rows in now.items():
                assert len(truth[table] - rows) <= MOST_ON_A_PAGE.get(table, 2) + 20, table  # and edges of what went
        for file in tmp_path.iterdir():
            file.unlink()


def test_many_flipped_bits_lose_only_what_they_hit(whole: Path, truth: Content, tmp_path: Path):
    rng, data, path = random.Random(9), whole.read_bytes(), tmp_path / "state.db"
    for _ in range(20):
        data = flipped(data, rng)
    path.write_bytes(data)
    repaired(path)
    assert len(everything(path)["memories"] & truth["memories"]) >= len(truth["memories"]) - 20 * 12


DAMAGE: dict[str, tuple[str, str, str, int]] = {  # statement, where it is found, what is dropped, how many
    "text": ("UPDATE memories SET text = 'other' WHERE id = 11", "memories", "memories", 1),
    "vector": ("UPDATE vectors SET data = zeroblob(384) WHERE id = 12", "memories", "memories", 1),
    "short vector": ("UPDATE vectors SET data = x'0000' WHERE id = 13", "memories", "memories", 1),
    "no vector": ("DELETE FROM vectors WHERE id = 14", "memories", "memories", 1),
    "space": ("UPDATE vectors SET space = 'tesu' WHERE id = 15", "memories", "memories", 1),
    "collection": ("UPDATE memories SET collection = 'dufault' WHERE id = 16", "memories", "memories", 1),
    "quality": ("UPDATE memories SET quality = 1e300 WHERE id = 17", "memories", "memories", 1),
    "metadata": ("UPDATE memories SET metadata = '{' WHERE id = 18", "memories", "memories", 1),
    "weights": ("UPDATE learnt SET data = x'00'", "learnt", "learnt", 1),
    "edge": ("INSERT INTO edges VALUES (1, 9999, 'x', 1.0)", "edges", "edges", 1),
    "endless edge": ("INSERT INTO edges VALUES (1, 21, 'x', 9e999)", "edges", "edges", 1),
    "member": ("INSERT INTO hyperedge_members VALUES (1, 9999)", "hyperedge_members", "hyperedge_members", 1),
    "bytes": ("UPDATE feedback SET text = CAST(x'ff' AS TEXT) WHERE id = 3", "feedback", "feedback", 1),
    "verdict": ("UPDATE feedback SET right = 7 WHERE id = 4", "feedback", "feedback", 1),
    "stars": ("UPDATE feedback SET rating = 9.0 WHERE id = 5", "feedback", "feedback", 1),
    "rated search": ("UPDATE ratings SET relevance = '{'", "ratings", "ratings", 1),
    "rated query": ("UPDATE ratings SET query = x'0000c07f'", "ratings", "ratings", 1),
    "session": ("UPDATE sessions SET hidden = x'00'", "sessions", "turns", 12),
    "session's metadata": ("UPDATE sessions SET metadata = '['", "sessions", "turns", 12),
    "turn": ("UPDATE turns SET answer = CAST(x'ff' AS TEXT) WHERE id = 3", "turns", "turns", 1),
    "lost turn": ("INSERT INTO turns VALUES (99, 'nobody', '', '')", "turns", "turns", 1),
    "clock": ("UPDATE clock SET revision = 0", "clock", "", 0),
    "owner": ("PRAGMA application_id = 7", "application_id", "", 0),
    "version": ("PRAGMA user_version = 1", "user_version", "", 0),
    "index": ("DROP INDEX edges_by_target", "schema", "", 0),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_what_is_wrong_in_whole_pages_is_named_and_only_that_goes(
    name: str, whole: Path, truth: Content, tmp_path: Path
):
    statement, where, table, count = DAMAGE[name]
    path = tmp_path / "state.db"
    path.write_bytes(whole.read_bytes())
    with closing(sqlite3.connect(path)) as db:
        db.execute(statement)
        db.commit()
    findings = check(path).findings
    assert where in {finding.field for finding in findings}
    assert all(finding.message and finding.fix for finding in findings)
    report = repaired(path)
    assert report.dropped.get(table, 0) == count
    for other, rows in everything(path).items():
        assert len(truth[other] - rows) <= (20 if other == "edges" else count), other


def test_a_repair_goes_on_counting(whole: Path, tmp_path: Path):
    path = tmp_path / "state.db"
    path.write_bytes(whole.read_bytes())
    with closing(sqlite3.connect(path)) as db:
        db.execute("UPDATE memories SET text = 'other' WHERE id = 400")
        (revision,) = db.execute("SELECT revision FROM clock").fetchone()
        db.commit()
    repair(path)
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("SELECT seq FROM sqlite_sequence").fetchone() == (400,)
        assert db.execute("SELECT revision FROM clock").fetchone() == (revision + 1,)
        assert db.execute("SELECT id FROM removed WHERE revision > ?", (revision,)).fetchall() == [(400,)]


def test_a_repair_into_another_file_leaves_the_damaged_one(whole: Path, truth: Content, tmp_path: Path):
    path, out = tmp_path / "state.db", tmp_path / "good.db"
    path.write_bytes(whole.read_bytes()[: -PAGE // 2])
    before = path.read_bytes()
    assert repair(path, out).path == str(out)
    assert path.read_bytes() == before
    assert everything(out)["memories"] == truth["memories"]
    with pytest.raises(StoreError, match="already"):
        repair(path, out)


def test_what_only_the_log_holds_is_kept(whole: Path, tmp_path: Path, crashing: Callable[[Path, int], None]):
    path = tmp_path / "state.db"
    path.write_bytes(whole.read_bytes())
    crashing(path, 30)
    path.write_bytes(path.read_bytes()[: -20 * PAGE])
    assert not check(path).ok
    report = repair(path)
    assert check(path).ok
    assert Path(f"{report.broken}-wal").exists()
    assert {row[0] for row in content(path)["memories"]} >= set(range(401, 431))
