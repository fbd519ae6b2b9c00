"""Learnt sign codes in two stages: a short prefix for everybody, the long rest for those it lets through.

The prefix is 128 bits of the leading principal components, turned so that signs lose least (ITQ,
Gong & Lazebnik 2011); the rest are 256 signs after a random rotation. At 100,000 vectors the
prefix alone is a third of the work of whole codes, and its order good enough to drop 97 % of the rows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ruvllm.index.signs import WORD, Words, packed

__all__ = ["PREFIX_WORDS", "StagedCoder", "byte_sums"]

PREFIX_WORDS = 2
_REST_WORDS = 4
_ROUNDS = 8
_SAMPLE = 10_000
_BLOCK = 8_192


@dataclass(frozen=True, slots=True)
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
        return cls(mean, np.ascontiguousarray(np.hstack([padded, turned])))

    @property
    def words(self) -> int:
        """uint64 of one code."""
        return int(self.matrix.shape[1] // WORD)

    def encode(self, vectors: NDArray[np.float32]) -> Words:
        """(..., dim) -> uint64 (..., words): the first PREFIX_WORDS are the prefix."""
        return packed(np.asarray((vectors - self.mean) @ self.matrix, np.float32))

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


def byte_sums(counts: NDArray[np.uint8]) -> NDArray[np.uint16]:
    """Sum of each row of contiguous uint8 (n, 4) popcounts."""
    # A row is one integer; all 256 bits differing wraps to 0: the opposite vector, which the exact rerank drops.
    sums = (counts.view(np.uint32)[:, 0] * np.uint32(0x01010101)) >> np.uint32(24)
    return np.asarray(sums, np.uint16)
