from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from ruvllm import InputError, RuvLLM
from ruvllm.encoders.protocol import unit_rows
from ruvllm.memory.memory import MemoryStore
from ruvllm.state.record import Memory
from ruvllm.state.store import Store

DIM = 32


class Drawn:
    """An encoder of a width of its own, for what is told with its vectors."""

    def __init__(self, dim: int = DIM, name: str = "drawn") -> None:
        self.name, self.dim = name, dim

    async def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return unit_rows(np.stack([np.random.default_rng(len(text)).standard_normal(self.dim) for text in texts]))


@pytest.fixture
def memory() -> MemoryStore:
    return MemoryStore(Drawn(), Store())


def vectors(count: int, seed: int = 0, dim: int = DIM) -> NDArray[np.float32]:
    return unit_rows(np.random.default_rng(seed).standard_normal((count, dim)))


def put(memory: MemoryStore, told: NDArray[np.float32], **about: Any) -> list[int]:
    return memory.add_encoded([Memory(f"text {i}", **about) for i in range(len(told))], told)


def ids_of(memory: MemoryStore, query: NDArray[np.float32], k: int = 10, **options: Any) -> list[int]:
    return [found.memory.id for found in memory.search(query, k, **options)]


def test_texts_are_found_by_meaning_with_what_was_told_of_them(static_llm: RuvLLM):
    memory = MemoryStore(static_llm.encoders.static, Store())
    told = [
        Memory("The staging database is reset every Monday", metadata={"team": "web"}),
        Memory("Refunds need the approval of two people", "Fact", quality=0.5),
    ]
    first, second = memory.add(told, collection="notes")
    (third,) = memory.add("Refunds are paid within a week")
    found = memory.search("who has to approve a refund?", 1, collection="notes")
    assert [(one.memory.id, one.memory.kind, one.memory.quality, one.hops) for one in found] == [
        (second, "Fact", 0.5, 0)
    ]
    assert 0 < found[0].score <= 1
    assert memory.search("when does staging lose data?", 5, collection="notes")[0].memory.id == first
    assert [one.memory.id for one in memory.search("refunds")] == [third]
    assert memory.search("refunds", collection="none") == []
    assert memory.stats()["collections"] == {"notes": 2, "default": 1}


def test_cosines_are_true_and_rank_the_hits(memory: MemoryStore):
    told, (query,) = vectors(50), vectors(1, 1)
    ids = put(memory, told)
    found = memory.search(query, 5)
    order = np.argsort(-(told @ query))[:5]
    assert [one.memory.id for one in found] == [ids[i] for i in order]
    np.testing.assert_allclose([one.score for one in found], (told @ query)[order], atol=1e-6)
    longer = memory.search(7 * query, 5, hops=1)
    np.testing.assert_allclose([one.score for one in longer], (told @ query)[order], atol=1e-6)


def test_a_filter_and_a_collection_bound_what_is_found_hops_or_not(memory: MemoryStore):
    (mine,) = put(memory, vectors(1, 0), metadata={"agent": "a"})
    (theirs,) = put(memory, vectors(1, 1), metadata={"agent": "b"})
    (other,) = put(memory, vectors(1, 2), metadata={"agent": "a"}, collection="other")
    (behind,) = put(memory, vectors(1, 3), metadata={"agent": "a"})
    memory.archive([behind])  # reached by edges alone
    memory.graph.link(mine, theirs, "Cites")
    memory.graph.link(mine, other, "Cites")
    memory.graph.link(theirs, behind, "Cites")
    query = vectors(1, 0)[0]
    assert ids_of(memory, query, filter={"agent": "a"}) == [mine]
    assert set(ids_of(memory, query, hops=1)) == {mine, theirs, behind}
    assert set(ids_of(memory, query, hops=2, filter={"agent": "a"})) == {mine, behind}
    assert ids_of(memory, query, hops=2, filter={"agent": {"$in": ["c"]}}) == []


