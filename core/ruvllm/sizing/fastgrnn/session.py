"""Choices in the course of a session, and among models of any sizes."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import log

import numpy as np
from numpy.typing import NDArray

from ruvllm.errors import InputError
from ruvllm.sizing.fastgrnn import SURE, FastGrnn, ModelSize, SizeChoice
from ruvllm.sizing.fastgrnn.replay import Replay

_NAMED_SIZE = re.compile(r"(?<![\w.])(\d+(?:\.\d+)?)\s*([mb])(?![a-z0-9])", re.IGNORECASE)


class RouterSession:
    """One conversation: what its turns so far did to the network's hidden state.

    Args:
        replay: where the turns are kept for feedback; none keeps nothing.
        explore: chance of taking the next cheaper size than the preferred, or than the safe default. Without
            some, nobody finds out that a cheaper one would have done.

    Attributes:
        last: serial of its last turn in the replay buffer; -1 before the first.
    """

    def __init__(self, network: FastGrnn, replay: Replay | None = None, *, explore: float = 0.0, seed: int = 0) -> None:
        if not 0 <= explore <= 1:
            raise InputError(f"explore is {explore}", field="explore", fix="use a probability")
        self.network, self.replay, self.explore = network, replay, explore
        self._hidden, self.last = network.start(), -1
        self._random = np.random.default_rng(seed)

    def __copy__(self) -> RouterSession:
        """Another view of the same turns, which goes on by itself: every query begins with one."""
        other = object.__new__(RouterSession)
        other.__dict__.update(self.__dict__)
        return other

    @property
    def hidden(self) -> NDArray[np.float32]:
        """The network's state, (hidden,): what to keep, and to set again, to go on elsewhere."""
        return self._hidden

    @hidden.setter
    def hidden(self, hidden: NDArray[np.float32]) -> None:
        self._hidden = _checked(hidden, self.network)

    def decide(self, vector: NDArray[np.float32], text: str = "") -> SizeChoice:
        """What to answer the next prompt with.

        Args:
            text: the prompt; without it the sixteen forms are unknown.

        Raises:
            InputError: the vector is of another width, or not finite.
        """
        x = self.network.inputs(vector, text)
        outputs, self._hidden = self.network.step(x, self._hidden)
        turn = -1
        if self.replay is not None:
            self.last = turn = self.replay.add(x, self.last)
        choice = self.network.choose(outputs, turn)
        if self.explore and self._random.random() < self.explore and choice.size > ModelSize.TINY:
            choice = replace(choice, size=ModelSize(choice.size - 1), explored=True)
        return choice


@dataclass(frozen=True, slots=True)
class Model:
    """One to choose from.

    Attributes:
        billions: of parameters.
        cost: in any one unit for all; None takes it in proportion to the parameters.
    """

    name: str
    billions: float
    cost: float | None = None

    def __post_init__(self) -> None:
        if not 0 < self.billions < 1e6 or not 0 <= (self.cost or 0.0) < 1e30:
            message = f"model {self.name!r} has {self.billions} billion parameters at a cost of {self.cost}"
            raise InputError(message, field="models", fix="use a size above 0, and a cost of at least 0")

    @classmethod
    def named(cls, name: str) -> Model:
        """From a name that tells its size: "SmolLM-360M", "Qwen2 1.5B". Raises InputError: it tells none."""
        found = _NAMED_SIZE.search(name)
        if found is None:
            raise InputError(f"{name!r} tells no size", field="models", fix="use Model(name, billions)")
        return cls(name, float(found[1]) * (1.0 if found[2] in "bB" else 1e-3))


@dataclass(frozen=True, slots=True)
class ModelChoice:
    """The model to use.

    Attributes:
        confidence: P(it does the task well), at most that of the network in itself.
        sure: whether confidence reaches 0.7; if not, the model is the safe one: the cheapest with 1.2B
            parameters or more, else the largest.
        holds: P(each does the task well), in the order given.
    """

    model: Model
    confidence: float
    sure: bool
    holds: tuple[float, ...]


def select_model(
    network: FastGrnn,
    vector: NDArray[np.float32],
    models: Sequence[Model | str],
    text: str = "",
    hidden: NDArray[np.float32] | None = None,
) -> ModelChoice:
    """The model of the greatest expected utility, as sizes between the network's four are read off a line.

    Args:
        models: names that tell a size will do.
        hidden: a session's state before this prompt; none is a session's start.

    Raises:
        InputError: there is no model, one of unknown size, or the vector or the state is of another width.
    """
    if not models:
        raise InputError("there is no model to choose", field="models", fix="give at least one")
    candidates = [Model.named(model) if isinstance(model, str) else model for model in models]
    state = network.start() if hidden is None else _checked(hidden, network)
    outputs, _ = network.step(network.inputs(vector, text), state)
    choice = network.choose(outputs)
    holds = tuple(_holds(choice.holds, model.billions) for model in candidates)
    costs = [model.billions if model.cost is None else model.cost for model in candidates]
    most_expensive = max(costs) or 1.0
    utilities = [held - network.cost_weight * cost / most_expensive for held, cost in zip(holds, costs, strict=True)]
    best = utilities.index(max(utilities))
    confidence = min(choice.confidence, holds[best])
    if confidence >= SURE:
        return ModelChoice(candidates[best], confidence, True, holds)
    safe = [i for i, model in enumerate(candidates) if model.billions >= ModelSize.MEDIUM.billions]
    best = (
        min(safe, key=costs.__getitem__) if safe else max(range(len(candidates)), key=lambda i: candidates[i].billions)
    )
    return ModelChoice(candidates[best], confidence, False, holds)


def _checked(hidden: NDArray[np.float32], network: FastGrnn) -> NDArray[np.float32]:
    units = network.shape.hidden
    if hidden.shape != (units,) or not np.isfinite(hidden).all():
        fix = f"use what a session of this network left: {units} finite numbers"
        raise InputError(f"a hidden state of shape {hidden.shape}", field="hidden", fix=fix)
    return hidden.astype(np.float32)


def _holds(holds: tuple[float, ...], billions: float) -> float:
    """P(a model of this size does it well), linear in the logarithm of the size; 0 at a quarter of the smallest."""
    sizes = [ModelSize.TINY.billions / 4, *(size.billions for size in ModelSize)]
    heights = (0.0, *holds)
    if billions <= sizes[0]:
        return 0.0
    if billions >= sizes[-1]:
        return heights[-1]
    right = bisect_left(sizes, billions)
    part = log(billions / sizes[right - 1]) / log(sizes[right] / sizes[right - 1])
    return heights[right - 1] + part * (heights[right] - heights[right - 1])
