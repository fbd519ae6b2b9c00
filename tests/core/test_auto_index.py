"""The index that suits its size: what the conformance suite does not ask."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from ruvllm import InputError
from ruvllm.encoders.protocol import run_now
from ruvllm.index import AutoIndex, HnswIndex, Rows, auto

DIM = 16


def vectors(count: int, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal((count, DIM)).astype(np.float32)


@pytest.fixture
def slower(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Make a kind of index lose every comparison, so that a test does not depend on the machine."""

    def lose(kind: str) -> None:
        monkeypatch.setattr(AutoIndex, "_milliseconds", lambda self, index, *_: 2.0 if index.kind == kind else 1.0)

    return lose


def test_it_starts_flat_and_takes_what_is_faster(slower: Callable[[str], None]):
    slower("flat")
    index = AutoIndex(DIM)
    told = vectors(1_600)
    index.add(np.arange(1_499), told[:1_499])
    assert index.stats()["kind"] == "flat"
    assert index.stats()["rewards"] == {}
    index.add(np.arange(1_499, 1_600), told[1_499:])
    assert index.stats()["kind"] == "binary"
    rewards = index.stats()["rewards"]
    assert rewards == {"flat": pytest.approx(1 / 3), "binary": pytest.approx(1 / 2)}
    hits = index.search(told[7], 5)
    assert hits.ids[0] == 7
    assert index.remove([7]) == 1
    assert 7 not in index.search(told[7], 5).ids


def test_what_is_slower_is_built_once_and_left(slower: Callable[[str], None], monkeypatch: pytest.MonkeyPatch):
    slower("binary")
    built, arm = list[int](), auto._ARMS[1]
    counted = auto._Arm(arm.kind, arm.least, lambda *args: built.append(1) or arm.make(*args))
    monkeypatch.setattr(auto, "_ARMS", (auto._ARMS[0], counted, auto._ARMS[2]))
    index = AutoIndex(DIM)
    told = vectors(1_700)
    for start in range(0, 1_700, 100):
        index.add(np.arange(start, start + 100), told[start : start + 100])
    assert index.stats()["kind"] == "flat"
    assert len(built) == 1
    assert index.stats()["rewards"]["flat"] > index.stats()["rewards"]["binary"]


def test_in_the_background_it_answers_and_takes_more_meanwhile(slower: Callable[[str], None]):
    slower("flat")
    waiting = list[Callable[[], None]]()
    index = AutoIndex(DIM, background=waiting.append)
    told = vectors(2_000)
    index.add(np.arange(1_600), told[:1_600])
    assert len(waiting) == 1
    assert index.stats()["kind"] == "flat"
    assert index.search(told[3], 1).ids.tolist() == [3]
    index.add(np.arange(1_600, 1_700), told[1_600:1_700])
    assert len(waiting) == 1  # one at a time
    waiting.pop()()
    assert index.stats()["kind"] == "binary"
    assert len(index) == 1_700
    index.add(np.arange(1_700, 2_000), told[1_700:])
    assert waiting == []
    for i in (5, 1_650, 1_999):
        assert index.search(told[i], 1).ids.tolist() == [i]


