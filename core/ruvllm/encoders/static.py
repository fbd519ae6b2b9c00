"""The static encoder: one vector per wordpiece, summed and normalised. numpy only, microseconds.

The table is distilled from RuvLTRA (models/recipes/static_table.py), after the idea of
Model2Vec (Tulkens & van Dongen 2024): its sentences land where RuvLTRA's do.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ruvllm.encoders.protocol import Vectors
from ruvllm.text.wordpiece import WordPiece

_BLOCK = 64  # texts whose tokens are in memory at a time
_LONG = 2_000  # characters: of longer texts only one is at hand
MAX_TOKENS = 256


class StaticEncoder:
    """Token table encoder.

    Args:
        table: int8 (vocabulary, dim).
        scale: float32 (vocabulary,), what a step of each row is worth.
    """

    name = "static"

    def __init__(self, tokenizer: WordPiece, table: NDArray[np.int8], scale: NDArray[np.float32]) -> None:
        self.tokenizer, self.table, self.scale = tokenizer, table, scale
        self.dim = int(table.shape[1])
        self._last: dict[str, NDArray[np.float32]] = {}

    async def encode(self, texts: Sequence[str]) -> Vectors:
        """float32 (len(texts), dim), unit rows; a text without a token gives a zero row."""
        return self.encode_now(texts)

    def encode_now(self, texts: Sequence[str]) -> Vectors:
        """The same, synchronously."""
        return self.encode_tokens([self.tokenizer.ids(text, MAX_TOKENS) for text in texts])

    def encode_tokens(self, every: Sequence[list[int]]) -> Vectors:
        """The same of texts by their tokens."""
        out = np.zeros((len(every), self.dim), np.float32)
        for first in range(0, len(every), _BLOCK):
            some = every[first : first + _BLOCK]
            ids = np.array([token for tokens in some for token in tokens[:MAX_TOKENS]], np.intp)
            scales, rows, stop = self.scale.take(ids), self.table.take(ids, 0).astype(np.float32), 0
            # One by one: a product of several rounds otherwise.
            for row, tokens in zip(out[first:], some, strict=False):
                start, stop = stop, stop + min(len(tokens), MAX_TOKENS)
                scales[start:stop].dot(rows[start:stop], row)
                row /= max(math.sqrt(row.dot(row)), 1e-12)
        return out

    def encode_one(self, text: str, tokens: list[int] | None = None) -> NDArray[np.float32]:
        """(dim,) of one text, not to be written to: what a router's every decision starts with.

        Args:
            tokens: of the text, where they are known.
        """
        if (last := self._last.get(text)) is not None:  # memory has often just asked for the same
            return last
        ids = np.array(self.tokenizer.ids(text, MAX_TOKENS) if tokens is None else tokens[:MAX_TOKENS], np.intp)
        vector: NDArray[np.float32] = self.scale.take(ids).dot(self.table.take(ids, 0).astype(np.float32))
        vector /= max(math.sqrt(vector.dot(vector)), 1e-12)
        vector.flags.writeable = False
        if len(self._last) > _BLOCK or len(text) > _LONG:
            self._last = {}
        self._last[text] = vector
        return vector

    def encode_block(self, texts: Sequence[str], every: Sequence[list[int]]) -> Vectors:
        """The same of some texts and their tokens; `encode_one` has them at hand for a while."""
        vectors = self.encode_tokens(every)
        vectors.flags.writeable = False
        self._last = {text: one for text, one in zip(texts, vectors, strict=True) if len(text) <= _LONG}
        return vectors
