"""`ruvllm bench steps`: what each step takes, what each optimisation brings, and what a decision allocates."""

from __future__ import annotations

import subprocess
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from importlib.util import find_spec
from itertools import count
from pathlib import Path
from statistics import median
from time import perf_counter_ns

import click
import numpy as np
from numpy.typing import NDArray

from ruvllm import RuvLLM
from ruvllm.agents.catalog import builtin_agents
from ruvllm.cli.console import number, print_json, show_table, waiting
from ruvllm.cli.options import json_option
from ruvllm.encoders.protocol import unit_rows
from ruvllm.index import AutoIndex, Rows
from ruvllm.learning.patterns import Pattern, ReasoningBank
from ruvllm.rlm.decompose import RuleDecomposer

_MEMORIES, _PATTERNS, _DIM, _K = 10_000, 400, 384, 10
_COMPLEX = "What are the causes AND solutions for slow API responses of service {}?"
# Megabytes of a process's own that opening the token table by a function takes, all of it read.
_OPENED = """
import re, sys
from ruvllm.artifacts.host import NativeHost, load_npz, map_npz
def own():
    return int(re.search(r"^Anonymous:\\s+(\\d+)", open("/proc/self/smaps_rollup").read(), re.M)[1]) / 1_000
path = NativeHost().path("static.npz")
before = own()
held = map_npz(path) if sys.argv[1] == "map" else load_npz(path.read_bytes(), path.name)
_ = [array.max() for array in held.values()]
print(own() - before)
"""


@dataclass(frozen=True, slots=True)
class Step:
    """One line.

    Attributes:
        value: microseconds, or what `unit` says.
        other: what RuvLTRA's card says of the step, or the value without the optimisation.
    """

    name: str
    value: float
    other: float
    unit: str = "µs"


@click.command()
@click.option("--calls", type=click.IntRange(20), default=500, show_default=True, help="Of each step.")
@json_option
def steps(calls: int, as_json: bool) -> None:
    """Time the steps that RuvLTRA's card has a table of, and each optimisation with it and without.

    Medians in one process, of texts of which no two are alike; vectors are random ones of 384 numbers around 200
    centres, 10,000 memories and 400 patterns. The card's figures are of an M4 Pro.

    \b
    Examples:
      ruvllm bench steps
      ruvllm bench steps --calls 5000 --json
    """
    with waiting("measuring"):
        card, gains, costs = _card(calls), _gains(calls), _allocations()
    if as_json:
        print_json({"card": [asdict(s) for s in card], "gains": [asdict(s) for s in gains], "allocations": costs})
        return
    show_table("steps", ("", "here", "card"), [_row(one) for one in card], right=("here", "card"))
    rows = [(*_row(one), _times(one)) for one in gains]
    show_table("what each optimisation brings", ("", "with", "without", ""), rows, right=("with", "without", ""))
    found = ", ".join(f"{name.replace('_', ' ')} {value:,.0f}" for name, value in costs.items())
    show_table("allocations of a decision", ("",), [(found,)])


def _row(step: Step) -> tuple[str, str, str]:
    return step.name, f"{number(step.value)} {step.unit}", f"{number(step.other)} {step.unit}"


def _times(step: Step) -> str:
    return f"{step.other / step.value:,.1f}x" if step.value and step.other else "-"


def p50(call: Callable[[], object], calls: int) -> float:
    """Microseconds of a call: the median."""
    micros = list[float]()
    for _ in range(calls):
        began = perf_counter_ns()
        call()
        micros.append((perf_counter_ns() - began) / 1_000)
    return round(median(micros), 3)


def _texts() -> Iterator[str]:
    examples = [example for agent in builtin_agents() for example in agent.examples]
    return (f"{text} #{ticket}" for ticket in count() for text in examples)


def _vectors(rows: int, seed: int) -> NDArray[np.float32]:
    random = np.random.default_rng(seed)
    centres = np.random.default_rng(9).standard_normal((200, _DIM))
    found = centres[random.integers(0, 200, rows)] + 0.6 * random.standard_normal((rows, _DIM))
    return unit_rows(found)


def _index(kind: str) -> AutoIndex:
    rows = Rows(_DIM, unit=True)
    rows.add(np.arange(_MEMORIES), _vectors(_MEMORIES, 1))
    return AutoIndex(_DIM, recall=0.95, rows=rows, use=kind)


