"""How large a model a prompt needs, with how much context, and how it should sample: a small recurrent network.

It sees what came before in its session. While it is not sure, it says so and names a safe default; what it
knows it learns from feedback (`fastgrnn_training`).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum
from math import exp, tanh
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ruvllm.errors import InputError, RuvllmError, StoreError
from ruvllm.reprs import Shown
from ruvllm.sizing.fastgrnn.cell import CONTEXTS_OUT, EPSILON, INPUTS, MODELS_OUT, PromptInputs, Shape, sigmoid
from ruvllm.sizing.fastgrnn.loss import COST_WEIGHT, HOTTEST

__all__ = ["CONTEXTS", "SURE", "FastGrnn", "ModelSize", "SizeChoice"]

CONTEXTS = (256, 512, 1_024, 2_048, 4_096)  # tokens
SURE = 0.7  # confidence from which a choice is used
_ENOUGH = 0.9  # P(the context holds what is needed) that a bucket has to reach
_BILLIONS = (0.35, 0.7, 1.2, 2.6)
_MAGIC = b"ruvGRNN1"
_HEADER = struct.Struct("<8s5Id")  # magic, dim, hidden, rank, shape's seed, inputs' seed, sparsity
_FIX = "drop it; the model router learns again"


class ModelSize(IntEnum):
    """The sizes among which the router chooses, in parameters."""

    TINY = 0  # 350M
    SMALL = 1  # 700M
    MEDIUM = 2  # 1.2B
    LARGE = 3  # 2.6B

    @property
    def billions(self) -> float:
        """Of parameters."""
        return _BILLIONS[self]

    @property
    def label(self) -> str:
        """As models are named: "350M", "1.2B"."""
        return f"{self.billions:g}B" if self.billions >= 1 else f"{self.billions * 1000:g}M"


@dataclass(frozen=True, slots=True, repr=False)
class SizeChoice(Shown):
    """What one prompt should be answered with.

    Attributes:
        context: tokens.
        temperature: 0 to 2.
        top_p: 0 to 1.
        confidence: P(the size that the network prefers does the task well).
        sure: whether confidence reaches 0.7; if not, the rest is the safe default.
        holds: P(each size does the task well), ascending.
        turn: where the replay buffer keeps the prompt, for feedback; -1 without one.
        explored: whether a cheaper size than the preferred was taken, to learn about it.
    """

    size: ModelSize
    context: int
    temperature: float
    top_p: float
    confidence: float
    sure: bool
    holds: tuple[float, ...]
    turn: int = -1
    explored: bool = False


class _Folded(NamedTuple):
    """θ for one turn at a time: the layer norm, σ's tangent and the low rank multiplied out, h hidden units."""

    read: NDArray[np.float32]  # (2h + 1, i); the last row takes the mean
    recall: NDArray[np.float32]  # (2h, h)
    bias: NDArray[np.float32]  # (2h,)
    zeta: float
    both: float  # ζ + ν
    heads: NDArray[np.float32]  # (12, h)
    head_bias: NDArray[np.float32]  # (12,)


