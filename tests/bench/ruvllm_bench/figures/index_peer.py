"""A library that searches vectors, run by its own Python: `index_peer.py NAME VECTORS QUERIES TRUTH`, .npy files.

Prints the seconds of a build and, for each setting of the search, (setting, recall, median milliseconds of a query).
"""

import json
import sys
from collections.abc import Callable, Iterator
from time import perf_counter
from typing import Any

import numpy as np

K, WARM = 10, 20
EFS = (10, 16, 24, 32, 48, 64, 96, 128, 192, 256)
PROBES = (2, 4, 8, 12, 16, 24, 32, 48, 64)
Found = Iterator[tuple[float, Callable[[Any], Any]]]


def hnswlib(vectors: Any) -> Found:
    """A graph of M 16."""
    import hnswlib as module

    index = module.Index("ip", vectors.shape[1])
    index.init_index(len(vectors), ef_construction=200, M=16)
    index.add_items(vectors, num_threads=1)
    for ef in EFS:
        index.set_ef(ef)
        yield ef, lambda query: index.knn_query(query, K, num_threads=1)[0][0]


def usearch(vectors: Any) -> Found:
    """The same graph."""
    from usearch.index import Index

    index = Index(ndim=vectors.shape[1], metric="ip", dtype="f32", connectivity=16, expansion_add=200)
    index.add(np.arange(len(vectors)), vectors, threads=1)
    for ef in EFS:
        index.expansion_search = ef
        yield ef, lambda query: index.search(query, K, threads=1).keys


def faiss(vectors: Any) -> Found:
    """The same graph."""
    import faiss as module

    module.omp_set_num_threads(1)
    index = module.IndexHNSWFlat(vectors.shape[1], 16, module.METRIC_INNER_PRODUCT)
    index.hnsw.efConstruction = 200
    index.add(vectors)
    for ef in EFS:
        index.hnsw.efSearch = ef
        yield ef, lambda query: index.search(query[None], K)[1][0]


def svs(vectors: Any) -> Found:
    """Vamana of degree 32."""
    import svs as module

    parameters = module.VamanaBuildParameters(graph_max_degree=32, window_size=200, alpha=0.95)
    index = module.Vamana.build(parameters, vectors, module.DistanceType.MIP, num_threads=1)
    for ef in EFS:
        index.search_window_size = ef
        yield ef, lambda query: index.search(query[None], K)[0][0]


def turbovec(vectors: Any) -> Found:
    """Codes of four bits: it has no setting of a search."""
    import turbovec as module

    index = module.TurboQuantIndex(vectors.shape[1], 4)
    index.add(vectors)
    first = index.search(vectors[:1], K)
    place = 1 if np.issubdtype(np.asarray(first[1]).dtype, np.integer) else 0
    yield 4, lambda query: np.asarray(index.search(query[None], K)[place])[0]


def rabitqlib(vectors: Any) -> Found:
    """Inverted lists over codes of seven bits, with centroids of a few rounds of k-means."""
    import rabitqlib as module

    random, clusters = np.random.default_rng(0), max(16, round(4 * len(vectors) ** 0.5))
    centroids = vectors[random.choice(len(vectors), clusters, replace=False)].copy()
    for _ in range(6):
        nearest = (vectors @ centroids.T).argmax(1)
        np.add.at(sums := np.zeros_like(centroids), nearest, vectors)
        lengths = np.linalg.norm(sums, axis=1, keepdims=True)
        centroids = np.where(lengths > 0, sums / np.maximum(lengths, 1e-9), centroids).astype(np.float32)
    nearest = (vectors @ centroids.T).argmax(1).astype(np.uint32)
    index = module.IvfIndex(vectors.shape[1], len(vectors), clusters, 7, "l2")
    index.build(vectors, centroids, nearest, num_threads=1)
    first = index.search(vectors[:1], K, 2)
    place = 0 if np.issubdtype(np.asarray(first[0]).dtype, np.integer) else 1
    for probes in PROBES:
        yield probes, lambda query, probes=probes: np.asarray(index.search(query[None], K, probes)[place])[0]


LIBRARIES = {"faiss-cpu": faiss, "scalable-vs": svs}


def main(name: str, *paths: str) -> None:
    """Measure one library."""
    vectors, queries, truth = (np.load(path, allow_pickle=False) for path in paths)
    began, curve, built = perf_counter(), list[tuple[float, float, float]](), 0.0
    for setting, ask in (LIBRARIES.get(name) or globals()[name])(vectors):
        built = built or perf_counter() - began
        for query in queries[:WARM]:
            ask(query)
        times, found = np.empty(len(queries)), 0
        for i, (query, true) in enumerate(zip(queries, truth, strict=True)):
            start = perf_counter()
            ids = ask(query)
            times[i] = perf_counter() - start
            found += len(np.intersect1d(ids, true))
        curve.append((setting, found / truth.size, float(np.median(times)) * 1e3))
    print(json.dumps({"build_s": built, "curve": curve}))


if __name__ == "__main__":
    main(*sys.argv[1:])
