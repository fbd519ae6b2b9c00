"""Sign codes: one bit a dimension, held as uint64 columns, compared by xor and popcount.

Columns (words, rows) rather than rows (rows, words): each step is one long vector operation, 5 to 7
times faster. Temporaries are kept per thread, since fresh ones of a megabyte cost more than the work.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ruvllm.index.rows import MASKED, Mask, grown

WORD = 64
PREFIX_WORDS = 2
_REST_WORDS = 4
_ROUNDS = 8
_SAMPLE = 10_000
_BLOCK = 8_192
_LEVELS = 4  # bits a number of a query
_MIDDLE, _HIGHEST = np.float32(1 << _LEVELS - 1), np.float32((1 << _LEVELS) - 1)
_WIDEST = 2.7  # standard deviations that the levels reach
_LEAST = 1e-9
_ONES = ~np.uint64(0)
_PLANES = np.left_shift(1, np.arange(_LEVELS, dtype=np.uint8))[:, None].astype(np.uint8)
# What a set bit of a code adds for each plane of the query: levels lie in the middle of their steps about zero.
_WEIGHTS = np.array([[1], [2], [4], [8], [-7.5]], np.float32)

Words = NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class CodedQuery:
    """A query as codes are compared with it.

    Attributes:
        turned: float32 (bits,), what a vector's code would be the signs of.
        planes: uint64 (5, words): what bits of `turned`, reduced to four, are set, the highest last; then ones.
        weights: float32 (5 * words,) what a bit counts in each word.
    """

    turned: NDArray[np.float32]
    planes: Words
    weights: NDArray[np.float32]

    @property
    def code(self) -> Words:
        """The signs."""
        return np.asarray(self.planes[_LEVELS - 1])

    def estimates(self, columns: Words) -> NDArray[np.float32]:
        """Inner products of `turned` with the signs of (words, n) codes, but for a constant: float32 (n,)."""
        counts = np.bitwise_count(self.planes[:, :, None] & columns)
        return np.asarray(self.weights.dot(counts.reshape(len(self.weights), -1).astype(np.float32)))


@dataclass(frozen=True)
class StagedCoder:
    """Turns vectors into prefix and rest.

    Attributes:
        mean: float32 (dim,).
        matrix: float32 (dim, bits), the prefix's columns first.
    """

    mean: NDArray[np.float32]
    matrix: NDArray[np.float32]

    @classmethod
    def fit(cls, vectors: NDArray[np.float32], seed: int = 0) -> StagedCoder:
        """Learn from a sample, float32 (n, dim)."""
        random = np.random.default_rng(seed)
        if len(vectors) > _SAMPLE:
            vectors = vectors[np.sort(random.choice(len(vectors), _SAMPLE, replace=False))]
        dim = vectors.shape[1]
        mean = vectors.mean(0, dtype=np.float32)
        centred = vectors - mean
        _, components = np.linalg.eigh(centred.T @ centred)
        leading = components[:, ::-1][:, : PREFIX_WORDS * WORD].astype(np.float32)
        short = leading @ _turned(centred @ leading, random)
        padded = np.pad(short, ((0, 0), (0, PREFIX_WORDS * WORD - short.shape[1])))  # bits that are never set
        rest = _REST_WORDS * WORD
        turned = _rotation(max(dim, rest), random)[:dim, :rest]  # of few dimensions more signs than these are taken
        matrix = np.hstack([padded, turned])
        for part in (matrix[:, : PREFIX_WORDS * WORD], matrix[:, PREFIX_WORDS * WORD :]):
            part *= _MIDDLE / (_WIDEST * max(float(np.sqrt(np.square(centred @ part).mean())), _LEAST))
        return cls(mean, np.ascontiguousarray(matrix))

    @property
    def words(self) -> int:
        """uint64 of one code."""
        return int(self.matrix.shape[1] // WORD)

    @cached_property
    def _offset(self) -> NDArray[np.float32]:
        return self.mean @ self.matrix

    @cached_property
    def _weights(self) -> NDArray[np.float32]:
        """What a bit counts in each word of each plane: columns of the matrix are scaled by what a step is."""
        lengths = np.sqrt(np.square(self.matrix).sum(0)).reshape(self.words, WORD).max(1)
        weights = np.zeros((len(_WEIGHTS), self.words), np.float32)
        np.divide(_WEIGHTS, lengths, out=weights, where=lengths > 0)
        return weights.ravel()

    def turned(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """(..., dim) -> float32 (..., bits), whose signs are the code."""
        return np.asarray(vectors.dot(self.matrix) - self._offset, np.float32)

    def coded(self, query: NDArray[np.float32]) -> CodedQuery:
        """A query, float32 (dim,), reduced to four bits a number: RaBitQ's estimate (Gao & Long 2024) by counting."""
        turned = self.turned(query)
        levels = np.minimum(np.maximum(turned + _MIDDLE, 0), _HIGHEST).astype(np.uint8)
        planes = np.full((_LEVELS + 1, self.words), _ONES)
        planes[:_LEVELS] = np.packbits(levels & _PLANES, axis=1).view(np.uint64)
        return CodedQuery(turned, planes, self._weights)

    def encode(self, vectors: NDArray[np.float32]) -> Words:
        """(..., dim) -> uint64 (..., words): the first PREFIX_WORDS are the prefix."""
        return packed(self.turned(vectors))

    def encode_rows(self, vectors: NDArray[np.float32]) -> Words:
        """`encode` for many, a block at a time."""
        blocks = [self.encode(vectors[i : i + _BLOCK]) for i in range(0, len(vectors), _BLOCK)]
        return np.concatenate(blocks) if blocks else self.encode(vectors)


