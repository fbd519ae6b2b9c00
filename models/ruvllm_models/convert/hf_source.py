"""A decoder out of a Hugging Face folder: config.json and SafeTensors."""

from __future__ import annotations

import json
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from ruvllm.errors import ArtifactError
from ruvllm_models.convert.fields import Fields
from ruvllm_models.convert.spec import ARCHITECTURES, DecoderSpec, Rope
from ruvllm_models.convert.tensor import FLOATS, Tensor

_LONGEST_HEADER = 64 << 20
_LONGEST_JSON = 64 << 20
_IGNORED = ("rotary_emb.inv_freq", "attention.bias", "masked_bias")
_LFM2 = {
    "operator_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
    "feed_forward.w1": "mlp.gate_proj",
    "feed_forward.w3": "mlp.up_proj",
    "feed_forward.w2": "mlp.down_proj",
    "self_attn.out_proj": "self_attn.o_proj",
    "q_layernorm": "q_norm",
    "k_layernorm": "k_norm",
    "embedding_norm": "norm",
}


@dataclass(frozen=True, slots=True, eq=False)
class FolderSource:
    """A folder, its files mapped."""

    spec: DecoderSpec
    tensors: dict[str, Tensor]
    config: dict[str, Any]

    @classmethod
    def open(cls, folder: Path) -> FolderSource:
        """Read config.json and the headers of all *.safetensors.

        Raises:
            ArtifactError: a file is missing or damaged, or the model is none that can be converted.
        """
        config = read_json_file(folder / "config.json")
        found: dict[str, Tensor] = {}
        for path in sorted(folder.glob("*.safetensors")):
            for tensor in _tensors(path):
                found[_named(tensor.name, config.get("model_type"))] = tensor
        if not found:
            raise _damaged(folder.name, "*.safetensors", "there is none")
        return cls(_spec(config, found), {n: t for n, t in found.items() if not n.endswith(_IGNORED)}, config)


def read_json_file(path: Path) -> dict[str, Any]:
    """An object of a JSON file.

    Raises:
        ArtifactError: it is missing, too long or no object.
    """
    try:
        if path.stat().st_size > _LONGEST_JSON:
            raise ValueError("it is too long")
        told = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as bad:
        raise _damaged(path.parent.name, path.name, f"it cannot be read: {bad}") from None
    if not isinstance(told, dict):
        raise _damaged(path.parent.name, path.name, "it is no object")
    return told


