"""`ruvllm bench soak`: does a server stay as small as it is, and does it keep what it acknowledged?"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import click

from ruvllm.cli.console import number, print_json, progress, show_table
from ruvllm.cli.options import json_option
from ruvllm_bench.serve.crash import Crashes, crash
from ruvllm_bench.serve.slow_backend import slow_backend
from ruvllm_bench.serve.spawn import Spawned, spawn
from ruvllm_bench.serve.traffic import SETTINGS, Tally, Traffic, settings_before

_GROWTH = 0.05
_CLIENTS = 8
_LOOKS = 200  # at the memory
_WORDS = 20  # of an answer of the stand-in


@dataclass(frozen=True, slots=True)
class Soaked:
    """What came of it.

    Attributes:
        requests: answered.
        errors: answers that were not as they should be.
        problems: the first of them.
        warm_mb, end_mb: peak of resident memory in the quarter of the time after the warm-up, and in the last one;
            None where the system does not tell.
    """

    minutes: float
    requests: int
    errors: int
    problems: Sequence[str]
    warm_mb: float | None
    end_mb: float | None
    crashes: Crashes

    @property
    def growth(self) -> float | None:
        """Share by which memory grew after the warm-up."""
        return None if self.warm_mb is None or self.end_mb is None else self.end_mb / self.warm_mb - 1

    @property
    def met(self) -> bool:
        """Whether all promises were kept, as far as they could be measured."""
        kept = not (self.errors or self.crashes.lost or self.crashes.damaged)
        return kept and (self.growth is None or self.growth <= _GROWTH)


@click.command("soak")
@click.option("--minutes", type=click.FloatRange(0.1, 10_000), default=30.0, show_default=True, help="Of traffic.")
@click.option("--kills", type=click.IntRange(1, 1000), default=5, show_default=True, help="kill -9 during writes.")
@json_option
def bench_soak(minutes: float, kills: int, as_json: bool) -> None:
    """Let a server of its own process answer all kinds of requests for long, then kill it while it writes.

    Its small backend echoes the question, its large one is a stand-in for an LLM server, in a process of its own, that
    calls tools: questions, streams and loops of tools in three APIs go to them, and need no LLM. The first quarter of
    the time is the warm-up: the peak of memory in the second quarter is compared with that in the last. What clients
    add stays by intent, so they add little: a memory and a lesson every two seconds.

    The exit status is 1 when a promise is not kept.

    \b
    Examples:
      ruvllm bench soak
      ruvllm bench soak --minutes 2 --json
    """
    with TemporaryDirectory() as folder:
        found = asyncio.run(_soak(Path(folder) / "state.db", minutes, kills))
    _show(found)
    if as_json:
        growth = found.growth if found.growth is None else round(found.growth, 4)
        print_json({**asdict(found), "growth": growth, "met": found.met})
    if not found.met:
        raise SystemExit(1)


async def _soak(state: Path, minutes: float, kills: int) -> Soaked:
    with (
        slow_backend(0, _WORDS) as url,
        spawn(state, settings=settings_before(url)) as server,
        progress("soaking", _LOOKS) as advance,
    ):
        traffic = Traffic(server.url)
        running = asyncio.ensure_future(traffic.run(_CLIENTS, minutes * 60))
        seen = await _watch(server, minutes * 60, running, advance)
        tally = await running
    crashes = await crash(state, kills, SETTINGS)
    warm, end = _sizes(seen)
    return _made(minutes, tally, warm, end, crashes)


async def _watch(
    server: Spawned, seconds: float, running: asyncio.Future[Tally], advance: Callable[[], None]
) -> list[float]:
    """Resident memory in MB, at even distances."""
    seen = list[float]()
    for _ in range(_LOOKS):
        await asyncio.wait((running,), timeout=seconds / _LOOKS)
        advance()
        if (now := server.rss()) is not None:
            seen.append(now)
    return seen


def _sizes(seen: Sequence[float]) -> tuple[float | None, float | None]:
    """The peaks of the quarter after the warm-up and of the last one.

    Peaks, since the allocator gives tens of megabytes back and takes them again within seconds.
    """
    if len(seen) < _LOOKS:
        return None, None
    quarter = _LOOKS // 4
    return round(max(seen[quarter : 2 * quarter]), 1), round(max(seen[-quarter:]), 1)


def _made(minutes: float, tally: Tally, warm: float | None, end: float | None, crashes: Crashes) -> Soaked:
    wrong = sum(tally.wrong.values())
    return Soaked(minutes, sum(tally.asked.values()), wrong, tuple(tally.first), warm, end, crashes)


def _show(found: Soaked) -> None:
    growth = "-" if found.growth is None else f"{found.growth * 100:+.1f} %"
    size = "-" if found.warm_mb is None else f"{number(found.warm_mb, 1)} MB"
    end = "-" if found.end_mb is None else f"{number(found.end_mb, 1)} MB"
    mark = "not measured" if found.growth is None else _mark(found.growth <= _GROWTH)
    crashes = found.crashes
    rows = [
        ("requests", number(found.requests, 0), "", ""),
        ("errors", str(found.errors), "0", _mark(not found.errors)),
        ("peak of memory after the warm-up", size, "", ""),
        ("peak of memory at the end", end, "", ""),
        ("growth", growth, f"<= {_GROWTH * 100:g} %", mark),
        (f"damaged files after {crashes.rounds} kills", str(crashes.damaged), "0", _mark(not crashes.damaged)),
        (f"lost of {crashes.written:,} acknowledged writes", str(crashes.lost), "0", _mark(not crashes.lost)),
    ]
    title = f"{found.minutes:g} minutes of mixed traffic, loops of tools among it, static encoder"
    show_table(title, ("Measure", "Value", "Promise", ""), rows, right=("Value", "Promise"))
    for problem in found.problems:
        click.echo(problem, err=True)


def _mark(met: bool) -> str:
    return "pass" if met else "short"
