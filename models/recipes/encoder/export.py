"""A finished model: averaged with the untouched one, written as a folder and as an int8 ONNX graph."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import numpy_helper

from recipes import minilm_onnx as graph
from recipes.common import session, tokenizer
from recipes.conversation import sentences
from recipes.encoder.bert import Bert, read, write
from recipes.encoder.states import encode

NAME = "ruvltra-int8.onnx"
_SMOOTHED_ON, _PROBES = 400, 300


@torch.no_grad()
def average(untouched: Bert, tuned: Bert, share: float) -> Bert:
    """`share` of the tuned weights, the rest untouched: most of both's skills (Wortsman et al. 2022)."""
    own = tuned.state_dict()
    mixed = {name: torch.lerp(value, own[name], share) for name, value in untouched.state_dict().items()}
    out = deepcopy(untouched)
    out.load_state_dict(mixed)
    return out


def restore(graph: Path, source: Path, out: Path) -> None:
    """Write the folder `out` with the weights of an int8 graph that `export` made, as near as eight bits are.

    Args:
        source: folder of the model whose tensors have the same names.
    """
    found = {each.name: numpy_helper.to_array(each) for each in onnx.load(graph).graph.initializer}
    model = read(source)
    tensors = model.state_dict()
    for name, value in tensors.items():
        if name in found and found[name].shape == value.shape:
            tensors[name] = torch.from_numpy(found[name].copy())
    for key in {name.removesuffix(".q") for name in found if name.endswith(".q") and name != "words.q"}:
        matrix = found[f"{key}.q"].astype(np.float32) * found[f"{key}.s"]
        if f"{key}.smooth" in found:
            matrix *= found[f"{key}.smooth"][:, None]
        parts = [key]
        if key.endswith(".qkv"):  # three layers in one product
            parts = [f"{key.removesuffix('qkv')}self.{part}" for part in ("query", "key", "value")]
            parts = [part.replace(".self.", ".attention.self.") for part in parts]
        weights, biases = np.split(matrix.T, len(parts)), np.split(found[f"{key}.b"], len(parts))
        for part, weight, bias in zip(parts, weights, biases, strict=True):
            tensors[f"{part}.weight"] = torch.from_numpy(np.ascontiguousarray(weight))
            tensors[f"{part}.bias"] = torch.from_numpy(bias.copy())
    model.load_state_dict(tensors)
    write(model, source, out)


def export(source: Path, tuned: Path, out: Path, share: float, texts: Sequence[str]) -> dict[str, float]:
    """Write the folder `out` and its graph; returns how near the graph is to the weights.

    Args:
        source: folder of the untouched model.
        texts: tasks and cards, to see how far activations reach beside conversation.
    """
    model = average(read(source), read(tuned), share)
    write(model, source, out)
    words = tokenizer()

    def ids(chosen: Sequence[str]) -> list[NDArray[np.int64]]:
        return [np.array(words.encode(text), np.int64) for text in chosen]

    seen = ids([*sentences(_SMOOTHED_ON, seed=7), *texts[::2]])
    reaches = graph.reaches(out, [each[None] for each in seen])
    small = graph.build(out, reaches=reaches).SerializeToString(deterministic=True)
    part = out / f"{NAME}.part"
    part.write_bytes(small)
    part.replace(out / NAME)
    probes = ids([*sentences(_PROBES, seed=99), *texts[1::2]])
    run, wanted = session(small), encode(model, probes)
    cosines = [
        float(run.run(None, {"input_ids": each[None], "attention_mask": np.ones_like(each[None])})[0][0] @ right)
        for each, right in zip(probes, wanted, strict=True)
    ]
    return {"cosine_to_fp32_mean": round(float(np.mean(cosines)), 4), "cosine_to_fp32_min": round(min(cosines), 4)}
