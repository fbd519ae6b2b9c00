"""What compression tiers save, lose and cost, measured on real vectors."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from ruvllm.index.codecs import CODECS, Codec
from ruvllm.index.pq import sampled
from ruvllm.index.select import best

_K = 10
_SAMPLE = 10_000
_RESCORED = 50


@dataclass(frozen=True, slots=True)
class TierRow:
    """One codec over all vectors.

    Attributes:
        bytes_per_vector: of a code.
        smaller: how many times smaller than float32.
        shared_bytes: what all codes share (rotation, centroids).
        recall: recall@10 of the ten best by the codes alone.
        rescored: how many of the nearest codes were then scored by their originals.
        recall_rescored: recall@10 after that.
        fit_s: seconds to learn.
        encode_us: microseconds a vector.
        search_us: median of finding the ten best codes.
        rescored_us: the same with the rescore from vectors in memory.
    """

    codec: str
    bytes_per_vector: int
    smaller: float
    shared_bytes: int
    recall: float
    rescored: int
    recall_rescored: float
    fit_s: float
    encode_us: float
    search_us: float
    rescored_us: float


def measure_tiers(
    vectors: NDArray[np.float32], queries: NDArray[np.float32], rescored: int = _RESCORED
) -> list[TierRow]:
    """Every codec over float32 (n, dim), asked float32 (q, dim) that are not among them."""
    truth = np.stack([best(vectors @ query, _K) for query in queries])
    return [_measured(codec, vectors, queries, truth, rescored) for codec in CODECS.values()]


def _measured(
    kind: type[Codec],
    vectors: NDArray[np.float32],
    queries: NDArray[np.float32],
    truth: NDArray[np.intp],
    rescored: int,
) -> TierRow:
    began = perf_counter()
    codec = kind.fit(sampled(vectors, _SAMPLE, 0))
    fitted = perf_counter()
    codes = codec.encode(vectors)
    encoded = perf_counter()
    alone, after = np.empty((len(queries), 2)), np.empty((len(queries), 2))  # neighbours found, seconds
    for row, (query, true) in enumerate(zip(queries, truth, strict=True)):
        start = perf_counter()
        found = best(codec.scores(query, codes), _K)
        between = perf_counter()
        wide = best(codec.scores(query, codes), rescored)
        top = wide[best(vectors[wide] @ query, _K)]
        end = perf_counter()
        alone[row] = np.isin(true, found).mean(), between - start
        after[row] = np.isin(true, top).mean(), end - between
    return TierRow(
        codec.name,
        codec.bytes_per_vector,
        round(4 * codec.dim / codec.bytes_per_vector, 2),
        codec.model_bytes,
        round(float(alone[:, 0].mean()), 4),
        rescored,
        round(float(after[:, 0].mean()), 4),
        round(fitted - began, 2),
        round((encoded - fitted) / len(vectors) * 1e6, 2),
        round(median(alone[:, 1].tolist()) * 1e6, 1),
        round(median(after[:, 1].tolist()) * 1e6, 1),
    )