class FastGrnn:
    """The network and its inputs.

    Attributes:
        inputs: turns a vector and a text into the network's 128 numbers.
        costs: float64 (4,) of the sizes, the dearest 1; in proportion to their parameters until the trainer
            has seen what they cost.
        cost_weight: quality that the dearest one's cost is worth.
    """

    def __init__(
        self, dim: int = 256, shape: Shape | None = None, *, seed: int = 0, cost_weight: float = COST_WEIGHT
    ) -> None:
        if not 0 <= cost_weight < np.inf:
            raise InputError(f"cost_weight is {cost_weight}", field="cost_weight", fix="use a number of at least 0")
        self.inputs, self.shape, self.cost_weight = PromptInputs(dim, seed), shape or Shape(), cost_weight
        self.costs = np.array(_BILLIONS) / max(_BILLIONS)
        self._theta = self.shape.fresh()
        self._folded: _Folded | None = None

    @property
    def theta(self) -> NDArray[np.float32]:
        """All weights, (n,); set it to replace them, do not write into it."""
        return self._theta

    @theta.setter
    def theta(self, theta: NDArray[np.float32]) -> None:
        if theta.shape != (self.shape.size,) or not np.isfinite(theta).all():
            fix = f"use {self.shape.size} finite numbers"
            raise InputError(f"weights of shape {theta.shape}", field="theta", fix=fix)
        self._theta, self._folded = theta.astype(np.float32), None

    def start(self) -> NDArray[np.float32]:
        """The hidden state before a session's first turn, (hidden,)."""
        return np.zeros(self.shape.hidden, np.float32)

    def step(self, x: NDArray[np.float32], hidden: NDArray[np.float32]) -> tuple[list[float], NDArray[np.float32]]:
        """One turn: the twelve outputs before softmax and σ, and the hidden state after it.

        Args:
            x: float32 (128,), from `inputs`.
            hidden: float32 (hidden,), as the turn before left it.
        """
        folded = self._folded or self._fold()
        units = len(hidden)
        read = folded.read.dot(x)
        mean = float(read[-1])
        spread = (max(float(x.dot(x)) / INPUTS - mean * mean, 0.0) + EPSILON) ** -0.5
        both = read[:-1]
        both *= spread
        both += folded.recall.dot(hidden)
        both += folded.bias
        np.tanh(both, both)
        gate, candidate = both[:units], both[units:]
        gate *= 0.5
        gate += 0.5
        after = gate * hidden
        after += (folded.both - folded.zeta * gate) * candidate
        outputs = folded.heads.dot(after)
        outputs += folded.head_bias
        return outputs.tolist(), after

    def choose(self, outputs: list[float], turn: int = -1) -> SizeChoice:
        """What `step`'s outputs mean: the size of the greatest expected utility, if that is sure enough.

        Args:
            turn: where the replay buffer keeps the prompt.
        """
        holds = _cumulative(outputs[:MODELS_OUT])
        confidence = _sigmoid(outputs[-1])
        if confidence < SURE:
            return SizeChoice(ModelSize.MEDIUM, 2_048, 0.7, 0.9, confidence, False, holds, turn)
        utilities = [held - self.cost_weight * cost for held, cost in zip(holds, self.costs.tolist(), strict=True)]
        fits = _cumulative(outputs[MODELS_OUT : MODELS_OUT + CONTEXTS_OUT])
        bucket = next((i for i, fit in enumerate(fits) if fit >= _ENOUGH), CONTEXTS_OUT - 1)
        return SizeChoice(
            size=ModelSize(utilities.index(max(utilities))),
            context=CONTEXTS[bucket],
            temperature=HOTTEST * _sigmoid(outputs[-3]),
            top_p=_sigmoid(outputs[-2]),
            confidence=confidence,
            sure=True,
            holds=holds,
            turn=turn,
        )

    def _fold(self) -> _Folded:
        named, units = self.shape.views(self._theta), self.shape.hidden
        w = self.shape.dense(named["w"])
        scaled = w * named["gain"]
        scaled -= scaled.mean(axis=1, keepdims=True)  # takes the mean out of the input
        recall, shift = named["a"] @ named["b"], w @ named["shift"]
        half = np.repeat(np.array([0.5, 1], np.float32), units)  # σ(x) = ½ tanh(½ x) + ½
        twice = np.concatenate([scaled, scaled]) * half[:, None]
        zeta, nu = sigmoid(named["mix"]).tolist()
        self._folded = _Folded(
            np.concatenate([twice, np.full((1, INPUTS), 1 / INPUTS, np.float32)]),
            np.concatenate([recall, recall]) * half[:, None],
            np.concatenate([shift + named["gate_bias"], shift + named["candidate_bias"]]) * half,
            zeta,
            zeta + nu,
            named["heads"],
            named["head_bias"],
        )
        return self._folded

    def to_bytes(self) -> bytes:
        """For the state file: a header, costs, weights, little-endian."""
        shape, inputs = self.shape, self.inputs
        header = _HEADER.pack(_MAGIC, inputs.dim, shape.hidden, shape.rank, shape.seed, inputs.seed, shape.sparsity)
        numbers = np.append(self.costs, self.cost_weight).astype("<f8")
        return header + numbers.tobytes() + self._theta.astype("<f4").tobytes()

    @classmethod
    def from_bytes(cls, data: bytes, error: type[RuvllmError] = StoreError) -> FastGrnn:
        """What `to_bytes` was taken of.

        Raises:
            RuvllmError: of the type `error`, when the data is damaged, of another length or not finite.
        """
        weights = _HEADER.size + 8 * (MODELS_OUT + 1)
        try:
            magic, dim, hidden, rank, seed, rotation, sparsity = _HEADER.unpack_from(data)
            shape = Shape(hidden, rank, sparsity, seed)
            if magic != _MAGIC or len(data) != weights + 4 * shape.size:
                raise ValueError(f"{len(data)} bytes that start with {magic!r}")
            numbers = np.frombuffer(data, "<f8", MODELS_OUT + 1, _HEADER.size)
            if not (np.isfinite(numbers).all() and (numbers >= 0).all()):
                raise ValueError("costs that are no numbers of at least 0")
            loaded = cls(dim, shape, seed=rotation, cost_weight=float(numbers[-1]))
            loaded.costs = numbers[:-1].astype(np.float64)
            loaded.theta = np.frombuffer(data, "<f4", offset=weights)
        except (ValueError, struct.error) as bad:
            raise error(f"no usable model router: {bad}"[:240], field="fastgrnn", fix=_FIX) from None
        return loaded


def _cumulative(logits: list[float]) -> tuple[float, ...]:
    """Softmax, summed up from the left: twelve numbers are too few for numpy to be worth its calls."""
    top = max(logits)
    shares = [exp(x - top) for x in logits]
    whole, reached, out = sum(shares), 0.0, []
    for probability in shares:
        reached += probability
        out.append(min(reached / whole, 1.0))
    return tuple(out)


def _sigmoid(x: float) -> float:
    return 0.5 * tanh(0.5 * x) + 0.5
