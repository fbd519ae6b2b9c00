"""Reads go on while one thread writes: no crash, and every answer was true at some moment."""

from __future__ import annotations

import threading
import time
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from waiting import PATIENCE, until

from ruvllm.index import BinaryIndex, FlatIndex, HnswIndex, IvfIndex

DIM = 16
BATCHES = (40, 8)  # a graph links the larger all at once, the smaller one by one


def vector_of(ids: NDArray[np.int64]) -> NDArray[np.float32]:
    """The one vector that an id ever has: whoever returns another's score returns garbage."""
    return np.stack([np.random.default_rng(int(i)).standard_normal(DIM) for i in ids]).astype(np.float32)


VECTORS = vector_of(np.arange(6_000))


@pytest.mark.parametrize("metric", ["cosine", "dot"])
@pytest.mark.parametrize(
    ("make", "changes"),
    [
        (FlatIndex, 80),
        (BinaryIndex, 80),
        (lambda dim, metric: IvfIndex(dim, metric, least=700), 40),
        (HnswIndex, 8),
    ],
    ids=["flat", "binary", "ivf", "hnsw"],
)
def test_readers_beside_a_writer(make: Any, changes: int, metric: str) -> None:
    index = make(DIM, metric)
    index.add(np.arange(1_500), VECTORS[:1_500])
    index.search(VECTORS[0], 10)
    over, trouble, answered = threading.Event(), list[str](), [0, 0, 0]
    forgotten: set[int] = set()  # ids that were removed for good before the answer was asked for

    def read(number: int) -> None:
        random = np.random.default_rng(number)
        try:
            while not over.is_set():
                gone = set(forgotten)
                query = random.standard_normal(DIM).astype(np.float32)
                chosen = random.choice(6_000, 800, replace=False) if random.random() < 0.3 else None
                if random.random() < 0.2:
                    hits = index.search(np.stack([query] * 3), 10, filter=chosen)
                    ids, scores = hits.ids[1], hits.scores[1]
                else:
                    ids, scores = index.search(query, 10, filter=chosen)
                check(query, ids, scores, gone, chosen)
                answered[number] += 1
        except Exception as error:
            trouble.append(repr(error))

    def check(query: Any, ids: Any, scores: Any, gone: set[int], chosen: Any) -> None:
        own = VECTORS[ids]
        if metric == "cosine":
            own, query = own / np.linalg.norm(own, axis=1, keepdims=True), query / np.linalg.norm(query)
        np.testing.assert_allclose(scores, own @ query, atol=1e-4)
        assert len(ids) == len(set(ids.tolist())) == 10
        assert not gone & set(ids.tolist())
        assert chosen is None or set(ids.tolist()) <= set(chosen.tolist())

    readers = [threading.Thread(target=read, args=(number,)) for number in range(3)]
    for reader in readers:
        reader.start()
    try:
        start, gone = 1_500, 0
        for change in range(changes):  # until arrays grow, graphs are linked anew and rows are squeezed
            stop = start + BATCHES[change % 2]
            index.add(np.arange(start, stop), VECTORS[start:stop])
            start = stop
            if change % 2:
                removed = np.arange(gone, gone + 2_400 // changes)
                index.remove(removed)
                forgotten.update(removed.tolist())
                gone += len(removed)
            while sum(answered) < 4 * change and not trouble:
                time.sleep(0.001)
        until(lambda: trouble or all(answered))
    finally:
        over.set()
        for reader in readers:
            reader.join(PATIENCE)
    assert not trouble, trouble[0]
    assert min(answered) > 0
    assert len(index) == start - gone
    assert index.rows.view.epoch > 0
