"""A decoder out of a GGUF file."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ruvllm.errors import ArtifactError
from ruvllm_models.convert.fields import Fields
from ruvllm_models.convert.gguf_header import GgufFile, read_gguf
from ruvllm_models.convert.spec import ARCHITECTURES, DecoderSpec, Rope
from ruvllm_models.convert.tensor import Tensor

_LAYER = re.compile(r"blk\.(\d+)\.(.+)")
_IN_LAYER = {
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "post_attention_norm": "attention_out_norm",
    "post_ffw_norm": "mlp_out_norm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
    "shortconv.in_proj": "conv.in_proj",
    "shortconv.conv": "conv.conv",
    "shortconv.out_proj": "conv.out_proj",
}
_OUTSIDE = {"token_embd": "embed_tokens", "output_norm": "norm", "token_embd_norm": "norm", "output": "lm_head"}
_GEMMA3_PATTERN = 6  # one layer in so many sees all places
_GEMMA3_LARGEST = 62  # layers of the one with 27 billion parameters
_FACTORS = "rope_freqs.weight"  # Llama 3's scaling, worked out


@dataclass(frozen=True, slots=True, eq=False)
class GgufSource:
    """A file, mapped; `factors` float32 (head_dim / 2) divide the frequencies, None without."""

    spec: DecoderSpec
    tensors: dict[str, Tensor]
    metadata: dict[str, Any]
    factors: NDArray[np.float32] | None

    @classmethod
    def open(cls, path: Path) -> GgufSource:
        """Read the header.

        Raises:
            ArtifactError: it is damaged, or no decoder that can be converted.
        """
        file = read_gguf(path)
        spec = _spec(path.name, file)
        found = file.tensors.pop(_FACTORS, None)
        if found is not None and found.shape != (spec.head_dim // 2,):
            raise ArtifactError(f"{_FACTORS} has shape {found.shape}", field=_FACTORS, fix="use an unchanged file")
        tensors = {_named(tensor): _ordered(tensor, spec) for tensor in file.tensors.values()}
        return cls(spec, tensors, file.metadata, None if found is None else found.floats())


def _spec(name: str, file: GgufFile) -> DecoderSpec:
    architecture = file.metadata.get("general.architecture")
    if architecture not in ARCHITECTURES:
        raise Fields(name, file.metadata).refuse("general.architecture", f"is {str(architecture)[:40]!r}")
    fields = Fields(name, file.metadata, f"{architecture}.")
    layers, hidden, heads = (fields.int(key) for key in ("block_count", "embedding_length", "attention.head_count"))
    if not 1 <= layers <= 512:
        raise fields.refuse("block_count", f"is {layers}")
    if not heads:
        raise fields.refuse("attention.head_count", "is 0")
    head_dim = fields.int("attention.key_length", hidden // heads)
    if fields.int("rope.dimension_count", head_dim) != head_dim:
        raise fields.refuse("rope.dimension_count", "turns only a part of each head")
    kv_heads = _kv_heads(fields, heads, layers)
    embedding = file.tensors.get("token_embd.weight")
    if embedding is None or len(embedding.shape) != 2:
        raise Fields(name, {}).refuse("token_embd.weight", "is missing or no matrix")
    return DecoderSpec(
        architecture=architecture,
        layers=layers,
        hidden=hidden,
        heads=heads,
        kv_heads=max(kv_heads),
        head_dim=head_dim,
        inner=fields.int("feed_forward_length"),
        vocab=embedding.shape[0],
        context=fields.int("context_length"),
        eps=fields.float("attention.layer_norm_rms_epsilon"),
        rope=_rope(fields),
        tied="output.weight" not in file.tensors,
        attention=tuple(heads > 0 for heads in kv_heads),
        qkv_bias="blk.0.attn_q.bias" in file.tensors,
        out_bias="blk.0.attn_output.bias" in file.tensors,
        qk_norm=architecture in ("lfm2", "gemma3"),
        conv=fields.int("shortconv.l_cache", 0),
        **(_gemma3(fields, layers, hidden, heads) if architecture == "gemma3" else {}),
    )


def _gemma3(fields: Fields, layers: int, hidden: int, heads: int) -> dict[str, Any]:
    """What Gemma 3 has beside; the largest alone scales its scores by the width of a head that it has not."""
    return {
        "window": fields.int("attention.sliding_window"),
        "everything": tuple(i % _GEMMA3_PATTERN == 0 for i in range(1, layers + 1)),
        "near": Rope(fields.float("rope.freq_base_swa", 10_000.0)),
        "out_norm": True,
        "scaled": True,
        "gelu": True,
        "scale": (hidden / heads) ** -0.5 if layers == _GEMMA3_LARGEST else 0.0,
    }


def _kv_heads(fields: Fields, heads: int, layers: int) -> list[int]:
    """For each layer; 0 where it does not attend."""
    told = fields.get("attention.head_count_kv", heads)
    counts = told if isinstance(told, list) else [told] * layers
    if len(counts) != layers or not all(type(n) is int and 0 <= n <= heads for n in counts):
        raise fields.refuse("attention.head_count_kv", f"is {str(told)[:60]}")
    if len({n for n in counts if n}) != 1:
        raise fields.refuse("attention.head_count_kv", "differs between layers")
    return counts


def _rope(fields: Fields) -> Rope:
    scaling = fields.get("rope.scaling.type", "none")
    if scaling not in ("none", "linear"):
        raise fields.refuse("rope.scaling.type", f"is {str(scaling)[:40]!r}, not none or linear")
    linear = fields.float("rope.scaling.factor", 1.0) if scaling == "linear" else 1.0
    return Rope(fields.float("rope.freq_base", 10_000.0), linear)


def _named(tensor: Tensor) -> str:
    """A name of spec.tensors_of; one that is unknown stays and is refused later."""
    stem, _, kind = tensor.name.rpartition(".")
    if match := _LAYER.fullmatch(stem):
        return f"layers.{match[1]}.{_IN_LAYER.get(match[2], match[2])}.{kind}"
    return f"{_OUTSIDE.get(stem, stem)}.{kind}"


def _ordered(tensor: Tensor, spec: DecoderSpec) -> Tensor:
    """Llama's queries and keys lie in pairs of neighbours in GGUF; ONNX turns first half against second half."""
    stem = tensor.name.rpartition(".")[0].rpartition(".")[2]
    if spec.architecture != "llama" or stem not in ("attn_q", "attn_k"):
        return tensor if stem != "conv" or len(tensor.shape) != 3 else _flat(tensor)
    rows = tensor.shape[0]
    if rows % spec.head_dim:
        return tensor  # its shape is refused with all others
    order = np.arange(rows).reshape(-1, spec.head_dim // 2, 2).swapaxes(1, 2).reshape(-1)
    return replace(tensor, order=order)


def _flat(tensor: Tensor) -> Tensor:
    """A depthwise kernel (channels, 1, places) as a matrix."""
    return replace(tensor, shape=(tensor.shape[0], tensor.shape[-1]))
