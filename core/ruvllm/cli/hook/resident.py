"""Hands a hook's event to a process that has everything loaded already; without one the hook answers by itself.

This module is read at every prompt, so it imports nothing that the interpreter has not loaded anyway.

A request is a frame with folder, command line and environment, then one with the event; the answer is one frame. A
frame is its length in bytes as a little-endian uint32, then the bytes.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from socket import socket


# Beginnings of the variables that count for a hook.
ENVIRONMENT = ("RUVLLM_", "CLAUDE_", "CODEX_", "OPENCODE_", "XDG_", "HOME", "USERPROFILE", "APPDATA", "LOCALAPPDATA")
_COLD = ("--help", "-h", "--debug", "--no-resident", "--endpoint", "--key")  # options that this process takes itself
_SERVER = "ruvllm.cli.hook.resident_server:run"
_LONGEST_PATH = 100  # bytes of a socket's path; some systems take 104
_PATIENCE = 3.0  # seconds that an answer may take
_MOST_EVENT, _MOST_BYTES = 16_000_001, 17_000_000  # of an event, of a frame


def answered(words: list[str]) -> bool:
    """Whether the resident helper has answered, on standard output; where none listens yet, one is started.

    Args:
        words: what stands after `ruvllm hook`.
    """
    cold = any(word.partition("=")[0] in _COLD for word in words) or os.environ.get("RUVLLM_ENDPOINT")
    path = None if cold or os.environ.get("RUVLLM_HOOK_RESIDENT") == "0" else socket_path()
    if path is None or sys.stdin is None or sys.stdout is None:
        return False
    event = b""
    try:
        connection = _connected(path)
        if connection is None:
            _start(path)
            return False
        event = sys.stdin.buffer.read(_MOST_EVENT)
        variables = [f"{name}={value}" for name, value in os.environ.items() if name.startswith(ENVIRONMENT)]
        head = "\0".join((os.getcwd(), str(len(words)), *words, *variables)).encode("utf-8", "surrogateescape")
        connection.sendall(frame(head) + frame(event))
        answer = read_frame(connection)
        connection.close()
    except Exception:  # whatever it is, this process answers then, from what it has read
        if event:
            from io import BytesIO, TextIOWrapper

            sys.stdin = TextIOWrapper(BytesIO(event), "utf-8", "replace")
        return False
    try:
        sys.stdout.buffer.write(answer)
        sys.stdout.flush()
    except (OSError, ValueError):  # nobody reads it; the interpreter would try again at its end, and exit with 120
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    return True


def socket_path() -> str | None:
    """Where the helper of this user and of this installation listens; None where there cannot be one."""
    if not hasattr(os, "getuid") or sys.platform in ("win32", "emscripten", "wasi"):
        return None
    from binascii import crc32

    package = os.path.dirname(os.path.abspath(__file__))
    try:
        made = os.stat(package).st_mtime_ns  # another version has a helper of its own
    except OSError:
        return None
    home = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    key = f"{package}\0{made}\0{sys.executable}".encode("utf-8", "surrogateescape")
    folder = os.environ.get("XDG_RUNTIME_DIR") or home
    path = os.path.join(folder, "ruvllm-hook", f"{crc32(key):08x}.sock")
    return path if len(os.fsencode(path)) <= _LONGEST_PATH and "\0" not in path else None


def frame(data: bytes) -> bytes:
    """Bytes as they go over the socket."""
    return len(data).to_bytes(4, "little") + data


def read_frame(connection: socket) -> bytes:
    """The next frame's bytes. Raises OSError: it is not whole, or too long."""
    size = int.from_bytes(_read(connection, 4), "little")
    if size > _MOST_BYTES:
        raise OSError("too long a frame")
    return _read(connection, size)


def is_of_user(connection: socket) -> bool:
    """Whether the other side is a process of this user; where the system does not say, the folder's rights count."""
    import _socket

    option = getattr(_socket, "SO_PEERCRED", None)
    if option is None:
        return True
    peer = connection.getsockopt(_socket.SOL_SOCKET, option, 12)  # three int32: process, user, group
    return int.from_bytes(peer[4:8], sys.byteorder) == os.getuid()


def _read(connection: socket, size: int) -> bytes:
    parts = []
    while size:
        part = connection.recv(min(size, 1 << 20))
        if not part:
            raise OSError("the connection ended")
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def _connected(path: str) -> socket | None:
    """A connection to the helper; None where nobody listens. Raises OSError: what is there is somebody else's."""
    import _socket

    try:
        folder = os.lstat(os.path.dirname(path))
        if folder.st_uid != os.getuid() or folder.st_mode & 0o077 or os.lstat(path).st_uid != os.getuid():
            raise PermissionError(path)
        connection: socket = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)  # type: ignore[assignment]
        connection.settimeout(_PATIENCE)
        connection.connect(path)
    except (FileNotFoundError, ConnectionError):
        return None
    if not is_of_user(connection):
        raise PermissionError(path)
    return connection


def left_behind() -> tuple[str, str] | None:
    """What keeps hooks from having a helper, and why: a folder that others may use, or what one that died has left."""
    path = socket_path()
    if path is None:
        return None
    folder = os.path.dirname(path)
    if os.path.isdir(folder) and os.stat(folder).st_mode & 0o077:
        return folder, "is open to others"
    if not os.path.exists(path):
        return None
    try:
        connection = _connected(path)
    except OSError as error:
        return path, f"cannot be used ({error})"
    if connection is None:
        return path, "is of a helper that has ended"
    connection.close()
    return None


def _start(path: str) -> None:
    """Start the helper, for the next call; it outlives this process."""
    streams = [(os.POSIX_SPAWN_OPEN, number, os.devnull, os.O_RDWR, 0) for number in range(3)]
    command = [sys.executable, "-P", "-m", _SERVER.partition(":")[0], path]  # -P: nothing of the project's folder
    os.posix_spawn(sys.executable, command, os.environ, file_actions=streams, setpgroup=0)
