"""Whom a task's embedding shall come nearer to, and whom not: examples and warnings of its own route and of others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ruvllm.encoders.protocol import Vectors
from ruvllm.errors import RuvllmError, StoreError
from ruvllm.learning.losses import pairwise_loss
from ruvllm.learning.packing import Spec, array_json, json_array, pack, unpack

__all__ = ["Landmarks", "Ring", "contrast_loss"]

_NEAREST = 4  # of each side: a route's tasks need not all be alike


class Ring:
    """The latest vectors with their routes; the oldest one's place is taken.

    Attributes:
        rows: float32 (kept, dim).
        routes: (kept,) of each, as objects.
    """

    def __init__(self, dim: int, capacity: int) -> None:
        self._rows, self._next, self._capacity = np.zeros((0, dim), np.float32), 0, capacity
        self.routes: NDArray[Any] = np.zeros(0, object)

    @property
    def rows(self) -> Vectors:
        """In no particular order."""
        return self._rows

    def add(self, vector: Vectors, route: str) -> None:
        """The latest one, (dim,)."""
        if len(self.routes) < self._capacity:
            self._rows = np.vstack([self._rows, vector[None]])
            self.routes = np.append(self.routes, route)
        else:
            self._rows[self._next], self.routes[self._next] = vector, route
        self._next = (self._next + 1) % self._capacity

    def to_bytes(self) -> bytes:
        """For the state file."""
        return pack({"rows": self._rows, "routes": json_array([self._next, self.routes.tolist()])}, "ring")

    def load(self, data: bytes, error: type[RuvllmError] = StoreError) -> None:
        """Hold what `to_bytes` was taken of. Raises `error`: it is damaged."""
        found = unpack(
            data, "ring", {"rows": Spec(("n", self._rows.shape[1])), "routes": Spec(("b",), "uint8")}, error=error
        )
        told, rows = array_json(found["routes"], "landmarks", error), found["rows"]
        try:
            following, routes = told
            if type(following) is not int or not 0 <= following < self._capacity or len(routes) != len(rows):
                raise ValueError
            if len(rows) > self._capacity or not all(isinstance(route, str) for route in routes):
                raise ValueError
        except (TypeError, ValueError):
            fix = "drop them; they are collected again"
            raise error("damaged landmarks", field="landmarks", fix=fix) from None
        self._rows, self.routes, self._next = rows, np.array(routes, object), following


Marked = tuple[Vectors, NDArray[Any]]  # rows (n, dim) and the route of each (n,), as objects


class Landmarks:
    """Examples and warnings at one moment.

    Args:
        good: of one or more places, which are not copied.
        bad: warnings.
    """

    def __init__(self, good: Sequence[Marked], bad: Marked) -> None:
        self._good, self._bad = good, bad

    def sides(self, y: Vectors, route: str, good: bool) -> tuple[Vectors, Vectors] | None:
        """(nearer, farther) rows for an adapted task y (dim,); None where there is nothing to tell apart.

        What went well belongs with its route's examples, away from other routes' and from its route's
        warnings. What went badly is drawn the other way.
        """
        compared = [(rows, rows @ y, routes == route) for rows, routes in self._good]
        own = _nearest(compared)
        rows, routes = self._bad
        others = _nearest([(rows, cosines, ~same) for rows, cosines, same in compared])
        against = np.concatenate([others, _nearest([(rows, rows @ y, routes == route)])])
        if not len(own) or not len(against):
            return None
        return (own, against) if good else (against, own)


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


def contrast_loss(y: Vectors, sides: tuple[Vectors, Vectors], weight: float) -> tuple[float, Vectors]:
    """(value, gradient with respect to y) of preferring the first side to the second."""
    value, slope = pairwise_loss(y, *sides)
    return weight * value, np.asarray(np.float32(weight) * slope, np.float32)
