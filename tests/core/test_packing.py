import json
import zipfile
from io import BytesIO

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ruvllm.errors import InputError, RuvllmError, StoreError
from ruvllm.state.packing import Spec, array_json, json_array, pack, read_json, unpack

SPECS = {
    "down": Spec(("n", 3)),
    "up": Spec(("n",), "int64"),
    "names": Spec(("bytes",), "uint8"),
    "seen": Spec((), "bool", optional=True),
}


def arrays():
    return {
        "down": np.arange(6, dtype=np.float32).reshape(2, 3),
        "up": np.array([1, -(2**40)], np.int64),
        "names": json_array(["a", "ü"]),
        "seen": np.array(True),
    }


def npy(value, version=(1, 0)):
    file = BytesIO()
    np.lib.format.write_array(file, value, version=version, allow_pickle=True)
    return file.getvalue()


def archive(entries, compression=zipfile.ZIP_STORED):
    file = BytesIO()
    with zipfile.ZipFile(file, "w", compression) as made:
        for name, data in entries:
            made.writestr(name, data)
    return file.getvalue()


def labelled(**raw):
    """A file of the right kind and version with these .npy contents."""
    ends = {"format": npy(np.array([1], np.int32)), "format.kind": npy(np.frombuffer(b"k", np.uint8))}
    return archive([(f"{name}.npy", data) for name, data in (ends | raw).items()])


def test_what_was_packed_comes_back():
    found = unpack(pack(arrays(), "k"), "k", SPECS)
    for name, value in arrays().items():
        assert found[name].dtype == value.dtype
        np.testing.assert_array_equal(found[name], value)
    found["down"][0] = 7  # a copy, not the file
    assert array_json(found["names"], "names") == ["a", "ü"]


def test_the_same_arrays_make_the_same_bytes():
    assert pack(arrays(), "k") == pack(arrays(), "k")


def test_slices_and_big_endian_arrays_are_packed_as_they_read():
    value = np.arange(12, dtype=">f4").reshape(3, 4).T
    found = unpack(pack({"a": value}, "k"), "k", {"a": Spec((4, 3))})
    np.testing.assert_array_equal(found["a"], value)


def test_an_optional_array_may_be_absent():
    known = arrays()
    del known["seen"]
    assert "seen" not in unpack(pack(known, "k"), "k", SPECS)


@pytest.mark.parametrize(
    "change",
    [
        {"down": np.zeros((2, 4), np.float32)},
        {"down": np.zeros((3, 3), np.float32)},  # n is 2 elsewhere
        {"down": np.zeros((2, 3), np.float64)},
        {"down": np.full((2, 3), np.nan, np.float32)},
        {"up": np.zeros((2, 1), np.int64)},
        {"more": np.zeros(1, np.float32)},
    ],
)
def test_other_shapes_and_dtypes_are_refused(change):
    with pytest.raises(StoreError, match="no usable k weights"):
        unpack(pack(arrays() | change, "k"), "k", SPECS)


def test_other_kinds_versions_and_lengths_are_refused():
    data = pack(arrays(), "k")
    with pytest.raises(InputError, match="holds b'k'"):
        unpack(data, "other", SPECS, error=InputError)
    with pytest.raises(StoreError, match="version 2"):
        unpack(data, "k", SPECS, 2)
    with pytest.raises(StoreError, match="more than 100"):
        unpack(data, "k", SPECS, most_bytes=100)
    with pytest.raises(InputError, match="cannot be packed"):
        pack({"a": np.array(["text"])}, "k")


def header(text):
    padded = text.encode() + b" " * 20
    return b"\x93NUMPY\x01\x00" + len(padded).to_bytes(2, "little") + padded


@pytest.mark.parametrize(
    "raw",
    [
        npy(np.array([{}], object)),  # pickled
        npy(np.zeros(2, ">f4")),
        npy(np.asfortranarray(np.zeros((2, 2), np.float32))),
        npy(np.zeros(2, np.float32), version=(2, 0)),
        npy(np.zeros(2, np.float32))[:-1],
        npy(np.zeros(2, np.float32)) + b"x",
        b"",
        header("{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000,)}"),
        header("{'descr': '<f4', 'fortran_order': False, 'shape': (-1,)}"),
        header("{'descr': '<f4', 'fortran_order': False, 'shape': (True,)}"),
        header("{'descr': '<f4', 'fortran_order': False, 'shape': 5}"),
        header("[" * 3000),
        header("-" * 3000 + "1"),
        header("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (0,)}"),
        header("__import__('os').abort()"),
    ],
)
def test_hostile_arrays_are_refused(raw):
    with pytest.raises(StoreError):
        unpack(labelled(a=raw), "k", {"a": Spec(("n",))})


def test_the_hostile_arrays_are_refused_for_what_they_are():
    found = unpack(labelled(a=npy(np.zeros(2, np.float32))), "k", {"a": Spec(("n",))})
    assert found["a"].tolist() == [0, 0]


def test_a_compressed_file_is_refused_unread():
    bomb = archive([("a.npy", bytes(10_000_000))], zipfile.ZIP_DEFLATED)
    assert len(bomb) < 20_000
    with pytest.raises(StoreError, match="more entries than it can hold"):
        unpack(bomb, "k", {"a": Spec(("n",))})


def test_truth_values_are_nought_or_one():
    raw = npy(np.zeros(1, bool))[:-1] + b"\x07"
    with pytest.raises(StoreError, match="truth values"):
        unpack(labelled(a=raw), "k", {"a": Spec((1,), "bool")})


@given(st.integers(0, 10_000), st.binary(min_size=1, max_size=8))
def test_damage_is_an_error_of_ours_or_does_no_harm(at, noise):
    data = bytearray(pack(arrays(), "k"))
    at %= len(data)
    data[at : at + len(noise)] = noise
    try:
        found = unpack(bytes(data), "k", SPECS)
    except RuvllmError:
        return
    assert found["down"].shape[1] == 3


@pytest.mark.parametrize("text", ['{"a": 1, "a": 2}', "[" * 100_000, "NaN", "{", '"\udcff"', ""])
def test_hostile_json_is_refused(text):
    with pytest.raises(ValueError, match=r".|^$"):
        read_json(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(StoreError, match="names is damaged"):
        array_json(np.frombuffer(text.encode("utf-8", "surrogatepass"), np.uint8), "names")


def test_brackets_in_strings_are_no_depth():
    text = json.dumps(["[" * 1000, '"[' * 1000])
    assert read_json(text.encode()) == json.loads(text)


def test_no_rows_of_some_width_are_kept():
    data = pack({"rows": np.zeros((0, 4_096), np.float32)}, "empty")
    assert unpack(data, "empty", {"rows": Spec(("n", 4_096))})["rows"].shape == (0, 4_096)
