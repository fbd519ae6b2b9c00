"""`ruvllm bench query`: what a query costs beside its LLM, step by step."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import click

from ruvllm import RuvllmError
from ruvllm.cli.console import number, print_json, show_table, waiting
from ruvllm.cli.options import json_option
from ruvllm.query.responses import STAGES

_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")
_PROMISED_US = {"static": 500, "ruvltra": 3_000}


@click.command()
@click.option("--seconds", type=click.FloatRange(0.05, 60), default=2.0, show_default=True, help="Time per encoder.")
@json_option
def query(seconds: float, as_json: bool) -> None:
    """Time everything of a query but the LLM, on one thread, with 1,000 linked memories.

    \b
    Examples:
      ruvllm bench query
      ruvllm bench query --seconds 5 --json
    """
    with waiting("measuring"):
        measured = _measured(seconds)
    for one in measured:
        promise, stages = _PROMISED_US[one["encoder"]], one["stages"]
        rows = [(stage, number(stages[stage], 0)) for stage in STAGES if stage != "generation"]
        rows += [("all but generation, p50", number(one["p50_us"], 0)), ("p95", number(one["p95_us"], 0))]
        mark = "pass" if one["p50_us"] <= promise else "short"
        title = f"{one['encoder']}: {one['memories']:,} memories, promise p50 <= {promise:,} µs, {mark}"
        show_table(title, ("Step, median", "µs"), rows, right=("µs",))
    if as_json:
        print_json({one["encoder"]: one for one in measured})


def _measured(seconds: float) -> list[dict[str, Any]]:
    done = subprocess.run(
        [sys.executable, "-m", "ruvllm_bench.query_process", str(seconds)],
        env=os.environ | dict.fromkeys(_THREADS, "1"),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise RuvllmError(f"the measuring process failed: {last}", field="bench", fix="see `ruvllm info`")
    found: list[dict[str, Any]] = json.loads(done.stdout.splitlines()[-1])
    return found
