"""What the rest of ruvllm asks of an encoder, and how a synchronous caller asks it."""

from __future__ import annotations

import threading
import types
from collections.abc import Awaitable, Callable, Coroutine, Generator, Sequence
from functools import wraps
from typing import Any, ParamSpec, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from ruvllm.errors import EncoderError

Vectors = NDArray[np.float32]
Pause = Callable[[], Awaitable[None]]  # awaited between the slices of long work
T = TypeVar("T")
P = ParamSpec("P")


class Encoder(Protocol):
    """Texts to unit vectors in the shared space (every encoder of one set lands in the same one)."""

    name: str
    dim: int

    async def encode(self, texts: Sequence[str]) -> Vectors:
        """float32 (len(texts), dim), rows of unit L2 norm."""
        ...


def unit_rows(x: NDArray[Any]) -> Vectors:
    """Rows scaled to unit L2 norm; a zero row stays zero (wasm raises no floating-point warning)."""
    norms = np.sqrt(np.einsum("ij,ij->i", x, x))[:, None]
    return np.asarray(x / np.where(norms > 0, norms, 1), np.float32)


@types.coroutine
def pause() -> Generator[None, None, None]:
    """Give the event loop a turn, as asyncio.sleep(0) does."""
    yield


async def no_pause() -> None:
    """Go on at once: what a synchronous caller wants."""


_here = threading.local()  # whether this thread is inside `run_now`, where nothing can wait


async def in_thread(work: Callable[[], T]) -> T:
    """Something that takes long, in a thread of its own; at once inside `run_now`."""
    if getattr(_here, "hurried", False):
        return work()
    import asyncio  # who only routes with the small encoders need not wait for it

    return await asyncio.to_thread(work)


def run_now(coroutine: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine that never really waits, with no event loop (about 1 µs).

    Raises:
        EncoderError: it waits for its host (onnxruntime-web): await the async method instead.
    """
    before, _here.hurried = getattr(_here, "hurried", False), True
    try:
        coroutine.send(None)
    except StopIteration as done:
        result: T = done.value
        return result
    finally:
        _here.hurried = before
    coroutine.close()
    raise EncoderError(
        "this host's encoder is asynchronous", field="encoder", fix="await the async form of the method (`aroute`, …)"
    )


def synchronous(method: Callable[P, Coroutine[Any, Any, T]]) -> Callable[P, T]:
    """The same method for callers without an event loop: `search = synchronous(asearch)`. See `run_now`."""

    @wraps(method)
    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        return run_now(method(*args, **kwargs))

    call.__name__ = method.__name__.removeprefix("a")
    return call
