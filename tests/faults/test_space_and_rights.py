"""A full disk, a read-only file or folder: a clear error, and what was there before stays."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from children import start
from states import add_memories, build, content

from ruvllm.errors import StoreError
from ruvllm.memory.records import Records
from ruvllm.state.repair.check import check, repair
from ruvllm.state.store import Store
from ruvllm.types import Feedback

NOBODY = 65534


def fill(records: Records) -> tuple[int, StoreError]:
    """Add until there is no room; how many were acknowledged, and the error."""
    for n in range(10_000):
        try:
            add_memories(records, 1, "x" * 2_000)
        except StoreError as error:
            return n, error
    raise AssertionError("there was room")


@pytest.mark.parametrize("batch", [1, 8])
def test_a_full_database_keeps_what_it_has_and_goes_on_when_there_is_room(batch: int, tmp_path: Path):
    path = tmp_path / "state.db"
    with closing(Store(path, batch=batch, interval=3600)) as store:
        records = Records(store)
        add_memories(records, 3)
        store.flush()
        store.read("PRAGMA max_page_count = 60")
        kept, error = fill(records)
        assert "full" in error.message
        assert "space" in error.fix
        count = len(store.read("SELECT id FROM memories"))
        assert 3 + kept - batch < count <= 3 + kept
        assert store.feedback() == []
        store.read("PRAGMA max_page_count = 100000")
        assert len(add_memories(records, 20)) == 20
    assert check(path).ok
    assert len(content(path)["memories"]) == count + 20


def test_a_full_disk_is_a_clear_error_and_what_was_acknowledged_stays(tmp_path: Path):
    path = tmp_path / "state.db"

    def work(say: Callable[[str], object], wait: object) -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        with closing(Store(path)) as store:
            resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, resource.RLIM_INFINITY))
            kept, error = fill(Records(store))
            say(f"{kept} {error}")
            resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
            say(f"{len(add_memories(Records(store), 5))}")

    first, *more = start(work).rest()
    kept, _, message = first.partition(" ")
    assert int(kept) > 5
    assert "it could not be kept" in message
    assert "disk space" in message
    assert more == ["5"]
    assert check(path).ok
    assert len(content(path)["memories"]) == int(kept) + 5


def test_a_repair_without_room_leaves_the_damaged_file(tmp_path: Path):
    path = tmp_path / "state.db"
    build(path)
    path.write_bytes(path.read_bytes()[:-5000])
    before = path.read_bytes()

    def work(say: Callable[[str], object], wait: object) -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
        try:
            repair(path)
        except StoreError as error:
            say(str(error))

    (said,) = start(work).rest()
    assert "cannot be written" in said
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir() if "broken" in file.name or "repairing" in file.name] == []
    assert repair(path).broken


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that everybody can enter; pytest's own are for one user."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder
    folder.chmod(0o755)
    shutil.rmtree(folder)


def as_nobody(work: Callable[[], object]) -> str:
    """What it returns, or its StoreError, for a user without rights."""

    def inside(say: Callable[[str], object], wait: object) -> None:
        if os.getuid() == 0:
            os.setgid(NOBODY)
            os.setuid(NOBODY)
        try:
            say(f"{work()}")
        except StoreError as error:
            say(f"StoreError {error.message} FIX {error.fix}")

    return "\n".join(start(inside).rest())


def refused(said: str) -> bool:
    """Whether it is a StoreError with a fix."""
    return said.startswith("StoreError ") and not said.endswith("FIX ")


def add_one(path: Path) -> int:
    with closing(Store(path)) as store:
        return len(add_memories(Records(store), 1))


def read_all(path: Path) -> int:
    with closing(Store(path)) as store:
        return len(store.feedback())


@pytest.mark.parametrize("folder_mode", [0o555, 0o777], ids=["folder read-only", "folder writable"])
@pytest.mark.parametrize("log", [False, True], ids=["closed", "log left"])
def test_a_read_only_file_can_be_checked_and_says_what_it_cannot(
    folder_mode: int, log: bool, open_folder: Path, crashing: Callable[[Path, int], None]
):
    path = open_folder / "state.db"
    build(path, 40)
    if log:
        crashing(path, 3)
    for file in open_folder.iterdir():
        file.chmod(0o444)
    open_folder.chmod(folder_mode)
    before = path.read_bytes()
    assert as_nobody(lambda: check(path).ok) == "True" or log
    read = as_nobody(lambda: read_all(path))
    assert read == "2" or refused(read)
    assert refused(as_nobody(lambda: add_one(path)))
    assert path.read_bytes() == before


def test_no_file_can_be_made_in_a_read_only_folder(open_folder: Path):
    open_folder.chmod(0o555)
    assert refused(as_nobody(lambda: read_all(open_folder / "new.db")))
    assert refused(as_nobody(lambda: read_all(open_folder / "deep" / "new.db")))


def test_a_repair_in_a_read_only_folder_is_refused_and_goes_elsewhere(open_folder: Path, tmp_path: Path):
    path = open_folder / "state.db"
    build(path)
    path.write_bytes(path.read_bytes()[:-5000])
    path.chmod(0o644)
    open_folder.chmod(0o555)
    with tempfile.TemporaryDirectory() as elsewhere:
        Path(elsewhere).chmod(0o777)
        assert "cannot be written" in as_nobody(lambda: repair(path))
        assert as_nobody(lambda: check(repair(path, Path(elsewhere, "good.db")).path).ok) == "True"


def test_sqlite_errors_never_come_through(tmp_path: Path):
    path = tmp_path / "state.db"
    store = Store(path)
    store._db.close()  # the worst that can happen to a connection
    for call in (store.feedback, lambda: add_memories(Records(store), 1), lambda: store.put("x", b"")):
        with pytest.raises(StoreError) as caught:
            call()
        assert not isinstance(caught.value, sqlite3.Error)


@pytest.mark.skipif(os.name != "posix", reason="other rights")
def test_a_new_file_is_for_its_owner_alone(tmp_path: Path):
    path, before = tmp_path / "state.db", os.umask(0o022)
    try:
        with closing(Store(path)) as store:
            store.add_feedback(Feedback("one", "agent"))
            modes = {file.name: file.stat().st_mode & 0o777 for file in tmp_path.iterdir()}
    finally:
        os.umask(before)
    assert set(modes.values()) == {0o600}, modes
    path.chmod(0o640)
    path.write_bytes(path.read_bytes()[:-5000])
    assert repair(path).broken
    assert path.stat().st_mode & 0o777 == 0o640
