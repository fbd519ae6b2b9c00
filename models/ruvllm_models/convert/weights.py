"""Weights on their way from a source into shards, some rows at a time, with what each loses."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, external_data_helper

from ruvllm_models.convert.blocks import BLOCK, EXACT, OFFSET, Blocks, blocks_of, offset_blocks
from ruvllm_models.convert.shards import Region, Shards
from ruvllm_models.convert.tensor import Tensor

_CHUNK = 4 << 20  # numbers that are in memory at a time, of each of a few copies


@dataclass(frozen=True, slots=True)
class Report:
    """What became of a tensor.

    Attributes:
        source: its kind before.
        bits: of a number after it, 32 for float32.
        relative: root of the mean squared error over that of the weights themselves.
        largest: the largest error of one weight.
    """

    name: str
    source: str
    bits: int
    relative: float
    largest: float


@dataclass(frozen=True, slots=True)
class Matrix:
    """A matrix (rows, columns) in the graph.

    Attributes:
        bits: 4 or 8 in blocks, 32 for float32.
        flat: of a table in blocks: the same bytes as (rows, bytes), for a lookup.
        offset: (rows, blocks) that each sum over a block of the input is multiplied with and added.
    """

    rows: int
    columns: int
    bits: int
    data: str
    flat: str = ""
    scale: str = ""
    zero: str = ""
    offset: Matrix | None = None


class Writer:
    """Writes matrices and keeps their initialisers.

    Args:
        advance: called with the bytes of the source that are done.
    """

    def __init__(self, shards: Shards, advance: Callable[[int], None]) -> None:
        self._shards, self._advance = shards, advance
        self.initialisers: list[TensorProto] = []
        self.reports: list[Report] = []

    def matrix(self, name: str, parts: Sequence[Tensor], bits: int, *, table: bool = False) -> Matrix:
        """Tensors one below the other as one matrix; columns that are no whole blocks stay float32.

        Args:
            table: its rows are looked up, too.
        """
        rows, columns = sum(part.rows for part in parts), parts[0].shape[-1]
        if bits == 32 or columns % BLOCK:
            return self._dense(name, parts, rows, columns)
        offset = bits == 4 and not table and any(part.kind in OFFSET for part in parts)
        body = self._blocks(name, rows, columns, bits, table)
        rest = self._blocks(f"{name}.offset", rows, columns // BLOCK, 8, False) if offset else None
        for part in parts:
            error = _Error()
            for start, stop in _chunks(part):
                made, values = blocks_of(part, start, stop, bits, offset=offset)
                body.write(made)
                became = made.floats()
                if rest is not None:
                    shift = offset_blocks(made.offset_or_zeros())
                    rest.write(shift)
                    became += np.repeat(shift.floats()[:, : columns // BLOCK], BLOCK, axis=1)
                if bits not in EXACT.get(part.kind, ()):
                    error.add(values, became)
                self._advance((stop - start) * part.data.shape[1])
            self.reports.append(error.report(part, bits))
        return replace(body.matrix, offset=None if rest is None else rest.matrix)

    def _blocks(self, name: str, rows: int, columns: int, bits: int, table: bool) -> _Regions:
        """Room for a matrix in blocks, and its initialisers."""
        blocks = -(-columns // BLOCK)
        body, zeros = BLOCK * bits // 8, -(-blocks * bits // 8)
        data, scale, zero = (self._shards.region(rows * n) for n in (blocks * body, blocks * 4, zeros))
        flat = f"{name}.flat" if table else ""
        matrix = Matrix(rows, columns, bits, f"{name}.q", flat, f"{name}.scale", f"{name}.zero")
        self._external(matrix.data, TensorProto.UINT8, (rows, blocks, body), data)
        if table:
            self._external(flat, TensorProto.UINT8, (rows, blocks * body), data)
        self._external(matrix.scale, TensorProto.FLOAT, (rows, blocks), scale)
        self._external(matrix.zero, TensorProto.UINT8, (rows, zeros), zero)
        return _Regions(matrix, data, scale, zero)

    def array(self, name: str, values: NDArray[np.float32]) -> str:
        """A larger constant."""
        region = self._shards.region(values.nbytes)
        region.write(values)
        self._external(name, TensorProto.FLOAT, values.shape, region)
        return name

    def _dense(self, name: str, parts: Sequence[Tensor], rows: int, columns: int) -> Matrix:
        region = self._shards.region(rows * columns * 4)
        for part in parts:
            for start, stop in _chunks(part):
                region.write(part.floats(start, stop))
                self._advance((stop - start) * part.data.shape[1])
            self.reports.append(Report(part.name, part.kind, 32, 0.0, 0.0))
        self._external(name, TensorProto.FLOAT, (rows, columns), region)
        return Matrix(rows, columns, 32, name)

    def _external(self, name: str, dtype: int, shape: tuple[int, ...], region: Region) -> None:
        tensor = TensorProto(name=name, data_type=dtype, dims=shape, data_location=TensorProto.EXTERNAL)
        tensor.raw_data = b""
        external_data_helper.set_external_data(tensor, region.location, region.offset, region.length)
        tensor.ClearField("raw_data")
        self.initialisers.append(tensor)


@dataclass(frozen=True, slots=True)
class _Regions:
    """Where the blocks of a matrix go."""

    matrix: Matrix
    data: Region
    scale: Region
    zero: Region

    def write(self, made: Blocks) -> None:
        q, zero = made.packed()
        self.data.write(q)
        self.scale.write(made.scale)
        self.zero.write(zero)


class _Error:
    """Sums over the chunks of a tensor."""

    def __init__(self) -> None:
        self._lost = self._whole = self._largest = 0.0

    def add(self, values: NDArray[np.float32], became: NDArray[np.float32]) -> None:
        gap = values - became
        self._lost += float(np.vdot(gap, gap))
        self._whole += float(np.vdot(values, values))
        self._largest = max(self._largest, float(np.abs(gap).max()))

    def report(self, part: Tensor, bits: int) -> Report:
        relative = (self._lost / self._whole) ** 0.5 if self._whole else 0.0
        return Report(part.name, part.kind, bits, relative, self._largest)


def _chunks(part: Tensor) -> list[tuple[int, int]]:
    step = max(1, _CHUNK // part.shape[-1])
    return [(start, min(start + step, part.rows)) for start in range(0, part.rows, step)]
