"""Real sentences as vectors, for `ruvllm bench memory`: collected from files, embedded once, kept in the cache."""

from __future__ import annotations

import json
import os
import random
import re
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from ruvllm import InputError
from ruvllm.artifacts.host import NativeHost
from ruvllm.encoders.families import MINILM
from ruvllm.text.wordpiece import WordPiece

WIDTH = 384
_SUFFIXES = (".json", ".jsonl", ".md", ".txt")
_LEAST_WORDS, _MOST_CHARACTERS = 3, 400
_MOST_TOKENS = 64
_BATCH = 64
_ENDS = re.compile(r"(?<=[.!?])\s+|\n+")


def cache_folder() -> Path:
    """Where the user's programs keep what can be made again."""
    home = Path.home()
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA", home / "AppData" / "Local"))
    elif sys.platform == "darwin":
        base = home / "Library" / "Caches"
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or home / ".cache")
    return base / "ruvllm" / "bench"


def sentences(path: Path, most: int, seed: int = 0) -> list[str]:
    """At most so many different sentences of three words or more, shuffled, from a file or all files of a folder.

    Raises:
        InputError: nothing there can be read, or it holds too few.
    """
    files = sorted(p for p in path.rglob("*") if p.suffix in _SUFFIXES) if path.is_dir() else [path]
    found = dict[str, None]()
    for file in files:
        for text in _texts(file):
            for part in _ENDS.split(text):
                words = part.split()
                if len(words) >= _LEAST_WORDS and len(part) < _MOST_CHARACTERS:
                    found.setdefault(" ".join(words))
    if len(found) < 1_000:
        fix = "give a folder or file of real text: .txt, .md, .json or .jsonl, or an .npy of vectors"
        raise InputError(f"{path} holds {len(found)} sentences", field="data", fix=fix)
    mixed = list(found)
    random.Random(seed).shuffle(mixed)
    return mixed[:most]


def vectors_in(path: Path) -> NDArray[np.float32]:
    """float32 (n, dim) from an .npy file, read where it lies.

    Raises:
        InputError: it holds something else.
    """
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"{path} cannot be read: {error}", field="data", fix="give float32 (n, dim)") from None
    if array.ndim != 2 or array.dtype != np.float32 or len(array) < 1_000:
        what = f"{path} is {array.dtype} {array.shape}"
        raise InputError(what, field="data", fix="give float32 (n, dim), 1,000 rows or more")
    return cast(NDArray[np.float32], array)


def embeddings(texts: list[str], advance: Callable[[], None]) -> Path:
    """An .npy of MiniLM's vectors, float32 (len(texts), 384), unit rows; made at the first call for these texts.

    Args:
        advance: called for every text.

    Raises:
        EncoderError: onnxruntime is not installed.
        InputError: the cache cannot be written.
    """
    host = NativeHost()
    model = host.manifest.get(MINILM.model, {}).get("sha256", "")
    digest = sha256("\n".join([str(model), str(_MOST_TOKENS), *texts]).encode()).hexdigest()[:24]
    path = cache_folder() / f"minilm-{digest}.npy"
    if path.exists():
        return path
    tokenizer = WordPiece(host.artifact("vocab.txt").decode("utf-8").splitlines())
    session = host.session(MINILM.model)
    out = np.empty((len(texts), WIDTH), np.float32)

    def embed(start: int) -> None:
        for row, text in enumerate(texts[start : start + _BATCH], start):
            ids = np.array([tokenizer.encode(text, _MOST_TOKENS)], np.int64)
            vector = np.asarray(session(ids), np.float32).ravel()
            out[row] = vector / np.linalg.norm(vector)
            advance()

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for done in [pool.submit(embed, start) for start in range(0, len(texts), _BATCH)]:
            done.result()
    fresh = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with fresh.open("wb") as file:
            np.save(file, out)
        fresh.replace(path)
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error}", field="cache", fix="free some disk space") from None
    return path


def _texts(file: Path) -> Iterator[str]:
    """All strings of a file."""
    try:
        text = file.read_text("utf-8", "replace")
    except OSError:
        return
    if file.suffix not in (".json", ".jsonl"):
        yield text
        return
    for part in text.splitlines() if file.suffix == ".jsonl" else [text]:
        try:
            yield from _strings(json.loads(part))
        except (ValueError, RecursionError):  # not every file of a folder need be whole
            continue


def _strings(value: Any) -> Iterator[str]:
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, str):
            yield one
        elif isinstance(one, dict):
            waiting.extend(one.values())
        elif isinstance(one, list):
            waiting.extend(one)
