"""What a SonaEngine's trajectories teach the embedding: at once, and in the background without forgetting."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ruvllm.encoders.protocol import Vectors
from ruvllm.errors import InputError, RuvllmError, StoreError
from ruvllm.learning.contrast import Landmarks, Ring, contrast_loss
from ruvllm.learning.drift import DRIFT_SPECS, Drift
from ruvllm.learning.ewc import EwcPlusPlus
from ruvllm.learning.lora import BATCH, LowRank, apply_all
from ruvllm.learning.packing import Arrays, Spec, pack, unpack
from ruvllm.learning.patterns import ReasoningBank
from ruvllm.learning.sona_config import SonaConfig
from ruvllm.learning.trajectories import Trajectory

__all__ = ["SonaAdapters"]

_GOOD, _BAD = 192, 64  # latest examples and warnings that a trajectory is compared with
_PASSES = 2  # over the trajectories of a cycle
_SLICE = 32  # examples between two looks at the clock: a few milliseconds
_PARTS = ("micro", "base", "ewc", "drift", "good", "bad")
_SPECS = {part: Spec((part,), "uint8") for part in _PARTS} | {"counts": Spec((3,), "int64")}
_FIX = "drop them; they are learnt again"


@dataclass(frozen=True, slots=True, eq=False)
class _Lesson:
    x: Vectors  # (dim,)
    route: str
    good: bool
    weight: float


class SonaAdapters:
    """MicroLoRA over a base LoRA that EWC++ holds.

    Attributes:
        micro, base: the adapters.
        ewc: of the base's weights.
    """

    def __init__(self, dim: int, config: SonaConfig) -> None:
        self._rates = config.micro_lora_lr, config.base_lora_lr
        self._strength = config.ewc_lambda
        self._restarts = 0
        self.base = LowRank(dim, min(config.base_lora_rank, dim), seed=1)
        self.micro = LowRank(dim, min(config.micro_lora_rank, dim), seed=2)
        self.ewc = self._anchor(self.base)
        self._drift = Drift(dim)
        self._good, self._bad = Ring(dim, _GOOD), Ring(dim, _BAD)

    def _anchor(self, base: LowRank) -> EwcPlusPlus:
        return EwcPlusPlus(base.theta.size, strength=self._strength)

    @property
    def taught(self) -> bool:
        """Whether anything has moved an adapter."""
        return self.micro.updates + self.base.updates > 0

    def arrays(self) -> Arrays:
        """Both adapters, by "micro." or "base." and the name of a part; nothing of a trajectory."""
        both = {"micro": self.micro, "base": self.base}
        return {f"{name}.{key}": value for name, one in both.items() for key, value in one.arrays().items()}

    def adopt(self, arrays: Arrays) -> None:
        """Take up what `arrays` gave, in the place of what was learnt here.

        Raises:
            InputError: a part is missing, or is for vectors of another width.
        """
        made = []
        for name, before in (("micro", self.micro), ("base", self.base)):
            try:
                own = {key: arrays[f"{name}.{key}"] for key in ("down", "up", "alpha")}
            except KeyError as missing:
                fix = "give a file that `ruvllm learn export` wrote"
                raise InputError(f"the adapters lack {missing}", field="file", fix=fix) from None
            adapter = LowRank.from_arrays(own, InputError)
            if adapter.dim != before.dim:
                fix = f"give adapters of {before.dim} dimensions"
                raise InputError(f"the {name} adapter has {adapter.dim}", field="file", fix=fix)
            adapter.updates = max(before.updates, 1)
            made.append(adapter)
        self.micro, self.base = made
        self.ewc = self._anchor(self.base)

    def apply(self, x: Vectors) -> Vectors:
        """x (dim,) or (n, dim), unit rows, adapted by both."""
        return apply_all(x, (self.micro, self.base))

    def instant(self, one: Trajectory, weight: float, bank: ReasoningBank) -> bool:
        """INSTANT: one step of the micro adapter; true when there was something to tell the trajectory from."""
        moved = self._teach_micro(one, weight, bank)
        (self._good if one.good else self._bad).add(one.vector, one.route)
        return moved

    def _teach_micro(self, one: Trajectory, weight: float, bank: ReasoningBank) -> bool:
        y = self.apply(one.vector)
        good = (bank.centroids, bank.routes), (self._good.rows, self._good.routes)
        sides = Landmarks(good, (self._bad.rows, self._bad.routes)).sides(y, one.route, one.good)
        if sides is None:
            return False
        self.micro.teach(one.vector, contrast_loss(y, sides, weight)[1], self._rates[0])
        return True

    def consolidate(self, batch: Sequence[Trajectory], bank: ReasoningBank) -> Iterator[int]:
        """CONSOLIDATE: the base learns a batch among the patterns, held by what earlier tasks need of it.

        Patterns are rehearsed along with it. Yields, after each short slice, how many trajectories were
        taught in it for the first time; abandoned in between, it leaves the base as taught so far.
        """
        landmarks = Landmarks([(bank.centroids, bank.routes)], (self._bad.rows, self._bad.routes))
        fresh = [_Lesson(one.vector, one.route, one.good, one.score if one.good else 1 - one.score) for one in batch]
        known = [_Lesson(one.centroid, one.route, True, one.avg_quality) for one in bank.get_patterns()]
        if self.base.strength == 0:
            self._begin(fresh[:BATCH], landmarks)
        random = np.random.default_rng(self.base.updates)
        for turn in range(_PASSES):
            for start in range(0, len(fresh), _SLICE):
                some = fresh[start : start + _SLICE]
                for lesson in some:
                    if turn == 0 and self._drift.add(lesson.x):
                        self.ewc.consolidate(self.base.theta)
                    self._teach_base(lesson, landmarks, new=turn == 0)
                    if known:
                        self._teach_base(known[int(random.integers(len(known)))], landmarks, new=False)
                yield len(some) if turn == 0 else 0

    def _begin(self, lessons: Sequence[_Lesson], landmarks: Landmarks) -> None:
        """The first batch chooses the subspace; from then on its coordinates stay, and the Fisher with them."""
        xs, slopes = [], []
        for one in lessons:
            if (sides := landmarks.sides(one.x, one.route, one.good)) is not None:
                xs.append(one.x)
                slopes.append(contrast_loss(one.x, sides, one.weight)[1])
        if xs:
            self.base.absorb(np.stack(xs), np.stack(slopes))

    def _teach_base(self, one: _Lesson, landmarks: Landmarks, new: bool) -> None:
        y = self.base.apply(one.x)
        sides = landmarks.sides(y, one.route, one.good)
        if sides is None:
            return
        gradient = self.base.gradient(one.x, contrast_loss(y, sides, one.weight)[1])
        if new:  # what is rehearsed would hide the drift, and count twice in the Fisher
            self.ewc.observe(gradient, self.base.theta)
        self.base.step(gradient, self._rates[1])
        self.ewc.pull(self.base.theta, self._rates[1])

    def restart_micro(self, waiting: Sequence[Trajectory], bank: ReasoningBank) -> None:
        """What the micro adapter knew the base now knows better; it keeps what still waits."""
        self._restarts += 1
        updates = self.micro.updates
        self.micro = LowRank(self.micro.dim, self.micro.rank, seed=2 + self._restarts)
        self.micro.updates = updates
        for one in waiting:
            self._teach_micro(one, one.score if one.good else 1 - one.score, bank)

    def to_bytes(self) -> bytes:
        """For the state file."""
        parts = {
            "micro": self.micro.to_bytes(),
            "base": self.base.to_bytes(),
            "ewc": self.ewc.to_bytes(),
            "drift": pack(self._drift.arrays(), "drift"),
            "good": self._good.to_bytes(),
            "bad": self._bad.to_bytes(),
        }
        counts = np.array([self.micro.updates, self.base.updates, self._restarts], np.int64)
        return pack({name: as_array(data) for name, data in parts.items()} | {"counts": counts}, "sona-adapters")

    def load(self, data: bytes, error: type[RuvllmError] = StoreError) -> None:
        """Become what `to_bytes` was taken of, at its ranks. Raises `error`: it is damaged, or of another width."""
        found = unpack(data, "sona-adapters", _SPECS, error=error)
        part = {name: found[name].tobytes() for name in _PARTS}
        dim, counts = self.base.dim, found["counts"].tolist()
        micro, base = (LowRank.from_bytes(part[name], error) for name in ("micro", "base"))
        if (micro.dim, base.dim) != (dim, dim) or min(counts) < 0:
            raise error(f"adapters of width {micro.dim} and {base.dim}, not {dim}", field="lora", fix=_FIX)
        ewc, drift, good, bad = self._anchor(base), Drift(dim), Ring(dim, _GOOD), Ring(dim, _BAD)
        ewc.load(part["ewc"], error)
        drift.restore(unpack(part["drift"], "drift", DRIFT_SPECS, error=error), error)
        good.load(part["good"], error)
        bad.load(part["bad"], error)
        self.micro, self.base, self.ewc, self._drift, self._good, self._bad = micro, base, ewc, drift, good, bad
        self.micro.updates, self.base.updates, self._restarts = counts


def as_array(data: bytes) -> NDArray[np.uint8]:
    """Bytes to be packed inside others: uint8 (bytes,)."""
    return np.frombuffer(data, np.uint8)
