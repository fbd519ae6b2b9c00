"""What a SonaEngine's trajectories teach the embedding: at once, and in the background without forgetting."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ruvllm.encoders.protocol import Vectors
from ruvllm.errors import InputError, RuvllmError, StoreError
from ruvllm.learning.ewc import EwcPlusPlus
from ruvllm.learning.lora import BATCH, LowRank, apply_all, pairwise_loss
from ruvllm.learning.patterns import ReasoningBank
from ruvllm.learning.sona.config import SonaConfig
from ruvllm.learning.trajectories import Trajectory
from ruvllm.state.packing import Arrays, Spec, array_json, json_array, pack, unpack

_NEAREST = 4  # of each side: a route's tasks need not all be alike
_SAME = 0.999  # cosine of a repetition


class Ring:
    """The latest outcomes; the oldest one's place is taken.

    Attributes:
        routes: (n,) of each, as objects.
        models: (n,) that answered, "" where that is unknown, as objects.
        scores: float32 (n,), 0 to 1.
    """

    def __init__(self, dim: int, capacity: int) -> None:
        self._held, self._next, self._capacity = np.zeros((0, dim), np.float32), 0, capacity
        self.routes: NDArray[Any] = np.zeros(0, object)
        self.models: NDArray[Any] = np.zeros(0, object)
        self.scores = np.zeros(0, np.float32)

    @property
    def rows(self) -> Vectors:
        """Vectors float32 (n, dim), in no particular order."""
        return self._held[: len(self.routes)]

    def add(self, one: Trajectory) -> None:
        """The latest one."""
        model = str(one.metadata.get("model", ""))
        place = self._next
        if len(self.routes) < self._capacity:
            place = len(self.routes)
            if place == len(self._held):
                grown = np.zeros((min(self._capacity, 2 * place + 16), self._held.shape[1]), np.float32)
                grown[:place] = self._held
                self._held = grown
            self.routes, self.models = np.append(self.routes, one.route), np.append(self.models, model)
            self.scores = np.append(self.scores, np.float32(one.score))
        self._held[place] = one.vector
        self.routes[place], self.models[place], self.scores[place] = one.route, model, one.score
        self._next = (place + 1) % self._capacity

    def drop(self, vector: Vectors, route: str | None = None) -> int:
        """Forget outcomes of this very vector (dim,) and route, or of any; how many there were."""
        stays = self.rows @ vector < _SAME
        if route is not None:
            stays |= self.routes != route
        gone = len(stays) - int(stays.sum())
        if gone:
            self._held, self.scores = self.rows[stays], self.scores[stays]
            self.routes, self.models = self.routes[stays], self.models[stays]
            self._next = len(self.routes) % self._capacity
        return gone

    def to_bytes(self) -> bytes:
        """For the state file."""
        about = json_array([self._next, self.routes.tolist(), self.models.tolist()])
        return pack({"rows": self.rows, "scores": self.scores, "about": about}, "ring")

    def load(self, data: bytes, error: type[RuvllmError] = StoreError) -> None:
        """Hold what `to_bytes` was taken of. Raises `error`: it is damaged."""
        specs = {"rows": Spec(("n", self._held.shape[1])), "scores": Spec(("n",)), "about": Spec(("b",), "uint8")}
        found = unpack(data, "ring", specs, error=error)
        about, rows, scores = array_json(found["about"], "outcomes", error), found["rows"], found["scores"]
        try:
            following, routes, models = about
            if type(following) is not int or not 0 <= following < self._capacity or len(rows) > self._capacity:
                raise ValueError
            if not len(routes) == len(models) == len(rows) or not all(isinstance(n, str) for n in routes + models):
                raise ValueError
            if not ((scores >= 0) & (scores <= 1)).all():
                raise ValueError
        except (TypeError, ValueError):
            fix = "drop them; they are collected again"
            raise error("damaged outcomes", field="outcomes", fix=fix) from None
        self._held, self._next, self.scores = rows.copy(), following, scores.copy()
        self.routes, self.models = np.array(routes, object), np.array(models, object)


Marked = tuple[Vectors, NDArray[Any]]  # rows (n, dim) and the route of each (n,), as objects


Landmarks = tuple[Sequence[Marked], Marked]  # examples, of one or more places, and warnings, at one moment


def sides(landmarks: Landmarks, y: Vectors, route: str, good: bool) -> tuple[Vectors, Vectors] | None:
    """(nearer, farther) rows for an adapted task y (dim,); None where there is nothing to tell apart.

    What went well belongs with its route's examples, away from other routes' and from its route's warnings. What went
    badly is drawn the other way.
    """
    examples, (rows, routes) = landmarks
    compared = [(rows, rows @ y, routes == route) for rows, routes in examples]
    nearer = _nearest(compared)
    others = _nearest([(rows, cosines, ~same) for rows, cosines, same in compared])
    against = np.concatenate([others, _nearest([(rows, rows @ y, routes == route)])])
    if not len(nearer) or not len(against):
        return None
    return (nearer, against) if good else (against, nearer)


def _nearest(places: Sequence[tuple[Vectors, Vectors, NDArray[Any]]]) -> Vectors:
    """The rows (at most _NEAREST, dim) of highest cosine among those of (rows, cosines, mask) that are masked."""
    found, near = [], []
    for rows, cosines, mask in places:
        chosen = np.flatnonzero(mask)
        if len(chosen) > _NEAREST:
            chosen = chosen[np.argpartition(-cosines[chosen], _NEAREST)[:_NEAREST]]
        found.append(rows[chosen])
        near.append(cosines[chosen])
    best = np.argsort(-np.concatenate(near), kind="stable")[:_NEAREST]
    return np.asarray(np.concatenate(found)[best])


_GOOD, _BAD = 1_024, 512  # latest examples and warnings, which a trajectory is compared with and which vote
_PASSES = 2  # over the trajectories of a cycle
_TASK = 100  # examples from which earlier cycles are a task, where EWC++ has not found an end by itself
_SLICE = 32  # examples between two looks at the clock: a few milliseconds
_PARTS = ("micro", "base", "ewc", "good", "bad")
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
        good, bad: the latest examples and warnings.
    """

    def __init__(self, dim: int, config: SonaConfig) -> None:
        self._rates = config.micro_lora_lr, config.base_lora_lr
        self._strength = config.ewc_lambda
        self._restarts = 0
        self.base = LowRank(dim, min(config.base_lora_rank, dim), seed=1)
        self.micro = LowRank(dim, min(config.micro_lora_rank, dim), seed=2)
        self.ewc = self._anchor(self.base)
        self.good, self.bad = Ring(dim, _GOOD), Ring(dim, _BAD)

    def _anchor(self, base: LowRank) -> EwcPlusPlus:
        return EwcPlusPlus(base.theta.size, strength=self._strength)

    @property
    def trained(self) -> bool:
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
                part = {key: arrays[f"{name}.{key}"] for key in ("down", "up", "alpha")}
            except KeyError as missing:
                fix = "give a file that `ruvllm learn export` wrote"
                raise InputError(f"the adapters lack {missing}", field="file", fix=fix) from None
            adapter = LowRank.from_arrays(part, InputError)
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
        (self.good if one.good else self.bad).add(one)
        return moved

    def _teach_micro(self, one: Trajectory, weight: float, bank: ReasoningBank) -> bool:
        y = self.apply(one.vector)
        good = (bank.centroids, bank.routes), (self.good.rows, self.good.routes)
        pair = sides((good, (self.bad.rows, self.bad.routes)), y, one.route, one.good)
        if pair is None:
            return False
        self.micro.teach(one.vector, pairwise_loss(y, *pair, weight=weight)[1], self._rates[0])
        return True

    def consolidate(self, batch: Sequence[Trajectory], bank: ReasoningBank) -> Iterator[int]:
        """CONSOLIDATE: the base learns a batch among the patterns, held by what earlier tasks need of it.

        Patterns are rehearsed along with it. Yields, after each short slice, how many trajectories were
        taught in it for the first time; abandoned in between, it leaves the base as taught so far.
        """
        if self.ewc.stats.samples >= _TASK:
            self.ewc.consolidate(self.base.theta)
        landmarks = [(bank.centroids, bank.routes)], (self.bad.rows, self.bad.routes)
        fresh = [_Lesson(one.vector, one.route, one.good, one.score if one.good else 1 - one.score) for one in batch]
        prototypes = [_Lesson(one.centroid, one.route, True, one.avg_quality) for one in bank.get_patterns()]
        if self.base.strength == 0:
            self._begin(fresh[:BATCH], landmarks)
        random = np.random.default_rng(self.base.updates)
        for turn in range(_PASSES):
            for start in range(0, len(fresh), _SLICE):
                some = fresh[start : start + _SLICE]
                for lesson in some:
                    self._teach_base(lesson, landmarks, new=turn == 0)
                    if prototypes:
                        self._teach_base(prototypes[int(random.integers(len(prototypes)))], landmarks, new=False)
                yield len(some) if turn == 0 else 0

    def _begin(self, lessons: Sequence[_Lesson], landmarks: Landmarks) -> None:
        """The first batch chooses the subspace; from then on its coordinates stay, and the Fisher with them."""
        xs, slopes = [], []
        for one in lessons:
            if (pair := sides(landmarks, one.x, one.route, one.good)) is not None:
                xs.append(one.x)
                slopes.append(pairwise_loss(one.x, *pair, weight=one.weight)[1])
        if xs:
            self.base.absorb(np.stack(xs), np.stack(slopes))

    def _teach_base(self, one: _Lesson, landmarks: Landmarks, new: bool) -> None:
        y = self.base.apply(one.x)
        pair = sides(landmarks, y, one.route, one.good)
        if pair is None:
            return
        gradient = self.base.gradient(one.x, pairwise_loss(y, *pair, weight=one.weight)[1])
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
            "good": self.good.to_bytes(),
            "bad": self.bad.to_bytes(),
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
        ewc, good, bad = self._anchor(base), Ring(dim, _GOOD), Ring(dim, _BAD)
        ewc.load(part["ewc"], error)
        good.load(part["good"], error)
        bad.load(part["bad"], error)
        self.micro, self.base, self.ewc, self.good, self.bad = micro, base, ewc, good, bad
        self.micro.updates, self.base.updates, self._restarts = counts


def as_array(data: bytes) -> NDArray[np.uint8]:
    """Bytes to be packed inside others: uint8 (bytes,)."""
    return np.frombuffer(data, np.uint8)
