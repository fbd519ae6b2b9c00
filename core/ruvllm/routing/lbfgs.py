"""L-BFGS in numpy alone: scipy's would do, but costs a browser 9 MB before the first feedback can be learnt."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Loss", "descend", "minimise"]

Loss = Callable[[NDArray[np.float32]], tuple[float, NDArray[np.float32]]]


def minimise(loss: Loss, start: NDArray[np.float32], tolerance: float = 1e-4) -> NDArray[np.float32]:
    """Where `descend` ends."""
    return deque(descend(loss, start, tolerance), maxlen=1)[0]


def descend(
    loss: Loss, start: NDArray[np.float32], tolerance: float = 1e-4, most: int = 150, memory: int = 8
) -> Iterator[NDArray[np.float32]]:
    """L-BFGS with backtracking (Nocedal & Wright 2006, algorithm 7.4): the start, then each better point.

    Args:
        loss: (n,) -> (value, gradient (n,)).
        tolerance: stop when a step lowers the value by less than this share of it.
    """
    x: NDArray[np.float32] = start
    yield x
    value, gradient = loss(start)
    first = float(np.linalg.norm(gradient))
    history: list[tuple[NDArray[Any], NDArray[Any], float]] = []
    for _ in range(most):
        if np.linalg.norm(gradient) <= 1e-3 * first:
            return
        direction = _two_loop(gradient, history)
        slope = float(np.vdot(gradient, direction))
        length = 1.0
        while True:
            new = np.asarray(x - np.float32(length) * direction, np.float32)
            new_value, new_gradient = loss(new)
            if new_value <= value - 1e-4 * length * slope or length < 1e-6:
                break
            length /= 2
        step, change = new - x, new_gradient - gradient
        curvature = float(np.vdot(step, change))
        if curvature > 1e-10 * float(np.vdot(change, change)):
            history = [*history[1 - memory :], (step, change, 1 / curvature)]
        gain = value - new_value
        x, value, gradient = new, new_value, new_gradient
        yield x
        if gain < tolerance * max(abs(value), 1e-9):
            return


def _two_loop(gradient: NDArray[Any], history: list[tuple[NDArray[Any], NDArray[Any], float]]) -> NDArray[Any]:
    q = gradient.copy()
    alphas = []
    for step, change, rho in reversed(history):
        alphas.append(np.float32(rho * float(np.vdot(step, q))))
        q -= alphas[-1] * change
    if history:
        step, change, _ = history[-1]
        q *= np.float32(float(np.vdot(step, change)) / float(np.vdot(change, change)))
    else:
        q /= np.float32(max(float(np.linalg.norm(gradient)), 1e-12))
    for (step, change, rho), alpha in zip(history, reversed(alphas), strict=True):
        q += step * (alpha - np.float32(rho * float(np.vdot(change, q))))
    return q
