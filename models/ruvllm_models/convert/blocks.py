"""Weights in blocks of 32 with a scale and a whole zero point each, as MatMulNBits reads them.

A weight is scale · (q - zero). Q4_0, Q5_0 and Q8_0 are such blocks already and lose nothing. Q4_K and Q4_1 have a
minimum in place of the zero point: what is left of it when that is whole is an offset, the same for a whole block.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ruvllm_models.convert.tensor import QUANTISED, Tensor

BLOCK = 32
EXACT = {"Q4_0": (4, 8), "Q5_0": (8,), "Q8_0": (8,)}  # the bits that a kind can be taken over in, unchanged
OFFSET = {"Q4_1", "Q4_K"}  # taken over in 4 bits, with an offset
# Clipping the ends of a block often costs less than a coarser grid for all of it.
_SHRINK = {4: (1.0, 0.94, 0.88, 0.8), 8: (1.0,)}


@dataclass(frozen=True, slots=True, eq=False)
class Blocks:
    """Some rows of a matrix.

    Attributes:
        q: uint8 (rows, blocks, BLOCK), below 2^bits.
        scale: float32 (rows, blocks).
        zero: uint8 (rows, blocks).
        offset: float32 (rows, blocks) that every weight of a block has beside it, None for nothing.
    """

    bits: int
    q: NDArray[np.uint8]
    scale: NDArray[np.float32]
    zero: NDArray[np.uint8]
    offset: NDArray[np.float32] | None = None

    def floats(self) -> NDArray[np.float32]:
        """float32 (rows, blocks · BLOCK): what the weights became, without their offset."""
        centred = self.q.astype(np.float32) - self.zero[:, :, None]
        return (centred * self.scale[:, :, None]).reshape(len(self.q), -1)

    def offset_or_zeros(self) -> NDArray[np.float32]:
        """float32 (rows, blocks)."""
        return np.zeros_like(self.scale) if self.offset is None else self.offset

    def packed(self) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """q as (rows, blocks, BLOCK · bits / 8) and zero as (rows, ⌈blocks · bits / 8⌉), low half first."""
        if self.bits == 8:
            return self.q, self.zero
        zero = self.zero if self.zero.shape[1] % 2 == 0 else np.pad(self.zero, ((0, 0), (0, 1)))
        return _pairs(self.q), _pairs(zero)


def blocks_of(
    tensor: Tensor, start: int, stop: int, bits: int, *, offset: bool = False
) -> tuple[Blocks, NDArray[np.float32]]:
    """Some rows in blocks, and as they were: float32 (rows, columns).

    Args:
        offset: the blocks may have one.
    """
    values = tensor.floats(start, stop)
    if bits in EXACT.get(tensor.kind, ()):
        return _taken_over(tensor.raw(start, stop), tensor.kind, bits), values
    if offset and tensor.kind in OFFSET:
        return _with_minima(tensor.raw(start, stop), tensor.kind), values
    return quantise(values, bits), values


def offset_blocks(offset: NDArray[np.float32]) -> Blocks:
    """Offsets (rows, blocks) as blocks of 8 bits themselves, the last one filled up with zeros."""
    return quantise(np.pad(offset, ((0, 0), (0, -offset.shape[1] % BLOCK))), 8)


def quantise(values: NDArray[np.float32], bits: int) -> Blocks:
    """The best of a few grids for each block, by squared error.

    Args:
        values: float32 (rows, columns), columns a multiple of BLOCK.
    """
    x = values.reshape(len(values), -1, BLOCK)
    low, high = np.minimum(x.min(-1), 0), np.maximum(x.max(-1), 0)  # zero itself must lie on the grid's span
    top = 2**bits - 1
    half = 2 ** (bits - 1)
    peak = np.take_along_axis(x, np.abs(x).argmax(-1)[..., None], -1)[..., 0]
    grids = [(-peak / half, np.full(peak.shape, half, np.float32))]
    for shrink in _SHRINK[bits]:
        scale = (high - low) * np.float32(shrink / top)
        grids.append((scale, np.clip(np.rint(-low * shrink / _nonzero(scale)), 0, top)))
    best: Blocks | None = None
    least = np.full(peak.shape, np.inf, np.float32)
    for scale, zero in grids:
        fitted, error = _fit(x, bits, scale, zero)
        if best is None:
            best, least = fitted, error
            continue
        better = error < least
        best.q[better], best.scale[better], best.zero[better] = (
            fitted.q[better],
            fitted.scale[better],
            fitted.zero[better],
        )
        least = np.minimum(least, error)
    assert best is not None
    return best


def _fit(
    x: NDArray[np.float32], bits: int, scale: NDArray[np.float32], zero: NDArray[np.float32]
) -> tuple[Blocks, NDArray[np.float32]]:
    """Rounded to a grid whose scale is then fitted to what was rounded; and the squared error of each block."""
    scale = _nonzero(scale)
    q = np.clip(np.rint(x / scale[..., None]) + zero[..., None], 0, 2**bits - 1)
    centred = q - zero[..., None]
    squares = np.einsum("rbi,rbi->rb", centred, centred)
    scale = np.where(squares > 0, np.einsum("rbi,rbi->rb", x, centred) / _nonzero(squares), 0).astype(np.float32)
    gap = x - centred * scale[..., None]
    error = np.einsum("rbi,rbi->rb", gap, gap)
    return Blocks(bits, q.astype(np.uint8), scale, zero.astype(np.uint8)), error


def _taken_over(raw: NDArray[np.uint8], kind: str, bits: int) -> Blocks:
    """Blocks that begin with a float16 scale; their numbers get the zero point in the middle of `bits`."""
    size = QUANTISED[kind][1]
    blocks = raw.reshape(len(raw), -1, size)
    scale = np.ascontiguousarray(blocks[..., :2]).view("<f2")[..., 0].astype(np.float32)
    middle = 1 << (bits - 1)
    if kind == "Q8_0":
        q = blocks[..., 2:] ^ np.uint8(128)  # signed bytes
    else:
        # Two numbers to a byte, the first half of the block in the low halves; Q5_0's fifth bits lie before them.
        body = blocks[..., -16:]
        q = np.concatenate([body & 15, body >> 4], axis=-1)
        if kind == "Q5_0":
            q |= np.unpackbits(blocks[..., 2:6], axis=-1, bitorder="little") << 4
        q += np.uint8(middle - (16 if kind == "Q5_0" else 8))
    return Blocks(bits, q, scale, np.full(scale.shape, middle, np.uint8))


def _with_minima(raw: NDArray[np.uint8], kind: str) -> Blocks:
    """Blocks whose weights are scale · q - least, q in 4 bits."""
    blocks = raw.reshape(len(raw), -1, QUANTISED[kind][1])
    first, second = (np.ascontiguousarray(blocks[..., at : at + 2]).view("<f2").astype(np.float32) for at in (0, 2))
    if kind == "Q4_1":
        scale, least, body = first[..., 0], -second[..., 0], blocks[..., 4:]
        q = np.concatenate([body & 15, body >> 4], axis=-1)
    else:
        # Eight scales and minima of six bits: four pairs as they are, the others in what those leave free.
        one, two, three = (blocks[..., at : at + 4] for at in (4, 8, 12))
        scales = np.concatenate([one & 63, (three & 15) | (one >> 6 << 4)], axis=-1)
        minima = np.concatenate([two & 63, (three >> 4) | (two >> 6 << 4)], axis=-1)
        scale, least = ((part * whole).reshape(len(raw), -1) for part, whole in ((scales, first), (minima, second)))
        body = blocks[..., 16:].reshape(*blocks.shape[:2], 4, 1, BLOCK)
        q = np.concatenate([body & 15, body >> 4], axis=-2).reshape(*scale.shape, BLOCK)
    zero = np.clip(np.rint(least / _nonzero(scale)), 0, 15)
    return Blocks(4, q, scale, zero.astype(np.uint8), scale * zero - least)


def _pairs(q: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.ascontiguousarray(q[..., 0::2] | (q[..., 1::2] << 4))


def _nonzero(values: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.where(values == 0, np.float32(1), values)
