"""Vectors are held by how much their memories are used, are found wherever they are, and are never lost."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from index_suite import IndexSuite
from numpy.typing import NDArray

from ruvllm import RuvLLM
from ruvllm.encoders.protocol import no_pause, run_now
from ruvllm.errors import InputError
from ruvllm.index import BinaryIndex
from ruvllm.memory.memory import MemoryStore
from ruvllm.memory.tiering import BANDS, FILE, TieredVectors, graded
from ruvllm.options import MemoryConfig
from ruvllm.state.record import Memory
from ruvllm.state.store import Store

DIM, N = 32, 3_000


def clustered(n: int, seed: int = 0) -> NDArray[np.float32]:
    random = np.random.default_rng(seed)
    centres = np.random.default_rng(99).standard_normal((20, DIM)) * 2
    points = centres[random.integers(0, 20, n)] + random.standard_normal((n, DIM))
    return (points / np.linalg.norm(points, axis=1, keepdims=True)).astype(np.float32)


VECTORS = clustered(N)


class Given:
    """An encoder whose vectors come from elsewhere."""

    name, dim = "given", DIM

    async def encode(self, texts: list[str]) -> NDArray[np.float32]:
        return clustered(len(texts), 7)


class Tiered(BinaryIndex):
    """Sign codes over rows that are in tiers as soon as there are enough."""

    def add(self, ids: Any, vectors: Any) -> None:
        super().add(ids, vectors)
        if self.rows.view.base is None and self.rows.size >= 1_000 and self.metric == "cosine":
            originals = self.rows.block(0, self.rows.size).copy()
            tiers = np.array([0, 2, 3, FILE], np.uint8)[np.arange(len(originals)) % 4]  # f16 is no float32
            self.rows.rebase(run_now(TieredVectors.build(originals, tiers, None, no_pause)))
            self.sync()


class TestTiered(IndexSuite):
    edits = 5

    def make(self, dim: int, metric: str = "cosine") -> Any:
        return Tiered(dim, metric)


def test_bands_are_filled_by_use() -> None:
    tiers = graded(np.arange(1.0, 1_001), np.full(1_000, FILE, np.uint8))
    assert np.bincount(tiers).tolist() == [200, 400, 300, 100]
    assert (np.diff(tiers.astype(int)) <= 0).all()


def test_what_is_never_used_stays_in_the_file_alone() -> None:
    heat = np.zeros(100)
    heat[:5] = 1.0
    tiers = graded(heat, np.full(100, 3, np.uint8))
    assert tiers.tolist() == [0] * 5 + [FILE] * 95


def test_where_nothing_was_used_there_is_nothing_to_go_by() -> None:
    memory = MemoryStore(Given(), Store())
    memory.add_encoded([Memory(str(i)) for i in range(N)], VECTORS)
    assert memory.auto_tier()["default"] == {"f32": {"count": N, "bytes": N * 4 * DIM}}
    memory.records.touch(range(1, 101))
    tiers = memory.auto_tier()["default"]
    assert (tiers["f32"]["count"], tiers["file"]["count"]) == (100, N - 100)
    assert recall(memory) >= 0.9


def test_the_border_does_not_flap() -> None:
    heat = np.arange(20.0, 1_020)
    before = graded(heat, np.full(1_000, FILE, np.uint8))
    nudged = heat + np.random.default_rng(0).uniform(-15, 15, 1_000)
    assert (graded(nudged, before) == before).all()
    assert (graded(heat[::-1].copy(), before) != before).mean() > 0.5


@pytest.fixture
def memory() -> Iterator[MemoryStore]:
    store = MemoryStore(Given(), Store())
    ids = store.add_encoded([Memory(f"memory {i}", metadata={"part": i % 5}) for i in range(N)], VECTORS)
    store.records.count_accesses(list(zip(ids, range(1, N + 1), strict=True)))  # the later, the more used
    yield store
    store.store.close()


def counts(memory: MemoryStore) -> dict[str, int]:
    return {name: tier["count"] for name, tier in memory.tiers()["default"].items()}


def recall(memory: MemoryStore, **asked: Any) -> float:
    ids = memory.records.ids("default", memory.space)
    table = memory.records.vectors(ids)
    found = []
    for query in clustered(40, seed=1):
        truth = ids[(-(table @ query)).argsort()[:10]]
        hits = memory.nearest(query, 10, **asked)
        np.testing.assert_allclose(hits.scores, memory.records.vectors(hits.ids) @ query, atol=1e-3)
        found.append(np.isin(truth, hits.ids).mean())
    return float(np.mean(found))


def test_one_search_over_all_tiers_finds_what_whole_vectors_find(memory: MemoryStore) -> None:
    assert counts(memory) == {"f32": N}
    tiers = memory.auto_tier()["default"]
    assert list(tiers) == list(BANDS)
    assert [tier["count"] for tier in tiers.values()] == pytest.approx([600, 1_200, 900, 300], abs=2)
    assert sum(tier["bytes"] for tier in tiers.values()) < 4 * DIM * N / 2
    for wanted in (0.9, 0.95, 0.99, 1.0):
        assert recall(memory, recall=wanted) >= wanted - 0.02


def test_a_search_may_be_filtered(memory: MemoryStore) -> None:
    memory.auto_tier()
    hits = memory.nearest(VECTORS[5], 10, filter={"part": 2})
    assert len(hits.ids) == 10
    assert {one.metadata["part"] for one in memory.get(hits.ids.tolist())} == {2}


def test_what_is_used_rises_and_comes_back_whole(memory: MemoryStore) -> None:
    memory.auto_tier()
    memory.records.touch([1, 2, 3] * N)
    for i in range(4, 104):
        memory.records.touch([i] * 2 * N)
    before = counts(memory)
    memory.auto_tier()
    assert counts(memory)["binary"] < before["binary"]
    shelf = memory.indexes.of("default")
    base = shelf.rows.view.base
    assert isinstance(base, TieredVectors)
    assert base.tiers[:3].max() <= 1
    np.testing.assert_allclose(base[np.arange(N)], VECTORS, atol=1e-3)


def test_new_memories_and_removed_ones(memory: MemoryStore) -> None:
    memory.auto_tier()
    new = memory.add_encoded([Memory(f"new {i}") for i in range(300)], clustered(300, 5))
    assert sum(counts(memory).values()) == N + 300
    assert memory.nearest(clustered(300, 5)[7], 1).ids.tolist() == [new[7]]
    memory.forget(range(1, 1_000))
    assert not np.isin(memory.nearest(VECTORS[3], 50).ids, np.arange(1, 1_000)).any()
    assert recall(memory) >= 0.9
    memory.auto_tier()
    tiers = memory.tiers()["default"]
    assert sum(tier["count"] for tier in tiers.values()) == N + 300 - 999
    assert recall(memory) >= 0.9


def test_a_pause_that_stops_it_changes_nothing(memory: MemoryStore) -> None:
    steps = 0

    async def stop() -> None:
        nonlocal steps
        steps += 1
        if steps > 5:
            raise TimeoutError

    with pytest.raises(TimeoutError):
        run_now(memory.aauto_tier(pause=stop))
    assert counts(memory) == {"f32": N}
    assert recall(memory) >= 0.9


def test_what_is_remembered_meanwhile_is_searched_whole(memory: MemoryStore) -> None:
    added = list[int]()

    async def add() -> None:
        if not added:
            added.extend(memory.add_encoded([Memory("meanwhile")], clustered(1, 9)))

    run_now(memory.aauto_tier(pause=add))
    assert memory.nearest(clustered(1, 9)[0], 1).ids.tolist() == added
    assert counts(memory)["binary"] > 0


def test_only_large_collections_are_compressed_unasked(memory: MemoryStore) -> None:
    assert run_now(memory.aauto_tier(least=N)) == {}  # nobody has searched it here
    memory.nearest(VECTORS[0], 1)
    assert run_now(memory.aauto_tier(least=N + 1)) == {}
    assert counts(memory) == {"f32": N}
    assert [*run_now(memory.aauto_tier(least=N))] == ["default"]
    assert counts(memory)["pq8"] > 0


def test_few_memories_stay_whole() -> None:
    memory = MemoryStore(Given(), Store())
    memory.add_encoded([Memory(str(i)) for i in range(500)], VECTORS[:500])
    assert memory.auto_tier() == {}
    assert memory.auto_tier(["default"]) == {"default": {"f32": {"count": 500, "bytes": 500 * 4 * DIM}}}


def test_an_index_of_whole_vectors_is_refused() -> None:
    memory = MemoryStore(Given(), Store(), options=MemoryConfig(index="hnsw"))
    with pytest.raises(InputError, match="whole vectors") as caught:
        memory.auto_tier()
    assert caught.value.field == "memory.index"


def packed() -> tuple[dict[str, NDArray[Any]], NDArray[np.int64]]:
    tiers = (np.arange(2_000) % FILE).astype(np.uint8)
    tiered = run_now(TieredVectors.build(VECTORS[:2_000], tiers, None, no_pause))
    return tiered.packed(np.arange(2_000)), np.arange(2_000, dtype=np.int64)


def test_packed_and_unpacked_for_other_rows() -> None:
    arrays, ids = packed()
    wanted = np.concatenate([np.arange(1_999, 99, -1), [5_000]])
    again = TieredVectors.unpacked(arrays, ids, VECTORS[np.minimum(wanted, N - 1)], wanted)
    assert again.tiers[:-1].tolist() == (wanted[:-1] % FILE).tolist()
    assert again.tiers[-1] == FILE
    np.testing.assert_allclose(again[np.arange(500)], VECTORS[wanted[:500]], atol=1e-3)


@pytest.mark.parametrize("name", ["tiers", "errors", "pq8", "binary", "pq8-books", "pq8-turn", "binary-rotation"])
@pytest.mark.parametrize("harm", ["drop", "cut", "kind", "nan"])
def test_damaged_arrays_are_refused(name: str, harm: str) -> None:
    arrays, ids = packed()
    if harm == "drop":
        del arrays[name]
    elif harm == "cut":
        arrays[name] = arrays[name][:-1]
    elif harm == "kind":
        arrays[name] = arrays[name].astype(np.int16)
    elif arrays[name].dtype.kind == "f":
        arrays[name] = arrays[name] * np.nan
    else:
        arrays[name] = np.full_like(arrays[name], 255)[1:]
    with pytest.raises(ValueError, match=r"\w"):
        TieredVectors.unpacked(arrays, ids, VECTORS[:2_000], ids)


def test_codes_are_learnt_again_when_there_is_more_to_learn_from() -> None:
    few = run_now(TieredVectors.build(VECTORS[:700], np.full(700, 3, np.uint8), None, no_pause))
    same = run_now(TieredVectors.build(VECTORS[:900], np.full(900, 3, np.uint8), few, no_pause))
    more = run_now(TieredVectors.build(VECTORS, np.full(N, 3, np.uint8), same, no_pause))
    assert (few.fitted, same.fitted, more.fitted) == (700, 700, N)
    assert same._levels[3].codec is few._levels[3].codec
    assert more._levels[3].codec is not few._levels[3].codec


def test_it_is_background_work_of_large_collections(static_llm: RuvLLM) -> None:
    options = {"memory": {"tier_from": 2_100}}
    llm = RuvLLM(encoder="static", like=static_llm, config=options)
    assert "tiers" not in llm.jobs.due()
    rows = np.random.default_rng(0).standard_normal((2_100, llm.memory.encoder.dim)).astype(np.float32)
    ids = llm.memory.add_encoded([Memory(f"text {i}") for i in range(len(rows))], rows)
    llm.memory.records.count_accesses([(i, i) for i in ids])
    llm.memory.nearest(rows[0], 1)
    (run,) = run_now(llm.jobs.run(60.0, no_pause, names=["tiers"]))
    assert (run.outcome, run.error) == ("1 collections by use", "")
    assert llm.stats()["memory_tiers"]["default"]["binary"]["count"] == 210
    assert "tiers" not in llm.jobs.due()
    hnsw = RuvLLM(encoder="static", like=static_llm, config={"memory": {"tier_from": 1, "index": "hnsw"}})
    hnsw.memory.add("The staging database is reset every Monday.")
    (run,) = run_now(hnsw.jobs.run(60.0, no_pause, names=["tiers"]))
    assert (run.outcome, run.error) == ("0 collections by use", "")
