"""The header of a GGUF file, read with every length checked against the file before anything is made of it.

https://github.com/ggml-org/ggml/blob/master/docs/gguf.md, versions 2 and 3, little-endian.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from functools import partial
from math import prod
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ruvllm.errors import ArtifactError
from ruvllm_models.convert.tensor import FLOATS, QUANTISED, Tensor, row_bytes

_SCALARS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}
_STRING, _ARRAY = 8, 9
_MOST_KEYS, _MOST_TENSORS = 65_536, 65_536
_KINDS = {0: "F32", 1: "F16", 2: "Q4_0", 3: "Q4_1", 6: "Q5_0", 7: "Q5_1", 8: "Q8_0", 10: "Q2_K", 11: "Q3_K"}
_KINDS |= {12: "Q4_K", 13: "Q5_K", 14: "Q6_K", 15: "Q8_K", 16: "IQ2_XXS", 30: "BF16"}


@dataclass(frozen=True, slots=True, eq=False)
class GgufFile:
    """Metadata, and the tensors where they lie."""

    metadata: dict[str, Any]
    tensors: dict[str, Tensor]


def read_gguf(path: Path) -> GgufFile:
    """Map a file and read its header.

    Raises:
        ArtifactError: it is no GGUF, truncated, damaged, or holds a kind of tensor that cannot be read here.
    """
    try:
        with path.open("rb") as file, mmap(file.fileno(), 0, access=ACCESS_READ) as peek:
            reader = _Reader(path.name, peek)
            metadata, infos = reader.header()
            start = reader.data_start(metadata)
        data = np.memmap(path, np.uint8, "r")
    except (OSError, ValueError) as bad:
        raise _damaged(path.name, "file", f"it cannot be read: {bad}") from None
    return GgufFile(metadata, _tensors(path.name, data, start, infos))


@dataclass(frozen=True, slots=True)
class _Info:
    name: str
    dims: tuple[int, ...]  # fastest first, as the format has them
    kind: int
    offset: int


class _Reader:
    def __init__(self, file: str, data: mmap) -> None:
        self._file, self._data, self._at, self._field = file, data, 0, "header"

    def header(self) -> tuple[dict[str, Any], list[_Info]]:
        if self._bytes(4) != b"GGUF":
            raise _damaged(self._file, "magic", "it does not begin with GGUF")
        version = self._scalar("<I")
        if version not in (2, 3):
            raise _damaged(self._file, "version", f"GGUF version {version} is not 2 or 3")
        tensors, keys = self._count("tensors", _MOST_TENSORS), self._count("keys", _MOST_KEYS)
        metadata: dict[str, Any] = {}
        for _ in range(keys):
            self._field = "metadata"
            name = self._string()
            self._field = name or "a key without a name"
            metadata[name] = self._value(self._scalar("<I"))
        self._field = "tensor table"
        return metadata, [self._info() for _ in range(tensors)]

    def data_start(self, metadata: dict[str, Any]) -> int:
        align = metadata.get("general.alignment", 32)
        if type(align) is not int or not 8 <= align <= 1 << 20 or align % 8:
            raise _damaged(self._file, "general.alignment", f"it is {str(align)[:40]}")
        return -(-self._at // align) * align

    def _info(self) -> _Info:
        name = self._string()
        self._field = name or "a tensor without a name"
        dims = tuple(self._scalar("<Q") for _ in range(self._count("dimensions", 4, "<I")))
        info = _Info(name, dims, self._scalar("<I"), self._scalar("<Q"))
        self._field = f"tensor table after {name}"
        return info

    def _value(self, kind: int) -> Any:
        if kind in _SCALARS:
            return self._scalar(_SCALARS[kind])
        if kind == _STRING:
            return self._string()
        if kind != _ARRAY:
            raise _damaged(self._file, self._field, f"type {kind} of a value is unknown")
        inner = self._scalar("<I")
        count = self._count("values", len(self._data))
        if inner in _SCALARS:
            form = np.dtype(_SCALARS[inner])
            return np.frombuffer(self._bytes(count * form.itemsize), form).tolist()
        if inner != _STRING:
            raise _damaged(self._file, self._field, f"an array of type {inner} cannot be read")
        return [self._string() for _ in range(count)]

    def _string(self) -> str:
        return self._bytes(self._scalar("<Q")).decode("utf-8", "replace")

    def _count(self, what: str, most: int, form: str = "<Q") -> int:
        count: int = self._scalar(form)
        if count > most:
            raise _damaged(self._file, self._field, f"{count} {what} are more than can be")
        return count

    def _scalar(self, form: str) -> Any:
        return struct.unpack(form, self._bytes(struct.calcsize(form)))[0]

    def _bytes(self, count: int) -> bytes:
        end = self._at + count
        if end > len(self._data):
            raise _damaged(self._file, self._field, f"it ends at byte {len(self._data)}, inside {self._field!r}")
        found, self._at = self._data[self._at : end], end
        return found


def _tensors(file: str, data: NDArray[np.uint8], start: int, infos: list[_Info]) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    end = start
    for info in sorted(infos, key=lambda info: info.offset):
        fail = partial(_damaged, file, info.name)
        kind = _KINDS.get(info.kind, f"type {info.kind}")
        if kind not in FLOATS and kind not in QUANTISED:
            raise fail(f"it is {kind}; what can be read is {', '.join((*FLOATS, *QUANTISED))}")
        shape = tuple(reversed(info.dims))
        if not shape or not all(0 < dim < 1 << 32 for dim in shape) or info.name in found:
            raise fail(f"its shape is {shape}, or it is there twice")
        width, rows = row_bytes(kind, shape[-1]), prod(shape[:-1])
        first = start + info.offset
        if not width:
            raise fail(f"{shape[-1]} columns are no whole blocks of {kind}")
        if first < end:
            raise fail("it lies over another tensor")
        end = first + rows * width
        if end > len(data):
            raise fail(f"the file ends at byte {len(data)}, the tensor at {end}: it is truncated")
        found[info.name] = Tensor(info.name, kind, shape, data[first:end].reshape(rows, width))
    return found


def _damaged(file: str, field: str, what: str) -> ArtifactError:
    message = f"{file}: {field[:80]}: {what}"
    return ArtifactError(message, field=field[:80], fix="download or convert the file again, as Q4_K_M, Q8_0 or F16")