def _rotation(n: int, random: np.random.Generator) -> NDArray[np.float32]:
    return np.linalg.qr(random.standard_normal((n, n)))[0].astype(np.float32)


def _turned(points: NDArray[np.float32], random: np.random.Generator) -> NDArray[np.float32]:
    """The rotation (m, m) of (n, m) points that brings them nearest to their signs."""
    turn = _rotation(points.shape[1], random)
    for _ in range(_ROUNDS):
        left, _, right = np.linalg.svd(points.T @ np.sign(points @ turn))
        turn = (left @ right).astype(np.float32)
    return turn


_ENCODED = 512  # rows encoded at a time: what stays in the cache
_BYTE_WORDS = 3  # words whose popcounts add up within a byte: 3 * 64 < 256


class Scratch(threading.local):
    """Arrays used again by the next search of the same thread."""

    def __init__(self) -> None:
        self._xor = np.empty((0, 0), np.uint64)
        self._counts = np.empty((0, 0), np.uint8)
        self._sums = np.empty((2, 0), np.uint8)
        self._total = np.empty(0, np.uint16)

    def fit(self, words: int, n: int) -> tuple[Words, NDArray[np.uint8], NDArray[np.uint8], NDArray[np.uint16]]:
        """Room for n rows of so many words: xor (words, n), counts (words, n), sums (2, n), total (n,)."""
        if self._xor.shape[0] < words or self._xor.shape[1] < n:
            room = max(n, self._xor.shape[1]) + n // 4
            words_room = max(words, self._xor.shape[0])
            self._xor = np.empty((words_room, room), np.uint64)
            self._counts = np.empty((words_room, room), np.uint8)
            self._sums = np.empty((2, room), np.uint8)
            self._total = np.empty(room, np.uint16)
        return self._xor[:words, :n], self._counts[:words, :n], self._sums[:, :n], self._total[:n]


def packed(values: NDArray[np.float32]) -> Words:
    """Signs of (..., bits) as (..., words): a bit is set where the value is above zero."""
    octets = np.packbits(values > 0, axis=-1)
    missing = -octets.shape[-1] % 8
    if missing:
        octets = np.concatenate([octets, np.zeros((*octets.shape[:-1], missing), np.uint8)], axis=-1)
    return np.ascontiguousarray(octets).view(np.uint64)


