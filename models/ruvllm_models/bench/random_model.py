"""A decoder of random weights in a GGUF file: as large and as slow as one that knows something."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import gguf
import numpy as np
from numpy.typing import NDArray

from ruvllm.text.bpe import byte_characters

_BLOCK, _BLOCK_BYTES = 32, 18  # of Q4_0: a float16 scale, then two numbers to a byte
_MARKS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
_CONTEXT = 4096


@dataclass(frozen=True, slots=True)
class Shape:
    """Of a qwen2 decoder with tied embeddings."""

    layers: int
    hidden: int
    inner: int
    heads: int
    kv_heads: int
    vocabulary: int

    @property
    def parameters(self) -> int:
        """Weights in all, without biases and norms."""
        kv = self.hidden // self.heads * self.kv_heads
        layer = 2 * self.hidden * (self.hidden + kv) + 3 * self.hidden * self.inner
        return self.vocabulary * self.hidden + self.layers * layer


SHAPES = {"60M": Shape(8, 512, 1664, 8, 2, 65_536), "494M": Shape(24, 896, 4864, 14, 2, 151_936)}


def write_random(shape: Shape, path: Path) -> None:
    """Its weights in Q4_0, by way of a temporary file."""
    rng = np.random.default_rng(0)
    out = gguf.GGUFWriter(path, "qwen2", use_temp_file=True)
    for add, value in (
        (out.add_block_count, shape.layers),
        (out.add_context_length, _CONTEXT),
        (out.add_embedding_length, shape.hidden),
        (out.add_feed_forward_length, shape.inner),
        (out.add_head_count, shape.heads),
        (out.add_head_count_kv, shape.kv_heads),
    ):
        add(value)
    out.add_layer_norm_rms_eps(1e-6)
    out.add_rope_freq_base(1e6)
    _write_words(out, shape.vocabulary)
    kv = shape.hidden // shape.heads * shape.kv_heads

    def norm(name: str) -> None:
        out.add_tensor(f"{name}.weight", np.ones(shape.hidden, np.float32))

    def matrix(name: str, rows: int, columns: int) -> None:
        out.add_tensor(f"{name}.weight", _blocks(rng, rows, columns), raw_dtype=gguf.GGMLQuantizationType.Q4_0)

    matrix("token_embd", shape.vocabulary, shape.hidden)
    norm("output_norm")
    for i in range(shape.layers):
        at = f"blk.{i}"
        norm(f"{at}.attn_norm")
        norm(f"{at}.ffn_norm")
        for name, rows in (("q", shape.hidden), ("k", kv), ("v", kv)):
            matrix(f"{at}.attn_{name}", rows, shape.hidden)
            out.add_tensor(f"{at}.attn_{name}.bias", np.zeros(rows, np.float32))
        matrix(f"{at}.attn_output", shape.hidden, shape.hidden)
        matrix(f"{at}.ffn_gate", shape.inner, shape.hidden)
        matrix(f"{at}.ffn_up", shape.inner, shape.hidden)
        matrix(f"{at}.ffn_down", shape.hidden, shape.inner)
    for step in (out.write_header_to_file, out.write_kv_data_to_file, out.write_tensors_to_file, out.close):
        step()


def _write_words(out: gguf.GGUFWriter, size: int) -> None:
    """Bytes, one pair of them, and nothing in the place of all other words."""
    words = [*byte_characters(), "th"]
    unused = [f"[UNUSED{i}]" for i in range(size - len(words) - len(_MARKS))]
    out.add_tokenizer_model("gpt2")
    out.add_tokenizer_pre("qwen2")
    out.add_token_list([*words, *_MARKS, *unused])
    out.add_token_types([1] * len(words) + [3] * len(_MARKS) + [5] * len(unused))
    out.add_token_merges(["t h"])


def _blocks(rng: np.random.Generator, rows: int, columns: int) -> NDArray[np.uint8]:
    """uint8 (rows, bytes of a row), weights of about 1 / sqrt(columns)."""
    data = rng.integers(0, 256, (rows * columns // _BLOCK, _BLOCK_BYTES), np.uint8)
    data[:, :2] = np.frombuffer(np.float16(0.2 / columns**0.5).tobytes(), np.uint8)
    return data.reshape(rows, -1)
