"""What the fault tests share: a child that dies in the middle of its work."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from states import add_memories

from ruvllm.memory.records import Records
from ruvllm.state.store import Store

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
