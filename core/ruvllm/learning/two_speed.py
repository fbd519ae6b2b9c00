"""Two adapters on one embedding: a small one learns at once, a larger one from each hundred feedbacks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ruvllm.errors import InputError, RuvllmError, StoreError
from ruvllm.learning.lora import BATCH, LowRank, Vectors, apply_all
from ruvllm.learning.packing import Arrays, Spec, pack, unpack

__all__ = ["TWO_SPEED_SPECS", "TwoSpeed"]

_PARTS = ("down", "up", "alpha")
TWO_SPEED_SPECS = {
    **{f"{part}_down": Spec(("dim", part)) for part in ("micro", "base")},
    **{f"{part}_up": Spec((part, "dim")) for part in ("micro", "base")},
    **dict.fromkeys(("micro_alpha", "base_alpha"), Spec((), "float64")),
    **dict.fromkeys(("xs", "slopes"), Spec(("waiting", "dim"))),
    "updates": Spec((3,), "int64"),
}


class TwoSpeed:
    """MicroLoRA over a base LoRA.

    The micro adapter starts anew when the base has absorbed its batch: what it knew, the base then
    knows better, and both together would count it twice.

    Attributes:
        micro, base: the adapters.
    """

    def __init__(self, dim: int, micro_rank: int = 2, base_rank: int = 16, batch: int = BATCH, seed: int = 0) -> None:
        """Raises InputError: a rank that does not fit, or a batch below 1."""
        if batch < 1:
            raise InputError(f"a batch of {batch}", field="batch", fix="use 1 or more")
        self._batch, self._seed = batch, seed
        self.micro, self.base = LowRank(dim, micro_rank, seed=seed), LowRank(dim, min(base_rank, dim), seed=seed + 1)
        self._xs: list[Vectors] = []
        self._slopes: list[Vectors] = []

    @property
    def updates(self) -> int:
        """Feedbacks taught so far, waiting ones included."""
        return self.base.updates + len(self._xs)

    @property
    def waiting(self) -> int:
        """Feedbacks that only the micro adapter has learnt from."""
        return len(self._xs)

    def apply(self, x: Vectors) -> Vectors:
        """x (dim,) or (n, dim) adapted by both, rows of unit norm."""
        return apply_all(x, (self.micro, self.base))

    def learn(self, x: Vectors, loss: Callable[[Vectors], tuple[float, NDArray[Any]]]) -> float:
        """Teach one x (dim,) with a loss of what becomes of it; returns the loss before.

        Args:
            loss: the adapted x -> (value, gradient), see `losses`.
        """
        value, slope = loss(self.apply(x))
        slope = slope.astype(np.float32, copy=False)
        self.micro.teach(x, slope)
        self._xs.append(np.array(x, np.float32))
        self._slopes.append(slope)
        if len(self._xs) >= self._batch:
            self.flush()
        return value

    def flush(self) -> None:
        """Let the base absorb what waits; a few milliseconds for a hundred."""
        if self._xs:
            self.base.absorb(np.stack(self._xs), np.stack(self._slopes))
            self._restart()

    def _restart(self) -> None:
        self._xs, self._slopes = [], []
        self.micro = LowRank(self.micro.dim, self.micro.rank, seed=self._seed + 2 + self.base.updates)

    def arrays(self) -> Arrays:
        """Both adapters and the batch that waits, by name: copies."""
        known = {f"{part}_{name}": value for part in ("micro", "base") for name, value in self._part(part).items()}
        for name, rows in (("xs", self._xs), ("slopes", self._slopes)):
            known[name] = np.array(rows, np.float32).reshape(-1, self.base.dim)
        return known | {"updates": np.array([self.base.updates, self._batch, self._seed], np.int64)}

    def _part(self, part: str) -> Arrays:
        return (self.micro if part == "micro" else self.base).arrays()

    @classmethod
    def from_arrays(cls, arrays: Arrays, error: type[RuvllmError] = StoreError) -> TwoSpeed:
        """What `arrays` gave, and what it then learns is the same too. Raises `error`: they do not fit together."""
        micro, base = (
            LowRank.from_arrays({name: arrays[f"{part}_{name}"] for name in _PARTS}, error)
            for part in ("micro", "base")
        )
        xs, slopes = arrays["xs"], arrays["slopes"]
        updates, batch, seed = (int(n) for n in arrays["updates"])
        if micro.dim != base.dim or xs.shape != slopes.shape or xs.shape[1:] != (base.dim,) or len(xs) >= batch:
            raise error("the two adapters do not fit together", field="lora", fix="drop them; they are learnt again")
        if updates < 0 or seed < 0:
            raise error("a count is negative", field="lora", fix="drop them; they are learnt again")
        made = cls(base.dim, micro.rank, base.rank, batch, seed)
        made.micro, made.base = micro, base
        made.base.updates, made.micro.updates = updates, len(xs)
        made._xs, made._slopes = list(xs), list(slopes)
        return made

    def to_bytes(self) -> bytes:
        """For the state file."""
        return pack(self.arrays(), "two-speed")

    @classmethod
    def from_bytes(cls, data: bytes, error: type[RuvllmError] = StoreError) -> TwoSpeed:
        """What `to_bytes` gave. Raises `error`: it is damaged."""
        return cls.from_arrays(unpack(data, "two-speed", TWO_SPEED_SPECS, error=error), error)
