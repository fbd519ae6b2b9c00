"""Exact search: one matrix product."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ruvllm.index.base import RowsIndex, State
from ruvllm.index.exact import exact
from ruvllm.index.protocol import Hits
from ruvllm.index.rows import Mask, Rows


class FlatIndex(RowsIndex[State]):
    """Scores every vector. Best below a few thousand, and the measure of all other indexes."""

    kind = "flat"

    def __init__(self, dim: int, metric: str = "cosine", *, rows: Rows | None = None) -> None:
        super().__init__(dim, metric, 1.0, rows)
        self.sync()

    def sync(self) -> None:
        """Take up what was changed in the rows."""
        self._state = State(self.rows.view)

    def stats(self) -> dict[str, Any]:
        """Size and kind."""
        return {"kind": self.kind, "size": len(self), "recall": 1.0}

    def _exactly(self, state: State, found: int, k: int, recall: float) -> bool:
        return True

    def _find(self, state: State, queries: NDArray[np.float32], k: int, recall: float, mask: Mask | None) -> Hits:
        return exact(state.view, queries, k, mask)
