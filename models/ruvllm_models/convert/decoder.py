"""A decoder with a key-value cache as an ONNX graph, layer by layer.

Inputs: input_ids and attention_mask (int64), num_logits_to_keep (int64: logits of so many last places, 0 for all),
past_key_values.N.key and .value (1, kv_heads, past, head_dim) of attending layers and past_conv.N of the others
(1, hidden, conv - 1). Outputs: logits (1, kept, vocab), present… for each past…, hidden_states (1, tokens, hidden)
after the last norm, for whoever wants vectors of texts.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto

from ruvllm_models.convert.blocks import OFFSET
from ruvllm_models.convert.graph import MICROSOFT, Graph
from ruvllm_models.convert.spec import DecoderSpec
from ruvllm_models.convert.tensor import FLOATS, Tensor
from ruvllm_models.convert.weights import Matrix, Writer

HIDDEN = "hidden_states"


@dataclass(frozen=True, slots=True)
class Bits:
    """How many bits a weight gets; 0 for what suits the kind it has in the source."""

    layers: int = 0
    embedding: int = 0

    def of(self, tensor: Tensor, embedding: bool = False) -> int:
        """4, 8 or 32."""
        asked = self.embedding if embedding else self.layers
        if asked:
            return asked
        # A lookup takes no offsets; and each row of a table is a word's output, too, so it is kept finer.
        four = ("Q4_0",) if embedding else ("Q4_0", *OFFSET, *FLOATS)
        return 4 if tensor.kind in four else 8


@dataclass(slots=True)
class _Builder:
    spec: DecoderSpec
    tensors: dict[str, Tensor]
    writer: Writer
    bits: Bits
    graph: Graph

    def matrix(self, name: str, *names: str) -> Matrix:
        """One matrix of one tensor or more, in as many bits as the finest of them asks."""
        parts = [self.tensors[f"{one}.weight"] for one in names or (name,)]
        return self.writer.matrix(name, parts, max(map(self.bits.of, parts)))

    def vector(self, *names: str) -> NDArray[np.float32]:
        return np.concatenate([self.tensors[name].floats() for name in names])

    def bias(self, there: bool, *names: str) -> NDArray[np.float32] | None:
        return self.vector(*(f"{name}.bias" for name in names)) if there else None


def build(
    spec: DecoderSpec, tensors: dict[str, Tensor], writer: Writer, bits: Bits, angles: NDArray[np.float64]
) -> Graph:
    """The whole graph; the weights go to the writer.

    Args:
        tensors: by the names of spec.tensors_of, shapes checked.
        angles: float64 (context, head_dim / 2), of layers that see all places.
    """
    graph = Graph()
    make = _Builder(spec, tensors, writer, bits, graph)
    ids = graph.input("input_ids", TensorProto.INT64, [1, "tokens"])
    lengths = _lengths(graph)
    far = _rotary(writer, angles, "")
    near = far
    if spec.window:
        near = _rotary(writer, np.outer(np.arange(len(angles)), spec.near.frequencies(spec.head_dim)), ".near")
    embedding = tensors["embed_tokens.weight"]
    table = writer.matrix("embed_tokens", [embedding], bits.of(embedding, embedding=True), table=True)
    stream = graph.lookup(ids, table, "embed")
    if spec.scaled:
        root = graph.constant("embed.root", np.array(spec.hidden**0.5, np.float32))
        stream = graph.node("Mul", [stream, root], "embed.scaled")
    normed = graph.rms_norm(stream, make.vector("layers.0.input_layernorm.weight"), spec.eps, "layers.0.norm")
    for i, attends in enumerate(spec.attention):
        rotary = far if spec.far(i) else near
        mixed = _attend(make, i, normed, (*lengths, *rotary)) if attends else _convolve(make, i, normed)
        at = f"layers.{i}"
        if spec.out_norm:
            mixed = graph.rms_norm(mixed, make.vector(f"{at}.attention_out_norm.weight"), spec.eps, f"{at}.mixed")
        after = make.vector(f"{at}.post_attention_layernorm.weight")
        normed, stream = graph.add_and_norm(stream, mixed, after, spec.eps, f"{at}.norm2")
        fed = _feed(make, at, normed)
        if spec.out_norm:
            fed = graph.rms_norm(fed, make.vector(f"{at}.mlp_out_norm.weight"), spec.eps, f"{at}.fed")
        last = i + 1 == spec.layers
        following = "norm.weight" if last else f"layers.{i + 1}.input_layernorm.weight"
        name = graph.output(HIDDEN, [1, "tokens", spec.hidden]) if last else f"layers.{i + 1}.norm"
        normed, stream = graph.add_and_norm(stream, fed, make.vector(following), spec.eps, name)
    if spec.tied:
        head = table
    else:
        weight = tensors["lm_head.weight"]
        head = writer.matrix("lm_head", [weight], bits.of(weight, embedding=True))
    graph.linear(_last(graph, normed), head, "logits")
    graph.output("logits", [1, "kept", spec.vocab])
    return graph


def _rotary(writer: Writer, angles: NDArray[np.float64], name: str) -> tuple[str, str]:
    pairs = (("cos", np.cos), ("sin", np.sin))
    cos, sin = (writer.array(f"{part}{name}", turn(angles).astype(np.float32)) for part, turn in pairs)
    return cos, sin


def _lengths(graph: Graph) -> tuple[str, str]:
    """int32 (1,) places before the last, int32 () places in all, both with the past."""
    mask = graph.input("attention_mask", TensorProto.INT64, [1, "total"])
    one = graph.constant("one", np.array([1], np.int64))
    zero = graph.constant("zero", np.array(0, np.int64))
    total = graph.node("Gather", [graph.node("Shape", [mask], "mask.shape"), one], "mask.total")
    before = graph.node("Cast", [graph.node("Sub", [total, one], "mask.before64")], "mask.before", to=TensorProto.INT32)
    scalar = graph.node("Gather", [total, zero], "mask.scalar64")
    return before, graph.node("Cast", [scalar], "mask.scalar", to=TensorProto.INT32)


def _last(graph: Graph, hidden: str) -> str:
    """The last places, as many as asked for: from -n on, and from -0 on are all."""
    keep = graph.input("num_logits_to_keep", TensorProto.INT64, [1])
    start = graph.node("Neg", [keep], "keep.start")
    end = graph.constant("keep.end", np.array([2**31 - 1], np.int64))
    axis = graph.constant("keep.axis", np.array([1], np.int64))
    return graph.node("Slice", [hidden, start, end, axis], "kept")


def _attend(make: _Builder, i: int, x: str, shared: tuple[str, ...]) -> str:
    """Grouped-query attention (Ainslie et al. 2023) over the cache and x."""
    spec, graph, at = make.spec, make.graph, f"layers.{i}.self_attn"
    names = [f"{at}.{part}_proj" for part in "qkv"]
    if spec.qk_norm:
        q, k, v = (graph.linear(x, make.matrix(name), f"{name}.out", make.bias(spec.qkv_bias, name)) for name in names)
        packed = [_normed_heads(make, q, f"{at}.q_norm"), _normed_heads(make, k, f"{at}.k_norm"), v]
    else:
        weight = make.matrix(f"{at}.qkv", *names)
        packed = [graph.linear(x, weight, f"{at}.qkv.out", make.bias(spec.qkv_bias, *names)), "", ""]
    places = ("key", "value")
    past = [_cache_input(graph, spec, f"past_key_values.{i}.{place}", "past") for place in places]
    present = [graph.output(f"present.{i}.{p}", [1, spec.kv_heads, "total", spec.head_dim]) for p in places]
    out = graph.node(
        "GroupQueryAttention",
        [*packed, *past, *shared],
        f"{at}.mix",
        domain=MICROSOFT,
        outputs=[f"{at}.mix", *present],
        num_heads=spec.heads,
        kv_num_heads=spec.kv_heads,
        do_rotary=1,
        rotary_interleaved=0,
        scale=spec.scale or spec.head_dim**-0.5,
        local_window_size=-1 if spec.far(i) else spec.window,
    )
    name = f"{at}.o_proj"
    return graph.linear(out, make.matrix(name), f"{name}.out", make.bias(spec.out_bias, name))


def _cache_input(graph: Graph, spec: DecoderSpec, name: str, length: str) -> str:
    return graph.input(name, TensorProto.FLOAT, [1, spec.kv_heads, length, spec.head_dim])


def _normed_heads(make: _Builder, x: str, name: str) -> str:
    """Each head normalised by itself."""
    graph, spec = make.graph, make.spec
    heads = graph.constant(f"{name}.heads", np.array([0, 0, -1, spec.head_dim], np.int64))
    flat = graph.constant(f"{name}.flat", np.array([0, 0, -1], np.int64))
    split = graph.node("Reshape", [x, heads], f"{name}.split")
    normed = graph.rms_norm(split, make.vector(f"{name}.weight"), spec.eps, name)
    return graph.node("Reshape", [normed, flat], f"{name}.joined")


def _convolve(make: _Builder, i: int, x: str) -> str:
    """LFM2's gated short convolution: of C · conv(B · x), each (tokens, hidden)."""
    spec, graph, at = make.spec, make.graph, f"layers.{i}.conv"
    both = graph.linear(x, make.matrix(f"{at}.in_proj"), f"{at}.in")
    parts = [f"{at}.b", f"{at}.c", f"{at}.x"]
    graph.node("Split", [both], f"{at}.split", outputs=parts, axis=-1, num_outputs=3)
    gated = graph.node("Mul", [parts[0], parts[2]], f"{at}.gated")
    turned = graph.node("Transpose", [gated], f"{at}.turned", perm=[0, 2, 1])
    past = graph.input(f"past_conv.{i}", TensorProto.FLOAT, [1, spec.hidden, spec.conv - 1])
    whole = graph.node("Concat", [past, turned], f"{at}.whole", axis=-1)
    start, end, axis = (
        graph.constant(f"{at}.{name}", np.array([value], np.int64))
        for name, value in (("start", 1 - spec.conv), ("end", 2**31 - 1), ("axis", 2))
    )
    graph.node("Slice", [whole, start, end, axis], graph.output(f"present_conv.{i}", [1, spec.hidden, spec.conv - 1]))
    kernel = graph.constant(f"{at}.kernel", make.tensors[f"{at}.conv.weight"].floats()[:, None, :])
    mixed = graph.node("Conv", [whole, kernel], f"{at}.mixed", group=spec.hidden)
    back = graph.node("Transpose", [mixed], f"{at}.back", perm=[0, 2, 1])
    out = graph.node("Mul", [parts[1], back], f"{at}.out")
    return graph.linear(out, make.matrix(f"{at}.out_proj"), f"{at}.projected")


def _feed(make: _Builder, at: str, x: str) -> str:
    """SwiGLU or GEGLU (Shazeer 2020)."""
    graph = make.graph
    gate, up = (graph.linear(x, make.matrix(f"{at}.mlp.{n}_proj"), f"{at}.mlp.{n}") for n in ("gate", "up"))
    if make.spec.gelu:
        opened = graph.node("Gelu", [gate], f"{at}.mlp.gelu", approximate="tanh")
    else:
        opened = graph.node("Mul", [gate, graph.node("Sigmoid", [gate], f"{at}.mlp.sigmoid")], f"{at}.mlp.swish")
    both = graph.node("Mul", [opened, up], f"{at}.mlp.both")
    return graph.linear(both, make.matrix(f"{at}.mlp.down_proj"), f"{at}.mlp.out")
