"""What a graph attention layer has learnt: made, checked, packed into bytes."""

from __future__ import annotations

from io import BytesIO
from math import gcd
from typing import Any
from zipfile import BadZipFile

import numpy as np

from ruvllm.errors import REPAIR, InputError, StoreError
from ruvllm.memory.attention_layer import Weights
from ruvllm.memory.subgraph import EDGE_KINDS

__all__ = ["EDGE_WIDTH", "fresh", "heads_for", "pack", "shapes", "unpack", "width_of"]

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
    known: Weights = {name: np.zeros(shape, np.float32) for name, shape in shapes(dim, heads).items()}
    for name in ("query", "key", "value", "out"):
        known[name] = np.eye(dim, dtype=np.float32)
    known["gain"] += np.float32(1)
    known["edges"] = np.eye(*known["edges"].shape, dtype=np.float32)
    known["log_temperature"] += np.float32(np.log(temperature))
    return known


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
