"""What `ruvllm bench` measures, run as a process of its own: `python -m ruvllm_bench.route_process SECONDS`.

A process of its own, because the number of BLAS threads is settled when numpy is imported.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.util import find_spec
from itertools import count
from pathlib import Path
from statistics import median
from time import perf_counter, perf_counter_ns
from typing import TypeVar

import ruvllm
from ruvllm import Agent, RuvLLM
from ruvllm.agents.catalog import builtin_agents

T = TypeVar("T")

AGENTS = 83
MANY = 2_000
BLOCK = 256  # tasks that are routed at once
_STARTS = 5
_COLD = "import ruvllm; ruvllm.RuvLLM(encoder='static').route('add tests')"


@dataclass(frozen=True, slots=True)
class Measured:
    """Medians of one run.

    Attributes:
        told_p50_us: static, as JSON types with all that a decision says.
        static_block_us, ruvltra_block_us: a task of BLOCK routed at once; None where this version cannot.
        few_p50_us: static with `agents` agents that have no examples, what `many_p50_us` is to be compared with.
    """

    agents: int
    many_agents: int
    static_p50_us: float
    told_p50_us: float
    static_block_us: float | None
    ruvltra_p50_us: float | None
    ruvltra_block_us: float | None
    cached_p50_us: float
    few_p50_us: float
    many_p50_us: float
    cold_ms: float
    size_bytes: int

    @property
    def many_ratio(self) -> float:
        """How much more many agents cost than few."""
        return round(self.many_p50_us / self.few_p50_us, 2)


def measure(seconds: float) -> Measured:
    """Everything, each latency for about `seconds`."""
    agents = builtin_agents()[:AGENTS]
    asked = [example for agent in agents for example in agent.examples] or ["write unit tests for the parser"]
    with RuvLLM(agents, encoder="static") as llm:
        static, cached = _distinct_p50(llm, asked, seconds), _cached_p50(llm, asked[0], seconds)
        told = _p50(lambda text: llm.route(text).to_dict(), (f"{text} again" for text in _distinct(asked)), seconds)
        static_block = _block_us(llm, asked, seconds)
    ruvltra = ruvltra_block = None
    if find_spec("onnxruntime") is not None:
        with RuvLLM(agents, encoder="ruvltra") as llm:
            ruvltra, ruvltra_block = _distinct_p50(llm, asked, seconds), _block_us(llm, asked, seconds)
    few, many = (_bare_p50(size, asked, seconds) for size in (len(agents), MANY))
    routes = static, told, static_block, ruvltra, ruvltra_block, cached, few, many
    return Measured(len(agents), MANY, *routes, cold_start_ms(), code_bytes())


def _block_us(llm: RuvLLM, asked: Sequence[str], seconds: float) -> float | None:
    """Of one task in blocks of which no two have a task in common, the median."""
    if not hasattr(llm, "route_many"):
        return None
    blocks = zip(*[(f"{text} at once" for text in _distinct(asked))] * BLOCK, strict=True)
    return round(_p50(llm.route_many, map(list, blocks), seconds) / BLOCK, 2)


def _bare_p50(size: int, asked: Sequence[str], seconds: float) -> float:
    with RuvLLM(_without_examples(size), encoder="static") as llm:
        return _distinct_p50(llm, asked, seconds)


def _without_examples(size: int) -> list[Agent]:
    """The built-in agents over and over, each round for a domain of its own."""
    builtin = builtin_agents()
    agents = []
    for i in range(size):
        agent, domain = builtin[i % len(builtin)], f"domain {i // len(builtin) + 1}"
        name, description = f"{agent.name} {domain}", f"{agent.description} Works for {domain}."
        agents.append(replace(agent, name=name, description=description, examples=()))
    return agents


def _distinct(asked: Sequence[str]) -> Iterator[str]:
    """Endless prompts of which no two are alike."""
    for ticket in count(1):
        for text in asked:
            yield f"{text} #{ticket}"


def _distinct_p50(llm: RuvLLM, asked: Sequence[str], seconds: float) -> float:
    prompts = _distinct(asked)
    for _ in range(30):
        llm.route(next(prompts))
    return _p50(llm.route, prompts, seconds)


def _cached_p50(llm: RuvLLM, text: str, seconds: float) -> float:
    llm.route(text)
    return _p50(llm.route, (text for _ in count()), min(seconds, 0.5))


def _p50(route: Callable[[T], object], prompts: Iterator[T], seconds: float) -> float:
    micros, end = list[float](), perf_counter() + seconds
    while not micros or perf_counter() < end:
        text = next(prompts)
        began = perf_counter_ns()
        route(text)
        micros.append((perf_counter_ns() - began) / 1000)
    return round(median(micros), 2)


def cold_start_ms() -> float:
    """From nothing to a first answer, over what Python itself takes to start."""
    _start(_COLD)  # writes the bytecode and fills the file cache
    pairs = [(_start(_COLD), _start("pass")) for _ in range(_STARTS)]
    return round(median(full for full, _ in pairs) - median(empty for _, empty in pairs), 1)


def _start(code: str) -> float:
    environment = installed()
    began = perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True, stdin=subprocess.DEVNULL, env=environment)
    return (perf_counter() - began) * 1000


def installed() -> dict[str, str]:
    """This environment with bytecode written, as an installer does; without it each start would compile all again."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


def code_bytes() -> int:
    """Size of the installed core package, as shipped."""
    files = (path for path in Path(ruvllm.__file__).parent.rglob("*") if "__pycache__" not in path.parts)
    return sum(path.stat().st_size for path in files if path.is_file())


if __name__ == "__main__":
    print(json.dumps(asdict(measure(float(sys.argv[1])))))
