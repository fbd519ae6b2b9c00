"""How badly a graph attention layer ranks an example, and which way its weights should move."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ruvllm.errors import InputError
from ruvllm.memory.attention_layer import (
    NODES,
    QUERY,
    Array,
    Weights,
    attend,
    attend_back,
    links_of,
    mass_back,
    mass_of,
    scaled,
)
from ruvllm.memory.subgraph import Subgraph

__all__ = ["Example", "loss_of", "ndcg"]

_SHARPNESS = 20.0  # cosines to logits: a lead of 0.05 is worth a factor of e


@dataclass(frozen=True, slots=True)
class Example:
    """What a search found, and which of it proved to be relevant.

    Attributes:
        query: float (dim,).
        vectors: float (n, dim), a row for each of the graph's.
        relevance: float (n,), 0 for what did not help, more for what did; somewhere above 0.
    """

    query: NDArray[np.float32]
    vectors: NDArray[np.float32]
    graph: Subgraph
    relevance: NDArray[np.float32]

    def __post_init__(self) -> None:
        n, dim = len(self.graph), len(self.query)
        if self.vectors.shape != (n, dim) or self.relevance.shape != (n,):
            message = f"{self.vectors.shape} vectors and {self.relevance.shape} relevances for {n} memories"
            raise InputError(message, field="example", fix=f"give ({n}, {dim}) and ({n},)")
        if not all(np.isfinite(part).all() for part in (self.query, self.vectors, self.relevance)):
            raise InputError("an example is not finite", field="example", fix="leave out NaN and infinity")
        if not (n and self.relevance.min() >= 0 and self.relevance.max() > 0):
            fix = "use 0 and more, above 0 for at least one memory"
            raise InputError("no relevance is above 0, or one is below", field="relevance", fix=fix)


def loss_of(weights: Weights, example: Example, rounds: int, grads: Weights | None = None) -> float:
    """Listwise cross-entropy (Cao et al. 2007) between the ranking and the relevance, in nats.

    Args:
        grads: the gradients are added to these.
    """
    dtype = weights["gates"].dtype
    x, links, n = scaled(example.vectors.astype(dtype)), links_of(example.graph), len(example.graph)
    mass = mass_of(weights, links, n)
    passes = []
    for _ in range(rounds):
        informed, kept = attend(weights, x, x, mass, NODES)
        passes.append((kept, informed))
        x = scaled(informed)
    answer, asked = attend(weights, scaled(example.query.astype(dtype)[None]), x, None, QUERY)
    query = scaled(answer)
    factor = dtype.type(_SHARPNESS / len(example.query))
    logits = (x @ query[0]) * factor
    logits -= logits.max()
    target = (example.relevance / example.relevance.sum()).astype(dtype)
    log_total = np.log(np.exp(logits).sum())
    if grads is not None:
        d_logits = (np.exp(logits - log_total) - target) * factor
        _, d_memory, _ = attend_back(weights, asked, _scaled_back(answer, (d_logits @ x)[None]), grads)
        d_x = d_logits[:, None] * query + d_memory
        for kept, informed in reversed(passes):
            d_asking, d_memory, d_log_mass = attend_back(weights, kept, _scaled_back(informed, d_x), grads)
            mass_back(weights, links, mass, d_log_mass, grads)
            d_x = d_asking + d_memory
    return float(log_total - target @ logits)


def ndcg(scores: NDArray[np.floating], relevance: NDArray[np.floating], k: int = 10) -> float:
    """Normalised discounted cumulative gain of the first k (Järvelin & Kekäläinen 2002); ties as they come."""
    discount = 1 / np.log2(np.arange(2, min(k, len(scores)) + 2))
    gained = relevance[np.argsort(-scores, kind="stable")[:k]] @ discount
    return float(gained / (np.sort(relevance)[::-1][:k] @ discount))


def _scaled_back(x: Array, d_out: Array) -> Array:
    """The gradient of x, from that of scaled(x)."""
    squares = (x * x).sum(axis=1, keepdims=True)
    out: Array = np.sqrt(x.shape[1] / squares) * (d_out - x * ((x * d_out).sum(axis=1, keepdims=True) / squares))
    return out
