"""Learnt arrays to bytes and back: an npz file that says what it holds, checked before anything is believed.

The bytes may come from a damaged state file or from another machine, so nothing is unpickled or inflated,
and no array is made before its size is known to be what the file really holds.
"""

from __future__ import annotations

import ast
import json
import struct
from collections.abc import Mapping
from io import BytesIO
from typing import Any
from zipfile import ZIP_STORED, BadZipFile, ZipFile

import numpy as np
from numpy.typing import NDArray

from ruvllm.errors import InputError, RuvllmError, StoreError
from ruvllm.lazy_dataclass import dataclass
from ruvllm.text.depth import deeper
from ruvllm.text.surrogates import well_formed

Arrays = dict[str, NDArray[Any]]

_VERSION, _KIND = "format", "format.kind"
_DTYPES = frozenset({"float64", "float32", "int64", "int32", "uint8", "bool"})
_MOST_ENTRIES = 256
_LONGEST_HEADER = 4_096  # bytes of an array's header in the file
_LONGEST_ARRAY = 1 << 30  # along one axis
_DEEPEST = 32
_MAGIC = b"\x93NUMPY\x01\x00"
# What zipfile, struct and literal_eval raise on damaged input; an offset overflows where addresses have 32 bits.
_DAMAGE = (ValueError, SyntaxError, OSError, EOFError, KeyError, BadZipFile, struct.error, RuntimeError, OverflowError)
_MADE_BY_PACK = "give bytes that `pack` of this version made"


@dataclass(frozen=True, slots=True)
class Spec:
    """What one array has to look like.

    Attributes:
        shape: a number is that length, a name any length, the same wherever the name stands again.
        dtype: as numpy names it.
    """

    shape: tuple[int | str, ...]
    dtype: str = "float32"
    optional: bool = False


def pack(arrays: Mapping[str, NDArray[Any]], kind: str, version: int = 1) -> bytes:
    """An npz file of the arrays, little-endian and not compressed.

    Args:
        kind: what they are, e.g. "lora"; `unpack` asks for the same.

    Raises:
        InputError: an array of another dtype than the ones above.
    """
    ready: dict[str, Any] = {_VERSION: np.array([version], np.int32), _KIND: np.frombuffer(kind.encode(), np.uint8)}
    for name, value in arrays.items():
        if value.dtype.name not in _DTYPES or name in ready:
            message = f"array {name!r} of {value.dtype} cannot be packed"
            raise InputError(message, field=name, fix=f"use one of {', '.join(sorted(_DTYPES))}")
        ready[name] = np.ascontiguousarray(value, value.dtype.newbyteorder("<")).reshape(value.shape)
    file = BytesIO()
    np.savez(file, **ready)
    return file.getvalue()


def unpack(
    data: bytes,
    kind: str,
    specs: Mapping[str, Spec],
    version: int = 1,
    *,
    most_bytes: int = 64 << 20,
    error: type[RuvllmError] = StoreError,
) -> Arrays:
    """The arrays that `pack` wrote, each a copy that can be written to.

    Args:
        most_bytes: longer data is refused unread.
        error: what is raised: StoreError for the state file, InputError for what came from elsewhere.

    Raises:
        RuvllmError: of the type `error`, when the data is damaged, of another kind, version or shape,
            or holds numbers that are not finite.
    """
    try:
        if len(data) > most_bytes:
            raise ValueError(f"{len(data)} bytes are more than {most_bytes}")
        found = _read(data)
        stored_kind = found.pop(_KIND, np.zeros(0, np.uint8)).tobytes()
        if stored_kind != kind.encode():
            raise ValueError(f"it holds {stored_kind[:32]!r}")
        if found.pop(_VERSION, np.zeros(1, np.int32)).tolist() != [version]:
            raise ValueError(f"its layout is not version {version}")
        _check(found, specs)
    except _DAMAGE as bad:
        raise error(f"no usable {kind} weights: {bad}"[:240], field=kind, fix=_MADE_BY_PACK) from None
    return found


def _read(data: bytes) -> Arrays:
    with ZipFile(BytesIO(data)) as file:
        entries = file.infolist()
        if len(entries) > _MOST_ENTRIES or sum(entry.file_size for entry in entries) > len(data):
            raise ValueError("more entries than it can hold")
        found: Arrays = {}
        for entry in entries:
            name = entry.filename.removesuffix(".npy")
            if entry.compress_type != ZIP_STORED or entry.flag_bits & 1 or name in found:
                raise ValueError(f"entry {name[:64]!r} is compressed, encrypted or twice there")
            found[name] = _array(file.read(entry), name)
    return found


