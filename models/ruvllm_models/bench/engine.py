"""One engine in a process of its own: `python -m ruvllm_models.bench.engine ours|llama.cpp PATH THREADS`.

A process of its own, because memory is measured too. Each line of its input is a round, "PROMPT ANSWER" in tokens;
each line of its output says what the round took.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from random import Random
from time import perf_counter

from ruvllm.inference.backend import Params
from ruvllm.inference.local import open_local

Engine = Callable[[list[int], int], list[float]]  # a prompt and how much to answer; when each token was there
_CONTEXT = 2048


@dataclass(frozen=True, slots=True)
class Round:
    """What one prompt and its answer took, in seconds; and the most memory so far."""

    first: float
    steps: list[float]
    peak_mb: float | None


def _ours(path: Path, threads: int) -> Engine:
    model = open_local(path, threads=threads, keep=0)

    async def answered(prompt: list[int], tokens: int) -> list[float]:
        written = model.tokens(prompt, Params(temperature=0, repeat_penalty=1), tokens)
        return [perf_counter() async for _ in written]

    runner = asyncio.Runner()
    return lambda prompt, tokens: runner.run(answered(prompt, tokens))


def _llama_cpp(path: Path, threads: int) -> Engine:
    import llama_cpp

    model = llama_cpp.Llama(
        str(path), n_ctx=_CONTEXT, n_batch=512, n_threads=threads, n_threads_batch=threads, verbose=False
    )

    def answer(prompt: list[int], tokens: int) -> list[float]:
        model.reset()
        read, times = prompt, []
        for _ in range(tokens):
            model.eval(read)
            read = [model.sample(temp=0, repeat_penalty=1)]
            times.append(perf_counter())
        return times

    return answer


ENGINES = {"ours": _ours, "llama.cpp": _llama_cpp}


def peak_mb() -> float | None:
    """The most memory that this process had, in 10^6 bytes; None where the system does not say (Windows)."""
    try:
        lines = Path("/proc/self/status").read_text("ascii").splitlines()
    except OSError:
        return _peak_of_other_systems()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) * 1024 / 1e6


def _peak_of_other_systems() -> float | None:
    try:
        import resource
    except ImportError:
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def _main() -> None:
    name, path, threads = sys.argv[1:]
    answer, rng = ENGINES[name](Path(path), int(threads)), Random(0)
    for line in sys.stdin:
        asked, tokens = map(int, line.split())
        prompt = [rng.randrange(300, 40_000) for _ in range(asked)]  # words that every model has
        began = perf_counter()
        times = [began, *answer(prompt, tokens)]
        first, *steps = (later - sooner for sooner, later in pairwise(times))
        print(json.dumps(asdict(Round(first, steps, peak_mb()))), flush=True)


if __name__ == "__main__":
    _main()
