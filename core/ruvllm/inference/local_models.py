"""Converted models as backends: loaded when they are first asked, shared, one answer of each at a time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path

from ruvllm.errors import RuvllmError
from ruvllm.inference.backend import Backend, Chunk, Completion, Message, Params, gather
from ruvllm.inference.library import Converted, read_converted
from ruvllm.inference.local import open_local
from ruvllm.inference.manager import ModelManager
from ruvllm.inference.turns import Turns

__all__ = ["LocalBackend", "LocalModels"]

_CORES_ARE_SHARED = 2  # models loaded at once, where nobody says otherwise


class LocalModels:
    """The models of one runtime.

    Args:
        memory: bytes that loaded models may take together, as large as their files; None for no limit.
        queue: requests that may wait for a model; more are turned away.
        most: models loaded at once.
        threads: of a model; 0 for as many as there are cores.
    """

    def __init__(
        self, *, memory: int | None = None, queue: int = 16, most: int = _CORES_ARE_SHARED, threads: int = 0
    ) -> None:
        self._queue, self._threads = queue, threads
        self._known: dict[str, Converted] = {}
        self._contexts: dict[str, int] = {}
        self._turns: dict[str, Turns] = {}
        self.manager = ModelManager(self._load, most, memory=memory, size=lambda key: self._known[key].bytes)

    def backend(self, name: str, folder: Path, context: int | None = None) -> LocalBackend:
        """A backend over a converted folder; two of the same folder share what is loaded.

        Args:
            context: tokens of prompt and answer, at most; None for the model's own.

        Raises:
            ArtifactError: the folder is not whole.
        """
        model = read_converted(folder.resolve())
        key, most = str(model.path), min(context or model.context, model.context)
        self._known[key] = model
        self._contexts[key] = max(most, self._contexts.get(key, 0))
        turns = self._turns.setdefault(key, Turns(self._queue))
        return LocalBackend(name, model, most, self.manager, turns)

    async def _load(self, key: str) -> Backend:
        model = await asyncio.to_thread(open_local, Path(key), threads=self._threads)
        model.context = min(model.context, self._contexts[key])
        return model


class LocalBackend:
    """One tier's view of a model on this machine. Nothing is loaded before the first request."""

    def __init__(self, name: str, model: Converted, context: int, manager: ModelManager, turns: Turns) -> None:
        self.name, self.model, self.context = name, model.name, context
        self._folder, self._manager, self._turns = model.path, manager, turns

    async def generate(self, messages: Sequence[Message], params: Params) -> Completion:
        """The whole answer.

        Raises:
            BackendError: too many wait, the prompt does not fit, time ran out, or the model cannot be loaded.
        """
        async with aclosing(self.stream(messages, params)) as chunks:
            return await gather(chunks, self.model)

    async def stream(self, messages: Sequence[Message], params: Params) -> AsyncGenerator[Chunk, None]:
        """The answer as it is written; a caller that stops reading stops the model.

        Raises:
            BackendError: as `generate`.
        """
        until = None if params.timeout is None else time.monotonic() + params.timeout
        async with self._turns.turn(params.timeout), self._manager.use(str(self._folder)) as model:
            # Below 0 the model itself says that there is no time left.
            left = None if until is None else max(until - time.monotonic(), 1e-9)
            chunks = model.stream(messages, replace(params, timeout=left))
            async with aclosing(chunks):  # type: ignore[type-var]
                async for chunk in chunks:
                    yield chunk

    async def healthy(self) -> bool:
        """Whether the model's files are there and whole."""
        try:
            read_converted(self._folder)
        except RuvllmError:
            return False
        return True

    async def close(self) -> None:
        """Let the memory go; the next request loads the model again."""
        await self._manager.unload(str(self._folder))
