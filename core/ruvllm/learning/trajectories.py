"""What an agent did for one task, step by step, and how it came out; and the buffer where such records wait."""

from __future__ import annotations

import json
import math
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import field, replace
from itertools import pairwise
from typing import Any

import numpy as np

from ruvllm.encoders.protocol import Vectors
from ruvllm.errors import InputError, RuvllmError, StoreError
from ruvllm.lazy_dataclass import dataclass
from ruvllm.reprs import Shown, shortened
from ruvllm.state.packing import Spec, array_json, json_array, pack, unpack
from ruvllm.text.surrogates import well_formed, well_formed_json

CAPACITY = 10_000
_LONGEST = 200  # characters kept of a step's or context's text
_MOST_STEPS, _MOST_CONTEXTS, _MOST_ABOUT = 256, 32, 32
MOST_BYTES = 1 << 30  # of a state: as many trajectories as fit, of the widest vectors
_MOST = 1e15  # of any number told
_SAME = 0.999  # cosine of a repetition
_MOST_TEXT = 8 << 20  # bytes of text that a buffer holds beside the vectors
_FIX = "drop it; trajectories are collected again"

Scalar = str | int | float | bool | None


@dataclass(frozen=True, slots=True, repr=False)
class Step(Shown):
    """One action, what it was taken on, and its reward (-1 to 1, as is usual)."""

    input: str
    action: str
    reward: float = 0.0


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Trajectory(Shown):
    """A task from its first step to its outcome.

    Attributes:
        id: its number in the order of ending.
        vector: float32 (dim,), unit norm: the task in the encoder's space.
        route: who handled it, "" when that is not known.
        quality: 0 to 1 as it was told, None when it was not.
        success: None when nobody said.
        score: 0 to 1, what judging made of all that.
        good: whether it is to be learnt from as an example, and not as a warning.
        pattern_type: one of `PATTERN_TYPES`.
        ended: seconds since 1970.
    """

    id: int
    vector: Vectors
    steps: tuple[Step, ...] = ()
    contexts: tuple[str, ...] = ()
    route: str = ""
    quality: float | None = None
    success: bool | None = None
    score: float = 0.0
    good: bool = False
    pattern_type: str = "General"
    metadata: Mapping[str, Scalar] = field(default_factory=dict)
    ended: float = 0.0

    @property
    def rewards(self) -> tuple[float, ...]:
        """Of each step."""
        return tuple(step.reward for step in self.steps)


class TrajectoryBuilder:
    """A trajectory while it goes on.

    Attributes:
        text: the task in words, "" when only its vector was given; a first step's input takes its place.
        vector: (dim,), None until the task is encoded.
    """

    def __init__(self, text: str = "", vector: Vectors | None = None) -> None:
        self.text, self.vector = text, vector
        self.route = ""
        self.steps: list[Step] = []
        self.contexts: list[str] = []
        self.metadata: dict[str, Scalar] = {}

    def add_step(self, input: str, action: str, reward: float) -> None:
        """Raises InputError: a reward that is no finite number, other texts, or too many steps for a trajectory."""
        for name, said in (("input", input), ("action", action)):
            if not isinstance(said, str):
                fix = "say in words what the step was taken on, and what was done"
                raise InputError(f"a step's {name} is {shortened(said)}", field=name, fix=fix)
        if isinstance(reward, bool) or not isinstance(reward, int | float) or not abs(reward) < _MOST:
            raise InputError(f"reward is {reward!r}", field="reward", fix="use a number, usually from -1 to 1")
        if len(self.steps) >= _MOST_STEPS:
            fix = "end this trajectory and begin another"
            raise InputError(f"more than {_MOST_STEPS} steps", field="steps", fix=fix)
        if not self.text and self.vector is None:
            self.text = input
        self.steps.append(Step(well_formed(input[:_LONGEST]), well_formed(action[:_LONGEST]), float(reward)))

    def set_route(self, route: str) -> None:
        """Raises InputError: no name, or too long a one."""
        if not isinstance(route, str) or len(route) > _LONGEST:
            fix = f"give a name of at most {_LONGEST} characters"
            raise InputError(f"route is {shortened(route)}", field="route", fix=fix)
        self.route = well_formed(route)

    def trajectory(self, id: int, vector: Vectors, pattern_type: str, ended: float) -> Trajectory:
        """What it became, not judged yet."""
        steps, contexts = tuple(self.steps), tuple(self.contexts)
        made = Trajectory(id, vector, steps, contexts, self.route, pattern_type=pattern_type, ended=ended)
        return replace(made, metadata=self.metadata)

    def add_context(self, context: str | Mapping[str, Scalar]) -> None:
        """A name of what it happened in, or facts about it. Raises InputError: too many of them, or no plain values."""
        if isinstance(context, str):
            if (name := well_formed(context[:_LONGEST])) not in self.contexts:
                self.contexts.append(name)
        elif not isinstance(context, Mapping):
            fix = "give a name, or a mapping of facts"
            raise InputError(f"context is {shortened(context)}", field="context", fix=fix)
        else:
            self.metadata = checked_about(self.metadata | dict(context))
        if len(self.contexts) > _MOST_CONTEXTS:
            self.contexts.pop()
            raise InputError(f"more than {_MOST_CONTEXTS} contexts", field="context", fix="name the important ones")


