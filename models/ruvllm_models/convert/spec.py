"""What a decoder is made of: read from a file's metadata, checked before any weight is touched."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import pi

import numpy as np
from numpy.typing import NDArray

from ruvllm.errors import ArtifactError

ARCHITECTURES = ("qwen2", "llama", "lfm2", "gemma3")
_LARGEST = {"layers": 512, "hidden": 1 << 16, "heads": 1 << 10, "inner": 1 << 18, "vocab": 1 << 21, "context": 1 << 24}


@dataclass(frozen=True, slots=True)
class Rope:
    """Rotary position embedding (Su et al. 2021).

    Attributes:
        theta: base of the frequencies.
        linear: positions are divided by it.
        llama3: (factor, low, high, original context) of Llama 3.1's scaling, None without.
    """

    theta: float = 10_000.0
    linear: float = 1.0
    llama3: tuple[float, float, float, float] | None = None

    def frequencies(self, head_dim: int) -> NDArray[np.float64]:
        """float64 (head_dim / 2): radians that a position turns each pair by."""
        plain = self.theta ** (-np.arange(0, head_dim, 2) / head_dim) / self.linear
        if self.llama3 is None:
            return plain
        factor, low, high, original = self.llama3
        turns = original * plain / (2 * pi)  # within the context that the model was first trained on
        blend = np.clip((turns - low) / (high - low), 0, 1)
        return plain * (blend + (1 - blend) / factor)


@dataclass(frozen=True, slots=True)
class DecoderSpec:
    """A decoder-only transformer.

    Attributes:
        inner: width of the feed-forward layer.
        tied: the output layer is the embedding table.
        qkv_bias, out_bias: the attention's projections have a bias.
        qk_norm: queries and keys are normalised, head by head.
        attention: for each layer whether it attends; the others are short convolutions.
        conv: places that a short convolution sees, 0 without.
        window: places that a layer sees where `everything` is false, 0 where all see everything.
        everything: for each layer whether it sees all places; the others turn by `near`, as Gemma 3's do.
        near: of layers that see a window.
        out_norm: what attention and feed-forward give is normalised before it is added.
        scaled: embeddings are multiplied by the root of `hidden`.
        gelu: the feed-forward layer's gate is GELU (tanh), not SiLU.
        scale: of the product of a query and a key; 0 for 1 / sqrt(head_dim).
    """

    architecture: str
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    inner: int
    vocab: int
    context: int
    eps: float
    rope: Rope
    tied: bool
    attention: tuple[bool, ...]
    qkv_bias: bool = False
    out_bias: bool = False
    qk_norm: bool = False
    conv: int = 0
    window: int = 0
    everything: tuple[bool, ...] = ()
    near: Rope = field(default_factory=Rope)
    out_norm: bool = False
    scaled: bool = False
    gelu: bool = False
    scale: float = 0.0

    def far(self, layer: int) -> bool:
        """Whether a layer sees all places."""
        return not self.window or self.everything[layer]

    def __post_init__(self) -> None:
        for name, most in _LARGEST.items():
            if not 1 <= getattr(self, name) <= most:
                raise _odd(name, getattr(self, name))
        if not 1 <= self.kv_heads <= self.heads or self.heads % self.kv_heads:
            raise _odd("kv_heads", self.kv_heads)
        if not 2 <= self.head_dim <= 1024 or self.head_dim % 8:
            raise _odd("head_dim", self.head_dim)  # the attention kernel takes multiples of 8
        if not 0 < self.eps < 1 or not 1 <= self.rope.theta < 1e12 or not 1 <= self.rope.linear < 1e6:
            raise _odd("eps or rope", (self.eps, self.rope.theta, self.rope.linear))
        if len(self.attention) != self.layers or (not all(self.attention) and not 2 <= self.conv <= 64):
            raise _odd("layers' kinds", self.attention[:8])
        if self.window and len(self.everything) != self.layers:
            raise _odd("layers' windows", self.everything[:8])


def tensors_of(spec: DecoderSpec) -> dict[str, tuple[int, ...]]:
    """Names, as Hugging Face writes them for Llama, and shapes (out, in) of all weights."""
    hidden, q, kv = spec.hidden, spec.heads * spec.head_dim, spec.kv_heads * spec.head_dim
    shapes: dict[str, tuple[int, ...]] = {"embed_tokens.weight": (spec.vocab, hidden), "norm.weight": (hidden,)}
    if not spec.tied:
        shapes["lm_head.weight"] = (spec.vocab, hidden)
    for i, attends in enumerate(spec.attention):
        at = f"layers.{i}."
        shapes |= {at + "input_layernorm.weight": (hidden,), at + "post_attention_layernorm.weight": (hidden,)}
        shapes |= {at + f"mlp.{name}_proj.weight": (spec.inner, hidden) for name in ("gate", "up")}
        shapes[at + "mlp.down_proj.weight"] = (hidden, spec.inner)
        if spec.out_norm:
            shapes |= {at + f"{name}_out_norm.weight": (hidden,) for name in ("attention", "mlp")}
        if not attends:
            shapes[at + "conv.in_proj.weight"] = (3 * hidden, hidden)
            shapes[at + "conv.conv.weight"] = (hidden, spec.conv)
            shapes[at + "conv.out_proj.weight"] = (hidden, hidden)
            continue
        for name, rows in (("q", q), ("k", kv), ("v", kv)):
            shapes[at + f"self_attn.{name}_proj.weight"] = (rows, hidden)
            if spec.qkv_bias:
                shapes[at + f"self_attn.{name}_proj.bias"] = (rows,)
        shapes[at + "self_attn.o_proj.weight"] = (hidden, q)
        if spec.out_bias:
            shapes[at + "self_attn.o_proj.bias"] = (hidden,)
        if spec.qk_norm:
            shapes |= {at + f"self_attn.{name}_norm.weight": (spec.head_dim,) for name in ("q", "k")}
    return shapes


def _odd(field: str, value: object) -> ArtifactError:
    fix = "use an unchanged file of the model"
    return ArtifactError(f"the model's {field} is {value}, which no decoder here can have", field=field, fix=fix)
