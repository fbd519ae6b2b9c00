"""`ruvllm bench serve`: is the server as fast as it promises to be, on this machine?"""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from statistics import median

import click

from ruvllm.cli.console import number, print_json, show_table, waiting
from ruvllm.cli.options import json_option
from ruvllm_bench.serve.background import Background, background
from ruvllm_bench.serve.floor import floor
from ruvllm_bench.serve.footprint import Footprint, footprint
from ruvllm_bench.serve.load import Load, drive, prompts
from ruvllm_bench.serve.spawn import running
from ruvllm_bench.serve.streams import Streamed, streamed
from ruvllm_bench.serve.tenancy import Tenancy, tenancy

_SPACES_S, _SPACES_MB = 2.0, 100
_BESIDE = 1.25  # times the p99 without background work
_RATE, _P99_MS, _START_S, _RSS_MB, _RATIO = 2_500, 60.0, 1.5, 350, 3.0
_SHARE = 0.5  # of what uvicorn alone answers with the same JSON


@click.command("serve")
@click.option("--seconds", type=click.FloatRange(0.2, 600), default=5.0, show_default=True, help="How long.")
@click.option("--connections", type=click.IntRange(1, 1000), default=64, show_default=True)
@click.option("--encoder", type=click.Choice(["static", "ruvltra", "cascade"]), default="static", show_default=True)
@click.option("--streams", type=click.IntRange(0, 250), default=100, show_default=True, help="Before a slow backend.")
@click.option("--memories", type=click.IntRange(0, 1_000_000), default=10_000, show_default=True, help="At the start.")
@click.option(
    "--spaces", type=click.IntRange(0, 100_000), default=0, help="Only this: so many keys, each with its own."
)
@click.option(
    "--jobs", type=click.IntRange(0, 100), default=0, help="Only this: so many pairs of runs, one of each beside jobs."
)
@click.option("--active", type=click.IntRange(1, 1_000), default=50, show_default=True, help="Spaces in use of those.")
@json_option
def bench_serve(
    seconds: float,
    connections: int,
    encoder: str,
    streams: int,
    memories: int,
    spaces: int,
    active: int,
    jobs: int,
    as_json: bool,
) -> None:
    """Start a server of one process, route distinct tasks over many connections, and compare with the promises.

    The client runs on this machine too, in another process; uvicorn alone, answering the same JSON, is asked before
    and after. The promises are for the static encoder. Streams are
    written by a stand-in for an LLM server, in a process of its own, that says ten words a second.

    \b
    Examples:
      ruvllm bench serve
      ruvllm bench serve --seconds 20 --json
      ruvllm bench serve --streams 0 --memories 0       # nothing but /v1/route
      ruvllm bench serve --spaces 1000                  # what keys and their spaces cost
      ruvllm bench serve --jobs 7 --connections 8       # how much later answers come beside background work
    """
    if spaces:
        with waiting("measuring"):
            many_spaces = tenancy(spaces, min(active, spaces), encoder)
        show_table(f"{spaces:,} keys and spaces, {encoder}", ("Measure", "Value", "Promise", ""),
                   _space_rows(many_spaces), right=("Value", "Promise"))  # fmt: skip
        if as_json:
            print_json(asdict(many_spaces))
        return
    if jobs:
        with waiting("measuring"):
            busy = background(encoder, connections, seconds, jobs)
        show_table(f"p99 of POST /v1/route, {connections} connections, {encoder}, {jobs} pairs of runs in turn",
                   ("Measure", "Value", "Promise", ""), _job_rows(busy), right=("Value", "Promise"))  # fmt: skip
        if as_json:
            print_json(asdict(busy) | {"ratio": busy.ratio})
        return
    with waiting("measuring"):
        with running(encoder) as server:
            asked = prompts()
            asyncio.run(drive(server.port, connections, min(1.0, seconds), asked))  # memory pages, the CPU's caches
            with floor() as port:
                bare = asyncio.run(drive(port, connections, min(2.0, seconds), asked))
                load = asyncio.run(drive(server.port, connections, seconds, asked))
                bare = max(
                    bare, asyncio.run(drive(port, connections, min(2.0, seconds), asked)), key=lambda one: one.rate
                )
        many = streamed(streams, seconds) if streams else None
        size = footprint(memories) if memories else None
    rows = _load_rows(load, bare) + (_stream_rows(many) if many else []) + (_size_rows(size) if size else [])
    show_table(f"POST /v1/route, {connections} connections, {encoder}", ("Measure", "Value", "Promise", ""), rows,
               right=("Value", "Promise"))  # fmt: skip
    if as_json:
        told = {"streamed": asdict(many) | {"ratio": many.ratio} if many else None}
        print_json({**asdict(load), "floor": asdict(bare), **told, "footprint": asdict(size) if size else None})


