"""Adapters as SafeTensors files, which other programs read: written and read without any library."""

from __future__ import annotations

import json
from collections.abc import Mapping
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ruvllm.errors import InputError
from ruvllm.learning.lora import LowRank
from ruvllm.state.packing import Arrays, read_json

_DTYPES = {
    "F64": "<f8",
    "F32": "<f4",
    "F16": "<f2",
    "I64": "<i8",
    "I32": "<i4",
    "I16": "<i2",
    "I8": "|i1",
    "U8": "|u1",
    "BOOL": "|b1",
}
_NAMES = {np.dtype(form).name: name for name, form in _DTYPES.items()}
_METADATA = "__metadata__"
_LONGEST_HEADER = 1 << 20  # bytes
_LARGEST = 1 << 30
_FIX = "give a .safetensors file of plain tensors (F32, F16, …)"


def export_safetensors(arrays: Mapping[str, NDArray[Any]], metadata: Mapping[str, str] | None = None) -> bytes:
    """A SafeTensors file of the arrays, widest dtype first so that each lies aligned.

    Raises:
        InputError: an array of a dtype that the format has not, or a reserved name.
    """
    header: dict[str, Any] = {_METADATA: dict(metadata)} if metadata else {}
    blobs: list[bytes] = []
    end = 0
    for name in sorted(arrays, key=lambda name: (-arrays[name].itemsize, name)):
        value = arrays[name]
        if value.dtype.name not in _NAMES or name == _METADATA:
            raise InputError(f"tensor {name!r} of {value.dtype} cannot be written", field=name, fix=_FIX)
        blobs.append(np.asarray(value, value.dtype.newbyteorder("<")).tobytes())
        start, end = end, end + len(blobs[-1])
        dtype = _NAMES[value.dtype.name]
        header[name] = {"dtype": dtype, "shape": list(value.shape), "data_offsets": [start, end]}
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + b"".join(blobs)


def read_safetensors(data: bytes) -> tuple[Arrays, dict[str, str]]:
    """The tensors of a SafeTensors file, copies, and its metadata.

    Raises:
        InputError: it is damaged, too large, or of dtypes that numpy has not.
    """
    try:
        size = int.from_bytes(data[:8], "little")
        if not 8 <= len(data) <= _LARGEST or size > min(_LONGEST_HEADER, len(data) - 8):
            raise ValueError("the header does not fit into it")
        header = read_json(data[8 : 8 + size])
        if not isinstance(header, dict):
            raise ValueError("the header is no object")
        metadata = header.pop(_METADATA, {})
        if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
            raise ValueError("the metadata is no object of strings")
        return _tensors(header, data[8 + size :]), metadata
    except (ValueError, KeyError, TypeError) as bad:
        raise InputError(f"no usable SafeTensors file: {bad}"[:240], field="safetensors", fix=_FIX) from None


def _tensors(header: dict[str, Any], body: bytes) -> Arrays:
    found: Arrays = {}
    end = 0
    for name, entry in sorted(header.items(), key=lambda item: _span(item[1])):
        start, stop = _span(entry)
        shape, form = entry["shape"], _DTYPES[entry["dtype"]]
        if not isinstance(shape, list) or len(shape) > 8 or not all(_length(n) for n in shape):
            raise ValueError(f"tensor {name[:64]!r} has no usable shape")
        if start != end or stop - start != prod(shape) * np.dtype(form).itemsize or stop > len(body):
            raise ValueError(f"tensor {name[:64]!r} does not lie where it should")
        if entry["dtype"] == "BOOL" and not set(body[start:stop]) <= {0, 1}:
            raise ValueError(f"tensor {name[:64]!r} holds what are no truth values")
        value = np.frombuffer(body, form, prod(shape), start)
        found[name] = value.reshape(shape).astype(value.dtype.newbyteorder("="))
        end = stop
    if end != len(body):
        raise ValueError("bytes follow the last tensor")
    return found


def _length(n: Any) -> bool:
    return type(n) is int and 0 <= n <= _LARGEST


def _span(entry: Any) -> tuple[int, int]:
    start, stop = entry["data_offsets"]
    if not _length(start) or not _length(stop):
        raise ValueError("an offset is no number of bytes")
    return start, stop


def adapter_tensors(adapter: LowRank) -> bytes:
    """A SafeTensors file of one adapter with the names and orientation of PEFT; alpha in its metadata."""
    tensors = {"lora_A.weight": adapter.down.T, "lora_B.weight": adapter.up.T}
    return export_safetensors(tensors, {"lora_alpha": repr(adapter.alpha), "r": str(adapter.rank)})


def adapter_from(data: bytes) -> LowRank:
    """What `adapter_tensors` gave. Raises InputError: it is no adapter."""
    tensors, metadata = read_safetensors(data)
    try:
        down, up = tensors["lora_A.weight"].T, tensors["lora_B.weight"].T
        alpha = float(metadata["lora_alpha"])
    except (KeyError, ValueError) as bad:
        message = f"no adapter of embeddings: {bad}"[:200]
        raise InputError(message, field="safetensors", fix="give a file that `adapter_tensors` made") from None
    arrays = {"down": down.astype(np.float32), "up": up.astype(np.float32), "alpha": np.array(alpha)}
    return LowRank.from_arrays(arrays, InputError)


ADAPTER = "adapter_model.safetensors"
_CARD = """---
library_name: ruvllm
tags: [lora, routing, embeddings]
---
# An adapter of ruvllm

Two low-rank maps of unit vectors in the space {space}: y = unit(x + alpha / r · x A B), `micro` of rank {micro} and
`base` of rank {base}. `ruvllm learn import FOLDER` takes them up.
"""


def hub_files(arrays: Mapping[str, NDArray[Any]], space: str, weights: bytes) -> dict[str, bytes]:
    """The files of a folder as the Hugging Face Hub has adapters, by name.

    Args:
        arrays: of SonaEngine.adapters().
        space: of the vectors that they adapt.
        weights: the same arrays as a SafeTensors file.
    """
    micro, base = (arrays[f"{name}.down"].shape[1] for name in ("micro", "base"))
    config = {"peft_type": "LORA", "task_type": "FEATURE_EXTRACTION", "base_model_name_or_path": space, "r": base}
    config |= {"lora_alpha": float(arrays["base.alpha"]), "lora_dropout": 0.0, "rank_pattern": {"micro": micro}}
    card = _CARD.format(space=space, micro=micro, base=base)
    return {
        ADAPTER: weights,
        "adapter_config.json": f"{json.dumps(config, indent=2)}\n".encode(),
        "README.md": card.encode(),
    }
