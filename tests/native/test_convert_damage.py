"""Files that are truncated, damaged or of another kind: refused by name, and nothing is left behind."""

import json
import random
import struct
import tracemalloc
from contextlib import suppress

import gguf
import numpy as np
import pytest
from decoders import VOCAB, random_decoder, write_folder, write_gguf

from ruvllm.errors import ArtifactError, InputError, RuvllmError
from ruvllm_models.convert import convert
from ruvllm_models.convert.decoder import Bits
from ruvllm_models.convert.gguf_header import read_gguf

MODEL = random_decoder("qwen2", layers=1)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    path = tmp_path_factory.mktemp("whole") / "m.gguf"
    write_gguf(MODEL, path, gguf.GGMLQuantizationType.Q8_0)
    return path.read_bytes()


def refused(tmp_path, data, name="m.gguf"):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(RuvllmError) as caught:
        convert(tmp_path / name, tmp_path / "out")
    assert {path.name for path in tmp_path.iterdir()} == {name}
    return caught.value


def test_truncated_weights_name_the_tensor(tmp_path, whole):
    error = refused(tmp_path, whole[:-1])
    (tmp_path / "m.gguf").write_bytes(whole)
    assert error.field in read_gguf(tmp_path / "m.gguf").tensors
    assert "truncated" in error.message
    assert error.field in error.message


@pytest.mark.parametrize("kept", [0, 3, 8, 20, 60, 300, 3_000])
def test_a_truncated_header_names_where_it_ends(tmp_path, whole, kept):
    assert isinstance(refused(tmp_path, whole[:kept]), ArtifactError)


def patched(whole, key, old, new):
    """The file with the bytes of a metadata value changed."""
    at = whole.index(key.encode()) + len(key)
    place = whole.index(old, at)
    assert place - at < 16
    return whole[:place] + new + whole[place + len(old) :]


@pytest.mark.parametrize(
    ("key", "old", "new", "field"),
    [
        ("general.architecture", b"qwen2", b"gemma", "general.architecture"),
        ("qwen2.block_count", struct.pack("<I", 1), struct.pack("<I", 2), "layers.1.input_layernorm.weight"),
        ("qwen2.block_count", struct.pack("<I", 1), struct.pack("<I", 0), "qwen2.block_count"),
        (
            "qwen2.attention.head_count",
            struct.pack("<II", 4, 4),
            struct.pack("<II", 4, 0),
            "qwen2.attention.head_count",
        ),
        (
            "qwen2.attention.head_count",
            struct.pack("<II", 4, 4),
            struct.pack("<II", 4, 2**31),
            "qwen2.attention.head_count",
        ),
        ("qwen2.feed_forward_length", struct.pack("<I", 512), struct.pack("<I", 513), "blk.0.ffn_gate.weight"),
        ("tokenizer.ggml.pre", b"qwen2", b"bloom", "tokenizer.ggml.model"),
    ],
)
def test_what_is_not_right_is_named(tmp_path, whole, key, old, new, field):
    assert refused(tmp_path, patched(whole, key, old, new)).field.startswith(field)


def test_a_kind_that_cannot_be_read_is_named(tmp_path):
    writer = gguf.GGUFWriter(tmp_path / "m.gguf", "qwen2")
    kind = gguf.GGMLQuantizationType.TQ1_0
    writer.add_tensor("token_embd.weight", gguf.quants.quantize(np.ones((4, 256), np.float32), kind), raw_dtype=kind)
    for step in (writer.write_header_to_file, writer.write_kv_data_to_file, writer.write_tensors_to_file, writer.close):
        step()
    error = refused(tmp_path, (tmp_path / "m.gguf").read_bytes())
    assert error.field == "token_embd.weight"
    assert "type 34" in error.message


