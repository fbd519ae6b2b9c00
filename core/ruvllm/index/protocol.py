"""What every vector index takes, and what a search returns."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ruvllm.errors import InputError
from ruvllm.index.rows import floats
from ruvllm.reprs import one_line

METRICS = ("cosine", "dot")


class Hits(NamedTuple):
    """Ids and scores, best first.

    One query gives arrays of at most k; a batch gives (queries, k), short rows filled with
    id -1 and score -inf.
    """

    ids: NDArray[np.int64]
    scores: NDArray[np.float32]

    def __repr__(self) -> str:
        return one_line(self)


def checked_queries(queries: ArrayLike, dim: int, k: int, recall: float, *, unit: bool) -> NDArray[np.float32]:
    """Queries as contiguous float32, (dim,) or (queries, dim), scaled to length one where `unit` is set.

    Raises:
        InputError: what cannot be asked.
    """
    array = floats(queries, "queries")
    if array.ndim not in (1, 2) or array.shape[-1] != dim:
        fix = f"give float32 ({dim},) or (queries, {dim})"
        raise InputError(f"queries have shape {array.shape}", field="queries", fix=fix)
    if not isinstance(k, int | float | np.number) or k < 1 or k != int(k):
        raise InputError(f"k is {k!r}"[:100], field="k", fix="ask for a whole number of neighbours, at least one")
    checked_recall(recall)
    return _measured(array, unit)


def checked_recall(recall: float) -> float:
    """The recall, where there is such a share."""
    if not isinstance(recall, int | float | np.number) or not 0 < recall <= 1:
        raise InputError(f"recall is {recall!r}"[:100], field="recall", fix="use a number above 0, up to 1")
    return recall


def _measured(array: NDArray[np.float32], unit: bool) -> NDArray[np.float32]:
    if array.ndim == 1:
        square = float(array.dot(array))
        lowest = highest = square
        length: Any = math.sqrt(square) if square >= 0 else 1.0
    else:
        squares = np.einsum("ij,ij->i", array, array)
        lowest, highest = (float(squares.min()), float(squares.sum())) if len(array) else (1.0, 1.0)
        length = np.sqrt(squares)[:, None]
    if not math.isfinite(highest):
        raise InputError("a query is not finite", field="queries", fix="replace NaN and infinity before searching")
    if not unit:
        return array
    if lowest == 0:
        raise InputError("a query is zero", field="queries", fix="a zero vector has no direction: leave it out")
    return array / length if array.ndim > 1 else array * np.float32(1 / length)


def pad(found: list[Hits], k: int) -> Hits:
    """Answers of single queries as one (queries, k) answer."""
    ids = np.full((len(found), k), -1, np.int64)
    scores = np.full((len(found), k), -np.inf, np.float32)
    for row, hits in enumerate(found):
        ids[row, : len(hits.ids)], scores[row, : len(hits.ids)] = hits.ids, hits.scores
    return Hits(ids, scores)
