"""One attention update and its gradients: what `GraphAttention` computes, as functions of arrays.

Multi-head scaled dot-product attention (Vaswani et al. 2017) over the edges of a graph (Veličković et
al. 2018), W_o, residual, layer norm. A gate, as in highway networks (Srivastava et al. 2015), leads from what
was there to the result: at 1 the layer is that of a transformer, at 0, untrained, it changes nothing.

Rows come in with a root mean square of one, √dim times a unit vector, as is usual in transformers.
"""

from __future__ import annotations

from io import BytesIO
from math import gcd
from typing import Any, NamedTuple
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from ruvllm.errors import REPAIR, InputError, StoreError
from ruvllm.memory.subgraph import EDGE_KINDS, Subgraph

EDGE_WIDTH = 32  # of the embedding of an edge kind
_MOST_DIM = 16_384
_HEADS = 8
_DROP = f"{REPAIR}: it drops them, and they are learnt again"


def shapes(dim: int, heads: int) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the weights.

    Raises:
        InputError: the width cannot be shared among so many heads.
    """
    if not 1 <= dim <= _MOST_DIM or heads < 1 or dim % heads:
        fix = "use a width that is a multiple of the heads"
        raise InputError(f"{heads} heads cannot share a width of {dim}", field="dim", fix=fix)
    return {
        **dict.fromkeys(("query", "key", "value", "out"), (dim, dim)),
        **dict.fromkeys(("gain", "shift"), (dim,)),
        **dict.fromkeys(("own", "log_temperature"), (heads,)),
        "edges": (len(EDGE_KINDS), EDGE_WIDTH),
        "edge_heads": (2, EDGE_WIDTH, heads),  # as seen from the source, and from the target
        "gates": (2,),  # of the memories, and of the query
    }


def fresh(dim: int, heads: int, temperature: float = 1.0) -> Weights:
    """Weights that change nothing: identities behind closed gates.

    The embeddings of the edge kinds start apart, and their way into the heads at zero: no kind is
    preferred, and what is learnt of one does not move the others.
    """
    if not 0 < temperature < np.inf:
        raise InputError(f"temperature is {temperature}", field="temperature", fix="use a number above 0")
    weights: Weights = {name: np.zeros(shape, np.float32) for name, shape in shapes(dim, heads).items()}
    for name in ("query", "key", "value", "out"):
        weights[name] = np.eye(dim, dtype=np.float32)
    weights["gain"] += np.float32(1)
    weights["edges"] = np.eye(*weights["edges"].shape, dtype=np.float32)
    weights["log_temperature"] += np.float32(np.log(temperature))
    return weights


def pack(weights: Weights) -> bytes:
    """An npz file, float32."""
    file = BytesIO()
    arrays: dict[str, Any] = {name: value.astype(np.float32) for name, value in weights.items()}
    np.savez(file, **arrays)
    return file.getvalue()


def heads_for(dim: int) -> int:
    """The usual number of heads, or as many as can share a width."""
    return gcd(dim, _HEADS)


def width_of(data: bytes) -> int:
    """The width of the vectors that the weights in an npz file were learnt for, 0 when they do not say.

    Raises:
        StoreError: it is damaged.
    """
    gain = _read(data).get("gain")
    return 0 if gain is None else gain.size


def unpack(data: bytes, dim: int, heads: int) -> Weights:
    """The weights in an npz file.

    Raises:
        StoreError: it is damaged, or was learnt for another width or number of heads.
    """
    found, expected = _read(data), shapes(dim, heads)
    if {name: value.shape for name, value in found.items()} != expected:
        message = f"the learnt attention is not of {heads} heads and width {dim}"
        raise StoreError(message, field="attention", fix="use the encoder it was learnt with, or drop it")
    if not all(value.dtype == np.float32 and np.isfinite(value).all() for value in found.values()):
        raise StoreError("the learnt attention holds what are no finite numbers", field="attention", fix=_DROP)
    return found


def _read(data: bytes) -> dict[str, Any]:
    try:
        with np.load(BytesIO(data), allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except (ValueError, OSError, EOFError, KeyError, BadZipFile) as error:
        raise StoreError(f"the learnt attention is damaged: {error}"[:200], field="attention", fix=_DROP) from None


Array = NDArray[np.floating]
Weights = dict[str, NDArray[np.floating]]  # names and shapes: attention_weights.py
NODES, QUERY = 0, 1  # which gate
_EPSILON = 1e-5
_TINY = 1e-12
_STRONGEST = 30.0  # of a bias, either way: its exponential stays a number, however long feedback pushes


class Links(NamedTuple):
    """The edges of a subgraph, each way: who receives along it.

    Attributes:
        receivers, senders: int64 (2m,), rows.
        kinds: int64 (2m,).
        ways: int64 (2m,), 0 where the receiver is the edge's source.
        weights: (2m,).
    """

    receivers: NDArray[np.int64]
    senders: NDArray[np.int64]
    kinds: NDArray[np.int64]
    ways: NDArray[np.int64]
    weights: Array


class Pass(NamedTuple):
    """What the way back needs of an update; h heads of width w, a rows asking n."""

    asking: Array  # (a, d)
    memory: Array  # (n, d)
    queries: Array  # (h, a, w)
    keys: Array  # (h, n, w)
    values: Array  # (h, n, w)
    logits: Array  # (h, a, n), without the mass
    shares: Array  # (h, a, n), rows sum to 1
    context: Array  # (a, d)
    normal: Array  # (a, d), before gain and shift
    spread: Array  # (a, 1)
    change: Array  # (a, d), at gate 1
    gate: int


def scaled(x: Array) -> Array:
    """Rows with a root mean square of one; a zero row stays zero."""
    length = np.sqrt((x * x).sum(axis=-1, keepdims=True))
    out: Array = x * (np.sqrt(x.dtype.type(x.shape[-1])) / np.maximum(length, _TINY))
    return out


def links_of(graph: Subgraph) -> Links:
    """Each edge twice: its source hears of its target, and the target of the source."""
    ways = np.repeat(np.arange(2), len(graph.kinds))
    return Links(
        np.concatenate([graph.sources, graph.targets]),
        np.concatenate([graph.targets, graph.sources]),
        np.tile(graph.kinds, 2),
        ways,
        np.tile(graph.weights, 2),
    )


def mass_of(weights: Weights, links: Links, n: int, start: int = 0, stop: int | None = None) -> Array:
    """exp(bias) times weight, summed over the edges between two rows, itself included: (h, stop - start, n).

    It multiplies exp(logit) in the softmax: parallel edges are softmax entries of their own, an edge of
    weight 0 is none.
    """
    stop = n if stop is None else stop
    mine = (links.receivers >= start) & (links.receivers < stop)
    places = (links.receivers[mine] - start) * n + links.senders[mine]
    mass = np.zeros(((stop - start) * n, weights["own"].shape[0]), weights["own"].dtype)
    np.add.at(mass, places, edge_mass(weights, links)[mine])
    mass[np.arange(stop - start) * (n + 1) + start] += np.exp(_bounded(weights["own"])[0])
    return np.ascontiguousarray(mass.reshape(stop - start, n, -1).transpose(2, 0, 1))


def mass_back(weights: Weights, links: Links, mass: Array, d_log: Array, grads: Weights) -> None:
    """Add the gradients of the edge embedding, from those of log(mass), (h, n, n)."""
    d_mass = np.divide(d_log, mass, out=np.zeros_like(mass), where=mass > 0).transpose(1, 2, 0)  # (n, n, h)
    diagonal = np.arange(len(d_mass))
    bias, slope = _bounded(weights["own"])
    grads["own"] += np.exp(bias) * slope * d_mass[diagonal, diagonal].sum(axis=0)
    d_bias = np.zeros((2, len(weights["edges"]), len(weights["own"])), mass.dtype)
    np.add.at(d_bias, (links.ways, links.kinds), edge_mass(weights, links) * d_mass[links.receivers, links.senders])
    d_bias *= _edge_bias(weights)[1]
    grads["edges"] += np.einsum("wkh,weh->ke", d_bias, weights["edge_heads"])
    grads["edge_heads"] += np.einsum("wkh,ke->weh", d_bias, weights["edges"])


def edge_mass(weights: Weights, links: Links) -> Array:
    """exp(bias) times weight of each edge and head, (2m, h)."""
    bias, _ = _edge_bias(weights)
    out: Array = np.exp(bias)[links.ways, links.kinds] * links.weights.astype(bias.dtype)[:, None]
    return out


def _edge_bias(weights: Weights) -> tuple[Array, Array]:
    """(2, kinds, h), and its slope."""
    return _bounded(np.einsum("ke,weh->wkh", weights["edges"], weights["edge_heads"]))


def _bounded(bias: Array) -> tuple[Array, Array]:
    fraction = np.tanh(bias / _STRONGEST)
    return fraction * _STRONGEST, 1 - fraction * fraction


def scale_of(weights: Weights) -> Array:
    """1 / (√head width × temperature), (h, 1, 1)."""
    heads, dim = len(weights["own"]), len(weights["gain"])
    out: Array = np.exp(-weights["log_temperature"]) / np.sqrt(weights["own"].dtype.type(dim // heads))
    return out[:, None, None]


def split(x: Array, heads: int) -> Array:
    """(n, d) -> (h, n, d / h)."""
    return x.reshape(len(x), heads, -1).transpose(1, 0, 2)


def merged(x: Array) -> Array:
    """(h, n, w) -> (n, h × w)."""
    return np.ascontiguousarray(x.transpose(1, 0, 2)).reshape(x.shape[1], -1)


def layer_norm(weights: Weights, x: Array) -> tuple[Array, Array, Array]:
    """The layer norm of x, the normal form before gain and shift, and 1 / its spread."""
    centred = x - x.mean(axis=1, keepdims=True)
    spread = 1 / np.sqrt((centred * centred).mean(axis=1, keepdims=True) + _EPSILON)
    normal = centred * spread
    return normal * weights["gain"] + weights["shift"], normal, spread


def attend(weights: Weights, asking: Array, memory: Array, mass: Array | None, gate: int) -> tuple[Array, Pass]:
    """From asking towards layer norm(asking + W_o attention), as far as the gate says; and what the way back needs.

    Args:
        asking: (a, d).
        memory: (n, d).
        mass: (h, a, n) from `mass_of`; None attends to all alike.
        gate: NODES or QUERY.
    """
    heads = len(weights["own"])
    queries, keys, values = (
        split(x @ weights[name], heads) for x, name in ((asking, "query"), (memory, "key"), (memory, "value"))
    )
    logits = (queries @ keys.transpose(0, 2, 1)) * scale_of(weights)
    shares = logits if mass is None else np.where(mass > 0, logits, -np.inf)
    shares = np.exp(shares - shares.max(axis=2, keepdims=True))
    if mass is not None:
        shares *= mass
    shares /= shares.sum(axis=2, keepdims=True)
    context = merged(shares @ values)
    result, normal, spread = layer_norm(weights, asking + context @ weights["out"])
    change = result - asking
    trace = Pass(asking, memory, queries, keys, values, logits, shares, context, normal, spread, change, gate)
    return asking + weights["gates"][gate] * change, trace


def attend_back(weights: Weights, trace: Pass, d_out: Array, grads: Weights) -> tuple[Array, Array, Array]:
    """Add the gradients of the weights; returns those of asking, memory, and log(mass)."""
    heads = len(weights["own"])
    grads["gates"][trace.gate] += (d_out * trace.change).sum()
    d_result = d_out * weights["gates"][trace.gate]
    grads["gain"] += (d_result * trace.normal).sum(axis=0)
    grads["shift"] += d_result.sum(axis=0)
    d_normal = d_result * weights["gain"]
    along = (d_normal * trace.normal).mean(axis=1, keepdims=True)
    d_sum = trace.spread * (d_normal - d_normal.mean(axis=1, keepdims=True) - trace.normal * along)
    grads["out"] += trace.context.T @ d_sum
    d_context = split(d_sum @ weights["out"].T, heads)
    d_values = merged(trace.shares.transpose(0, 2, 1) @ d_context)
    d_shares = d_context @ trace.values.transpose(0, 2, 1)
    d_logits = trace.shares * (d_shares - (d_shares * trace.shares).sum(axis=2, keepdims=True))
    grads["log_temperature"] -= (d_logits * trace.logits).sum(axis=(1, 2))
    d_products = d_logits * scale_of(weights)
    d_queries, d_keys = merged(d_products @ trace.keys), merged(d_products.transpose(0, 2, 1) @ trace.queries)
    grads["query"] += trace.asking.T @ d_queries
    grads["key"] += trace.memory.T @ d_keys
    grads["value"] += trace.memory.T @ d_values
    d_asking = d_out - d_result + d_sum + d_queries @ weights["query"].T
    return d_asking, d_keys @ weights["key"].T + d_values @ weights["value"].T, d_logits
