"""`ruvllm bench serve`: is the server as fast as it promises to be, on this machine?"""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from urllib.request import urlopen

import click

from ruvllm import RuvllmError
from ruvllm.cli.console import number, print_json, show_table, waiting
from ruvllm.cli.options import json_option
from ruvllm_edge.load import drive, prompts

__all__ = ["bench_serve", "running"]

_RATE, _P99_MS, _START_S = 2_500, 60.0, 1.5
_READY_S = 60.0


@click.command("serve")
@click.option("--seconds", type=click.FloatRange(0.2, 600), default=5.0, show_default=True, help="How long.")
@click.option("--connections", type=click.IntRange(1, 1000), default=64, show_default=True)
@click.option("--encoder", type=click.Choice(["static", "minilm", "cascade"]), default="static", show_default=True)
@json_option
def bench_serve(seconds: float, connections: int, encoder: str, as_json: bool) -> None:
    """Start a server of one process, route distinct tasks over many connections, and compare with the promises.

    The client runs on this machine too, in another process. The promises are for the static encoder.

    \b
    Examples:
      ruvllm bench serve
      ruvllm bench serve --seconds 20 --json
    """
    with waiting("measuring"), running(encoder) as (port, started):
        asked = prompts()
        asyncio.run(drive(port, connections, min(1.0, seconds), asked))  # memory pages, the CPU's caches
        load = asyncio.run(drive(port, connections, seconds, asked))
    rows = [
        ("answers a second", number(load.rate, 0), f">= {_RATE:,}", _mark(load.rate >= _RATE)),
        ("p50", f"{load.p50_ms:.1f} ms", "", ""),
        ("p99", f"{load.p99_ms:.1f} ms", f"<= {_P99_MS:g} ms", _mark(load.p99_ms <= _P99_MS)),
        ("errors", str(load.errors), "0", _mark(not load.errors)),
        ("process start to ready", f"{started:.2f} s", f"<= {_START_S} s", _mark(started <= _START_S)),
    ]
    show_table(f"POST /v1/route, {connections} connections, {encoder}", ("Measure", "Value", "Promise", ""), rows,
               right=("Value", "Promise"))  # fmt: skip
    if as_json:
        print_json({**asdict(load), "ready_s": round(started, 3)})


def _mark(met: bool) -> str:
    return "pass" if met else "short"


@contextmanager
def running(encoder: str = "static") -> Iterator[tuple[int, float]]:
    """A server in a process of its own, on a state file of its own: its port, and seconds from start to ready.

    Raises:
        RuvllmError: it does not start.
    """
    with TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "ruvllm.cli", "--state", str(Path(folder) / "state.db"), "serve"]
        command += ["--port", "0", "--encoder", encoder]
        began = perf_counter()
        log = Path(folder) / "log"
        with log.open("wb") as stderr:
            process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr, env=_plain())
        try:
            assert process.stdout is not None
            found = re.search(rb"http://127\.0\.0\.1:(\d+)", process.stdout.readline())
            if not found:
                raise RuvllmError(
                    f"the server did not start: {log.read_text()[-300:]}", field="serve", fix="see its log"
                )
            port = int(found[1])
            _wait_for(port, began)
            yield port, perf_counter() - began
        finally:
            process.terminate()
            process.wait()
            if process.stdout:
                process.stdout.close()


def _plain() -> dict[str, str]:
    """The environment without settings of another server."""
    return {
        name: value for name, value in os.environ.items() if not name.startswith("RUVLLM_") or name == "RUVLLM_MODELS"
    }


def _wait_for(port: int, began: float) -> None:
    while perf_counter() - began < _READY_S:
        try:
            with urlopen(f"http://127.0.0.1:{port}/ready", timeout=5):
                return
        except OSError:
            asyncio.run(asyncio.sleep(0.01))
    raise RuvllmError("the server did not get ready", field="serve", fix="see `ruvllm doctor`")
