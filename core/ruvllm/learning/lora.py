"""Low-rank adapters of embeddings (Hu et al. 2021), taught online: y = unit(x + scale·(x A) B).

Two speeds. `step` follows the gradient of both factors after each feedback, on rank 1 or 2. `absorb`
takes a batch whose gradients with respect to the whole map W = scale·A B are known exactly, each of
rank 1, and keeps the best approximation of the moved map at the adapter's own rank: a batch teaches
more that way than its steps do, because A need not first turn towards the tasks. Several adapters on
one vector add up before the one normalisation, so that merging them is exact.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ruvllm.encoders.protocol import unit_rows
from ruvllm.errors import InputError, RuvllmError, StoreError
from ruvllm.state.packing import Arrays, Spec, pack, unpack

SCALE = 15.0
Floats = NDArray[Any]


def pairwise_loss(
    y: Floats, relevant: Floats, irrelevant: Floats, scale: float = SCALE, margin: float = 1.0, weight: float = 1.0
) -> tuple[float, Floats]:
    """These memories answered and those did not: mean softplus(margin − scale·(y·r − y·i)) over the pairs.

    Args:
        y: (dim,).
        relevant, irrelevant: (n, dim) and (m, dim), at least one each.
        weight: of value and gradient.
    """
    excess = margin - scale * ((relevant @ y)[:, None] - (irrelevant @ y)[None, :])  # (n, m)
    value = float(np.logaddexp(0, excess).mean())
    slope = np.exp(-np.logaddexp(0, -excess)) / excess.size  # the logistic function, without overflow
    gradient = slope.sum(0) @ irrelevant - slope.sum(1) @ relevant
    return weight * value, np.float32(weight * scale) * gradient


Vectors = NDArray[np.float32]

RATE, BATCH_RATE = 0.002, 0.02  # of a step along the factors, and along the whole map
BATCH = 100  # feedbacks between two absorptions
_ALPHA = 8.0  # per rank: at RATE, thirty feedbacks then turn a query by some degrees
_CLIP = 30.0  # the longest gradient followed as it is; one outlier moves no more than this
_MOST = 2.0  # of ‖W‖ per √rank: beyond it the residual drowns what the encoder said
_HUGE = 1e6  # entry of an adapter from elsewhere: products of two stay finite
_SPECS = {"down": Spec(("dim", "rank")), "up": Spec(("rank", "dim")), "alpha": Spec((), "float64")}
_FIX_ADAPTER = "use the encoder and rank it was learnt with, or drop it"


def adapted(x: Floats, down: Floats, up: Floats, scale: float) -> tuple[Floats, Floats]:
    """(y, |u|) of rows x (n, dim): u = x + scale·(x A) B, y = u/|u|; norms (n, 1)."""
    u = x + scale * ((x @ down) @ up)
    norms = np.sqrt(np.einsum("ij,ij->i", u, u))[:, None]
    norms = np.where(norms > 0, norms, 1)
    return u / norms, norms


def map_gradient(y: Floats, norms: Floats, slope: Floats) -> Floats:
    """Gradient with respect to u of a loss whose gradient with respect to y = u/|u| is `slope`, (n, dim)."""
    return np.asarray((slope - np.einsum("ij,ij->i", slope, y)[:, None] * y) / norms)


def factor_gradients(x: Floats, down: Floats, up: Floats, scale: float, slope: Floats) -> tuple[Floats, Floats]:
    """Of a loss with respect to A (dim, rank) and B (rank, dim), summed over the rows.

    Args:
        x: (n, dim).
        slope: (n, dim), gradient of the loss with respect to the adapted rows.
    """
    g = map_gradient(*adapted(x, down, up, scale), slope)
    return scale * (x.T @ (g @ up.T)), scale * ((x @ down).T @ g)


class LowRank:
    """One adapter. It changes nothing until it is taught: B begins at zero.

    Attributes:
        theta: float32 (2·rank·dim,), all that is learnt: Aᵀ, then B.
        down, up: A (dim, rank) and B (rank, dim), views of theta.
    """

    def __init__(self, dim: int, rank: int = 2, alpha: float | None = None, seed: int = 0) -> None:
        """Raises InputError: no such dimension, rank or alpha."""
        if not 1 <= rank <= dim <= 16_384:
            raise InputError(f"rank {rank} of {dim} dimensions", field="rank", fix="use 1 to dim")
        self.alpha = _ALPHA * rank if alpha is None else float(alpha)
        if not 0 < self.alpha < 1e6:
            raise InputError(f"alpha is {alpha}", field="alpha", fix="use a number above 0, or None")
        self.dim, self.rank, self.updates = dim, rank, 0
        self.theta = np.zeros(2 * rank * dim, np.float32)
        self.down, self.up = self.theta[: rank * dim].reshape(rank, dim).T, self.theta[rank * dim :].reshape(rank, dim)
        self.down[:] = np.random.default_rng(seed).standard_normal((dim, rank), np.float32) / np.float32(np.sqrt(dim))

    @property
    def scale(self) -> float:
        """Of the residual: alpha/rank."""
        return self.alpha / self.rank

    @property
    def strength(self) -> float:
        """‖W‖, the Frobenius norm of the whole map; 0 before the first feedback."""
        squared = ((self.down.T @ self.down) * (self.up @ self.up.T)).sum()  # trace of AᵀA·BBᵀ
        return self.scale * float(np.sqrt(max(float(squared), 0.0)))

    def residual(self, x: Vectors) -> Vectors:
        """scale·(x A) B of x (dim,) or (n, dim)."""
        return np.asarray(((x @ self.down) * np.float32(self.scale)) @ self.up)

    def apply(self, x: Vectors) -> Vectors:
        """x (dim,) or (n, dim) adapted, rows of unit norm. Raises InputError: of another width."""
        return apply_all(x, (self,))

    def gradient(self, x: Vectors, slope: Vectors) -> Vectors:
        """Of a loss with respect to theta, summed over rows.

        Args:
            x: (dim,) or (n, dim), before adaptation.
            slope: of the same shape, the gradient of the loss with respect to the adapted x (`losses`).
        """
        x, slope = np.atleast_2d(x, slope)
        down, up = factor_gradients(x, self.down, self.up, self.scale, slope)
        return np.concatenate([down.T.ravel(), up.ravel()]).astype(np.float32, copy=False)

    def step(self, gradient: Vectors, rate: float = RATE) -> None:
        """Descend along a gradient of `theta` (see `gradient`), with a penalty's added to it or not.

        A gradient that is too long is shortened, one that is not finite is an InputError, and the map
        never outgrows its bound.
        """
        length = float(np.sqrt(gradient @ gradient)) if gradient.shape == self.theta.shape else np.nan
        if not np.isfinite(length):
            message = f"a gradient of shape {gradient.shape} and norm {length}"
            raise InputError(message, field="gradient", fix=f"use finite numbers of shape {self.theta.shape}")
        self.theta -= np.float32(rate * min(1.0, _CLIP / max(length, 1e-30))) * gradient
        self._bound()
        self.updates += 1

    def teach(self, x: Vectors, slope: Vectors, rate: float = RATE) -> None:
        """One instant step: `gradient`, then `step`."""
        self.step(self.gradient(x, slope), rate)

    def absorb(self, x: Vectors, slope: Vectors, rate: float = BATCH_RATE) -> None:
        """Descend along the gradient of the whole map over a batch, and keep the nearest map of this rank.

        Args:
            x, slope: (n, dim) as in `gradient`; `slope` may be that at what further adapters made of x as well.
        """
        x, slope = np.atleast_2d(x, slope)
        g = map_gradient(*adapted(x, self.down, self.up, self.scale), slope)
        moved = -np.float32(rate) * g
        if not np.isfinite(moved).all():
            raise InputError("the gradients are not finite", field="slope", fix="use finite numbers")
        self._set(np.hstack([self.scale * self.down, x.T]), np.vstack([self.up, moved]))
        self._bound()
        self.updates += len(x)

    def merge(self, other: LowRank, rank: int | None = None) -> LowRank:
        """One adapter that does what both do together, of the sum of their ranks or the nearest of `rank`."""
        return mixture((self, other), (1.0, 1.0), rank)

    def _set(self, down: Floats, up: Floats) -> None:
        """Become the nearest map to `down @ up` (dim, k) @ (k, dim), both factors of equal norm.

        By way of the (k, k) Gram matrices: several times as fast as the singular values of thin factors,
        and in double precision exact enough for float32.
        """
        lengths, turn = _gram_roots(down)
        inner = (lengths[:, None] * turn.T) @ up.astype(np.float64)  # down @ up in an orthonormal basis of down
        squares, left = np.linalg.eigh(inner @ inner.T)
        best = np.argsort(-squares)[: self.rank]
        sizes = np.sqrt(np.maximum(squares[best], 0))
        # Directions that carry nothing keep their A to learn with: both factors at zero would have no gradient.
        full = np.flatnonzero(sizes > 1e-5 * sizes[0]) if sizes[0] > 0 else np.zeros(0, np.intp)
        root, basis = np.sqrt(sizes[full] / self.scale), left[:, best[full]]
        inverse = np.divide(1, lengths, out=np.zeros_like(lengths), where=lengths > 0)
        self.up[:] = 0
        self.down[:, full] = (down @ (turn @ (inverse[:, None] * basis))) * root
        self.up[full] = (basis.T @ inner) / (self.scale * root)[:, None]

    def _bound(self) -> None:
        most = _MOST * float(np.sqrt(self.rank))
        if (strength := self.strength) > most:
            self.theta *= np.float32(np.sqrt(most / strength))

    def arrays(self) -> Arrays:
        """All of it but the count of updates, by name: copies."""
        return {"down": self.down.copy(), "up": self.up.copy(), "alpha": np.array(self.alpha)}

    @classmethod
    def from_arrays(cls, arrays: Arrays, error: type[RuvllmError] = StoreError) -> LowRank:
        """What `arrays` gave. Raises `error`: the shapes or numbers cannot be an adapter's."""
        down, up, alpha = arrays["down"], arrays["up"], float(arrays["alpha"])
        if down.ndim != 2 or up.shape != down.T.shape or not all((np.abs(a) < _HUGE).all() for a in (down, up)):
            raise error(f"an adapter of {down.shape} and {up.shape}", field="lora", fix=_FIX_ADAPTER)
        try:
            made = cls(down.shape[0], down.shape[1], alpha)
        except InputError as bad:
            raise error(bad.message, field="lora", fix=_FIX_ADAPTER) from None
        made.down[:], made.up[:] = down, up
        return made

    def to_bytes(self) -> bytes:
        """For the state file, or to be sent."""
        return pack(self.arrays(), "lora")

    @classmethod
    def from_bytes(cls, data: bytes, error: type[RuvllmError] = StoreError) -> LowRank:
        """What `to_bytes` gave. Raises `error`: it is damaged."""
        return cls.from_arrays(unpack(data, "lora", _SPECS, error=error), error)