def checked_about(about: Mapping[Any, Any]) -> dict[str, Scalar]:
    """Flat facts with text cut to length. Raises InputError: nested, too many, or of other types."""
    plain = all(isinstance(key, str) and isinstance(value, Scalar) for key, value in about.items())
    if not plain or len(about) > _MOST_ABOUT or any(_endless(value) for value in about.values()):
        fix = f"use at most {_MOST_ABOUT} names with text, finite numbers or truth values"
        raise InputError("metadata that cannot be kept", field="metadata", fix=fix)
    cut = {key[:_LONGEST]: value[:_LONGEST] if isinstance(value, str) else value for key, value in about.items()}
    checked: dict[str, Scalar] = well_formed_json(cut)
    return checked


def _endless(value: Scalar) -> bool:
    return isinstance(value, float) and not math.isfinite(value)


class TrajectoryBuffer:
    """A ring of trajectories that wait to be learnt from: when it is full, the oldest leaves.

    Attributes:
        dropped: how many left without having been learnt from.
    """

    def __init__(self, capacity: int = CAPACITY, most_text: int = _MOST_TEXT) -> None:
        """Raises InputError: a capacity below 1."""
        if capacity < 1:
            raise InputError(f"a capacity of {capacity}", field="capacity", fix="use 1 or more")
        self.capacity, self.dropped = capacity, 0
        self._most_text, self._text = most_text, 0
        self._entries: deque[tuple[Trajectory, int]] = deque()  # with the bytes of its text

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[Trajectory]:
        return (trajectory for trajectory, _ in self._entries)

    def add(self, trajectory: Trajectory) -> None:
        """The latest one; it counts as newer than all others."""
        size = len(json.dumps(_record(trajectory), ensure_ascii=False).encode())
        self._entries.append((trajectory, size))
        self._text += size
        while len(self._entries) > self.capacity or (self._text > self._most_text and len(self._entries) > 1):
            self._pop()
            self.dropped += 1

    def latest(self, limit: int) -> list[Trajectory]:
        """At most `limit`, oldest first."""
        return [self._entries[i][0] for i in range(max(0, len(self._entries) - limit), len(self._entries))]

    def learnt(self, last: int) -> None:
        """Let go of all up to this id."""
        while self._entries and self._entries[0][0].id <= last:
            self._pop()

    def drop(self, vector: Vectors, route: str | None = None) -> None:
        """Let go of those of this very vector (dim,) and route, or of any."""
        stay = [
            pair
            for pair in self._entries
            if pair[0].route != (route or pair[0].route) or pair[0].vector @ vector < _SAME
        ]
        self._entries, self._text = deque(stay), sum(size for _, size in stay)

    def _pop(self) -> None:
        self._text -= self._entries.popleft()[1]

    def to_bytes(self, dim: int) -> bytes:
        """For the state file; `dim` is the width of the vectors."""
        vectors = np.array([trajectory.vector for trajectory in self], np.float32).reshape(-1, dim)
        records = json_array([self.dropped, [_record(one) for one in self]])
        return pack({"vectors": vectors, "records": records}, "trajectories")

    def load(self, data: bytes, dim: int, error: type[RuvllmError] = StoreError) -> None:
        """Hold what `to_bytes` was taken of. Raises `error`: it is damaged, or of another width."""
        specs = {"vectors": Spec(("n", dim)), "records": Spec(("bytes",), "uint8")}
        found = unpack(data, "trajectories", specs, most_bytes=MOST_BYTES, error=error)
        header, vectors = array_json(found["records"], "trajectories", error), found["vectors"]
        try:
            dropped, records = header
            if type(dropped) is not int or dropped < 0 or len(records) != len(vectors):
                raise ValueError("counts that do not agree")
            loaded = [_from_record(record, vector) for record, vector in zip(records, vectors, strict=True)]
            if any(before.id >= after.id for before, after in pairwise(loaded)):
                raise ValueError("ids that do not rise")
        except (TypeError, ValueError, KeyError, InputError) as bad:
            raise error(f"damaged trajectories: {bad}"[:200], field="trajectories", fix=_FIX) from None
        self._entries.clear()
        self._text = 0
        for trajectory in loaded:
            self.add(trajectory)
        self.dropped = dropped


_NAMES = ("id", "contexts", "route", "quality", "success", "score", "good", "pattern_type", "metadata", "ended")


def _record(one: Trajectory) -> dict[str, Any]:
    steps = [[step.input, step.action, step.reward] for step in one.steps]
    return {name: getattr(one, name) for name in _NAMES} | {"steps": steps}


def _from_record(record: Any, vector: Vectors) -> Trajectory:
    """Raises TypeError, ValueError, KeyError or InputError: it is none."""
    if not isinstance(record, dict) or record.keys() != {*_NAMES, "steps"}:
        raise ValueError("other fields")
    steps = tuple(
        Step(_text(observation), _text(action), _number(reward)) for observation, action, reward in record["steps"]
    )
    quality, success = record["quality"], record["success"]
    if type(record["id"]) is not int or not 0 <= record["id"] < 1 << 53 or len(steps) > _MOST_STEPS:
        raise ValueError("no usable id, or too many steps")
    if success not in (None, True, False) or type(record["good"]) is not bool:
        raise ValueError("no usable outcome")
    if not 0 <= _number(record["score"]) <= 1 or (quality is not None and not 0 <= _number(quality) <= 1):
        raise ValueError("no usable quality")
    return Trajectory(
        record["id"],
        vector,
        steps,
        tuple(_text(context) for context in record["contexts"][:_MOST_CONTEXTS]),
        _text(record["route"]),
        quality,
        success,
        record["score"],
        record["good"],
        _text(record["pattern_type"]),
        checked_about(dict(record["metadata"])),
        _number(record["ended"]),
    )


def _text(value: Any) -> str:
    if not isinstance(value, str) or len(value) > _LONGEST:
        raise ValueError("no short text")
    return value


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < _MOST:
        raise ValueError("no finite number")
    return float(value)
