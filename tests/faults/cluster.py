"""Several server processes on one database, and what each of them holds."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from time import monotonic
from typing import IO, Any

import httpx
from click.testing import CliRunner
from waiting import PATIENCE, until

__all__ = ["Cluster", "Node"]

# Debian's libfaketime, or where RUVLLM_FAKETIME says that it lies; "" where there is none.
FAKETIME = next(
    (str(file) for file in (Path(os.environ.get("RUVLLM_FAKETIME", "/")), *Path("/usr/lib").glob("*/faketime/*MT.so.1"))
     if file.is_file()), ""
)  # fmt: skip


def call(*args: str) -> str:
    """What a command of `ruvllm shared` prints."""
    from ruvllm_edge.shared.command import shared

    done = CliRunner().invoke(shared, args, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


class Node:
    """A server process with a state file of its own, which outlives it.

    Args:
        file: the state file.
        shared: the address of the database.
        clock: what its clock is off by, as faketime takes it; "" for nothing.
    """

    def __init__(self, file: Path, shared: str, clock: str = "") -> None:
        self._file, self._shared = file, shared
        self._clock = {"LD_PRELOAD": FAKETIME, "FAKETIME": clock, "DONT_FAKE_MONOTONIC": "1"} if clock else {}
        self._log: IO[bytes] = file.with_suffix(".log").open("ab")
        self._process: subprocess.Popen[str] | None = None
        self.client = httpx.Client(timeout=PATIENCE)

    def start(self) -> None:
        """From when it answers."""
        command = [sys.executable, "-m", "ruvllm.cli", "--state", str(self._file), "serve", "--port", "0"]
        self._process = subprocess.Popen(
            [*command, "--encoder", "static", "--log-level", "warning"],
            env=os.environ | {"RUVLLM_SHARED": self._shared, "RUVLLM_RATE": "0"} | self._clock,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
        )

    def ready(self) -> None:
        """Come back when it can take requests; several start at once."""
        assert self._process is not None
        assert self._process.stdout is not None
        url = self._process.stdout.readline().split()
        assert url, self._file.with_suffix(".log").read_text()
        self.client = httpx.Client(base_url=url[0], timeout=PATIENCE)
        until(lambda: self.client.get("/ready").status_code == 200)

    def kill(self) -> None:
        """At once, whatever it is doing."""
        self._signal(signal.SIGKILL)
        assert self._process is not None
        self._process.wait()
        self.client.close()

    def stop(self) -> None:
        """It hangs."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """After `stop`."""
        self._signal(signal.SIGCONT)

    def fill_disk(self) -> None:
        """No file of it can grow: writes fail, as on a full disk."""
        self._limit(0)

    def empty_disk(self) -> None:
        """After `fill_disk`."""
        self._limit(resource.RLIM_INFINITY)

    def _limit(self, size: int) -> None:
        assert self._process is not None
        resource.prlimit(self._process.pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def post(self, path: str, body: Any) -> Any:
        """What it answers; an error is one of the test."""
        answer = self.client.post(path, json=body)
        assert answer.status_code < 300, answer.text
        return answer.json() if answer.content else None

    def route(self, text: str) -> tuple[str, float]:
        """Agent and confidence."""
        found = self.post("/v1/route", {"text": text})
        return found["agent"], found["confidence"]

    def stats(self) -> dict[str, Any]:
        """Its own."""
        found: dict[str, Any] = self.client.get("/stats").json()
        return found

    def close(self) -> None:
        """End it and let go of its log."""
        with suppress(Exception):
            self.resume()
            self.kill()
        self._log.close()


class Cluster:
    """Some nodes from the beginning of a block to its end.

    Args:
        folder: for their state files.
        shared: the address of the database, whose log is there.
        count: of nodes.
        clocks: what those of the first nodes are off by, as `Node` has it.
    """

    def __init__(self, folder: Path, shared: str, count: int, clocks: Sequence[str] = ()) -> None:
        self.shared = shared
        self.files = [folder / f"node-{number}.db" for number in range(count)]
        off = [*clocks, *[""] * count]
        self.nodes = [Node(file, shared, clock) for file, clock in zip(self.files, off, strict=False)]

    def __enter__(self) -> Cluster:
        try:
            for one in self.nodes:
                one.start()
            for one in self.nodes:
                one.ready()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for one in self.nodes:
            one.close()

    def settle(self) -> None:
        """Come back when all have all that any of them has acknowledged."""

        def stands() -> list[dict[str, Any]]:
            return [one.stats()["shared"] for one in self.nodes]

        def read_since(moment: float) -> bool:
            began = monotonic()
            return all(one["up"] and 0 <= one["lag_seconds"] < began - moment for one in stands())

        for _ in range(2):  # what one sent last, the others have read after that
            until(lambda: all(one["up"] and not one["waiting"] for one in stands()))
            until(partial(read_since, monotonic()))
