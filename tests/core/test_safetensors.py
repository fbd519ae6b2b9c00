import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ruvllm.cli.safetensors import export_safetensors, read_safetensors
from ruvllm.errors import InputError


def arrays():
    return {
        "a.weight": np.arange(6, dtype=np.float32).reshape(2, 3).T,
        "b": np.array([1, -5], np.int64),
        "empty": np.zeros((0, 4), np.float16),
        "one": np.array(2.5, np.float64),
        "flags": np.array([True, False]),
    }


def made(header, body=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + body


def tensor(start=0, end=8, shape=(2,), dtype="F32"):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [start, end]}


def test_what_was_written_is_read():
    found, metadata = read_safetensors(export_safetensors(arrays(), {"alpha": "16"}))
    assert metadata == {"alpha": "16"}
    assert found.keys() == arrays().keys()
    for name, value in arrays().items():
        assert found[name].dtype == value.dtype
        np.testing.assert_array_equal(found[name], value)


def test_tensors_lie_aligned():
    data = export_safetensors(arrays())
    size = int.from_bytes(data[:8], "little")
    assert size % 8 == 0
    for told in json.loads(data[8 : 8 + size]).values():
        wide = {"F64": 8, "I64": 8, "F32": 4, "F16": 2, "BOOL": 1}[told["dtype"]]
        assert told["data_offsets"][0] % wide == 0


def test_the_hand_made_file_is_one():
    found, metadata = read_safetensors(
        made({"x": tensor(), "y": tensor(8, 12, ())}, np.arange(3, dtype="<f4").tobytes())
    )
    assert found["x"].tolist() == [0, 1]
    assert found["y"] == 2
    assert metadata == {}


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff" * 8,
        (1 << 40).to_bytes(8, "little") + bytes(100),
        made(b"{", bytes(8)),
        made(b"[]"),
        made(b'{"x":' + b"[" * 5000),
        made(b'{"x": {"dtype":"F32","shape":[2],"data_offsets":[0,8]}, "x": 1}', bytes(8)),
        made({"x": tensor()}, bytes(7)),
        made({"x": tensor()}, bytes(9)),
        made({"x": tensor(1, 9)}, bytes(9)),  # a gap
        made({"x": tensor(), "y": tensor()}, bytes(8)),  # on top of each other
        made({"x": tensor(shape=(3,))}, bytes(8)),
        made({"x": tensor(shape=(-1, -2))}, bytes(8)),
        made({"x": tensor(shape=(1 << 62, 4))}, bytes(8)),
        made({"x": tensor(shape=(2.0,))}, bytes(8)),
        made({"x": tensor(dtype="BF16")}, bytes(8)),
        made({"x": tensor(0, 2, dtype="BOOL")}, b"\x01\x02"),
        made({"x": {"dtype": "F32"}}, bytes(8)),
        made({"x": 5}),
        made({"x": tensor() | {"data_offsets": ["0", "8"]}}, bytes(8)),
        made({"__metadata__": {"a": 1}}),
        made({"__metadata__": []}),
    ],
)
def test_hostile_files_are_refused(data):
    with pytest.raises(InputError, match="SafeTensors"):
        read_safetensors(data)


@given(st.integers(0, 500), st.binary(min_size=1, max_size=6))
def test_damage_is_an_error_of_ours_or_does_no_harm(at, noise):
    data = bytearray(export_safetensors(arrays(), {"a": "b"}))
    at %= len(data)
    data[at : at + len(noise)] = noise
    try:
        found, _ = read_safetensors(bytes(data))
    except InputError:
        return
    assert sum(value.nbytes for value in found.values()) <= len(data)


def test_what_the_format_has_not_is_refused():
    for bad in ({"a": np.array(["text"])}, {"a": np.zeros(1, complex)}, {"__metadata__": np.zeros(1)}):
        with pytest.raises(InputError, match="cannot be written"):
            export_safetensors(bad)
