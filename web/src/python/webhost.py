"""The page's (and Node's) place in the world: artifacts that JavaScript fetched, ONNX graphs that it runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pyodide.ffi import to_js

from ruvllm.errors import ArtifactError, EncoderError


class WebHost:
    """Implements `ruvllm.artifacts.host.Host` with what JavaScript has put here."""

    cache = None  # the page keeps a snapshot instead

    def __init__(self) -> None:
        self._artifacts: dict[str, bytes] = {}
        self.runs = 0  # of RuvLTRA
        self._runner: Callable[[Any], Any] | None = None

    def put(self, name: str, data: Any) -> None:
        """Keep an artifact (a Uint8Array that JavaScript has checked)."""
        self._artifacts[name] = data.to_bytes()

    def connect(self, runner: Callable[[Any], Any]) -> None:
        """RuvLTRA has arrived.

        Args:
            runner: BigInt64Array of token ids -> promise of a Float32Array of 384.
        """
        self._runner = runner

    def artifact(self, name: str) -> bytes:
        """A checked artifact. Raises ArtifactError when it never came."""
        try:
            return self._artifacts[name]
        except KeyError:
            raise ArtifactError(f"{name} has not been fetched", field=name, fix="serve all of web/dist") from None

    def has_sessions(self) -> bool:
        """Whether RuvLTRA has arrived."""
        return self._runner is not None

    def session(self, name: str) -> Callable[[NDArray[np.int64]], Any]:
        """A runner of the graph: int64 (1, tokens) -> awaitable float32 (1, 384)."""
        runner = self._runner
        if runner is None:
            raise EncoderError(f"{name} has not arrived yet", field="encoder", fix="use static until it has")

        async def run(ids: NDArray[np.int64]) -> NDArray[np.float32]:
            self.runs += 1
            result = await runner(to_js(np.ascontiguousarray(ids[0])))
            return np.frombuffer(result.to_bytes(), np.float32)[None]

        return run
