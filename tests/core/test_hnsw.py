"""The graph itself: what links must look like, and that it stays whole whatever is added and deleted."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from index_suite import Truth, clustered, share, sound
from numpy.typing import NDArray

from ruvllm.errors import InputError
from ruvllm.index import HnswIndex, hnsw
from ruvllm.index.hnsw import layers as hnsw_build
from ruvllm.index.hnsw import layers as hnsw_layers
from ruvllm.index.hnsw.links import NONE, select

DIM = 24


@pytest.fixture
def small_levels(monkeypatch: pytest.MonkeyPatch) -> None:
    """Graphs from 33 nodes on, walked even for few rows."""
    monkeypatch.setattr(hnsw_layers, "SCANNED", 32)
    monkeypatch.setattr(hnsw, "FEW", 4)
    monkeypatch.setattr(hnsw, "_SCORED", 1)


def links(index: HnswIndex) -> NDArray[np.int32]:
    found = index._state.levels[0].links
    assert found is not None
    return found


def checked(index: HnswIndex) -> None:
    """Every level: links lead to living others, each once; whoever lives can be reached from somewhere."""
    view = index.rows.view
    for number, level in enumerate(index._state.levels):
        if level.links is None:
            continue
        there = level.links != NONE
        nodes = np.repeat(np.arange(len(level.links)), there.sum(1))
        others = level.links[there]
        assert (nodes != others).all()
        assert others.max(initial=0) < len(level.points)
        assert len(np.unique(nodes * len(level.points) + others)) == len(others)
        if number == 0:
            dead = np.flatnonzero(view.penalty)
            assert not there[dead].any()
            assert not np.isin(others, dead).any()
    assert index._state.levels[-1].links is None


def recall(index: HnswIndex, truth: Truth, beam: int = 48) -> float:
    found = []
    for query in clustered(40, DIM, seed=9):
        hits = index._walked(index._state, truth.scaled(query), 10, beam, index._state.view.allowed(None))
        found.append(share(hits, sound(hits, truth, query, 10)))
    return float(np.mean(found))


def filled(n: int, **options: Any) -> tuple[HnswIndex, Truth]:
    index, truth = HnswIndex(DIM, **options), Truth("cosine")
    ids, vectors = np.arange(n), clustered(n, DIM)
    index.add(ids, vectors)
    truth.add(ids, vectors)
    return index, truth


def test_bulk_build() -> None:
    index, truth = filled(1_500)
    checked(index)
    sizes = index.stats()["levels"]
    assert sizes[0] == 1_500
    assert 60 <= sizes[1] <= 130
    assert links(index).shape == (1_500, 32)
    assert recall(index, truth) >= 0.97


def test_one_by_one_is_as_good(small_levels: None) -> None:
    index, truth = filled(40)
    late = clustered(500, DIM, seed=3)
    for i, vector in enumerate(late):
        index.add([1_000 + i], vector)
    truth.add(np.arange(1_000, 1_500), late)
    checked(index)
    assert recall(index, truth) >= 0.97


@pytest.mark.parametrize("at_once", [1, 20, 150])
def test_deletes_close_their_gaps(small_levels: None, at_once: int) -> None:
    index, truth = filled(700)
    order = np.random.default_rng(2).permutation(700)
    for start in range(0, 300, at_once):
        gone = order[start : start + at_once]
        assert index.remove(gone) == truth.remove(gone)
        if start % 60 == 0:
            checked(index)
    checked(index)
    assert recall(index, truth) >= 0.97


def test_the_way_in_survives(small_levels: None) -> None:
    """Whoever stands on the upper levels is deleted, again and again."""
    index, truth = filled(600)
    for _ in range(4):
        above = index._state.levels[1].below
        ids = index._state.view.ids[above]
        ids = ids[np.isin(ids, list(truth.held))]
        assert index.remove(ids) == truth.remove(ids) > 0
        checked(index)
        assert recall(index, truth) >= 0.97


def test_random_edits_of_a_graph(small_levels: None) -> None:
    for seed in range(4):
        random = np.random.default_rng(seed)
        metric = ("cosine", "dot")[seed % 2]
        index, truth = HnswIndex(DIM, metric, M=4 + seed), Truth(metric)
        for _ in range(14):
            ids = random.choice(400, random.integers(1, 120), replace=False)
            if random.random() < 0.65:
                vectors = clustered(len(ids), DIM, int(random.integers(1000)), uneven=metric == "dot")
                index.add(ids, vectors)
                truth.add(ids, vectors)
            else:
                assert index.remove(ids) == truth.remove(ids)
            if len(truth.held) > 4:
                query = clustered(1, DIM, int(random.integers(1000)))[0]
                allowed = set(ids.tolist()) if random.integers(2) else None
                sound(index.search(query, 7, filter=allowed and ids), truth, query, 7, allowed)
        if index._state.levels[0].links is not None:
            checked(index)


def test_clustered_neighbours_are_nearly_all(monkeypatch: pytest.MonkeyPatch) -> None:
    points = clustered(3_000, DIM)
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    true, scores = hnsw_build.neighbours(points, 0, 10, None)
    assert (np.diff(scores, axis=1) <= 0).all()
    monkeypatch.setattr(hnsw_build, "_PAIRS", 0)
    found, _ = hnsw_build.neighbours(points, 0, 10, None)
    same = [len(np.intersect1d(a, b)) for a, b in zip(true, found, strict=True)]
    assert np.mean(same) >= 9.5


def test_neighbours_are_diverse() -> None:
    """Of two candidates in one direction the farther is left out unless places are to be filled."""
    angles = np.array([0.0, 0.1, 0.11, -0.3])
    points = np.stack([np.cos(angles), np.sin(angles)], 1).astype(np.float32)
    candidates = np.array([[1, 2, 3, NONE]], np.int32)
    scores = np.array([[*(points[1:] @ points[0]), -np.inf]], np.float32)
    assert select(points, candidates, scores, 3, fill=False).tolist() == [[1, 3, NONE]]
    assert select(points, candidates, scores, 3, fill=True).tolist() == [[1, 3, 2]]


@pytest.mark.parametrize(("option", "value"), [("M", 1), ("ef_construction", 0), ("ef_search", 0)])
def test_what_cannot_be_built(option: str, value: int) -> None:
    with pytest.raises(InputError) as refused:
        HnswIndex(DIM, **{option: value})
    assert refused.value.field == option
