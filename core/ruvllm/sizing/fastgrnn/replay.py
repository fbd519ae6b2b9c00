"""Prompts that were routed and what came of it, to learn from again: the last 100,000."""

from __future__ import annotations

import struct
from collections import deque
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ruvllm.errors import InputError, RuvllmError, StoreError
from ruvllm.sizing.fastgrnn import CONTEXTS, ModelSize
from ruvllm.sizing.fastgrnn.cell import INPUTS, MODELS_OUT
from ruvllm.sizing.fastgrnn.loss import HOTTEST, Batch

CAPACITY = 100_000
_NOVEL = 1_000  # of the latest feedback, remembered as not yet seen by consolidation
_STORED = 10_000  # turns in the state file
_FIRST = 256  # rows that are allocated at once
_MAGIC = b"ruvRPLY1"
_HEADER = struct.Struct("<8sIq")  # magic, capacity, next serial
_FIX = "drop it; feedback is gathered again"
_ROW = np.dtype(
    [
        ("x", "<f2", (INPUTS,)),  # 3 digits are more than a prompt's inputs mean
        ("serial", "<i8"),
        ("previous", "<i8"),  # serial of the session's turn before; -1 for the first
        ("used", "i1"),  # which size; -1 before feedback
        ("context", "i1"),
        *((name, "<f4") for name in ("quality", "cost", "temperature", "top_p")),
    ]
)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a prompt's answer turned out.

    Attributes:
        quality: 0 to 1.
        cost: of the answer, in any one unit; None where nobody counts.
        tokens: of context that were needed; None where nobody counts.
        temperature, top_p: as used.
    """

    size: ModelSize
    quality: float
    cost: float | None = None
    tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None

    def __post_init__(self) -> None:
        for name, most in (("quality", 1.0), ("cost", 1e30), ("tokens", 1e9), ("temperature", HOTTEST), ("top_p", 1.0)):
            value = getattr(self, name)
            if (value is None and name == "quality") or (value is not None and not 0 <= value <= most):
                raise InputError(f"{name} is {value}", field=name, fix=f"use a number from 0 to {most:g}")
        if self.size not in range(MODELS_OUT):
            raise InputError(f"size is {self.size}", field="size", fix="use a ModelSize")

    @property
    def bucket(self) -> int:
        """The smallest context that holds the tokens; -1 if unknown."""
        if self.tokens is None:
            return -1
        return next((i for i, most in enumerate(CONTEXTS) if self.tokens <= most), len(CONTEXTS) - 1)


class Replay:
    """A ring of turns; each knows the turn before it in its session.

    Attributes:
        capacity: turns; 290 bytes each once there are so many.
        novel: serials of feedback that consolidation has not seen yet.
    """

    def __init__(self, capacity: int = CAPACITY) -> None:
        if not 1 <= capacity <= 100 * CAPACITY:
            raise InputError(f"capacity is {capacity}", field="capacity", fix=f"use 1 to {100 * CAPACITY}")
        self.capacity, self.novel = capacity, deque[int](maxlen=_NOVEL)
        self._rows = _empty(min(_FIRST, capacity))
        self._first = self._next = 0  # serials: of row 0, and of the turn to come
        self._labelled: NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return self._next - self._oldest

    @property
    def _oldest(self) -> int:
        return max(self._next - self.capacity, self._first)

    def add(self, x: NDArray[np.float32], previous: int = -1) -> int:
        """Keep a turn's inputs (128,), the oldest turn falling out; returns its serial, to give feedback by."""
        place = (self._next - self._first) % self.capacity
        if place >= len(self._rows):
            more = _empty(min(2 * len(self._rows), self.capacity) - len(self._rows))
            self._rows = np.concatenate([self._rows, more])
        self._rows[place] = (x, self._next, previous, -1, -1, 0, np.nan, np.nan, np.nan)
        self._next += 1
        self._labelled = None
        return self._next - 1

    def label(self, serial: int, outcome: Outcome | None) -> bool:
        """Say how a turn went; None takes it back. False: it has fallen out."""
        if not self._oldest <= serial < self._next:
            return False
        row = self._rows[(serial - self._first) % self.capacity]
        if outcome is None:
            row["used"] = -1
        else:
            row["used"], row["quality"], row["context"] = outcome.size, outcome.quality, outcome.bucket
            for name in ("cost", "temperature", "top_p"):
                value = getattr(outcome, name)
                row[name] = np.nan if value is None else value
            self.novel.append(serial)
        self._labelled = None
        return True

    @property
    def labelled(self) -> NDArray[np.int64]:
        """Serials of the turns with feedback, in order."""
        if self._labelled is None:
            loaded = self._rows[: len(self)]
            self._labelled = np.sort(loaded["serial"][loaded["used"] >= 0].astype(np.int64))
        return self._labelled

    def costs(self, prior: NDArray[np.float64]) -> NDArray[np.float64]:
        """Mean cost of each size, the dearest 1; `prior` (4,) stands in, scaled, for sizes without any."""
        rows = self._rows[: len(self)]
        rows = rows[(rows["used"] >= 0) & np.isfinite(rows["cost"])]
        counts = np.bincount(rows["used"], minlength=MODELS_OUT)
        means = np.bincount(rows["used"], rows["cost"], minlength=MODELS_OUT) / np.maximum(counts, 1)
        seen = counts > 0
        if not means[seen].sum() > 0:
            return prior / max(float(prior.max()), 1e-30)
        costs = np.where(seen, means, prior * means[seen].sum() / max(float(prior[seen].sum()), 1e-30))
        return np.asarray(costs / costs.max(), np.float64)

    def batch(self, serials: NDArray[np.int64], window: int, costs: NDArray[np.float64]) -> Batch:
        """The turns with these serials, each after at most window - 1 turns of its session that are still here."""
        steps, rows, current = [], self._rows[(serials - self._first) % self.capacity], serials
        for _ in range(window):
            here = (current >= self._oldest) & (current < self._next)
            if not here.any():
                break
            turn = np.where(here, current - self._first, 0) % self.capacity  # rows grow: not all places exist
            steps.append((np.where(here[:, None], self._rows["x"][turn], 0), here))
            current = np.where(here, self._rows["previous"][turn], -1)
        return Batch(
            x=np.stack([x for x, _ in reversed(steps)]).astype(np.float32),
            present=np.stack([here for _, here in reversed(steps)])[:, :, None].astype(np.float32),
            used=rows["used"].astype(np.int64),
            quality=rows["quality"].astype(np.float32),
            context=rows["context"].astype(np.int64),
            temperature=rows["temperature"].astype(np.float32),
            top_p=rows["top_p"].astype(np.float32),
            costs=costs,
        )

    def to_bytes(self, most: int = _STORED) -> bytes:
        """The latest `most` turns, for the state file."""
        serials = np.arange(max(self._next - most, self._oldest), self._next, dtype=np.int64)
        rows = self._rows[(serials - self._first) % self.capacity]
        return _HEADER.pack(_MAGIC, self.capacity, self._next) + rows.tobytes()

    @classmethod
    def from_bytes(cls, data: bytes, error: type[RuvllmError] = StoreError) -> Replay:
        """What `to_bytes` was taken of. Raises RuvllmError: of the type `error`, when the data is damaged."""
        try:
            magic, capacity, following = _HEADER.unpack_from(data)
            if magic != _MAGIC or following < 0:
                raise ValueError(f"it starts with {magic!r}")
            loaded, rows = cls(capacity), np.frombuffer(data, _ROW, offset=_HEADER.size)
            _check(rows, following, capacity)
        except (ValueError, struct.error) as bad:
            raise error(f"no usable replay buffer: {bad}"[:240], field="replay", fix=_FIX) from None
        loaded._first, loaded._next = following - len(rows), following
        if len(rows):
            loaded._rows = rows.copy()
        return loaded


def _empty(n: int) -> NDArray[np.void]:
    rows = np.zeros(n, _ROW)
    rows["serial"] = rows["previous"] = rows["used"] = -1
    return rows


def _check(rows: NDArray[np.void], following: int, capacity: int) -> None:
    """Raises ValueError when these are no rows that `to_bytes` wrote."""
    serials = np.arange(following - len(rows), following, dtype=np.int64)
    before = rows["previous"]
    ranges = {"used": (-1, MODELS_OUT - 1), "context": (-1, len(CONTEXTS) - 1), "quality": (0, 1)}
    inside = all(((rows[name] >= least) & (rows[name] <= most)).all() for name, (least, most) in ranges.items())
    labelled = all(
        (np.isnan(rows[name]) | ((rows[name] >= 0) & (rows[name] <= most))).all()
        for name, most in (("cost", 1e30), ("temperature", HOTTEST), ("top_p", 1))
    )
    if len(rows) > min(capacity, max(following, 0)) or not np.array_equal(rows["serial"], serials):
        raise ValueError("its turns are not in order")
    if not (inside and labelled and np.isfinite(rows["x"]).all() and ((before >= -1) & (before < serials)).all()):
        raise ValueError("it holds numbers out of range")
