from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from ruvllm import InputError, RuvLLM
from ruvllm.encoders.protocol import unit_rows
from ruvllm.memory.consolidate import Consolidated, Consolidation, consolidate
from ruvllm.memory.memory import MemoryStore
from ruvllm.state.record import Memory
from ruvllm.state.store import Store

DIM = 32


class Given:
    """An encoder of texts that are told with their vectors only."""

    dim = DIM

    def __init__(self, name: str = "given") -> None:
        self.name = name

    async def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        raise AssertionError("nothing has to be encoded here")


@pytest.fixture
def memory() -> MemoryStore:
    return MemoryStore(Given(), Store())


def clustered(groups: int, each: int, spread: float = 0.1, seed: int = 0) -> NDArray[np.float32]:
    random = np.random.default_rng(seed)
    centres = np.repeat(unit_rows(random.standard_normal((groups, DIM))), each, axis=0)
    return unit_rows(centres + spread * random.standard_normal(centres.shape))


def put(memory: MemoryStore, vectors: NDArray[np.float32], **about: object) -> list[int]:
    return memory.add_encoded([Memory(f"text {i}", **about) for i in range(len(vectors))], vectors)  # type: ignore[arg-type]


def run(memory: MemoryStore, **settings: float) -> Consolidated:
    done = Consolidated()
    for step in consolidate(memory, settings=Consolidation(**settings)):  # type: ignore[arg-type]
        done += step
    return done


def concepts(memory: MemoryStore) -> dict[int, list[int]]:
    """Concept -> its members."""
    found = memory.store.read(
        "SELECT source, target FROM edges JOIN memories ON id = source WHERE edges.kind = 'Contains'"
        " AND memories.kind = 'Concept' ORDER BY 1, 2"
    )
    out: dict[int, list[int]] = {}
    for source, target in found:
        out.setdefault(source, []).append(target)
    return out


def reachable(memory: MemoryStore) -> set[int]:
    """What is in the index, and what its concepts contain, theirs too."""
    ways, found = concepts(memory), list(memory.records.matching("default").tolist())
    for one in found:
        found += ways.get(one, [])
    return set(found)


def test_within_the_bound_nothing_happens(memory: MemoryStore):
    put(memory, clustered(4, 4))
    assert list(consolidate(memory, settings=Consolidation(most=16))) == []


def test_clusters_become_concepts_with_their_members_below_them(memory: MemoryStore):
    vectors = clustered(8, 12)
    ids = put(memory, vectors, quality=0.5)
    done = run(memory, most=64)
    counted = memory.stats()["collections"]["default"]
    assert counted <= 64
    assert counted == len(ids) - done.archived + done.concepts
    assert done.clusters >= done.concepts > 0
    assert done.bytes_saved > 0
    for concept, members in concepts(memory).items():
        (one,) = memory.records.get([concept])
        assert len({(member - ids[0]) // 12 for member in members}) == 1  # of one group
        assert one.metadata["members"] == len(members)
        assert one.quality == pytest.approx(0.5)
        assert all(member.archived for member in memory.records.get(members))
        mean = vectors[[member - ids[0] for member in members]].mean(0)
        (kept,) = memory.records.vectors(np.array([concept], np.int64))
        assert float(kept @ mean) / float(np.linalg.norm(mean)) == pytest.approx(1.0, abs=1e-5)
        assert one.text in [member.text for member in memory.records.get(members)]
        assert memory.search(kept, 1)[0].memory.id == concept
    assert reachable(memory) >= set(ids)


def test_what_resembles_nothing_goes_under_the_bound_too_and_stays_reachable(memory: MemoryStore):
    ids = put(memory, unit_rows(np.random.default_rng(1).standard_normal((300, DIM))))
    run(memory, most=100)
    assert memory.stats()["collections"]["default"] <= 100
    assert reachable(memory) >= set(ids)


def test_again_and_again_it_keeps_within_its_bound(memory: MemoryStore):
    every = list[int]()
    for round in range(6):
        every += put(memory, clustered(10, 6, seed=round))
        run(memory, most=80)
        assert memory.stats()["collections"]["default"] <= 80
        assert reachable(memory) >= set(every)


def test_what_is_used_and_good_stays_longest(memory: MemoryStore):
    vectors = unit_rows(np.random.default_rng(2).standard_normal((100, DIM)))
    ids = put(memory, vectors[:50], quality=0.9)
    poor = put(memory, vectors[50:], quality=0.1)
    for vector in vectors[:10]:
        memory.search(vector, 1)
    memory.flush()
    run(memory, most=70, down_to=0.9)
    left = set(memory.records.matching("default").tolist())
    assert set(ids) <= left
    assert not set(poor) <= left


def test_every_step_leaves_a_memory_that_is_sound(memory: MemoryStore):
    ids = set(put(memory, clustered(6, 10, spread=0.2)))
    for step in consolidate(memory, settings=Consolidation(most=20)):
        assert reachable(memory) >= ids
        assert step.archived >= step.concepts
    assert memory.stats()["collections"]["default"] <= 20


def test_memories_that_another_process_removes_meanwhile_are_left_out(memory: MemoryStore):
    ids = put(memory, clustered(6, 10))
    other = MemoryStore(Given(), memory.store)
    for n, _ in enumerate(consolidate(memory, settings=Consolidation(most=20))):
        if n == 0:
            gone = [i for i in memory.records.matching("default").tolist() if i in ids][::2]
            other.forget(gone)
    assert memory.records.get(gone) == []
    assert reachable(memory) >= set(ids) - set(gone)


def test_what_points_every_way_has_a_concept_too(memory: MemoryStore):
    axes = np.eye(DIM, dtype=np.float32)
    put(memory, np.concatenate([axes, -axes]))
    run(memory, most=16)
    assert memory.stats()["collections"]["default"] <= 16


def test_another_encoders_memories_and_other_collections_are_let_be(memory: MemoryStore):
    theirs = put(MemoryStore(Given("other"), memory.store), clustered(4, 10))
    apart = put(memory, clustered(4, 10), collection="apart")
    put(memory, clustered(4, 10))
    run(memory, most=20)
    assert not any(one.archived for one in memory.records.get([*theirs, *apart]))
    assert memory.stats()["collections"] == {
        "apart": 40,
        "default": 40 + len(memory.nearest(clustered(1, 1)[0], 99).ids),
    }


def test_a_concept_knows_the_words_of_its_members(static_llm: RuvLLM):
    memory = MemoryStore(static_llm.encoders.static, Store())
    memory.add([f"the staging database is reset on day {n}" for n in range(20)])
    run(memory, most=16, alike=0.3)
    found = memory.search("when is staging reset?", 20)
    (concept, *_) = [one.memory for one in found if one.memory.kind == "Concept"]
    assert {"stage", "databas", "reset"} & set(concept.metadata["keywords"])


@pytest.mark.parametrize(
    ("name", "value"),
    [("most", 15), ("down_to", 0.0), ("min_cluster_size", 1), ("min_edge_density", 2.0), ("alike", -1)],
)
def test_a_setting_out_of_range_is_named(name: str, value: float):
    with pytest.raises(InputError) as caught:
        Consolidation(**{name: value})  # type: ignore[arg-type]
    assert caught.value.field == name
