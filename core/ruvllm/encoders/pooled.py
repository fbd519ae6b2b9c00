"""Vectors of texts from what a transformer says of each token: an embedding model's, or a language model's."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ruvllm.encoders.protocol import Vectors, in_thread, unit_rows
from ruvllm.errors import EncoderError

Pooling = Literal["mean", "max", "last", "cls"]
POOLINGS: tuple[Pooling, ...] = ("mean", "max", "last", "cls")


class PooledEncoder:
    """A transformer with any tokenizer, any width, on this machine.

    Args:
        name: tells its vectors from those of other models.
        tokens: the ids of a text, no more than so many.
        most: tokens of a text that the model reads.
        hidden: int64 (1, tokens) ids -> float32 (1, tokens, dim), or (1, dim) of a model that pools by itself.
        precomputed: vectors of some texts, worked out before.

    Attributes:
        centre: float32 (dim,), what is taken from every vector before it is normed: all vectors of a language model
            point much the same way, and cosines would say little.
        told: is called for each text that is encoded.
    """

    def __init__(
        self,
        name: str,
        dim: int,
        pooling: Pooling,
        tokens: Callable[[str, int], Sequence[int]],
        most: int,
        hidden: Callable[[NDArray[np.int64]], NDArray[np.float32]],
    ) -> None:
        self.name, self.dim, self.pooling = name, dim, pooling
        self._tokens, self._most, self._hidden = tokens, most, hidden
        self.centre: NDArray[np.float32] | None = None
        self.precomputed: Mapping[str, NDArray[np.float32]] = {}
        self.on_encoded: Callable[[], None] = lambda: None

    async def encode(self, texts: Sequence[str]) -> Vectors:
        """float32 (len(texts), dim), unit rows; a text without a token gives a zero row.

        Raises:
            EncoderError: the model gave what cannot be pooled.
        """
        out = np.zeros((len(texts), self.dim), np.float32)
        for row, text in zip(out, texts, strict=True):
            stored = self.precomputed.get(text)
            row[:] = await in_thread(lambda text=text: self.one(text)) if stored is None else stored  # type: ignore[misc]
        return out

    def one(self, text: str) -> NDArray[np.float32]:
        """(dim,), of unit norm."""
        raw = self.raw(text)
        self.on_encoded()
        if self.centre is not None and raw.any():
            raw = raw - self.centre
        unit: NDArray[np.float32] = unit_rows(raw[None])[0]
        return unit

    def truncated(self, text: str) -> bool:
        """Whether a text is longer than the model reads."""
        return len(self._tokens(text, self._most + 1)) > self._most

    def raw(self, text: str) -> NDArray[np.float32]:
        """(dim,), of unit norm and not centred."""
        ids = np.array([self._tokens(text, self._most)], np.int64)
        if not ids.size:
            return np.zeros(self.dim, np.float32)
        vector = pooled(np.asarray(self._hidden(ids), np.float32), self.pooling)
        if vector.shape != (self.dim,) or not np.isfinite(vector).all():
            message = f"{self.name} gave shape {vector.shape}, or what is no number, where ({self.dim},) was due"
            raise EncoderError(message, field="encoder", fix="convert or export the model again")
        unit: NDArray[np.float32] = unit_rows(vector[None])[0]
        return unit


def pooled(states: NDArray[np.float32], pooling: Pooling) -> NDArray[np.float32]:
    """(dim,) from (1, tokens, dim), or from (1, dim) as it is."""
    if states.ndim == 2:
        return np.asarray(states[0])
    if pooling in ("mean", "max"):
        return np.asarray(states[0].mean(0) if pooling == "mean" else states[0].max(0))
    return np.asarray(states[0, -1 if pooling == "last" else 0])
