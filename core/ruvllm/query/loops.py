"""How a synchronous caller waits for what has to be awaited."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

from ruvllm.errors import InputError

__all__ = ["OwnLoop"]

T = TypeVar("T")


class OwnLoop:
    """An event loop of its own for synchronous callers: connections live longer than one call."""

    def __init__(self) -> None:
        self._runner, self._lock = asyncio.Runner(), threading.Lock()

    def run(self, coroutine: Coroutine[Any, Any, T], awaited: str) -> T:
        """Raises InputError: there is a running loop, which would stand still meanwhile."""
        if _is_running():
            coroutine.close()
            message = "an event loop is running here, and the backend has to be awaited"
            raise InputError(message, field="query", fix=f"await {awaited}() instead")
        with self._lock:
            return self._runner.run(coroutine)

    def close(self, last: Coroutine[Any, Any, None]) -> None:
        """Run one more thing, if that is possible here, and end."""
        if _is_running():
            last.close()
            return
        with self._lock:
            self._runner.run(last)
            self._runner.close()


def _is_running() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
