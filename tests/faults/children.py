"""Work in a forked child, and what it says through a pipe."""

from __future__ import annotations

import os
import signal
import traceback
from collections.abc import Callable
from typing import Any, NamedTuple

__all__ = ["Child", "start"]


class Child(NamedTuple):
    """A running child.

    Attributes:
        said: the reading end of its pipe.
        told: the writing end of the parent's.
    """

    pid: int
    said: int
    told: int

    def line(self) -> str:
        """The next line it says, "" when it says nothing any more."""
        text = b""
        while not text.endswith(b"\n") and (byte := os.read(self.said, 1)):
            text += byte
        return text.decode().rstrip("\n")

    def tell(self) -> None:
        """Let it go on from where it waits."""
        os.write(self.told, b"\n")

    def kill(self) -> None:
        """End it at once, whatever it is doing."""
        os.kill(self.pid, signal.SIGKILL)

    def rest(self) -> list[str]:
        """What it said until its end; the pipe is closed then."""
        parts = list[bytes]()
        while part := os.read(self.said, 1 << 16):
            parts.append(part)
        os.close(self.said)
        os.close(self.told)
        os.waitpid(self.pid, 0)
        return b"".join(parts).decode().splitlines()


def start(work: Callable[[Callable[[str], Any], Callable[[], Any]], Any]) -> Child:
    """Run `work(say, wait)` in a child. An exception is its last line."""
    (said, saying), (hearing, told) = os.pipe(), os.pipe()
    pid = os.fork()
    if pid:
        os.close(saying)
        os.close(hearing)
        return Child(pid, said, told)
    os.close(said)
    os.close(told)
    try:
        work(lambda text: os.write(saying, f"{text}\n".encode()), lambda: os.read(hearing, 1))
    except BaseException as error:
        traceback.print_exc()
        os.write(saying, f"{type(error).__name__}: {error}\n".encode())
    finally:
        os._exit(0)
