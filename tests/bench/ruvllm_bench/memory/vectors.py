"""A million vectors made from real ones, an encoder for vectors that are given, and what a process holds in memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ruvllm.errors import EncoderError

MILLION = 1_000_000
_BLOCK = 10_000
_NOISE = 1.0  # its length: a copy is about as near to its source as a sentence to its nearest neighbour, cosine 0.7

Floats = NDArray[np.float32]


@dataclass(slots=True)
class Given:
    """In the place of an encoder, where all vectors are there already."""

    name: str
    dim: int

    async def encode(self, texts: Sequence[str]) -> Floats:
        """There is nothing to encode with."""
        raise EncoderError("these vectors come from a file", field="encoder", fix="ask with a vector")


@dataclass(frozen=True, slots=True)
class Held:
    """Megabytes that this process holds.

    Attributes:
        whole: all of it; pages of files that were mapped included.
        anonymous: without those.
        most: the most that there ever was of the whole.
    """

    whole: float
    anonymous: float
    most: float


def held_mb() -> Held | None:
    """What is held now, None where the system does not tell."""
    try:
        lines = Path("/proc/self/status").read_text("ascii").splitlines()
    except OSError:
        return None
    told = dict(line.split(":", 1) for line in lines if ":" in line)
    whole, anonymous, most = (int(told[key].split()[0]) / 1024 for key in ("VmRSS", "RssAnon", "VmHWM"))
    return Held(whole, anonymous, most)


def perturbed(path: Path, vectors: Floats, size: int = MILLION, seed: int = 0) -> Floats:
    """So many vectors in a file, read where they lie: those given, then copies with noise, of length one all."""
    if not path.exists():
        fresh, random = path.with_suffix(".part"), np.random.default_rng(seed)
        out = np.lib.format.open_memmap(fresh, "w+", np.float32, (size, vectors.shape[1]))
        for start in range(0, size, _BLOCK):
            rows = np.arange(start, min(start + _BLOCK, size))
            block = vectors[rows % len(vectors)]
            noise = random.standard_normal(block.shape, dtype=np.float32)
            noise *= _NOISE / np.linalg.norm(noise, axis=1, keepdims=True)
            block = np.where(rows[:, None] < len(vectors), block, block + noise)
            out[start : start + len(block)] = block / np.linalg.norm(block, axis=1, keepdims=True)
        out.flush()
        del out
        fresh.replace(path)
    mapped: Floats = np.load(path, mmap_mode="r", allow_pickle=False)
    return mapped
