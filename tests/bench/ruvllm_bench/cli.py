"""`ruvllm bench`: is routing as fast and as small as it promises to be, on this machine?"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import click

from ruvllm import RuvLLM, RuvllmError
from ruvllm.cli.console import number, print_json, show_table, waiting
from ruvllm.cli.options import json_option
from ruvllm_bench.hook import hook
from ruvllm_bench.learn.command import learn
from ruvllm_bench.loop.command import loop
from ruvllm_bench.memory.command import memory
from ruvllm_bench.query import query
from ruvllm_bench.route_process import Measured
from ruvllm_bench.select import select
from ruvllm_bench.serve.command import bench_serve
from ruvllm_bench.serve.soak import bench_soak
from ruvllm_bench.sessions import report

__all__ = ["bench"]

_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")


@dataclass(frozen=True, slots=True)
class _Bar:
    """One promise and what was measured; a value of None could not be measured here."""

    key: str
    label: str
    value: float | None
    limit: float
    unit: str

    @property
    def met(self) -> bool | None:
        return None if self.value is None else self.value <= self.limit

    @property
    def mark(self) -> str:
        return {None: "not measured", True: "pass", False: "short"}[self.met]


@click.group()
def bench() -> None:
    """Measure speed and size on this machine.

    \b
    Examples:
      ruvllm bench route
      ruvllm bench route --seconds 5 --json
      ruvllm bench learn --data ../shared/data
      ruvllm bench loop --data ../shared/data --quick
      ruvllm bench select --data rows.json
      ruvllm bench memory --data docs/ --quick
    """


bench.add_command(hook)
bench.add_command(learn)
bench.add_command(loop)
bench.add_command(query)
bench.add_command(memory)
bench.add_command(select)
bench.add_command(bench_serve)
bench.add_command(bench_soak)
bench.add_command(report)


@bench.command()
@click.option("--seconds", type=click.FloatRange(0.05, 60), default=1.0, show_default=True, help="Time per latency.")
@json_option
def route(seconds: float, as_json: bool) -> None:
    """Time routing on one thread, and compare with what ruvllm promises.

    Latencies are medians over prompts of which no two are alike, among 76 agents. With --json the last
    line is one object.

    \b
    Examples:
      ruvllm bench route
      ruvllm bench route --seconds 5 --json
    """
    RuvLLM(encoder="static").close()  # what is not installed well shows here, with its fix
    with waiting("measuring"):
        measured = _measured(seconds)
    bars = _bars(measured)
    rows = [(bar.label, _shown(bar.value, bar.unit), f"<= {_shown(bar.limit, bar.unit)}", bar.mark) for bar in bars]
    title = f"{measured.agents} agents, one thread"
    show_table(title, ("Measure", "Value", "Promise", ""), rows, right=("Value", "Promise"))
    if as_json:
        print_json(_as_json(measured, bars))


def _measured(seconds: float) -> Measured:
    """From a fresh process with one BLAS thread."""
    command = [sys.executable, "-m", "ruvllm_bench.route_process", str(seconds)]
    done = subprocess.run(
        command, env=os.environ | dict.fromkeys(_THREADS, "1"), stdin=subprocess.DEVNULL, capture_output=True, text=True
    )
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise RuvllmError(f"the measuring process failed: {last}", field="bench", fix="see `ruvllm info`")
    return Measured(**json.loads(done.stdout.splitlines()[-1]))


def _bars(measured: Measured) -> Sequence[_Bar]:
    many = f"{measured.many_agents:,} agents, over {measured.agents} (both without examples)"
    return (
        _Bar("static", "static, p50", measured.static_p50_us, 150, "µs"),
        _Bar("ruvltra", "RuvLTRA, p50", measured.ruvltra_p50_us, 2_000, "µs"),
        _Bar("cached", "asked before, p50", measured.cached_p50_us, 5, "µs"),
        _Bar("many", many, measured.many_ratio, 3, "x"),
        _Bar("cold", "first answer of a process", measured.cold_ms, 300, "ms"),
        _Bar("size", "core package without models", measured.size_bytes / 1e6, 2, "MB"),
    )


def _shown(value: float | None, unit: str) -> str:
    return "-" if value is None else f"{number(value, 0 if value >= 100 else 2)} {unit}"


def _as_json(measured: Measured, bars: Sequence[_Bar]) -> dict[str, Any]:
    return {**asdict(measured), "many_ratio": measured.many_ratio, "met": {bar.key: bar.met for bar in bars}}