def apply_all(x: Vectors, adapters: Sequence[LowRank]) -> Vectors:
    """x (dim,) or (n, dim) with the residuals of all adapters, rows of unit norm.

    Raises:
        InputError: x is of another width than an adapter.
    """
    if any(x.shape[-1:] != (one.dim,) for one in adapters):
        widths = sorted({one.dim for one in adapters})
        raise InputError(f"x has shape {x.shape}, adapters width {widths}", field="x", fix="use one encoder")
    u = x
    for one in adapters:
        u = u + one.residual(x)
    if u.ndim == 1:
        return np.asarray(u / np.float32(max(float(np.sqrt(u @ u)), 1e-30)))
    return unit_rows(u)


def _gram_roots(factor: Floats) -> tuple[Floats, Floats]:
    """(lengths, turn) with factorᵀ·factor = turn·lengths²·turnᵀ; lengths that are rounding noise are 0."""
    wide = factor.astype(np.float64)
    squares, turn = np.linalg.eigh(wide.T @ wide)
    return np.sqrt(np.where(squares > 1e-13 * max(float(squares[-1]), 1e-300), squares, 0)), turn


def mixture(adapters: Sequence[LowRank], weights: Sequence[float], rank: int | None = None) -> LowRank:
    """The weighted sum of the adapters' maps: exact at the sum of their ranks, else the nearest of `rank`.

    Averaging the factors instead would average neither map: A and B are only known up to a turn.

    Raises:
        InputError: no adapters, of different widths, or not one finite weight each.
    """
    if not adapters or len({one.dim for one in adapters}) > 1 or len(weights) != len(adapters):
        fix = "give adapters of one width, and a weight for each"
        raise InputError(f"{len(adapters)} adapters, {len(weights)} weights", field="adapters", fix=fix)
    if not np.isfinite(np.asarray(weights)).all():
        raise InputError("a weight is not finite", field="weights", fix="use numbers")
    dim, ranks = adapters[0].dim, sum(one.rank for one in adapters)
    merged = LowRank(dim, min(ranks if rank is None else rank, dim))
    downs = [(weight * one.scale) * one.down for one, weight in zip(adapters, weights, strict=True)]
    merged._set(np.hstack(downs), np.vstack([one.up for one in adapters]))
    merged.updates = sum(one.updates for one in adapters)
    return merged