def test_an_edge_away_counts_a_tenth_less(memory: MemoryStore):
    query = vectors(1, 5)[0]
    away = np.stack([query, -query, query])
    direct, far, near = put(memory, away)
    memory.archive([far, near])
    memory.graph.link(direct, far, "Cites")
    memory.graph.link(direct, near, "Cites")
    found = memory.search(query, 3, hops=1)
    assert [(one.memory.id, one.hops) for one in found] == [(direct, 0), (near, 1), (far, 1)]
    assert found[1].score == pytest.approx(1.0, abs=1e-5)
    assert found[1].memory.archived


def test_memories_of_another_encoder_are_kept_and_not_searched(tmp_path: Path):
    path = tmp_path / "state.db"
    with closing(Store(path)) as store, closing(Store(path)) as other:
        ours, theirs = MemoryStore(Drawn(), store), MemoryStore(Drawn(48, "wide"), other)
        (mine,) = put(ours, vectors(1))
        query = vectors(1)[0]
        assert ids_of(ours, query) == [mine]
        (foreign,) = put(theirs, vectors(1, dim=48))
        ours.graph.link(mine, foreign, "Cites")
        (behind,) = put(ours, vectors(1, 4))
        ours.graph.link(foreign, behind, "Cites")
        assert set(ids_of(ours, query)) == {mine, behind}
        assert set(ids_of(ours, query, hops=2)) == {mine, behind}
        assert ids_of(theirs, vectors(1, dim=48)[0]) == [foreign]


@pytest.mark.parametrize("action", ["add", "forget", "archive", "flush", "rate"])
def test_what_another_process_did_meanwhile_is_not_overlooked(action: str, tmp_path: Path):
    """Two on one file, neither of which looks before it changes something itself."""
    path, told = tmp_path / "state.db", vectors(8)
    with closing(Store(path)) as store, closing(Store(path)) as other:
        one, two = MemoryStore(Drawn(), store), MemoryStore(Drawn(), other)
        a, b, c = put(one, told[:3])
        assert len(ids_of(one, told[0])) == len(ids_of(two, told[0])) == 3
        write, wrote = one.records.add, list[int]()

        def overtaken(*args: Any) -> list[int]:
            wrote.extend(put(two, told[3:5]))
            two.forget([c])
            return write(*args)

        if action == "add":  # the other one is faster by a moment: after the look, before the write
            one.records.add = overtaken  # type: ignore[method-assign]
            put(one, told[5:6])
        else:
            wrote.extend(put(two, told[3:5]))
            two.forget([c])
            {
                "forget": lambda: one.forget([b]),
                "archive": lambda: one.archive([b]),
                "flush": one.flush,
                "rate": lambda: one.rate(told[0], [b]),
            }[action]()
        found = ids_of(one, told[0])
        assert set(wrote) <= set(found)
        assert c not in found
        assert sorted(found) == sorted(ids_of(two, told[0]))
        assert (b in found) == (action not in ("forget", "archive"))
        assert a in found


def test_forgotten_and_archived_are_no_longer_found(memory: MemoryStore):
    told = vectors(4)
    a, b, c, d = put(memory, told)
    assert memory.forget([a, 99]) == 1
    memory.archive([b])
    assert sorted(ids_of(memory, told[0])) == [c, d]
    assert memory.records.get([a, b])[0].archived
    assert memory.stats()["collections"] == {"default": 2}


def test_accesses_are_counted_and_written_by_flush(memory: MemoryStore):
    told = vectors(3)
    ids = put(memory, told)
    memory.search(told[0], 1)
    memory.search(told[0], 1)
    memory.nearest(told[0], 3)  # is no access
    memory.flush()
    assert [one.accesses for one in memory.records.get(ids)] == [2, 0, 0]


BAD: list[tuple[Any, str]] = [
    (np.zeros((1, DIM)), "vectors"),
    (np.full((1, DIM), np.nan), "vectors"),
    (np.ones((1, DIM + 1)), "vectors"),
    (np.ones(DIM), "vectors"),
    (np.ones((2, DIM)), "vectors"),
]


@pytest.mark.parametrize(("told", "field"), BAD)
def test_a_vector_that_cannot_be_searched_is_not_kept(told: Any, field: str, memory: MemoryStore):
    put(memory, vectors(1))
    with pytest.raises(InputError) as caught:
        memory.add_encoded([Memory("bad")], told)
    assert caught.value.field == field
    assert memory.stats()["collections"] == {"default": 1}
    assert len(memory.search(vectors(1)[0])) == 1


