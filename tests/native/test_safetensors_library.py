"""Our SafeTensors files against the format's own library, both ways."""

import numpy as np
import pytest

from ruvllm.cli.safetensors import adapter_tensors, export_safetensors, read_safetensors
from ruvllm.learning.lora import LowRank

reference = pytest.importorskip("safetensors.numpy")

ARRAYS = {
    "a": np.arange(6, dtype=np.float32).reshape(2, 3),
    "b": np.array([1, -5], np.int64),
    "c": np.zeros((0, 4), np.float16),
    "d": np.array(2.5, np.float64),
    "e": np.array([True, False]),
    "f": np.array([-3, 4], np.int16),
}


def assert_same(found, expected):
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name].dtype == value.dtype
        np.testing.assert_array_equal(found[name], value)


def test_it_reads_what_we_write():
    assert_same(reference.load(export_safetensors(ARRAYS, {"k": "v"})), ARRAYS)


def test_we_read_what_it_writes():
    found, metadata = read_safetensors(reference.save(ARRAYS, {"k": "v"}))
    assert_same(found, ARRAYS)
    assert metadata == {"k": "v"}


def test_it_reads_an_adapter_as_peft_lays_it_out():
    adapter = LowRank(16, 2)
    tensors = reference.load(adapter_tensors(adapter))
    np.testing.assert_array_equal(tensors["lora_A.weight"], adapter.down.T)
    np.testing.assert_array_equal(tensors["lora_B.weight"], adapter.up.T)
    assert tensors["lora_A.weight"].shape == (2, 16)
