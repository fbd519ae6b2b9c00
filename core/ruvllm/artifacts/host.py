"""Where this process runs: how artifacts are found and ONNX graphs are run. One implementation per host.

The native one is here, since it needs nothing beyond the standard library until a session is
asked for; the browser's lives with the web worker.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Sequence
from functools import cached_property
from hashlib import file_digest
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol
from zipfile import ZIP_STORED, BadZipFile, ZipFile

import numpy as np
from numpy.typing import NDArray

from ruvllm.artifacts.machine import cores
from ruvllm.disk_cache import DiskCache
from ruvllm.encoders.onnx import Session
from ruvllm.errors import ArtifactError, EncoderError

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

_GET = "pip install ruvllm-models (or run `make models`, or point RUVLLM_MODELS at a folder of artifacts)"


class Host(Protocol):
    """What the runtime asks of the place it runs in."""

    cache: DiskCache | None  # of what takes long to make; None where nothing is kept

    def artifact(self, name: str) -> bytes:
        """A verified artifact. Raises ArtifactError when it is missing or not what the manifest names."""
        ...

    def session(self, name: str) -> Session:
        """A runner for an ONNX artifact. Raises EncoderError where the host has none."""
        ...

    def has_sessions(self) -> bool:
        """Whether `session` can work here."""
        ...


class NativeHost:
    """CPython on a machine: files, and onnxruntime where it is installed.

    Args:
        folder: of artifacts; by default RUVLLM_MODELS, else the installed ruvllm_models package.
        threads: of an ONNX session; one is fastest for short prompts.
        cache: keeps what takes long to make; nothing does when None.
    """

    def __init__(self, folder: str | Path | None = None, threads: int = 1, cache: DiskCache | None = None) -> None:
        self.cache = cache
        self._folder, self.threads = folder or os.environ.get("RUVLLM_MODELS"), threads

    @cached_property
    def folder(self) -> Path:
        """Where the artifacts lie."""
        if self._folder:
            return Path(self._folder)
        spec = find_spec("ruvllm_models")
        if spec is None or not spec.submodule_search_locations:
            raise ArtifactError("the model artifacts are not installed", field="ruvllm_models", fix=_GET)
        return Path(next(iter(spec.submodule_search_locations))) / "data"

    @cached_property
    def manifest(self) -> dict[str, dict[str, Any]]:
        """What each artifact must be: name -> {sha256, bytes, …}."""
        try:
            entries = json.loads((self.folder / "manifest.json").read_text("utf-8"))["artifacts"]
            return {str(name): dict(entry) for name, entry in entries.items()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            path = self.folder / "manifest.json"
            raise ArtifactError(f"{path} is missing or unreadable", field=str(path), fix=_GET) from None

    def artifact(self, name: str) -> bytes:
        """The file's bytes, checked against the manifest's size and SHA-256."""
        return self.path(name).read_bytes()

    def path(self, name: str) -> Path:
        """The same as a file, to be opened without a copy of it in this process. Raises as `artifact`."""
        path = self.folder / name
        entry = self.manifest.get(name)
        if entry is None:
            raise ArtifactError(f"the manifest knows no artifact {name}", field=name, fix=_GET)
        try:
            with path.open("rb") as file:
                digest, size = file_digest(file, "sha256").hexdigest(), file.tell()
        except OSError:
            raise ArtifactError(f"{path} is missing", field=name, fix=_GET) from None
        if size != entry.get("bytes"):
            raise ArtifactError(f"{path} has {size} bytes, not {entry.get('bytes')}: truncated", field=name, fix=_GET)
        if digest != entry.get("sha256"):
            raise ArtifactError(
                f"{path} is not the file that the manifest names: its SHA-256 differs", field=name, fix=_GET
            )
        return path

    def has_sessions(self) -> bool:
        """Whether onnxruntime is installed."""
        return find_spec("onnxruntime") is not None

    def session(self, name: str) -> Session:
        """An onnxruntime session, (1, tokens) int64 -> (1, width) float32; of several texts each core takes its own."""
        if not self.has_sessions():
            raise EncoderError("onnxruntime is not installed", field="encoder", fix="pip install 'ruvllm[onnx]'")
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = self.threads
        options.log_severity_level = 3
        graph = onnxruntime.InferenceSession(str(self.path(name)), options, providers=["CPUExecutionProvider"])
        return _OrtSession(graph)


class _OrtSession:
    """Runs a graph, which many threads may do at a time: a text's vector never depends on who is read beside it."""

    def __init__(self, graph: Any) -> None:
        self._graph = graph

    def __call__(self, ids: NDArray[np.int64]) -> NDArray[np.float32]:
        outputs: list[NDArray[np.float32]] = self._graph.run(
            None, {"input_ids": ids, "attention_mask": np.ones_like(ids)}
        )
        return outputs[0]

    def many(self, rows: Sequence[NDArray[np.int64]]) -> list[NDArray[np.float32]]:
        """The same of several, in their order."""
        return list(self._pool.map(self, rows) if len(rows) > 1 < cores() else map(self, rows))

    @cached_property
    def _pool(self) -> ThreadPoolExecutor:
        from concurrent.futures import ThreadPoolExecutor  # one text at a time needs none

        return ThreadPoolExecutor(cores(), "ruvllm-onnx")


def load_npz(data: bytes, name: str) -> dict[str, NDArray[Any]]:
    """The arrays of an npz artifact; pickles are refused."""
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as archive:
            return {key: archive[key] for key in archive.files}
    except (ValueError, OSError, EOFError, KeyError, BadZipFile) as error:
        raise ArtifactError(f"{name} cannot be read: {error}", field=name, fix=_GET) from None


def map_npz(path: Path) -> dict[str, NDArray[Any]]:
    """The arrays of an npz file, read-only: those that lie in it uncompressed are read as they are used.

    Processes that use the same file share them, and the system drops them where memory is short.

    Raises:
        ArtifactError: as `load_npz`.
    """
    if os.name == "nt":  # where a file in use could not be replaced
        return load_npz(path.read_bytes(), path.name)
    found = dict[str, NDArray[Any]]()
    try:
        with path.open("rb") as raw, ZipFile(raw) as archive:
            for info in archive.infolist():
                with archive.open(info) as file:
                    np.lib.format.read_magic(file)
                    shape, columns, dtype = np.lib.format.read_array_header_1_0(file)
                    header = file.tell()
                raw.seek(info.header_offset + 26)  # of the local header's 30 bytes: how long name and extras are
                name, extra = (int.from_bytes(raw.read(2), "little") for _ in range(2))
                start = info.header_offset + 30 + name + extra + header
                if info.compress_type == ZIP_STORED and not dtype.hasobject and start % dtype.itemsize == 0:
                    mapped = np.memmap(path, dtype, "r", start, shape, "F" if columns else "C").view(np.ndarray)
                else:
                    with archive.open(info) as file:
                        mapped = np.lib.format.read_array(file, allow_pickle=False)
                found[info.filename.removesuffix(".npy")] = mapped
    except (ValueError, OSError, EOFError, BadZipFile) as error:
        raise ArtifactError(f"{path.name} cannot be read: {error}", field=path.name, fix=_GET) from None
    return found