@pytest.mark.parametrize("text", [5, None, "", "  ", b"bytes"])
def test_a_text_that_cannot_be_kept_never_reaches_the_encoder(text: Any, static_llm: RuvLLM):
    memory = MemoryStore(static_llm.encoders.static, Store())
    with pytest.raises(InputError) as caught:
        memory.add(["good", text])
    assert caught.value.field == "text"
    assert memory.stats()["collections"] == {}


@pytest.mark.parametrize(
    ("query", "options", "field"),
    [
        ("", {}, "query"),
        (" \n", {}, "query"),
        (np.zeros(DIM), {}, "query"),
        (np.ones(DIM + 1), {}, "query"),
        (np.full(DIM, np.inf), {}, "query"),
        (np.ones((1, DIM)), {}, "query"),
        (None, {}, "query"),
        ("x", {"k": 0}, "k"),
        ("x", {"hops": 9}, "hops"),
        ("x", {"hops": -1}, "hops"),
        ("x", {"recall": 1.5}, "recall"),
        ("x", {"filter": {"$what": 1}}, "filter.$what"),
    ],
)
def test_a_search_that_cannot_be_done_names_its_field(
    query: Any, options: dict[str, Any], field: str, memory: MemoryStore
):
    put(memory, vectors(3))
    with pytest.raises(InputError) as caught:
        memory.search(query, **options)
    assert caught.value.field == field
    assert caught.value.fix


def test_filters_are_looked_up_once_and_then_of_what_changed(memory: MemoryStore, monkeypatch: pytest.MonkeyPatch):
    told = vectors(6)
    ids = put(memory, told[:3], metadata={"n": 1})
    asked, matching, rematched = list[str](), memory.records.matching, memory.records.rematched
    monkeypatch.setattr(memory.records, "matching", lambda *args: asked.append("all") or matching(*args))
    monkeypatch.setattr(memory.records, "rematched", lambda *args: asked.append("changed") or rematched(*args))

    def found() -> set[int]:
        return set(ids_of(memory, told[0], filter={"n": 1}))

    for _ in range(3):
        assert found() == set(ids)
    assert asked == ["all"]
    ids += put(memory, told[3:4], metadata={"n": 1})
    put(memory, told[4:5], metadata={"n": 2})
    put(memory, told[5:])  # of which the filter can say nothing
    assert found() == set(ids)
    memory.forget(ids[:1])
    memory.archive(ids[1:2])
    assert found() == set(ids[2:])
    with memory.store.write() as db:  # as another process may
        db.execute("UPDATE clock SET revision = revision + 1")
        sql = "UPDATE memories SET metadata = '{\"n\": 2}', revision = (SELECT revision FROM clock) WHERE id = ?"
        db.execute(sql, ids[2:3])
    assert found() == set(ids[3:])
    assert found() == set(ids[3:])
    assert asked == ["all", "changed", "changed", "changed"]


def test_nothing_is_near_a_text_without_a_known_word(static_llm):
    memory = MemoryStore(static_llm.encoders.static, Store())
    memory.add("the staging database is reset every Monday")
    nowhere = np.zeros(static_llm.encoders.static.dim, np.float32)
    assert len(memory.nearest(nowhere, 3).ids) == 0


def test_collections_that_there_are_not_leave_nothing_behind(static_llm: RuvLLM, monkeypatch: pytest.MonkeyPatch):
    """Clients name them: an index of each that was ever asked for would be a way to fill a server's memory."""
    monkeypatch.setattr("ruvllm.memory.indexes._MOST_OPEN", 20)
    memory = MemoryStore(static_llm.encoders.static, Store())
    memory.add("the ferry leaves at noon", metadata={"n": 1})
    for i in range(100):
        assert memory.search("ferry", collection=f"nothing {i}", filter={"n": 1}) == []
        assert len(memory.stats()["indexes"]) <= 20
    memory.add("the ferry leaves at dawn", collection="nothing 7", metadata={"n": 1})
    for collection in ("default", "nothing 7"):
        assert len(memory.search("ferry", collection=collection, filter={"n": 1})) == 1
