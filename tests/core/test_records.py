from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from ruvllm.errors import InputError, StoreError
from ruvllm.memory.records import Records
from ruvllm.state.record import NODE_KINDS, Memory, checksum
from ruvllm.state.store import Store

DIM = 4


@pytest.fixture
def records() -> Records:
    return Records(Store())


def vectors(count: int, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal((count, DIM)).astype(np.float32)


def add(records: Records, *memories: Memory, space: str = "test") -> list[int]:
    return records.add(memories, vectors(len(memories)), space)


def int64(*ids: int) -> NDArray[np.int64]:
    return np.array(ids, np.int64)


def test_what_was_added_is_there_as_it_was(records: Records):
    metadata = {"agentId": "a1", "tags": ["x", {"y": None}], "größe": 1.5, "ok": True}
    told = Memory("Grüße 🦊\x00\n", "Fact", "notes", metadata, 0.25)
    (plain, full) = add(records, Memory("plain"), told)
    first, second = records.get([full, plain])
    assert (first.text, first.kind, first.collection, first.metadata, first.quality) == (
        told.text, "Fact", "notes", metadata, 0.25
    )  # fmt: skip
    assert (second.kind, second.collection, second.metadata, second.quality) == ("Document", "default", {}, 1.0)
    assert first.id == full
    assert (first.accesses, first.archived) == (0, False)
    assert 1.6e9 < first.created == first.accessed < 1e11


def test_get_keeps_the_order_and_leaves_out_what_is_not_there(records: Records):
    a, b, c = add(records, *map(Memory, "abc"))
    assert [memory.text for memory in records.get([c, 99, a, c, -1])] == ["c", "a", "c"]
    assert records.get([]) == []
    assert records.get([b])[0].text == "b"


def test_vectors_come_back_bit_by_bit(records: Records):
    told = np.array([[1e-45, -0.0, 3.4e38, 1], [0.1, 2, 3, 4]], np.float32)
    ids = records.add([Memory("a"), Memory("b")], told, "test")
    found = records.vectors(int64(ids[1], ids[0], ids[1]))
    assert found.dtype == np.float32
    assert found.tobytes() == told[[1, 0, 1]].tobytes()
    assert records.vectors(int64()).shape == (0, 0)


def test_vectors_in_any_layout_are_kept_as_float32(records: Records):
    told = np.asfortranarray(vectors(3).astype(np.float64))[::-1]
    ids = records.add([Memory(text) for text in "abc"], told, "test")  # type: ignore[arg-type]
    np.testing.assert_array_equal(records.vectors(int64(*ids)), told.astype(np.float32))


def test_a_missing_or_damaged_vector_is_an_error(records: Records):
    a, b = add(records, Memory("a"), Memory("b"))
    with pytest.raises(StoreError, match="missing or damaged"):
        records.vectors(int64(a, 99))
    for data in (b"", b"1234567", b"12345678" * DIM, b"1" * 24):
        with records.store.write() as db:
            db.execute("UPDATE vectors SET data = ? WHERE id = ?", (data, b))
        with pytest.raises(StoreError, match="missing or damaged"):
            records.vectors(int64(a, b))


BAD: list[tuple[str, Any]] = [
    ("text", ""), ("text", " \n"), ("text", "x" * 1_000_001), ("text", 7), ("text", None),
    ("kind", "Thing"), ("kind", ""), ("collection", ""), ("collection", "x" * 201), ("collection", 5),
    ("quality", -0.1), ("quality", 1.1), ("quality", math.nan), ("quality", math.inf), ("quality", "good"),
    ("metadata", {"x": math.nan}), ("metadata", {"x": {1, 2}}), ("metadata", {"x": b"1"}),
    ("metadata", None), ("metadata", {("a", "b"): 1}), ("metadata", {"x": "y" * 1_000_001}),
    ("metadata", json.loads('{"x":' * 101 + "[1]" + "}" * 101)),
]  # fmt: skip


@pytest.mark.parametrize(("field", "value"), BAD)
def test_what_cannot_be_kept_is_named_and_nothing_is_kept(field: str, value: Any, records: Records):
    with pytest.raises(InputError) as caught:
        add(records, Memory("good"), Memory(**({"text": "text"} | {field: value})))
    assert caught.value.field == field
    assert caught.value.fix
    assert records.counts() == {}
    assert records.revision() == 0


def test_metadata_as_deep_as_may_be_come_back_and_can_be_filtered(records: Records):
    deep: Any = "[[[" * 200
    for n in range(99):
        deep = {"x": deep} if n % 2 else [deep]
    a, b = add(records, Memory("deep", metadata={"x": deep}), Memory("wide", metadata={"x": [[]] * 500, "y": 1}))
    assert [memory.metadata["x"] for memory in records.get([a, b])] == [deep, [[]] * 500]
    assert records.matching("default", {"y": 1}).tolist() == [b]
    circle: dict[str, Any] = {}
    circle["x"] = [circle, circle]
    with pytest.raises(InputError, match="levels"):
        add(records, Memory("circle", metadata=circle))


def test_half_a_character_becomes_the_replacement_character(records: Records):
    (id,) = add(records, Memory("a\ud83d", collection="b\udfff", metadata={"k\ud800": "\ud83d\ude00"}))
    (found,) = records.get([id])
    assert (found.text, found.collection, found.metadata) == ("a\ufffd", "b\ufffd", {"k\ufffd": "😀"})
    assert records.matching("b\udfff").tolist() == [id]


@pytest.mark.parametrize(
    "bad",
    [
        vectors(1), vectors(3), vectors(2)[0], np.zeros((2, 2, 2), np.float32),
        np.full((2, DIM), np.nan, np.float32), np.array([[0] * DIM, [0, 0, np.inf, 0]], np.float32),
    ],
)  # fmt: skip
def test_vectors_that_do_not_fit_are_refused(bad: NDArray[np.float32], records: Records):
    with pytest.raises(InputError) as caught:
        records.add([Memory("a"), Memory("b")], bad, "test")
    assert caught.value.field == "vectors"
    assert records.counts() == {}


def test_nothing_to_add_is_nothing(records: Records):
    assert records.add([], vectors(0), "test") == []


def test_matching_knows_collections_filters_and_what_is_archived(records: Records):
    ids = add(records, *[Memory(f"{n}", metadata={"n": n}, collection="ab"[n % 2]) for n in range(6)])
    records.archive([ids[2]])
    assert records.matching("a").tolist() == [ids[0], ids[4]]
    assert records.matching("a", {"n": {"$gt": 1}}).tolist() == [ids[4]]
    found = records.matching("c")
    assert (found.dtype, found.tolist()) == (np.int64, [])


def test_ids_are_all_of_a_collection_and_space(records: Records, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("ruvllm.memory.records._IDS", 3)
    first = add(records, *map(Memory, "abcdefg"))
    add(records, Memory("other space"), space="other")
    add(records, Memory("other collection", collection="other"))
    records.archive([first[1]])
    ids = records.ids("default", "test")
    assert ids.tolist() == [first[0], *first[2:]]
    np.testing.assert_array_equal(records.vectors(ids), vectors(7)[[0, 2, 3, 4, 5, 6]])


def test_another_process_learns_what_changed_since(tmp_path: Path):
    ours, theirs = Records(Store(tmp_path / "state.db")), Records(Store(tmp_path / "state.db"))
    a, b, c, d = add(ours, *map(Memory, "abcd"))
    seen = theirs.revision()
    assert theirs.changed(0) == ([(i, "default", False) for i in (a, b, c, d)], [])
    assert theirs.changed(seen) == ([], [])
    ours.archive([a])
    ours.remove([b, 99])
    ours.rate({c: -0.5})
    assert theirs.revision() == seen + 3
    assert theirs.changed(seen) == ([(a, "default", True), (c, "default", False)], [b])


def test_what_is_removed_goes_with_its_vector_and_edges_and_its_id_never_comes_back(records: Records):
    a, b, c = add(records, *map(Memory, "abc"))
    with records.store.write() as db:
        db.executemany("INSERT INTO edges VALUES (?, ?, 'Follows', 1.0)", [(a, c), (c, b), (a, b)])
    assert records.remove([c, c, 99]) == 1
    assert records.remove([c]) == 0
    assert [memory.id for memory in records.get([a, b, c])] == [a, b]
    assert records.store.read("SELECT source, target FROM edges") == [(a, b)]
    assert records.store.read("SELECT id FROM vectors") == [(a,), (b,)]
    assert add(records, Memory("new")) == [c + 1]


def test_archived_memories_are_reachable_by_id_only(records: Records):
    a, b = add(records, Memory("a"), Memory("b"))
    records.archive([a])
    assert records.counts() == {"default": 1}
    assert [(memory.id, memory.archived) for memory in records.get([a, b])] == [(a, True), (b, False)]
    assert len(records.vectors(int64(a))) == 1


def test_quality_stays_between_nothing_and_one(records: Records):
    a, b, c = add(records, *(Memory(text, quality=0.5) for text in "abc"))
    records.rate({a: 0.25, b: 9, c: -9, 99: 1})
    assert [memory.quality for memory in records.get([a, b, c])] == [0.75, 1.0, 0.0]


def test_accesses_are_written_down_with_a_flush(records: Records):
    a, b = add(records, Memory("a"), Memory("b"))
    for _ in range(3):
        records.touch([a, b])
    records.touch([a, a, 99])
    assert records.get([a])[0].accesses == 0
    revision = records.revision()
    records.flush()
    records.flush()
    assert [memory.accesses for memory in records.get([a, b])] == [5, 3]
    assert records.get([a])[0].accessed >= records.get([a])[0].created
    assert records.revision() == revision  # nothing that an index would have to take in


def test_accesses_that_could_not_be_written_wait_for_the_next_flush(records: Records):
    (a,) = add(records, Memory("a"))
    records.touch([a, a])
    records.store.read("PRAGMA query_only = ON")
    with pytest.raises(StoreError):
        records.flush()
    records.store.read("PRAGMA query_only = OFF")
    records.touch([a])
    records.flush()
    assert records.get([a])[0].accesses == 3


def test_damaged_metadata_are_an_error_that_names_the_memory(records: Records):
    a, b = add(records, Memory("a"), Memory("b"))
    for text in ("{", "[1]", "[" * 100_000, '{"x":' * 102 + "1" + "}" * 102):
        with records.store.write() as db:
            db.execute("UPDATE memories SET metadata = ? WHERE id = ?", (text, b))
        with pytest.raises(StoreError, match=f"memory {b}"):
            records.get([a, b])


def test_a_checksum_is_over_each_part_and_where_it_ends():
    parts = ("default", NODE_KINDS[0], "minilm", "text", "{}", b"1234")
    sums = {checksum(*parts)}
    for i, part in enumerate(parts):
        changed: list[Any] = list(parts)
        changed[i] = part + (b"x" if isinstance(part, bytes) else "x")
        sums.add(checksum(*changed))
    sums.add(checksum("defaul", "t" + parts[1], *parts[2:]))
    assert len(sums) == len(parts) + 2
