"""The pages of the guide: their code blocks and links, and a shell in which a page's blocks are run in order."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from waiting import until

ROOT = Path(__file__).parents[2]
OUTSIDE = ("README.md", "core/README.md", "edge_server/README.md", "web/README.md")
PAGES = sorted(str(path.relative_to(ROOT)) for path in (ROOT / "docs").rglob("*.md")) + list(OUTSIDE)
# A fence with the comment before it that says why it is not run, its language and its title: a file to be written.
_FENCE = re.compile(
    r'^(?:<!-- not run: (?P<why>[^\n]*?) -->\n)?```(?P<language>\w*)(?: title="(?P<title>[^"]+)")?\n(?P<code>.*?)^```$',
    re.MULTILINE | re.DOTALL,
)
_FIGURE = re.compile(r"[\d.,]*\d")
_MARK = "--- step over:"
PORT = "3000"


@dataclass(frozen=True)
class Block:
    """A code block of a page; `why` says why it is not run, "" where it is."""

    page: str
    line: int
    language: str
    title: str
    code: str
    why: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def text_of(page: str) -> str:
    return (ROOT / page).read_text("utf-8")


def blocks(page: str) -> list[Block]:
    text = text_of(page)
    return [
        Block(
            page,
            text.count("\n", 0, found.start()) + 1,
            found["language"],
            found["title"] or "",
            found["code"],
            found["why"] or "",
        )
        for found in _FENCE.finditer(text)
    ]


def commands(block: Block) -> list[tuple[str, list[str]]]:
    """Commands of a console block, each with the lines that are shown below it; of "sh" a command a line."""
    code = re.sub(r"\\\n\s*", "", block.code)
    if block.language == "sh":
        return [(code, [])]
    found: list[tuple[str, list[str]]] = []
    for line in code.splitlines():
        if line.startswith("$ "):
            found.append((line[2:], []))
        elif line.strip():
            found[-1][1].append(line)
    return found


def without_code(text: str) -> str:
    return _FENCE.sub("", text)


def shown(expected: list[str], printed: str) -> str:
    """The first expected line that was not printed, in order; "" when all were. Figures and spaces may differ."""
    rest = iter([_plain(line) for line in printed.splitlines()])
    for line in expected:
        pattern = ".*".join(re.escape(part) for part in _plain(line).split("…"))
        if _plain(line).strip("…─ ") and not any(re.fullmatch(pattern, one) for one in rest):
            return line
    return ""


def _plain(line: str) -> str:
    return _FIGURE.sub("#", " ".join(line.split()))


class Shell:
    """A shell in an empty folder that is its HOME, too; what runs in it ends with it."""

    def __init__(self, folder: Path, seconds: float = 180.0) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = str(free.getsockname()[1])
        keep = {name: value for name, value in os.environ.items() if not name.startswith(("RUVLLM_", "XDG_", "PYTEST"))}
        path = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
        environment = keep | {"HOME": str(folder), "PATH": path, "COLUMNS": "120", "NO_COLOR": "1"}
        self._folder = folder
        self._process = subprocess.Popen(
            ["bash"],
            cwd=folder,
            env=environment,
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self._clock = threading.Timer(seconds, self.close)
        self._clock.start()

    def run(self, command: str) -> tuple[int, str]:
        """Exit status and output. A server that is left in the background is ready when this returns."""
        command = re.sub(rf"\b{PORT}\b", self.port, command)
        served = re.match(r"([^#]*serve[^#]*)&\s*(?:#.*)?$", command)
        if served:
            command = f"{served[1]} > server.log 2>&1 &"
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{command}\nstatus=$?; echo; echo '{_MARK}' $status\n")
        self._process.stdin.flush()
        lines = []
        for line in self._process.stdout:
            if line.startswith(_MARK):
                if served:
                    until(self._ready)
                return int(line.removeprefix(_MARK)), "".join(lines)
            lines.append(line)
        raise AssertionError(f"the shell ended at {command!r}: {''.join(lines)[-2000:]}")

    def _ready(self) -> bool:
        with contextlib.suppress(urllib.error.URLError, OSError):
            return bool(urllib.request.urlopen(f"http://127.0.0.1:{self.port}/ready", timeout=5).status == 200)
        return False

    def write(self, title: str, code: str) -> None:
        path = self._folder / title
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(re.sub(rf"\b{PORT}\b", self.port, code), "utf-8")

    def close(self) -> None:
        self._clock.cancel()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            with contextlib.suppress(BrokenPipeError):
                pipe.close()  # type: ignore[union-attr]


def steps(block: Block, shell: Shell) -> Iterator[tuple[str, list[str]]]:
    """What a block has the shell do: commands with what is shown of their output."""
    if block.title:
        shell.write(block.title, block.code)
    elif block.language == "python":
        shell.write("block.py", block.code)
        yield "python block.py", []
    elif block.language == "js":
        library = (ROOT / "web" / "dist" / "node.js").as_uri()
        shell.write("block.mjs", re.sub(r'from "(?:ruvllm|https?://\S+/ruvllm\.js)"', f'from "{library}"', block.code))
        yield "node block.mjs", []
    elif block.language in ("console", "sh"):
        for command, expected in commands(block):
            if not command.startswith("make "):
                yield command.replace(".venv/bin/", ""), expected


def can_run(block: Block) -> str:
    """Why a block cannot be run on this machine; "" when it can."""
    if block.why:
        return block.why
    if block.language == "js" and not (shutil.which("node") and (ROOT / "web" / "dist" / "node.js").is_file()):
        return "the library for Node is not built: make web"
    return ""
