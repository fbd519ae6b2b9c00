"""Means over clients that a few hostile ones cannot drag away (Yin et al. 2018)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ruvllm.errors import InputError
from ruvllm.learning.lora import LowRank, mixture

__all__ = ["AGGREGATORS", "merged_adapter", "outliers", "trimmed_mean"]

_BLOCK = 1 << 22  # numbers that all clients' maps may take at once
_SPREADS = 4.0  # times the usual distance from the median, from where on a client is not believed
_LEAST = 0.05  # distance that never makes an outlier, however close the others lie

Floats = NDArray[Any]
Aggregator = Callable[[Floats, Floats], Floats]


def trimmed_mean(values: Floats, weights: Floats, share: float = 0.2) -> Floats:
    """Mean over the clients (clients, …) without the highest and lowest fifth of each number.

    At least one client is cut off on each side, from three on. The rest count alike: a weight is told
    by the client itself, and a liar would tell a large one.
    """
    n = len(values)
    cut = min(max(1, int(share * n)), (n - 1) // 2)
    if not cut:
        return weighted_mean(values, weights)
    ordered = np.sort(values, axis=0)
    return np.asarray(ordered[cut : n - cut].mean(0))


def median(values: Floats, weights: Floats) -> Floats:
    """Of each number over the clients (clients, …); up to half of them may lie. Weights play no part."""
    del weights
    return np.asarray(np.median(values, axis=0))


def weighted_mean(values: Floats, weights: Floats) -> Floats:
    """By how many texts each client learnt from: best where all are honest."""
    return np.asarray(np.tensordot(weights / weights.sum(), values, 1))


AGGREGATORS: dict[str, Aggregator] = {"mean": weighted_mean, "median": median, "trimmed": trimmed_mean}


def merged_adapter(deltas: Sequence[LowRank], weights: Sequence[float], how: str, rank: int, clip: float) -> LowRank:
    """One adapter from those of several clients.

    Whole maps are aggregated, entry by entry: A and B are only known up to a turn, and so a median of
    them means nothing.

    Args:
        deltas: of one width, at least one.
        weights: above 0, one each.
        how: a name in AGGREGATORS.
        rank: the result's; the nearest such map.
        clip: a map of a larger Frobenius norm is shortened to it first.
    """
    if how not in AGGREGATORS:
        raise InputError(f"no aggregation {how!r}", field="robust", fix=f"use one of {', '.join(AGGREGATORS)}")
    scales = [min(1.0, clip / max(delta.strength, 1e-30)) for delta in deltas]
    share = np.asarray(weights, np.float64)
    if how == "mean" or len(deltas) < 3:
        parts = [float(w) * scale for w, scale in zip(share / share.sum(), scales, strict=True)]
        return mixture(deltas, parts, min(rank, deltas[0].dim))
    dim = deltas[0].dim
    whole = np.empty((dim, dim), np.float32)
    step = max(1, _BLOCK // (dim * len(deltas)))
    for start in range(0, dim, step):
        rows = slice(start, start + step)
        maps = [(d.scale * scale) * (d.down[rows] @ d.up) for d, scale in zip(deltas, scales, strict=True)]
        whole[rows] = AGGREGATORS[how](np.stack(maps), share)
    return _nearest(whole, min(rank, dim))


def _nearest(whole: Floats, rank: int, rounds: int = 3) -> LowRank:
    """The nearest map of `rank` to (dim, dim), by randomised subspace iteration (Halko et al. 2011)."""
    dim = len(whole)
    basis = np.random.default_rng(0).standard_normal((dim, min(rank + 8, dim))).astype(np.float32)
    for _ in range(rounds):
        basis = np.linalg.qr(whole @ (whole.T @ basis))[0]
    left, sizes, right = np.linalg.svd(basis.T @ whole, full_matrices=False)
    root = np.sqrt(sizes[:rank])
    down, up = (basis @ left[:, :rank]) * root, root[:, None] * right[:rank]
    arrays = {"down": down.astype(np.float32), "up": up.astype(np.float32), "alpha": np.array(float(rank))}
    return LowRank.from_arrays(arrays)


def outliers(means: Floats) -> NDArray[np.bool_]:
    """Which clients' means (clients, dim) of one route lie far from where most of them do; nobody of fewer than 3."""
    if len(means) < 3:
        return np.zeros(len(means), bool)
    away = np.sqrt(((means - np.median(means, axis=0)) ** 2).sum(1))
    return np.asarray(away > max(_SPREADS * float(np.median(away)), _LEAST))
