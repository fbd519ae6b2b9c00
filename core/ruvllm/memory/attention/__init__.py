"""Graph attention over what a search found: memories inform each other along their edges, and the query.

Untrained it changes nothing: the order is that of the cosine. See `attention_training` for the rest.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ruvllm.errors import InputError
from ruvllm.memory.attention.layer import (
    NODES,
    QUERY,
    Array,
    Weights,
    attend,
    edge_mass,
    fresh,
    layer_norm,
    links_of,
    mass_of,
    merged,
    scale_of,
    scaled,
    shapes,
    split,
)
from ruvllm.memory.subgraph import EDGE_KINDS, AttentionSummary, Subgraph

__all__ = ["GraphAttention"]

_MOST_SHARES = 4_194_304  # attention weights held at a time
_MOST_ROUNDS = 8


class GraphAttention:
    """A multi-head graph attention layer.

    Args:
        dim: width of the vectors, a multiple of `heads`.
        heads: each attends over its own part of the width.
        rounds: message passing steps; after r of them a memory knows of those r edges away.
        temperature: above 1 attends more evenly, below 1 more sharply; learnt further for each head.
        weights: learnt ones; none leave every order as it was.

    Raises:
        InputError: the width cannot be shared among the heads, or weights of another shape.
    """

    def __init__(
        self, dim: int, heads: int = 8, *, rounds: int = 1, temperature: float = 1.0, weights: Weights | None = None
    ) -> None:
        expected = shapes(dim, heads)
        self.dim, self.heads, self.rounds = dim, heads, _rounds(rounds)
        self.weights = fresh(dim, heads, temperature) if weights is None else weights
        if {name: value.shape for name, value in self.weights.items()} != expected:
            raise InputError("the weights are of another shape", field="weights", fix=f"use {expected}")
        self._dtype = self.weights["gates"].dtype

    def rank(self, query: ArrayLike, vectors: ArrayLike, graph: Subgraph) -> Array:
        """How well each memory answers: (n,), the cosine once memories and query have been informed.

        Args:
            query: (dim,).
            vectors: (n, dim), a row for each of the graph's.
        """
        rows = self._rows(np.asarray(query)[None], "query", 1)
        memories = self.message_pass(graph, vectors)
        out: Array = memories @ self.cross_attend(rows, memories)[0]
        return out

    def message_pass(self, graph: Subgraph, vectors: ArrayLike, rounds: int | None = None) -> Array:
        """The memories once they have heard from their neighbours: (n, dim), unit rows.

        Args:
            vectors: (n, dim), a row for each of the graph's.
            rounds: those of the layer when None.
        """
        x = self._rows(vectors, "vectors", len(graph))
        rounds = self.rounds if rounds is None else _rounds(rounds)
        if not (self.weights["gates"][NODES] and rounds and len(graph)):
            return _unit(x)
        links, n, x = links_of(graph), len(graph), scaled(x)
        step = max(1, _MOST_SHARES // (self.heads * n))
        for _ in range(rounds):
            informed = np.empty_like(x)
            for start in range(0, n, step):
                mass = mass_of(self.weights, links, n, start, min(start + step, n))
                informed[start : start + step] = attend(self.weights, x[start : start + step], x, mass, NODES)[0]
            x = scaled(informed)
        return _unit(x)

    def cross_attend(self, query: ArrayLike, memory: ArrayLike, *, block: int = 4_096) -> Array:
        """Queries informed by all memories: unit rows, of the shape of `query`.

        The softmax runs over the memory block by block (Milakov & Gimelshein 2018), so that what it
        needs beside its input does not grow with it. The blocks do not change the result.

        Args:
            query: (dim,) or (a, dim).
            memory: (n, dim), perhaps over a memory map.
            block: memories at a time.
        """
        if block < 1:
            raise InputError(f"block is {block}", field="block", fix="use at least 1")
        rows = self._rows(np.atleast_2d(np.asarray(query)), "query")
        memories = np.asarray(memory)
        if memories.ndim != 2 or memories.shape[1] != self.dim:
            fix = f"give (n, {self.dim})"
            raise InputError(f"memory has shape {memories.shape}", field="memory", fix=fix)
        out = _unit(rows)
        if self.weights["gates"][QUERY] and len(memories):
            x = scaled(rows)
            result, _, _ = layer_norm(self.weights, x + self._streamed(x, memories, block) @ self.weights["out"])
            out = _unit(x + self.weights["gates"][QUERY] * (result - x))
        return out[0] if np.ndim(query) == 1 else out

    def summary(self, query: ArrayLike, vectors: ArrayLike, graph: Subgraph) -> AttentionSummary:
        """What the query draws on, through the memories it attends to from those they heard from.

        Of the last round, and the mean of the heads.

        Args:
            query: (dim,).
            vectors: (n, dim), a row for each of the graph's; at least one.
        """
        n = len(graph)
        if not n:
            raise InputError("there are no memories", field="graph", fix="expand at least one hit")
        x = scaled(self.message_pass(graph, vectors, max(0, self.rounds - 1)))
        links = links_of(graph)
        mass = mass_of(self.weights, links, n)
        informed, heard = attend(self.weights, x, x, mass, NODES)
        rows = scaled(self._rows(np.asarray(query)[None], "query", 1))
        _, drawn = attend(self.weights, rows, scaled(informed), None, QUERY)
        flow = drawn.shares.transpose(0, 2, 1) * heard.shares / self.heads  # (h, n, n): to a memory, from a memory
        given = flow.sum(axis=(0, 1))
        parts = flow[:, links.receivers, links.senders].T * edge_mass(self.weights, links)  # (2m, h)
        parts /= np.maximum(mass[:, links.receivers, links.senders].T, np.finfo(mass.dtype).tiny)
        along = np.bincount(links.kinds, parts.sum(axis=1), len(EDGE_KINDS))
        shares = given / given.sum()
        order = np.argsort(-shares, kind="stable")
        positive = shares[shares > 0]
        return AttentionSummary(
            tuple(zip(graph.ids[order].tolist(), shares[order].tolist(), strict=True)),
            max(0.0, float(-(positive * np.log(positive)).sum())),
            float(shares.mean()),
            float((2 * np.arange(1, n + 1) - n - 1) @ np.sort(shares) / n),
            {**dict(zip(EDGE_KINDS, along.tolist(), strict=True)), "Self": float(1 - along.sum())},
        )

    def _streamed(self, x: Array, memory: NDArray[Any], block: int) -> Array:
        """The attention of x (a, d) over the memory, heads side by side: (a, d)."""
        queries = split(x @ self.weights["query"], self.heads) * scale_of(self.weights)  # (h, a, w)
        highest = np.full((*queries.shape[:2], 1), -np.inf, x.dtype)
        total, context = np.zeros_like(highest), np.zeros_like(queries)
        for start in range(0, len(memory), block):
            rows = scaled(self._rows(memory[start : start + block], "memory"))
            logits = queries @ split(rows @ self.weights["key"], self.heads).transpose(0, 2, 1)
            top = np.maximum(highest, logits.max(axis=2, keepdims=True))
            shares, before = np.exp(logits - top), np.exp(highest - top)
            total = total * before + shares.sum(axis=2, keepdims=True)
            context = context * before + shares @ split(rows @ self.weights["value"], self.heads)
            highest = top
        return merged(context / total)

    def _rows(self, rows: ArrayLike, field: str, n: int | None = None) -> Array:
        found = np.asarray(rows, self._dtype)
        if found.ndim != 2 or found.shape[1] != self.dim or n not in (None, len(found)):
            fix = f"give ({'n' if n is None else n}, {self.dim})"
            raise InputError(f"{field} has shape {found.shape}", field=field, fix=fix)
        if not np.isfinite(found).all():
            raise InputError(f"{field} is not finite", field=field, fix="leave out NaN and infinity")
        return found


def _rounds(rounds: int) -> int:
    if not 0 <= rounds <= _MOST_ROUNDS:
        raise InputError(f"rounds is {rounds}", field="rounds", fix=f"use 0 to {_MOST_ROUNDS}")
    return rounds


def _unit(x: Array) -> Array:
    length = np.sqrt((x * x).sum(axis=1, keepdims=True))
    out: Array = x / np.where(length > 0, length, 1)
    return out