def test_a_promotion_that_fails_is_tried_again(slower: Callable[[str], None], monkeypatch: pytest.MonkeyPatch):
    slower("flat")
    arm, fails = auto._ARMS[1], [True]

    def make(*args: object) -> object:
        if fails.pop() if fails else False:
            raise MemoryError
        return arm.make(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(auto, "_ARMS", (auto._ARMS[0], auto._Arm(arm.kind, arm.least, make)))  # type: ignore[arg-type]
    index, told = AutoIndex(DIM), vectors(1_501)
    with pytest.raises(MemoryError):
        index.add(np.arange(1_500), told[:1_500])
    assert index.search(told[9], 1).ids.tolist() == [9]
    index.add([1_500], told[1_500:])
    assert index.stats()["kind"] == "binary"


def test_rows_that_are_given_are_shared_even_while_they_are_empty():
    rows = Rows(DIM, unit=True)
    index = AutoIndex(DIM, rows=rows)
    index.add([4], vectors(1))
    assert index.rows is rows
    assert len(rows) == 1


@pytest.mark.parametrize("recall", [0, 1.1, -1.0, float("nan")])
def test_a_recall_out_of_range_is_named(recall: float):
    with pytest.raises(InputError) as caught:
        AutoIndex(DIM, recall=recall)
    assert caught.value.field == "recall"


@pytest.mark.parametrize("kind", ["flat", "binary", "ivf", "hnsw"])
def test_a_kind_that_is_named_is_used_whatever_the_size(kind: str):
    index = AutoIndex(DIM, use=kind)
    index.add(np.arange(2_000), vectors(2_000))
    assert index.stats()["kind"] == kind
    assert index.search(vectors(2_000)[9], 1).ids.tolist() == [9]


def test_a_kind_that_there_is_not():
    with pytest.raises(InputError) as caught:
        AutoIndex(DIM, use="annoy")
    assert caught.value.field == "index"
    assert "usearch" in caught.value.fix


def test_a_graph_that_is_faster_takes_the_searches_of_its_recall(monkeypatch: pytest.MonkeyPatch):
    class Graph(HnswIndex):
        kind = "compiled"

        @classmethod
        def steps(cls, dim: int, metric: str, **more: Any) -> Iterator[Graph | None]:
            yield None
            yield cls(dim, metric, **more)

    monkeypatch.setattr(auto, "_compiled", lambda: [Graph])
    monkeypatch.setattr(auto, "_GRAPH_FROM", 1_000)
    milliseconds = {("compiled", 0.9, True): 0.1, ("compiled", 0.97, False): 0.5, ("compiled", 0.999, False): 0.95}
    measured = lambda self, index, recall=0.95, many=False: milliseconds.get((index.kind, recall, many), 1.0)  # noqa: E731
    monkeypatch.setattr(AutoIndex, "_milliseconds", measured)
    index, rows = AutoIndex(DIM), vectors(1_600)
    index.add(np.arange(1_500), rows[:1_500])
    assert not index.due_to_compare()  # hardly searched so far
    for _ in range(1_000):
        index.search(rows[3], 1)
    assert index.due_to_compare()
    stops = iter([True])

    async def pause() -> None:
        if next(stops, False):
            raise TimeoutError

    with pytest.raises(TimeoutError):
        run_now(index.compare(pause))
    assert "fastest" not in index.stats()
    assert run_now(index.compare(pause)) == ["compiled", "flat"]
    assert index.stats()["fastest"] == {"0.9 many": "compiled", "0.97 one": "compiled"}
    assert not index.due_to_compare()
    index.add(np.arange(1_500, 1_600), rows[1_500:])
    index.remove([7])
    for recall in (0.8, 0.95, 0.99, 1.0):
        for queries in (rows[1_550], rows[1_550:1_552]):
            assert index.search(queries, 1, recall=recall).ids.ravel()[0] == 1_550
    assert 7 not in index.search(rows[7], 5, recall=0.95).ids
    allowed = index.mask([11, 1_560])
    assert index.search(rows[1_560], 1, recall=0.95, filter=allowed).ids.tolist() == [1_560]


def test_lists_take_the_searches_of_fewer_rows_where_they_are_faster(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(auto, "_compiled", list)
    monkeypatch.setattr(auto, "_LISTS_FROM", 2_000)
    monkeypatch.setattr(auto, "_BUSY", 1)
    milliseconds = {("flat", False): 2.0, ("ivf", False): 0.1}
    measured = lambda self, index, recall=0.95, many=False: milliseconds.get((index.kind, many), 1.0)  # noqa: E731
    monkeypatch.setattr(AutoIndex, "_milliseconds", measured)
    index, rows = AutoIndex(DIM), vectors(9_100)
    index.add(np.arange(9_000), rows[:9_000])
    assert index.index.kind == "binary"
    index.search(rows[3], 1)
    assert index.due_to_compare()

    async def pause() -> None:
        return None

    assert run_now(index.compare(pause)) == ["binary", "ivf"]
    assert index.stats()["fastest"] == {"0.9 one": "ivf", "0.97 one": "ivf", "0.999 one": "ivf"}
    index.add(np.arange(9_000, 9_100), rows[9_000:])
    index.remove([7])
    found = [index.search(rows[i], 1, recall=0.95).ids.tolist() == [i] for i in range(9_000, 9_100)]
    assert np.mean(found) >= 0.95
    assert 7 not in index.search(rows[7], 5, recall=0.95).ids
