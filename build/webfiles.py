"""Files of a built web folder: content hashes, precompression, and the table of what a visit loads."""

from __future__ import annotations

import gzip
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import brotli  # type: ignore[import-untyped]

CACHE = Path(__file__).parent / ".cache"
WORTH = 0.98  # a compressed form is kept if it is smaller than this share
COMPRESSED = (".br", ".gz")
PACKED = (".whl", ".zip")  # deflated inside: minutes of work for a few thousand bytes


def digest(data: bytes) -> str:
    """SHA-256 as hex."""
    return sha256(data).hexdigest()


def folder_digest(files: Mapping[str, bytes]) -> str:
    """Of several files under one name, whichever order they come in."""
    return digest("\n".join(f"{name} {digest(data)}" for name, data in sorted(files.items())).encode())


@dataclass(frozen=True, slots=True)
class Sizes:
    """Bytes of one file as it is, and as a host with brotli or gzip sends it."""

    raw: int
    br: int
    gz: int


def compress(file: Path) -> Sizes:
    """Write file.br and file.gz beside a file where they are worth it; results are cached by content."""
    data = file.read_bytes()
    sizes = {".br": len(data), ".gz": len(data)}
    for suffix in COMPRESSED if file.suffix not in PACKED else ():
        packed = _packed(data, suffix)
        if len(packed) < len(data) * WORTH:
            file.with_name(file.name + suffix).write_bytes(packed)
            sizes[suffix] = len(packed)
    return Sizes(len(data), sizes[".br"], sizes[".gz"])


def _packed(data: bytes, suffix: str) -> bytes:
    quality = _quality(len(data)) if suffix == ".br" else 9
    cached = CACHE / f"{digest(data)}-{quality}{suffix}"
    if cached.exists():
        return cached.read_bytes()
    if suffix == ".br":
        packed: bytes = brotli.compress(data, quality=quality, lgwin=24)
    else:
        packed = gzip.compress(data, quality, mtime=0)
    CACHE.mkdir(exist_ok=True)
    cached.write_bytes(packed)
    return packed


def _quality(size: int) -> int:
    """The best, where it takes less than half a minute (10 is within 4 % of 11 in half its time)."""
    return 11 if size < 2_000_000 else 10 if size < 12_000_000 else 9


def table(rows: Iterable[tuple[str, str, Sizes]], bar: int) -> str:
    """Stage by stage, what a first visit loads; the bar is in brotli bytes up to the first static route."""
    lines = [f"{'file':<64} {'raw':>11} {'brotli':>11} {'gzip':>11}"]
    before = [0, 0, 0]
    everything = [0, 0, 0]
    stage = ""
    for name, file, sizes in rows:
        if name != stage:
            stage = name
            lines.append(f"-- {stage}")
        lines.append(f"{file:<64} {sizes.raw:>11,} {sizes.br:>11,} {sizes.gz:>11,}")
        for total in [everything] if stage == "ruvltra" else [everything, before]:
            for i, size in enumerate((sizes.raw, sizes.br, sizes.gz)):
                total[i] += size
    for name, total in (("up to the first static route", before), ("in all", everything)):
        lines.append(f"{name:<64} {total[0]:>11,} {total[1]:>11,} {total[2]:>11,}")
    verdict = "within" if before[1] <= bar else "OVER"
    lines.append(f"{verdict} the bar of {bar:,} brotli bytes up to the first static route")
    return "\n".join(lines)
