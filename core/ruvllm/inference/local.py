"""Converted models on a machine: a folder becomes a backend, run by onnxruntime."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ruvllm.errors import ArtifactError, BackendError
from ruvllm.inference.causal_lm import CausalLM, Outputs
from ruvllm.inference.local_model import read_model

__all__ = ["MANIFEST", "OnnxSession", "open_local", "read_manifest"]

MANIFEST = "ruvllm-model.json"
_FIX = "convert the model again: ruvllm models convert"
_LONGEST = 256 << 20  # bytes of a text file beside the weights


class OnnxSession:
    """A decoder in onnxruntime, its weights mapped from their files. It runs in a thread, so nobody waits for it.

    Args:
        threads: 0 for as many as there are cores.

    Raises:
        BackendError: onnxruntime is missing, or cannot load the graph.
    """

    def __init__(self, path: Path, threads: int = 0) -> None:
        try:
            import onnxruntime
        except ImportError:
            message = "a model on this machine needs onnxruntime"
            raise BackendError(message, kind="unavailable", fix="pip install 'ruvllm[local]'") from None
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        try:
            self._graph = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as bad:  # its errors have no base class of their own
            raise BackendError(f"{path} cannot be loaded: {str(bad)[:200]}", kind="unavailable", fix=_FIX) from None
        self._outputs = [output.name for output in self._graph.get_outputs()]

    async def run(self, inputs: Mapping[str, Any]) -> Outputs:
        """All outputs by name."""
        values = await asyncio.to_thread(self._graph.run, self._outputs, dict(inputs))
        return dict(zip(self._outputs, values, strict=True))


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
        raise ArtifactError(f"{path} cannot be read: {bad}", field=path.name, fix=_FIX) from None


def _check_sizes(folder: Path, manifest: Any) -> None:
    files = manifest.get("files") if isinstance(manifest, dict) else None
    if not isinstance(files, list) or not all(isinstance(told, dict) for told in files):
        raise ArtifactError(f"{folder / MANIFEST} lists no files", field="files", fix=_FIX)
    for told in files:
        name, size = str(told.get("name")), told.get("bytes")
        path = folder / name
        if Path(name).name != name or not path.is_file() or path.stat().st_size != size:
            raise ArtifactError(f"{path} is missing, or has not {size} bytes", field=name, fix=_FIX)
