"""A decoder that has learnt to write: random weights have no opinion, so a rounding error decides for them.

Three layers of qwen2's kind with the same weights, of half a million, trained by `tiny_decoder_train.py` on this
repository's own text and kept in 4 bits. Its `IDS` are 2,000 tokens of prose that it was not trained on.
"""

from __future__ import annotations

import re
from pathlib import Path

import decoders
import gguf
import numpy as np
import pytest
from decoders import Decoder

LAYERS, KV_HEADS, INNER = 3, 1, 256
WINDOW = 400  # tokens that are read at a time
FILE = Path(__file__).with_name("data") / "tiny_decoder.npz"


def shape(patch: pytest.MonkeyPatch) -> None:
    """What differs from the other decoders of the tests."""
    patch.setattr(decoders, "KV_HEADS", KV_HEADS)
    patch.setattr(decoders, "INNER", INNER)


def trained() -> tuple[Decoder, list[list[int]]]:
    """It, and the text in windows."""
    with np.load(FILE) as kept:
        ids = kept["ids"].tolist()
        once = {name: _floats(kept[name]) for name in kept.files if name != "ids"}
    weights = {name: value for name, value in once.items() if ".layers." not in name}
    for i in range(LAYERS):
        weights |= {
            re.sub(r"layers\.0\.", f"layers.{i}.", name): value for name, value in once.items() if ".layers." in name
        }
    return Decoder("qwen2", LAYERS, True, weights), [ids[i : i + WINDOW] for i in range(0, len(ids), WINDOW)]


def save(weights: dict[str, np.ndarray], ids: np.ndarray) -> None:
    """Of one layer, matrices in Q4_0."""
    kind = gguf.GGMLQuantizationType.Q4_0
    packed = {name: value if value.ndim == 1 else gguf.quants.quantize(value, kind) for name, value in weights.items()}
    FILE.parent.mkdir(exist_ok=True)
    np.savez_compressed(FILE, ids=ids.astype(np.int16), **packed)


def _floats(value: np.ndarray) -> np.ndarray:
    if value.dtype != np.uint8:
        return value
    return np.asarray(gguf.quants.dequantize(value, gguf.GGMLQuantizationType.Q4_0), np.float32)


def agreement(ours: list[np.ndarray], theirs: list[np.ndarray]) -> float:
    """Share of places at which the likeliest token is the same; logits (tokens, vocabulary) for each window."""
    return float(np.mean(np.concatenate(ours).argmax(-1) == np.concatenate(theirs).argmax(-1)))


def perplexity(logits: list[np.ndarray], windows: list[list[int]]) -> float:
    """Of the windows' own tokens."""
    lost = []
    for window, rows in zip(windows, logits, strict=True):
        wide = rows[:-1].astype(np.float64)
        wide -= wide.max(-1, keepdims=True)
        lost.append(np.log(np.exp(wide).sum(-1)) - wide[np.arange(len(wide)), window[1:]])
    return float(np.exp(np.concatenate(lost).mean()))
