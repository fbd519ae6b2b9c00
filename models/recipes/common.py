"""What every recipe shares: folders, sessions, encoded texts that are kept between runs."""

from __future__ import annotations

import io
import json
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from rich.progress import track

from ruvllm.encoders.families import RUVLTRA, Family
from ruvllm.encoders.onnx import OnnxEncoder
from ruvllm.encoders.static import StaticEncoder
from ruvllm.text.wordpiece import WordPiece

ARTIFACTS = Path(__file__).parents[1] / "ruvllm_models" / "data"
CACHE = Path(__file__).parents[1] / ".cache"
RUNS = CACHE / "encoder"  # of the routing encoder: a, b, c and d, each without a group of collections, and final
WIDTH = 384

Floats = NDArray[np.float32]


def read_json(path: Path) -> Any:
    """A data file given by path."""
    if not path.exists():
        raise SystemExit(f"{path} is missing: give the folder of the training data with --data")
    return json.loads(path.read_text("utf-8"))


def save(name: str, **arrays: NDArray[Any]) -> None:
    """Write an npz artifact whose bytes depend on nothing but its arrays."""
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # zip entries carry a fixed date
    (ARTIFACTS / name).parent.mkdir(exist_ok=True)
    (ARTIFACTS / name).write_bytes(buffer.getvalue())
    print(f"{name}: {len(buffer.getvalue()) / 1e6:.2f} MB")


def load(name: str) -> dict[str, NDArray[Any]]:
    """The arrays of an artifact made before."""
    with np.load(ARTIFACTS / name, allow_pickle=False) as archive:
        return {key: archive[key] for key in archive.files}


def tokenizer() -> WordPiece:
    """Over the shipped vocabulary."""
    return WordPiece((ARTIFACTS / "vocab.txt").read_text("utf-8").splitlines())


def session(path: Path | bytes) -> onnxruntime.InferenceSession:
    """One thread, CPU."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    source = path if isinstance(path, bytes) else str(path)
    return onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])


def encode(
    texts: list[str], max_tokens: int = 256, *, family: Family = RUVLTRA, model: Path | None = None
) -> NDArray[np.float16]:
    """An encoder's vectors, float16 (n, 384), unit rows; kept in .cache by the digests of texts and encoder.

    Args:
        model: a graph in the place of the family's own.
    """
    words, source = tokenizer(), (model or ARTIFACTS / family.model).read_bytes()
    digest = sha256("\0".join([sha256(source).hexdigest(), str(max_tokens), *texts]).encode("utf-8", "surrogatepass"))
    kept = CACHE / f"{digest.hexdigest()[:24]}.npy"
    if kept.exists():
        cached: NDArray[np.float16] = np.load(kept, allow_pickle=False)
        return cached
    graph = session(source)
    out = np.zeros((len(texts), WIDTH), np.float16)

    def run(start: int) -> None:
        for i in range(start, min(start + 500, len(texts))):
            ids = np.array([words.encode(texts[i], max_tokens)], np.int64)
            out[i] = graph.run(None, {"input_ids": ids, "attention_mask": np.ones_like(ids)})[0][0]

    starts = range(0, len(texts), 500)
    with ThreadPoolExecutor(2) as pool:
        for _ in track(pool.map(run, starts), total=len(starts), description=f"encode {len(texts)} texts"):
            pass
    CACHE.mkdir(exist_ok=True)
    np.save(kept, out)
    return out


def static() -> StaticEncoder:
    """The shipped static encoder."""
    arrays = load("static.npz")
    return StaticEncoder(tokenizer(), arrays["table"], arrays["scale"])


def contextual(family: Family = RUVLTRA) -> OnnxEncoder:
    """The shipped encoder of a family, in its space."""
    graph = session(ARTIFACTS / family.model)

    def run(ids: NDArray[np.int64]) -> Floats:
        outputs: list[Floats] = graph.run(None, {"input_ids": ids, "attention_mask": np.ones_like(ids)})
        return outputs[0]

    return OnnxEncoder(family.name, tokenizer(), run, load(family.artifact("space.npz"))["projection"])
