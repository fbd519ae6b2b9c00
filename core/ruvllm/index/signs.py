"""Sign codes: one bit a dimension, held as uint64 columns, compared by xor and popcount.

Columns (words, rows) rather than rows (rows, words): each step is one long vector operation, 5 to 7
times faster. Temporaries are kept per thread, since fresh ones of a megabyte cost more than the work.
"""

from __future__ import annotations

import math
import threading
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ruvllm.index.rows import MASKED, Mask, grown

WORD = 64
SCANNED = 4  # words of a code that are compared with all rows visited
WORDS = 8  # of a code
DIRECTIONS = 64  # that tell lists apart
_SIDE = 16
_SAMPLE = 10_000
_BLOCK = 8_192
_WIDE = 256  # dimensions from which a Kronecker product mixes as well as a full matrix
_STEP = 2.2 / 3.5  # of the query's levels, in standard deviations
_MOST = np.float32(3)
_PLANES = np.array([[1], [2]], np.uint8)
# What a differing bit costs, in steps: the mean size of a number where only its sign is compared (sqrt(2 / pi) of a
# deviation), and in the middle of its level by plane elsewhere.
_SIGN = np.float32(math.sqrt(2 / math.pi) / _STEP)
_WEIGHTS = np.array([0.5, 1, 2], np.float32).repeat(WORDS - SCANNED)

Words = NDArray[np.uint64]


@dataclass(slots=True)
class CodedQuery:
    """A query as codes are compared with it.

    Attributes:
        directions: float32 (DIRECTIONS,) what centroids are compared with.
        code: uint64 (WORDS,) the signs.
        planes: uint64 (2, WORDS - SCANNED): how large the numbers behind the last words are, in two bits.
    """

    directions: NDArray[np.float32]
    code: Words
    planes: Words

    def costs(self, short: NDArray[np.uint8], rest: Words) -> NDArray[np.float32]:
        """How far some codes are from the query, RaBitQ's estimate (Gao & Long 2024) by counting: float32 (n,).

        Args:
            short: (n,) differing bits of the first SCANNED words.
            rest: (n, WORDS - SCANNED) the others.
        """
        bits = np.empty((3, WORDS - SCANNED, len(rest)), np.uint64)
        np.bitwise_xor(rest.T, self.code[SCANNED:, None], out=bits[0])
        np.bitwise_and(bits[0], self.planes[:, :, None], out=bits[1:])
        counts = np.bitwise_count(bits).reshape(len(_WEIGHTS), -1).astype(np.float32)
        return np.asarray(_WEIGHTS.dot(counts) + short * _SIGN)


@dataclass(frozen=True)
class SignCoder:
    """Turns vectors into codes: signs after a rotation, of few numbers (a Kronecker product), about the mean.

    Attributes:
        mean: float32 (dim,).
        left, right: float32 (WORDS * 64 / side, dim / side) and (side, side), what a vector laid out in rows of `side`
            (16, of few dimensions 1) is multiplied with from either end.
        matrix: float32 (dim, up to DIRECTIONS), the leading components.
    """

    mean: NDArray[np.float32]
    left: NDArray[np.float32]
    right: NDArray[np.float32]
    matrix: NDArray[np.float32]

    @classmethod
    def fit(cls, vectors: NDArray[np.float32], seed: int = 0) -> SignCoder:
        """Learn from a sample, float32 (n, dim)."""
        random = np.random.default_rng(seed)
        if len(vectors) > _SAMPLE:
            vectors = vectors[np.sort(random.choice(len(vectors), _SAMPLE, replace=False))]
        mean = vectors.mean(0, dtype=np.float32)
        centred = vectors - mean
        _, components = np.linalg.eigh(centred.T @ centred)
        side = side_of(vectors.shape[1])
        wide, high = WORDS * WORD // side, -(-vectors.shape[1] // side)
        left = np.concatenate([_rotation(high, random) for _ in range(-(-wide // high))])[:wide]
        matrix = np.ascontiguousarray(components[:, ::-1][:, :DIRECTIONS], np.float32)
        return cls(mean, left, _rotation(side, random), matrix)

    def coded(self, query: NDArray[np.float32]) -> CodedQuery:
        """A query, float32 (dim,)."""
        centred = query - self.mean
        turned = self.left.dot(self._padded(centred)).dot(self.right).ravel()
        rest = turned[SCANNED * WORD :]
        step = _STEP * math.sqrt(float(rest.dot(rest)) / len(rest)) or 1.0
        levels = np.minimum(np.abs(rest) * np.float32(1 / step), _MOST).astype(np.uint8)
        planes = np.packbits(levels & _PLANES, axis=1).view(np.uint64)
        return CodedQuery(centred.dot(self.matrix), np.packbits(turned > 0).view(np.uint64), planes)

    def encode(self, vectors: NDArray[np.float32]) -> tuple[NDArray[np.float32], Words]:
        """(n, dim) -> the vectors along the leading components, float32 (n, DIRECTIONS), and uint64 (n, WORDS)."""
        directions = np.empty((len(vectors), self.matrix.shape[1]), np.float32)
        codes = np.empty((len(vectors), WORDS), np.uint64)
        for start in range(0, len(vectors), _ENCODED):
            part = slice(start, start + _ENCODED)
            centred = vectors[part] - self.mean
            across = (self._padded(centred) @ self.right).transpose(0, 2, 1)  # (n, side, dim / side)
            turned = across.reshape(-1, across.shape[2]) @ self.left.T
            directions[part] = centred @ self.matrix
            bits = (turned > 0).reshape(len(centred), len(self.right), -1).transpose(0, 2, 1)
            codes[part] = np.packbits(bits.reshape(len(centred), -1), axis=1).view(np.uint64)
        return directions, codes

    def _padded(self, centred: NDArray[np.float32]) -> NDArray[np.float32]:
        """(..., dim) in rows of `side`."""
        side = len(self.right)
        missing = -centred.shape[-1] % side
        if missing:
            centred = np.concatenate([centred, np.zeros((*centred.shape[:-1], missing), np.float32)], axis=-1)
        return centred.reshape(*centred.shape[:-1], -1, side)


def side_of(dim: int) -> int:
    """Numbers in each row of a vector while it is rotated."""
    return _SIDE if dim >= _WIDE else 1


def _rotation(n: int, random: np.random.Generator) -> NDArray[np.float32]:
    return np.linalg.qr(random.standard_normal((n, n)))[0].astype(np.float32)


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
