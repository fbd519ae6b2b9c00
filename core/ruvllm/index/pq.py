"""Product quantisation (Jégou, Douze & Schmid 2011): a byte for each small group of coordinates.

Vectors are turned onto their principal components, each stretched by its own standard deviation: a query
comes from the same distribution, so an error along a component costs as much as queries vary along it.
Groups pair strong components with weak ones (the eigenvalue allocation of Ge et al. 2013), so that all
bytes carry about as much. On MiniLM embeddings stretching adds 0.012 to recall@10 at 8x.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import ClassVar, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from ruvllm.errors import InputError

LEVELS = 256
_SHRINK = 8  # float32 bytes for one code byte
FEW = 512  # codes up to which tables are not worth making
_ROUNDS = 8
_SAMPLE = 6_144  # 24 vectors a centroid
_BLOCK = 256  # rows encoded at a time: their 256 scores each stay in the cache
_WIDE_BLOCK = 4_096
_FLOOR = 1e-5  # of the largest variance; below it a component is noise

_T = TypeVar("_T", bound=np.generic)
_R = TypeVar("_R")

Vectors = NDArray[np.float32]
Bytes = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class ProductCodec:
    """One of 256 centroids for each group of components.

    Attributes:
        mean: float32 (dim,).
        turn: float32 (dim, m * width), onto components, group by group; columns of nothing fill the last groups.
        stretch: float32 (m * width,), what each component is multiplied by.
        books: float32 (m, 256, width), the centroids.
    """

    mean: Vectors
    turn: Vectors
    stretch: Vectors
    books: Vectors

    name: ClassVar[str] = "pq8"
    lossy: ClassVar[bool] = True

    @classmethod
    def fit(cls, sample: Vectors, *, width: int | None = None, seed: int = 0) -> Self:
        """Learn components and centroids.

        Args:
            sample: float32 (n, dim), n >= 256.
            width: bytes of a code; an eighth of float32 when None.
        """
        return finished(cls.steps(sample, width=width, seed=seed))

    @classmethod
    def steps(cls, sample: Vectors, *, width: int | None = None, seed: int = 0) -> Generator[None, None, Self]:
        """`fit`, a slice at a time."""
        dim = sample.shape[1]
        codes = max(1, 4 * dim // _SHRINK) if width is None else width
        if len(sample) < LEVELS or not 1 <= codes <= dim:
            fix = f"give at least {LEVELS} vectors and a width from 1 to {dim}"
            raise InputError(f"{len(sample)} vectors cannot teach {codes} codebooks", field="sample", fix=fix)
        random = np.random.default_rng(seed)
        mean = sample.mean(0, dtype=np.float32)
        variances, components = np.linalg.eigh((sample - mean).T @ (sample - mean) / np.float32(len(sample)))
        deviations = np.sqrt(np.maximum(variances, _FLOOR * max(variances[-1], 1e-20)))[::-1]
        order = _allocation(dim, codes)
        there = order < dim
        turn, stretch = np.zeros((dim, len(order)), np.float32), np.ones(len(order), np.float32)
        turn[:, there], stretch[there] = components[:, ::-1][:, order[there]], deviations[order[there]]
        turned = (sampled(sample, _SAMPLE, seed) - mean) @ turn * stretch
        groups = turned.reshape(len(turned), codes, -1).swapaxes(0, 1)
        books = list[Vectors]()
        for group in groups:
            books.append(_codebook(np.ascontiguousarray(group), random))
            yield
        return cls(mean, turn, stretch, np.stack(books))

    @property
    def dim(self) -> int:
        """Width of the vectors."""
        return len(self.mean)

    @property
    def bytes_per_vector(self) -> int:
        """Bytes of one code."""
        return len(self.books)

    @property
    def model_bytes(self) -> int:
        """Bytes that all vectors share."""
        return sum(array.nbytes for array in (self.mean, self.turn, self.stretch, self.books))

    def encode(self, vectors: Vectors) -> Bytes:
        """float32 (n, dim) -> uint8 (n, m)."""
        out = np.empty((len(vectors), len(self.books)), np.uint8)
        heads = [_head(book) for book in self.books]
        for start in range(0, len(vectors), _BLOCK):
            turned = (vectors[start : start + _BLOCK] - self.mean) @ self.turn * self.stretch
            groups = turned.reshape(len(turned), len(self.books), -1)
            for at, head in enumerate(heads):
                out[start : start + _BLOCK, at] = (groups[:, at] @ head[:-1] + head[-1]).argmax(1)
        return out

    def decode(self, codes: Bytes) -> Vectors:
        """uint8 (n, m) -> float32 (n, dim)."""
        chosen = self.books[np.arange(len(self.books), dtype=np.intp), codes]  # (n, m, width)
        return np.asarray(chosen.reshape(len(codes), -1) / self.stretch @ self.turn.T + self.mean, np.float32)

    def scores(self, query: Vectors, codes: Bytes) -> Vectors:
        """Inner products of float32 (dim,) with what the codes stand for; of many by tables (asymmetric distance)."""
        if len(codes) <= FEW:
            chosen = self.books[np.arange(len(self.books), dtype=np.intp), codes].reshape(len(codes), -1)
            return np.asarray(
                chosen @ (query @ self.turn / self.stretch) + np.float32(query.dot(self.mean)), np.float32
            )
        return looked_up(self._tables(query), codes) + np.float32(query.dot(self.mean))

    def _tables(self, query: Vectors) -> Vectors:
        turned = (query @ self.turn / self.stretch).reshape(len(self.books), -1, 1)
        return (self.books @ turned)[:, :, 0]


def looked_up(tables: Vectors, codes: Bytes) -> Vectors:
    """For each row of uint8 (n, m or more) the sum of its entries in float32 (m, 256): (n,)."""
    out = np.zeros(len(codes), np.float32)
    for start in range(0, len(codes), _WIDE_BLOCK):
        columns = np.ascontiguousarray(codes[start : start + _WIDE_BLOCK, : len(tables)].T)
        total = out[start : start + _WIDE_BLOCK]
        for table, column in zip(tables, columns, strict=True):
            total += table.take(column)
    return out


def finished(steps: Generator[None, None, _R]) -> _R:
    """What a generator returns once it has yielded for the last time."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            result: _R = end.value
            return result


