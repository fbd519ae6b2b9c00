"""A weight where it lies in its file: rows become float32 when they are asked for."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ruvllm.errors import ArtifactError
from ruvllm_models.convert.spec import DecoderSpec

FLOATS = {"F32": 4, "F16": 2, "BF16": 2}  # bytes of a number
# Numbers and bytes of a block. Where rows are no multiple of 256, files named after a K kind hold Q5_0, Q5_1 or Q8_0.
QUANTISED = {"Q4_0": (32, 18), "Q4_1": (32, 20), "Q5_0": (32, 22), "Q5_1": (32, 24), "Q8_0": (32, 34)}
QUANTISED |= {"Q4_K": (256, 144), "Q5_K": (256, 176), "Q6_K": (256, 210)}
_LARGEST = 1e9  # whose squares can still be summed up


def row_bytes(kind: str, columns: int) -> int:
    """Bytes of a row of a kind; 0 if it has no such rows."""
    if kind in FLOATS:
        return FLOATS[kind] * columns
    numbers, size = QUANTISED.get(kind, (1, 0))
    return columns // numbers * size if columns % numbers == 0 else 0


@dataclass(frozen=True, slots=True, eq=False)
class Tensor:
    """One weight of a file.

    Attributes:
        name: as the file has it, for messages.
        kind: a key of FLOATS or QUANTISED.
        shape: (out, in) or (n,).
        data: uint8 (rows, bytes of a row), mapped from the file.
        order: rows (of (n,): numbers) in another order than the file's, None for the file's.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    data: NDArray[np.uint8]
    order: NDArray[np.int64] | None = None

    @property
    def rows(self) -> int:
        """Rows of a matrix, 1 of a vector."""
        return prod(self.shape[:-1])

    def raw(self, start: int, stop: int) -> NDArray[np.uint8]:
        """uint8 (stop - start, bytes of a row): a copy, as it lies in the file."""
        if self.order is not None and len(self.shape) > 1:
            return np.asarray(self.data[self.order[start:stop]])
        return np.array(self.data[start:stop])

    def floats(self, start: int = 0, stop: int | None = None) -> NDArray[np.float32]:
        """float32 (stop - start, in); of a vector (n,).

        Raises:
            ArtifactError: a number is not finite, or so large that the file must be damaged.
        """
        with np.errstate(over="ignore", invalid="ignore"):
            values = _decode(self.raw(start, self.rows if stop is None else stop), self.kind)
        if values.size and not -_LARGEST < values.min() <= values.max() < _LARGEST:  # of NaN neither holds
            message = f"tensor {self.name!r} holds numbers that are not finite, or that no weight has"
            raise ArtifactError(message, field=self.name, fix="download or convert the source again")
        if len(self.shape) > 1:
            return values
        return np.asarray(values[0] if self.order is None else values[0][self.order])


class Source(Protocol):
    """A model's file or folder."""

    spec: DecoderSpec
    tensors: dict[str, Tensor]  # by the names of spec.tensors_of


def _decode(raw: NDArray[np.uint8], kind: str) -> NDArray[np.float32]:
    if kind == "F32":
        return raw.view("<f4").astype(np.float32)
    if kind == "F16":
        return raw.view("<f2").astype(np.float32)
    if kind == "BF16":
        return (raw.view("<u2").astype(np.uint32) << 16).view(np.float32)
    from gguf import GGMLQuantizationType, quants

    return np.asarray(quants.dequantize(raw, GGMLQuantizationType[kind]), np.float32)
