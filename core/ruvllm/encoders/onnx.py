"""A sentence encoder behind a host's ONNX session: ids in, sentence vectors out, projected into the shared space."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ruvllm.encoders.protocol import Vectors, unit_rows
from ruvllm.errors import EncoderError
from ruvllm.text.wordpiece import WordPiece

# What a host brings: int64 (1, tokens) ids -> float32 (1, width), at once or awaited.
Session = Callable[[NDArray[np.int64]], NDArray[np.float32] | Awaitable[Any]]

_MAX_TOKENS = 256  # all-MiniLM-L6-v2 was trained up to here, and RuvLTRA on less


class OnnxEncoder:
    """A transformer sentence encoder.

    Texts run one at a time: dynamic int8 quantises activations per tensor, so a neighbour in
    a batch would change a text's vector (cosine down to 0.984 in our study).

    Args:
        name: "ruvltra" or "minilm".
        session: the host's runner of the graph.
        projection: float32 (width, dim), orthonormal columns into the shared space.
    """

    def __init__(self, name: str, tokenizer: WordPiece, session: Session, projection: NDArray[np.float32]) -> None:
        self.name, self.tokenizer, self._session, self.projection = name, tokenizer, session, projection
        self.dim = int(projection.shape[1])

    async def encode(self, texts: Sequence[str]) -> Vectors:
        """float32 (len(texts), dim), unit rows.

        Raises:
            EncoderError: the session gave another shape than the projection takes.
        """
        width, out = len(self.projection), np.zeros((len(texts), self.dim), np.float32)
        rows = [np.array([self.tokenizer.encode(text, _MAX_TOKENS)], np.int64) for text in texts]
        many = getattr(self._session, "many", None)  # a host with threads can run several at a time
        for row, result in zip(out, map(self._session, rows) if many is None else many(rows), strict=True):
            vector = np.asarray(await result if inspect.isawaitable(result) else result)
            if vector.size != width:
                raise EncoderError(
                    f"the ONNX session gave shape {vector.shape}, not (1, {width})",
                    field=f"{self.name}-int8.onnx",
                    fix="use the model file that belongs to this version of ruvllm-models",
                )
            row[:] = vector.reshape(-1).dot(self.projection)  # one by one: a product of several rounds otherwise
        return unit_rows(out)