def _array(raw: bytes, name: str) -> NDArray[Any]:
    """One .npy file of version 1, whose header has to agree with its length."""
    if not raw.startswith(_MAGIC):
        raise ValueError(f"array {name[:64]!r} has no header")
    (length,) = struct.unpack_from("<H", raw, len(_MAGIC))
    start = len(_MAGIC) + 2 + length
    if length > _LONGEST_HEADER:
        raise ValueError(f"the header of {name[:64]!r} is too long")
    text = raw[len(_MAGIC) + 2 : start].decode("latin-1")
    if text.count("(") + text.count("[") + text.count("{") > 4 or text.count("-") > 4:
        raise ValueError(f"the header of {name[:64]!r} is malformed")  # nesting could end the interpreter's stack
    header = ast.literal_eval(text.strip())
    if not isinstance(header, dict) or header.keys() != {"descr", "fortran_order", "shape"}:
        raise ValueError(f"the header of {name[:64]!r} is malformed")
    descr, shape = header["descr"], header["shape"]
    if not isinstance(descr, str) or not isinstance(shape, tuple) or header["fortran_order"] is not False:
        raise ValueError(f"array {name[:64]!r} is laid out in another way")
    # No rows of some width are few bytes: a length may be larger than the file.
    if len(shape) > 8 or not all(type(n) is int and 0 <= n <= _LONGEST_ARRAY for n in shape):
        raise ValueError(f"array {name[:64]!r} has no usable shape")
    dtype = _dtype(descr, name)
    size = dtype.itemsize
    for n in shape:
        size *= n
    if size != len(raw) - start:
        raise ValueError(f"array {name[:64]!r} is not as long as its shape says")
    return np.frombuffer(raw, dtype, offset=start).reshape(shape).astype(dtype.newbyteorder("="))


def _dtype(descr: str, name: str) -> np.dtype[Any]:
    for form in _DTYPES:
        if descr == np.dtype(form).newbyteorder("<").str:
            return np.dtype(descr)
    raise ValueError(f"array {name[:64]!r} is of dtype {descr[:16]!r}")


def _check(found: Arrays, specs: Mapping[str, Spec]) -> None:
    strange = found.keys() - specs.keys()
    missing = {name for name, spec in specs.items() if not spec.optional} - found.keys()
    if strange or missing:
        raise ValueError(f"arrays {sorted(strange)[:4]} are too many, {sorted(missing)[:4]} missing")
    lengths: dict[str, int] = {}
    for name, value in found.items():
        spec = specs[name]
        if value.dtype.name != spec.dtype or value.ndim != len(spec.shape):
            raise ValueError(f"array {name!r} is {value.dtype} {value.shape}, not {spec.dtype} {spec.shape}")
        for expected, length in zip(spec.shape, value.shape, strict=True):
            if length != (expected if isinstance(expected, int) else lengths.setdefault(expected, length)):
                raise ValueError(f"array {name!r} has shape {value.shape}, not {spec.shape}")
        if value.dtype.kind == "f" and not np.isfinite(value).all():
            raise ValueError(f"array {name!r} holds what are no finite numbers")
        if value.dtype == bool and (value.view(np.uint8) > 1).any():
            raise ValueError(f"array {name!r} holds what are no truth values")


def json_array(value: Any) -> NDArray[np.uint8]:
    """Names and other plain JSON as an array to pack: uint8 (bytes,)."""
    return np.frombuffer(well_formed(json.dumps(value, ensure_ascii=False, sort_keys=True)).encode(), np.uint8)


def array_json(array: NDArray[np.uint8], field: str, error: type[RuvllmError] = StoreError) -> Any:
    """What `json_array` was given. Raises RuvllmError: of the type `error`, when it is no JSON or nested too deeply."""
    try:
        return read_json(array.tobytes())
    except ValueError as bad:
        raise error(f"{field} is damaged: {bad}"[:240], field=field, fix=_MADE_BY_PACK) from None


def read_json(data: bytes) -> Any:
    """JSON from elsewhere: no key twice, no NaN, and no deeper than a browser's stack can follow.

    Raises:
        ValueError: it is none of that.
    """
    text = data.decode()
    if deeper(text, _DEEPEST):
        raise ValueError("nested too deeply")
    return json.loads(text, object_pairs_hook=_once, parse_constant=_no_constant)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands twice")
    return found


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no number")