def _card(calls: int) -> list[Step]:
    rules, queries, bank = RuleDecomposer(), iter(_vectors(calls + 1, 2)), ReasoningBank(_DIM)
    bank.add([Pattern(0, one, route=f"agent {i}") for i, one in enumerate(_vectors(_PATTERNS, 3))])
    index, texts, tickets = _index("auto"), _texts(), count()
    index.search(next(queries), _K)
    with RuvLLM(encoder="static") as llm:
        static, probe = llm.encoders.static, iter(_vectors(calls, 4))
        llm.route("again and again")
        return [
            Step("query decomposition", p50(lambda: rules.plan(_COMPLEX.format(next(tickets))), calls), 0.34),
            Step("cache lookup", p50(lambda: llm.route("again and again"), calls), 0.0235),
            Step("embedding", p50(lambda: static.encode_one(next(texts)), calls), 0.293),
            Step("memory search, 10,000", p50(lambda: index.search(next(queries), _K), calls), 400),
            Step("pattern retrieval", p50(lambda: bank.find(next(probe)), calls), 25),
            Step("end to end: a task routed", p50(lambda: llm.route(next(texts)), calls), 1_000),
        ]


def _gains(calls: int) -> list[Step]:
    found, texts, queries = list[Step](), _texts(), _vectors(calls + 1, 5)
    with RuvLLM(encoder="static") as llm:
        fresh = p50(lambda: llm.route(next(texts)), calls)
        llm.route("again and again")
        found.append(Step("decisions remembered", p50(lambda: llm.route("again and again"), calls), fresh))
        found.append(Step("reasons worked out when read", fresh, p50(lambda: llm.route(next(texts)).to_dict(), calls)))
    agents = [replace(agent, description=f"{agent.description} It works.") for agent in builtin_agents()]
    ready, fitted = p50(_first, 5) / 1e3, p50(lambda: _first(agents), 1) / 1e3
    found.append(Step("the agents' scorers shipped, not fitted", ready, fitted, "ms"))
    if find_spec("onnxruntime") is not None:
        some = min(calls, 200)
        with RuvLLM(encoder="cascade") as both, RuvLLM(encoder="ruvltra") as large:
            values = [p50(lambda llm=llm: [llm.route(next(texts)) for _ in range(some)], 1) for llm in (both, large)]  # type: ignore[misc]
        found.append(Step("static table first, mean", values[0] / some, values[1] / some))
        with RuvLLM(encoder="ruvltra") as llm:
            long = "fix the login of the page " * 8
            one = p50(lambda: llm.embed([f"{long}{next(texts)}"]), some)
            llm.embed([long])
            found.append(Step("vectors remembered", p50(lambda: llm.embed([long]), some), one))
    indexes = {kind: iter(queries) for kind in ("auto", "flat")}
    times = []
    for kind, each in indexes.items():
        index = _index(kind)
        index.search(next(each), _K)
        times.append(p50(lambda index=index, each=each: index.search(next(each), _K), calls))  # type: ignore[misc]
    found.append(Step("index of 10,000, recall .95", times[0], times[1]))
    if Path("/proc/self/smaps_rollup").exists():
        found.append(Step("token table mapped, of a process's own", _opened("map"), _opened("read"), "MB"))
    return found


def _first(agents: object = None) -> None:
    with RuvLLM(agents, encoder="static") as llm:  # type: ignore[arg-type]
        llm.route("write unit tests")


def _opened(how: str) -> float:
    done = subprocess.run([sys.executable, "-c", _OPENED, how], check=True, capture_output=True, text=True)
    return round(float(done.stdout), 2)


def _allocations() -> dict[str, float]:
    """Of a decision on a new text by the static table: bytes at its height, bytes and blocks that stay with it."""
    texts, peaks = _texts(), list[int]()
    with RuvLLM(encoder="static") as llm:
        for _ in range(300):
            llm.route(next(texts))
        tracemalloc.start()
        before, kept = tracemalloc.take_snapshot(), []
        for _ in range(50):
            held = tracemalloc.get_traced_memory()[0]
            tracemalloc.reset_peak()
            kept.append(llm.route(next(texts)))
            peaks.append(tracemalloc.get_traced_memory()[1] - held)
        changes = tracemalloc.take_snapshot().compare_to(before, "filename")
        tracemalloc.stop()
    mine = [one for one in changes if one.traceback[0].filename not in (tracemalloc.__file__, __file__)]
    size, blocks = (sum(getattr(one, name) for one in mine) / len(kept) for name in ("size_diff", "count_diff"))
    return {"bytes_at_most": float(median(peaks)), "bytes_that_stay": size, "blocks_that_stay": blocks}
