"""Rounds of both engines in turn, so that whatever else the machine does slows both."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any

from ruvllm.errors import RuvllmError
from ruvllm_models.bench.engine import Round


@dataclass(frozen=True, slots=True)
class Conversion:
    """What making the model ready took."""

    seconds: float
    peak_mb: float | None
    file_mb: float


@dataclass(frozen=True, slots=True)
class Speed:
    """Medians over the rounds, the first one left out, which maps the weights.

    Attributes:
        best: tokens/s of the fastest step: what a machine with nothing else to do would give.
    """

    tokens_per_second: float
    best: float
    first_token_s: float
    peak_mb: float | None


class Engine:
    """A running process of `ruvllm_models.bench.engine`."""

    def __init__(self, name: str, path: Path, threads: int) -> None:
        self.name, self.rounds = name, list[Round]()
        command = [sys.executable, "-m", "ruvllm_models.bench.engine", name, str(path), str(threads)]
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115  (a pipe that nobody reads would fill up)
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=self._errors, text=True)

    def round(self, prompt: int, tokens: int) -> None:
        """One more."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with suppress(BrokenPipeError):  # it says why below
            self._process.stdin.write(f"{prompt} {tokens}\n")
            self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            self._errors.seek(0)
            raise _failed(self.name, self._errors.read())
        self.rounds.append(Round(**json.loads(line)))

    def speed(self) -> Speed:
        """Of all rounds so far."""
        later = self.rounds[1:] or self.rounds
        steps = [step for one in later for step in one.steps]
        first = median(one.first for one in later)
        return Speed(1 / median(steps), 1 / min(steps), first, self.rounds[-1].peak_mb)

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        with suppress(BrokenPipeError):
            self._process.communicate()
        self._errors.close()


def converted(source: Path, out: Path) -> Conversion:
    """Convert in a process of its own. Raises RuvllmError: it failed."""
    command = [sys.executable, "-m", "ruvllm_models.bench.convert", str(source), str(out)]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode:
        raise _failed("the conversion", done.stderr)
    return Conversion(**json.loads(done.stdout.splitlines()[-1]))


def measured(
    source: Path, folder: Path, threads: int, size: tuple[int, int], rounds: int, advance: Callable[[], None]
) -> dict[str, Speed]:
    """Both engines; llama.cpp takes part when `llama_cpp` can be imported.

    Args:
        size: tokens of each prompt and of each answer.
        advance: called after each round of both, one more than `rounds`.

    Raises:
        RuvllmError: an engine cannot load the model.
    """
    paths = {"ours": folder} | ({"llama.cpp": source} if find_spec("llama_cpp") else {})
    with _running(paths, threads) as engines:
        for _ in range(rounds + 1):
            for engine in engines:
                engine.round(*size)
            advance()
        return {engine.name: engine.speed() for engine in engines}


@contextmanager
def _running(paths: dict[str, Path], threads: int) -> Iterator[Sequence[Engine]]:
    engines = list[Engine]()
    try:
        for name, path in paths.items():
            engines.append(Engine(name, path, threads))
        yield engines
    finally:
        for engine in engines:
            engine.close()


def _failed(name: str, errors: Any) -> RuvllmError:
    last = (str(errors).strip().splitlines() or ["no message"])[-1]
    return RuvllmError(f"{name} failed: {last[:200]}", field="bench", fix="see `ruvllm info`")
