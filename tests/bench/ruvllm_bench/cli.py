"""`ruvllm bench`: is routing as fast and as small as it promises to be, on this machine?"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import click

from ruvllm import InputError, RuvLLM, RuvllmError
from ruvllm.cli.console import number, print_json, show_table, waiting
from ruvllm.cli.evals.sets import Collection
from ruvllm.cli.options import encoder_option, json_option
from ruvllm.cli.plugins import AliasGroup
from ruvllm.inference.endpoint import Endpoint, Price
from ruvllm_bench.compare import compare as compared
from ruvllm_bench.compare import read_sets
from ruvllm_bench.figures.command import figures
from ruvllm_bench.hook import hook
from ruvllm_bench.learn.command import learn
from ruvllm_bench.loop.command import loop
from ruvllm_bench.memory.command import memory
from ruvllm_bench.query import query
from ruvllm_bench.route_process import BLOCK, Measured
from ruvllm_bench.select import select
from ruvllm_bench.serve.command import bench_serve
from ruvllm_bench.serve.nodes import bench_nodes
from ruvllm_bench.serve.proxy import bench_proxy
from ruvllm_bench.serve.sessions import bench_sessions
from ruvllm_bench.serve.soak import bench_soak
from ruvllm_bench.steps import steps
from ruvllm_bench.transcripts import report

_TURNS = 3  # of each version, where two are compared
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


# As other systems of this kind call them.
_ALIASES = {
    "compare": "figures",
    "embedding": "steps",
    "full": "figures",
    "routing": "route",
    "simd": "steps",
}


@click.group(cls=AliasGroup, aliases=_ALIASES)
def bench() -> None:
    """Measure speed and size on this machine.

    \b
    Examples:
      ruvllm bench route
      ruvllm bench route --compare tasks.json --builtin
      ruvllm bench learn --data ../shared/data
      ruvllm bench loop --data ../shared/data --quick
      ruvllm bench select --data rows.json
      ruvllm bench memory --data docs/ --quick
      ruvllm bench sessions --conversations 50
      ruvllm bench figures --peers --out docs/benchmarks.md
    """


bench.add_command(figures)
bench.add_command(hook)
bench.add_command(learn)
bench.add_command(loop)
bench.add_command(query)
bench.add_command(memory)
bench.add_command(select)
bench.add_command(bench_serve)
bench.add_command(bench_soak)
bench.add_command(report)
bench.add_command(steps)
bench.add_command(bench_sessions)
bench.add_command(bench_proxy)
bench.add_command(bench_nodes)


@bench.command()
@click.option("--seconds", type=click.FloatRange(0.05, 60), default=1.0, show_default=True, help="Time per latency.")
@click.option(
    "--against",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="A checkout of another version, measured in turn with this one.",
)
@click.option(
    "--compare",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Route FILE's prompts by ruvllm and by other means, in place of the latencies.",
)
@click.option("--builtin", is_flag=True, help="With --compare: among the built-in agents.")
@click.option("--shots", type=click.IntRange(0), default=10, show_default=True, help="Examples a label; 0: all.")
@click.option("--limit", type=click.IntRange(0), default=0, help="With --compare: at most so many prompts.")
@click.option("--core-hour", type=click.FloatRange(0), default=0.04, show_default=True, help="US dollars of a core.")
@click.option("--llm-url", metavar="URL", help="Ask an LLM, too: its OpenAI-compatible API, up to the version.")
@click.option("--llm-model", metavar="NAME", help="As the server calls it.")
@click.option("--llm-key-env", metavar="VARIABLE", default="", help="Environment variable that holds its key.")
@click.option(
    "--llm-price", type=(float, float), default=(0.0, 0.0), metavar="IN OUT", help="US dollars per 1M tokens."
)
@click.option("--llm-limit", type=click.IntRange(1), default=100, show_default=True, help="Prompts that it is asked.")
@encoder_option
@json_option
def route(
    seconds: float,
    against: Path | None,
    compare: Path | None,
    builtin: bool,
    shots: int,
    limit: int,
    core_hour: float,
    llm_url: str | None,
    llm_model: str | None,
    llm_key_env: str,
    llm_price: tuple[float, float],
    llm_limit: int,
    encoder: str | None,
    as_json: bool,
) -> None:
    """Time routing on one thread, and compare with what ruvllm promises.

    Latencies are medians over prompts of which no two are alike, among 83 agents; of what a decision says only the
    agent and its confidence are read, unless the row says otherwise. With --json the last line is one object.

    With --compare the table shows ruvllm, keywords alone, the five nearest utterances, centroids and a logistic
    regression on ruvllm's vectors, and an LLM if an address is given: accuracy, time and cost of a decision. FILE is
    one of `ruvllm eval agents` or `ruvllm eval intents`; an agent without examples is learnt from its description.

    \b
    Examples:
      ruvllm bench route
      ruvllm bench route --seconds 5 --json
      git worktree add /tmp/before v0.1.0 && ruvllm bench route --against /tmp/before
      ruvllm bench route --compare banking77.json --shots 10
      ruvllm bench route --compare tasks.json --builtin --llm-url http://localhost:8080/v1 --llm-model qwen3
    """
    if compare is not None:
        if (llm_url is None) != (llm_model is None):
            fix = "give both --llm-url and --llm-model"
            raise InputError("an LLM needs an address and a name", field="llm-model", fix=fix)
        price = Price(*llm_price)
        llm = None if llm_url is None else Endpoint(llm_url, llm_model or "", llm_key_env, price=price)
        _show_compared(read_sets(compare, builtin, shots, limit), encoder, core_hour, llm, llm_limit, as_json)
        return
    RuvLLM(encoder="static").close()  # what is not installed well shows here, with its fix
    with waiting("measuring"):
        trees: list[Path | None] = [None] if against is None else [None, against]
        turns = [
            [_measured(seconds) if tree is None else _measured(seconds, tree) for tree in trees]
            for _ in range(1 if against is None else _TURNS)
        ]
    mine, *others = [_medians(runs) for runs in zip(*turns, strict=True)]
    bars = _bars(mine)
    columns, rows = ["Measure", "Value", "Promise", ""], [_row(bar) for bar in bars]
    if others:
        columns += ["Before", "Ratio"]
        for row, bar, old in zip(rows, bars, _bars(others[0]), strict=True):
            ratio = "-" if bar.value is None or not old.value else number(bar.value / old.value)
            row += [_shown(old.value, bar.unit), ratio]
    show_table(f"{mine.agents} agents, one thread", columns, rows, right=("Value", "Promise", "Before", "Ratio"))
    if as_json:
        print_json(_as_json(mine, bars) | ({"before": asdict(others[0])} if others else {}))


def _row(bar: _Bar) -> list[str]:
    return [bar.label, _shown(bar.value, bar.unit), f"<= {_shown(bar.limit, bar.unit)}", bar.mark]


def _medians(runs: Sequence[Measured]) -> Measured:
    """Of each measure; None where it could not be measured."""
    values = [asdict(run) for run in runs]
    every = {key: [one[key] for one in values] for key in values[0]}
    return Measured(**{key: None if None in found else median(found) for key, found in every.items()})  # type: ignore[arg-type]


def _show_compared(
    sets: list[Collection],
    encoder: str | None,
    core_hour: float,
    llm: Endpoint | None,
    llm_limit: int,
    as_json: bool,
) -> None:
    found = compared(sets, encoder, core_hour, llm, llm_limit)
    cells = [
        (
            row.name,
            number(row.top1, 3),
            _shown(row.p50_us, "µs"),
            f"${number(row.usd_per_million, 2)}",
            str(row.prompts),
        )
        for row in found
    ]
    agents = sum(len(each.agents) for each in sets)
    columns = ("", "Right", "p50", "1M decisions", "Prompts")
    show_table(f"{agents} agents, {len(sets)} collection(s)", columns, cells, right=columns[1:])
    if as_json:
        print_json({each.name: each.to_dict() for each in found})


def _measured(seconds: float, tree: Path | None = None) -> Measured:
    """From a fresh process with one BLAS thread, of this version or of the one in a checkout."""
    command = [sys.executable, "-m", "ruvllm_bench.route_process", str(seconds)]
    environment = os.environ | dict.fromkeys(_THREADS, "1")
    if tree is not None:
        paths = [
            str(tree / "core"),
            str(tree / "models"),
            str(Path(__file__).parents[1]),
            os.environ.get("PYTHONPATH", ""),
        ]
        environment["PYTHONPATH"] = os.pathsep.join(paths)
    done = subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise RuvllmError(f"the measuring process failed: {last}", field="bench", fix="see `ruvllm info`")
    return Measured(**json.loads(done.stdout.splitlines()[-1]))


def _bars(measured: Measured) -> Sequence[_Bar]:
    many = f"{measured.many_agents:,} agents, over {measured.agents} (both without examples)"
    return (
        _Bar("static", "static, p50", measured.static_p50_us, 150, "µs"),
        _Bar("told", "static, with tier, evidence and times", measured.told_p50_us, 200, "µs"),
        _Bar("static_block", f"static, each of {BLOCK} at once", measured.static_block_us, 150, "µs"),
        _Bar("ruvltra", "RuvLTRA, p50", measured.ruvltra_p50_us, 2_000, "µs"),
        _Bar("ruvltra_block", f"RuvLTRA, each of {BLOCK} at once", measured.ruvltra_block_us, 1_000, "µs"),
        _Bar("cached", "asked before, p50", measured.cached_p50_us, 5, "µs"),
        _Bar("many", many, measured.many_ratio, 3, "x"),
        _Bar("cold", "first answer of a process", measured.cold_ms, 300, "ms"),
        _Bar("size", "core package without models", measured.size_bytes / 1e6, 2, "MB"),
    )


def _shown(value: float | None, unit: str) -> str:
    return "-" if value is None else f"{number(value, 0 if value >= 100 else 2)} {unit}"


def _as_json(measured: Measured, bars: Sequence[_Bar]) -> dict[str, Any]:
    return {**asdict(measured), "many_ratio": measured.many_ratio, "met": {bar.key: bar.met for bar in bars}}
