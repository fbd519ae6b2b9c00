"""`ruvllm bench hook`: what a hook takes as a client starts it, beside an interpreter that does nothing."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

import click

from ruvllm.cli.console import print_json, show_table
from ruvllm.cli.options import json_option
from ruvllm_bench.route_process import installed

_AGENTS = {"gardener": "Plants flowers, prunes hedges and trees.", "baker": "Bakes bread, cakes and pastry."}
_START = "import sys\nfrom ruvllm.cli.__main__ import run\nsys.exit(run())\n"
_LIMITS = {"resident": 15.0, "cold": 120.0}  # ms over `python -c pass`
_PATIENCE = 60.0  # seconds


@click.command()
@click.option("--times", type=click.IntRange(3), default=31, show_default=True, help="Of each, in turn.")
@json_option
def hook(times: int, as_json: bool) -> None:
    """Medians of `python -c pass`, of a hook that the resident helper answers, and of one without it, in turn."""
    with tempfile.TemporaryDirectory(prefix="r") as folder:
        home = Path(folder)
        agents = home / "work" / ".claude" / "agents"
        agents.mkdir(parents=True)
        for name, text in _AGENTS.items():
            (agents / f"{name}.md").write_text(f"---\nname: {name}\ndescription: {text}\n---\nGo.\n")
        (home / "ruvllm").write_text(_START)  # as an installer writes it
        kept = {name: value for name, value in installed().items() if not name.startswith(("RUVLLM", "CLAUDE", "XDG"))}
        environment = kept | {"HOME": folder, "RUVLLM_HOOK_IDLE": "30"}
        command = [sys.executable, str(home / "ruvllm"), "hook"]
        event = json.dumps({"prompt": "prune the apple trees and the hedge", "cwd": str(home / "work")}).encode()
        _took(command, event, environment)
        _await_helper(home)
        ways = {
            "python -c pass": [sys.executable, "-c", "pass"],
            "resident": command,
            "cold": [*command, "--no-resident"],
        }
        taken = dict[str, list[float]]()
        for _ in range(times):
            for name, way in ways.items():
                taken.setdefault(name, []).append(_took(way, event, environment))
    median = {name: statistics.median(rows) for name, rows in taken.items()}
    over = {name: median[name] - median["python -c pass"] for name in _LIMITS}
    if as_json:
        print_json({"ms": median, "over_ms": over})
        return
    rows = [
        (name, f"{value:.1f}", f"{over[name]:.1f}" if name in over else "", _mark(name, over))
        for name, value in median.items()
    ]
    show_table("Process, median", ("What", "ms", "Over", "Bar"), rows, right=("ms", "Over"))


def _mark(name: str, over: Mapping[str, float]) -> str:
    return f"{'pass' if over[name] <= _LIMITS[name] else 'short'}: {_LIMITS[name]:.0f}" if name in over else ""


def _took(command: list[str], event: bytes, environment: Mapping[str, str]) -> float:
    """Milliseconds of a process from its start to its end. Raises ClickException: a hook said nothing."""
    start = time.perf_counter()
    done = subprocess.run(command, input=event, env=environment, capture_output=True, check=True)
    if command[-1] != "pass" and b"gardener" not in done.stdout:
        raise click.ClickException("the hook said nothing")
    return (time.perf_counter() - start) * 1e3


def _await_helper(home: Path) -> None:
    end = time.monotonic() + _PATIENCE
    while not list((home / ".cache" / "ruvllm-hook").glob("*.sock")):
        if time.monotonic() > end:
            raise click.ClickException("no helper was started")
        time.sleep(0.05)
