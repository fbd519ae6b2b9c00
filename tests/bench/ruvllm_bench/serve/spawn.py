"""Servers in processes of their own, for what is measured and tried on them from outside."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter, sleep
from urllib.request import urlopen

from ruvllm import RuvllmError

_READY_S = 60.0
_PAGES = "/proc/{}/status"


@dataclass(frozen=True, slots=True)
class Spawned:
    """A running server.

    Attributes:
        started: seconds from the start of the process until it was ready.
        log: what it says on stderr.
    """

    process: subprocess.Popen[bytes]
    port: int
    started: float
    log: Path

    @property
    def url(self) -> str:
        """Up to the path."""
        return f"http://127.0.0.1:{self.port}"

    def rss(self) -> float | None:
        """Resident memory in MB; None where the system does not tell."""
        status = Path(_PAGES.format(self.process.pid))
        if status.exists():
            found = re.search(r"VmRSS:\s+(\d+)", status.read_text())
            return int(found[1]) / 1024 if found else None
        try:
            told = subprocess.run(["ps", "-o", "rss=", "-p", str(self.process.pid)], capture_output=True, text=True)
        except OSError:
            return None
        return int(told.stdout) / 1024 if told.stdout.strip().isdigit() else None

    def kill(self) -> None:
        """At once, with nothing written down: as kill -9 does."""
        self.process.kill()
        self.process.wait()

    def stop(self) -> float:
        """In order; seconds that it took."""
        began = perf_counter()
        self.process.send_signal(signal.SIGTERM)
        self.process.wait()
        return perf_counter() - began


def environment(more: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment without settings of another server, and with these."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RUVLLM_")}
    models = {name: os.environ[name] for name in ("RUVLLM_MODELS",) if name in os.environ}
    return kept | models | dict(more or {})


@contextmanager
def spawn(state: Path, encoder: str = "static", settings: Mapping[str, str] | None = None) -> Iterator[Spawned]:
    """A server on a state file; it is ended with the block, if it has not been before.

    Args:
        settings: variables of its environment.

    Raises:
        RuvllmError: it does not start.
    """
    command = [sys.executable, "-m", "ruvllm.cli", "--state", str(state), "serve", "--port", "0", "--encoder", encoder]
    log = state.with_name(f"{state.name}.log")
    began = perf_counter()
    with log.open("ab") as stderr:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr, env=environment(settings))
    assert process.stdout is not None
    with process.stdout:
        try:
            found = re.search(rb"http://127\.0\.0\.1:(\d+)", process.stdout.readline())
            if not found:
                raise _failed("the server did not start", log)
            port = int(found[1])
            _wait_for(port, began, log)
            yield Spawned(process, port, perf_counter() - began, log)
        finally:
            process.terminate()
            process.wait()


@contextmanager
def running(encoder: str = "static", settings: Mapping[str, str] | None = None) -> Iterator[Spawned]:
    """A server on a state file of its own, which is gone afterwards. Raises RuvllmError: it does not start."""
    with TemporaryDirectory() as folder, spawn(Path(folder) / "state.db", encoder, settings) as server:
        yield server


def _wait_for(port: int, began: float, log: Path) -> None:
    while perf_counter() - began < _READY_S:
        try:
            with urlopen(f"http://127.0.0.1:{port}/ready", timeout=5):
                return
        except OSError:
            sleep(0.01)
    raise _failed("the server did not get ready", log)


def _failed(what: str, log: Path) -> RuvllmError:
    return RuvllmError(f"{what}: {log.read_text(errors='replace')[-300:]}", field="serve", fix="see `ruvllm doctor`")