def hamming(columns: Words, code: Words, scratch: Scratch) -> NDArray[np.uint16]:
    """Differing bits between (words, n) and one code (words,): uint16 (n,), valid until the thread's next call."""
    words, n = columns.shape
    xor, counts, (total, part), wide = scratch.fit(words, n)
    np.bitwise_xor(columns, code[:, None], out=xor)
    np.bitwise_count(xor, out=counts)
    for first in range(0, words, _BYTE_WORDS):
        group = counts[first : first + _BYTE_WORDS]
        sums = total if first == 0 else part
        np.add(group[0], group[1], out=sums) if len(group) > 1 else np.copyto(sums, group[0])
        if len(group) > 2:
            np.add(sums, group[2], out=sums)
        if first == _BYTE_WORDS:
            np.add(total, part, out=wide, dtype=np.uint16)
        elif first > _BYTE_WORDS:
            np.add(wide, part, out=wide, dtype=np.uint16)
    if words <= _BYTE_WORDS:
        np.copyto(wide, total)
    return wide


@dataclass(frozen=True)
class Signs:
    """Codes of some rows at one moment.

    Attributes:
        columns: uint64 (words, n).
        mean: float32 (dim,) taken off before the signs are.
        weights: float32 (n,) lengths about the mean, where vectors are not of one length; else None.
    """

    columns: Words
    mean: NDArray[np.float32]
    weights: NDArray[np.float32] | None

    @property
    def beyond(self) -> float:
        """Where masked rows are put, or beyond."""
        return MASKED if self.weights is None else np.inf

    def farther(self, distance: Any, margin: float) -> float:
        """A place in the order, farther by a margin but still before all masked rows."""
        return min(int(distance) + int(margin), MASKED - 1) if self.weights is None else float(distance) + margin

    def order(self, query: NDArray[np.float32], mask: Mask | None, scratch: Scratch) -> NDArray[Any]:
        """(n,) lower is nearer, masked rows last; valid until the thread's next call.

        Vectors of one length are ordered by Hamming distance: uint16. Else the inner product with a vector
        is estimated as its length times the cosine that the distance stands for, and negated: float32.
        """
        if self.weights is None:
            distances = hamming(self.columns, packed(query - self.mean), scratch)
            return distances if mask is None else np.maximum(distances, mask.wide, out=distances)
        # The part of the product that the mean gives is the same for all rows: the query stays as it is.
        distances = hamming(self.columns, packed(query), scratch)
        estimates = (distances - np.float32(len(self.mean) / 2)) * self.weights
        return estimates if mask is None else estimates - mask.endless


class SignCodes:
    """Signs of vectors about their mean, in the order of the rows they stand for.

    Args:
        vectors: what the mean is taken of; worth 0.004 of recall on embeddings, whose mean is not zero.
        weighted: the vectors are not of one length.
    """

    def __init__(self, vectors: NDArray[np.float32], *, weighted: bool) -> None:
        dim = vectors.shape[1]
        self.fitted = len(vectors)
        self._mean = vectors.mean(0, dtype=np.float32) if len(vectors) else np.zeros(dim, np.float32)
        self._columns = np.empty((-(-dim // WORD), 0), np.uint64)
        self._weights = np.empty(0, np.float32) if weighted else None
        self.size = 0

    @property
    def now(self) -> Signs:
        """The codes so far; what is appended later does not change them."""
        weights = None if self._weights is None else self._weights[: self.size]
        return Signs(self._columns[:, : self.size], self._mean, weights)

    def append(self, vectors: NDArray[np.float32]) -> None:
        """Encode the next rows."""
        start, stop = self.size, self.size + len(vectors)
        if self._columns.shape[1] < stop:
            self._columns = np.ascontiguousarray(grown(self._columns.T, stop).T)
        if self._weights is not None:
            self._weights = grown(self._weights, stop)
            self._weights[start:stop] = np.linalg.norm(vectors - self._mean, axis=1)
        for at in range(0, len(vectors), _ENCODED):
            block = vectors[at : at + _ENCODED]
            self._columns[:, start + at : start + at + len(block)] = packed(block - self._mean).T
        self.size = stop
