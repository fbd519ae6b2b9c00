"""Other programs that figures stand beside: installed when asked for, each into an environment of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from shutil import rmtree
from typing import Any

from ruvllm import RuvllmError
from ruvllm_bench.memory.data import cache_folder

_PATIENCE = 900.0  # seconds of an installation: one without wheels is compiled
_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")


@dataclass(frozen=True, slots=True)
class Peer:
    """A program of others.

    Attributes:
        name: of its distribution.
        needs: what pip is asked for.
        licence: as its distribution says; nothing of it is part of ruvllm.
        beside: the part of the figures that it stands in.
    """

    name: str
    needs: tuple[str, ...]
    licence: str
    beside: str

    @property
    def folder(self) -> Path:
        """Where it is installed, outside this repository."""
        return cache_folder() / "peers" / self.name

    @property
    def python(self) -> Path:
        """That runs it."""
        return self.folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")

    def install(self) -> str:
        """Its version, installed unless it is there already. Raises RuvllmError: it cannot be had here, and why."""
        version = self.folder / "ruvllm-bench-version"
        if not version.exists():
            rmtree(self.folder, ignore_errors=True)
            self.folder.mkdir(parents=True)
            _run([sys.executable, "-m", "venv", str(self.folder)])
            _run([str(self.python), "-m", "pip", "install", "-q", "--disable-pip-version-check", *self.needs])
            found = _run([str(self.python), "-c", f"import importlib.metadata as m; print(m.version({self.name!r}))"])
            version.write_text(found.strip(), "utf-8")  # last: it says that all is there
        return version.read_text("utf-8")

    def measure(self, script: str, *arguments: str) -> Any:
        """What a script beside this file prints as its last line, run by the peer's Python on one thread.

        Raises:
            RuvllmError: it failed.
        """
        command = [str(self.python), str(Path(__file__).with_name(script)), self.name, *arguments]
        return json.loads(_run(command, more=_ONE_THREAD).splitlines()[-1])


PEERS = (
    Peer("semantic-router", ("semantic-router>=1",), "MIT", "route"),
    Peer("hnswlib", ("hnswlib", "numpy"), "Apache-2.0", "search"),
    Peer("usearch", ("usearch", "numpy"), "Apache-2.0", "search"),
    Peer("faiss-cpu", ("faiss-cpu",), "MIT", "search"),
    Peer("scalable-vs", ("scalable-vs", "numpy"), "Intel Simplified Software License", "search"),
    Peer("turbovec", ("turbovec", "numpy"), "MIT", "search"),
    Peer("rabitqlib", ("rabitqlib", "numpy"), "Apache-2.0", "search"),
    Peer("litellm", ("litellm[proxy]",), "MIT", "serve"),
    Peer("llama-cpp-python", ("llama-cpp-python",), "MIT", "lm"),
)


def _run(command: list[str], folder: Path | None = None, more: dict[str, str] | None = None) -> str:
    """Its output. Raises RuvllmError: it cannot be run, fails, or takes too long."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | (more or {})
    try:
        done = subprocess.run(
            command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True,
            timeout=_PATIENCE,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        raise RuvllmError(f"{command[0]}: {error}"[:200], field="peers", fix="leave it out") from None
    if done.returncode:
        said = [line for line in done.stderr.strip().splitlines() if line.strip() and "is ignored" not in line]
        raise RuvllmError((said or ["it failed"])[-1][:200], field="peers", fix="leave it out")
    return done.stdout
