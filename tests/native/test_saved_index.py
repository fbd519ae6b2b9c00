"""A large collection's index is kept beside the state file, and nothing ever depends on its being there or sound."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from ruvllm.errors import StoreError
from ruvllm.index import AutoIndex, HnswIndex, IvfIndex
from ruvllm.memory.memory import MemoryStore
from ruvllm.memory.opening import Opening
from ruvllm.memory.records import Records
from ruvllm.memory.tiering import TieredVectors
from ruvllm.state.record import Memory
from ruvllm.state.store import Store

SIZE, DIM, SPACE, K = 9_000, 32, "test-32", 10
LARGE, PAGED = 1_000, 5_000  # in the place of the 50,000 and 200,000 of real use


def vectors(size: int, seed: int) -> NDArray[np.float32]:
    """Clustered, of many lengths: what is kept is not always of length one."""
    random = np.random.default_rng(seed)
    centres = np.random.default_rng(9).standard_normal((200, DIM))
    points = centres[random.integers(0, 200, size)] + 0.5 * random.standard_normal((size, DIM))
    return (points * random.uniform(0.5, 2, (size, 1))).astype(np.float32)


def memories(first: int, count: int, collection: str = "default") -> list[Memory]:
    return [Memory(f"memory {i}", collection=collection) for i in range(first, first + count)]


def told(opening: Opening) -> list[int]:
    """What a progress callback is told."""
    steps = list[int]()
    opening._progress = lambda done, total: steps.append(done)
    return steps


class Shop:
    """A state file and how it is opened."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.store = Store(path)
        self.records = Records(self.store)

    def opening(self, paged: int = PAGED) -> Opening:
        return Opening(self.records, SPACE, DIM, 0.95, large=LARGE, paged=paged)

    def add(self, count: int, seed: int, collection: str = "default", space: str = SPACE) -> list[int]:
        return self.records.add(memories(0, count, collection), vectors(count, seed), space)

    def save(self, opening: Opening, shelf: AutoIndex) -> bool:
        return opening.save("default", shelf, self.records.revision())

    def restore(self) -> tuple[AutoIndex, list[int]]:
        """The index as it is opened now, and what building it again told: nothing when it was restored."""
        opening = self.opening()
        steps = told(opening)
        return opening.open("default"), steps

    def close(self) -> None:
        self.store.close()


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a state file of SIZE memories and the saved index beside it."""
    folder = tmp_path_factory.mktemp("saved")
    shop = Shop(folder / "state.db")
    shop.add(SIZE, 1)
    opening = shop.opening()
    shelf = opening.open("default")
    shelf.search(vectors(1, 2)[0])  # measures, so that a plan is saved
    assert shop.save(opening, shelf)
    shop.close()
    return folder


@pytest.fixture
def shop(saved: Path, tmp_path: Path) -> Iterator[Shop]:
    shutil.copytree(saved, tmp_path / "copy")
    shop = Shop(tmp_path / "copy" / "state.db")
    yield shop
    shop.close()


def files(shop: Shop, pattern: str) -> list[Path]:
    return sorted(Path(f"{shop.path}.index").rglob(pattern))


def agrees(shop: Shop, shelf: AutoIndex, least: float = 0.9) -> None:
    """The index finds what a look at every vector in the file finds."""
    ids = shop.records.ids("default", SPACE)
    table = shop.records.vectors(ids)
    table = table / np.linalg.norm(table, axis=1, keepdims=True)
    assert len(shelf) == len(ids)
    found = 0
    for number, query in enumerate(vectors(40, 77)):
        truth = ids[np.argsort(-(table @ (query / np.linalg.norm(query))))[:K]]
        hits = shelf.search(query, K)
        assert np.isin(hits.ids, ids).all()
        found += int(np.isin(hits.ids, truth).sum())
        if number < 4:  # which read every vector
            exact = shelf.search(query, K, recall=1.0)
            assert set(exact.ids.tolist()) == set(truth.tolist())
    assert found >= least * 40 * K


def test_what_was_saved_is_restored_without_being_built(shop: Shop) -> None:
    shelf, steps = shop.restore()
    assert not steps
    assert isinstance(shelf.index, IvfIndex)
    assert shelf.stats()["plan"] is not None  # what was measured is known again
    agrees(shop, shelf)


def test_the_restored_index_answers_as_the_one_that_was_saved(shop: Shop) -> None:
    restored, _ = shop.restore()
    shutil.rmtree(f"{shop.path}.index")
    built, steps = shop.restore()
    assert steps[-1] == SIZE
    assert steps == sorted(steps)
    for query in vectors(30, 5):
        one, other = restored.search(query, K), built.search(query, K)
        assert one.ids.tolist() == other.ids.tolist()
        np.testing.assert_allclose(one.scores, other.scores, atol=1e-6)


def test_paged_and_whole_vectors_give_the_same(shop: Shop) -> None:
    paged, whole = shop.opening().open("default"), shop.opening(paged=10**9).open("default")
    for query in vectors(30, 6):
        assert paged.search(query, K).ids.tolist() == whole.search(query, K).ids.tolist()


def test_it_catches_up_with_what_came_and_went(shop: Shop) -> None:
    ids = shop.records.ids("default", SPACE)
    shop.records.remove(ids[100:400].tolist())
    shop.records.archive(ids[1_000:1_100].tolist())
    shop.add(500, 3)
    shop.add(20, 4, "another")
    shop.add(30, 4, space="other-32")
    shelf, steps = shop.restore()
    assert not steps
    agrees(shop, shelf)


def test_it_catches_up_with_more_than_the_lists_can_wait_for(shop: Shop) -> None:
    shop.add(9_500, 3)
    shelf, _ = shop.restore()
    agrees(shop, shelf)


def test_saved_again_without_what_is_gone(shop: Shop) -> None:
    ids = shop.records.ids("default", SPACE)
    opening = shop.opening()
    shelf = opening.open("default")
    assert not shop.save(opening, shelf)  # nothing changed
    gone = ids[::4]
    shop.records.remove(gone.tolist())
    shelf.remove(gone)
    new = np.array(shop.add(300, 8), np.int64)
    shelf.add(new, shop.records.vectors(new))
    old = {path.name for path in files(shop, "*.npy")}
    assert shop.save(opening, shelf)
    assert not old & {path.name for path in files(shop, "*.npy")}
    again, steps = shop.restore()
    assert not steps
    assert again.rows.size == len(shelf)
    agrees(shop, again)


def test_each_collection_has_its_own(shop: Shop) -> None:
    shop.add(SIZE, 11, "second")
    opening = shop.opening()
    second = opening.open("second")
    assert opening.save("second", second, shop.records.revision())
    first, steps = shop.restore()
    assert not steps
    assert not np.isin(first.rows.ids, second.rows.ids).any()
    agrees(shop, first)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 16
    path.write_bytes(data)


def empty(path: Path) -> None:
    path.write_bytes(b"")


def pickled(path: Path) -> None:
    with path.open("wb") as file:
        np.save(file, np.array([{"a": 1}], object), allow_pickle=True)


@pytest.mark.parametrize("damage", [cut, flip, empty, pickled, Path.unlink])
@pytest.mark.parametrize("pattern", ["index.json", "columns-*", "ids-*", "order-*", "plans-*"])
def test_damaged_files_are_taken_as_missing(shop: Shop, pattern: str, damage: Callable[[Path], None]) -> None:
    (path,) = files(shop, pattern)
    damage(path)
    shelf, steps = shop.restore()
    assert steps[-1] == SIZE
    agrees(shop, shelf)


@pytest.mark.parametrize(
    "change",
    [
        lambda content: content["facts"].update(revision=10**9),
        lambda content: content["facts"].update(space="another"),
        lambda content: content["facts"].update(elsewhere=1),
        lambda content: content["facts"].update(probes=None),
        lambda content: content.update(format=99),
        lambda content: content.update(arrays=[]),
        lambda content: content["arrays"].pop("columns"),
        lambda content: content["arrays"]["order"].update(content["arrays"]["list_of"]),
    ],
)
def test_a_header_that_does_not_fit_is_refused(shop: Shop, change: Callable[[dict[str, object]], object]) -> None:
    from ruvllm.memory.opening import _digest

    (path,) = files(shop, "index.json")
    content = json.loads(path.read_text())
    content.pop("sha256")
    change(content)
    path.write_text(json.dumps(content | {"sha256": _digest(content)}))
    shelf, steps = shop.restore()
    assert steps
    agrees(shop, shelf)


def test_another_file_in_the_place_of_the_one_it_was_saved_beside(shop: Shop) -> None:
    other = Shop(shop.path.parent / "other.db")
    other.add(SIZE, 50)
    shutil.copytree(f"{shop.path}.index", f"{other.path}.index")
    shelf, steps = other.restore()
    assert steps
    agrees(other, shelf)
    other.close()


def test_nothing_is_lost_where_the_folder_cannot_be_made(tmp_path: Path) -> None:
    shop = Shop(tmp_path / "state.db")
    Path(f"{shop.path}.index").write_text("in the way")
    shop.add(SIZE, 1)
    opening = shop.opening()
    shelf = opening.open("default")
    assert not shop.save(opening, shelf)
    agrees(shop, shelf)
    assert Path(f"{shop.path}.index").read_text() == "in the way"
    shop.close()


def test_a_store_in_memory_and_a_small_one_save_nothing(tmp_path: Path) -> None:
    for path, size in ((":memory:", SIZE), (tmp_path / "small.db", LARGE - 1)):
        records = Records(Store(path))
        records.add(memories(0, size), vectors(size, 1), SPACE)
        opening = Opening(records, SPACE, DIM, 0.95, large=LARGE, paged=PAGED)
        shelf = opening.open("default")
        assert not opening.save("default", shelf, records.revision())
        assert len(shelf) == size
    assert not list(tmp_path.glob("*.index"))


def test_a_damaged_vector_in_the_file_is_named_when_it_is_read(shop: Shop) -> None:
    shelf, _ = shop.restore()
    first = int(shelf.rows.ids[0])
    with closing(sqlite3.connect(shop.path)) as db, db:
        db.execute("UPDATE vectors SET data = x'0102' WHERE id = ?", (first,))
    with pytest.raises(StoreError, match="damaged"):
        shelf.rows.take(np.array([0, 5]))


class Fixed:
    """An encoder whose vectors are given from outside."""

    name, dim = "test", DIM

    async def encode(self, texts: list[str]) -> NDArray[np.float32]:
        return vectors(len(texts), 0)


def test_a_memory_store_saves_when_it_is_flushed_and_sees_what_another_process_did(shop: Shop) -> None:
    def store() -> MemoryStore:
        made = MemoryStore(Fixed(), Store(shop.path))
        made.indexes.opening = shop.opening()
        return made

    shutil.rmtree(f"{shop.path}.index")
    first = store()
    first.nearest(vectors(1, 1)[0], K)
    first.flush()
    (header,) = files(shop, "index.json")
    facts = json.loads(header.read_text())["facts"]
    assert facts["rows"] == SIZE
    shop.add(5, 60)  # by somebody else
    second = store()
    hits = second.nearest(vectors(5, 60)[0], 1)
    assert hits.scores[0] == pytest.approx(1, abs=1e-5)
    second.forget(hits.ids.tolist())
    assert second.nearest(vectors(5, 60)[0], 1).ids[0] != hits.ids[0]
    second.flush()
    assert json.loads(header.read_text())["facts"] == facts  # too little has changed to write it again


def test_a_graph_is_restored_with_its_links(tmp_path: Path) -> None:
    shop = Shop(tmp_path / "state.db")
    ids = shop.add(SIZE // 3, 1)
    opening = Opening(shop.records, SPACE, DIM, 0.95, large=LARGE, use="hnsw")
    built = opening.open("default")
    assert shop.save(opening, built)
    again = Opening(shop.records, SPACE, DIM, 0.95, large=LARGE, use="hnsw").open("default")
    assert isinstance(again.index, HnswIndex)
    assert isinstance(built.index, HnswIndex)
    np.testing.assert_array_equal(again.index.links, built.index.links)
    shop.records.remove(ids[::5])
    shop.add(300, 3)
    agrees(shop, Opening(shop.records, SPACE, DIM, 0.95, large=LARGE, use="hnsw").open("default"))
    other = Opening(shop.records, SPACE, DIM, 0.95, large=LARGE).open("default")
    assert not isinstance(other.index, HnswIndex)
    agrees(shop, other)
    shop.close()


@pytest.mark.parametrize("damage", [cut, flip, empty, pickled, Path.unlink])
@pytest.mark.parametrize("pattern", ["index.json", "links-*", "ids-*"])
def test_a_damaged_graph_is_built_again(tmp_path: Path, pattern: str, damage: Callable[[Path], None]) -> None:
    shop = Shop(tmp_path / "state.db")
    shop.add(SIZE // 3, 1)
    opening = Opening(shop.records, SPACE, DIM, 0.95, large=LARGE, use="hnsw")
    assert shop.save(opening, opening.open("default"))
    damage(files(shop, pattern)[0])
    agrees(shop, Opening(shop.records, SPACE, DIM, 0.95, large=LARGE, use="hnsw").open("default"))
    shop.close()


@pytest.fixture
def tiered(tmp_path: Path) -> Iterator[Shop]:
    """3,000 memories whose vectors are in tiers, beside their state file."""
    shop = Shop(tmp_path / "state.db")
    ids = shop.add(SIZE // 3, 1)
    shop.records.count_accesses(list(zip(ids, range(1, len(ids) + 1), strict=True)))
    memory = MemoryStore(Fixed(), shop.store, space=SPACE)
    assert memory.auto_tier()["default"]["binary"]["count"] > 0
    yield shop
    shop.close()


def held(shelf: AutoIndex) -> dict[str, int] | None:
    base = shelf.rows.view.base
    return {name: one["count"] for name, one in base.stats().items()} if isinstance(base, TieredVectors) else None


def test_tiers_are_restored(tiered: Shop) -> None:
    shelf = tiered.opening().open("default")
    assert held(shelf) == pytest.approx({"f32": 600, "f16": 1_200, "pq8": 900, "binary": 300}, abs=3)
    agrees(tiered, shelf)
    memory = MemoryStore(Fixed(), tiered.store, space=SPACE)
    assert sum(one["count"] for one in memory.stats()["tiers"]["default"].values()) == SIZE // 3  # none is opened


def test_tiers_catch_up_with_what_came_and_went(tiered: Shop) -> None:
    ids = tiered.records.ids("default", SPACE)
    tiered.records.remove(ids[::4].tolist())
    tiered.add(500, 3)
    shelf = tiered.opening().open("default")
    assert held(shelf)["file"] == 500  # until they are compressed, too
    agrees(tiered, shelf)
    memory = MemoryStore(Fixed(), tiered.store, space=SPACE)
    assert sum(one["count"] for one in memory.auto_tier()["default"].values()) == len(ids) - len(ids[::4]) + 500


def test_tiers_below_a_saved_index(shop: Shop) -> None:
    shop.records.count_accesses([(i, i) for i in range(1, 101)])
    memory = MemoryStore(Fixed(), shop.store, space=SPACE)
    memory.auto_tier()
    shelf, steps = shop.restore()
    assert not steps
    assert held(shelf) == {"f32": 100, "f16": 0, "pq8": 0, "binary": 0, "file": SIZE - 100}
    agrees(shop, shelf)


@pytest.mark.parametrize("damage", [cut, flip, empty, pickled, Path.unlink])
@pytest.mark.parametrize("pattern", ["index.json", "tiers-*", "pq8-books-*", "errors-*"])
def test_damaged_tiers_are_taken_as_missing(tiered: Shop, pattern: str, damage: Callable[[Path], None]) -> None:
    damage(files(tiered, pattern)[0])
    shelf = tiered.opening().open("default")
    assert held(shelf) is None
    agrees(tiered, shelf)


def test_tiers_of_another_file_are_refused(tiered: Shop) -> None:
    other = Shop(tiered.path.parent / "other.db")
    other.add(SIZE // 3, 50)
    shutil.copytree(f"{tiered.path}.index", f"{other.path}.index")
    shelf = other.opening().open("default")
    assert held(shelf) is None
    agrees(other, shelf)
    other.close()
