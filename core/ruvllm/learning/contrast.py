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
        routes: of each.
    """

    def __init__(self, dim: int, capacity: int) -> None:
        self._rows, self._next, self._capacity = np.zeros((0, dim), np.float32), 0, capacity
        self.routes: list[str] = []

    @property
    def rows(self) -> Vectors:
        """In no particular order."""
        return self._rows

    def add(self, vector: Vectors, route: str) -> None:
        """The latest one, (dim,)."""
        if len(self.routes) < self._capacity:
            self._rows = np.vstack([self._rows, vector[None]])
            self.routes.append(route)
        else:
            self._rows[self._next], self.routes[self._next] = vector, route
        self._next = (self._next + 1) % self._capacity

    def to_bytes(self) -> bytes:
        """For the state file."""
        return pack({"rows": self._rows, "routes": json_array([self._next, self.routes])}, "ring")

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
        self._rows, self.routes, self._next = rows, routes, following


class Landmarks:
    """Examples and warnings at one moment.

    Args:
        good, bad: (rows, routes) each, rows (n, dim).
    """

    def __init__(self, good: tuple[Vectors, Sequence[str]], bad: tuple[Vectors, Sequence[str]]) -> None:
        self._good, self._good_routes = good[0], np.array(good[1], object)
        self._bad, self._bad_routes = bad[0], np.array(bad[1], object)

    def sides(self, y: Vectors, route: str, good: bool) -> tuple[Vectors, Vectors] | None:
        """(nearer, farther) rows for an adapted task y (dim,); None where there is nothing to tell apart.

        What went well belongs with its route's examples, away from other routes' and from its route's
        warnings. What went badly is drawn the other way.
        """
        own = self._nearest(y, self._good, self._good_routes == route)
        others = self._nearest(y, self._good, self._good_routes != route)
        warnings = self._nearest(y, self._bad, self._bad_routes == route)
        against = np.concatenate([others, warnings])
        if not len(own) or not len(against):
            return None
        return (own, against) if good else (against, own)

    @staticmethod
    def _nearest(y: Vectors, rows: Vectors, mask: NDArray[Any]) -> Vectors:
        places = np.flatnonzero(mask)
        if len(places) > _NEAREST:
            places = places[np.argpartition(-(rows[places] @ y), _NEAREST)[:_NEAREST]]
        return rows[places]


def contrast_loss(y: Vectors, sides: tuple[Vectors, Vectors], weight: float) -> tuple[float, Vectors]:
    """(value, gradient with respect to y) of preferring the first side to the second."""
    value, slope = pairwise_loss(y, *sides)
    return weight * value, np.asarray(np.float32(weight) * slope, np.float32)
