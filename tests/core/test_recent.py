"""Memories kept at hand, and cosines of neighbours: never older than the latest search."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ruvllm.encoders.protocol import Vectors
from ruvllm.memory.memory import MemoryStore
from ruvllm.state.record import Memory
from ruvllm.state.store import Store

DIM = 8


class _Fixed:
    name, dim = "fixed", DIM

    async def encode(self, texts: list[str]) -> Vectors:
        raise AssertionError("vectors are given")


def vectors(n: int, seed: int = 0) -> Vectors:
    drawn = np.random.default_rng(seed).standard_normal((n, DIM)).astype(np.float32)
    return np.asarray(drawn / np.linalg.norm(drawn, axis=1, keepdims=True), np.float32)


def test_what_another_process_changes_is_seen_with_the_next_search(tmp_path: Path) -> None:
    rows = vectors(3)
    here = MemoryStore(_Fixed(), Store(tmp_path / "state.db"))
    ids = here.add_encoded([Memory(f"note {i}") for i in range(3)], rows)
    assert [memory.text for memory in here.get(ids[::-1])] == ["note 2", "note 1", "note 0"]

    there = MemoryStore(_Fixed(), Store(tmp_path / "state.db"))
    there.records.rate({ids[0]: -0.5})
    there.archive([ids[1]])
    there.forget([ids[2]])
    here.nearest(rows[0], 3)
    assert [(memory.quality, memory.archived) for memory in here.get(ids)] == [(0.5, False), (1.0, True)]


def test_own_changes_are_seen_at_once() -> None:
    memory = MemoryStore(_Fixed(), Store())
    ids = memory.add_encoded([Memory("one"), Memory("two")], vectors(2))
    memory.archive(ids[:1])
    memory.forget(ids[1:])
    assert [(one.id, one.archived) for one in memory.get(ids)] == [(ids[0], True)]


def test_long_texts_are_read_each_time() -> None:
    memory = MemoryStore(_Fixed(), Store())
    (id,) = memory.add_encoded([Memory("word " * 2_000)], vectors(1))
    assert len(memory.get([id])[0].text) == len(memory.get([id])[0].text) == 10_000


def test_cosines_are_of_one_collection_and_space_archived_or_not() -> None:
    store, rows = Store(), vectors(5)
    memory = MemoryStore(_Fixed(), store, space="mine")
    ids = memory.add_encoded([Memory(f"note {i}") for i in range(3)], rows[:3])
    elsewhere = memory.add_encoded([Memory("other", collection="other")], rows[3:4])
    foreign = MemoryStore(_Fixed(), store, space="theirs").add_encoded([Memory("foreign")], rows[4:])
    memory.archive(ids[:1])
    found = memory.cosines([*foreign, *elsewhere, *ids[::-1]], rows[0])
    assert list(found) == ids
    assert list(found.values()) == pytest.approx((rows[:3] @ rows[0]).tolist(), abs=1e-6)
