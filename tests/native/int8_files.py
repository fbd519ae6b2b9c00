"""The int8 matrices of a web graph, in plain numpy: what a page makes of the blocks while it loads them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

BLOCK = 32


def with_int8_files(folder: Path, out: Path) -> Path:
    """A copy of a converted model whose web graph can be run anywhere."""
    shutil.copytree(folder, out)
    told = json.loads((folder / "ruvllm-model.json").read_text("utf-8"))
    for matrix in told["web"]["matrices"]:
        weight, scales = int8_matrix(folder, matrix)
        (out / matrix["weight"]).write_bytes(np.ascontiguousarray(weight).tobytes())
        (out / matrix["scales"]).write_bytes(scales.tobytes())
    return out


def int8_matrix(folder: Path, matrix: dict[str, Any]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """int8 (columns, rows) and float32 (rows,)."""
    rows, columns, bits = matrix["rows"], matrix["columns"], matrix["bits"]
    blocks = -(-columns // BLOCK)

    def read(key: str, count: int, dtype: type[np.generic] = np.uint8) -> NDArray[Any]:
        name, offset = matrix[key]
        return np.fromfile(folder / name, dtype, count, offset=offset).reshape(rows, -1)

    def numbers(packed: NDArray[np.uint8]) -> NDArray[np.uint8]:
        return packed if bits == 8 else np.stack([packed & 15, packed >> 4], -1).reshape(rows, -1)

    q = numbers(read("q", rows * blocks * BLOCK * bits // 8)).reshape(rows, blocks, BLOCK)
    zero = numbers(read("zero", rows * -(-blocks * bits // 8)))[:, :blocks, None]
    scale = read("scale", rows * blocks, np.float32)[:, :, None]
    weights = ((q.astype(np.float32) - zero) * scale).reshape(rows, -1)[:, :columns]
    scales = np.abs(weights).max(1) / np.float32(127)
    scales[scales == 0] = 1
    return np.floor(weights / scales[:, None].astype(np.float64) + 0.5).astype(np.int8).T, scales
