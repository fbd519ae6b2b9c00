"""The decoder's graph for WebAssembly computes what its weights say."""

from __future__ import annotations

import json
from pathlib import Path

import gguf
import numpy as np
import onnxruntime
import pytest
from decoders import HIDDEN, KV_HEADS, PLACES, Decoder, random_decoder, reference_logits, write_folder, write_gguf
from int8_files import with_int8_files

from ruvllm_models.convert import convert
from ruvllm_models.convert.decoder import Bits

KINDS = gguf.GGMLQuantizationType
IDS = [5, 91, 17, 300, 2, 44, 201, 63, 7, 118]


def logits(path: Path, model: Decoder) -> np.ndarray:
    """float32 (tokens, VOCAB)."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options)
    inputs: dict[str, np.ndarray] = {
        "input_ids": np.array([IDS], np.int64),
        "attention_mask": np.ones((1, len(IDS)), np.int64),
        "num_logits_to_keep": np.zeros(1, np.int64),
    }
    for i in range(model.layers):
        if model.attends(i):
            for place in ("key", "value"):
                inputs[f"past_key_values.{i}.{place}"] = np.zeros((1, KV_HEADS, 0, model.head_dim), np.float32)
        else:
            inputs[f"past_conv.{i}"] = np.zeros((1, HIDDEN, PLACES - 1), np.float32)
    return session.run(["logits"], inputs)[0][0]


def lost(folder: Path, out: Path, model: Decoder, inside: dict[str, np.ndarray]) -> tuple[float, float]:
    """Relative errors of the web graph and of the plain one, whose activations are int8, against the weights' own."""
    truth = reference_logits(Decoder(model.architecture, model.layers, model.tied, inside), IDS)
    ready = with_int8_files(folder, out)
    told = (logits(ready / name, model) for name in ("model_web.onnx", "model.onnx"))
    web, plain = (float(np.sqrt(((one - truth) ** 2).mean() / (truth**2).mean())) for one in told)
    return web, plain


@pytest.mark.parametrize(
    ("architecture", "kind"),
    [("qwen2", "Q4_0"), ("qwen2", "Q8_0"), ("llama", "Q4_K"), ("lfm2", "Q5_0"), ("lfm2", "Q4_K")],
)
def test_int8_weights_lose_about_what_int8_activations_lose(architecture: str, kind: str, tmp_path: Path) -> None:
    model = random_decoder(architecture, layers=4, tied=architecture != "llama")
    inside = write_gguf(model, tmp_path / "model.gguf", KINDS[kind])
    convert(tmp_path / "model.gguf", tmp_path / "model")
    web, plain = lost(tmp_path / "model", tmp_path / "web", model, inside)
    assert web < min(0.06, 1.6 * plain)


def test_activations_far_above_the_others_cost_those_nothing(tmp_path: Path) -> None:
    model = random_decoder("qwen2", layers=4)
    for name, weight in model.weights.items():
        if name.endswith("layernorm.weight"):
            weight[3] *= 200
    inside = write_gguf(model, tmp_path / "model.gguf", KINDS.Q4_0)
    convert(tmp_path / "model.gguf", tmp_path / "model")
    web, plain = lost(tmp_path / "model", tmp_path / "web", model, inside)
    assert web < 0.06 < plain


def test_a_decoder_in_float32_needs_no_other_graph(tmp_path: Path) -> None:
    convert(write_folder(random_decoder("qwen2"), tmp_path / "source"), tmp_path / "model", bits=Bits(32, 32))
    assert not (tmp_path / "model" / "model_web.onnx").exists()
    assert "web" not in json.loads((tmp_path / "model" / "ruvllm-model.json").read_text("utf-8"))
