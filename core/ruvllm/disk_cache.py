"""What costs much to make, in a folder of the user's: bounded, and no harm is done where it is damaged or gone."""

from __future__ import annotations

import os
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

_DIGEST = 32  # bytes before the data


class DiskCache:
    """Bytes by name; the least recently used go when there are too many.

    Args:
        folder: made when there is something to put into it.
        most: bytes in all.
    """

    def __init__(self, folder: Path, most: int = 256_000_000) -> None:
        self.folder, self.most = folder, most

    def get(self, name: str) -> bytes | None:
        """What was put there, to the bit; None where it is not there or is damaged."""
        file = self.folder / name
        with suppress(OSError):
            found = file.read_bytes()
            if sha256(found[_DIGEST:]).digest() == found[:_DIGEST]:
                os.utime(file)
                return found[_DIGEST:]
            file.unlink()
        return None

    def put(self, name: str, data: bytes) -> None:
        """Keep it; nothing is kept where there is no place for it."""
        fresh = self.folder / f"{name}.{os.getpid()}.part"
        if len(data) + _DIGEST > self.most:
            return
        with suppress(OSError):
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            try:
                fresh.write_bytes(sha256(data).digest() + data)
                fresh.replace(self.folder / name)
            finally:
                fresh.unlink(missing_ok=True)
            self._trim()

    def _trim(self) -> None:
        files = [
            (status.st_mtime_ns, status.st_size, file) for file in self.folder.iterdir() if (status := file.stat())
        ]
        size = sum(size for _, size, _ in files)
        for _, freed, file in sorted(files):
            if size <= self.most:
                break
            file.unlink(missing_ok=True)
            size -= freed


def user_cache() -> DiskCache | None:
    """That of RUVLLM_CACHE, else in the user's cache folder; None where RUVLLM_CACHE is empty."""
    given, base = os.environ.get("RUVLLM_CACHE"), os.environ.get("XDG_CACHE_HOME")
    if given is not None:
        return DiskCache(Path(given)) if given else None
    return DiskCache((Path(base) if base else Path(os.path.expanduser("~"), ".cache")) / "ruvllm" / "agents")
