"""How fast the model router chooses and learns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from statistics import median
from time import perf_counter

import numpy as np

from ruvllm.encoders.protocol import run_now, unit_rows
from ruvllm.sizing.fastgrnn import FastGrnn, ModelSize
from ruvllm.sizing.fastgrnn.replay import Outcome, Replay
from ruvllm.sizing.fastgrnn.session import RouterSession
from ruvllm.sizing.fastgrnn.training import FastGrnnTrainer

_PROMPT = "Compare these two designs, and explain which of them you would choose for 10,000 users a day."
_TURNS, _STEPS, _REPEATS = 1_000, 50, 1_000


@dataclass(frozen=True, slots=True)
class FastGrnnSpeed:
    """Medians of one measurement.

    Attributes:
        forward_us: cell and heads, for one turn.
        decide_us: a turn of a session: inputs of a vector and a text, forward, choice.
        step_ms: a step of learning, 32 turns.
    """

    forward_us: float
    decide_us: float
    step_ms: float


def measure_fastgrnn(dim: int = 256, seed: int = 0) -> FastGrnnSpeed:
    """On random unit vectors; a quarter of a second or so."""
    random = np.random.default_rng(seed)
    vectors = unit_rows(random.normal(size=(_TURNS, dim)))
    network, replay = FastGrnn(dim), Replay()
    for vector, size in zip(vectors, random.integers(4, size=_TURNS), strict=True):
        replay.label(replay.add(network.inputs(vector)), Outcome(ModelSize(int(size)), float(size > 1)))
    trainer, session, x = FastGrnnTrainer(network, replay), RouterSession(network), network.inputs(vectors[0])
    return FastGrnnSpeed(
        forward_us=_microseconds(partial(network.step, x, network.start()), _REPEATS),
        decide_us=_microseconds(partial(session.decide, vectors[0], _PROMPT), _REPEATS),
        step_ms=_microseconds(lambda: run_now(trainer.learn(1)), _STEPS) / 1_000,
    )


def _microseconds(work: Callable[[], object], repeats: int) -> float:
    taken = []
    for _ in range(repeats):
        start = perf_counter()
        work()
        taken.append(perf_counter() - start)
    return median(taken) * 1e6