def test_lengths_that_lie_take_no_memory(tmp_path, whole):
    lies = [
        whole[:8] + struct.pack("<QQ", 2**60, 2**60) + whole[24:],  # counts of tensors and keys
        whole[:8] + struct.pack("<QQ", 1, 2**40) + whole[24:],
        whole[:24] + struct.pack("<Q", 2**62) + whole[32:],  # the length of the first key
        patched(whole, "tokenizer.ggml.tokens", struct.pack("<IQ", 8, VOCAB), struct.pack("<IQ", 8, 2**50)),
    ]
    for i, lie in enumerate(lies):
        path = tmp_path / f"{i}.gguf"
        path.write_bytes(lie)
        tracemalloc.start()
        with pytest.raises(ArtifactError):
            convert(path, tmp_path / "out")
        assert tracemalloc.get_traced_memory()[1] < 2_000_000
        tracemalloc.stop()


def test_changed_bytes_of_a_header_are_refused_or_harmless(tmp_path, whole):
    rng = random.Random(0)
    path = tmp_path / "m.gguf"
    for _ in range(150):
        data = bytearray(whole)
        for _ in range(rng.randrange(1, 4)):
            data[rng.randrange(20_000)] = rng.randrange(256)
        path.write_bytes(data)
        with suppress(ArtifactError):  # any other error fails the test
            read_gguf(path)


@pytest.mark.parametrize("value", [np.nan, np.inf, -3e38])
def test_numbers_that_are_none_or_no_weights(tmp_path, value):
    broken = random_decoder("llama", layers=1)
    broken.weights["model.layers.0.mlp.up_proj.weight"][5, 7] = value
    folder = write_folder(broken, tmp_path / "hf")
    with pytest.raises(ArtifactError, match="not finite") as caught:
        convert(folder, tmp_path / "out")
    assert caught.value.field == "model.layers.0.mlp.up_proj.weight"
    assert {path.name for path in tmp_path.iterdir()} == {"hf"}


def rewritten(folder, change):
    config = json.loads((folder / "config.json").read_text())
    change(config)
    (folder / "config.json").write_text(json.dumps(config))


@pytest.mark.parametrize(
    ("field", "value", "named"),
    [
        ("model_type", "gpt_neox", "model_type"),
        ("hidden_act", "gelu", "hidden_act"),
        ("num_key_value_heads", 3, "kv_heads"),
        ("rms_norm_eps", None, "rms_norm_eps"),
        ("intermediate_size", "512", "intermediate_size"),
        ("rope_scaling", {"rope_type": "yarn", "factor": 4}, "rope_type"),
        ("vocab_size", 100, "embed_tokens"),
        ("head_dim", 12, "head_dim"),
        ("num_hidden_layers", 10**12, "num_hidden_layers"),
    ],
)
def test_a_config_that_cannot_be_run_is_named(tmp_path, field, value, named):
    folder = write_folder(MODEL, tmp_path / "hf")
    rewritten(folder, lambda config: config.update({field: value}))
    with pytest.raises(ArtifactError) as caught:
        convert(folder, tmp_path / "out")
    assert named in caught.value.field


def test_a_folder_without_a_tensor_or_with_one_too_many_or_truncated(tmp_path):
    folder = write_folder(MODEL, tmp_path / "hf")
    path = next(folder.glob("*.safetensors"))
    data = path.read_bytes()
    for changed, named in (
        (data[:-4], None),
        (data.replace(b"mlp.up_proj", b"mlp.up_pr0j"), "layers.0.mlp.up_proj.weight"),
        (data[:20], "header"),
        (data.replace(b'"dtype":"F32"', b'"dtype":"F8 "', 1), None),
    ):
        path.write_bytes(changed)
        with pytest.raises(ArtifactError) as caught:
            convert(folder, tmp_path / "out")
        assert named is None or named == caught.value.field
    assert not (tmp_path / "out").exists()


def test_a_folder_that_is_there_is_left_alone(tmp_path):
    (tmp_path / "out").mkdir()
    with pytest.raises(InputError, match="there already"):
        convert(write_folder(MODEL, tmp_path / "hf"), tmp_path / "out")
    with pytest.raises(InputError, match="4, 8 or 32"):
        convert(tmp_path / "hf", tmp_path / "new", bits=Bits(3, 3))
