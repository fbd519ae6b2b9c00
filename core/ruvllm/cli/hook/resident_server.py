"""What answers hooks at once: `python -P -m ruvllm.cli.hook.resident_server SOCKET`, which the first hook starts."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import BytesIO, TextIOWrapper
from pathlib import Path
from socket import AF_UNIX, SOCK_STREAM, socket

from ruvllm.cli.hook.resident import ENVIRONMENT, frame, is_of_user, read_frame

_IDLE = 900.0  # seconds without an event, after which it ends
_PATIENCE = 2.0  # seconds that a client may take with its request
_WAITING = 64  # connections
_MOST_MEMORY = 1_500_000_000  # bytes, from which it makes way for a fresh one


def serve(path: Path, idle: float = _IDLE) -> bool:
    """Answer hooks until none has come for `idle` seconds; whether it was this process that listened.

    Args:
        path: of the socket, in a folder that nobody else can enter.

    Raises:
        OSError: there can be no socket there.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    status = path.parent.lstat()
    if status.st_uid != os.getuid() or status.st_mode & 0o077:
        raise PermissionError(f"{path.parent} is not this user's alone")
    with _alone(path.with_suffix(".lock")) as alone, socket(AF_UNIX, SOCK_STREAM) as listener:
        if not alone:
            return False
        path.unlink(missing_ok=True)
        mask = os.umask(0o177)
        try:
            listener.bind(os.fspath(path))
        finally:
            os.umask(mask)
        listener.listen(_WAITING)
        listener.settimeout(idle)
        bound = path.lstat().st_ino
        try:
            while _same(path, bound) and _memory() < _MOST_MEMORY:
                connection, _ = listener.accept()
                with connection, suppress(OSError, ValueError):
                    connection.settimeout(_PATIENCE)
                    if is_of_user(connection):
                        head, event = read_frame(connection), read_frame(connection)
                        connection.sendall(frame(_answer(head, event)))
        except TimeoutError:
            pass
        finally:
            if _same(path, bound):
                path.unlink(missing_ok=True)
    return True


@contextmanager
def _alone(lock: Path) -> Iterator[bool]:
    """Whether no other helper has this lock; a crash lets go of it."""
    from fcntl import LOCK_EX, LOCK_NB, flock

    with open(lock, "ab") as held:
        try:
            flock(held, LOCK_EX | LOCK_NB)
        except OSError:
            yield False
        else:
            yield True


def _same(path: Path, bound: int) -> bool:
    """Whether clients still find this process there."""
    with suppress(OSError):
        return path.lstat().st_ino == bound
    return False


def _memory() -> int:
    """Bytes that this process has taken at most."""
    from resource import RUSAGE_SELF, getrusage

    return getrusage(RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _answer(head: bytes, event: bytes) -> bytes:
    """What the command would print. Raises ValueError: the head is none."""
    cwd, count, *rest = head.decode("utf-8", "surrogateescape").split("\0")
    words, variables = rest[: int(count)], rest[int(count) :]
    for name in [name for name in os.environ if name.startswith(ENVIRONMENT)]:
        del os.environ[name]
    os.environ.update(dict(variable.split("=", 1) for variable in variables))
    with suppress(OSError):
        os.chdir(cwd)
    from ruvllm.cli.main import main

    said, streams = TextIOWrapper(BytesIO(), "utf-8"), (sys.stdin, sys.stdout)
    sys.stdin, sys.stdout = TextIOWrapper(BytesIO(event), "utf-8", "replace"), said
    try:
        main.main(["hook", *words], prog_name="ruvllm")
    except SystemExit:  # it always exits, with 0
        pass
    finally:
        sys.stdin, sys.stdout = streams
        with suppress(OSError):
            os.chdir("/")
    said.flush()
    return said.buffer.getvalue()


def run() -> None:
    """Serve at the path that the command line names."""
    os.umask(0o077)
    os.chdir("/")
    idle = float(os.environ.get("RUVLLM_HOOK_IDLE") or _IDLE)
    from ruvllm.cli.hook.router import stay

    stay()
    with suppress(OSError):
        serve(Path(sys.argv[1]), idle)


if __name__ == "__main__":
    run()
