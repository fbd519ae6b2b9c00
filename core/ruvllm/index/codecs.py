"""How a vector is kept: whole, halved, a byte for eight or a bit for thirty-two.

| codec  | 384 dimensions | smaller | what it keeps                                    |
|--------|----------------|---------|--------------------------------------------------|
| f32    | 1,536 bytes    | 1x      | everything                                       |
| f16    | 768            | 2x      | half precision                                   |
| pq8    | 192            | 8x      | product quantisation, see `pq`                   |
| binary | 50             | 30.7x   | signs after a learnt rotation, and their scale   |
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import ClassVar, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from ruvllm.errors import InputError
from ruvllm.index.pq import FEW, Bytes, ProductCodec, Vectors, finished, looked_up, sampled

_BLOCK = 8_192
_HALF_BLOCK, _HALF_MOST = 256, 65_504.0
_ROUNDS = 8
_SAMPLE = 10_000
_SCALE_BYTES = 2


class Codec(Protocol):
    """Vectors as rows of bytes, scored without being unpacked.

    Attributes:
        lossy: whether what it keeps ranks neighbours noticeably differently.
    """

    name: ClassVar[str]
    lossy: ClassVar[bool]

    @classmethod
    def fit(cls, sample: Vectors) -> Self:
        """Learn from float32 (n, dim)."""
        ...

    @property
    def dim(self) -> int:
        """Width of the vectors."""
        ...

    @property
    def bytes_per_vector(self) -> int:
        """Bytes of one code."""
        ...

    @property
    def model_bytes(self) -> int:
        """Bytes that all vectors share."""
        ...

    def encode(self, vectors: Vectors) -> Bytes:
        """float32 (n, dim) -> uint8 (n, bytes_per_vector)."""
        ...

    def decode(self, codes: Bytes) -> Vectors:
        """uint8 (n, bytes_per_vector) -> float32 (n, dim), as near as the code allows."""
        ...

    def scores(self, query: Vectors, codes: Bytes) -> Vectors:
        """Inner products of float32 (dim,) with coded vectors: float32 (n,)."""
        ...


@dataclass(frozen=True, slots=True)
class FloatCodec:
    """float32 as it is."""

    dim: int
    name: ClassVar[str] = "f32"
    lossy: ClassVar[bool] = False
    model_bytes: ClassVar[int] = 0

    @classmethod
    def fit(cls, sample: Vectors) -> Self:
        """Nothing to learn but the width."""
        return cls(sample.shape[1])

    @property
    def bytes_per_vector(self) -> int:
        """Bytes of one code."""
        return 4 * self.dim

    def encode(self, vectors: Vectors) -> Bytes:
        """See `Codec.encode`."""
        return np.ascontiguousarray(vectors, np.float32).view(np.uint8)

    def decode(self, codes: Bytes) -> Vectors:
        """See `Codec.decode`."""
        return codes.view(np.float32)

    def scores(self, query: Vectors, codes: Bytes) -> Vectors:
        """See `Codec.scores`."""
        return self.decode(codes) @ query


@dataclass(frozen=True, slots=True)
class HalfCodec(FloatCodec):
    """float16, whose numbers end at 65,504."""

    name: ClassVar[str] = "f16"

    @property
    def bytes_per_vector(self) -> int:
        """Bytes of one code."""
        return 2 * self.dim

    def encode(self, vectors: Vectors) -> Bytes:
        """See `Codec.encode`."""
        if len(vectors) and np.abs(vectors).max() > _HALF_MOST:
            fix = "scale the vectors, or search by cosine"
            raise InputError("a vector is too large for half precision", field="vectors", fix=fix)
        return np.ascontiguousarray(vectors, np.float16).view(np.uint8)

    def decode(self, codes: Bytes) -> Vectors:
        """See `Codec.decode`."""
        return _widened(codes.view(np.int16))

    def scores(self, query: Vectors, codes: Bytes) -> Vectors:
        """See `Codec.scores`; a block at a time, since numpy has no product of halves."""
        out = np.empty(len(codes), np.float32)
        for start in range(0, len(codes), _HALF_BLOCK):
            block = self.decode(codes[start : start + _HALF_BLOCK])
            np.dot(block, query, out=out[start : start + len(block)])
        return out


@dataclass(frozen=True, slots=True)
class BinaryCodec:
    """Signs about the mean after a learnt rotation (ITQ, Gong & Lazebnik 2011), and the scale that makes scores fair.

    The scale is that of RaBitQ (Gao & Long 2024): with it the inner product of a query, not itself reduced
    to signs, with a code is right on average, so it can be compared with scores of other codecs.

    Attributes:
        mean: float32 (dim,).
        rotation: float32 (dim, dim).
    """

    mean: Vectors
    rotation: Vectors
    name: ClassVar[str] = "binary"
    lossy: ClassVar[bool] = True

    @classmethod
    def fit(cls, sample: Vectors, *, seed: int = 0) -> Self:
        """Learn the rotation that brings vectors nearest to their signs."""
        return finished(cls.steps(sample, seed=seed))

    @classmethod
    def steps(cls, sample: Vectors, *, seed: int = 0) -> Generator[None, None, Self]:
        """`fit`, a slice at a time."""
        mean, dim = sample.mean(0, dtype=np.float32), sample.shape[1]
        points = sampled(sample, _SAMPLE, seed) - mean
        rotation = np.linalg.qr(np.random.default_rng(seed).standard_normal((dim, dim)))[0].astype(np.float32)
        for _ in range(_ROUNDS):
            left, _, right = np.linalg.svd(points.T @ np.sign(points @ rotation))
            rotation = (left @ right).astype(np.float32)
            yield
        return cls(mean, rotation)

    @property
    def dim(self) -> int:
        """Width of the vectors."""
        return len(self.mean)

    @property
    def bytes_per_vector(self) -> int:
        """Bytes of one code."""
        return self._octets + _SCALE_BYTES

    @property
    def model_bytes(self) -> int:
        """Bytes that all vectors share."""
        return self.mean.nbytes + self.rotation.nbytes

    def encode(self, vectors: Vectors) -> Bytes:
        """float32 (n, dim) -> uint8 (n, dim / 8 + 2): signs, then the scale as float16."""
        out = np.empty((len(vectors), self.bytes_per_vector), np.uint8)
        for start in range(0, len(vectors), _BLOCK):
            turned = (vectors[start : start + _BLOCK] - self.mean) @ self.rotation
            length = np.einsum("ij,ij->i", turned, turned)
            scale = (length / np.maximum(np.abs(turned).sum(1), 1e-12)).astype(np.float16)
            out[start : start + _BLOCK, : self._octets] = np.packbits(turned > 0, axis=1)
            out[start : start + _BLOCK, self._octets :] = scale[:, None].view(np.uint8)
        return out

    def decode(self, codes: Bytes) -> Vectors:
        """See `Codec.decode`."""
        bits = np.unpackbits(codes[:, : self._octets], axis=1, count=self.dim)
        signs = bits.astype(np.float32) * 2 - 1
        return np.asarray((signs * self._scales(codes)[:, None]) @ self.rotation.T + self.mean, np.float32)

    def scores(self, query: Vectors, codes: Bytes) -> Vectors:
        """See `Codec.scores`; of many a table for each byte of signs."""
        turned = np.zeros(8 * self._octets, np.float32)
        turned[: self.dim] = query @ self.rotation
        if len(codes) <= FEW:
            bits = np.unpackbits(codes[:, : self._octets], axis=1).astype(np.float32)
            signed = 2 * (bits @ turned) - turned.sum()
        else:
            signed = looked_up(turned.reshape(-1, 8) @ _PATTERNS, codes)
        return np.asarray(signed * self._scales(codes) + np.float32(query.dot(self.mean)), np.float32)

    @property
    def _octets(self) -> int:
        return -(-self.dim // 8)

    def _scales(self, codes: Bytes) -> Vectors:
        return np.ascontiguousarray(codes[:, self._octets :]).view(np.float16)[:, 0].astype(np.float32)


def _widened(halves: NDArray[np.int16]) -> Vectors:
    """Finite float16, by their bits: exponent and fraction moved into place, the exponent's bias by a product.

    numpy converts halves one by one on processors without an instruction for it.
    """
    bits = halves.astype(np.int32)
    bits <<= np.int32(13)
    bits &= np.int32(-0x70002000)  # the sign, and the 15 bits below the place it was copied to
    wide = bits.view(np.float32)
    wide *= np.float32(2.0**112)
    return wide


# (8, 256): +1 where a byte's bit is set, -1 elsewhere, the first bit highest as in np.packbits
_PATTERNS = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1).T.astype(np.float32) * 2 - 1

CODECS: dict[str, type[Codec]] = {
    codec.name: codec for codec in (FloatCodec, HalfCodec, ProductCodec, BinaryCodec)
}  # from whole to small
