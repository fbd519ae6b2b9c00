"""What every vector index must do, as tests of a class; subclasses say which index and how good it has to be."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from ruvllm.errors import InputError
from ruvllm.index import Hits

Floats = NDArray[np.float32]
METRICS = ("cosine", "dot")


def clustered(n: int, dim: int, seed: int = 0, spread: float = 0.7, *, uneven: bool = False) -> Floats:
    """float32 (n, dim) about 40 centres that are the same for all seeds; lengths differ several times if uneven."""
    random = np.random.default_rng([seed, 1])
    centres = np.random.default_rng(dim).standard_normal((40, dim))
    points = centres[random.integers(0, 40, n)] + spread * random.standard_normal((n, dim))
    if uneven:
        points *= np.exp(0.4 * random.standard_normal((n, 1)))
    return points.astype(np.float32)


class Truth:
    """Brute force over a dict: what an index is measured by."""

    def __init__(self, metric: str) -> None:
        self.metric, self.held = metric, dict[int, Floats]()
        self._stacked: tuple[NDArray[np.int64], Floats] | None = None
        self._scored: dict[bytes, list[tuple[int, float]]] = {}

    def add(self, ids: NDArray[np.int64], vectors: Floats) -> None:
        self.held.update(zip(ids.tolist(), self.scaled(vectors), strict=True))
        self._stacked, self._scored = None, {}

    def remove(self, ids: NDArray[np.int64]) -> int:
        self._stacked, self._scored = None, {}
        return sum(self.held.pop(i, None) is not None for i in ids.tolist())

    def scaled(self, vectors: Floats) -> Floats:
        return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True) if self.metric == "cosine" else vectors

    def scores(self, query: Floats, allowed: set[int] | None = None) -> dict[int, float]:
        """Scores by id, best first."""
        if not self.held:
            return {}
        if self._stacked is None:
            self._stacked = np.array(list(self.held), np.int64), np.stack(list(self.held.values()))
        asked = query.tobytes()
        if asked not in self._scored:
            ids, vectors = self._stacked
            scores = vectors @ self.scaled(query)
            order = np.argsort(-scores, kind="stable")
            self._scored[asked] = list(zip(ids[order].tolist(), scores[order].tolist(), strict=True))
        return {i: score for i, score in self._scored[asked] if allowed is None or i in allowed}


def sound(hits: Hits, truth: Truth, query: Floats, k: int, allowed: set[int] | None = None) -> dict[int, float]:
    """Checks all that an approximate answer must fulfil too; returns the true scores."""
    scores = truth.scores(query, allowed)
    ids = hits.ids.tolist()
    assert hits.ids.dtype == np.int64
    assert hits.scores.dtype == np.float32
    assert len(ids) == min(k, len(scores))
    assert len(set(ids)) == len(ids)
    assert set(ids) <= set(scores), "an id that was removed, filtered out or never there"
    np.testing.assert_allclose(hits.scores, [scores[i] for i in ids], rtol=1e-4, atol=2e-5)
    assert (np.diff(hits.scores) <= 0).all()
    return scores


def share(hits: Hits, scores: dict[int, float]) -> float:
    """Recall, by score: of equally good ones any will do."""
    k = len(hits.ids)
    if not k:
        return 1.0
    worst = list(scores.values())[k - 1]
    return float(np.mean(hits.scores >= worst - 1e-4 * max(1.0, abs(worst))))


class IndexSuite:
    """The tests."""

    exact = False
    n = 2_000
    edits = 25  # random sequences

    def make(self, dim: int, metric: str = "cosine") -> Any:
        """An empty index."""
        raise NotImplementedError

    def filled(self, n: int, dim: int, metric: str = "cosine", seed: int = 0) -> tuple[Any, Truth]:
        """An index and the truth about it."""
        index, truth = self.make(dim, metric), Truth(metric)
        vectors, ids = clustered(n, dim, seed, uneven=metric == "dot"), np.arange(n, dtype=np.int64) * 3 + 1
        index.add(ids, vectors)
        truth.add(ids, vectors)
        return index, truth

    def asked(
        self, index: Any, truth: Truth, dim: int, recall: float, allowed: set[int] | None = None, n: int = 40
    ) -> float:
        """Mean recall@10 of n unseen queries, asked one by one, every answer checked."""
        chosen = None if allowed is None else index.mask(sorted(allowed))
        found = []
        for query in clustered(n, dim, seed=9):
            hits = index.search(query, 10, recall=recall, filter=chosen)
            found.append(share(hits, sound(hits, truth, query, 10, allowed)))
        return float(np.mean(found))

    def least(self, recall: float) -> float:
        """What 400 neighbours may show where this recall was asked, chance being what it is."""
        return 1.0 if self.exact else recall - 0.025

    @pytest.mark.parametrize("metric", METRICS)
    @pytest.mark.parametrize("dim", [5, 100, 256])
    def test_recall(self, dim: int, metric: str) -> None:
        index, truth = self.filled(self.n, dim, metric)
        for recall in (0.9, 0.99):
            assert self.asked(index, truth, dim, recall) >= self.least(recall)
        assert self.asked(index, truth, dim, 1.0) == 1.0

    @pytest.mark.parametrize("metric", METRICS)
    def test_filters(self, metric: str) -> None:
        index, truth = self.filled(self.n, 64, metric)
        ids = np.array(sorted(truth.held))
        near = set(list(truth.scores(clustered(1, 64, seed=9)[0]))[: self.n // 3])  # crowded in one corner
        for allowed in (set(ids[::10].tolist()), set(ids[::3].tolist()), near):
            assert self.asked(index, truth, 64, 0.95, allowed) >= self.least(0.95)
        query = clustered(1, 64, seed=9)[0]
        assert len(index.search(query, 5, filter=[]).ids) == 0
        assert index.search(query, 5, filter=[10**15, 4]).ids.tolist() == [4]

    def test_delete_half(self) -> None:
        index, truth = self.filled(self.n, 64)
        ids = np.array(sorted(truth.held))
        for gone in (ids[:5], ids[5::7], ids[1::3], ids[3::4]):  # past the share that is squeezed out
            assert index.remove(gone) == truth.remove(gone)
            assert len(index) == len(truth.held)
            assert self.asked(index, truth, 64, 0.95) >= self.least(0.95)

    def test_late_rows(self) -> None:
        index, truth = self.filled(self.n, 64)
        late, ids = clustered(300, 64, seed=5), np.arange(10**12, 10**12 + 300, dtype=np.int64)
        for start in (0, 1, 3, 30):
            stop = {0: 1, 1: 3, 3: 30, 30: 300}[start]
            index.add(ids[start:stop], late[start:stop])
        truth.add(ids, late)
        found = [index.search(v, 1, recall=0.99).ids.tolist() == [i] for v, i in zip(late, ids.tolist(), strict=True)]
        assert np.mean(found) >= self.least(0.99)
        assert self.asked(index, truth, 64, 0.95) >= self.least(0.95)

    @pytest.mark.parametrize("metric", METRICS)
    def test_duplicates(self, metric: str) -> None:
        index, truth = self.make(32, metric), Truth(metric)
        vectors = np.repeat(clustered(30, 32), 60, axis=0)
        ids = np.arange(len(vectors), dtype=np.int64)
        index.add(ids, vectors)
        truth.add(ids, vectors)  # ten neighbours are copies of one vector, found or missed together: ask more
        assert self.asked(index, truth, 32, 0.95, n=400) >= self.least(0.95)

    @pytest.mark.parametrize("metric", METRICS)
    def test_batches(self, metric: str) -> None:
        index, truth = self.filled(self.n, 200, metric)
        queries, ids = clustered(70, 200, seed=9), np.array(sorted(truth.held))
        for allowed in (None, set(ids[::3].tolist())):
            chosen = None if allowed is None else index.mask(sorted(allowed))
            hits = index.search(queries, 10, recall=0.95, filter=chosen)
            assert hits.ids.shape == hits.scores.shape == (70, 10)
            found = []
            for query, own in zip(queries, map(Hits, *hits), strict=True):
                found.append(share(own, sound(own, truth, query, 10, allowed)))
            assert np.mean(found) >= self.least(0.95)
        index.remove(ids[::2])
        truth.remove(ids[::2])
        late = clustered(50, 200, seed=5)
        index.add(ids[:50], late)
        truth.add(ids[:50], late)
        for query, own in zip(queries, map(Hits, *index.search(queries, 10)), strict=True):
            sound(own, truth, query, 10)
        assert index.search(queries[:0], 4).ids.shape == (0, 4)

    def test_small_and_empty(self) -> None:
        index, query = self.make(8), clustered(1, 8)[0]
        assert len(index) == 0
        assert index.search(query, 3).ids.shape == (0,)
        padded = index.search(query[None], 3)
        assert padded.ids.tolist() == [[-1, -1, -1]]
        assert np.isneginf(padded.scores).all()
        assert index.remove([1, 2]) == 0
        index.add([], np.empty((0, 8), np.float32))
        index.add(np.uint64(7), query)
        index.add([2**62, -5], clustered(2, 8, seed=1))
        assert index.search(query, 50).ids[0] == 7
        assert sorted(index.search(query, 50).ids.tolist()) == [-5, 7, 2**62]
        assert index.search(query[None], 5).ids[0, 3:].tolist() == [-1, -1]
        assert index.remove([7, 2**62, -5, 7]) == 3
        assert len(index) == len(index.search(query, 3).ids) == 0
        assert index.stats()["size"] == 0

    def test_old_masks_are_refused(self) -> None:
        index, truth = self.filled(20, 8)
        mask = index.mask(sorted(truth.held)[:3])
        assert len(index.search(clustered(1, 8)[0], 5, filter=mask).ids) == 3
        index.remove([sorted(truth.held)[0]])
        with pytest.raises(InputError) as refused:
            index.search(clustered(1, 8)[0], filter=mask)
        assert refused.value.field == "filter"

    @pytest.mark.parametrize(
        ("call", "field"),
        [
            (lambda i: i.add([1, 1], np.ones((2, 4))), "ids"),
            (lambda i: i.add([1.5], np.ones((1, 4))), "ids"),
            (lambda i: i.add([2**63], np.ones((1, 4))), "ids"),
            (lambda i: i.add([[1]], np.ones((1, 4))), "ids"),
            (lambda i: i.add([1], np.ones((1, 5))), "vectors"),
            (lambda i: i.add([1, 2], np.ones((1, 4))), "vectors"),
            (lambda i: i.add([1], [["a", "b", "c", "d"]]), "vectors"),
            (lambda i: i.add([1], [[1, 2, 3, np.nan]]), "vectors"),
            (lambda i: i.add([1], [[1, 2, 3, np.inf]]), "vectors"),
            (lambda i: i.add([1], np.zeros((1, 4))), "vectors"),
            (lambda i: i.search(np.ones(5)), "queries"),
            (lambda i: i.search(np.ones((1, 1, 4))), "queries"),
            (lambda i: i.search([1, 2, 3, np.nan]), "queries"),
            (lambda i: i.search(np.zeros(4)), "queries"),
            (lambda i: i.search("four"), "queries"),
            (lambda i: i.search(np.ones(4), 0), "k"),
            (lambda i: i.search(np.ones(4), 2.5), "k"),
            (lambda i: i.search(np.ones(4), recall=0), "recall"),
            (lambda i: i.search(np.ones(4), recall=1.1), "recall"),
            (lambda i: i.search(np.ones(4), filter=["a"]), "filter"),
            (lambda i: type(i)(0), "dim"),
            (lambda i: type(i)(4, "euclid"), "metric"),
        ],
    )
    def test_what_cannot_be_used(self, call: Any, field: str) -> None:
        index = self.make(4)
        index.add([5], np.ones((1, 4)))
        with pytest.raises(InputError) as refused:
            call(index)
        assert refused.value.field == field
        assert refused.value.fix
        assert len(index) == 1

    @pytest.mark.parametrize("metric", METRICS)
    def test_random_edits(self, metric: str) -> None:
        @settings(max_examples=self.edits, deadline=None, derandomize=True, database=None)
        @given(st.integers(0, 2**32 - 1), st.sampled_from([3, 16, 70]))
        def edit(seed: int, dim: int) -> None:
            self.edited(seed, dim, metric)

        edit()

    def edited(self, seed: int, dim: int, metric: str) -> None:
        """A random sequence of everything; ids come from a small range, so that they meet again."""
        random = np.random.default_rng(seed)
        index, truth = self.make(dim, metric), Truth(metric)
        for _ in range(12):
            ids = random.choice(200, random.integers(1, 60), replace=False) * 7
            match random.integers(4):
                case 0 | 1:
                    vectors = clustered(len(ids), dim, int(random.integers(1000)), uneven=metric == "dot")
                    index.add(ids, vectors)
                    truth.add(ids, vectors)
                case 2:
                    assert index.remove(ids) == truth.remove(ids)
                case _:
                    query, k = clustered(1, dim, int(random.integers(1000)))[0], int(random.integers(1, 90))
                    allowed = set(ids.tolist()) if random.integers(2) else None
                    hits = index.search(query, k, filter=None if allowed is None else ids, recall=1.0)
                    assert share(hits, sound(hits, truth, query, k, allowed)) == 1.0
                    hits = index.search(query, k, filter=None if allowed is None else ids)
                    sound(hits, truth, query, k, allowed)
        assert len(index) == len(truth.held)