def sampled(rows: NDArray[_T], size: int, seed: int) -> NDArray[_T]:
    """At most so many of the rows, in their order."""
    if len(rows) <= size:
        return rows
    return rows[np.sort(np.random.default_rng(seed).choice(len(rows), size, replace=False))]


def _allocation(dim: int, groups: int) -> NDArray[np.intp]:
    """Components by group, strong ones with weak ones: back and forth over the groups; `dim` and above are empty."""
    width = -(-dim // groups)
    lanes = np.arange(groups * width, dtype=np.intp).reshape(width, groups)
    lanes[1::2] = lanes[1::2, ::-1]
    return lanes.T.ravel()


def _head(book: Vectors) -> Vectors:
    """(width + 1, 256): the product of (point, 1) with it is highest at the nearest centroid."""
    return np.vstack([book.T, -0.5 * np.einsum("ij,ij->i", book, book)])


def _codebook(points: Vectors, random: np.random.Generator) -> Vectors:
    """k-means of float32 (n, width) by squared distance: float32 (256, width)."""
    centroids = points[random.choice(len(points), LEVELS, replace=False)]
    nearest = np.empty(len(points), np.intp)
    for _ in range(_ROUNDS):
        head = _head(centroids)
        for start in range(0, len(points), _BLOCK):
            block = points[start : start + _BLOCK]
            (block @ head[:-1] + head[-1]).argmax(1, out=nearest[start : start + len(block)])
        counts = np.bincount(nearest, minlength=LEVELS)
        sums = np.stack([np.bincount(nearest, column, minlength=LEVELS) for column in points.T], axis=1)
        lone = points[random.choice(len(points), LEVELS)]
        centroids = np.where(counts[:, None] > 0, sums / np.maximum(counts, 1)[:, None], lone).astype(np.float32)
    return centroids