def _spec(config: dict[str, Any], found: dict[str, Tensor]) -> DecoderSpec:
    fields = Fields("config.json", config)
    architecture = config.get("model_type")
    if architecture not in ARCHITECTURES or architecture == "gemma3":  # of that one GGUF files alone
        raise fields.refuse("model_type", f"is {str(architecture)[:40]!r}")
    if architecture != "lfm2" and fields.get("hidden_act", "silu") != "silu":
        raise fields.refuse("hidden_act", "is not silu")
    if fields.get("use_sliding_window") or fields.get("mlp_bias") or fields.get("conv_bias"):
        raise fields.refuse("use_sliding_window", "or mlp_bias or conv_bias is set")
    layers, hidden, heads = (fields.int(key) for key in ("num_hidden_layers", "hidden_size", "num_attention_heads"))
    if not 1 <= layers <= 512:
        raise fields.refuse("num_hidden_layers", f"is {layers}")
    if not heads:
        raise fields.refuse("num_attention_heads", "is 0")
    up = found.get("layers.0.mlp.up_proj.weight")
    # LFM2 derives the width from other fields; the weights themselves say it.
    inner = up.shape[0] if architecture == "lfm2" and up is not None else fields.int("intermediate_size")
    return DecoderSpec(
        architecture=architecture,
        layers=layers,
        hidden=hidden,
        heads=heads,
        kv_heads=fields.int("num_key_value_heads", heads),
        head_dim=fields.int("head_dim", hidden // heads),
        inner=inner,
        vocab=fields.int("vocab_size"),
        context=fields.int("max_position_embeddings"),
        eps=fields.float("norm_eps" if architecture == "lfm2" else "rms_norm_eps"),
        rope=_rope(fields),
        # A head that is a copy of the table is often not in the file, whatever the config says.
        tied=bool(fields.get("tie_word_embeddings", architecture == "lfm2")) or "lm_head.weight" not in found,
        attention=_attention(fields, layers),
        qkv_bias="layers.0.self_attn.q_proj.bias" in found,
        out_bias="layers.0.self_attn.o_proj.bias" in found,
        qk_norm=architecture == "lfm2",
        conv=fields.int("conv_L_cache", 0),
    )


def _attention(fields: Fields, layers: int) -> tuple[bool, ...]:
    kinds = fields.get("layer_types", ["full_attention"] * layers)
    if not isinstance(kinds, list) or len(kinds) != layers or not {*map(str, kinds)} <= {"full_attention", "conv"}:
        raise fields.refuse("layer_types", f"is {str(kinds)[:80]}")
    return tuple(kind == "full_attention" for kind in kinds)


def _rope(fields: Fields) -> Rope:
    # Newer files keep all of it in one object.
    told = fields.get("rope_parameters") or fields.get("rope_scaling") or {}
    if not isinstance(told, dict):
        raise fields.refuse("rope_scaling", "is no object")
    inner = Fields("config.json: rope_scaling", told)
    theta = fields.float("rope_theta", inner.float("rope_theta", 10_000.0))
    kind = told.get("rope_type", told.get("type", "default"))
    if kind == "default":
        return Rope(theta)
    if kind == "linear":
        return Rope(theta, inner.float("factor"))
    if kind == "llama3":
        factor, low, high = (inner.float(key) for key in ("factor", "low_freq_factor", "high_freq_factor"))
        if not 1 <= factor < 1e6 or not 0 < low < high:
            raise inner.refuse("factor", f"or its bounds make no sense: {factor}, {low}, {high}")
        return Rope(theta, 1.0, (factor, low, high, inner.float("original_max_position_embeddings")))
    raise inner.refuse("rope_type", f"is {str(kind)[:40]!r}, not default, linear or llama3")


def _named(name: str, architecture: object) -> str:
    name = name.removeprefix("model.")
    if architecture == "lfm2":
        for theirs, ours in _LFM2.items():
            name = name.replace(theirs + ".", ours + ".")
    return name


def _tensors(path: Path) -> list[Tensor]:
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or not 2 <= length <= min(_LONGEST_HEADER, size - 8):
            raise _damaged(path.name, "header", f"{length} bytes of header do not fit into {size}")
        try:
            header = json.loads(file.read(length))
        except (ValueError, RecursionError) as bad:
            raise _damaged(path.name, "header", f"it is no JSON: {bad}") from None
    if not isinstance(header, dict):
        raise _damaged(path.name, "header", "it is no object")
    data = np.memmap(path, np.uint8, "r")[8 + length :] if size > 8 + length else np.zeros(0, np.uint8)
    return [_tensor(path.name, name, told, data) for name, told in header.items() if name != "__metadata__"]


def _tensor(file: str, name: str, told: Any, data: Any) -> Tensor:
    try:
        kind, shape, (start, stop) = told["dtype"], tuple(told["shape"]), told["data_offsets"]
    except (TypeError, KeyError, ValueError):
        raise _damaged(file, name, "its entry has no dtype, shape or data_offsets") from None
    if kind not in FLOATS:
        raise _damaged(file, name, f"it is {str(kind)[:20]}; what can be read is {', '.join(FLOATS)}")
    if not shape or not all(type(n) is int and 0 < n < 1 << 32 for n in (*shape, stop)) or type(start) is not int:
        raise _damaged(file, name, f"its shape is {shape[:8]}")
    if start < 0 or stop - start != prod(shape) * FLOATS[kind]:
        raise _damaged(file, name, "its place does not fit its shape")
    if stop > len(data):
        raise _damaged(file, name, f"it ends at byte {stop} of {len(data)}: the file is truncated")
    if len(shape) == 3 and shape[1] == 1:  # a depthwise kernel (channels, 1, places)
        shape = (shape[0], shape[2])
    return Tensor(name, kind, shape, data[start:stop].reshape(prod(shape[:-1]), -1))


def _damaged(file: str, field: str, what: str) -> ArtifactError:
    return ArtifactError(f"{file}: {field[:80]}: {what}", field=field[:80], fix="download the model again")
