"""What each codec keeps of a vector, in how many bytes."""

from __future__ import annotations

import numpy as np
import pytest

from ruvllm import InputError
from ruvllm.index.codecs import CODECS, BinaryCodec, HalfCodec
from ruvllm.index.pq import ProductCodec
from ruvllm.index.select import best

DIM = 48


def clustered(n: int, dim: int = DIM, seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    centres = np.random.default_rng(99).standard_normal((20, dim)) * np.linspace(2, 0.2, dim)
    points = centres[random.integers(0, 20, n)] + random.standard_normal((n, dim)) * np.linspace(1, 0.2, dim) + 0.3
    return (points / np.linalg.norm(points, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture(scope="module")
def vectors() -> np.ndarray:
    return clustered(1_500)


def recall(codec, vectors, queries, reach: int) -> float:
    codes, found = codec.encode(vectors), 0
    for query in queries:
        truth = (-(vectors @ query)).argsort()[:10]
        found += int(np.isin(truth, best(codec.scores(query, codes), reach)).sum())
    return found / (10 * len(queries))


@pytest.mark.parametrize("name", CODECS)
def test_scores_are_those_of_what_decode_returns(name: str, vectors: np.ndarray) -> None:
    codec = CODECS[name].fit(vectors)
    codes = codec.encode(vectors[:300])
    assert codes.dtype == np.uint8
    assert codes.shape == (300, codec.bytes_per_vector)
    assert codec.decode(codes).dtype == np.float32
    query = clustered(1, seed=5)[0]
    assert np.allclose(codec.scores(query, codes), codec.decode(codes) @ query, atol=2e-5)


@pytest.mark.parametrize(("name", "smaller", "least"), [("f32", 1, 1), ("f16", 2, 0.99), ("pq8", 8, 0.85)])
def test_size_and_recall_by_the_codes_alone(name: str, smaller: float, least: float, vectors: np.ndarray) -> None:
    codec = CODECS[name].fit(vectors)
    assert 4 * DIM / codec.bytes_per_vector >= smaller
    assert recall(codec, vectors, clustered(40, seed=1), 10) >= least


def test_signs_find_candidates_for_a_rescore(vectors: np.ndarray) -> None:
    codec = BinaryCodec.fit(vectors)
    queries = clustered(40, seed=1)
    assert recall(codec, vectors, queries, 100) >= 0.9 > recall(codec, vectors, queries, 10)
    assert 4 * 384 / BinaryCodec.fit(clustered(50, 384)).bytes_per_vector > 30


def test_scores_of_signs_are_right_on_average(vectors: np.ndarray) -> None:
    codec = BinaryCodec.fit(vectors)
    codes, queries = codec.encode(vectors), clustered(40, seed=1)
    errors = np.array([codec.scores(query, codes) - vectors @ query for query in queries])
    assert abs(errors.mean()) < 0.01 < errors.std()


def test_every_finite_half_is_read_as_numpy_reads_it() -> None:
    halves = np.arange(65_536, dtype=np.uint32).astype(np.uint16).view(np.float16)
    halves = halves[np.isfinite(halves)].reshape(-1, 64)
    codec = HalfCodec(64)
    assert np.array_equal(codec.decode(np.ascontiguousarray(halves).view(np.uint8)), halves.astype(np.float32))


def test_half_precision_refuses_what_it_cannot_hold() -> None:
    with pytest.raises(InputError, match="too large for half precision"):
        HalfCodec(2).encode(np.array([[1e6, 0]], np.float32))


@pytest.mark.parametrize("dim", [1, 7, 30, 65])
@pytest.mark.parametrize("name", CODECS)
def test_any_width(dim: int, name: str) -> None:
    vectors = clustered(300, dim)
    codec = CODECS[name].fit(vectors)
    codes = codec.encode(vectors)
    assert codec.decode(codes).shape == vectors.shape
    assert np.allclose(codec.scores(vectors[0], codes), codec.decode(codes) @ vectors[0], atol=1e-4)


@pytest.mark.parametrize("name", CODECS)
def test_many_scores_are_those_of_few(name: str) -> None:
    vectors, query = clustered(1_500), clustered(1, seed=3)[0]
    codec = CODECS[name].fit(vectors)
    codes = codec.encode(vectors)
    few = np.concatenate([codec.scores(query, codes[at : at + 100]) for at in range(0, 1_500, 100)])
    assert np.allclose(codec.scores(query, codes), few, atol=2e-5)


def test_the_same_sample_gives_the_same_codes(vectors: np.ndarray) -> None:
    for name in CODECS:
        first, second = (CODECS[name].fit(vectors).encode(vectors[:50]) for _ in range(2))
        assert np.array_equal(first, second)


def test_too_few_to_learn_from() -> None:
    with pytest.raises(InputError, match="cannot teach"):
        ProductCodec.fit(clustered(100))


def test_equal_vectors_do_no_harm() -> None:
    same = np.repeat(clustered(1), 300, axis=0)
    for name in CODECS:
        codec = CODECS[name].fit(same)
        assert np.allclose(codec.decode(codec.encode(same)), same, atol=1e-2)
