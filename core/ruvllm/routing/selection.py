"""What is chosen among when an LLM backend is, and what comes of a choice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import isfinite
from typing import Any

from numpy.typing import NDArray

from ruvllm.encoders.protocol import Encoder
from ruvllm.errors import InputError
from ruvllm.reprs import one_line
from ruvllm.routing.difficulty import Difficulty
from ruvllm.routing.fastgrnn import ModelSize

__all__ = ["BackendProfile", "Choice", "columns_of"]

Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class BackendProfile:
    """What is known of a backend beforehand; outcomes correct all of it.

    Attributes:
        cost: US dollars of a prompt with its answer.
        latency: milliseconds to the whole answer.
        quality: mean quality of its answers, 0 to 1.
        size: what the model router takes it for; by its place among the backends' costs when None.
    """

    name: str
    cost: float
    latency: float = 1_000.0
    quality: float = 0.8
    size: ModelSize | None = None

    __repr__ = one_line

    def __post_init__(self) -> None:
        checks = (
            ("name", bool(self.name), "a name"),
            ("cost", isfinite(self.cost) and self.cost >= 0, "dollars, 0 or more"),
            ("latency", isfinite(self.latency) and self.latency > 0, "milliseconds above 0"),
            ("quality", 0 <= self.quality <= 1, "0 to 1"),
        )
        for name, right, fix in checks:
            if not right:
                raise InputError(f"{name} is {getattr(self, name)!r}", field=name, fix=f"give {fix}")


@dataclass(frozen=True, slots=True)
class Choice:
    """The backend for one prompt.

    Attributes:
        quality, cost, latency: as expected.
        value: what it was chosen for.
        alternatives: the other backends within the limits, best first.
        inputs: of the prompt, for `record_outcome`.
        weight: that the outcome counts with: its inverse chance as a share of all backends' (Li & Li 2019). Without
            it a backend would be judged by the prompts it is given, those it was thought to be good at.
        turn: where the model router keeps the prompt; -1 where it does not learn from it.
    """

    backend: str
    quality: float
    cost: float
    latency: float
    value: float
    alternatives: tuple[str, ...]
    inputs: Array = field(repr=False, compare=False)
    weight: float = 1.0
    turn: int = -1

    __repr__ = one_line


def columns_of(
    difficulty: Difficulty | None, backends: Sequence[BackendProfile], dim: int, encoder: Encoder | None
) -> list[int]:
    """Which of a difficulty's models each backend is."""
    if difficulty is None:
        return []
    read = difficulty.encoder if encoder is None or not difficulty.encoder else encoder.name
    if difficulty.dim != dim or read != difficulty.encoder:
        message = f"the difficulty reads vectors of {difficulty.encoder or 'an encoder'}, {difficulty.dim} wide"
        raise InputError(message, field="difficulty", fix="train it with the encoder that the prompts are read by")
    names = [backend.name for backend in backends]
    if set(names) <= set(difficulty.models):
        return [difficulty.models.index(name) for name in names]
    if len(names) != len(difficulty.models):
        known = ", ".join(difficulty.models)[:80]
        raise InputError(f"the difficulty is of {known}", field="difficulty", fix="call the backends like its models")
    ranked = sorted(range(len(names)), key=lambda i: backends[i].cost)
    return [ranked.index(i) for i in range(len(names))]
