"""Converted models on a machine: a folder becomes a backend, run by onnxruntime."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ruvllm.artifacts.machine import cores
from ruvllm.errors import CONVERT, ArtifactError, BackendError
from ruvllm.inference.causal_lm import CausalLM
from ruvllm.inference.local_model import read_model

_CACHE, _NEXT = "past_key_values.", "present."
_ROOM = 256  # tokens that a new buffer has room for beside those that are read


class _Buffer:
    """Room for keys or values of one layer.

    Attributes:
        array: float32 (1, kv_heads, room, head_dim).
        claimed: tokens that were written into it, or are being written.
    """

    def __init__(self, begun: NDArray[np.float32], total: int, make: Any) -> None:
        _, heads, tokens, width = begun.shape
        # Half as much again, so that a long answer copies its past only a few times.
        self.array = np.empty((1, heads, -(-max(total, tokens * 3 // 2) // _ROOM) * _ROOM + _ROOM, width), np.float32)
        self.array[:, :, :tokens] = begun
        self.value = make(self.array)
        self.claimed = total


class Grown:
    """The keys or values of some tokens, at the beginning of a buffer that may hold more.

    Whoever goes on after the last token that was written goes on in the same memory; everybody else, after a cut or
    after a step that was cancelled and may still be running, gets a copy.
    """

    def __init__(self, buffer: _Buffer, tokens: int) -> None:
        self._buffer, self._tokens = buffer, tokens

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[np.float32]:
        """float32 (1, kv_heads, tokens, head_dim)."""
        return np.array(self[:, :, :], dtype, copy=copy)

    def __getitem__(self, key: Any) -> NDArray[np.float32]:
        """Some of them; a later step changes none."""
        found: NDArray[np.float32] = self._buffer.array[:, :, : self._tokens][key]
        return found

    def buffer(self, total: int) -> _Buffer | None:
        """Theirs, if it has room up to `total` that nobody has written to; that is claimed now."""
        held = self._buffer
        if held.claimed != self._tokens or total > held.array.shape[2]:
            return None
        held.claimed = total
        return held


def onnx_graph(path: Path, threads: int = 0) -> Any:
    """A graph on the CPU, by all threads a process may use where 0. Raises BackendError: it cannot be loaded."""
    try:
        import onnxruntime
    except ImportError:
        message = "a model on this machine needs onnxruntime"
        raise BackendError(message, kind="unavailable", fix="pip install 'ruvllm[local]'") from None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or cores()
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as bad:  # its errors have no base class of their own
        raise BackendError(f"{path} cannot be loaded: {str(bad)[:200]}", kind="unavailable", fix=CONVERT) from None


class OnnxSession:
    """A decoder in onnxruntime. It runs in a thread, so nobody waits for it.

    The attention writes new keys and values behind the old ones when it gets one buffer as its past and its present.

    Raises:
        BackendError: onnxruntime is missing, or cannot load the graph.
    """

    def __init__(self, path: Path, threads: int = 0) -> None:
        self._graph = onnx_graph(path, threads)
        import onnxruntime

        self._value = onnxruntime.OrtValue.ortvalue_from_numpy
        self._outputs = [output.name for output in self._graph.get_outputs()]

    async def run(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """All outputs by name; keys and values as `Grown`."""
        total = inputs["attention_mask"].shape[1]
        buffers = {name: self._room(inputs[name], total) for name in inputs if name.startswith(_CACHE)}
        plain = {name: value for name, value in inputs.items() if name not in buffers}
        outputs: dict[str, Any] = await asyncio.to_thread(self._step, plain, buffers)
        return outputs | {_present(name): Grown(buffer, total) for name, buffer in buffers.items()}

    def _room(self, past: Any, total: int) -> _Buffer:
        held = past.buffer(total) if isinstance(past, Grown) else None
        return held or _Buffer(past[:, :, :], total, self._value)

    def _step(self, plain: Mapping[str, Any], buffers: Mapping[str, _Buffer]) -> dict[str, Any]:
        binding = self._graph.io_binding()
        for name, value in plain.items():
            binding.bind_cpu_input(name, value)
        for name, buffer in buffers.items():
            binding.bind_ortvalue_input(name, buffer.value)
            binding.bind_ortvalue_output(_present(name), buffer.value)
        others = [name for name in self._outputs if not name.startswith(_NEXT)]
        for name in others:
            binding.bind_output(name)
        self._graph.run_with_iobinding(binding)
        # They come in the order in which they were bound.
        made = binding.get_outputs()[len(buffers) :]
        return {name: value.numpy() for name, value in zip(others, made, strict=True)}


def _present(name: str) -> str:
    return name.replace(_CACHE, _NEXT)


MANIFEST = "ruvllm-model.json"
_LONGEST = 256 << 20  # bytes of a text file beside the weights


def open_local(folder: Path, *, threads: int = 0, keep: int = 2) -> CausalLM:
    """A backend over a folder that `ruvllm models convert` wrote.

    Args:
        threads: 0 for as many as this process may use.
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
    if not isinstance(files, list) or not all(isinstance(entry, dict) for entry in files):
        raise ArtifactError(f"{folder / MANIFEST} lists no files", field="files", fix=CONVERT)
    for entry in files:
        name, size = str(entry.get("name")), entry.get("bytes")
        path = folder / name
        if Path(name).name != name or not path.is_file() or path.stat().st_size != size:
            raise ArtifactError(f"{path} is missing, or has not {size} bytes", field=name, fix=CONVERT)