_Row = tuple[str, str, str, str]


def _load_rows(load: Load, bare: Load) -> list[_Row]:
    share = load.rate / max(bare.rate, 1.0)
    return [
        ("answers a second", number(load.rate, 0), f">= {_RATE:,}", _mark(load.rate >= _RATE)),
        (f"of uvicorn alone, {number(bare.rate, 0)} a second", number(share), f">= {_SHARE:g}", _mark(share >= _SHARE)),
        ("p50", f"{load.p50_ms:.1f} ms", "", ""),
        ("p99", f"{load.p99_ms:.1f} ms", f"<= {_P99_MS:g} ms", _mark(load.p99_ms <= _P99_MS)),
        ("errors", str(load.errors), "0", _mark(not load.errors)),
    ]


def _stream_rows(many: Streamed) -> list[_Row]:
    label = f"one client's p50 beside {many.streams} streams"
    slower = f"{many.beside_ms:.1f} ms, {many.ratio:.1f} x"
    dropped = many.streams - many.whole
    return [
        ("one client's p50", f"{many.alone_ms:.1f} ms", "", ""),
        (label, slower, f"<= {_RATIO:g} x", _mark(many.ratio <= _RATIO and not many.errors)),
        ("streams that were not whole", str(dropped), "0", _mark(not dropped)),
    ]


def _size_rows(size: Footprint) -> list[_Row]:
    start = f"process start to ready, {size.memories:,} memories"
    rss = "-" if size.rss_mb is None else f"{size.rss_mb:.0f} MB"
    met = "not measured" if size.rss_mb is None else _mark(size.rss_mb <= _RSS_MB)
    return [
        (start, f"{size.ready_s:.2f} s", f"<= {_START_S} s", _mark(size.ready_s <= _START_S)),
        ("resident memory with RuvLTRA in use", rss, f"<= {_RSS_MB} MB", met),
    ]


def _job_rows(busy: Background) -> list[_Row]:
    return [
        ("median without background work", f"{median(busy.alone_ms):.1f} ms", "", ""),
        ("… beside the review of 200 feedbacks", f"{median(busy.beside_ms):.1f} ms", "", ""),
        ("ratio", f"{busy.ratio:.2f} x", f"<= {_BESIDE:g} x", _mark(busy.ratio <= _BESIDE and not busy.errors)),
        ("reviews", str(busy.reviews), f"{len(busy.alone_ms)}", _mark(busy.reviews == len(busy.alone_ms))),
    ]


def _space_rows(many: Tenancy) -> list[_Row]:
    more = many.active_mb
    added = f"resident memory that {many.active} active ones add"
    met = "not measured" if more is None else _mark(more <= _SPACES_MB)
    return [
        ("process start to ready", f"{many.ready_s:.2f} s", f"<= {_SPACES_S} s", _mark(many.ready_s <= _SPACES_S)),
        ("resident memory, the default space in use", "-" if many.rss_mb is None else f"{many.rss_mb:.0f} MB", "", ""),
        (added, "-" if more is None else f"{more:.0f} MB", f"<= {_SPACES_MB} MB", met),
        ("first request of a space", f"{many.first_ms:.0f} ms", "", ""),
        ("a route in an open one", f"{many.later_ms:.1f} ms", "", ""),
        (
            f"open after {2 * many.active} were used",
            str(many.open),
            f"<= {many.active}",
            _mark(many.open <= many.active),
        ),
    ]


def _mark(met: bool) -> str:
    return "pass" if met else "short"
