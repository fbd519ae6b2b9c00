"""Graph attention learnt from feedback, and only kept where it ranks held-out feedback better."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ruvllm.encoders.protocol import Pause, no_pause
from ruvllm.errors import InputError
from ruvllm.memory.attention import GraphAttention
from ruvllm.memory.attention.layer import (
    NODES,
    QUERY,
    Array,
    Weights,
    attend,
    attend_back,
    heads_for,
    links_of,
    mass_back,
    mass_of,
    pack,
    scaled,
    unpack,
    width_of,
)
from ruvllm.memory.subgraph import Subgraph
from ruvllm.state.store import Store

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
        informed, trace = attend(weights, x, x, mass, NODES)
        passes.append((trace, informed))
        x = scaled(informed)
    answer, query_trace = attend(weights, scaled(example.query.astype(dtype)[None]), x, None, QUERY)
    query = scaled(answer)
    factor = dtype.type(_SHARPNESS / len(example.query))
    logits = (x @ query[0]) * factor
    logits -= logits.max()
    target = (example.relevance / example.relevance.sum()).astype(dtype)
    log_total = np.log(np.exp(logits).sum())
    if grads is not None:
        d_logits = (np.exp(logits - log_total) - target) * factor
        _, d_memory, _ = attend_back(weights, query_trace, _scaled_back(answer, (d_logits @ x)[None]), grads)
        d_x = d_logits[:, None] * query + d_memory
        for trace, informed in reversed(passes):
            d_asking, d_memory, d_log_mass = attend_back(weights, trace, _scaled_back(informed, d_x), grads)
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


_ENOUGH = 40  # examples; fewer hold out too few to tell
_HELD_OUT = 0.15  # to choose the epoch, and as many more to judge it
_SURE = 2.0  # standard errors
_BATCH = 8
_BETAS, _TINY = (0.9, 0.999), 1e-8
# Steps of AdamW (Loshchilov & Hutter 2019). Every entry of a matrix moves by about a step, so that a step of a
# matrix is √dim times as long: what the gates and the edges can learn comes first, the matrices refine it.
_RATE = 5e-2
_RATES = {
    "gates": 3e-2,
    **dict.fromkeys(("gain", "shift"), 5e-3),
    **dict.fromkeys(("query", "key", "value", "out"), 1e-5),
}
_DECAY = 1e-2  # towards the weights training began with: what feedback says nothing about stays
_PATIENCE = 5  # epochs without a better one


@dataclass(frozen=True, slots=True)
class Trained:
    """What training gave.

    Attributes:
        attention: the better one of before and after.
        before, after: mean nDCG@10 on examples held out from learning and choosing, of the given layer and
            the best trained one.
        accepted: whether `attention` is the trained one: its gain there is twice its standard error.
        examples, judges: how many it learnt from, and how many judged it.
        epochs: how many were run.
    """

    attention: GraphAttention
    before: float
    after: float
    accepted: bool
    examples: int
    judges: int
    epochs: int


class AdamW:
    """Adam with decoupled weight decay, towards where it started."""

    def __init__(self, weights: Weights) -> None:
        self._start = {name: value.copy() for name, value in weights.items()}
        self._first = {name: np.zeros_like(value) for name, value in weights.items()}
        self._second = {name: np.zeros_like(value) for name, value in weights.items()}
        self._steps = 0

    def step(self, weights: Weights, grads: Weights) -> None:
        """Move the weights, in place."""
        self._steps += 1
        for name, grad in grads.items():
            first, second, rate = self._first[name], self._second[name], _RATES.get(name, _RATE)
            first += (1 - _BETAS[0]) * (grad - first)
            second += (1 - _BETAS[1]) * (grad * grad - second)
            spread = np.sqrt(second / (1 - _BETAS[1] ** self._steps)) + _TINY
            weights[name] -= rate * _DECAY * (weights[name] - self._start[name])
            weights[name] -= rate / (1 - _BETAS[0] ** self._steps) * first / spread


async def train_attention(
    attention: GraphAttention, examples: Sequence[Example], *, epochs: int = 30, seed: int = 0, pause: Pause = no_pause
) -> Trained:
    """Learn from examples; some are held out to choose when to stop, others to judge.

    The layer given stays as it is.

    Args:
        epochs: at most; it ends when the examples held out no longer gain.
        pause: awaited between steps.

    Raises:
        InputError: an example of another width.
    """
    if any(len(example.query) != attention.dim for example in examples):
        raise InputError("an example is of another width", field="examples", fix=f"use vectors of {attention.dim}")
    if len(examples) < _ENOUGH:
        score = mean_ndcg(attention, examples)
        return Trained(attention, score, score, False, len(examples), 0, 0)
    random = np.random.default_rng(seed)
    order = random.permutation(len(examples))
    out = round(_HELD_OUT * len(examples))
    judges, choosers, training = ([examples[i] for i in part] for part in np.split(order, [out, 2 * out]))
    best, epoch = await _fit(attention, training, choosers, epochs, random, pause)
    before, after = _scores(attention, judges), _scores(best, judges)
    gains = after - before
    accepted = bool(gains.mean() > _SURE * gains.std(ddof=1) / np.sqrt(len(gains)))
    means = float(before.mean()), float(after.mean())
    return Trained(best if accepted else attention, *means, accepted, len(training), len(judges), epoch)


async def _fit(
    attention: GraphAttention,
    training: Sequence[Example],
    choosers: Sequence[Example],
    epochs: int,
    random: np.random.Generator,
    pause: Pause,
) -> tuple[GraphAttention, int]:
    """The layer of the epoch that ranks the choosers best, and how many epochs were run."""
    best, top, waited, epoch = attention, mean_ndcg(attention, choosers), 0, 0
    moving = _copy(attention)
    optimiser = AdamW(moving.weights)
    while epoch < epochs and waited < _PATIENCE:
        epoch += 1
        turn = random.permutation(len(training))
        for start in range(0, len(turn), _BATCH):
            optimiser.step(moving.weights, _gradients(moving, [training[i] for i in turn[start : start + _BATCH]]))
            await pause()
        score = mean_ndcg(moving, choosers)
        waited += 1
        if score > top:
            best, top, waited = _copy(moving), score, 0
    return best, epoch


def mean_ndcg(attention: GraphAttention, examples: Sequence[Example], k: int = 10) -> float:
    """Mean nDCG@k; 0 without examples."""
    return float(_scores(attention, examples, k).mean()) if examples else 0.0


def save_attention(store: Store, attention: GraphAttention, name: str = "attention") -> None:
    """Keep what was learnt in the state file."""
    store.put(name, pack(attention.weights))


def saved_attention(store: Store, dim: int, *, name: str = "attention") -> GraphAttention | None:
    """The layer in the state file; None when there is none, or one of another encoder's width.

    Raises:
        StoreError: it is damaged.
    """
    data = store.load(name)
    if data is None or width_of(data) != dim:
        return None
    heads = heads_for(dim)
    return GraphAttention(dim, heads, weights=unpack(data, dim, heads))


def _scores(attention: GraphAttention, examples: Sequence[Example], k: int = 10) -> NDArray[np.float64]:
    found = (ndcg(attention.rank(e.query, e.vectors, e.graph), e.relevance, k) for e in examples)
    return np.fromiter(found, np.float64, len(examples))


def _copy(attention: GraphAttention) -> GraphAttention:
    weights = {name: value.copy() for name, value in attention.weights.items()}
    return GraphAttention(attention.dim, attention.heads, rounds=attention.rounds, weights=weights)


def _gradients(attention: GraphAttention, batch: Sequence[Example]) -> Weights:
    grads = {name: np.zeros_like(value) for name, value in attention.weights.items()}
    for example in batch:
        loss_of(attention.weights, example, attention.rounds, grads)
    return {name: grad / len(batch) for name, grad in grads.items()}
