"""Converted models on a machine: a folder becomes a backend, run by onnxruntime."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ruvllm.errors import CONVERT, ArtifactError
from ruvllm.inference.causal_lm import CausalLM
from ruvllm.inference.local_model import read_model
from ruvllm.inference.onnx_session import OnnxSession

__all__ = ["MANIFEST", "open_local", "read_manifest"]

MANIFEST = "ruvllm-model.json"
_LONGEST = 256 << 20  # bytes of a text file beside the weights


def open_local(folder: Path, *, threads: int = 0, keep: int = 2) -> CausalLM:
    """A backend over a folder that `ruvllm models convert` wrote.

    Args:
        threads: 0 for as many as there are cores.
        keep: conversations whose cache is kept for their next turn.

    Raises:
        ArtifactError: a file is missing, or has not the size that the manifest names.
        InputError: the tokenizer or the chat template cannot be used.
        BackendError: onnxruntime is missing, or cannot load the graph.
    """
    manifest = read_manifest(folder)
    template = folder / "chat_template.jinja"
    text = template.read_text("utf-8") if template.exists() else ""
    model = read_model(folder.name, manifest, _json(folder / "tokenizer.json"), text)
    return CausalLM(model, OnnxSession(folder / "model.onnx", threads), keep=keep)


def read_manifest(folder: Path) -> Any:
    """What the converter wrote about a folder.

    Raises:
        ArtifactError: it is missing, or a file has not the size that it names.
    """
    manifest = _json(folder / MANIFEST)
    _check_sizes(folder, manifest)
    return manifest


def _json(path: Path) -> Any:
    try:
        if path.stat().st_size > _LONGEST:
            raise ValueError("it is too long")
        return json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as bad:
        raise ArtifactError(f"{path} cannot be read: {bad}", field=path.name, fix=CONVERT) from None


def _check_sizes(folder: Path, manifest: Any) -> None:
    files = manifest.get("files") if isinstance(manifest, dict) else None
    if not isinstance(files, list) or not all(isinstance(told, dict) for told in files):
        raise ArtifactError(f"{folder / MANIFEST} lists no files", field="files", fix=CONVERT)
    for told in files:
        name, size = str(told.get("name")), told.get("bytes")
        path = folder / name
        if Path(name).name != name or not path.is_file() or path.stat().st_size != size:
            raise ArtifactError(f"{path} is missing, or has not {size} bytes", field=name, fix=CONVERT)
